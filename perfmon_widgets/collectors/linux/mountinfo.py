"""The file systems that are mounted, as this process sees them."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from perfmon_widgets.collectors.linux.system_file import text_if_there

_OCTAL = re.compile(r"\\([01][0-7]{2})")


class Mount(NamedTuple):
    """One line of mountinfo."""

    number: str
    device: str
    """Major and minor number, ``8:1``."""
    root: str
    """The folder of the file system that is shown."""
    point: str
    """The folder where it is shown."""
    kind: str
    """The type of the file system, ``ext4``."""
    source: str
    """What is mounted: a device, a server."""
    options: str
    """The options of the file system; for control groups of version 1, their controllers."""


def mounts(proc: Path) -> tuple[Mount, ...]:
    """Return the mounts in the order of /proc/self/mountinfo; none where there is no such file.

    Names may hold any bytes: the OS kernel escapes only white space, the backslash and # in them.
    """
    return parse_mounts(text_if_there(proc / "self" / "mountinfo"))


@lru_cache(maxsize=1)  # the text is long, several modules parse it, and it rarely changes
def parse_mounts(mountinfo: str) -> tuple[Mount, ...]:
    """Return the mounts in the text of a mountinfo file."""
    found = []
    for line in mountinfo.split("\n"):
        head, dash, tail = line.partition(" - ")
        number, _, device, root, point, _ = _fields(head, 6)
        if dash:
            found.append(Mount(number, device, *map(_unescape, (root, point, *_fields(tail, 3)))))
    return tuple(found)


def _fields(text: str, count: int) -> list[str]:
    """Split a text into ``count`` fields, the last with the rest, empty ones where there are fewer."""
    fields = text.split(" ", count - 1)
    return fields + [""] * (count - len(fields))


def _unescape(field: str) -> str:
    """Replace the octal escapes of white space, the backslash and #."""
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), field)
