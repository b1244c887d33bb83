"""Plaintext leaves this machine only where the operator has allowed it."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.adapters.kafka import KafkaSettings
from daemon.adapters.kafka.addresses import servers
from daemon.adapters.kafka.security import connection
from daemon.config.notation import is_loopback
from daemon.errors import ConfigError

HERE = [
    "localhost",
    "LOCALHOST:9092",
    "127.0.0.1:9092",
    "127.255.255.254",
    "::1",
    "[::1]:9092",
    "[::ffff:127.0.0.1]:9092",
    " localhost:9092 , 127.0.0.2:9093 ",
]
ELSEWHERE = [
    "kafka:9092",
    "localhost.evil.example:9092",
    "localhost.:9092",
    "127.0.0.1.evil.example:9092",
    "127.1:9092",
    "2130706433:9092",
    "0x7f000001:9092",
    "0.0.0.0:9092",
    "[::]:9092",
    "::1:9092",  # an address without a port: without brackets all of it is one
    "[::ffff:10.0.0.1]:9092",
    "128.0.0.1:9092",
    "10.0.0.1",
    "localhost:9092,kafka:9092",
    "no-such-host.invalid:9092",
]
NO_ADDRESS = [
    "a:b:c",
    "localhost:",
    ":9092",
    ",",
    "localhost:9092,",
    "[::1",
    "[localhost:9092",
    "localhost:0",
    "localhost:65536",
    "localhost:-1",
    "kafka 1:9092",
    "PLAINTEXT://localhost:9092",
    "me@localhost:9092",
    "localhost:9092:1",
]


@pytest.mark.parametrize("address", HERE)
def test_this_machine_needs_no_leave(address: str) -> None:
    assert connection(KafkaSettings(address))["security_protocol"] == "PLAINTEXT"


@pytest.mark.parametrize("address", ELSEWHERE)
def test_plaintext_to_another_machine_needs_leave(address: str) -> None:
    with pytest.raises(ConfigError, match=r"unencrypted to .*kafka\.allow_plaintext: true"):
        connection(KafkaSettings(address))
    scram = KafkaSettings(
        address,
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="SCRAM-SHA-256",
        username="u",
        password="p",
    )
    with pytest.raises(ConfigError, match=r"kafka\.allow_plaintext: true"):
        connection(scram)
    assert connection(KafkaSettings(address, allow_plaintext=True))
    assert connection(KafkaSettings(address, security_protocol="SSL"))


@pytest.mark.parametrize(("mechanism", "secret"), [("PLAIN", "password"), ("OAUTHBEARER", "token")])
@pytest.mark.parametrize("address", ["localhost:9092", "kafka:9092"])
def test_no_leave_lets_a_secret_go_in_the_clear(mechanism: str, secret: str, address: str) -> None:
    settings = KafkaSettings(
        address,
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism=mechanism,
        allow_plaintext=True,
        username="u",
        password="p",
    )
    with pytest.raises(ConfigError, match=f"sends the {secret} in the clear"):
        connection(settings)


@pytest.mark.parametrize("address", NO_ADDRESS)
def test_what_is_no_address_is_named(address: str) -> None:
    with pytest.raises(ConfigError, match=r"^kafka\.bootstrap_servers .* cannot be used: "):
        connection(KafkaSettings(address))


@given(st.text(max_size=40))
def test_whatever_is_written_is_taken_apart_or_refused(text: str) -> None:
    with contextlib.suppress(ConfigError):
        for host, port in servers(text):
            assert host
            assert 1 <= port <= 65535
            assert is_loopback(host) in (True, False)
