"""``Section``: what all parts of the configuration have in common."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationInfo, field_validator

MAX_ROWS = 100_000_000
"""The most rows to learn from: more than any machine can hold."""


class Section(BaseModel):
    """A part of the configuration: immutable, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth(cls, value: Any, about: ValidationInfo) -> Any:
        """Refuse true and false where no truth is asked for: pydantic takes them for 1 and 0.

        A key with a notation of its own says itself what it reads.
        """
        known = cls.model_fields[about.field_name or ""]
        if known.annotation is bool or any(isinstance(one, BeforeValidator) for one in known.metadata):
            return value
        if any(isinstance(one, bool) for one in (value if isinstance(value, list | tuple) else [value])):
            raise ValueError("true and false have no meaning here; YAML reads yes, no, on and off as them")
        return value
