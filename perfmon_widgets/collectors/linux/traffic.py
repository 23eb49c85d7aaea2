"""What a process and its descendants read from disks and write to them, added up."""

from __future__ import annotations

import errno
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from perfmon_widgets.clocks import time
from perfmon_widgets.collectors.allowance import Allowance
from perfmon_widgets.collectors.linux.processes import PROC
from perfmon_widgets.collectors.linux.system_file import SystemFile, read_once
from perfmon_widgets.collectors.linux.tree import Member, Tree
from perfmon_widgets.collectors.rate import Rate

# The positions of the numbers in /proc/<pid>/io, each behind its name; new ones are only ever appended.
_READ, _WRITTEN = 9, 11


class Traffic:
    """Bytes that pass between the disks and a tree of processes; raises OSError if they are not counted.

    The count of a child that ends moves to the parent that waits for it, so the sum over all only grows.
    Children of another user cannot be read, and count as 0.
    """

    def __init__(self, tree: Tree, proc: Path = PROC) -> None:
        self._tree, self._proc = tree, proc
        self._root = SystemFile(tree.folder / "io")
        if b"write_bytes" not in self._root.read():
            raise OSError(errno.ENODATA, f"no write_bytes in {self._root.path}")
        self._rates = Rate(), Rate()
        self._newest = math.nan, math.nan
        self._known: set[int] = set()
        self._before = (0, 0)  # of children, before they were found
        self._read_at = 0.0  # seconds since boot
        self._reading = Allowance()

    def read(self) -> tuple[float, float]:
        """Return bytes per second read and written since the last reading, NaN in the first.

        If there are many children they are read less often, to limit the cost; meanwhile the last numbers are
        returned again. Raises OSError if the root can no longer be read.
        """
        members = self._tree.members
        if not members:
            self._known.clear()
            self._update(_counts(self._root.read()))
        elif self._reading.affordable():
            with self._reading:
                self._update(self._count(members))
        return self._newest

    def _update(self, counts: tuple[int, int]) -> None:
        clock = time.monotonic()
        read, written = counts[0] - self._before[0], counts[1] - self._before[1]
        self._newest = self._rates[0].update(read, clock), self._rates[1].update(written, clock)
        self._read_at = time.clock_gettime(time.CLOCK_BOOTTIME)

    def _count(self, members: Mapping[int, Member]) -> tuple[int, int]:
        for _ in range(3):
            before = self._tree.waited_for()
            children = {number: _counts_of(self._proc / str(number) / "io") for number in members}
            root = _counts(self._root.read())
            if self._tree.waited_for() == before:
                break  # no child ended meanwhile, so nothing is missing or counted twice
        new = children.keys() - self._known
        before_found = (children[n] for n in new if members[n].started <= self._read_at)
        self._before = _sum([self._before, *before_found])
        self._known = set(children)
        return _sum([root, *children.values()])


def _counts_of(path: Path) -> tuple[int, int]:
    try:
        return _counts(read_once(path))
    except OSError:  # it has ended, or belongs to another user
        return 0, 0


def _counts(content: bytes) -> tuple[int, int]:
    fields = content.split(None, _WRITTEN + 1)
    return int(fields[_READ]), int(fields[_WRITTEN])


def _sum(counts: Iterable[tuple[int, int]]) -> tuple[int, int]:
    read, written = zip(*counts, strict=True)
    return sum(read), sum(written)
