"""Names that an operator gave to what a model learned: its dimensions and its clusters.

They stand in ``<bundle>.names.json`` beside the bundle's directory: a bundle is replaced as a whole when a
model is trained again, and its version is the hash of what is in it. Names are kept per version, because a
training numbers its dimensions anew; those of former versions stay in the file, and whoever shows names
says so. A cluster's name stands with the cluster's centre, so that other data of the same machine, which
give other clusters in another order, get it only where they come by the same place.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from daemon.adapters.files import replacing
from daemon.errors import InputError

SUFFIX = ".names.json"
LONGEST = 60
"""Characters of a name: what fits above a chart."""
MOST_BYTES = 4 << 20


class ClusterName(msgspec.Struct, frozen=True):
    """A cluster's name, and where in latent space it was given."""

    name: str
    centre: tuple[float, ...]


class Names(msgspec.Struct, frozen=True):
    """What one version's dimensions and clusters are called."""

    dimensions: dict[str, str] = {}
    clusters: list[ClusterName] = []


class _Document(msgspec.Struct):
    versions: dict[str, Names] = {}


@dataclass(frozen=True, slots=True)
class NamesFile:
    """The names beside one bundle."""

    path: Path
    versions: Mapping[str, Names] = field(default_factory=dict)

    @staticmethod
    def beside(bundle: Path) -> NamesFile:
        """Read them; there may be none yet.

        Raises:
            InputError: the file is damaged.
        """
        place = Path(os.path.realpath(bundle))
        path = place.with_name(place.name + SUFFIX)
        try:
            if path.stat().st_size > MOST_BYTES:
                raise InputError(f"{path}: more than {MOST_BYTES >> 20} MB, no file of names")
            document = msgspec.json.decode(path.read_bytes(), type=_Document)
        except FileNotFoundError:
            return NamesFile(path)
        except (OSError, msgspec.DecodeError) as error:
            raise InputError(f"{path}: no readable names: {error}") from error
        return NamesFile(path, document.versions)

    def of(self, version: str) -> Names:
        """The names of one version."""
        return self.versions.get(version, Names())

    def others(self, version: str) -> int:
        """How many names other versions have, and this one has not."""
        return sum(len(n.dimensions) + len(n.clusters) for v, n in self.versions.items() if v != version)

    def with_names(self, version: str, names: Names) -> NamesFile:
        """The same with one version's names replaced, and written, whole or not at all.

        Raises:
            DaemonError: it cannot be written.
        """
        versions = {**self.versions, version: names}
        with replacing(self.path) as temporary:
            temporary.write_bytes(msgspec.json.format(msgspec.json.encode(_Document(versions))))
        return NamesFile(self.path, versions)
