"""The addresses of Kafka: parsing ``bootstrap_servers``, and which of them are on another machine."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

from aiokafka.conn import collect_hosts

from daemon.config.notation import is_loopback
from daemon.errors import ConfigError

PLAINTEXT_PROTOCOLS = ("PLAINTEXT", "SASL_PLAINTEXT")


def servers(bootstrap_servers: str) -> list[tuple[str, int]]:
    """Host and port of each server, in the order written, parsed as aiokafka parses them.

    Raises:
        ConfigError: an entry is empty, or is not HOST, HOST:PORT or [IPv6]:PORT.
    """
    found = []
    for entry in bootstrap_servers.split(","):
        try:
            ((host, port, _),) = collect_hosts(entry, randomize=False)
            port = -1 if ":-" in entry else port  # aiokafka reads a negative port as the default one
        except ValueError:
            host, port = "", 0
        # aiokafka refuses `[::1` and `a:b:c`; `http://x:1` and `a b:1` would fail at every connection.
        if not re.fullmatch(r"[^\s/@\[\],]+", host) or (":" in host and not _is_address(host)):
            raise ConfigError(
                f"kafka.bootstrap_servers {bootstrap_servers!r} cannot be used: {entry.strip()!r} is not HOST:PORT"
            )
        if not 1 <= port <= 65535:
            raise ConfigError(
                f"kafka.bootstrap_servers {bootstrap_servers!r} cannot be used: port {port} is not 1 to 65535"
            )
        found.append((host, port))
    return found


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def elsewhere(hosts: Iterable[str]) -> str | None:
    """The first host that is not this machine; None where all are."""
    return next((host for host in hosts if not is_loopback(host)), None)
