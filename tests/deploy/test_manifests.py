"""deploy/: the manifests agree with the configuration, with one another and with what they promise.

Everything here reads files only; deploy/validate.sh holds them to their public schemas.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from daemon import config
from daemon.adapters.admin import Hosts

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
K8S = DEPLOY / "k8s"
PREFIX = "ANOMALYD_"
CONFIGS = [DEPLOY / "compose/config.yaml", K8S / "base/config.yaml", K8S / "overlays/prod/config.yaml"]
UID = 10001
ADMIN_PORT = 9464

Document = dict[str, Any]


def read(path: Path) -> Document:
    document = yaml.safe_load(path.read_text())
    assert isinstance(document, dict)
    return document


def container(workload: Document) -> Document:
    """The one container of a StatefulSet or of a patch of one."""
    (only,) = workload["spec"]["template"]["spec"]["containers"]
    assert isinstance(only, dict)
    return only


def variables(*workloads: Document) -> dict[str, str]:
    """The environment that a pod named anomalyd-0 in the namespace ``fleet`` gets."""
    fields = {"metadata.name": "anomalyd-0", "metadata.namespace": "fleet"}
    found: dict[str, str] = {}
    for workload in workloads:
        for entry in container(workload).get("env", []):
            if "value" in entry:
                text = re.sub(r"\$\((\w+)\)", lambda match: found[match[1]], entry["value"])
            else:
                text = fields[entry["valueFrom"]["fieldRef"]["fieldPath"]]
            found[entry["name"]] = text
    return found


def render(overlay: str) -> list[Document]:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed, so overlays cannot be rendered")
    run = subprocess.run(
        ["kubectl", "kustomize", str(K8S / "overlays" / overlay)], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    return [document for document in yaml.safe_load_all(run.stdout) if document]


def one(documents: list[Document], kind: str) -> Document:
    (found,) = (document for document in documents if document["kind"] == kind)
    return found


@pytest.fixture
def base() -> Document:
    return read(K8S / "base/statefulset.yaml")


@pytest.fixture
def compose() -> Document:
    return read(DEPLOY / "compose/compose.yaml")


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No ANOMALYD_ variable but those a test sets."""
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    return monkeypatch


# --- configuration


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_every_config_is_accepted(path: Path, bare: pytest.MonkeyPatch) -> None:
    settings = config.load(path)
    assert settings.kafka.group_id == "anomalyd"
    assert settings.http.port == ADMIN_PORT


@pytest.mark.parametrize("overlay", ["dev", "prod"])
def test_the_pods_environment_names_settings_and_reaches_them(
    overlay: str, base: Document, bare: pytest.MonkeyPatch
) -> None:
    own = K8S / "overlays" / overlay / "config.yaml"
    environment = variables(base, read(K8S / "overlays" / overlay / "statefulset.yaml"))
    ours = {name: value for name, value in environment.items() if name.startswith(PREFIX)}
    before = config.load(own if own.exists() else K8S / "base/config.yaml").model_dump()
    for name, value in ours.items():
        bare.setenv(name, value)
    after = config.load(own if own.exists() else K8S / "base/config.yaml").model_dump()
    assert config.unknown_environment() == []
    assert ours[f"{PREFIX}KAFKA__INSTANCE_ID"] == "anomalyd-0"
    for name, value in ours.items():
        keys = name.removeprefix(PREFIX).lower().split("__")
        old, new = before, after
        for key in keys:
            old, new = old[key], new[key]
        expected = json.loads(value) if isinstance(new, list) else value
        assert new == expected != old, f"{name} changes nothing"


def test_the_pod_may_be_asked_by_its_names_in_the_cluster(base: Document) -> None:
    hosts = Hosts(json.loads(variables(base)[f"{PREFIX}HTTP__ALLOWED_HOSTS"]))
    service = base["spec"]["serviceName"]
    for name in (f"{service}.fleet", f"{service}.fleet.svc", f"anomalyd-0.{service}.fleet.svc.cluster.local"):
        assert hosts.known(f"{name}:{ADMIN_PORT}")
    for name in (f"{service}.other.svc", f"anomalyd-0.{service}.fleet.svc.evil.example", "fleet.svc"):
        assert not hosts.known(name)


def test_other_containers_may_ask_by_the_name_of_the_service(compose: Document) -> None:
    assert read(DEPLOY / "compose/config.yaml")["http"]["allowed_hosts"] == ["anomalyd"]
    assert "anomalyd" in compose["services"]


def test_the_image_sets_no_setting() -> None:
    # It would win over the mounted config.yaml without a word.
    assert re.findall(rf"^[^#]*{PREFIX}\w+=", dockerfile(), re.MULTILINE) == []


# --- Kubernetes


