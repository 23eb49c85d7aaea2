"""What "the devices the model runs on" means: the CPUs it may use, and the limits of its control groups.

A limit holds for the control group that carries it and for everything below, so all visible ancestors count
and the tightest one wins. Usage is then read from the very group that carries the limit.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, TypeAlias

from perfmon_widgets.collectors.linux.mountinfo import mounts_in
from perfmon_widgets.collectors.linux.system_file import SystemFile, decoded, read_if_there, text_if_there

PROC = Path("/proc")

# Files of one control group: version 2 first, then version 1.
_MEMORY_LIMIT = ("memory.max", "memory.limit_in_bytes")
_MEMORY_USED = ("memory.current", "memory.usage_in_bytes")
_INACTIVE_FILE = (b"inactive_file ", b"total_inactive_file ")

# Limits and affinity change while a program runs, but seldom: read again after this many seconds.
_EVERY = 10.0

# Reads a file of a control group.
_Text: TypeAlias = Callable[[Path], str]


def cpus() -> tuple[int, ...]:
    """The numbers of the CPUs this process may run on, ascending: its affinity, which the cpuset bounds.

    Asked for the process and not for the calling thread, which may have an affinity of its own. Where the
    system has no affinity (macOS, Windows) these are all CPUs.
    """
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(os.getpid())))
    return tuple(range(os.cpu_count() or 1))


def own_number(proc: Path = PROC) -> int:
    """The number of this process in /proc: not its id where that was mounted outside its PID namespace."""
    try:
        return int(os.readlink(proc / "self"))  # noqa: PTH115 - the text is enough
    except (OSError, ValueError):
        return os.getpid()


def percent(used: float, limit: float) -> float:
    """The share in percent, 100 at most.

    It would be more where the clocks of two counters differ a little, where the OS kernel takes back time
    that it had counted as waiting for a disk, and until a limit that was changed is looked up again.
    """
    share = 100 * used / limit
    return 100.0 if share > 100 else share  # so that NaN stays NaN


@dataclass(frozen=True)
class MemoryLimit:
    """The tightest memory limit of the control groups above a process, and the use counted against it."""

    limit: int
    """Bytes."""
    directory: Path
    """The control group that carries the limit."""
    version: int

    @property
    def source(self) -> str:
        """The file that the limit was read from."""
        return str(self.directory / _MEMORY_LIMIT[2 - self.version])

    @property
    def usage_source(self) -> str:
        """What its use is read from."""
        return f"{self.directory / _MEMORY_USED[2 - self.version]} less inactive_file in memory.stat"

    def usage(self) -> WorkingSet:
        """What to read the use of this group from; raises OSError where its files cannot be opened."""
        return WorkingSet(self.directory, self.version)


class WorkingSet:
    """The memory a control group cannot give back without work: its use less the inactive file cache.

    This is what ``docker stats`` and ``kubectl top`` print. Raises OSError if the files cannot be read.
    """

    def __init__(self, directory: Path, version: int) -> None:
        self._used = SystemFile(directory / _MEMORY_USED[2 - version])
        self._statistics = SystemFile(directory / "memory.stat")
        self._key = _INACTIVE_FILE[2 - version]

    def read(self) -> float:
        """The working set now, in bytes."""
        used = int(self._used.read())
        content = b"\n" + self._statistics.read()
        start = content.find(b"\n" + self._key)
        inactive = int(content[start + 1 + len(self._key) :].split(None, 1)[0]) if start >= 0 else 0
        return float(max(used - inactive, 0))


@dataclass(frozen=True)
class CpuQuota:
    """The tightest CPU quota of the control groups above a process, and the counter it is spent on."""

    cpus: float
    """How many CPUs' time the quota amounts to."""
    source: str
    """The file that the quota was read from."""
    usage: Path | None
    """The file that counts the CPU time of the group that carries the quota, if it is visible."""
    statistics: Path | None = None
    """The file that counts its periods, and those in which it was throttled."""

    def counter(self) -> SystemFile:
        """The file that counts the CPU time, opened; raises OSError where it cannot be."""
        if self.usage is None:
            raise FileNotFoundError(f"no count of the CPU time that {self.source} limits")
        return SystemFile(self.usage)


class Allowed(NamedTuple):
    """What a process may use."""

    cpus: tuple[int, ...]
    """The numbers of its CPUs, ascending."""
    memory: MemoryLimit | None
    """The tightest limit over its control groups; None where none is set."""
    quota: CpuQuota | None
    """The same of CPU time."""


class Limits:
    """What this process may use, for those who ask in every reading; looked up again every ten seconds."""

    def __init__(self, proc: Path = PROC) -> None:
        self._proc = proc
        self._due = -math.inf
        self._allowed: Allowed | None = None
        self._said: dict[Path, bytes] = {}  # by the files that told it

    def now(self) -> Allowed:
        """What it may use; the same object for as long as that does not change."""
        if self._allowed is None or time.monotonic() >= self._due:
            self._due = time.monotonic() + _EVERY
            # To read the files again is half the work of a look, and most often all there is to do.
            if self._allowed is None or cpus() != self._allowed.cpus or not self._say_the_same():
                self._look()
        assert self._allowed is not None  # noqa: S101 - for mypy
        return self._allowed

    def _say_the_same(self) -> bool:
        return all(read_if_there(file) == said for file, said in self._said.items())

    def _look(self) -> None:
        said: dict[Path, bytes] = {}

        def text(file: Path) -> str:
            said[file] = read_if_there(file)
            return decoded(said[file])

        found = allowed(self._proc, text)
        if found != self._allowed:
            self._allowed = found
        self._said = said

    def expire(self) -> None:
        """Look it up again the next time: what it told cannot be read any more."""
        self._due = -math.inf


