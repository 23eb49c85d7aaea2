"""The calls of NVML that read one GPU or MIG slice: a class for each call and the columns it fills.

The argument ``nvml`` is the module pynvml, which only collector.py imports; ``handle`` is NVML's handle of
the device.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from typing import Any

from perfmon_widgets.clocks import time
from perfmon_widgets.collectors.nvidia.errors import (
    FUNCTION_NOT_FOUND,
    INVALID,
    NOT_FOUND,
    NOT_SUPPORTED,
    OTHER_VERSION,
    TOO_SMALL,
    UNSUPPORTED,
    Missing,
)
from perfmon_widgets.collectors.plausible import impossible

_RATES = "the driver's last sampling period (nvmlDeviceGetUtilizationRates)"

# After this many answers in a row with nothing but garbage, no more samples are asked for.
_GARBAGE = 3

NOT_FOR_SLICES = "not reported for MIG slices"
TWO_READINGS = "a rate needs two readings"
_SHARED_MEMORY = "this GPU shares the machine's memory: see the RAM figure"


class Reading:
    """One call of the driver and the columns it fills; each fails separately."""

    names: Sequence[str] = ()
    source = ""
    """Where the numbers come from, if that differs from what METRICS says."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml = nvml
        self._handle = handle
        self.reason = ""
        """Why the last reading is missing."""
        self.due = 0.0
        """When to read again (monotonic seconds)."""

    def take(self) -> Sequence[float]:
        """Return a value for each name in the unit of its metric; raises NVMLError or Missing."""
        raise NotImplementedError


class NotForSlices(Reading):
    """The columns that NVML has for whole GPUs only."""

    def __init__(self, nvml: Any, handle: Any, names: Sequence[str]) -> None:
        super().__init__(nvml, handle)
        self.names = names

    def take(self) -> Sequence[float]:
        """Raise Missing, always."""
        raise Missing(NOT_FOR_SLICES)


class Memory(Reading):
    """Memory: percent, bytes in use and size. An ``integrated`` GPU may have no memory of its own."""

    names = ("memory_percent", "memory_used_bytes", "memory_limit_bytes")

    def __init__(self, nvml: Any, handle: Any, *, integrated: bool) -> None:
        super().__init__(nvml, handle)
        self._integrated = integrated
        self._version: Any = nvml.nvmlMemory_v2

    def take(self) -> Sequence[float]:
        """Read version 2, which counts as nvidia-smi does, or version 1 for drivers before 510."""
        nvml = self._nvml
        try:
            memory = nvml.nvmlDeviceGetMemoryInfo(self._handle, version=self._version)
        except nvml.NVMLError as error:
            if self._version and error.value in (INVALID, FUNCTION_NOT_FOUND, OTHER_VERSION):
                self._version = None
                self.source = "nvmlDeviceGetMemoryInfo, which counts reserved memory as used"
                return self.take()
            if error.value == NOT_SUPPORTED and self._integrated:
                raise Missing(_SHARED_MEMORY) from None
            raise
        if not memory.total:
            raise Missing(_SHARED_MEMORY if self._integrated else "the driver reports no size of its memory")
        if reason := impossible("bytes", memory.total):
            raise Missing(reason, 0.0)
        return 100 * memory.used / memory.total, float(memory.used), float(memory.total)


class Power(Reading):
    """The power drawn, in watts."""

    names = ("power_watts",)

    def take(self) -> Sequence[float]:
        """Return watts; NVML counts milliwatts."""
        return (self._nvml.nvmlDeviceGetPowerUsage(self._handle) / 1e3,)


class Clock(Reading):
    """The clock of the streaming multiprocessors, in hertz."""

    names = ("sm_clock_hertz",)

    def take(self) -> Sequence[float]:
        """Return hertz; NVML counts megahertz."""
        return (self._nvml.nvmlDeviceGetClockInfo(self._handle, self._nvml.NVML_CLOCK_SM) * 1e6,)


