"""Whether a request's Host header names this server."""

from __future__ import annotations

import ipaddress
import re
import socket

_HOST = re.compile(r"(?:\[(?P<address>[0-9a-f:.]+)\]|(?P<name>[^:\[\]]+))(?::\d+)?")


def is_own_name(header: str, listening: str) -> bool:
    """Whether a Host header is the name on which the server listens, localhost, or an address.

    Another name means an attack: the name of a foreign web page was made to resolve to this machine (DNS
    rebinding). An address is safe, because it is not resolved.
    """
    parts = _HOST.fullmatch(header.lower())
    if parts is None:
        return False
    name = parts["address"] or parts["name"]
    if name in ("localhost", listening.lower()):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name == socket.gethostname().lower() and not _is_loopback(listening)
    return address.is_loopback or not _is_loopback(listening)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
