"""Check, offline, that the lock files hold what pyproject.toml asks for, each package with hashes.

    python deploy/lock_check.py [FOLDER]        the repository's root; this one unless given

Prints one line per fault and exits 1 if there is any. deploy/lock.sh writes the lock files anew.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

try:
    from packaging.markers import default_environment
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name
except ImportError:  # every pip brings its own copy
    from pip._vendor.packaging.markers import default_environment  # type: ignore[assignment]
    from pip._vendor.packaging.requirements import Requirement  # type: ignore[assignment]
    from pip._vendor.packaging.utils import canonicalize_name  # type: ignore[assignment]

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
CUDA = re.compile(r"(torch|triton|nvidia-.*|cuda-.*)")
"""Torch, and what only its CUDA build needs."""


def environments() -> Iterable[dict[str, str]]:
    """What markers are asked for: Linux, on every Python that is supported."""
    for python in PYTHONS:
        linux = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}
        yield {
            **default_environment(),  # type: ignore[dict-item]
            **linux,
            "platform_machine": "x86_64",
            "python_version": python,
            "python_full_version": f"{python}.0",
        }


class Lock:
    """One lock file: its requirements as written, and what is wrong with how they are written."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self.faults: list[str] = []
        self.requirements: list[Requirement] = []
        text = re.sub(r"\\\n", " ", path.read_text(encoding="utf-8"))
        for line in text.splitlines():
            if not line.strip() or line.startswith("#"):
                continue
            wanted, _, hashes = line.partition(" --hash=")
            if "://" in line or line.startswith("-"):
                self.faults.append(f"{self.name}: {line[:60]!r} names a place, not a package")
                continue
            requirement = Requirement(wanted.strip())
            self.requirements.append(requirement)
            if not re.fullmatch(r"sha256:[0-9a-f]{64}( +--hash=sha256:[0-9a-f]{64})*", hashes.strip()):
                self.faults.append(f"{self.name}: {requirement.name} has no hashes")

    def versions(self, environment: Mapping[str, str]) -> dict[str, str]:
        """The packages that are installed in an environment, each with its version."""
        return {
            canonicalize_name(each.name): str(each.specifier).removeprefix("==")
            for each in self.requirements
            if each.marker is None or each.marker.evaluate(dict(environment))
        }


def with_extras(names: Iterable[str], optional: Mapping[str, list[str]], project: str) -> list[str]:
    """The requirements of extras, those of the extras that they name themselves among them."""
    found: list[str] = []
    for name in names:
        for text in optional[name]:
            requirement = Requirement(text)
            if canonicalize_name(requirement.name) == canonicalize_name(project):
                found += with_extras(sorted(requirement.extras), optional, project)
            else:
                found.append(text)
    return found


def faults(root: Path) -> list[str]:
    """One line for whatever is wrong."""
    with (root / "pyproject.toml").open("rb") as file:
        document = tomllib.load(file)
    project = document["project"]
    optional = project["optional-dependencies"]
    formats = with_extras(["formats"], optional, project["name"])
    base = [*document["build-system"]["requires"], *project["dependencies"], *formats]
    extras = with_extras(optional, optional, project["name"])
    run, cpu, ci = (Lock(root / "deploy" / f"requirements{name}.lock") for name in ("", "-cpu", "-ci"))
    found = [*run.faults, *cpu.faults, *ci.faults]
    for environment in environments():
        python = environment["python_version"]
        locked, everything = run.versions(environment), ci.versions(environment)
        for lock, versions, wanted in ((run, locked, base), (ci, everything, [*base, *extras])):
            for requirement in map(Requirement, wanted):
                version = versions.get(canonicalize_name(requirement.name))
                if version is None:
                    found.append(f"{lock.name}: {requirement.name} is missing for Python {python}")
                elif not requirement.specifier.contains(version, prereleases=True):
                    found.append(f"{lock.name}: {requirement.name} {version} is not {requirement.specifier}")
        for name, version in locked.items():
            if everything.get(name) != version:
                found.append(f"{ci.name}: {name} is {everything.get(name)}, but {version} in {run.name}")
        without = {name: version for name, version in locked.items() if not CUDA.fullmatch(name)}
        if cpu.versions(environment) != without:
            found.append(f"{cpu.name}: is not {run.name} without torch and its CUDA packages")
    return list(dict.fromkeys(found))


if __name__ == "__main__":
    said = faults(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1])
    for line in said:
        sys.stdout.write(f"{line}\n")
    sys.exit(bool(said))
