"""The stream that drills are compared with."""

from __future__ import annotations

from dataclasses import replace

from tests.model.conftest import SPEC

STREAM = replace(SPEC, topics=("pumps",), silent_after_ns=20 * SPEC.period_ns, max_gap_ns=20 * SPEC.period_ns)
