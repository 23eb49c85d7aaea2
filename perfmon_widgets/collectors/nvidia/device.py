"""One GPU or MIG slice: its columns, whether it is in use, and the readings that fill them."""

from __future__ import annotations

import contextlib
import math
import re
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

from perfmon_widgets.collectors.nvidia.counters import Counters, Throttled
from perfmon_widgets.collectors.nvidia.errors import (
    LOST,
    NOT_SUPPORTED,
    RETRY,
    UNINITIALIZED,
    UNSUPPORTED,
    Missing,
    explain,
)
from perfmon_widgets.collectors.nvidia.gpus import Gpu
from perfmon_widgets.collectors.nvidia.in_use import Used, mapped_library, ordinals
from perfmon_widgets.collectors.nvidia.metrics import COUNTERS, METRICS
from perfmon_widgets.collectors.nvidia.processes import ProcessMemory
from perfmon_widgets.collectors.nvidia.readings import (
    NOT_FOR_SLICES,
    Activity,
    Clock,
    Memory,
    NotForSlices,
    Power,
    Reading,
    SliceActivity,
)
from perfmon_widgets.collectors.nvidia.torch_memory import TorchMemory
from perfmon_widgets.collectors.plausible import OF_A_GPU, impossible
from perfmon_widgets.metrics import Metric, place_label

_UNITS = {metric.name: metric.unit for metric in METRICS}
_LIMITS = {metric.name: metric.limit for metric in METRICS if isinstance(metric.limit, str)}

# GPUs without memory of their own, by a word in their name.
_INTEGRATED = ("GB10", "Orin", "Thor", "Xavier", "Tegra")


