"""The limits that JupyterHub sets in the environment, for where no control group shows any.

``MEM_LIMIT`` (bytes) and ``CPU_LIMIT`` (CPUs) hold for a notebook server with all that it has started, so
what is compared with them is the use of that server's process tree: neither this kernel's alone, nor the
machine's.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path

from perfmon_widgets.collectors.linux import limits as scope

MEMORY, CPU = "MEM_LIMIT", "CPU_LIMIT"


def limit(name: str, environment: Mapping[str, str] = os.environ) -> float:
    """What JupyterHub allows: bytes (``MEM_LIMIT``) or CPUs (``CPU_LIMIT``); infinite if it does not say."""
    try:
        value = float(environment.get(name, ""))
    except ValueError:
        return math.inf
    return value if value > 0 else math.inf


def server(name: str, proc: Path = scope.PROC, environment: Mapping[str, str] = os.environ) -> int:
    """The notebook server: the number in /proc of the last of this process's ancestors with the same limit.

    JupyterHub sets it for the server, which hands it on; the hub itself does not have it. It is this process
    where no ancestor has it or may be read.
    """
    setting = f"{name}={environment[name]}".encode()
    topmost = number = scope.own_number(proc)
    while number := _parent(number, proc):
        try:
            if setting not in (proc / str(number) / "environ").read_bytes().split(b"\0"):
                break
        except OSError:
            break  # another user's
        topmost = number
    return topmost


def _parent(number: int, proc: Path) -> int:
    try:
        return int((proc / str(number) / "stat").read_bytes().rpartition(b")")[2].split(None, 2)[1])
    except OSError:
        return 0


def capacity(allowed: scope.Allowed, environment: Mapping[str, str] = os.environ) -> tuple[float, str]:
    """How many CPUs' time this process may use, and what says so: affinity, a quota, or JupyterHub."""
    cpus, why = float(len(allowed.cpus)), "affinity"
    if allowed.quota is not None:
        return (allowed.quota.cpus, allowed.quota.source) if allowed.quota.cpus < cpus else (cpus, why)
    by_hub = limit(CPU, environment)
    return (by_hub, CPU) if by_hub < cpus else (cpus, why)
