"""What the tests of the pages share: one browser per module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.browser import Page, browser


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with browser() as page:
        yield page
