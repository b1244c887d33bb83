"""Layer 1: bytes to a tree of dicts, lists, texts, numbers, booleans and None.

``decode_with`` compiles a ``DecodeRule`` to one function from bytes to a tree; ``decoders`` has the decoders by
name, each in a module of its own; those whose messages are of a schema (``framed``) find it in ``Schemas``, which
the shell fills. A decoder raises ``RejectedError`` for bytes that are not what it reads, and
knows nothing of assets, times and sensors: these are found by ``stream.extract``.
"""

from daemon.stream.decode.decoders import TreeDecoder, decode_with
from daemon.stream.decode.framing import SchemaId
from daemon.stream.decode.message_schemas import MessageSchemas
from daemon.stream.decode.schemas import Schema, Schemas

__all__ = ["MessageSchemas", "Schema", "SchemaId", "Schemas", "TreeDecoder", "decode_with"]
