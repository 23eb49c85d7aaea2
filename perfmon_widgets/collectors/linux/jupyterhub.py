"""The limits that JupyterHub sets in the environment, used where no control group shows any.

``MEM_LIMIT`` (bytes) and ``CPU_LIMIT`` (CPUs) hold for a notebook server and everything it has started. So
they are compared with the usage of that server's process tree, not with that of this process or the machine.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path

from perfmon_widgets.collectors.linux.limits import Allowed
from perfmon_widgets.collectors.linux.processes import PROC, own_number

MEMORY, CPU = "MEM_LIMIT", "CPU_LIMIT"


def limit(name: str, environment: Mapping[str, str] = os.environ) -> float:
    """Return what JupyterHub allows: bytes (``MEM_LIMIT``) or CPUs (``CPU_LIMIT``); infinite without it."""
    try:
        value = float(environment.get(name, ""))
    except ValueError:
        return math.inf
    return value if value > 0 else math.inf


def server(name: str, proc: Path = PROC, environment: Mapping[str, str] = os.environ) -> int:
    """Return the number in /proc of the notebook server: the topmost ancestor with the same limit.

    JupyterHub sets the limit for the server, which hands it on to its children; the hub itself does not have
    it. Returns this process where no ancestor has the limit or may be read.
    """
    setting = f"{name}={environment[name]}".encode()
    topmost = number = own_number(proc)
    while number := _parent(number, proc):
        try:
            if setting not in (proc / str(number) / "environ").read_bytes().split(b"\0"):
                break
        except OSError:
            break  # another user's process
        topmost = number
    return topmost


def _parent(number: int, proc: Path) -> int:
    try:
        return int((proc / str(number) / "stat").read_bytes().rpartition(b")")[2].split(None, 2)[1])
    except OSError:
        return 0


def capacity(allowed: Allowed, environment: Mapping[str, str] = os.environ) -> tuple[float, str]:
    """Return the CPU time that this process may use, in CPUs, and where that comes from.

    The second is "affinity", the file of a quota, or the name of JupyterHub's variable.
    """
    cpus, why = float(len(allowed.cpus)), "affinity"
    if allowed.quota is not None:
        return (allowed.quota.cpus, allowed.quota.source) if allowed.quota.cpus < cpus else (cpus, why)
    by_hub = limit(CPU, environment)
    return (by_hub, CPU) if by_hub < cpus else (cpus, why)
