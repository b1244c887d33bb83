"""A secured Apache Kafka: each way to authenticate works end to end, and each refusal is one clear line.

One broker with a listener for each way; the users have only the rights of the operator's guide (``RIGHTS``). Wrong
credentials are tried through ``KafkaSource``, so that the tests also show that they end the run at once.
"""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.admin import CreateAclsRequest
from structlog.testing import capture_logs

from daemon.adapters.kafka import (
    KafkaSettings,
    KafkaSource,
    StateTopic,
    Transactions,
    UnreachableError,
    newest_records,
    probe,
)
from daemon.adapters.kafka.security import expires
from daemon.domain import (
    Assigned,
    PartitionCommit,
    PolledRecords,
    Position,
    ScoredRow,
    StateRecord,
)
from daemon.errors import BrokerError, ConfigError, DaemonError
from tests.adapters.kafka.setups import ENCODE
from tests.broker import Broker, NoBrokerError, create_topic, free_port, produce, read_topic
from tests.conftest import without_broker
from tests.running import Daemon, command, config_for, send, topic_of, unique

RECORDS = 20
SECRET = "app-secret"
KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")

TOPIC, GROUP, TRANSACTIONAL_ID = 2, 3, 5  # Kafka's numbers for what an ACL speaks of
READ, WRITE, DESCRIBE = 3, 4, 8
LITERAL, PREFIXED = 3, 4
ALLOW = 3
RIGHTS = {
    "read the input": (TOPIC, "{name}-in", READ),
    "read as the group": (GROUP, "{name}-group", READ),
    "write transactions": (TRANSACTIONAL_ID, "{name}-group-", WRITE),
    "write scores": (TOPIC, "{name}-out.scores", WRITE),
    "read state": (TOPIC, "{name}-out.state", READ),
    "write state": (TOPIC, "{name}-out.state", WRITE),
}


def jws(expires_in_s: float, **header: str) -> str:
    """An unsigned token of user ``app``."""
    now = time.time()
    claims = {"sub": "app", "iat": now - 7200, "exp": now + expires_in_s}
    parts = [json.dumps(part).encode() for part in ({"alg": "none"} | header, claims)]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts) + "."


