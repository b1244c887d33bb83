"""The connection settings."""

from __future__ import annotations

from daemon.adapters.kafka import KafkaSettings


def test_a_password_is_not_shown() -> None:
    assert "hush" not in repr(KafkaSettings(password="hush"))
