"""The interfaces by which a network namespace is connected with the outside, so that no byte counts twice."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path

from perfmon_widgets.collectors.linux.system_file import read_if_there, text_if_there

_LOOPBACK = "lo"
# The type of an interface that carries Ethernet frames, such as a network card or one end of a veth pair. A
# tunnel, whose packets pass another interface once more, has another type.
_ETHERNET = "1"


def outside(names: Collection[str], process: Path, sys: Path) -> Sequence[str]:
    """Return the interfaces whose traffic adds up to that between the namespace and the outside.

    On a machine these are its network cards: what passes a bond, a bridge, a VLAN, a tunnel or a veth pair
    passes a card, too. A container usually has no card: there its ends of veth pairs count. In a container
    with cards, a veth with the default route counts, too. Where /sys shows nothing, all but the loopback do.

    ``process`` is the folder in /proc of a process in the namespace.
    """
    folders = {name: sys / "class" / "net" / name for name in names if name != _LOOPBACK}
    cards = {name for name, folder in folders.items() if _exists(folder / "device")}
    ends = [
        name
        for name, folder in folders.items()
        if name not in cards and not _exists(folder / "master") and not _is_upper(folder)
    ]
    veths = [name for name in ends if text_if_there(folders[name] / "type") == _ETHERNET]
    if not cards:
        return veths or ends
    # A virtual function counts for the card that it belongs to (Azure).
    own = [name for name in cards if _master(folders[name]) not in cards]
    default = _with_default_route(process)
    return sorted([*own, *(name for name in veths if name in default)])


def _exists(path: Path) -> bool:
    return os.path.lexists(path)


def _is_upper(folder: Path) -> bool:
    """Whether an interface passes its packets on to others of the namespace: a bond, a bridge, a VLAN."""
    try:
        return any(name.startswith("lower_") for name in os.listdir(folder))  # noqa: PTH208 - names are enough
    except OSError:
        return False


def _master(folder: Path) -> str:
    try:
        return Path(os.readlink(folder / "master")).name  # noqa: PTH115 - the text is enough
    except OSError:
        return ""


def _with_default_route(process: Path) -> set[str]:
    """Return the interfaces that have a default route, in IPv4 or IPv6."""
    routes = [line.split() for line in read_if_there(process / "net" / "route").split(b"\n")[1:]]
    found = {fields[0] for fields in routes if len(fields) > 7 and fields[1] == fields[7] == b"00000000"}
    routes = [line.split() for line in read_if_there(process / "net" / "ipv6_route").split(b"\n")]
    found |= {fields[9] for fields in routes if len(fields) > 9 and fields[:2] == [b"0" * 32, b"00"]}
    return {os.fsdecode(name) for name in found}
