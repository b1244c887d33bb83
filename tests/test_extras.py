"""The program without the libraries of single message formats: it imports and runs, and says what to install."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.running import environment

BLOCKED = ("fastavro", "google", "grpc_tools", "grpc", "cbor2")
"""What no ``pip install anomalyd`` brings."""
BLOCKER = f"""
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BLOCKED}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Blocker())
"""
EVERY_MODULE = """
import importlib, pkgutil, daemon
names = [m.name for m in pkgutil.walk_packages(daemon.__path__, "daemon.") if not m.name.endswith("__main__")]
for name in names:
    importlib.import_module(name)
print(len(names))
"""


def without_extras(*code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process that has none of the libraries."""
    return subprocess.run(
        [sys.executable, "-c", "\n".join([BLOCKER, *code])],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=folder,
        env=environment(),
    )


def test_every_module_is_imported(tmp_path: Path) -> None:
    done = without_extras(EVERY_MODULE, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 200


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("json", ""),
        ("json-schema", ""),
        ("avro", "decode: avro needs the extra: pip install 'anomalyd[avro]'"),
        ("protobuf", "decode: protobuf needs the extra: pip install 'anomalyd[protobuf]'"),
    ],
)
def test_a_stream_says_what_it_needs(tmp_path: Path, kind: str, says: str) -> None:
    mapping = {"decode": kind, "asset": "asset", "time": "ts", "leaves": "."}
    document = {
        "streams": [{"name": "pumps", "topics": ["pumps"], "sensors": ["a", "b"], "input": mapping}],
        "schema_registry": {"url": "http://localhost:1"},
    }
    (tmp_path / "config.yaml").write_text(json.dumps(document))
    run = "sys.argv = ['anomalyd', 'check', '-c', 'config.yaml']\nfrom daemon.cli import main\nmain()"
    done = without_extras(run, folder=tmp_path)
    assert done.returncode == (2 if says else 0), done.stdout + done.stderr
    assert says in " ".join((done.stdout + done.stderr).split())
