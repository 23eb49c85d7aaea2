"""A process and its descendants: their CPU time and memory, added up."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from perfmon_widgets.clocks import time
from perfmon_widgets.collectors.allowance import Allowance
from perfmon_widgets.collectors.linux.member import TICK, Member, fields_of
from perfmon_widgets.collectors.linux.memory_of_tree import MemoryOfTree
from perfmon_widgets.collectors.linux.newcomers import Newcomers
from perfmon_widgets.collectors.linux.processes import PROC, own_number
from perfmon_widgets.collectors.linux.system_file import SystemFile
from perfmon_widgets.collectors.rate import Rate

if sys.platform != "win32":  # where this module is imported, but not used
    import resource

ROUNDS = 5
"""The most times that the descendants are read, in search of a moment in which none of them ends."""
# Of how many descendants the files stay open: two of each.
_KEPT_OPEN = 16
# What the OS kernel's rounding may take from the CPU time of two processes, in µs.
_ROUNDING = 4 * TICK


class Tree:
    """A process (``root``: its number in /proc) and its descendants; raises OSError if it is not found.

    A process becomes a member in the first reading that finds it alive, and stays one when its parent ends.
    One whose parent ended before any reading is found by its session, if the leader of that session is the
    root, as a Jupyter kernel is, or a member, or was one and members still have the session. It is missed if
    it has begun a session of its own.

    CPU time is conserved. A process's time consists of its own and of that of the children that it has waited
    for, so the time of one that ends moves to its parent, and the sum over the tree stays. What no process
    of the tree has waited for is added to that sum: the time of one that outlived its parent, or whose parent
    ignores SIGCHLD.
    """

    def __init__(self, root: int, proc: Path = PROC) -> None:
        self._root, self._proc = root, proc
        self.is_this_process = root == own_number(proc)
        self.folder = proc / ("self" if self.is_this_process else str(root))
        self._statistics = None if self.is_this_process else SystemFile(self.folder / "stat")
        self.memory = MemoryOfTree(root, self.folder, is_this_process=self.is_this_process)
        self.members: dict[int, Member] = {}
        """The descendants by their number in /proc, parents before their children; not to be changed."""
        self.passed = math.nan
        """Seconds on the monotonic clock between the last two readings."""
        self._newcomers = Newcomers(root, proc)
        # Members that have ended, and whose sessions others still have: no new process gets such an id.
        self._former_leaders: set[int] = set()
        # So 64 processes can be read 5 times a second.
        self._reading = Allowance(shares=4)
        self._rate = Rate()
        self._at = math.nan
        self._used = 0.0  # CPU seconds of all; never decreases
        self._began = time.clock_gettime(time.CLOCK_BOOTTIME)
        self._waited_for = 0  # by the root until the last reading of the descendants, in µs
        self._unclaimed = 0  # µs of those that ended and that no process of the tree has waited for
        self._others = 0.0  # CPU seconds of the descendants, when they were last read

    def read(self) -> tuple[float, float]:
        """Return CPU seconds per second since the last reading (NaN in the first), and memory in bytes.

        Where reading all descendants costs too much, they are read less often, but always when one has ended
        that the root has waited for. What they have used meanwhile comes with the next reading of them: a
        guess could not be taken back if they ended.

        Memory is the resident size of the root, and what its descendants hold beyond that. Raises OSError if
        the root has ended.
        """
        self._find()
        if not self.members:
            self._waited_for = self.waited_for()
            self._others = (self._waited_for + self._unclaimed) / 1e6
        elif self._reading.affordable() or self.waited_for() - self._waited_for > _ROUNDING:
            with self._reading:
                self._read_others()
        now = time.monotonic()
        self._used = max(self._used, self._own() + self._others)
        self.passed, self._at = now - self._at, now
        return self._rate.update(self._used, now), self.memory.read(self.members)

    def waited_for(self) -> int:
        """Return the CPU time of the descendants that the root has waited for, in µs."""
        if self._statistics is None:
            ended = resource.getrusage(resource.RUSAGE_CHILDREN)
            return round((ended.ru_utime + ended.ru_stime) * 1e6)
        fields = fields_of(self._statistics.read())
        return (int(fields[13]) + int(fields[14])) * TICK

    def heir(self, member: Member, ended: Mapping[int, Member]) -> int | None:
        """Return which process of the tree waits for one that has ended; None if none of it does.

        It is the nearest of those above it that has not ended, too.
        """
        number = member.parent
        while number != self._root and number not in self.members:
            if number not in ended:
                return None
            number = ended[number].parent
        return number

    def _own(self) -> float:
        """Return the CPU seconds of the root itself."""
        if self._statistics is None:
            return time.process_time()
        fields = fields_of(self._statistics.read())
        return (int(fields[11]) + int(fields[12])) * TICK / 1e6

    def _find(self) -> None:
        """Add the processes that have started since the last reading and belong to the tree."""
        new = self._newcomers.look(self.members)
        if not new:
            return
        numbers = {self._root, *self.members}
        leaders = numbers | self._former_leaders
        found: list[int] = []  # parents before their children
        while candidates := {
            number
            for number, (parent, session) in new.items()
            if number not in numbers and (parent in numbers or session in leaders)
        }:
            more = [number for number in candidates if candidates.isdisjoint(_above(number, new))]
            more = more or [*candidates]
            numbers.update(more)
            leaders.update(more)
            found += more
        kept_open = sum(member.kept_open for member in self.members.values())
        for number in found:
            try:
                member = Member(self._proc / str(number), kept_open=kept_open < _KEPT_OPEN)
            except OSError:
                continue  # it has ended
            kept_open += member.kept_open
            if not math.isnan(self._at) and member.started <= self._began:
                member.early = True
                self._unclaimed -= member.used
            self.members[number] = member

    def _read_others(self) -> None:
        """Read the CPU time of the descendants at a moment in which each counts once.

        Parents are read before their children, so a child that is still there when it is read is not in its
        parent's time. If one has ended in between, all are read again.
        """
        ended: dict[int, Member] = {}
        for _ in range(ROUNDS):
            waited_for = self.waited_for()
            if not self._read_members(ended):
                break
        self._claim(ended, waited_for)
        if ended or self._former_leaders:
            sessions = {member.session for member in self.members.values()}
            self._former_leaders = sessions & (self._former_leaders | ended.keys())
        used = sum(member.used for member in self.members.values())
        self._others = (waited_for + used + self._unclaimed) / 1e6

    def _read_members(self, ended: dict[int, Member]) -> bool:
        """Read each descendant, and move those that have ended to ``ended``; returns whether any has."""
        again = False
        for number, member in list(self.members.items()):
            try:
                member.read()
            except OSError:
                again = True
                ended[number] = self.members.pop(number)
                self._newcomers.forget(number)
            else:
                again |= member.ending
        return again

    def _claim(self, ended: Mapping[int, Member], waited_for: int) -> None:
        """Add the time of those that have ended to ``_unclaimed``, unless somebody has waited for it."""
        claims: dict[int, int] = {}
        for member in ended.values():
            heir = self.heir(member, ended)
            # As of the last reading of all: since then it may have waited for another of these.
            if heir is None:
                self._unclaimed += member.settled_used
            else:
                claims[heir] = claims.get(heir, 0) + member.settled_used
        for number, used in claims.items():
            if number == self._root:
                grown = waited_for - self._waited_for
            else:
                grown = self.members[number].waited_for - self.members[number].settled_waited_for
            if used - grown > _ROUNDING:
                self._unclaimed += used - grown
        self._waited_for = waited_for
        for member in self.members.values():
            member.settle()


def _above(number: int, processes: Mapping[int, tuple[int, int]]) -> Iterator[int]:
    """Yield which of these processes, given with parent and session, one descends from."""
    seen = {number}  # where a number was given again while they were read, they may seem to go in a circle
    while (parent := processes[number][0]) in processes and parent not in seen:
        yield parent
        seen.add(parent)
        number = parent
