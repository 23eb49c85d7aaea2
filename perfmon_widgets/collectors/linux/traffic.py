"""What a process and its descendants read from disks and write to them, added up."""

from __future__ import annotations

import errno
import math
from collections.abc import Iterable, Mapping

from perfmon_widgets.clocks import time
from perfmon_widgets.collectors.allowance import Allowance
from perfmon_widgets.collectors.linux.member import Member
from perfmon_widgets.collectors.linux.system_file import SystemFile
from perfmon_widgets.collectors.linux.tree import ROUNDS, Tree
from perfmon_widgets.collectors.rate import Rate

# The positions of the numbers in /proc/<pid>/io, each behind its name; new ones are only ever appended.
_READ, _WRITTEN = 9, 11


class Traffic:
    """Bytes that pass between the disks and a tree of processes; raises OSError if they are not counted.

    The count of a descendant that ends moves to the parent that waits for it. If none of the tree does, it
    stays as it was last read. So the sum over all only grows. Descendants of another user cannot be read, and
    count as 0.
    """

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._root = SystemFile(tree.folder / "io")
        if b"write_bytes" not in self._root.read():
            raise OSError(errno.ENODATA, f"no write_bytes in {self._root.path}")
        self._rates = Rate(), Rate()
        self._newest = math.nan, math.nan
        self._known: dict[int, tuple[Member, tuple[int, int]]] = {}
        # Counts of those that none of the tree has waited for, less those from before the first reading.
        self._lost = (0, 0)
        self._most = (0, 0)  # the largest sums so far
        self._reading = Allowance()

    def read(self) -> tuple[float, float]:
        """Return bytes per second read and written since the last reading, NaN in the first.

        If there are many children they are read less often, to limit the cost; meanwhile the last numbers are
        returned again. Raises OSError if the root can no longer be read.
        """
        members = self._tree.members
        if not members and not self._known:
            self._update(_counts(self._root.read()))
        elif self._reading.affordable():
            with self._reading:
                self._update(self._count(members))
        return self._newest

    def _update(self, counts: tuple[int, int]) -> None:
        clock = time.monotonic()
        read, written = counts[0] + self._lost[0], counts[1] + self._lost[1]
        if read < self._most[0] or written < self._most[1]:
            # The parent of one that has ended ignores SIGCHLD, and so does not have its count.
            missing = max(self._most[0] - read, 0), max(self._most[1] - written, 0)
            self._lost = _sum([self._lost, missing])
            read, written = read + missing[0], written + missing[1]
        self._most = read, written
        self._newest = self._rates[0].update(read, clock), self._rates[1].update(written, clock)

    def _count(self, members: Mapping[int, Member]) -> tuple[int, int]:
        """Return the counts of all, read so that each counts once, as Tree reads CPU time."""
        gone: set[int] = set()
        for _ in range(ROUNDS):
            root = _counts(self._root.read())
            counts = {number: _counts_of(member) for number, member in members.items()}
            before, gone = gone, {number for number, count in counts.items() if count is None}
            if gone == before:
                break  # none has ended meanwhile, so nothing is missing or counted twice
        known = {number: (members[number], count) for number, count in counts.items() if count is not None}
        ended = {number: each for number, each in self._known.items() if not _is_in(known, number, each[0])}
        above = {number: member for number, (member, _) in ended.items()}
        lost = [count for member, count in ended.values() if self._tree.heir(member, above) is None]
        early = [
            (-count[0], -count[1])
            for number, (member, count) in known.items()
            if member.early and not _is_in(self._known, number, member)
        ]
        self._lost = _sum([self._lost, *lost, *early])
        self._known = known
        return _sum([root, *(count for _, count in known.values())])


def _is_in(known: Mapping[int, tuple[Member, tuple[int, int]]], number: int, member: Member) -> bool:
    """Return whether this process, and not another one with its number, is known."""
    return number in known and known[number][0] is member


def _counts_of(member: Member) -> tuple[int, int] | None:
    """Return the counts of a descendant; None if it has ended."""
    try:
        return _counts(member.read_traffic())
    except PermissionError:  # it belongs to another user
        return 0, 0
    except OSError:
        return None


def _counts(content: bytes) -> tuple[int, int]:
    fields = content.split(None, _WRITTEN + 1)
    return int(fields[_READ]), int(fields[_WRITTEN])


def _sum(counts: Iterable[tuple[int, int]]) -> tuple[int, int]:
    read, written = zip(*counts, strict=True)
    return sum(read), sum(written)
