"""OccupiedMemory: memory that cannot be given back, against the tightest limit. For the memory guard."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path

from perfmon_widgets.collectors.linux import jupyterhub
from perfmon_widgets.collectors.linux.limits import Allowed, Limits
from perfmon_widgets.collectors.linux.memory_limit import WorkingSet
from perfmon_widgets.collectors.linux.processes import PROC
from perfmon_widgets.collectors.linux.system_file import SystemFile
from perfmon_widgets.collectors.linux.tree import Tree


class OccupiedMemory:
    """Reads the occupied memory of what the tightest limit is on: a control group, or the machine.

    It has the scope of the column ``ram_limit_bytes``. ``ram_used_bytes`` also has the active file cache,
    which is given back too: reading large files must not look like a lack of memory. Raises OSError without
    /proc/meminfo.
    """

    def __init__(
        self,
        proc: Path = PROC,
        *,
        limits: Limits | None = None,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._proc, self._environment = proc, environment
        self._limits = limits or Limits(proc)
        self._meminfo = SystemFile(proc / "meminfo")
        self._total = _number(self._meminfo.read(), b"MemTotal:") * 1024
        self._allowed: Allowed | None = None
        self._limit = math.inf  # of the control group or of JupyterHub
        self._group: WorkingSet | None = None
        self._tree: Tree | None = None

    def read(self) -> tuple[float, float]:
        """Return the occupied memory and its limit, in bytes; raises OSError if they cannot be read."""
        allowed = self._limits.now()
        if allowed is not self._allowed:
            self._open(allowed)
        try:
            if self._group is not None:
                self._group.read()
                return self._group.unreclaimable, self._limit
            if self._tree is not None:
                return self._tree.read()[1], self._limit
        except OSError:
            self._limits.expire()
            self._allowed = None
            raise
        content = self._meminfo.read()
        available = _number(content, b"MemAvailable:")
        total = _number(content, b"MemTotal:")
        if available > total:  # an old lxcfs: the total is the container's, but not what is available
            available = _number(content, b"MemFree:")
        return (total - available) * 1024.0, total * 1024.0

    def _open(self, allowed: Allowed) -> None:
        """Use these limits from now on; raises OSError if the files of the group cannot be opened."""
        self._group = self._tree = None
        group = allowed.memory
        if group is not None and group.limit < self._total:
            self._group, self._limit = group.usage(), float(group.limit)
        elif group is None:
            self._limit = jupyterhub.limit(jupyterhub.MEMORY, self._environment)
            if self._limit < self._total:
                server = jupyterhub.server(jupyterhub.MEMORY, self._proc, self._environment)
                self._tree = Tree(server, self._proc)
        self._allowed = allowed


def _number(content: bytes, name: bytes) -> int:
    """Return the number that follows a name; 0 if it is not there."""
    start = content.find(name)
    return int(content[start + len(name) :].split(None, 1)[0]) if start >= 0 else 0