def allowed(proc: Path = PROC, text: _Text = text_if_there) -> Allowed:
    """What this process may use, looked up now: its CPUs, and the tightest limits over its control groups.

    ``text`` reads the files.
    """
    cgroup, mountinfo = text(proc / "self" / "cgroup"), text(proc / "self" / "mountinfo")
    return Allowed(cpus(), _memory_limit(text, cgroup, mountinfo), _cpu_quota(text, cgroup, mountinfo))


def _memory_limit(text: _Text, cgroup: str, mountinfo: str) -> MemoryLimit | None:
    version, groups = _groups("memory", cgroup, mountinfo)
    found: MemoryLimit | None = None
    for group in groups:
        limit = _above_0(text(group / _MEMORY_LIMIT[2 - version]))
        # Version 1 spells "no limit" as the largest multiple of a page.
        if limit is not None and limit < 2**60 and (found is None or limit < found.limit):
            found = MemoryLimit(int(limit), group, version)
    return found


def _cpu_quota(text: _Text, cgroup: str, mountinfo: str) -> CpuQuota | None:
    version, groups = _groups("cpu", cgroup, mountinfo)
    found: tuple[float, Path] | None = None
    for group in groups:
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
    _, accounting = _groups("cpuacct", cgroup, mountinfo)
    name = group.relative_to(groups[-1])
    usage = next((one / "cpuacct.usage" for one in accounting if one == accounting[-1] / name), None)
    return CpuQuota(capacity, str(group / "cpu.cfs_quota_us"), usage, group / "cpu.stat")


def _quota(text: _Text, group: Path, version: int) -> float | None:
    """The quota of one control group as a number of CPUs; None if it has none."""
    if version == 2:
        quota, _, period = text(group / "cpu.max").partition(" ")
    else:
        quota, period = text(group / "cpu.cfs_quota_us"), text(group / "cpu.cfs_period_us")
    quota_us, period_us = _above_0(quota), _above_0(period)
    return None if quota_us is None or period_us is None else quota_us / period_us


def _above_0(text: str) -> float | None:
    """The number that a file of a control group holds; None for ``max``, -1, 0 and what is no number."""
    number = float(text) if text.isdecimal() else 0.0
    return number if 0 < number < math.inf else None


def _groups(controller: str, cgroup: str, mountinfo: str) -> tuple[int, Sequence[Path]]:
    """The version of the hierarchy that has this controller; this process's groups in it, own one first."""
    version, groups = _listed(controller, cgroup, mountinfo)
    # Not Path.is_dir, which raises where one may not look.
    if groups and not os.path.isdir(groups[0]):  # noqa: PTH112
        groups = groups[-1:]
    return version, groups


@lru_cache(maxsize=16)  # asked for every ten seconds, and seldom another than before
def _listed(controller: str, cgroup: str, mountinfo: str) -> tuple[int, Sequence[Path]]:
    """The same, whether its own group is there or not.

    A hybrid host lists a version 2 hierarchy too, with no controllers in it: version 1 wins where it names
    the controller. The list ends at the mount point, since nothing above it is visible.
    """
    version, path = 0, ""
    for line in cgroup.split("\n"):
        _, _, named = line.partition(":")
        controllers, _, group = named.partition(":")
        if controller in controllers.split(","):
            version, path = 1, group
            break
        if group and not controllers:
            version, path = 2, group
    mounted = [
        mount
        for mount in mounts_in(mountinfo)
        if (version == 1 and mount.kind == "cgroup" and controller in mount.options.split(","))
        or (version == 2 and mount.kind == "cgroup2")
    ]
    if not mounted:
        return version, ()
    # A part of the hierarchy may be mounted again elsewhere: the mount that shows most of the way counts.
    best = min(mounted, key=lambda one: len(one.root) if _is_below(path, one.root) else math.inf)
    return version, _up_to(Path(best.point), best.root, path)


def _is_below(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip("/") + "/")


def _up_to(mount: Path, root: str, path: str) -> Sequence[Path]:
    """The directory of a group and its ancestors up to the mount point.

    The path in /proc/self/cgroup starts at the root of the hierarchy, the mount may start further down
    (a container without a cgroup namespace): what both share is cut off. A path that leads out of the
    namespace (``/..``) leaves the mount point itself, as one that leads to nothing does.
    """
    inside = path[len(root.rstrip("/")) :] if _is_below(path, root) else ""
    own = mount / inside.lstrip("/")
    if ".." in own.parts:
        own = mount
    return own, *(parent for parent in own.parents if parent == mount or mount in parent.parents)
