"""A process and its descendants: their CPU time and memory, added up."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from perfmon_widgets.clocks import time
from perfmon_widgets.collectors.allowance import Allowance
from perfmon_widgets.collectors.linux.processes import PROC, children, own_number
from perfmon_widgets.collectors.linux.system_file import SystemFile, read_once
from perfmon_widgets.collectors.rate import Rate

if sys.platform != "win32":  # where this module is imported, but not used
    import resource

# Seconds after which to search for children of other threads than the first, and to weigh shared memory. New
# children of the first thread are found in the next reading.
_EVERY = 10.0
# To weigh shared memory the OS kernel walks through all of it, 11 ms per GiB. Above this many bytes it is not
# weighed, because the sample would have to wait.
_WEIGHABLE = 16 * 2**30

# Windows imports this module but has no sysconf.
_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0
# CPU time is added up in whole microseconds: a sum of floats may shrink by rounding, as if time were lost.
_TICK = 10**6 // os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 0


class Tree:
    """A process (``root``: its number in /proc) and its descendants; raises OSError if it is not found.

    A child that leaves the tree because its parent ends is still counted if it was found before. One that
    left the tree earlier (a double fork) is not.
    """

    def __init__(self, root: int, proc: Path = PROC) -> None:
        self._root, self._proc = root, proc
        self._is_this_process = root == own_number(proc)
        self.folder = proc / ("self" if self._is_this_process else str(root))
        self._memory = SystemFile(self.folder / "statm")
        self._statistics = None if self._is_this_process else SystemFile(self.folder / "stat")
        self._own, self._others = Rate(), Rate()
        self._busy_others = 0.0
        self.members: dict[int, Member] = {}
        """The descendants by their number in /proc; not to be changed from outside."""
        self._ignored = 0  # microseconds
        self._unweighed = False
        self._read_at = 0.0  # seconds since boot
        self._looking, self._weighing, self._reading = Allowance(_EVERY), Allowance(_EVERY), Allowance()
        self._first_children: SystemFile | None = None
        self._listed = b""
        with contextlib.suppress(OSError):  # an OS kernel built without CONFIG_PROC_CHILDREN
            self._first_children = SystemFile(proc / str(root) / "task" / str(root) / "children")
        self.complete = self._first_children is not None
        """False where the OS kernel does not list children: then the root alone is counted."""

    def read(self) -> tuple[float, float]:
        """Return CPU seconds per second since the last reading (NaN in the first), and memory in bytes.

        The time of a child that has ended counts once its parent has waited for it. Memory is the resident
        size of the root, and what its descendants hold beyond that. Raises OSError if the root has ended.
        """
        if self._first_children is not None:
            self._look()
        busy = self._own.update(self._seconds(), time.monotonic())
        if not self.members:
            self._busy_others = self._others.update(self._time_of_others() / 1e6, time.monotonic())
        elif self._reading.affordable():
            with self._reading:
                self._busy_others = self._others.update(self._time_of_others() / 1e6, time.monotonic())
        if not self.members:
            return busy + self._busy_others, self._resident()
        self._weigh()
        # Not below 0: a child that frees memory it shares with the root, or that has ended and was not yet
        # waited for, has an old correction, which would take away from what the root holds.
        beyond = sum(max(member.resident + member.correction, 0.0) for member in self.members.values())
        return busy + self._busy_others, self._resident() + beyond

    def _seconds(self) -> float:
        """Return the CPU seconds of the root."""
        if self._statistics is None:
            return time.process_time()
        fields = _fields(self._statistics.read())
        return (int(fields[11]) + int(fields[12])) * _TICK / 1e6

    def waited_for(self) -> int:
        """Return the CPU time of the descendants that have ended and were waited for, in µs.

        It changes when another one ends.
        """
        if self._statistics is None:
            ended = resource.getrusage(resource.RUSAGE_CHILDREN)
            return round((ended.ru_utime + ended.ru_stime) * 1e6)
        fields = _fields(self._statistics.read())
        return (int(fields[13]) + int(fields[14])) * _TICK

    def _time_of_others(self) -> int:
        """Return the CPU time of the descendants since they were found, in µs, including those that ended.

        The time of one that ends moves to the parent that waits for it, so the sum only grows.
        """
        waited_for = self.waited_for()
        if not self.members:
            self._read_at = time.clock_gettime(time.CLOCK_BOOTTIME)
            return waited_for - self._ignored
        for _ in range(3):
            before = waited_for
            self._read_members()
            if (waited_for := self.waited_for()) == before:
                break  # no child ended meanwhile, so nothing is missing or counted twice
        return waited_for + sum(member.used for member in self.members.values()) - self._ignored

    def _resident(self) -> float:
        return float(int(self._memory.read().split(None, 2)[1]) * _PAGE)

    def _look(self) -> None:
        """Search for descendants, if a search is due or if the first thread's children have changed."""
        assert self._first_children is not None  # noqa: S101 - for mypy
        listed = self._first_children.read()
        if not (self._looking.due() or (listed != self._listed and self._looking.affordable())):
            return
        self._listed = listed
        with self._looking:
            found: dict[int, None] = {}
            for number in (self._root, *self.members):
                self._descend(number, found)
            for number in found.keys() - self.members.keys() - {self._root}:
                member = self._member(number)
                if member is not None:
                    self.members[number] = member
                    self._unweighed = True

    def _descend(self, number: int, found: dict[int, None]) -> None:
        for child in children(number, self._proc):
            if child not in found:
                found[child] = None
                self._descend(child, found)

    def _member(self, number: int) -> Member | None:
        """Return a process that was just found; None if it has ended."""
        try:
            member = Member(self._proc / str(number) / "stat")
        except OSError:
            return None
        # Its time before the last reading does not belong to the interval since then.
        if member.started <= self._read_at:
            self._ignored += member.used
        # Until it is weighed: a fork begins with the memory of its parent, which is counted there.
        member.correction = -member.resident
        return member

    def _read_members(self) -> None:
        for number, member in list(self.members.items()):
            try:
                member.read()
            except OSError:  # it has ended
                del self.members[number]
        self._read_at = time.clock_gettime(time.CLOCK_BOOTTIME)

    def _weigh(self) -> None:
        """Find out how much memory the descendants hold beyond the root's.

        Pages that they share (fork) are resident in each of them. The proportional set size (PSS) divides
        such pages fairly, but is too expensive for every sample. So it corrects the resident sizes, until it
        is read again.
        """
        if not (self._weighing.due() or (self._unweighed and self._weighing.affordable())):
            return
        root = self._resident()
        if root + sum(member.resident for member in self.members.values()) > _WEIGHABLE:
            return
        self._unweighed = False
        with self._weighing:
            total, _ = _weight(self.folder, root)
            private = {}
            for number, member in self.members.items():
                proportional, private[number] = _weight(self._proc / str(number), member.resident)
                total += proportional
            # Each holds its private pages, and an equal part of what descendants share with each other. That
            # part seems negative where programs outside the tree map the root's files, because these pages
            # are divided among more processes than those of the tree.
            shared = max(total - root - sum(private.values()), 0.0) / len(private)
            for number, member in self.members.items():
                member.correction = private[number] + shared - member.resident


