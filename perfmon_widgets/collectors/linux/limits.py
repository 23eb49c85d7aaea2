"""What a process may use: its CPUs, and the tightest limits of its control groups.

A limit holds for the control group that carries it and for all groups below. So the tightest limit of all
visible ancestors counts, and usage is read from the group that carries it.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from perfmon_widgets.clocks import time
from perfmon_widgets.collectors.affinity import allowed_cpus
from perfmon_widgets.collectors.linux.cgroups import Groups, groups
from perfmon_widgets.collectors.linux.member import fields_of
from perfmon_widgets.collectors.linux.memory_limit import (
    MemoryLimit,
    Text,
    content_of,
    find_memory_limit,
    positive,
    text_of,
)
from perfmon_widgets.collectors.linux.processes import PROC, own_number
from perfmon_widgets.collectors.linux.system_file import SystemFile, decoded, read_if_there, text_if_there

# The flag of a process that is ending.
_EXITING = 0x4
# Limits and affinity rarely change while a program runs: they are read again after this many seconds.
_EVERY = 10.0


@dataclass(frozen=True)
class CpuQuota:
    """The tightest CPU quota of the control groups above a process."""

    cpus: float
    """The CPU time that the quota allows, in CPUs."""
    source: str
    """The file that holds the quota."""
    usage: Path | None
    """The file that counts the CPU time of the group with the quota, if it is visible."""
    statistics: Path | None = None
    """The file that counts the quota's periods, and those in which the group was throttled."""

    def counter(self) -> SystemFile:
        """Open the file that counts the CPU time; raises OSError if that fails."""
        if self.usage is None:
            raise FileNotFoundError(f"the CPU time that {self.source} limits is not counted anywhere")
        return SystemFile(self.usage)


class Allowed(NamedTuple):
    """What a process may use."""

    cpus: tuple[int, ...]
    """The numbers of its CPUs, ascending."""
    memory: MemoryLimit | None
    """The tightest memory limit of its control groups; None without one."""
    quota: CpuQuota | None
    """The tightest CPU quota of its control groups; None without one."""
    memory_unseen: str = ""
    """Where no memory limit is visible: why there may be one, in words; empty if there is none."""
    quota_unseen: str = ""
    """The same of the CPU quota."""


class Limits:
    """What a process may use, for collectors that need it in every sample; renewed every ten seconds.

    ``root`` is the number in ``proc`` of another process. A program that is just being started may change its
    own CPUs and control groups (``taskset``, ``systemd-run``), so those are compared in every sample. Raises
    ProcessLookupError if there is no such process.
    """

    def __init__(self, proc: Path = PROC, root: int | None = None) -> None:
        self._proc = proc
        self._root = root
        self._process = 0 if root is None else _id_of(root, proc)
        self._due = -math.inf
        self._allowed: Allowed | None = None
        self._contents: dict[Path, bytes] = {}  # of the files that the answer was read from

    def now(self) -> Allowed:
        """Return what the process may use: the same object as long as nothing changes.

        Of another process that has ended, what it could use last.
        """
        if self._allowed is None or time.monotonic() >= self._due:
            self._due = time.monotonic() + _EVERY
            # Comparing the files costs half as much as searching, and is enough nearly always.
            if self._allowed is None or self._has_moved() or self._has_changed():
                self._search()
        elif self._root is not None and self._has_moved():
            self._search()
        assert self._allowed is not None  # noqa: S101 - for mypy
        return self._allowed

    def _has_moved(self) -> bool:
        """Return whether the process has other CPUs now, or is in another control group."""
        assert self._allowed is not None  # noqa: S101 - for mypy
        if self._root is None:
            return allowed_cpus() != self._allowed.cpus
        try:
            if allowed_cpus(self._process) != self._allowed.cpus:
                return True
        except ProcessLookupError:
            return False
        file = self._proc / str(self._root) / "cgroup"
        return read_if_there(file) != self._contents.get(file)

    def _has_changed(self) -> bool:
        return any(content_of(file) != content for file, content in self._contents.items())

    def _search(self) -> None:
        contents: dict[Path, bytes] = {}

        def text(file: Path) -> str:
            contents[file] = content_of(file)
            return decoded(contents[file])

        if self._root is None:
            found = allowed(self._proc, text)
        else:
            try:
                found = allowed(self._proc, text, self._root, self._process)
            except ProcessLookupError:
                if self._allowed is None:
                    raise
                return
            # Version 1 shows a process that has ended in the topmost group.
            if self._allowed is not None and _has_ended(self._proc / str(self._root) / "stat"):
                return
        if found != self._allowed:
            self._allowed = found
        self._contents = contents

    def expire(self) -> None:
        """Search again in the next call of ``now()``, since a file could no longer be read."""
        self._due = -math.inf


