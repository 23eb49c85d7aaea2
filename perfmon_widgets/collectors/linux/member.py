"""Member: one process of a tree, as its file /proc/<pid>/stat describes it."""

from __future__ import annotations

import os
from pathlib import Path

from perfmon_widgets.collectors.linux.system_file import SystemFile, read_short

# Windows imports this module but has no sysconf.
PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0
# CPU time is added up in whole microseconds: a sum of floats may shrink by rounding, as if time were lost.
TICK = 10**6 // os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 0


# The flag of a process that was forked and has not executed a program since.
_FORKED = 0x40


class Member:
    """A process that is read again and again; raises OSError if it has ended.

    ``kept_open`` says whether its files stay open, which halves the cost of reading them. They cannot of all:
    hundreds of descendants would use up this process's limit of open files.
    """

    def __init__(self, folder: Path, *, kept_open: bool = False) -> None:
        self.folder = folder
        self.kept_open = kept_open
        self._path = f"{folder}/stat"
        self._statistics = SystemFile(Path(self._path)) if kept_open else None
        self._traffic: SystemFile | None = None
        self._content = self._identity = b""
        self.ending = True
        self.read()
        if self.ending:
            raise ProcessLookupError(f"{self._path} has ended")
        self.changed = True
        """Whether anything was different in a reading since this was last set to False."""
        self.settle()
        self.started = (int(self._identity) + 1) * TICK / 1e6
        """Seconds since boot by which it had started."""
        self.early = False
        """Whether it had started before the first reading of the tree and was found later."""

    def read(self) -> None:
        """Read everything that changes; raises ProcessLookupError or FileNotFoundError if it has ended.

        While its parent takes over its CPU time, ``ending`` is True and the numbers stay as they were.
        """
        try:
            content = read_short(self._path) if self._statistics is None else self._statistics.read()
        except PermissionError:  # it belongs to another user now, and /proc hides it (hidepid)
            content = self._content
        if content == self._content:  # it has not run, as most workers of a pool most of the time
            return
        self.changed = True
        self._content = content
        fields = fields_of(content)
        if fields[3] == b"-1":  # its parent has its time, and it will be gone in a moment
            raise ProcessLookupError(f"{self._path} has ended")
        if self._identity not in (b"", fields[19]):
            raise ProcessLookupError(f"{self._path} is another process now")
        self.ending = fields[0] in b"Xx"
        if self.ending:
            return
        self._identity = fields[19]
        self.parent = int(fields[1])
        self.session = int(fields[3])
        self.forked = bool(int(fields[6]) & _FORKED)
        """Whether it still runs the program that it was forked from, so that the two share memory."""
        self.faults = int(fields[7])
        """How many page faults it has had that needed no reading from a disk."""
        self.waited_for = (int(fields[13]) + int(fields[14])) * TICK
        """CPU time in µs of its children that have ended and that it has waited for."""
        self.used = (int(fields[11]) + int(fields[12])) * TICK + self.waited_for
        """CPU time in µs, ``waited_for`` included."""
        self.resident = float(int(fields[21]) * PAGE)
        """Bytes in memory, those that it shares included."""

    def read_traffic(self) -> bytes:
        """Return its file ``io``; raises OSError if it has ended or belongs to another user."""
        if self._traffic is None:
            path = self.folder / "io"
            if not self.kept_open:
                return read_short(path)
            self._traffic = SystemFile(path)
        return self._traffic.read()

    def settle(self) -> None:
        """Keep the present numbers as those of the last consistent reading of the whole tree."""
        self.settled_used, self.settled_waited_for = self.used, self.waited_for


def fields_of(stat: bytes, count: int = 22) -> list[bytes]:
    """Return ``count`` fields of ``/proc/<pid>/stat`` from the third on, and the rest as one.

    The second is the name of the program in brackets, which may contain anything.
    """
    return stat.rpartition(b")")[2].split(None, count)
