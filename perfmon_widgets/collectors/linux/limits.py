"""What this process may use: its CPUs, and the tightest limits of its control groups.

A limit holds for the control group that carries it and for all groups below. So the tightest limit of all
visible ancestors counts, and usage is read from the group that carries it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

from perfmon_widgets.collectors.affinity import allowed_cpus
from perfmon_widgets.collectors.linux.cgroups import groups
from perfmon_widgets.collectors.linux.processes import PROC
from perfmon_widgets.collectors.linux.system_file import SystemFile, decoded, read_if_there, text_if_there

# Files of one control group: version 2 first, then version 1.
_MEMORY_LIMIT = ("memory.max", "memory.limit_in_bytes")
_MEMORY_USED = ("memory.current", "memory.usage_in_bytes")
_INACTIVE_FILE = (b"inactive_file ", b"total_inactive_file ")

# Limits and affinity rarely change while a program runs: they are read again after this many seconds.
_EVERY = 10.0

# Reads a file of a control group.
_Text: TypeAlias = Callable[[Path], str]


@dataclass(frozen=True)
class MemoryLimit:
    """The tightest memory limit of the control groups above a process."""

    limit: int
    """Bytes."""
    directory: Path
    """The control group that carries the limit."""
    version: int

    @property
    def source(self) -> str:
        """The file that holds the limit."""
        return str(self.directory / _MEMORY_LIMIT[2 - self.version])

    @property
    def usage_source(self) -> str:
        """The files that usage is read from, in words."""
        return f"{self.directory / _MEMORY_USED[2 - self.version]} less inactive_file in memory.stat"

    def usage(self) -> WorkingSet:
        """Open the files from which the usage of this group is read; raises OSError if that fails."""
        return WorkingSet(self.directory, self.version)


class WorkingSet:
    """The working set of a control group: its memory less the inactive file cache.

    ``docker stats`` and ``kubectl top`` print the same. Raises OSError if the files cannot be opened.
    """

    def __init__(self, directory: Path, version: int) -> None:
        self._used = SystemFile(directory / _MEMORY_USED[2 - version])
        self._statistics = SystemFile(directory / "memory.stat")
        self._key = _INACTIVE_FILE[2 - version]

    def read(self) -> float:
        """Return the working set now, in bytes; raises OSError if the group has gone."""
        used = int(self._used.read())
        content = b"\n" + self._statistics.read()
        start = content.find(b"\n" + self._key)
        inactive = int(content[start + 1 + len(self._key) :].split(None, 1)[0]) if start >= 0 else 0
        return float(max(used - inactive, 0))


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


class Limits:
    """What this process may use, for collectors that need it in every sample; renewed every ten seconds."""

    def __init__(self, proc: Path = PROC) -> None:
        self._proc = proc
        self._due = -math.inf
        self._allowed: Allowed | None = None
        self._contents: dict[Path, bytes] = {}  # of the files that the answer was read from

    def now(self) -> Allowed:
        """Return what this process may use: the same object as long as nothing changes."""
        if self._allowed is None or time.monotonic() >= self._due:
            self._due = time.monotonic() + _EVERY
            # Comparing the files costs half as much as searching, and is enough nearly always.
            if self._allowed is None or allowed_cpus() != self._allowed.cpus or self._has_changed():
                self._search()
        assert self._allowed is not None  # noqa: S101 - for mypy
        return self._allowed

    def _has_changed(self) -> bool:
        return any(read_if_there(file) != content for file, content in self._contents.items())

    def _search(self) -> None:
        contents: dict[Path, bytes] = {}

        def text(file: Path) -> str:
            contents[file] = read_if_there(file)
            return decoded(contents[file])

        found = allowed(self._proc, text)
        if found != self._allowed:
            self._allowed = found
        self._contents = contents

    def expire(self) -> None:
        """Search again in the next call of ``now()``, since a file could no longer be read."""
        self._due = -math.inf


def allowed(proc: Path = PROC, text: _Text = text_if_there) -> Allowed:
    """Search for what this process may use: its CPUs, and the tightest limits of its control groups.

    ``text`` is the function that reads a file.
    """
    cgroup, mountinfo = text(proc / "self" / "cgroup"), text(proc / "self" / "mountinfo")
    return Allowed(
        allowed_cpus(), _memory_limit(text, cgroup, mountinfo), _cpu_quota(text, cgroup, mountinfo)
    )


def _memory_limit(text: _Text, cgroup: str, mountinfo: str) -> MemoryLimit | None:
    version, ancestors = groups("memory", cgroup, mountinfo)
    found: MemoryLimit | None = None
    for group in ancestors:
        limit = _positive(text(group / _MEMORY_LIMIT[2 - version]))
        # Version 1 spells "no limit" as the largest multiple of a page.
        if limit is not None and limit < 2**60 and (found is None or limit < found.limit):
            found = MemoryLimit(int(limit), group, version)
    return found


def _cpu_quota(text: _Text, cgroup: str, mountinfo: str) -> CpuQuota | None:
    version, ancestors = groups("cpu", cgroup, mountinfo)
    found: tuple[float, Path] | None = None
    for group in ancestors:
        quota = _quota(text, group, version)
        if quota is not None and (found is None or quota < found[0]):
            found = quota, group
    if found is None:
        return None
    capacity, group = found
    if version == 2:
        return CpuQuota(capacity, str(group / "cpu.max"), group / "cpu.stat", group / "cpu.stat")
    # Version 1 may mount the accounting apart from the quota, and may have this process in other groups
    # there: the group of the same name is the same one only if this process is below it in both.
    _, accounting = groups("cpuacct", cgroup, mountinfo)
    name = group.relative_to(ancestors[-1])
    usage = next((one / "cpuacct.usage" for one in accounting if one == accounting[-1] / name), None)
    return CpuQuota(capacity, str(group / "cpu.cfs_quota_us"), usage, group / "cpu.stat")


def _quota(text: _Text, group: Path, version: int) -> float | None:
    """Return the quota of one control group in CPUs; None if it has none."""
    if version == 2:
        quota, _, period = text(group / "cpu.max").partition(" ")
    else:
        quota, period = text(group / "cpu.cfs_quota_us"), text(group / "cpu.cfs_period_us")
    quota_us, period_us = _positive(quota), _positive(period)
    return None if quota_us is None or period_us is None else quota_us / period_us


def _positive(text: str) -> float | None:
    """Return the number that a file holds; None for ``max``, -1, 0 and anything that is not a number."""
    number = float(text) if text.isdecimal() else 0.0
    return number if 0 < number < math.inf else None
