"""The tightest memory limit of a process's control groups, and the working set of the group that has it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, TypeGuard

from perfmon_widgets.collectors.linux.cgroups import Groups
from perfmon_widgets.collectors.linux.system_file import SystemFile, decoded, read_if_there

# Files of one control group: version 2 first, then version 1.
_MEMORY_LIMIT = ("memory.max", "memory.limit_in_bytes")
_MEMORY_USED = ("memory.current", "memory.usage_in_bytes")
# Above this point every allocation of the group is slowed down (version 2).
_MEMORY_HIGH = "memory.high"
# In memory.stat of version 1: the tightest limit of all ancestors, also of those that are not visible.
_HIERARCHICAL = "hierarchical_memory_limit"
_MEMORY_STAT = "memory.stat"
_INACTIVE_FILE = (b"inactive_file ", b"total_inactive_file ")
# What else is given back when a program needs memory: file cache that was read more than once and, where it
# is listed, what the OS kernel remembers of files.
_RECLAIMABLE = ((b"active_file ", b"slab_reclaimable "), (b"total_active_file ",))

# Reads a file of a control group.
Text: TypeAlias = Callable[[Path], str]


@dataclass(frozen=True)
class MemoryLimit:
    """The tightest memory limit of the control groups above a process."""

    limit: int
    """Bytes."""
    directory: Path
    """The control group that carries the limit."""
    version: int
    file: str = ""
    """The file that holds the limit, if it is another one than usual: memory.high, or memory.stat."""

    @property
    def source(self) -> str:
        """The file that holds the limit, and what kind of limit it is if that is not the usual one."""
        source = str(self.directory / (self.file or _MEMORY_LIMIT[2 - self.version]))
        if self.file == _MEMORY_STAT:
            source += f", {_HIERARCHICAL}: the limit of a group above that cannot be seen, nor its usage"
        return source

    @property
    def set_by(self) -> str:
        """What set it, for people."""
        return "slows down from here" if self.file == _MEMORY_HIGH else "container"

    @property
    def used_file(self) -> Path:
        """The file that holds how much memory the group uses, caches included."""
        return self.directory / _MEMORY_USED[2 - self.version]

    @property
    def usage_source(self) -> str:
        """The files that usage is read from, in words."""
        return f"{self.used_file} less inactive_file in memory.stat"

    @property
    def unreclaimable_source(self) -> str:
        """The files that its part without file cache is read from, in words."""
        keys = _INACTIVE_FILE[2 - self.version], *_RECLAIMABLE[2 - self.version]
        names = ", ".join(key.decode().strip() for key in keys)
        return f"{self.used_file} less {names} in memory.stat"

    def usage(self) -> WorkingSet:
        """Open the files from which the usage of this group is read; raises OSError if that fails."""
        return WorkingSet(self.directory, self.version)


class WorkingSet:
    """The working set of a control group: its memory less the inactive file cache.

    ``docker stats`` and ``kubectl top`` print the same. It includes file cache that was read more than once,
    which is given back, too, before the group runs out of memory.

    Raises OSError if the files cannot be opened.
    """

    def __init__(self, directory: Path, version: int) -> None:
        self._used = SystemFile(directory / _MEMORY_USED[2 - version])
        self._statistics = SystemFile(directory / _MEMORY_STAT)
        self._inactive = _INACTIVE_FILE[2 - version]
        self._reclaimable = _RECLAIMABLE[2 - version]
        self.unreclaimable = math.nan
        """The part of the working set that cannot be given back, in bytes, in the last reading."""

    def read(self) -> float:
        """Return the working set now, in bytes; raises OSError if the group has gone."""
        used = int(self._used.read())
        statistics = b"\n" + self._statistics.read()
        working_set = max(used - _number(statistics, self._inactive), 0)
        reclaimable = sum(_number(statistics, key) for key in self._reclaimable)
        self.unreclaimable = float(max(working_set - reclaimable, 0))
        return float(working_set)


def _number(statistics: bytes, key: bytes) -> int:
    """Return the number behind a name in memory.stat, 0 if it is not listed."""
    start = statistics.find(b"\n" + key)
    return int(statistics[start + 1 + len(key) :].split(None, 1)[0]) if start >= 0 else 0


def find_memory_limit(text: Text, found: Groups) -> tuple[MemoryLimit | None, str]:
    """Return the tightest limit, or why one may be hidden.

    ``memory.high`` counts where the same group has no other limit: a program cannot use much more than that,
    since it is slowed down more and more.
    """
    version, ancestors, unseen = found.version, found.folders, found.unseen
    tightest: MemoryLimit | None = None
    for group in ancestors:
        file, limit = "", positive(text(group / _MEMORY_LIMIT[2 - version]))
        if limit is None and version == 2:
            file, limit = _MEMORY_HIGH, positive(text(group / _MEMORY_HIGH))
        if _is_tighter(limit, tightest):
            tightest = MemoryLimit(int(limit), group, version, file)
    if version == 1 and ancestors:
        limit = positive(text(ancestors[0] / _MEMORY_STAT).rpartition(" ")[2])
        if _is_tighter(limit, tightest):
            tightest = MemoryLimit(int(limit), ancestors[-1], version, _MEMORY_STAT)
        if limit is not None and found.is_own:
            unseen = ""  # it is the tightest of all, visible or not
    return tightest, unseen if tightest is None else ""


def _is_tighter(limit: float | None, tightest: MemoryLimit | None) -> TypeGuard[float]:
    # Version 1 spells "no limit" as the largest multiple of a page.
    return limit is not None and limit < 2**60 and (tightest is None or limit < tightest.limit)


def content_of(file: Path) -> bytes:
    """Return the content of a file; of memory.stat only the limit, since its counters change all the time."""
    content = read_if_there(file)
    if file.name != _MEMORY_STAT:
        return content
    return next((line for line in content.split(b"\n") if line.startswith(_HIERARCHICAL.encode())), b"")


def text_of(file: Path) -> str:
    """Return the same as text, without the end of its last line."""
    return decoded(content_of(file))


def positive(text: str) -> float | None:
    """Return the number that a file holds; None for ``max``, -1, 0 and anything that is not a number."""
    number = float(text) if text.isdecimal() else 0.0
    return number if 0 < number < math.inf else None