class Activity(Reading):
    """Percent of time in which a CUDA kernel ran, and in which memory was read or written."""

    names = ("utilization_percent", "memory_activity_percent")

    def __init__(self, nvml: Any, handle: Any) -> None:
        super().__init__(nvml, handle)
        # By kind of sample, the time stamp of the last one seen; None where the samples cannot be used.
        self._last: dict[int, int] | None = dict.fromkeys((1, 2), 0)
        # By kind, how many answers in a row had only samples that are no percentages.
        self._garbage = dict.fromkeys((1, 2), 0)
        self._buffer = bytearray()

    def take(self) -> Sequence[float]:
        """Return the means of the driver's samples since the last reading.

        An idle GPU has no new samples, and some GPUs never have any: then the values are those of the
        driver's last sampling period.
        """
        if self._last is not None:
            try:
                return self._mean_of_samples(self._last, 1), self._mean_of_samples(self._last, 2)
            except self._nvml.NVMLError as error:
                if error.value in UNSUPPORTED:
                    self._last, self.source = None, _RATES
                elif error.value != NOT_FOUND:
                    raise
        rates = self._nvml.nvmlDeviceGetUtilizationRates(self._handle)
        return float(rates.gpu), float(rates.memory)

    def _mean_of_samples(self, seen: dict[int, int], kind: int) -> float:
        """Return the mean of the driver's samples that are newer than the last one seen, in percent.

        Raises NVMLError: NOT_FOUND if there is none, or only garbage; NOT_SUPPORTED if they are never
        percentages.
        """
        nvml = self._nvml
        last = seen[kind]
        form, count = ctypes.c_int(), ctypes.c_uint()

        def ask(since: int, memory: Any) -> None:
            answer = ctypes.byref(form), ctypes.byref(count), memory
            call(nvml, "nvmlDeviceGetSamples", self._handle, kind, ctypes.c_ulonglong(since), *answer)

        if not self._buffer:
            ask(0, None)  # returns only how many there can be
            self._buffer = bytearray(16 * (count.value or 1))
        # The layout of nvmlSample_t: a time stamp in microseconds, then a value in 4 of its 8 bytes.
        size = count.value = len(self._buffer) // 16
        try:
            ask(last, (ctypes.c_char * len(self._buffer)).from_buffer(self._buffer))
        except nvml.NVMLError as error:
            if error.value == TOO_SMALL:
                self._buffer = bytearray()
                raise nvml.NVMLError(NOT_FOUND) from None
            raise
        used = min(count.value, size)
        stamps = memoryview(self._buffer).cast("Q")[: 2 * used : 2].tolist()
        taken = memoryview(self._buffer).cast("I")[2 : 4 * used : 4].tolist()
        newest = max(stamps, default=0)
        if not last:
            # The buffer reaches back to before the GPU was in use: take only its last second.
            taken = [
                number for stamp, number in zip(stamps, taken, strict=True) if stamp > newest - 1_000_000
            ]
        if not taken:
            raise nvml.NVMLError(NOT_FOUND)
        if form.value != nvml.NVML_VALUE_TYPE_UNSIGNED_INT:
            raise nvml.NVMLError(NOT_SUPPORTED)
        seen[kind] = newest
        # Some are garbage now and then (DCGM#199), under MIG with driver 535 all are raw counts.
        percentages = [number for number in taken if not impossible("percent", number)]
        self._garbage[kind] = 0 if percentages else self._garbage[kind] + 1
        if not percentages:
            raise nvml.NVMLError(NOT_FOUND if self._garbage[kind] < _GARBAGE else NOT_SUPPORTED)
        return sum(percentages) / len(percentages)


class SliceActivity(Reading):
    """Percent of time in which a MIG slice computed, from GPM, which Hopper and later GPUs have."""

    names = ("utilization_percent",)
    source = "nvmlGpmMetricsGet, GRAPHICS_UTIL of the slice"

    def __init__(self, nvml: Any, handle: Any, parent: Any) -> None:
        super().__init__(nvml, handle)
        self._parent = parent
        self._instance = nvml.nvmlDeviceGetGpuInstanceId(handle)
        self._profile: Any = None
        self._spare: Any = None
        self._newest: Any = None
        self._taken = -math.inf

    def take(self) -> Sequence[float]:
        """Return the mean between the last reading and now; raises Missing if that is less than 0.1 s."""
        if self._profile is None:
            self._prepare()
        nvml = self._nvml
        if time.monotonic() - self._taken < 0.1:
            raise Missing("GPM needs 0.1 s between two readings", 0.0)
        oldest, self._newest = self._newest, None
        nvml.nvmlGpmMigSampleGet(self._parent, self._instance, self._spare)
        self._newest, self._taken = self._spare, time.monotonic()
        self._spare = oldest or nvml.nvmlGpmSampleAlloc()
        if oldest is None:
            raise Missing(TWO_READINGS, 0.0)
        self._profile.sample1, self._profile.sample2 = oldest, self._newest
        nvml.nvmlGpmMetricsGet(self._profile)
        if self._profile.metrics[0].nvmlReturn:
            raise nvml.NVMLError(self._profile.metrics[0].nvmlReturn)
        return (float(self._profile.metrics[0].value),)

    def _prepare(self) -> None:
        """Allocate the buffers of GPM; raises Missing where the GPU has no GPM."""
        nvml = self._nvml
        if not nvml.nvmlGpmQueryDeviceSupport(self._parent).isSupportedDevice:
            raise Missing(NOT_FOR_SLICES)
        self._spare = nvml.nvmlGpmSampleAlloc()
        self._profile = nvml.c_nvmlGpmMetricsGet_t()
        self._profile.version = nvml.NVML_GPM_METRICS_GET_VERSION
        self._profile.numMetrics = 1
        self._profile.metrics[0].metricId = nvml.NVML_GPM_METRIC_GRAPHICS_UTIL


def call(nvml: Any, function: str, *arguments: Any) -> None:
    """Call the library directly, where pynvml has no fitting function; raises NVMLError."""
    try:
        code = getattr(nvml.nvmlLib, function)(*arguments)
    except AttributeError:
        code = FUNCTION_NOT_FOUND
    if code:
        raise nvml.NVMLError(code)
