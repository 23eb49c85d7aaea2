"""One GPU or MIG slice: its columns, whether it is in use, and what is read of it then."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from perfmon_widgets.collectors.nvidia import in_use as cuda
from perfmon_widgets.collectors.nvidia.errors import (
    LOST,
    NOT_SUPPORTED,
    RETRY,
    UNINITIALIZED,
    UNSUPPORTED,
    Missing,
    explain,
)
from perfmon_widgets.collectors.nvidia.readings import (
    COUNTERS,
    METRICS,
    NOT_FOR_SLICES,
    Activity,
    Clock,
    Counters,
    Memory,
    NotForSlices,
    Power,
    Reading,
    SliceActivity,
)
from perfmon_widgets.metrics import Metric

# GPUs without memory of their own, by a word in their name.
_INTEGRATED = ("GB10", "Orin", "Thor", "Xavier", "Tegra")


class Device:
    """The columns of one GPU, and the GPU or the MIG slice of it that fills them once it is in use."""

    def __init__(self, nvml: Any, where: str, index: int, known: cuda.Gpu) -> None:
        self._nvml = nvml
        self.where = where
        self.index = index
        self.columns = tuple(f"{where}/{metric.name}" for metric in METRICS)
        self.used: cuda.Used | None = None
        self._known = known
        self._handle: Any = None
        self._parent: Any = None
        self._mig_mode = False
        self._lost = ""
        self._lost_until = 0.0
        self._readings: list[Reading] = []
        self.learnt = True
        """Whether something has changed that Metric tells."""
        self.shut_down = False
        """Whether the last reading has found that somebody in this process has shut NVML down."""
        self._name, self._uuid = known.name, known.uuid
        self._more = ""
        self._limits: dict[str, float] = {}

    def use(self, used: cuda.Used, *, as_slice: bool = False) -> None:
        """Begin to read it; a certain finding replaces a guess. One slice of a GPU can fill its columns."""
        if as_slice and self.used is not None and _bare(used.uuid) != _bare(self.used.uuid):
            self._more = ", and another slice of it is in use: name the slices (gpus=[...]) to see each"
            self.learnt = True
        elif self.used is None or (used.certain and not self.used.certain):
            self.used = used
            self.learnt = True

    def detach(self) -> None:
        """Forget the handle, which belongs to a session that is over."""
        self._handle = None

    def metrics(self) -> Sequence[Metric]:
        """What its columns mean, as far as is known."""
        self.learnt = False
        device = f"{self._name} ({self._uuid})" if self._uuid else self._name
        if self.used is not None and not self.used.certain:
            device += f", likely in use: {self.used.how}"
        device += self._more
        sources = {name: reading.source for reading in self._readings for name in reading.names}
        described = []
        for metric in METRICS:
            limit = self._limits.get(metric.name, metric.limit)
            described.append(
                replace(
                    metric,
                    name=f"{self.where}/{metric.name}",
                    limit=f"{self.where}/{limit}" if isinstance(limit, str) else limit,
                    source=sources.get(metric.name) or metric.source,
                    device=device,
                )
            )
        return described

    def read(self, now: float, values: dict[str, float], errors: dict[str, str]) -> None:
        """Ask everything once. What is not supported is left alone for a while, each question by itself."""
        self.shut_down = False
        if self._handle is None and now >= self._lost_until:
            self._guard(self._attach, now)
        for reading in self._readings if self._handle is not None else ():
            if now >= reading.due:
                source = reading.source
                self._take(reading, now, values)
                self.learnt = self.learnt or reading.source != source
                if self._handle is None:
                    break
            if reading.reason:
                errors.update(dict.fromkeys(self._columns_of(reading), reading.reason))
        if self._handle is None:
            errors.update((column, self._lost) for column in self.columns if math.isnan(values[column]))

    def _take(self, reading: Reading, now: float, values: dict[str, float]) -> None:
        """Ask one question, or write down why there is no answer and when to ask again."""
        try:
            values.update(zip(self._columns_of(reading), reading.take(), strict=True))
            reading.reason = ""
        except Missing as missing:
            reading.reason, reading.due = str(missing), now + missing.wait
        except self._nvml.NVMLError as error:
            if not self._fatal(error, now):
                reading.reason = self._explain(error)
                reading.due = now + RETRY if error.value in UNSUPPORTED else 0.0

    def _columns_of(self, reading: Reading) -> Sequence[str]:
        return [f"{self.where}/{name}" for name in reading.names]

    def _guard(self, step: Callable[[], None], now: float) -> None:
        try:
            step()
        except self._nvml.NVMLError as error:
            if not self._fatal(error, now):
                self._handle, self._lost = None, explain(error)

    def _fatal(self, error: Any, now: float) -> bool:
        """Whether this error takes the whole device away; then it is looked for again after a while."""
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
        """What a call that not every device answers returns; None where this one does not."""
        with contextlib.suppress(self._nvml.NVMLError):
            return getattr(self._nvml, function)(*arguments)
        return None

    def _attach(self) -> None:
        """Take the handle and learn what stays as it is; raises NVMLError."""
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
        if parent is not None:
            activity = SliceActivity(nvml, handle, parent)
            told = {*memory.names, *activity.names}
            rest = [metric.name for metric in METRICS if metric.name not in told]
            # Memory first: some drivers upset it by GPM.
            self._readings = [memory, activity, NotForSlices(nvml, handle, rest)]
            return
        self._readings = [
            Activity(nvml, handle),
            memory,
            Power(nvml, handle),
            Clock(nvml, handle),
            *(Counters(nvml, handle, link, fields, size) for link, _, fields, size in COUNTERS),
        ]
        if milliwatts := self._ask("nvmlDeviceGetEnforcedPowerLimit", handle):
            self._limits["power_watts"] = milliwatts / 1e3
        if megahertz := self._ask("nvmlDeviceGetMaxClockInfo", handle, nvml.NVML_CLOCK_SM):
            self._limits["sm_clock_hertz"] = megahertz * 1e6


def find(nvml: Any, used: cuda.Used) -> tuple[Any, Any]:
    """The NVML handle of a device, and of its GPU where it is a MIG slice (else None); raises NVMLError.

    By PCI address no other GPU is touched, which a search by UUID may do.
    """
    identity = used.uuid
    if used.index >= 0:
        return nvml.nvmlDeviceGetHandleByIndex(used.index), None
    if used.pci:
        handle = nvml.nvmlDeviceGetHandleByPciBusId(used.pci)
        if not identity or nvml.nvmlDeviceGetUUID(handle) == f"GPU-{identity}":
            return handle, None
        identity = f"MIG-{identity}"  # on that GPU, but not all of it
    elif not identity.startswith(("GPU-", "MIG-")):
        with contextlib.suppress(nvml.NVMLError):
            return nvml.nvmlDeviceGetHandleByUUID(f"GPU-{identity}"), None
        identity = f"MIG-{identity}"
    handle = nvml.nvmlDeviceGetHandleByUUID(identity)
    if identity.startswith("GPU-"):
        return handle, None
    return handle, nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle)


def _bare(uuid: str) -> str:
    return uuid.removeprefix("GPU-").removeprefix("MIG-")