def _has_ended(stat: Path) -> bool:
    """Return whether a process has ended, or is just ending, by its file ``stat``.

    While it ends it has left its control group, but its state does not say so yet.
    """
    fields = fields_of(read_if_there(stat), 7)
    return not fields or fields[0] in (b"Z", b"X") or bool(int(fields[6]) & _EXITING)


def _id_of(number: int, proc: Path) -> int:
    """Return the id of the process that has this number in ``proc``, which may show another namespace."""
    if own_number(proc) == os.getpid():
        return number
    status = text_if_there(proc / str(number) / "status")
    inside = status.partition("\nNSpid:")[2].partition("\n")[0].split()
    return int(inside[-1]) if inside else number


def allowed(
    proc: Path = PROC, text: Text = text_of, root: int | None = None, process: int | None = None
) -> Allowed:
    """Search for what a process may use: its CPUs, and the tightest limits of its control groups.

    ``text`` is the function that reads a file. ``root`` and ``process`` are the number in ``proc`` and the id
    of another process. Raises ProcessLookupError if that does not exist.
    """
    folder = proc / ("self" if root is None else str(root))
    cgroup, mountinfo = text(folder / "cgroup"), text(proc / "self" / "mountinfo")
    number = os.getpid() if process is None else process

    def found(controller: str) -> Groups:
        return groups(controller, cgroup, mountinfo, number, proc)

    memory, memory_unseen = find_memory_limit(text, found("memory"))
    quota, quota_unseen = _cpu_quota(text, found("cpu"), found("cpuacct"))
    cpus = allowed_cpus() if process is None else allowed_cpus(process)
    return Allowed(cpus, memory, quota, memory_unseen, quota_unseen)


def _cpu_quota(text: Text, by_cpu: Groups, by_accounting: Groups) -> tuple[CpuQuota | None, str]:
    """Return the tightest quota, or why one may be hidden."""
    version, ancestors, unseen = by_cpu.version, by_cpu.folders, by_cpu.unseen
    found: tuple[float, Path] | None = None
    for group in ancestors:
        quota = _quota(text, group, version)
        if quota is not None and (found is None or quota < found[0]):
            found = quota, group
    if found is None:
        return None, unseen
    capacity, group = found
    if version == 2:
        return CpuQuota(capacity, str(group / "cpu.max"), group / "cpu.stat", group / "cpu.stat"), ""
    # Version 1 may mount the accounting apart from the quota, and may have this process in other groups
    # there: the group of the same name is the same one only if this process is below it in both.
    accounting = by_accounting.folders
    name = group.relative_to(ancestors[-1])
    usage = next((one / "cpuacct.usage" for one in accounting if one == accounting[-1] / name), None)
    return CpuQuota(capacity, str(group / "cpu.cfs_quota_us"), usage, group / "cpu.stat"), ""


def _quota(text: Text, group: Path, version: int) -> float | None:
    """Return the quota of one control group in CPUs; None if it has none."""
    if version == 2:
        quota, _, period = text(group / "cpu.max").partition(" ")
    else:
        quota, period = text(group / "cpu.cfs_quota_us"), text(group / "cpu.cfs_period_us")
    quota_us, period_us = positive(quota), positive(period)
    return None if quota_us is None or period_us is None else quota_us / period_us
