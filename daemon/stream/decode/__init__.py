"""Layer 1: bytes to a tree of dicts, lists, texts, numbers, booleans and None.

``decode_with`` compiles a ``DecodeRule`` to one function from bytes to a tree; ``decoders`` has the decoders by
name, each in a module of its own; those whose messages are of a schema (``framed``) find it in ``Schemas``, which
the shell fills. A decoder raises ``RejectedError`` for bytes that are not what it reads, and
knows nothing of sensors: these are found by ``stream.extract``. Where a record has several parts of which some
cannot be decoded, those alone are refused (``Arrival.refused``). Texts within a tree that are messages themselves are
decoded by ``inner``. ``Births`` is what a partition must remember.
"""

from daemon.stream.decode.arrival import Arrival, TreeDecoder
from daemon.stream.decode.births import Births, KnownBirth
from daemon.stream.decode.decoders import decode_with, has_memory
from daemon.stream.decode.framing import SchemaId
from daemon.stream.decode.inner import compile_inner
from daemon.stream.decode.message_schemas import MessageSchemas
from daemon.stream.decode.schemas import Schema, Schemas

__all__ = [
    "Arrival",
    "Births",
    "KnownBirth",
    "MessageSchemas",
    "Schema",
    "SchemaId",
    "Schemas",
    "TreeDecoder",
    "compile_inner",
    "decode_with",
    "has_memory",
]
