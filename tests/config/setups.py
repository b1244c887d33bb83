"""The smallest configuration, and how it is refused."""

from __future__ import annotations

from typing import Any

import pytest

from daemon.config import load
from daemon.errors import ConfigError


def document(stream: dict[str, Any] | None = None, **sections: Any) -> dict[str, Any]:
    """The smallest configuration, with changes."""
    return {"streams": [{"name": "s", "topics": ["t"], "sensors": ["a", "b"], **(stream or {})}], **sections}


def refused(found: dict[str, Any]) -> str:
    """The one line."""
    with pytest.raises(ConfigError) as raised:
        load(None, (), found)
    assert "\n" not in str(raised.value)
    return str(raised.value)
