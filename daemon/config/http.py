"""The section ``http``: where the admin port is, and what may be done on it."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from daemon.config.notation import HostName, Name, is_loopback
from daemon.config.section import Section


class HttpSection(Section):
    """The admin port: health, metrics and the page."""

    host: Name = "127.0.0.1"
    port: int = Field(default=9464, ge=0, le=65535)
    allowed_hosts: list[HostName] = Field(default_factory=list)
    control: bool = False
    control_token_file: Path | None = None

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        if self.control and self.control_token_file is None and not is_loopback(self.host):
            raise ValueError(
                f"control on {self.host}, which other machines reach, needs control_token_file: a file with the token"
                " that the page asks for"
            )
        return self