class Files:
    """Certificates, keys and tokens, good ones and bad ones, and settings that name them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for authority in ("ca", "other"):
            self._openssl(
                *("req", "-x509", *KEY, "-days", "2", "-subj", f"/CN={authority}"),
                *("-keyout", f"{authority}.key", "-out", f"{authority}.pem"),
            )
        self._certificate("broker", "DNS:localhost,IP:127.0.0.1")
        self._certificate("misnamed", "DNS:elsewhere.example")
        self._certificate("app")
        self._certificate("stranger", authority="other")
        for name in ("broker", "misnamed"):
            both = (folder / f"{name}.key").read_text() + (folder / f"{name}.pem").read_text()
            (folder / f"{name}.keystore").write_text(both)
        self.write("token", jws(3600))
        self.write("expired", jws(-60))
        self.write("forged", jws(3600, alg="RS256") + "c2lnbmF0dXJl")
        self.write("garbage", "no-token-at-all")
        self.write("empty", " \n")

    def file(self, name: str) -> str:
        return str(self.folder / name)

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def address(self, listener: str) -> str:
        raise NotImplementedError

    def settings(self, way: str, **other: str | None) -> KafkaSettings:
        """How to come in one way; ``other`` overrides, file names are those of the folder."""
        sasl = {
            "listener": "SASL",
            "security_protocol": "SASL_SSL",
            "sasl_mechanism": way,
            "ca_file": "ca.pem",
        }
        ways: dict[str, dict[str, Any]] = {
            "PLAINTEXT": {"listener": "PLAINTEXT"},
            "OAUTHBEARER": sasl | {"token_file": "token"},
            "MUTUAL": {
                "listener": "MUTUAL",
                "security_protocol": "SSL",
                "ca_file": "ca.pem",
                "cert_file": "app.pem",
                "key_file": "app.key",
            },
        }
        values = ways.get(way, sasl | {"username": "app", "password": SECRET}) | other
        for name in ("ca_file", "cert_file", "key_file", "token_file"):
            if values.get(name):
                values[name] = self.file(values[name])
        address = self.address(values.pop("listener"))
        return KafkaSettings(address, commit_interval=timedelta(milliseconds=20), **values)

    def _certificate(self, name: str, names: str = "DNS:unused", authority: str = "ca") -> None:
        self._openssl(
            *("req", *KEY, "-subj", f"/CN={name}"),
            *("-keyout", f"{name}.key", "-out", f"{name}.csr"),
        )
        self.write("extensions", f"subjectAltName={names}\n")
        self._openssl(
            *("x509", "-req", "-CA", f"{authority}.pem", "-CAkey", f"{authority}.key", "-CAcreateserial"),
            *("-days", "2", "-in", f"{name}.csr", "-out", f"{name}.pem", "-extfile", "extensions"),
        )

    def _openssl(self, *arguments: str) -> None:
        command = ["openssl", *arguments]
        subprocess.run(command, cwd=self.folder, check=True, capture_output=True, timeout=60)


class Secured(Files):
    """... and the broker that they are for."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        security = "org.apache.kafka.common.security"
        scram = f"{security}.scram.ScramLoginModule required;"
        oauth = "listener.name.sasl.oauthbearer.sasl"
        unsecured = f"{security}.oauthbearer.internals.unsecured.OAuthBearerUnsecured"
        users = " ".join(f'user_{name}="{SECRET}"' for name in ("app", "daemon", *map(user_without, RIGHTS)))
        self.broker = Broker(
            folder / "kafka",
            listeners={
                "SASL": "SASL_SSL",
                "SCRAM": "SASL_SSL",
                "MISNAMED": "SASL_SSL",
                "MUTUAL": "SSL",
                "TUNNEL": "PLAINTEXT",
            },
            advertised={"TUNNEL": "kafka.invalid"},
            format_arguments=[
                part
                for size in (256, 512)
                for part in ("--add-scram", f"SCRAM-SHA-{size}=[name=app,password={SECRET}]")
            ],
            properties={
                "sasl.enabled.mechanisms": "SCRAM-SHA-512",
                "listener.name.sasl.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER",
                "listener.name.sasl.plain.sasl.jaas.config": (
                    f"{security}.plain.PlainLoginModule required {users};"
                ),
                **{
                    f"listener.name.{name}.scram-sha-{size}.sasl.jaas.config": scram
                    for name, size in (("sasl", 256), ("sasl", 512), ("scram", 512), ("misnamed", 512))
                },
                f"{oauth}.jaas.config": (
                    f"{security}.oauthbearer.OAuthBearerLoginModule required "
                    'unsecuredLoginStringClaim_sub="broker";'
                ),
                f"{oauth}.login.callback.handler.class": f"{unsecured}LoginCallbackHandler",
                f"{oauth}.server.callback.handler.class": f"{unsecured}ValidatorCallbackHandler",
                "listener.name.mutual.ssl.client.auth": "required",
                "ssl.keystore.type": "PEM",
                "ssl.keystore.location": self.file("broker.keystore"),
                "listener.name.misnamed.ssl.keystore.type": "PEM",
                "listener.name.misnamed.ssl.keystore.location": self.file("misnamed.keystore"),
                "ssl.truststore.type": "PEM",
                "ssl.truststore.location": self.file("ca.pem"),
                "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
                "super.users": "User:ANONYMOUS",  # of the plaintext listener, for what the tests prepare
            },
        )

    def address(self, listener: str) -> str:
        return self.broker.address(listener)


def user_without(right: str) -> str:
    return "not-" + right.replace(" ", "-")


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    if shutil.which("openssl") is None:
        without_broker("no secured Kafka for the tests: openssl is missing")
    try:
        secured = Secured(tmp_path_factory.mktemp("secured"))
        secured.broker.start()
    except NoBrokerError as error:
        without_broker(str(error))
        raise
    yield secured
    secured.broker.stop()