class Member:
    """A descendant, read from its file ``stat``; raises OSError if it has ended.

    The file is not kept open, since hundreds of children would use up this process's limit of open files.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._identity = b""
        self.correction = 0.0
        """Bytes to add to ``resident`` to get the memory that it holds in addition to the others."""
        self.read()
        self.started = (int(self._identity) + 1) * _TICK / 1e6
        """Seconds since boot by which it had started."""

    def read(self) -> None:
        """Read ``used``, its CPU time in µs with that of its ended children, and ``resident`` in bytes."""
        fields = _fields(read_once(self._path))
        if self._identity not in (b"", fields[19]):
            raise ProcessLookupError(f"{self._path} is another process now")
        self._identity = fields[19]
        self.used = sum(map(int, fields[11:15])) * _TICK
        self.resident = float(int(fields[21]) * _PAGE)


def _fields(stat: bytes) -> list[bytes]:
    """Return the fields of ``/proc/<pid>/stat`` from the third on.

    The second is the name of the program in brackets, which may contain anything.
    """
    return stat.rpartition(b")")[2].split(None, 22)


def _weight(folder: Path, resident: float) -> tuple[float, float]:
    """Return the proportional set size of a process and its private part, in bytes.

    Both are the resident size where they cannot be read: another user's process, or Linux before 4.14.
    """
    try:
        content = read_once(folder / "smaps_rollup")
    except OSError:
        return resident, resident
    sizes = dict(line.split(b":") for line in content.splitlines()[1:])
    if b"Pss" not in sizes:  # it has ended, and its parent has not waited for it yet
        return 0.0, 0.0
    kibibytes = [int(sizes[key].split()[0]) for key in (b"Pss", b"Private_Clean", b"Private_Dirty")]
    return kibibytes[0] * 1024.0, (kibibytes[1] + kibibytes[2]) * 1024.0
