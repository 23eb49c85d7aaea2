"""OomKills: how many programs the OS kernel has killed because memory ran out (OOM, out of memory)."""

from __future__ import annotations

import math
from pathlib import Path

from perfmon_widgets.clocks import time
from perfmon_widgets.collectors.linux.cgroups import groups
from perfmon_widgets.collectors.linux.processes import PROC
from perfmon_widgets.collectors.linux.system_file import SystemFile, read_if_there, text_if_there

# The counter of one control group: version 2 first, then version 1.
_OF_GROUP = ("memory.events", "memory.oom_control")
# The file of the machine's counter is long: the seconds between two readings, at least.
_SECONDS = 30.0


class OomKills:
    """The count of OOM kills, of this process's control group if that has one, else of the machine.

    The group of the program that is killed counts the kill, whether its own limit was reached, that of a
    group above it, or the end of the machine's memory.
    """

    def __init__(self, proc: Path = PROC) -> None:
        found = groups(
            "memory", text_if_there(proc / "self" / "cgroup"), text_if_there(proc / "self" / "mountinfo")
        )
        own = found.folders[0] / _OF_GROUP[2 - found.version] if found.folders and found.is_own else None
        self.of_machine = own is None or _count(read_if_there(own)) is None
        """Whether the count is the machine's, to which every other program adds, too."""
        self.path = proc / "vmstat" if own is None or self.of_machine else own
        """The file that holds the count."""
        self._file: SystemFile | None = None
        if count_in(self.path) is not None:
            self._file = SystemFile(self.path)
        self._count, self._due = math.nan, -math.inf

    def read(self) -> float:
        """Return the count; NaN where the OS kernel has none. The machine's may be 30 seconds old."""
        if self._file is None:
            return math.nan
        if self.of_machine:
            now = time.monotonic()
            if now < self._due:
                return self._count
            self._due = now + _SECONDS
        count = _count(self._file.read())
        self._count = math.nan if count is None else float(count)
        return self._count


def count_in(path: Path) -> int | None:
    """Return the count in a file that ``OomKills`` named; None if it cannot be read."""
    return _count(read_if_there(path))


def _count(content: bytes) -> int | None:
    _, found, following = (b"\n" + content).partition(b"\noom_kill ")
    return int(following.split(None, 1)[0]) if found else None
