"""Which processes use a GPU, and how much of its memory each holds, as NVML lists them."""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from perfmon_widgets.collectors.allowance import Allowance
from perfmon_widgets.collectors.linux.processes import own_number
from perfmon_widgets.collectors.nvidia.errors import FUNCTION_NOT_FOUND, TOO_SMALL, Missing
from perfmon_widgets.collectors.nvidia.readings import Reading, call

# The first driver whose lists have the process ids of the namespace of the process that asks. Before it, a
# container got those of the machine, or entries without memory.
_TRANSLATES_IDS = 565
# The number that the OS kernel gives to the PID namespace of the whole machine (PROC_PID_INIT_INO).
_MACHINE = 0xEFFFFFFC

# NVML has a list for each kind. A process may be in several of them, with the same memory.
_KINDS = ("Compute", "Graphics", "MPSCompute")
# The versions share one layout; drivers before 510 have only the second.
_VERSIONS = ("_v3", "_v2")
_NOT_AVAILABLE = 2**64 - 1  # NVML_VALUE_NOT_AVAILABLE: Windows, WSL
_MOST = 2**16
_EVERY = 5.0  # seconds


def unrelated(nvml: Any, proc: Path) -> str:
    """Return why NVML's process ids are not those of /proc; an empty text if they are."""
    if own_number(proc) != os.getpid():
        return "/proc shows another PID namespace than that of this process"
    try:
        if (proc / "self/ns/pid").stat().st_ino == _MACHINE:
            return ""
    except OSError:
        pass  # not Linux, or hidden: the driver decides
    try:
        version = nvml.nvmlSystemGetDriverVersion()
        if int(version.partition(".")[0]) >= _TRANSLATES_IDS:
            return ""
    except (nvml.NVMLError, ValueError):
        return "the driver's version is not known, so its process ids may be those of the machine"
    return (
        f"driver {version} does not translate the process ids of the machine into those of a container:"
        f" it takes driver {_TRANSLATES_IDS}"
    )


def memory_by_process(nvml: Any, handle: Any) -> dict[int, float]:
    """Return the bytes that each process holds on a GPU or MIG slice, NaN where the driver does not say.

    By process id, in the namespace that ``unrelated`` is about. Takes milliseconds. Raises NVMLError, and
    Missing if the driver's list has another layout than NVIDIA's header says.
    """
    held: dict[tuple[int, int, int], float] = {}
    for kind in _KINDS:
        try:
            entries = _listed(nvml, f"nvmlDeviceGet{kind}RunningProcesses", handle)
        except nvml.NVMLError:
            if kind == _KINDS[0]:
                raise
            continue  # this driver has no such list
        for entry in entries:
            if entry.pid == 0:  # drivers 535.43 to 535.98 have larger entries
                raise Missing("the driver lists processes in a layout of its own: update it")
            memory = math.nan if entry.usedGpuMemory == _NOT_AVAILABLE else float(entry.usedGpuMemory)
            key = entry.pid, entry.gpuInstanceId, entry.computeInstanceId
            held[key] = max(memory, held.get(key, 0.0))
    total: dict[int, float] = {}
    for (process, _, _), memory in held.items():
        total[process] = total.get(process, 0.0) + memory
    return total


class ProcessMemory(Reading):
    """Bytes that the processes in ``tree`` hold on this GPU or MIG slice.

    The lists cost the driver milliseconds, so they are read every five seconds, or more rarely.
    ``unrelated``: why the process ids cannot be compared, if so.
    """

    names = ("process_memory_bytes",)

    def __init__(self, nvml: Any, handle: Any, tree: Callable[[], Collection[int]], unrelated: str) -> None:
        super().__init__(nvml, handle)
        self._tree, self._unrelated = tree, unrelated
        self._listing = Allowance(_EVERY)
        self._held = math.nan

    def take(self) -> Sequence[float]:
        """Return the bytes when the lists were last read."""
        if self._unrelated:
            raise Missing(self._unrelated)
        if self._listing.due():
            self._held = math.nan
            with self._listing:
                held = memory_by_process(self._nvml, self._handle)
                self._held = sum((held[process] for process in held.keys() & set(self._tree())), 0.0)
        if math.isnan(self._held):
            raise Missing("the driver does not report the memory of single processes", 0.0)
        return (self._held,)


def _listed(nvml: Any, function: str, handle: Any) -> list[Any]:
    """Return the entries of one list, however much it grows between two calls; raises NVMLError."""
    versions = list(_VERSIONS)
    size = 32
    while True:
        entries = (nvml.c_nvmlProcessInfo_v2_t * size)()
        count = ctypes.c_uint(size)
        try:
            call(nvml, function + versions[0], handle, ctypes.byref(count), entries)
        except nvml.NVMLError as error:
            if error.value == FUNCTION_NOT_FOUND and len(versions) > 1:
                versions.pop(0)
            elif error.value == TOO_SMALL and size < _MOST:
                size = max(2 * size, 2 * count.value)
            else:
                raise
        else:
            return list(entries[: min(count.value, size)])