def test_probes_ask_the_admin_port_in_their_own_words(base: Document) -> None:
    pod = container(base)
    assert {port["name"]: port["containerPort"] for port in pod["ports"]} == {"admin": ADMIN_PORT}
    probes = {kind: pod[kind]["httpGet"] for kind in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert probes == {
        "startupProbe": {"path": "/startupz", "port": "admin"},
        "livenessProbe": {"path": "/livez", "port": "admin"},
        "readinessProbe": {"path": "/readyz", "port": "admin"},
    }
    service = read(K8S / "base/service.yaml")["spec"]
    assert [port["port"] for port in service["ports"]] == [ADMIN_PORT]
    assert service["clusterIP"] == "None"
    annotations = base["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(ADMIN_PORT)


def test_the_pod_meets_the_restricted_profile(base: Document) -> None:
    pod = base["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == pod["securityContext"]["fsGroup"] == UID
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    context = container(base)["securityContext"]
    assert context["readOnlyRootFilesystem"] is True
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert pod["automountServiceAccountToken"] is False
    assert read(K8S / "base/serviceaccount.yaml")["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False, "a Service named anomalyd injects ANOMALYD_ variables"


def test_replicas_stop_and_return_without_a_rebalance(base: Document) -> None:
    assert base["spec"]["podManagementPolicy"] == "Parallel"
    assert base["spec"]["serviceName"] == read(K8S / "base/service.yaml")["metadata"]["name"]
    assert base["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 60
    (instance,) = (e for e in container(base)["env"] if e["name"] == f"{PREFIX}KAFKA__INSTANCE_ID")
    assert instance["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}
    assert read(K8S / "base/poddisruptionbudget.yaml")["spec"]["maxUnavailable"] == 1


def test_selectors_find_the_pods(base: Document) -> None:
    labels = base["spec"]["template"]["metadata"]["labels"].items()
    budget = read(K8S / "base/poddisruptionbudget.yaml")["spec"]["selector"]["matchLabels"]
    for selector in (
        base["spec"]["selector"]["matchLabels"],
        read(K8S / "base/service.yaml")["spec"]["selector"],
        budget,
    ):
        assert selector
        assert selector.items() <= labels


@pytest.mark.parametrize("overlay", ["dev", "prod"])
def test_every_mount_has_a_volume_and_every_writable_path_a_mount(overlay: str) -> None:
    workload = one(render(overlay), "StatefulSet")
    spec = workload["spec"]
    volumes = [volume["name"] for volume in spec["template"]["spec"]["volumes"]]
    volumes += [claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates", [])]
    assert max(Counter(volumes).values()) == 1
    mounts = {mount["mountPath"]: mount for mount in container(workload)["volumeMounts"]}
    assert {mount["name"] for mount in mounts.values()} == set(volumes)
    for path in ("/tmp", "/var/lib/anomalyd/models"):
        assert not mounts[path].get("readOnly", False)
    # The container runtime cannot make a mount point inside a read-only mount.
    for outer in (path for path, mount in mounts.items() if mount.get("readOnly")):
        assert not [path for path in mounts if path.startswith(outer + "/")]


@pytest.mark.parametrize("overlay", ["dev", "prod"])
def test_an_overlay_lives_in_one_namespace_that_enforces_the_profile(overlay: str) -> None:
    documents = render(overlay)
    namespace = one(documents, "Namespace")["metadata"]
    assert namespace["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    others = {
        document["metadata"].get("namespace") for document in documents if document["kind"] != "Namespace"
    }
    assert others == {namespace["name"]}


def test_prod_takes_the_password_from_a_mounted_secret(bare: pytest.MonkeyPatch) -> None:
    documents = render("prod")
    workload = one(documents, "StatefulSet")
    kafka = config.load(K8S / "overlays/prod/config.yaml").kafka
    assert kafka.security_protocol == "SASL_SSL"
    (volume,) = (v for v in workload["spec"]["template"]["spec"]["volumes"] if "secret" in v)
    (mount,) = (m for m in container(workload)["volumeMounts"] if m["name"] == volume["name"])
    files = {f"{mount['mountPath']}/{item['path']}" for item in volume["secret"]["items"]}
    assert {str(kafka.password_file), str(kafka.ca_file)} == files
    assert not volume["secret"]["defaultMode"] & 0o007
    assert workload["spec"]["replicas"] == 3
    # The Secret itself is made on the cluster, never kept here.
    assert "Secret" not in {document["kind"] for document in documents}
    assert "SASL_SSL" in one(documents, "ConfigMap")["data"]["config.yaml"]


# --- container image


def dockerfile() -> str:
    return (DEPLOY / "docker/Dockerfile").read_text()


def test_the_image_does_not_choose_an_index() -> None:
    assert re.findall(r"^ARG TORCH_INDEX_URL.*$", dockerfile(), re.MULTILINE) == ["ARG TORCH_INDEX_URL"]
    assert "://" not in dockerfile()


def test_the_image_runs_as_a_number_that_is_not_root() -> None:
    last = dockerfile().rpartition("\nFROM ")[2]
    assert re.findall(r"^USER (.*)$", last, re.MULTILINE) == [f"{UID}:{UID}"]
    assert f"EXPOSE {ADMIN_PORT}\n" in last
    assert 'ENTRYPOINT ["anomalyd"]\nCMD ["run", "-c", "/etc/anomalyd/config.yaml"]\n' in last
    assert "HEALTHCHECK" not in dockerfile()


def test_the_builder_is_sent_what_the_image_copies() -> None:
    sent = {
        line.removeprefix("!")
        for line in (DEPLOY / "docker/Dockerfile.dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    copied = {
        word.removeprefix("./")
        for line in re.findall(r"^COPY (?!--from)(.*)$", dockerfile(), re.MULTILINE)
        for word in line.split()[:-1]
    }
    assert copied == sent


# --- compose


def test_compose_starts_in_order_and_ends(compose: Document) -> None:
    services = compose["services"]
    started = []
    waiting = {name: set(service.get("depends_on", {})) for name, service in services.items()}
    while waiting:
        ready = sorted(name for name, needs in waiting.items() if needs <= set(started))
        assert ready, f"{sorted(waiting)} wait for one another or for a service that is not there"
        started += ready
        for name in ready:
            del waiting[name]
    for name, service in services.items():
        for needed, wait in service.get("depends_on", {}).items():
            # A service that ends must be waited for to its end, one that stays until it is healthy.
            ends = services[needed]["restart"] == "no"
            assert wait["condition"] == ("service_completed_successfully" if ends else "service_healthy"), (
                name
            )
            assert ends or "healthcheck" in services[needed]


def test_compose_mounts_what_is_there_and_publishes_on_loopback(compose: Document) -> None:
    for name, service in compose["services"].items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            known = (
                (DEPLOY / "compose" / source).is_file()
                if source.startswith(".")
                else source in compose["volumes"]
            )
            assert known, f"{name}: {volume}"
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name}: {port}"
    built = compose["services"]["anomalyd"]["build"]
    assert (
        DEPLOY / "compose" / built["context"] / built["dockerfile"]
    ).resolve() == DEPLOY / "docker/Dockerfile"
    assert set(built["args"]) == {"TORCH_INDEX_URL", "TORCH_SHA256"}


def test_compose_and_its_config_speak_of_the_same_broker_and_topic(
    compose: Document, bare: pytest.MonkeyPatch
) -> None:
    settings = config.load(DEPLOY / "compose/config.yaml")
    services = compose["services"]
    address = settings.kafka.bootstrap_servers
    assert f"PLAINTEXT://{address}" in services["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"].split(
        ","
    )
    (stream,) = settings.streams
    (topic,) = stream.topics
    assert f"--topic={topic}" in services["input"]["command"]
    assert f"--bootstrap-server={address}" in services["input"]["command"]
    sent = services["producer"]["command"]
    assert dict(zip(sent[::2], sent[1::2], strict=True)) == {
        "--bootstrap-servers": address,
        "--topic": topic,
        "--assets": "10",
    }
    assert settings.http.host == "0.0.0.0"  # loopback inside a container reaches nobody


# --- the simulated producer


@pytest.fixture(scope="module")
def producer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("compose_producer", DEPLOY / "compose/producer.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_the_producer_needs_nothing_that_the_image_lacks() -> None:
    tree = ast.parse((DEPLOY / "compose/producer.py").read_text())
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {
        alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    }
    heads = {str(name).split(".")[0] for name in imported}
    assert heads - set(sys.stdlib_module_names) == {"aiokafka"}


def test_the_producer_sends_rows_that_the_config_describes(
    producer: ModuleType, bare: pytest.MonkeyPatch
) -> None:
    (stream,) = config.load(DEPLOY / "compose/config.yaml").streams
    pumps = producer.fleet(3, seed=5)
    rows = [(pump, now, pump.row(float(now), faults=False)) for now in range(2000) for pump in pumps]
    kept = [(pump, now, values) for pump, now, values in rows if values is not None]
    assert 0.99 < len(kept) / len(rows) < 1
    nulls = 0
    for pump, now, values in kept:
        message = json.loads(producer.encode(pump.name, now, values))
        assert message["asset"] == pump.name
        assert message["ts"].endswith("Z")
        assert set(message["values"]) == set(stream.sensors)
        for sensor, value in message["values"].items():
            nulls += value is None
            if value is not None:
                low, high = stream.sensors[sensor].range or (float("-inf"), float("inf"))
                assert low <= value <= high, (sensor, value)
    assert 0.005 < nulls / (len(kept) * len(stream.sensors)) < 0.02


def test_every_fault_of_the_producer_shows_and_ends(producer: ModuleType) -> None:
    for kind, (seconds, _) in producer.FAULTS.items():
        faulty, healthy = producer.Pump("a", random.Random(1)), producer.Pump("a", random.Random(1))
        faulty.fault, faulty.fault_started = kind, 0.0
        differs = [
            faulty.row(float(now), faults=False) != healthy.row(float(now), faults=False)
            for now in range(400)
        ]
        assert any(differs[:20]), kind
        assert not any(differs[int(seconds) :]), kind


def test_faults_begin_only_when_they_may(producer: ModuleType) -> None:
    pump = producer.Pump("a", random.Random(3))
    for now in range(4000):
        pump.row(float(now), faults=False)
        assert pump.fault is None
    seen = set()
    for now in range(4000, 40_000):
        pump.row(float(now), faults=True)
        seen.add(pump.fault)
    assert seen == {None, *producer.FAULTS}


# --- validate.sh

SHELL = ("bash", "dirname", "basename", "mktemp", "rm", "find", "sort", "sed")


def validate(deploy: Path, tools: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a copy of deploy/ past validate.sh with the tools of one folder and nothing else."""
    return subprocess.run(
        [str(tools / "bash"), str(deploy / "validate.sh")],
        env={"PATH": str(tools), "PYTHON": "python3", "HOME": str(tools), **environment},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    folder = tmp_path / "tools"
    folder.mkdir()
    for name in SHELL:
        found = shutil.which(name)
        if found is None:
            pytest.skip(f"{name} is not installed, which validate.sh needs")
        (folder / name).symlink_to(found)
    (folder / "python3").symlink_to(sys.executable)
    return folder


def test_validate_names_what_it_cannot_check(tools: Path) -> None:
    run = validate(DEPLOY, tools)
    assert run.returncode == 0, run.stdout
    for tool in ("kubernetes-validate", "kubectl", "hadolint", "check-jsonschema"):
        assert f": {tool} is not installed" in run.stdout


def test_validate_fails_without_a_tool_that_is_required(tools: Path) -> None:
    run = validate(DEPLOY, tools, ANOMALYD_REQUIRE_ALL="1")
    assert run.returncode == 1
    assert "hadolint is not installed and ANOMALYD_REQUIRE_ALL=1" in run.stdout


def test_validate_refuses_a_misspelt_key(tools: Path, tmp_path: Path) -> None:
    validator = Path(sys.executable).parent / "kubernetes-validate"
    if not validator.exists():
        pytest.skip("kubernetes-validate is not installed (pip install '.[deploy]')")
    (tools / "kubernetes-validate").symlink_to(validator)
    deploy = tmp_path / "copy" / "deploy"
    shutil.copytree(DEPLOY, deploy)
    path = deploy / "k8s/base/statefulset.yaml"
    path.write_text(path.read_text().replace("livenessProbe:", "livenesProbe:"))
    run = validate(deploy, tools)
    assert run.returncode == 1
    assert "livenesProbe" in run.stdout


# ------------------------------------------------------------------ trainings in a CronJob
def test_the_cron_job_trains_as_the_daemon_does_under_the_same_restrictions(base: Document) -> None:
    job = read(K8S / "components/retrain/cronjob.yaml")
    template = job["spec"]["jobTemplate"]["spec"]["template"]
    pod, (only,) = template["spec"], template["spec"]["containers"]
    daemon = base["spec"]["template"]["spec"]
    for key in (
        "securityContext",
        "serviceAccountName",
        "automountServiceAccountToken",
        "enableServiceLinks",
    ):
        assert pod[key] == daemon[key]
    for key in ("securityContext", "image", "imagePullPolicy"):
        assert only[key] == container(base)[key]
    assert only["args"] == ["train", "-c", "/etc/anomalyd/config.yaml", "--publish"]
    mounts = {mount["name"]: mount["mountPath"] for mount in only["volumeMounts"]}
    assert mounts.keys() == {volume["name"] for volume in pod["volumes"]}
    kafka = config.load(K8S / "overlays/prod/config.yaml").kafka
    assert kafka.password_file is not None
    assert mounts["kafka-credentials"] == str(kafka.password_file.parent)
    # The daemon's Service and disruption budget do not select it.
    selector = base["spec"]["selector"]["matchLabels"]
    assert not selector.items() <= template["metadata"]["labels"].items()
    assert job["spec"]["concurrencyPolicy"] == "Forbid"
