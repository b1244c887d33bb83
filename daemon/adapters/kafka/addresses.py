"""The addresses of Kafka: parsing ``bootstrap_servers``, and whether a host is this machine.

DNS is not queried: what a name resolves to can change between this check and the connection, so a name other
than ``localhost`` counts as another machine.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

from aiokafka.conn import collect_hosts

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
        if not re.fullmatch(r"[^\s/@\[\],]+", host) or (":" in host and not _address(host)):
            raise ConfigError(
                f"kafka.bootstrap_servers {bootstrap_servers!r} cannot be used: {entry.strip()!r} is not HOST:PORT"
            )
        if not 1 <= port <= 65535:
            raise ConfigError(
                f"kafka.bootstrap_servers {bootstrap_servers!r} cannot be used: port {port} is not 1 to 65535"
            )
        found.append((host, port))
    return found


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, without DNS.

    ``localhost`` in any case, 127.0.0.0/8, also as IPv4 in IPv6, and ::1. Other spellings that some resolvers
    accept (``127.1``, ``2130706433``, ``localhost.``) do not count.
    """
    if host.lower() == "localhost":
        return True
    address = _address(host)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address is not None and address.is_loopback


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def elsewhere(hosts: Iterable[str]) -> str | None:
    """The first host that is not this machine; None where all are."""
    return next((host for host in hosts if not is_loopback(host)), None)
