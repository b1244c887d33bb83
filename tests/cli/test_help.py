"""``--help``: what stands for a value is said in one way."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from daemon.cli.program import app

WORDS = {
    *("FILE", "DIR", "BUNDLE", "HTML", "TEST", "SAMPLE", "HELD_OUT"),  # what is read or written
    *("KEY", "VALUE", "NAME", "TEXT", "N", "SHARE", "TIME", "DURATION", "ZONE", "RRULE", "URL", "HOST", "PORT"),
    *("STREAM", "TOPIC", "ASSET", "SENSOR", "COL", "KIND", "FIELD", "PRESET", "FINGERPRINT", "ID", "V", "A", "B"),
    *("D", "SD"),  # a dimension of the latent space, and its standard deviations
}  # fmt: skip
"""All words that stand for a value; a choice is written out in small letters."""


def values(command: Any, name: str = "") -> Iterator[tuple[str, str | None]]:
    """The options and arguments of a command and of those below it that take a value, each with what stands for it."""
    for one in command.params:
        if not getattr(one, "is_flag", False) and one.name not in ("help", "version"):
            yield f"{name} {one.opts[0]}", one.metavar
    for called, below in getattr(command, "commands", {}).items():
        yield from values(below, f"{name} {called}")


EVERY = list(values(typer.main.get_command(app)))


def test_there_are_options_to_look_at() -> None:
    assert len(EVERY) > 100


@pytest.mark.parametrize(("option", "metavar"), EVERY)
def test_what_stands_for_a_value_is_a_word_in_capitals(option: str, metavar: str | None) -> None:
    assert metavar is not None, "typer's own word for a type: <path>, TEXT, INTEGER"
    if not re.fullmatch(r"[a-z_|-]+", metavar):  # choices
        assert set(re.findall(r"\w+", metavar.replace("N/s", "N"))) <= WORDS
