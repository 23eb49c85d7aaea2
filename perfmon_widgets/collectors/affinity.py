"""The CPUs that this process may run on."""

from __future__ import annotations

import os


def allowed_cpus() -> tuple[int, ...]:
    """Return the numbers of the CPUs in this process's affinity, which its cpuset bounds, in ascending order.

    The affinity is that of the process: the calling thread may have another. Systems without affinity (macOS,
    Windows) give all CPUs.
    """
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(os.getpid())))
    return tuple(range(os.cpu_count() or 1))
