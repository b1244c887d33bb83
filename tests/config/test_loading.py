"""Reading a configuration: whatever is wrong is one line that names key, value and rule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from daemon.budget import Budget
from daemon.commands.wiring import connection_problem, kafka_settings, own_topics
from daemon.config import Settings, StreamSection, load, unknown_environment
from daemon.errors import ConfigError
from daemon.runtime.stream_run import StreamPlan
from tests.config.setups import document


def test_a_key_that_appears_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("streams: [{name: s, topics: [t], sensors: {a: {}, b: {}, a: {}}}]\n")
    with pytest.raises(ConfigError, match="key 'a' appears twice"):
        load(path)
    path.write_text("streams: [{name: s, topics: [t], sensors: {a: &r {range: [0, 1]}, b: {<<: *r}}}]\n")
    assert load(path).streams[0].spec().ranges == ((0, 1), (0, 1))


@pytest.mark.parametrize("key", ["password_file", "token_file", "ca_file", "cert_file", "key_file"])
def test_a_missing_file_of_the_connection_is_named(tmp_path: Path, key: str) -> None:
    settings = load(None, (), document(kafka={key: str(tmp_path / "absent")}))
    with pytest.raises(ConfigError, match=rf"kafka\.{key} .*absent cannot be read: No such file"):
        kafka_settings(settings)
    assert connection_problem(settings) is not None


def test_a_complete_connection_has_no_problem(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret\n")
    kafka = {
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "SCRAM-SHA-256",
        "username": "u",
        "password_file": str(tmp_path / "password"),
    }
    settings = load(None, (), document(kafka=kafka))
    assert kafka_settings(settings).password == "secret"
    assert connection_problem(settings) is None
    without = load(None, (), document(kafka={**kafka, "username": None}))
    assert "needs kafka.username" in (connection_problem(without) or "")


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("ANOMALYD_KAFKA_BOOTSTRAP_SERVERS", "ANOMALYD_KAFKA__BOOTSTRAP_SERVERS"),
        ("ANOMALYD_MODEL_LEARN_ROWS", "ANOMALYD_MODEL__LEARN_ROWS"),
        ("ANOMALYD_KAFAK", "ANOMALYD_KAFKA"),
    ],
)
def test_a_variable_that_names_no_key_is_reported_with_the_nearest(
    monkeypatch: pytest.MonkeyPatch, name: str, nearest: str
) -> None:
    monkeypatch.setenv(name, "x")
    (problem,) = [p for p in unknown_environment() if name in p]
    assert problem.endswith(f"did you mean {nearest}?")


@pytest.mark.parametrize(
    ("machine", "instance"), [("pump-room", "pump-room"), ("a b/ü", "a-b--"), ("x" * 300, "x" * 249)]
)
def test_an_instance_may_be_named_after_its_machine(
    machine: str, instance: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: machine)

    def of(written: str | None) -> str | None:
        return kafka_settings(load(None, (), document(kafka={"instance_id": written}))).instance_id

    assert of("$hostname") == instance
    assert of("pump-0") == "pump-0"
    assert of(None) is None


def test_the_documented_example_loads() -> None:
    example = Path(__file__).resolve().parents[2] / "config.yaml"
    assert load(example).streams[0].name == "pumps"
    assert yaml.safe_load(example.read_text())["model"]["latent"] == 8


def test_the_documented_example_names_every_key_with_its_default() -> None:
    text = (Path(__file__).resolve().parents[2] / "config.yaml").read_text()
    written, defaults = yaml.safe_load(text), load(None, (), document())
    assert set(written) == set(Settings.model_fields)
    assert set(written["streams"][0]) == set(StreamSection.model_fields)
    for name in set(written) - {"streams"}:
        assert set(written[name]) == set(type(getattr(defaults, name)).model_fields), name
    assert load(None, (), {**written, **document()}).model_dump() == defaults.model_dump()


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (None, Budget(1 / 7)),
        ("2 per day", Budget(2.0)),
        ("3/week per asset", Budget(3 / 7)),
        ("10 per day per stream", Budget(10.0, per_stream=True)),
    ],
)
def test_a_budget_is_of_each_asset_unless_it_is_of_the_stream(written: str | None, expected: Budget) -> None:
    sets = (
        []
        if written is None
        else [f"{key}={written}" for key in ("calibration.budget", "alerts.deviation_budget")]
    )
    settings = load(None, sets, document())
    assert (settings.calibration.budget, settings.alerts.deviation_budget) == (expected, expected)


def test_a_value_in_the_environment_needs_no_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANOMALYD_CALIBRATION__BUDGET", "10 per day")
    monkeypatch.setenv("ANOMALYD_MODEL__HIDDEN", "[64, 32]")
    settings = load(None, (), document())
    assert settings.calibration.budget.episodes_per_day == 10
    assert settings.model.hidden == (64, 32)
    monkeypatch.setenv("ANOMALYD_MODEL__HIDDEN", "64,32")
    with pytest.raises(ConfigError, match=r"model\.hidden: .*'64,32'"):
        load(None, (), document())


EXAMPLE = (Path(__file__).resolve().parents[2] / "config.yaml").read_text()
KEYS = [
    f"{section}.{key}"
    for section, field in Settings.model_fields.items()
    if section != "streams"
    for key in field.annotation.model_fields  # type: ignore[union-attr]
]
KEYS += [f"streams.pumps.{key}" for key in StreamSection.model_fields] + ["streams", "kafka", "streams.0"]
ODD = [
    "9" * 5000,
    "-1",
    "1e999",
    "1.0e+999",
    ".nan",
    "-.inf",
    "0x" + "f" * 300,
    "1" + "0" * 300,
    "1:59:59:59",
    "null",
    "~",
    "[]",
    "{}",
    "[" * 100 + "]" * 100,
    "[" * 10_000,
    '{"a":' * 10_000,
    "[[1, 2], {a: b}]",
    "{a: {a: {a: 1}}}",
    "{1: a}",
    "&a [*a]",
    "!!int x",
    "!!python/object/apply:os.system [ls]",
    "!!binary aGk=",
    "!!set {a}",
    "2026-13-45",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00",
    "[{start: 0001-01-01T00:00:00+14:00, end: 9999-12-31T23:59:59-14:00}]",
    "[{start: 1, end: 1e300}]",
    "[{start: 2026-01-01, end: .inf}]",
    '"\\0"',
    '"\\ud800"',
    '"a\\nb"',
    "99999999999d",
    "3653d",
    "0.0000001us",
    "1us",
    "9" * 400 + " per day",
    "0.0000000000001 per month",
    "64 of 64",
    "9" * 5000 + " of 3",
    "{a: {range: [0, 1" + "0" * 308 + "]}}",
    "{a: {range: [-1.7e+308, 1.7e+308]}}",
    "true",
    "'",
    "$key",
]
VALUES = st.sampled_from(ODD) | st.text(max_size=20)


def try_out(settings: Settings) -> None:
    """What the commands make of settings before they do anything: no number may be too large for it."""
    for stream in settings.streams:
        plan = StreamPlan.of(settings, stream)
        for number in (plan.spec.period_ns, plan.spec.max_gap_ns, plan.spec.silent_after_ns):
            assert 0 < number < 2**63
        assert plan.spec.window * plan.spec.period_ns < 2**63
    for topic in own_topics(settings):
        assert int(topic.config.get("max.message.bytes", 1)) < 2**31
    connection_problem(settings)


def one_clear_line(path: Path | None, sets: list[str], found: dict[str, Any] | None = None) -> None:
    """Settings that can be used, or one line."""
    try:
        settings = load(path, sets, found)
    except ConfigError as error:
        line = str(error)
    else:
        try_out(settings)
        line = ""
    assert line.isprintable() or not line
    assert len(line) < 1000


@given(st.data())
def test_a_damaged_example_is_one_clear_line_or_settings(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    lines = EXAMPLE.splitlines()
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(lines) - 1))
        kind = data.draw(st.sampled_from(["value", "drop", "twice", "indent", "insert", "cut"]))
        line = lines[at]
        if kind == "value":
            lines[at] = line.partition(":")[0] + ": " + data.draw(VALUES)
        elif kind == "drop":
            lines[at] = ""
        elif kind == "twice":
            lines.insert(at, line)
        elif kind == "indent":
            lines[at] = " " * data.draw(st.integers(0, 6)) + line.strip()
        elif kind == "insert":
            lines.insert(at, data.draw(VALUES))
        else:
            lines[at] = line[: data.draw(st.integers(0, len(line)))]
    path = tmp_path_factory.getbasetemp() / "damaged.yaml"
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
    one_clear_line(path, [])


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_one_clear_line(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(data)
    one_clear_line(path, [])


@given(st.lists(st.tuples(st.sampled_from(KEYS) | st.text(max_size=8), VALUES), min_size=1, max_size=3))
@example([("_env_file", "/etc/passwd")])
@example([("_cli_parse_args", "true")])
@example([("kafka" + ".a" * 5000, "1")])
@example([("streams", "[a]"), ("streams.0.window", "3")])
@example([("streams", "{a: b}"), ("streams.0", "3")])
@example([("streams.pumps.name.x", "3")])
def test_any_set_is_one_clear_line_or_settings(sets: list[tuple[str, str]]) -> None:
    found = document({"name": "pumps"})
    one_clear_line(None, [f"{key}={value}" for key, value in sets], found)
    assert found == document({"name": "pumps"}), "what a caller gave is not changed"


NAMES = [key.upper().replace(".", "__") for key in KEYS if not key.startswith("streams.")]


@given(
    st.dictionaries(
        st.sampled_from(NAMES) | st.from_regex(r"KAFKA(__[A-Z0-9_]{1,5}){1,3}", fullmatch=True),
        (VALUES | st.text(max_size=5).map(lambda text: text + "\udcff")).filter(lambda v: "\0" not in v),
        min_size=1,
        max_size=3,
    )
)
@example({"STREAMS": "[" * 10_000 + "]" * 10_000})
@example({"STREAMS": '[{"name": "\\ud800", "topics": ["t"], "sensors": ["a"]}]'})
@example({"STREAMS__0__NAME": "x"})
@example({"KAFKA" + "__A" * 5000: "x"})
@example({"MODEL": '{"seed": ' + "9" * 400 + "}"})
def test_any_environment_is_one_clear_line_or_settings(variables: dict[str, str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(f"ANOMALYD_{name}", value)
        one_clear_line(None, [], document())
        assert all(problem.isprintable() for problem in unknown_environment())


def test_a_variable_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANOMALYD_STREAMS", "[" * 10_000)
    with pytest.raises(
        ConfigError, match="environment variable ANOMALYD_STREAMS: more than 64 objects and arrays"
    ):
        load(None, (), document())


def can_be_null(key: str) -> bool:
    """Whether a file may say null for this key."""
    try:
        load(None, [f"{key}=null"], document())
    except ConfigError:
        return False
    return True


NULLABLE = [key for key in KEYS if "." in key and not key.startswith("streams") and can_be_null(key)]


@pytest.mark.parametrize("text", ["null", ""])
@pytest.mark.parametrize("key", NULLABLE)
def test_every_key_that_can_be_null_is_null_from_the_environment(
    key: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"ANOMALYD_{key.upper().replace('.', '__')}", text)
    section, name = key.split(".")
    expected = getattr(getattr(load(None, [f"{key}=null"], document()), section), name)
    assert getattr(getattr(load(None, (), document()), section), name) == expected


def test_no_training_from_the_environment() -> None:
    assert {"retrain.every", "alerts.deviation_budget", "audit.one_in", "drill.share"} <= set(NULLABLE)


@pytest.mark.parametrize(
    ("variables", "sets", "expected"),
    [
        (
            {"RETRAIN__EVERY": "x"},
            [],
            "environment variable ANOMALYD_RETRAIN__EVERY: retrain.every: 'x' is not",
        ),
        (
            {"RETRAIN__EVRY": "1h"},
            [],
            "environment variable ANOMALYD_RETRAIN__EVRY: unknown key 'retrain.evry'",
        ),
        (
            {"KAFKA": '{"group_id": ""}'},
            [],
            "environment variable ANOMALYD_KAFKA: kafka.group_id: '' is empty",
        ),
        ({"RETRAIN__EVERY": "x"}, ["retrain.every=y"], "--set 'retrain.every=y': retrain.every: 'y' is not"),
        ({}, ["streams.s.window=1"], "--set 'streams.s.window=1': streams.0.window: must be at least 2"),
        ({}, ["http.port=yes"], "--set 'http.port=yes': http.port: true and false have no meaning here"),
        (
            {"RETRAIN__ROWS": "5000"},
            ["model.latent=0"],
            "--set 'model.latent=0': model.latent: must be at least 1",
        ),
        ({"RETRAIN__ROWS": "5000"}, [], "file.yaml: model.keep: must be a whole number (got 'many')"),
        (
            {"KAFKA__SECURITY_PROTOCOL": "SASL_SSL"},
            ["model.keep=3"],
            "file.yaml, with environment variable ANOMALYD_KAFKA__SECURITY_PROTOCOL: kafka: security_protocol",
        ),
        (
            {"STREAMS__0__WINDOW": "20"},
            [],
            "ANOMALYD_STREAMS__0__WINDOW: streams is a list, which the environment",
        ),
    ],
)
def test_an_error_names_what_gave_the_value(
    variables: dict[str, str],
    sets: list[str],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"ANOMALYD_{name}", value)
    monkeypatch.chdir(tmp_path)
    broken = {} if sets or "RETRAIN__ROWS" not in variables else {"model": {"keep": "many"}}
    Path("file.yaml").write_text(yaml.safe_dump(document(**broken)))
    with pytest.raises(ConfigError) as error:
        load(Path("file.yaml"), sets)
    assert expected in str(error.value)


def test_a_zone_of_any_length_is_not_quoted_in_full() -> None:
    with pytest.raises(ConfigError, match="is no time zone") as error:
        load(None, (), document({"timezone": "x" * 5_000}))
    assert len(str(error.value)) < 300