class Device:
    """The columns ``where/…`` of one GPU, filled by the GPU or a MIG slice of it once that is in use.

    ``index`` is NVML's number of the GPU, ``known`` what is known of it before it is attached. ``tree``
    returns the ids of the processes whose memory counts as this process's; ``unrelated`` says why NVML's ids
    are others, if they are.
    """

    def __init__(
        self,
        nvml: Any,
        where: str,
        index: int,
        known: Gpu,
        *,
        tree: Callable[[], Collection[int]],
        unrelated: str,
    ) -> None:
        self._nvml = nvml
        self.where = where
        self.index = index
        self.columns = tuple(f"{where}/{metric.name}" for metric in METRICS)
        self.used: Used | None = None
        """Why it counts as in use; None if it does not."""
        self._known = known
        self._tree, self._unrelated = tree, unrelated
        self._handle: Any = None
        self._parent: Any = None
        self._mig_mode = False
        self._lost = ""
        self._lost_until = 0.0
        self._readings: list[Reading] = []
        self.learnt = True
        """Whether ``metrics()`` has changed since it was last called."""
        self.shut_down = False
        """Whether the last reading found that other code in this process has shut NVML down."""
        self._name, self._uuid = known.name, known.uuid
        self._more = ""
        self._limits: dict[str, float] = {}

    def use(self, used: Used, *, as_slice: bool = False) -> None:
        """From now on read this device. A certain finding replaces a guess. A second slice is not read."""
        if as_slice and self.used is not None and _bare(used.uuid) != _bare(self.used.uuid):
            self._more = ", and another slice of it is in use: name the slices (gpus=[...]) to see each"
            self.learnt = True
        elif self.used is None or (used.certain and not self.used.certain):
            self.used = used
            self.learnt = True

    def detach(self) -> None:
        """Drop the handle, which is valid in one NVML session only."""
        self._handle = None

    def metrics(self) -> Sequence[Metric]:
        """Return its columns, with the limits, sources and device name that are known so far."""
        self.learnt = False
        device = f"{self._name} ({self._uuid})" if self._uuid else self._name
        if self.used is not None and not self.used.certain:
            device += f", likely in use: {self.used.how}"
        device += self._more
        sources = {name: reading.source for reading in self._readings for name in reading.names}
        described = []
        place = _place(self.where)
        for metric in METRICS:
            limit = self._limits.get(metric.name, metric.limit)
            described.append(
                replace(
                    metric,
                    name=f"{self.where}/{metric.name}",
                    label=f"{place} {metric.label}",
                    limit=f"{self.where}/{limit}" if isinstance(limit, str) else limit,
                    source=sources.get(metric.name) or metric.source,
                    device=device,
                )
            )
        return described

    def read(self, now: float, values: dict[str, float], errors: dict[str, str]) -> None:
        """Put the result of each reading into ``values`` or ``errors``; unsupported ones are tried rarely."""
        self.shut_down = False
        if self._handle is None and now >= self._lost_until:
            self._attach_again(now)
        for reading in self._readings if self._handle is not None else ():
            if now >= reading.due:
                source = reading.source
                self._take(reading, now, values, errors)
                self.learnt = self.learnt or reading.source != source
                if self._handle is None:
                    break
            if reading.reason:
                errors.update(dict.fromkeys(self._columns_of(reading), reading.reason))
        if self._handle is None:
            errors.update((column, self._lost) for column in self.columns if math.isnan(values[column]))

    def _take(self, reading: Reading, now: float, values: dict[str, float], errors: dict[str, str]) -> None:
        """Take one reading, or note why it is missing and when to try again."""
        try:
            found = dict(zip(reading.names, reading.take(), strict=True))
            reading.reason = ""
            for name, number in found.items():
                # Some drivers return garbage now and then, such as 4294967295 % (DCGM#199).
                unit = _UNITS[name]
                limit = found.get(_LIMITS.get(name, ""), OF_A_GPU.get(unit, math.inf))
                if reason := impossible(unit, number, limit):
                    errors[f"{self.where}/{name}"] = reason
                else:
                    values[f"{self.where}/{name}"] = number
        except Missing as missing:
            reading.reason, reading.due = str(missing), now + missing.wait
        except self._nvml.NVMLError as error:
            if not self._fatal(error, now):
                reading.reason = self._explain(error)
                reading.due = now + RETRY if error.value in UNSUPPORTED else 0.0
        except Exception as error:  # noqa: BLE001 - one number must not cost the others
            reading.reason = str(error) or type(error).__name__

    def _columns_of(self, reading: Reading) -> Sequence[str]:
        return [f"{self.where}/{name}" for name in reading.names]

    def _attach_again(self, now: float) -> None:
        """Attach the device, or note why it cannot be."""
        try:
            self._attach()
        except self._nvml.NVMLError as error:
            if not self._fatal(error, now):
                self._handle, self._lost = None, explain(error)
        except Exception as error:  # noqa: BLE001 - one GPU must not cost the others
            self._handle, self._lost = None, str(error) or type(error).__name__

    def _fatal(self, error: Any, now: float) -> bool:
        """Return whether this error concerns the whole device; if so, drop its handle and try again later."""
        if error.value == UNINITIALIZED:
            self.shut_down = True
        elif error.value in LOST:
            self._lost_until = now + RETRY
        else:
            return False
        self._handle, self._lost = None, explain(error)
        return True

    def _explain(self, error: Any) -> str:
        if error.value == NOT_SUPPORTED and self._parent is not None:
            return NOT_FOR_SLICES
        if error.value == NOT_SUPPORTED and self._mig_mode:
            return "not reported while MIG is on: name a slice by its UUID (nvidia-smi -L)"
        return explain(error)

    def _ask(self, function: str, *arguments: Any) -> Any:
        """Return the result of a call that some devices do not support; None for those."""
        with contextlib.suppress(self._nvml.NVMLError):
            return getattr(self._nvml, function)(*arguments)
        return None

    def _attach(self) -> None:
        """Take the handle and read what does not change; raises NVMLError."""
        nvml = self._nvml
        assert self.used is not None  # noqa: S101 - for mypy
        self._handle, self._parent = handle, parent = find(nvml, self.used)
        self._name = self._ask("nvmlDeviceGetName", handle) or self._known.name
        self._uuid = self._ask("nvmlDeviceGetUUID", handle) or self._known.uuid
        self._mig_mode = bool((self._ask("nvmlDeviceGetMigMode", parent or handle) or [0])[0])
        self._limits = {}
        self.learnt = True
        integrated = any(word in self._name for word in _INTEGRATED)
        memory = Memory(nvml, handle, integrated=integrated)
        process = ProcessMemory(nvml, handle, self._tree, self._unrelated)
        torch = TorchMemory(sys.modules, self._ordinal)
        if parent is not None:
            activity = SliceActivity(nvml, handle, parent)
            filled = {*memory.names, *process.names, *activity.names, *torch.names}
            rest = [metric.name for metric in METRICS if metric.name not in filled]
            # Memory first: with some drivers it fails after GPM was used.
            self._readings = [memory, process, activity, torch, NotForSlices(nvml, handle, rest)]
            return
        self._readings = [
            Activity(nvml, handle),
            memory,
            process,
            Power(nvml, handle),
            Clock(nvml, handle),
            Throttled(nvml, handle),
            *(Counters(nvml, handle, link, fields, size) for link, _, fields, size in COUNTERS),
            torch,
        ]
        watts = (self._ask("nvmlDeviceGetEnforcedPowerLimit", handle) or 0) / 1e3
        hertz = (self._ask("nvmlDeviceGetMaxClockInfo", handle, nvml.NVML_CLOCK_SM) or 0) * 1e6
        for name, most in (("power_watts", watts), ("sm_clock_hertz", hertz)):
            if most and not impossible(_UNITS[name], most, OF_A_GPU[_UNITS[name]]):
                self._limits[name] = most

    def _ordinal(self) -> int:
        """Return CUDA's number of this GPU in this process; −1 if CUDA does not show it."""
        library = mapped_library()
        return -1 if library is None else ordinals(library).get(_bare(self._uuid), -1)


def find(nvml: Any, used: Used) -> tuple[Any, Any]:
    """Return the NVML handle of a device, and of its GPU if it is a MIG slice (else None); raises NVMLError.

    A search by PCI address touches no other GPU; a search by UUID may.
    """
    identity = used.uuid
    if used.index >= 0:
        return nvml.nvmlDeviceGetHandleByIndex(used.index), None
    if used.pci:
        handle = nvml.nvmlDeviceGetHandleByPciBusId(used.pci)
        if not identity or nvml.nvmlDeviceGetUUID(handle) == f"GPU-{identity}":
            return handle, None
        identity = f"MIG-{identity}"  # a slice of that GPU
    elif not identity.startswith(("GPU-", "MIG-")):
        with contextlib.suppress(nvml.NVMLError):
            return nvml.nvmlDeviceGetHandleByUUID(f"GPU-{identity}"), None
        identity = f"MIG-{identity}"
    handle = nvml.nvmlDeviceGetHandleByUUID(identity)
    if identity.startswith("GPU-"):
        return handle, None
    return handle, nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle)


def _place(where: str) -> str:
    """Return the words for a device: ``GPU 0``; ``GPU 0 slice 1/0`` for ``gpu0/gi1ci0``."""
    gpu, _, instances = where.partition("/")
    return place_label(gpu) + re.sub(r"gi(\d+)ci(\d+)", r" slice \1/\2", instances)


def _bare(uuid: str) -> str:
    return uuid.removeprefix("GPU-").removeprefix("MIG-")
