"""The CPUs that a process may run on."""

from __future__ import annotations

import os


def allowed_cpus(process: int = 0) -> tuple[int, ...]:
    """Return the numbers of the CPUs in a process's affinity, which its cpuset bounds, in ascending order.

    ``process`` is the id of another one; 0 means this one. The affinity is that of the process: the calling
    thread may have another. Systems without affinity (macOS, Windows) give all CPUs.

    Raises ProcessLookupError if the other process does not exist.
    """
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(process or os.getpid())))
    return tuple(range(os.cpu_count() or 1))
