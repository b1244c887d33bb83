"""Registries for the tests of their client."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.broker import NoBrokerError
from tests.conftest import without_broker
from tests.registry import Apicurio, Registry


@pytest.fixture
def registry() -> Iterator[Registry]:
    """A registry in this process, empty."""
    with Registry() as made:
        yield made


@pytest.fixture(scope="module")
def apicurio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apicurio]:
    """A real registry, for all tests of a module: use subjects of your own."""
    try:
        made = Apicurio(tmp_path_factory.mktemp("apicurio"))
        made.__enter__()
    except NoBrokerError as error:
        without_broker(str(error))
        raise
    try:
        yield made
    finally:
        made.__exit__()
