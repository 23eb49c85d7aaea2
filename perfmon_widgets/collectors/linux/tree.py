"""A process and its descendants, timed and weighed together: one number each, never a list."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from perfmon_widgets.collectors.linux import limits as scope
from perfmon_widgets.collectors.linux.system_file import ShortFile, read_once, text_if_there
from perfmon_widgets.collectors.rate import Rate

if sys.platform != "win32":  # where this module is imported, but nothing here is used
    import resource

# What costs more with every child is done again only once it would use less than this share of one CPU.
_SHARE = 0.001
# Children of other threads than the first, and how much memory is shared, are looked for after this many
# seconds; new children of the first thread are noticed with the next reading.
_EVERY = 10.0
# To weigh shared memory the OS kernel walks through all of it, 11 ms a GiB: above this many bytes it is not
# done, because the readings would wait for it.
_WEIGHABLE = 16 * 2**30

# Windows has no such call, and nothing here is used there; but the module is imported.
_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0
# CPU time is summed in whole microseconds: a sum of floats may shrink by rounding, as if time had been lost.
_TICK = 10**6 // os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 0


class Tree:
    """A process (``root``: its number in /proc) and its descendants; raises OSError if it is not to be found.

    A child that leaves the tree because its parent ends is still counted if it has been seen before. One
    that has left it earlier (a double fork) is not.
    """

    def __init__(self, root: int, proc: Path = scope.PROC) -> None:
        self._root, self._proc = root, proc
        self._is_this_process = root == scope.own_number(proc)
        self.folder = proc / ("self" if self._is_this_process else str(root))
        self._memory = ShortFile(self.folder / "statm", proc)
        self._statistics = None if self._is_this_process else ShortFile(self.folder / "stat", proc)
        self._own, self._others = Rate(), Rate()
        self._busy_others = 0.0
        self.members: dict[int, Member] = {}
        """The descendants, by their process ids; to be looked at, not changed."""
        self._ignored = 0  # microseconds
        self._unweighed = False
        self._read_at = 0.0  # seconds since boot
        self._looking, self._weighing, self._reading = Allowance(_EVERY), Allowance(_EVERY), Allowance()
        self._first_children: ShortFile | None = None
        self._listed = b""
        with contextlib.suppress(OSError):  # an OS kernel built without CONFIG_PROC_CHILDREN
            self._first_children = ShortFile(proc / str(root) / "task" / str(root) / "children", proc)
        self.complete = self._first_children is not None
        """False where the OS kernel does not list children: the root alone is counted."""

    def read(self) -> tuple[float, float]:
        """CPU seconds used per second since the last reading (NaN in the first), and bytes of memory.

        Time of children that have ended counts once their parent has waited for them. Memory is the resident
        size of the root and what its children hold beyond that. Raises OSError if the root has ended.
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
        # One that lets go of what it shares with the root, or that has ended and waits to be noticed, holds
        # nothing beyond the root; its correction, made before, would take from what the root holds.
        beyond = sum(max(member.resident + member.correction, 0.0) for member in self.members.values())
        return busy + self._busy_others, self._resident() + beyond

    def _seconds(self) -> float:
        """The CPU seconds of the root."""
        if self._statistics is None:
            return time.process_time()
        fields = _fields(self._statistics.read())
        return (int(fields[11]) + int(fields[12])) * _TICK / 1e6

    def waited_for(self) -> int:
        """The CPU time of the descendants that have ended and were waited for: it changes as one ends.

        In microseconds.
        """
        if self._statistics is None:
            ended = resource.getrusage(resource.RUSAGE_CHILDREN)
            return round((ended.ru_utime + ended.ru_stime) * 1e6)
        fields = _fields(self._statistics.read())
        return (int(fields[13]) + int(fields[14])) * _TICK

    def _time_of_others(self) -> int:
        """The CPU time of the descendants since they have been known, those that have ended included.

        In microseconds. The time of one that ends moves on to the parent that waits for it, so the sum only
        grows.
        """
        waited_for = self.waited_for()
        if not self.members:
            self._read_at = time.clock_gettime(time.CLOCK_BOOTTIME)
            return waited_for - self._ignored
        for _ in range(3):
            before = waited_for
            self._read_members()
            if (waited_for := self.waited_for()) == before:
                break  # none has moved its time meanwhile: nothing is missing, or counted twice
        return waited_for + sum(member.used for member in self.members.values()) - self._ignored

    def _resident(self) -> float:
        return float(int(self._memory.read().split(None, 2)[1]) * _PAGE)

    def _look(self) -> None:
        """Find the descendants again if it is time to, or if the first thread's children have changed."""
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
        """A process that was just found; None if it has ended meanwhile."""
        try:
            member = Member(self._proc / str(number) / "stat")
        except OSError:
            return None
        # What it used before the last reading lies before the time that is reported next.
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
        """Find out how much memory the children hold beyond the root's.

        Pages that they share (fork) are resident in each of them. The proportional set size divides them
        fairly but is too dear for every reading, so it corrects the resident sizes until the next time.
        """
        if not (self._weighing.due() or (self._unweighed and self._weighing.affordable())):
            return
        root = self._resident()
        if root + sum(member.resident for member in self.members.values()) > _WEIGHABLE:
            return
        self._unweighed = False
        with self._weighing:
            total, _ = _weight(self.folder, root)
            alone = {}
            for number, member in self.members.items():
                proportional, alone[number] = _weight(self._proc / str(number), member.resident)
                total += proportional
            # Each holds what is its alone, and an equal part of what children share with each other.
            together = (total - root - sum(alone.values())) / len(alone)
            for number, member in self.members.items():
                member.correction = alone[number] + together - member.resident