@dataclass
class Place:
    """Topics of one test, filled, and who may do what there."""

    secured: Secured
    name: str

    @classmethod
    async def made(
        cls, secured: Secured, user: str, *, without: str | None = None, described: bool = True
    ) -> Place:
        place = cls(secured, f"p{uuid4().hex[:8]}")
        plaintext = secured.broker.bootstrap
        await create_topic(plaintext, place.topic)
        await create_topic(plaintext, f"{place.name}-out.scores")
        await create_topic(plaintext, f"{place.name}-out.state", 1, {"cleanup.policy": "compact"})
        await produce(plaintext, f"{place.name}-out.state", [(b"other", b"state")])  # there is some to read
        await produce(plaintext, place.topic, [(b"k", b"%d" % i) for i in range(RECORDS)])
        await place.allow(
            user,
            [
                (kind, resource, operation if right != without else DESCRIBE)
                for right, (kind, resource, operation) in RIGHTS.items()
                if right != without or described
            ],
        )
        return place

    async def allow(self, user: str, rights: Iterable[tuple[int, str, int]]) -> None:
        """Create ACLs; aiokafka has the request, but its admin client has no call for it."""
        client = AIOKafkaClient(bootstrap_servers=self.secured.broker.bootstrap)
        await client.bootstrap()
        try:
            for kind, resource, operation in rights:
                name, pattern = (
                    resource.format(name=self.name),
                    PREFIXED if resource.endswith("-") else LITERAL,
                )
                request = CreateAclsRequest(kind, name, pattern, f"User:{user}", "*", operation, ALLOW)
                answer = await client.send(client.get_random_node(), request)
                assert [code for code, _ in answer.creation_responses] == [0]
        finally:
            await client.close()

    @property
    def topic(self) -> str:
        return f"{self.name}-in"

    def source(self, settings: KafkaSettings) -> KafkaSource:
        settings = replace(settings, group_id=f"{self.name}-group")
        state = StateTopic(settings, f"{self.name}-out")
        transactions = Transactions(settings, f"{self.name}-out", ENCODE, state)
        return KafkaSource(settings, [self.topic], state, transactions)


async def work(source: KafkaSource) -> None:
    """Consume all records, with a score for each and some state in every transaction."""
    try:
        async with asyncio.timeout(40):
            async for event in source.events():
                if isinstance(event, PolledRecords) and event.items:
                    outputs = [
                        ScoredRow("pumps", "a", r.offset, 1.0, 0, 0, 0, 0, False, "m1") for r in event.items
                    ]
                    after, failures = event.items[-1].offset + 1, source.stats.rewinds
                    work = PartitionCommit(Position(after, after), outputs, [StateRecord(b"k", b"v")])
                    await source.commit({event.partition: work})
                    if after == RECORDS and source.stats.rewinds == failures:
                        source.close()
    finally:
        await source.stop()


WAYS = ["PLAINTEXT", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "MUTUAL"]


@pytest.mark.kafka
@pytest.mark.parametrize("way", WAYS)
async def test_every_way_in_reads_writes_and_commits(secured: Secured, way: str) -> None:
    place = await Place.made(secured, "CN=app" if way == "MUTUAL" else "app")
    await work(place.source(secured.settings(way)))
    written = await read_topic(secured.broker.bootstrap, f"{place.name}-out.scores")
    assert len(written) == RECORDS
    again = place.source(secured.settings(way))
    async with asyncio.timeout(40):
        assigned = await anext(e async for e in again.events() if isinstance(e, Assigned))
    await again.stop()
    assert assigned.publish_from == RECORDS


