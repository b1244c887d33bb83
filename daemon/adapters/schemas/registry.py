"""A schema registry: schemas by their ids, with all that they refer to.

What it answers is one of three: a ``Schema``; a text, why there is none that can be used (the registry knows no such
id, or its schema does not compile): records that name it are rejected; or a ``RegistryError``: nothing is known, and
nothing may be done with such records yet. That it has no such id is believed only of a registry: where the answer has
no error code of one, it must have answered another question of its interface before (``_is_registry``), because a
wrong path in the address would otherwise reject everything that arrives.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import quote

from daemon.adapters.schemas.http import RegistryConnection, RegistryError, in_background
from daemon.adapters.schemas.proto_text import ProtoTextError, compile_proto
from daemon.domain import Reading, Record
from daemon.mapping import RegistryAddress
from daemon.stream.decode import MessageSchemas, Schema, SchemaId
from daemon.stream.decode.protobuf import file_named, files_of_set
from daemon.stream.decode.schemas import UnusableSchemaError

MOST_REFERENCES: Final = 200
"""Schemas that one refers to, those of its references among them."""
_ABSENT: Final = frozenset({40401, 40402, 40403})
"""Error codes of a registry: no such subject, version, schema."""
_SERIALIZED: Final = "?format=serialized"


class SchemaRegistry:
    """Asks a registry for schemas.

    Args:
        address: where it is, and as whom it is asked.

    Raises:
        ConfigError: a file of its credentials or certificates cannot be used.
    """

    def __init__(self, address: RegistryAddress) -> None:
        self._connection = RegistryConnection(address)
        self._proven = False

    @property
    def name(self) -> str:
        """Its addresses, for messages."""
        return self._connection.name

    async def schema(self, id: SchemaId) -> Schema | str:
        """The schema of an id, or why there is none that can be used; asked in a thread.

        Raises:
            RegistryError: the registry does not answer.
            ConfigError: what compiles or reads the schema is not installed.
        """
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[Schema | str] = loop.create_future()

        def settle(found: Schema | str | BaseException) -> None:
            if answered.done():  # nobody waits any more
                return
            if isinstance(found, BaseException):
                answered.set_exception(found)
            else:
                answered.set_result(found)

        def work() -> None:
            try:
                found: Schema | str | BaseException = self.ask(id)
            except Exception as error:  # noqa: BLE001 - carried over to who awaits it
                found = error
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(settle, found)

        in_background(work, "schema-registry")
        return await answered

    def ask(self, id: SchemaId) -> Schema | str:
        """The same, in this thread."""
        path = f"/schemas/ids/{id}" if isinstance(id, int) else f"/schemas/guids/{quote(id, safe='')}"
        found = self._document(path)
        if found is None:
            return f"the schema registry has no schema {id}"
        kind = found.get("schemaType") or "AVRO"
        try:
            if kind == "AVRO":
                texts = self._referenced(found)
                return Schema("AVRO", _text(found), tuple(texts.values()))
            if kind == "PROTOBUF":
                return Schema("PROTOBUF", files=self._protobuf(path, found))
        except (UnusableSchemaError, ProtoTextError) as error:
            return f"schema {id} cannot be used: {error}"
        return Schema(str(kind))

    def subjects(self) -> int:
        """How many subjects the registry has.

        Raises:
            RegistryError: it does not answer.
        """
        status, found = self._connection.get("/subjects")
        if status != 200 or not isinstance(found, list):
            raise RegistryError(f"{self.name} has no /subjects ({status}): is the path of the address right?")
        return len(found)

    # -------------------------------------------------------------- documents
    def _document(self, path: str) -> dict[str, Any] | None:
        """What the registry has under a path; None where it has nothing.

        Raises:
            RegistryError: it does not answer, or what answers is no registry.
        """
        status, found = self._connection.get(path)
        if status < 300:
            if not isinstance(found, dict) or not isinstance(found.get("schema"), str):
                raise RegistryError(f"{self.name} answers {path} with no schema: is it a schema registry?")
            self._proven = True
            return found
        code = found.get("error_code") if isinstance(found, dict) else None
        if (status == 404 and code in _ABSENT) or self._is_registry():
            return None
        raise RegistryError(f"{self.name} answers {status} to {path}: is the path of the address right?")

    def _is_registry(self) -> bool:
        """Whether a registry is at the address: it has answered with a schema, or says what types it knows."""
        if not self._proven:
            status, found = self._connection.get("/schemas/types")
            self._proven = status == 200 and isinstance(found, list)
        return self._proven

    def _referenced(self, document: dict[str, Any], query: str = "") -> dict[str, str]:
        """The schemas that one refers to, by the names under which it does, each after those it refers to itself."""
        found: dict[str, str] = {}
        entered: set[str] = set()

        def enter(document: dict[str, Any]) -> None:
            references = document.get("references") or ()
            for reference in references if isinstance(references, list) else ():
                try:
                    name, subject = str(reference["name"]), str(reference["subject"])
                    version = int(reference["version"])
                except (KeyError, TypeError, ValueError):
                    raise UnusableSchemaError(
                        "it refers to a schema without name, subject and version"
                    ) from None
                if name in entered:
                    continue
                entered.add(name)
                if len(entered) > MOST_REFERENCES:
                    raise UnusableSchemaError(f"it refers to over {MOST_REFERENCES} schemas")
                path = f"/subjects/{quote(subject, safe='')}/versions/{version}{query}"
                inner = self._document(path)
                if inner is None:
                    raise UnusableSchemaError(
                        f"the registry has no version {version} of {subject}, which it refers to"
                    )
                enter(inner)
                found[name] = _text(inner)

        enter(document)
        return found

    def _protobuf(self, path: str, document: dict[str, Any]) -> tuple[bytes, ...]:
        """The descriptors of a Protobuf schema: as the registry serializes them, else compiled from its text."""
        main = _descriptor(_text(self._document(path + _SERIALIZED) or {}), "anomalyd-main.proto")
        if main is not None:
            found = self._referenced(document, _SERIALIZED)
            files = {name: _descriptor(text, name) for name, text in found.items()}
            if all(each is not None for each in files.values()):
                return (*(each for each in files.values() if each is not None), main)
        return files_of_set(compile_proto(_text(document), self._referenced(document)))


def _text(document: dict[str, Any]) -> str:
    text = document.get("schema")
    return text if isinstance(text, str) else ""


def _descriptor(text: str, name: str) -> bytes | None:
    """The descriptor of a file that a registry has serialized; None where it answered with the file's text."""
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return file_named(content, name) if content else None


async def provide_schemas(
    schemas: MessageSchemas | None,
    items: Sequence[Record | Reading],
    registry: SchemaRegistry | None = None,
) -> None:
    """Fetch the schemas that records name and of which nothing is known yet; nothing is asked where there are none.

    Args:
        schemas: of the records' decoder (``Decoder.schemas``); None for one that reads no such messages.
        items: the records, before they are decoded.
        registry: is asked; None: a connection is made for these records.

    Raises:
        RegistryError: the registry does not answer.
        ConfigError: a file of its credentials, or a library, is missing.
    """
    if schemas is None or schemas.known is None:
        return
    for _ in range(schemas.rounds):
        wanted = schemas.wanted(items)
        if not wanted:
            return
        if registry is None:
            assert schemas.registry is not None
            registry = SchemaRegistry(schemas.registry)
        for id in wanted:
            schemas.known.put(id, await registry.schema(id))