class Member:
    """A descendant: what it has used, by its file ``stat``; raises OSError if it has ended.

    The file is not kept open: hundreds of children would use up the files that this process may open.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._identity = b""
        self.correction = 0.0
        """What to add to the resident bytes to have what it holds beyond the others."""
        self.read()
        self.started = (int(self._identity) + 1) * _TICK / 1e6
        """By when it had begun, in seconds since boot."""

    def read(self) -> None:
        """Read again its CPU time (microseconds), with that of its children that ended, and its memory."""
        fields = _fields(read_once(self._path))
        if self._identity not in (b"", fields[19]):
            raise ProcessLookupError(f"{self._path} is another process now")
        self._identity = fields[19]
        self.used = sum(map(int, fields[11:15])) * _TICK
        self.resident = float(int(fields[21]) * _PAGE)


@dataclass
class Allowance:
    """Keeps work that is done in a ``with`` block below a share of one CPU."""

    every: float = 0.0
    _spent_until: float = 0.0
    _due: float = 0.0
    _started: float = 0.0

    def affordable(self) -> bool:
        """Whether the last time is far enough back for what it cost."""
        return time.monotonic() >= self._spent_until

    def due(self) -> bool:
        """Whether it is also so long ago that it should be done again."""
        return time.monotonic() >= max(self._due, self._spent_until)

    def __enter__(self) -> None:
        self._started = time.thread_time()

    def __exit__(self, *exception: object) -> None:
        now = time.monotonic()
        self._spent_until = now + (time.thread_time() - self._started) / _SHARE
        self._due = now + self.every


def children(number: int, proc: Path = scope.PROC) -> Iterator[int]:
    """The process ids of a process's children: every thread of it may have started some."""
    folder = f"{proc}/{number}/task"
    try:
        threads = os.listdir(folder)  # noqa: PTH208 - names are enough
    except OSError:
        return  # it has ended meanwhile
    for thread in threads:
        try:
            text = read_once(f"{folder}/{thread}/children")
        except OSError:
            continue  # the thread has ended, or the OS kernel does not list children
        yield from map(int, text.split())


def number_of(process: int, proc: Path = scope.PROC) -> int:
    """The number in /proc of this process, or of a child that it knows by this id.

    They differ where /proc was mounted outside the PID namespace. Raises OSError if it is not to be found.
    """
    own = scope.own_number(proc)
    if own == os.getpid():
        return process
    for number in (own, *children(own, proc)):
        status = text_if_there(proc / str(number) / "status")
        inside = status.partition("\nNSpid:")[2].partition("\n")[0].split()
        if inside and int(inside[-1]) == process:
            return number
    raise ProcessLookupError(
        f"process {process} is no child, and {proc} counts those of another PID namespace"
    )


def _fields(stat: bytes) -> list[bytes]:
    """The fields of ``/proc/<pid>/stat`` from the third on; the second may hold anything, in brackets."""
    return stat.rpartition(b")")[2].split(None, 22)


def _weight(folder: Path, resident: float) -> tuple[float, float]:
    """The proportional set size of a process, and the part of it that no other has, in bytes.

    Its resident size for both where the OS kernel does not tell: another user's process, Linux before 4.14.
    """
    try:
        content = read_once(folder / "smaps_rollup")
    except OSError:
        return resident, resident
    sizes = dict(line.split(b":") for line in content.splitlines()[1:])
    if b"Pss" not in sizes:  # it has ended, and only its parent has not yet noticed
        return 0.0, 0.0
    kilobytes = [int(sizes[key].split()[0]) for key in (b"Pss", b"Private_Clean", b"Private_Dirty")]
    return kilobytes[0] * 1024.0, (kilobytes[1] + kilobytes[2]) * 1024.0