@pytest.mark.kafka
@pytest.mark.parametrize(
    ("way", "other", "expected"),
    [
        ("PLAIN", {"password": "wrong"}, "refused user 'app' (PLAIN): wrong name or password"),
        ("PLAIN", {"username": "eve"}, "refused user 'eve' (PLAIN): wrong name or password"),
        (
            "SCRAM-SHA-256",
            {"password": "wrong"},
            "refused user 'app' (SCRAM-SHA-256): wrong name or password",
        ),
        ("SCRAM-SHA-256", {"username": "eve"}, "refused user 'eve' (SCRAM-SHA-256): wrong name or password"),
        (
            "SCRAM-SHA-512",
            {"password": "wrong"},
            "refused user 'app' (SCRAM-SHA-512): wrong name or password",
        ),
        ("SCRAM-SHA-512", {"username": "eve"}, "refused user 'eve' (SCRAM-SHA-512): wrong name or password"),
        ("PLAIN", {"listener": "SCRAM"}, "does not take kafka.security_protocol SASL_SSL with PLAIN on this"),
        ("OAUTHBEARER", {"listener": "SCRAM"}, "SASL_SSL with OAUTHBEARER on this port"),
        ("OAUTHBEARER", {"token_file": "expired"}, "/expired expired at 20"),
        ("OAUTHBEARER", {"token_file": "garbage"}, "refused the token of kafka.token_file "),
        ("OAUTHBEARER", {"token_file": "forged"}, "refused the token of kafka.token_file "),
        ("SCRAM-SHA-512", {"ca_file": "other.pem"}, "is not trusted with kafka.ca_file "),
        ("SCRAM-SHA-512", {"ca_file": None}, "is not trusted with kafka.ca_file None: unable to get local"),
        (
            "SCRAM-SHA-512",
            {"listener": "MISNAMED"},
            "another host's than kafka.bootstrap_servers names: IP address",
        ),
        (
            "MUTUAL",
            {"cert_file": None, "key_file": None},
            "asks for a client certificate: kafka.cert_file and",
        ),
        (
            "MUTUAL",
            {"cert_file": "stranger.pem", "key_file": "stranger.key"},
            "stranger.pem: certificate unknown",
        ),
        (
            "SCRAM-SHA-512",
            {"listener": "MUTUAL", "cert_file": "app.pem", "key_file": "app.key"},
            "on this port",
        ),
        (
            "SCRAM-SHA-512",
            {"listener": "PLAINTEXT", "security_protocol": "SASL_PLAINTEXT"},
            "does not take kafka.security_protocol SASL_PLAINTEXT with SCRAM-SHA-512",
        ),
    ],
)
async def test_a_wrong_credential_ends_the_run_with_one_clear_line(
    secured: Secured, way: str, other: dict[str, str | None], expected: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = secured.settings(way, **other)
    with pytest.raises(BrokerError) as failed:
        await work(Place(secured, "unused").source(settings))
    assert not isinstance(failed.value, UnreachableError)
    assert settings.bootstrap_servers in str(failed.value)
    check_line(str(failed.value), expected, caplog)
    (finding,) = await probe(settings, [])
    assert (finding.ok, finding.detail) == (False, str(failed.value))


@pytest.mark.kafka
@pytest.mark.parametrize(
    ("way", "other", "expected"),
    [
        (
            "PLAINTEXT",
            {"listener": "SASL"},
            "closed (is kafka.security_protocol PLAINTEXT right for this port?)",
        ),
        ("PLAINTEXT", {"listener": "MUTUAL"}, "closed (is kafka.security_protocol PLAINTEXT right for this"),
        ("MUTUAL", {"listener": "PLAINTEXT"}, "closed (is kafka.security_protocol SSL right for this port?)"),
        ("MUTUAL", {"listener": "SASL"}, "closed (is kafka.security_protocol SSL right for this port?)"),
        ("SCRAM-SHA-512", {"listener": "PLAINTEXT"}, "closed (is kafka.security_protocol SASL_SSL right for"),
        (
            "SCRAM-SHA-512",
            {"listener": "SASL", "security_protocol": "SASL_PLAINTEXT"},
            "closed (is kafka.security_protocol SASL_PLAINTEXT right for this port?)",
        ),
    ],
)
async def test_a_closed_connection_is_waited_out_with_a_hint(
    secured: Secured, way: str, other: dict[str, str | None], expected: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It looks the same when a broker starts, so it does not end the run; the reason for the wait is logged."""
    settings = secured.settings(way, **other)
    source = Place(secured, "unused").source(settings)
    with capture_logs() as logs:
        async with asyncio.timeout(20):
            async for _ in source.events():
                source.close()
    (line,) = [entry["reason"] for entry in logs if entry["event"] == "broker_unreachable"]
    check_line(line, expected, caplog)
    assert source.stats.unreachable == 1


@pytest.mark.kafka
@pytest.mark.parametrize("right", RIGHTS)
async def test_a_missing_right_ends_the_run_and_is_named(
    secured: Secured, right: str, caplog: pytest.LogCaptureFixture
) -> None:
    user = user_without(right)
    place = await Place.made(secured, user, without=right)
    kind, resource, operation = RIGHTS[right]
    with pytest.raises(BrokerError) as failed:
        await work(place.source(secured.settings("PLAIN", username=user)))
    assert not isinstance(failed.value, UnreachableError)
    what = {TOPIC: "topic", GROUP: "group", TRANSACTIONAL_ID: "transactional id"}[kind]
    name = resource.format(name=place.name) + (f"{place.topic}-0" if kind == TRANSACTIONAL_ID else "")
    may = {READ: "READ", WRITE: "WRITE"}[operation]
    check_line(str(failed.value), f"this user lacks {may} on {what} '{name}'", caplog)


@pytest.mark.kafka
@pytest.mark.parametrize("right", ["read the input", "write scores"])
async def test_a_topic_that_may_not_even_be_described_is_named(secured: Secured, right: str) -> None:
    user = user_without(right)
    place = await Place.made(secured, user, without=right, described=False)
    topic = RIGHTS[right][1].format(name=place.name)
    with pytest.raises(
        DaemonError, match=rf"topic '{topic}' does not exist .*, or this user may not describe"
    ):
        await work(place.source(secured.settings("PLAIN", username=user)))


def check_line(line: str, expected: str, caplog: pytest.LogCaptureFixture) -> None:
    """One line, with the reason and without the secret; aiokafka's own words are not repeated beside it."""
    assert expected in line
    assert "\n" not in line
    assert SECRET not in line
    assert not [record for record in caplog.records if "Unable" in record.getMessage()]


@pytest.mark.kafka
def test_the_daemon_needs_no_more_rights_than_these(secured: Secured, tmp_path: Path) -> None:
    """And says so itself: `check --probe` finds nothing missing."""
    place = Place(secured, unique("p"))
    asyncio.run(create_topic(secured.broker.bootstrap, place.topic))
    config = config_for(secured.broker.bootstrap, place.topic, f"{place.name}-out", ["s"])
    config["kafka"]["group_id"] = f"{place.name}-group"
    (tmp_path / "plaintext.yaml").write_text(yaml.safe_dump(config))
    done = command("topics", "--create", "-c", tmp_path / "plaintext.yaml")
    assert done.returncode == 0, done.stderr
    outputs = ("alerts", "imputed", "drift", "dead-letter")
    asyncio.run(
        place.allow(
            "daemon",
            [
                *RIGHTS.values(),
                *((TOPIC, f"{{name}}-out.{name}", WRITE) for name in outputs),
                (TOPIC, "{name}-out.alerts", READ),  # a retraining leaves out what they name
                (TOPIC, "{name}-out.drift", READ),  # likewise
                *((TOPIC, "{name}-out.models", operation) for operation in (READ, WRITE)),
                *((TOPIC, "{name}-out.retrain", operation) for operation in (READ, WRITE)),
                (TOPIC, "{name}-out.feedback", READ),
            ],
        )
    )
    (tmp_path / "password").write_text(SECRET)
    config["kafka"] |= {
        "bootstrap_servers": secured.address("SASL"),
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "PLAIN",
        "username": "daemon",
        "password_file": str(tmp_path / "password"),
        "ca_file": secured.file("ca.pem"),
    }
    daemon = Daemon(tmp_path / "run", config)
    check = command("check", "--probe", "-c", daemon.config)
    assert check.returncode == 0, check.stdout
    send(
        secured.broker.bootstrap,
        place.topic,
        [b'{"asset":"a","ts":"2026-01-01T00:00:00Z","values":{"s":1}}', b"{"],
    )
    with daemon:
        daemon.until(lambda state: sum(state["records"].values()) >= 2, within=60)
        assert daemon.stop() == 0, daemon.tail()
    assert len(topic_of(secured.broker.bootstrap, f"{place.name}-out.dead-letter")) == 1
    assert SECRET not in daemon.log.read_text()


@pytest.mark.kafka
def test_the_command_ends_with_the_reason_and_an_exit_code(secured: Secured, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("not-the-secret")
    config = config_for(secured.address("SASL"), "in", "out", ["s"])
    config["kafka"] |= {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "username": "app",
        "password_file": str(tmp_path / "password"),
        "ca_file": secured.file("ca.pem"),
    }
    config["http"] = {"port": free_port()}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    expected = "refused user 'app' (SCRAM-SHA-512): wrong name or password"
    run = command("run", "-c", tmp_path / "config.yaml", timeout=60)
    assert (run.returncode, run.stderr.count("\n")) == (1, 1), run.stderr
    assert expected in run.stderr
    check = command("check", "--probe", "-c", tmp_path / "config.yaml", timeout=60)
    assert check.returncode == 2
    assert expected in check.stdout
    assert "not-the-secret" not in run.stdout + run.stderr + check.stdout + check.stderr


@pytest.mark.kafka
async def test_a_tunnel_to_a_remote_broker_needs_leave_for_plaintext(secured: Secured) -> None:
    """The address that is written is loopback, the one that the broker advertises is not."""
    settings = KafkaSettings(secured.address("TUNNEL"), group_id="unused")
    expected = "sends its clients on to kafka.invalid"
    with pytest.raises(ConfigError, match=expected):
        await work(Place(secured, "unused").source(settings))
    with pytest.raises(ConfigError, match=expected):
        await newest_records(settings, "any", 1)
    (finding,) = await probe(settings, ["any"])
    assert not finding.ok
    assert expected in finding.detail
    (finding,) = await probe(replace(settings, allow_plaintext=True), ["any"])
    assert expected not in finding.detail  # it goes there, and finds no such host


# ------------------------------------------------------------------ what needs no answer of the broker
@pytest.mark.kafka
@pytest.mark.parametrize(
    ("way", "other", "expected"),
    [
        ("OAUTHBEARER", {"token_file": None}, "OAUTHBEARER needs kafka.token_file"),
        ("OAUTHBEARER", {"token_file": "absent"}, "absent cannot be read: No such file"),
        ("OAUTHBEARER", {"token_file": "empty"}, "empty holds no token"),
        (
            "OAUTHBEARER",
            {"security_protocol": "SASL_PLAINTEXT"},
            "sends the token in the clear: use SASL_SSL",
        ),
        ("PLAIN", {"security_protocol": "SASL_PLAINTEXT"}, "sends the password in the clear: use SASL_SSL"),
        ("MUTUAL", {"key_file": "stranger.key"}, "do not make a TLS context: .*key values mismatch"),
        ("MUTUAL", {"key_file": None}, "come together"),
        ("SCRAM-SHA-512", {"ca_file": "extensions"}, "do not make a TLS context: .*no certificate"),
    ],
)
def test_files_that_cannot_work_are_refused_at_once(
    secured: Secured, way: str, other: dict[str, str | None], expected: str
) -> None:
    with pytest.raises(ConfigError, match=expected):
        Place(secured, "unused").source(secured.settings(way, **other))


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        (jws(0), True),
        ("opaque", False),
        ("a.b.c", False),
        ("a.bnVsbA.c", False),
        ("a.eyJleHAiOiBudWxsfQ.c", False),
        ("a.eyJleHAiOiAxZTk5OX0.c", False),
    ],
)
def test_only_a_token_that_says_so_expires(token: str, expected: bool) -> None:
    assert (expires(token) is not None) == expected
