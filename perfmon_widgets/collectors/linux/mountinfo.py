"""What is mounted where, as this process sees it."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from perfmon_widgets.collectors.linux.system_file import text_if_there

_OCTAL = re.compile(r"\\([01][0-7]{2})")


class Mount(NamedTuple):
    """One line of mountinfo, in which a file system is mounted."""

    number: str
    device: str
    """Two numbers, ``8:1``."""
    root: str
    """What of the file system is shown."""
    point: str
    """Where it is shown."""
    kind: str
    source: str
    options: str
    """Those of the file system: the controllers of a hierarchy of version 1."""


def mounts(proc: Path) -> tuple[Mount, ...]:
    """What is mounted where, in the order of /proc/self/mountinfo; empty where there is no such file.

    Raises nothing, whatever the names are: the OS kernel marks white space in them and passes all other
    bytes through.
    """
    return mounts_in(text_if_there(proc / "self" / "mountinfo"))


@lru_cache(maxsize=1)  # it is long, asked for by several, and seldom another than before
def mounts_in(mountinfo: str) -> tuple[Mount, ...]:
    """The same of a text that has been read already."""
    found = []
    for line in mountinfo.split("\n"):
        head, dash, tail = line.partition(" - ")
        number, _, device, root, point, _ = _fields(head, 6)
        if dash:
            found.append(Mount(number, device, *map(_unescape, (root, point, *_fields(tail, 3)))))
    return tuple(found)


def _fields(text: str, count: int) -> list[str]:
    """The first fields of a text, the last with all that follows; empty ones where there are fewer."""
    fields = text.split(" ", count - 1)
    return fields + [""] * (count - len(fields))


def _unescape(field: str) -> str:
    """A field of mountinfo, where white space, the backslash and # stand as octal numbers."""
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), field)
