"""Layer 1: bytes to a tree of dicts, lists, texts, numbers, booleans and None.

``decode_with`` compiles a ``DecodeRule`` to one function from bytes to a tree; ``decoders`` has the decoders by
name, each in a module of its own. A decoder raises ``RejectedError`` for bytes that are not what it reads, and
knows nothing of sensors: these are found by ``stream.extract``. Where a record has several parts of which some
cannot be decoded, those alone are refused (``Arrival.refused``). ``Births`` is what a partition must remember.
"""

from daemon.stream.decode.arrival import Arrival, TreeDecoder
from daemon.stream.decode.births import Births, KnownBirth
from daemon.stream.decode.decoders import decode_with, has_memory, inner_bytes

__all__ = ["Arrival", "Births", "KnownBirth", "TreeDecoder", "decode_with", "has_memory", "inner_bytes"]
