"""Damage for what is read from topics and folders: of bytes, and of the structure that bytes hold."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

ODD: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    7,
    10**11,
    2**31,
    2**62,
    2**63 - 1,
    -(2**63),
    2**64 - 1,
    0.5,
    -0.0,
    1e308,
    -1e308,
    "",
    "a",
    "x" * 5_000,
    "9" * 5_000,
    "../up",
    "a/b",
    "\x00",
    "\ud7ff",
    [],
    {},
    [[[[[]]]]],
    {"a": 1},
)
"""Values that a field may turn into, wherever they are and whatever the field is."""
ODD_BYTES: tuple[bytes, ...] = (
    b"",
    b"\x00",
    b"\x00" * 7,
    b"\x00" * 8,
    b"\xff" * 8,
    b"\x7f" * 64,
    b"\xf8\x7f" * 4,
)


def bytewise(rng: random.Random, data: bytes) -> bytes:
    """Flip bits, cut off, cut out, insert, repeat or swap pieces."""
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        n = len(data)
        at, to = sorted((rng.randrange(n + 1), rng.randrange(n + 1)))
        match rng.randrange(7):
            case 0 if n:
                flipped = bytearray(data)
                flipped[min(at, n - 1)] ^= 1 << rng.randrange(8)
                data = bytes(flipped)
            case 1:
                data = data[:at]
            case 2:
                data = data[:at] + data[to:]
            case 3:
                data = data[:at] + rng.randbytes(rng.choice([1, 2, 8, 300])) + data[at:]
            case 4:
                data = data[:to] + data[at:]
            case 5:
                middle = (at + to) // 2
                data = data[:at] + data[middle:to] + data[at:middle] + data[to:]
            case _:
                data = data[:at] + b"[" * rng.choice([1, 50, 5_000]) + data[at:]
    return data


def structured(rng: random.Random, value: Any, *, binary: bool = False) -> Any:
    """The same nested value with one place, anywhere in it, changed, removed, repeated or exchanged.

    Args:
        rng: decides.
        value: of dicts, lists and scalars; is not changed.
        binary: whether byte strings may come in (msgpack has them, JSON has not).
    """
    places: list[tuple[Any, Any]] = []
    copy = _copied(value, places)
    if not places:
        return rng.choice(ODD)
    home, key = rng.choice(places)
    old = home[key]
    changes: list[Callable[[], Any]] = [lambda: _odd(rng, binary)] * 4
    if isinstance(old, bool):
        changes += [lambda: not old]
    elif isinstance(old, int):
        numbers = (-old, old + 1, old - 1, old * 2**40)
        changes += [lambda: max(min(rng.choice(numbers), 2**64 - 1), -(2**63))] * 4 + [lambda: float(old)]
    elif isinstance(old, float):
        changes += [
            lambda: -old,
            lambda: old * 1e300,
            lambda: int(old) if abs(old) < 1e15 else 0,
            lambda: str(old),
        ]
    elif isinstance(old, str):
        changes += [lambda: old[1:], lambda: old * 2, lambda: old.encode() if binary else old[::-1]]
    elif isinstance(old, bytes):
        changes += [lambda: bytewise(rng, old)] * 6 + [lambda: old[:-8], lambda: old * 2]
    elif isinstance(old, list):
        changes += [lambda: old[:-1], lambda: old + old, lambda: old[::-1], lambda: [*old, _odd(rng, binary)]]
    elif isinstance(old, dict):
        changes += [lambda: list(old.values()), lambda: {**old, "extra": _odd(rng, binary)}]
    match rng.randrange(8):
        case 0:
            if isinstance(home, dict):
                del home[key]
            else:
                home.pop(key)
        case 1:
            other, there = rng.choice(places)
            home[key], other[there] = other[there], home[key]
            if _cyclic(copy):
                return structured(rng, value, binary=binary)
        case _:
            home[key] = rng.choice(changes)()
    return copy


def _odd(rng: random.Random, binary: bool) -> Any:
    return rng.choice(ODD + ODD_BYTES if binary else ODD)


def _copied(value: Any, places: list[tuple[Any, Any]]) -> Any:
    if isinstance(value, dict):
        made: Any = {k: _copied(v, places) for k, v in value.items()}
        places += [(made, k) for k in made]
        return made
    if isinstance(value, list | tuple):
        made = [_copied(v, places) for v in value]
        places += [(made, i) for i in range(len(made))]
        return made
    return value


def _cyclic(value: Any, above: tuple[int, ...] = ()) -> bool:
    if id(value) in above:
        return True
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(_cyclic(v, (*above, id(value))) for v in inner)
