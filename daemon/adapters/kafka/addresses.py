"""Where Kafka is: the servers that are named, and whether they are on this machine.

Nothing here asks DNS. What a name resolves to can differ from minute to minute and from this
check to the connection, so a name other than ``localhost`` counts as another machine.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

from aiokafka.conn import collect_hosts

from daemon.errors import ConfigError

PLAINTEXT_PROTOCOLS = ("PLAINTEXT", "SASL_PLAINTEXT")


def servers(bootstrap_servers: str) -> list[tuple[str, int]]:
    """Host and port of each server, in the order written, as aiokafka will take them apart.

    Raises:
        ConfigError: an entry is empty, or is not HOST, HOST:PORT or [IPv6]:PORT.
    """
    found = []
    for entry in bootstrap_servers.split(","):
        try:
            ((host, port, _),) = collect_hosts(entry, randomize=False)
            port = -1 if ":-" in entry else port  # aiokafka takes a negative port for the default one
        except ValueError:
            host, port = "", 0
        # `[::1` and `a:b:c` are errors of aiokafka's, `http://x:1` and `a b:1` would fail at every connection.
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
    """Whether a host is this machine, whatever DNS says.

    ``localhost`` in any case, 127.0.0.0/8, ::1, and the latter as IPv4 in IPv6. Other spellings that
    some resolvers take for these (``127.1``, ``2130706433``, ``localhost.``) are not counted.
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
