"""Names that an operator gave to dimensions and clusters of a model, kept in a file beside its bundle.

The file is ``<bundle>.names.json`` and not part of the bundle, which is replaced as a whole when a model is
trained again and whose version is the hash of its contents. Names are kept per version, as each training
numbers its dimensions anew; names of former versions stay in the file. A cluster's name is kept with the
cluster's centre: other readings of the same machine give other clusters in another order, and a cluster gets
a name only where it lies at the same place. Invariant: the file is written whole or not at all.
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
"""Characters of a name, at most: as many as fit above a chart."""
MOST_BYTES = 4 << 20
"""A larger file is no file of names."""


class ClusterName(msgspec.Struct, frozen=True):
    """A cluster's name, and the centre of the cluster when it was named, in latent space."""

    name: str
    centre: tuple[float, ...]


class Names(msgspec.Struct, frozen=True):
    """The names of one version's dimensions, by number, and clusters."""

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
        """The names beside a bundle; none if there is no file.

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
        """How many names are kept for other versions."""
        return sum(len(n.dimensions) + len(n.clusters) for v, n in self.versions.items() if v != version)

    def with_names(self, version: str, names: Names) -> NamesFile:
        """Replace one version's names and write the file.

        Raises:
            DaemonError: it cannot be written.
        """
        versions = {**self.versions, version: names}
        with replacing(self.path) as temporary:
            temporary.write_bytes(msgspec.json.format(msgspec.json.encode(_Document(versions))))
        return NamesFile(self.path, versions)
