"""Layer 1: bytes to a tree of dicts, lists, texts, numbers, booleans and None.

``decode_with`` compiles a ``DecodeRule`` to one function from bytes to a tree; ``decoders`` has the decoders by
name, each in a module of its own. A decoder raises ``RejectedError`` for bytes that are not what it reads, and
knows nothing of assets, times and sensors: these are found by ``stream.extract``.
"""

from daemon.stream.decode.decoders import TreeDecoder, decode_with

__all__ = ["TreeDecoder", "decode_with"]
