"""NVIDIA GPUs, read through NVML: the only file that knows NVML.

A GPU is attached (an NVML handle taken) only once it is in use, because a handle keeps a sleeping GPU awake.
Which ones are in use is found in cuda.py. All calls run on a thread of their own, because a wedged driver
may never answer.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import time
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NoAnswerError  # the built-in one only from Python 3.11
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

from perfmon_widgets.collectors import cuda, scope
from perfmon_widgets.collectors.rate import Rate
from perfmon_widgets.metrics import Metric

_OPENING = 10.0  # seconds that the driver gets at the start, where it may have to wake up
_ANSWER = 1.0  # seconds that it gets for one reading
_RETRY = 60.0  # seconds until something that is not supported, or lost, is tried again

_SAMPLES = "mean of the samples since the last reading (nvmlDeviceGetSamples)"
_RATES = "the driver's last sampling period (nvmlDeviceGetUtilizationRates)"

# What each column means; "gpuN/" goes before the name. Declared for every visible GPU.
METRICS = (
    Metric(
        "utilization_percent",
        "percent",
        "gpu",
        "Share of the time in which at least one CUDA kernel ran on the GPU.",
        100.0,
        _SAMPLES,
    ),
    Metric(
        "memory_percent",
        "percent",
        "gpu",
        "GPU memory in use, of all it has.",
        100.0,
        "nvmlDeviceGetMemoryInfo_v2",
    ),
    Metric(
        "memory_used_bytes",
        "bytes",
        "gpu",
        "GPU memory in use by all processes, as nvidia-smi counts it.",
        "memory_limit_bytes",
        "nvmlDeviceGetMemoryInfo_v2",
    ),
    Metric(
        "memory_limit_bytes",
        "bytes",
        "gpu",
        "GPU memory there is.",
        source="nvmlDeviceGetMemoryInfo_v2",
    ),
    Metric(
        "memory_activity_percent",
        "percent",
        "gpu",
        "Share of the time in which GPU memory was being read or written.",
        100.0,
        _SAMPLES,
    ),
    Metric(
        "power_watts", "watts", "gpu", "Power drawn by the whole board.", source="nvmlDeviceGetPowerUsage"
    ),
    Metric(
        "sm_clock_hertz",
        "hertz",
        "gpu",
        "Clock of the streaming multiprocessors.",
        source="nvmlDeviceGetClockInfo",
    ),
    *(
        Metric(
            f"{link}_{way}_bytes_per_second",
            "bytes_per_second",
            "gpu",
            f"{'Sent' if way == 'sent' else 'Received'} by the GPU over {name}.",
            source=f"nvmlDeviceGetFieldValues, field {field}",
        )
        for link, name, fields in (("pcie", "PCI Express", (197, 198)), ("nvlink", "all NVLinks", (138, 139)))
        for way, field in zip(("sent", "received"), fields, strict=True)
    ),
)

_NOT_IN_USE = (
    "no GPU in use yet: the numbers start when this Jupyter kernel, or a child of it, works on this one"
)
_NOT_FOR_SLICES = "not reported for MIG slices"
_TWO_READINGS = "a rate needs two readings"
# GPUs without memory of their own, by a word in their name.
_INTEGRATED = ("GB10", "Orin", "Thor", "Xavier", "Tegra")
_SHARED_MEMORY = "this GPU shares the machine's memory: see the RAM figure"

# NVML's return codes that matter here, and what a person can do about them.
_UNINITIALIZED, _INVALID, _NOT_SUPPORTED, _NOT_FOUND, _TOO_SMALL = 1, 2, 3, 6, 7
_LIBRARY_NOT_FOUND, _FUNCTION_NOT_FOUND, _OTHER_VERSION = 12, 13, 25
_LOST = (15, 16)
_UNSUPPORTED = (2, 3, 4, 13, 25, 26)  # not likely to change soon
_REASONS = {
    2: "the driver refuses this question for this GPU",
    3: "not supported by this GPU or its driver",
    4: "not permitted to this user: ask the administrator of this machine",
    13: "this driver is too old to tell",
    15: "the GPU is lost: it has fallen off the bus; restart the machine",
    16: "the GPU needs a reset: run nvidia-smi --gpu-reset, or restart the machine",
    18: "the driver was updated under this process: restart the machine or the container",
    26: "this driver does not tell it any more",
    999: "the driver reports an unknown error; a container may have lost its GPUs: restart it",
}
_CANNOT_OPEN = {
    4: "no permission to talk to the NVIDIA driver: check who may open /dev/nvidiactl",
    9: "the NVIDIA driver is installed but not loaded: load it (sudo modprobe nvidia), or start the container"
    " with its GPUs",
    12: "no NVIDIA driver on this machine: its library libnvidia-ml.so.1 was not found",
    13: "the NVIDIA driver is too old for this version of nvidia-ml-py: update the driver",
    18: "the NVIDIA driver was updated but its old version is still loaded: restart the machine, or the"
    " container",
}


class NvidiaUnavailable(OSError):  # noqa: N818 - a state of the machine, not always an error
    """There is no NVIDIA GPU to read, with a sentence why, for a person to act on."""

    def __init__(self, reason: str, *, broken: bool) -> None:
        super().__init__(reason)
        self.broken = broken
        """True if there is an NVIDIA driver but it does not work; False if there is simply no GPU here."""


class _Missing(Exception):  # noqa: N818 - nothing went wrong
    """A reading that cannot be had though the driver answered: why, and seconds until it is tried again."""

    def __init__(self, reason: str, wait: float = _RETRY) -> None:
        super().__init__(reason)
        self.wait = wait


class _Thread:
    """Runs functions one after the other on a thread of its own, and waits for each only so long.

    The thread starts with the first question and ends with ``close``; after that a question starts a new one.
    A child of a fork gets one of its own.
    """

    def __init__(self) -> None:
        self._process = os.getpid()
        self._questions: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] | None = None
        self._thread: Thread | None = None
        self._last: Future[Any] | None = None
        self._asked = 0.0

    def ask(self, question: Callable[[], Any], seconds: float) -> Any:
        """What the function returns, or its exception; raises NoAnswerError if that takes longer.

        As long as an earlier one has not returned, no other is begun.
        """
        if os.getpid() != self._process:
            self.__init__()  # type: ignore[misc]
        if self._last is not None and not self._last.done():
            raise NoAnswerError
        if self._questions is None:
            self._questions = SimpleQueue()
            self._thread = Thread(target=_answer, args=(self._questions,), name="perfmon-nvidia", daemon=True)
            self._thread.start()
        future: Future[Any] = Future()
        self._last, self._asked = future, time.monotonic()
        self._questions.put((future, question))
        try:
            return future.result(seconds)
        finally:
            if future.done():
                self._last = None  # an exception in it refers to the frames of all callers

    @property
    def silence(self) -> float:
        """Seconds since the last question was asked."""
        return time.monotonic() - self._asked

    def close(self) -> None:
        """End the thread, or let it end by itself where the driver still holds it; returns at once."""
        if self._questions is not None and os.getpid() == self._process:
            self._questions.put(None)
        self._questions = None

    def join(self) -> None:
        """Wait for the end of the thread, but not for a driver that holds it."""
        if self._thread is not None and (self._last is None or self._last.done()):
            self._thread.join(_ANSWER)


def _answer(questions: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]) -> None:
    """The loop of that thread. It keeps no reference between questions, so that a collector can go away."""
    while (item := questions.get()) is not None:
        future, question = item
        try:
            future.set_result(question())
        except BaseException as error:  # noqa: BLE001 - handed to the one who asked
            future.set_exception(error)
        del item, future, question


class _Session:
    """Which process has initialised NVML, and how often. Handles are good for one session only.

    It is never shut down: others in this process may be using it, and a shutdown beside a running thread
    crashes (nvitop#222).
    """

    process = -1
    number = 0


def _initialise(nvml: Any) -> int:
    """The number of the session of this process, begun if need be; raises NvidiaUnavailable."""
    if _Session.process != os.getpid():
        try:
            nvml.nvmlInit()
        except nvml.NVMLError as error:
            reason = _CANNOT_OPEN.get(error.value, f"the NVIDIA driver does not work: {_reason(error)}")
            raise NvidiaUnavailable(reason, broken=error.value != _LIBRARY_NOT_FOUND) from None
        _Session.process = os.getpid()
        _Session.number += 1
    return _Session.number


def _reason(error: Any) -> str:
    """What an NVMLError means, in words a person can act on."""
    return _REASONS.get(error.value) or f"the driver reports: {error}"


def _call(nvml: Any, function: str, *arguments: Any) -> None:
    """Call the library itself, where the binding has no call of the right shape; raises NVMLError."""
    try:
        code = getattr(nvml.nvmlLib, function)(*arguments)
    except AttributeError:
        code = _FUNCTION_NOT_FOUND
    if code:
        raise nvml.NVMLError(code)


def _bare(uuid: str) -> str:
    return uuid.removeprefix("GPU-").removeprefix("MIG-")


class _Reading:
    """One question to the driver and the columns its answer fills; it fails by itself."""

    __slots__ = ("columns", "due", "reason", "take")

    def __init__(self, take: Callable[[], Sequence[float]], columns: Sequence[str]) -> None:
        self.take = take
        self.columns = columns
        self.reason = ""
        """Why the last answer is missing."""
        self.due = 0.0
        """When to ask again (monotonic seconds)."""


class _Device:
    """The columns of one GPU, and the GPU or the MIG slice of it that fills them once it is in use."""

    def __init__(self, nvml: Any, where: str, index: int, known: cuda.Gpu) -> None:
        self._nvml = nvml
        self.where = where
        self.index = index
        self.columns = tuple(f"{where}/{metric.name}" for metric in METRICS)
        self.used: cuda.Used | None = None
        self._known = known
        self._handle: Any = None
        self._lost = ""
        self._lost_until = 0.0
        self._readings: list[_Reading] = []
        self.learnt = True
        """Whether something has changed that Metric tells."""
        self._name, self._uuid = known.name, known.uuid
        self._more = ""
        self._sources: dict[str, str] = {}
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
        described = []
        for metric in METRICS:
            limit = self._limits.get(metric.name, metric.limit)
            described.append(
                replace(
                    metric,
                    name=f"{self.where}/{metric.name}",
                    limit=f"{self.where}/{limit}" if isinstance(limit, str) else limit,
                    source=self._sources.get(metric.name, metric.source),
                    device=device,
                )
            )
        return described

    def read(self, now: float, values: dict[str, float], errors: dict[str, str]) -> None:
        """Ask everything once. What is not supported is left alone for a while, each question by itself."""
        if self._handle is None and now >= self._lost_until:
            self._guard(self._attach, now)
        for reading in self._readings if self._handle is not None else ():
            if now >= reading.due:
                try:
                    values.update(zip(reading.columns, reading.take(), strict=True))
                    reading.reason = ""
                except _Missing as missing:
                    reading.reason, reading.due = str(missing), now + missing.wait
                except self._nvml.NVMLError as error:
                    if self._fatal(error, now):
                        break
                    reading.reason = self._explain(error)
                    reading.due = now + _RETRY if error.value in _UNSUPPORTED else 0.0
            if reading.reason:
                errors.update(dict.fromkeys(reading.columns, reading.reason))
        if self._handle is None:
            errors.update((column, self._lost) for column in self.columns if math.isnan(values[column]))

    def _guard(self, step: Callable[[], None], now: float) -> None:
        try:
            step()
        except self._nvml.NVMLError as error:
            if not self._fatal(error, now):
                self._handle, self._lost = None, _reason(error)

    def _fatal(self, error: Any, now: float) -> bool:
        """Whether this error takes the whole device away; then it is looked for again after a while."""
        if error.value == _UNINITIALIZED:  # somebody in this process has shut NVML down
            _Session.process = -1
        elif error.value in _LOST:
            self._lost_until = now + _RETRY
        else:
            return False
        self._handle, self._lost = None, _reason(error)
        return True

    def _explain(self, error: Any) -> str:
        if error.value == _NOT_SUPPORTED and self._parent is not None:
            return _NOT_FOR_SLICES
        if error.value == _NOT_SUPPORTED and self._mig_mode:
            return "not reported while MIG is on: name a slice by its UUID (nvidia-smi -L)"
        return _reason(error)

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
        self._memory_version: Any = nvml.nvmlMemory_v2
        self._samples: dict[int, int] | None = dict.fromkeys((1, 2), 0)
        self._buffer = bytearray()
        self._limits = {}
        self.learnt = True
        named = {metric.name: column for metric, column in zip(METRICS, self.columns, strict=True)}

        def reading(take: Callable[[], Sequence[float]], *names: str) -> _Reading:
            return _Reading(take, tuple(named.pop(name) for name in names))

        memory = reading(self._memory, "memory_percent", "memory_used_bytes", "memory_limit_bytes")
        if parent is not None:
            self._instance = nvml.nvmlDeviceGetGpuInstanceId(handle)
            self._profile: Any = None
            self._sources["utilization_percent"] = "nvmlGpmMetricsGet, GRAPHICS_UTIL of the slice"
            # Memory first: some drivers upset it by GPM.
            self._readings = [memory, reading(self._slice_activity, "utilization_percent")]
            self._readings.append(reading(self._not_for_slices, *tuple(named)))
            return
        self._readings = [
            reading(self._activity, "utilization_percent", "memory_activity_percent"),
            memory,
            reading(self._power, "power_watts"),
            reading(self._clock, "sm_clock_hertz"),
        ]
        for link, fields, size in (("pcie", (197, 198), 1), ("nvlink", (138, 139), 1024)):
            names = (f"{link}_sent_bytes_per_second", f"{link}_received_bytes_per_second")
            self._readings.append(reading(self._counter(fields, size), *names))
        if milliwatts := self._ask("nvmlDeviceGetEnforcedPowerLimit", handle):
            self._limits["power_watts"] = milliwatts / 1e3
        if megahertz := self._ask("nvmlDeviceGetMaxClockInfo", handle, nvml.NVML_CLOCK_SM):
            self._limits["sm_clock_hertz"] = megahertz * 1e6

    def _memory(self) -> Sequence[float]:
        """Percent, used and total bytes. Version 2 counts as nvidia-smi does; drivers before 510 lack it."""
        nvml = self._nvml
        try:
            memory = nvml.nvmlDeviceGetMemoryInfo(self._handle, version=self._memory_version)
        except nvml.NVMLError as error:
            if self._memory_version and error.value in (_INVALID, _FUNCTION_NOT_FOUND, _OTHER_VERSION):
                self._memory_version, self.learnt = None, True
                source = "nvmlDeviceGetMemoryInfo, which counts reserved memory as used"
                names = ("memory_percent", "memory_used_bytes", "memory_limit_bytes")
                self._sources.update(dict.fromkeys(names, source))
                return self._memory()
            if error.value == _NOT_SUPPORTED and self._is_integrated():
                raise _Missing(_SHARED_MEMORY) from None
            raise
        if not memory.total:
            raise _Missing(
                _SHARED_MEMORY if self._is_integrated() else "the driver tells no size of its memory"
            )
        return 100 * memory.used / memory.total, float(memory.used), float(memory.total)

    def _is_integrated(self) -> bool:
        return any(word in self._name for word in _INTEGRATED)

    def _power(self) -> Sequence[float]:
        return (self._nvml.nvmlDeviceGetPowerUsage(self._handle) / 1e3,)

    def _clock(self) -> Sequence[float]:
        return (self._nvml.nvmlDeviceGetClockInfo(self._handle, self._nvml.NVML_CLOCK_SM) * 1e6,)

    def _activity(self) -> Sequence[float]:
        """Percent of time in which a CUDA kernel ran, and in which memory was read or written.

        From the samples that the driver has kept since the last reading. An idle GPU keeps none, and some
        have none at all; then from the driver's last sampling period.
        """
        if self._samples is not None:
            try:
                return self._mean_of_samples(1), self._mean_of_samples(2)
            except self._nvml.NVMLError as error:
                if error.value in _UNSUPPORTED:
                    self._samples, self.learnt = None, True
                    self._sources.update(
                        dict.fromkeys(("utilization_percent", "memory_activity_percent"), _RATES)
                    )
                elif error.value != _NOT_FOUND:
                    raise
        rates = self._nvml.nvmlDeviceGetUtilizationRates(self._handle)
        return float(rates.gpu), float(rates.memory)

    def _mean_of_samples(self, kind: int) -> float:
        """The mean of the driver's samples that are newer than the last one seen, in percent.

        Raises NVMLError: NOT_FOUND if there is none, NOT_SUPPORTED if they are not percentages.
        """
        nvml = self._nvml
        assert self._samples is not None  # noqa: S101 - for mypy
        last = self._samples[kind]
        form, count = ctypes.c_int(), ctypes.c_uint()

        def ask(since: int, memory: Any) -> None:
            answer = ctypes.byref(form), ctypes.byref(count), memory
            _call(nvml, "nvmlDeviceGetSamples", self._handle, kind, ctypes.c_ulonglong(since), *answer)

        if not self._buffer:
            ask(0, None)  # tells only how many there can be
            self._buffer = bytearray(16 * (count.value or 1))
        # The memory of nvmlSample_t[]: a time stamp in microseconds, then a value of 4 of its 8 bytes.
        size = count.value = len(self._buffer) // 16
        try:
            ask(last, (ctypes.c_char * len(self._buffer)).from_buffer(self._buffer))
        except nvml.NVMLError as error:
            if error.value == _TOO_SMALL:
                self._buffer = bytearray()
                raise nvml.NVMLError(_NOT_FOUND) from None
            raise
        used = min(count.value, size)
        stamps = memoryview(self._buffer).cast("Q")[: 2 * used : 2].tolist()
        taken = memoryview(self._buffer).cast("I")[2 : 4 * used : 4].tolist()
        newest = max(stamps, default=0)
        if not last:
            # The buffer reaches back to before the GPU was in use: take the last second of it.
            taken = [
                number for stamp, number in zip(stamps, taken, strict=True) if stamp > newest - 1_000_000
            ]
        if not taken:
            raise nvml.NVMLError(_NOT_FOUND)
        if form.value != nvml.NVML_VALUE_TYPE_UNSIGNED_INT or max(taken) > 100:
            raise nvml.NVMLError(_NOT_SUPPORTED)  # seen under MIG with driver 535: raw counts
        self._samples[kind] = newest
        return sum(taken) / len(taken)

    def _counter(self, fields: Sequence[int], size: int) -> Callable[[], Sequence[float]]:
        """A reading of counters of so many bytes each, as bytes per second."""
        nvml = self._nvml
        # One more than asked for: for NVLink the driver may write behind the end (as nvitop found).
        answers = (nvml.c_nvmlFieldValue_t * (len(fields) + 1))()
        rates = [Rate() for _ in fields]
        for answer, field in zip(answers, fields, strict=False):
            answer.fieldId = field
            answer.scopeId = 0 if size == 1 else 0xFFFFFFFF  # for NVLink: the sum of all links

        def take() -> Sequence[float]:
            _call(nvml, "nvmlDeviceGetFieldValues", self._handle, len(fields), answers)
            now = time.monotonic()
            grown = []
            for answer, rate in zip(answers, rates, strict=False):
                if answer.nvmlReturn:
                    raise nvml.NVMLError(answer.nvmlReturn)
                if answer.valueType == nvml.NVML_VALUE_TYPE_UNSIGNED_INT:
                    raise _Missing(
                        "its counter has 32 bits and starts anew every 4 GiB: too often for a rate"
                    )
                grown.append(rate.update(answer.value.ullVal * size, now))
            if any(map(math.isnan, grown)):
                raise _Missing(_TWO_READINGS, 0.0)
            return grown

        return take

    def _slice_activity(self) -> Sequence[float]:
        """Percent of time in which the slice computed, between the last two readings of GPM (Hopper on)."""
        nvml = self._nvml
        if self._profile is None:
            if not nvml.nvmlGpmQueryDeviceSupport(self._parent).isSupportedDevice:
                raise _Missing(_NOT_FOR_SLICES)
            self._profile = nvml.c_nvmlGpmMetricsGet_t()
            self._profile.version = nvml.NVML_GPM_METRICS_GET_VERSION
            self._profile.numMetrics = 1
            self._profile.metrics[0].metricId = nvml.NVML_GPM_METRIC_GRAPHICS_UTIL
            self._spare = nvml.nvmlGpmSampleAlloc()
            self._newest: Any = None
            self._taken: float = -math.inf
        if time.monotonic() - self._taken < 0.1:
            raise _Missing("GPM needs 0.1 s between two readings", 0.0)
        oldest, self._newest = self._newest, None
        nvml.nvmlGpmMigSampleGet(self._parent, self._instance, self._spare)
        self._newest, self._taken = self._spare, time.monotonic()
        self._spare = oldest or nvml.nvmlGpmSampleAlloc()
        if oldest is None:
            raise _Missing(_TWO_READINGS, 0.0)
        self._profile.sample1, self._profile.sample2 = oldest, self._newest
        nvml.nvmlGpmMetricsGet(self._profile)
        if self._profile.metrics[0].nvmlReturn:
            raise nvml.NVMLError(self._profile.metrics[0].nvmlReturn)
        return (float(self._profile.metrics[0].value),)

    def _not_for_slices(self) -> Sequence[float]:
        raise _Missing(_NOT_FOR_SLICES)


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


class NvidiaCollector:
    """NVIDIA GPUs that this process and its children use.

    ``gpus`` names the GPUs (index as in nvidia-smi, UUID, or the UUID of a MIG slice) and overrules the
    search for those in use; ``search`` replaces that search. Raises NvidiaUnavailable if there is no GPU to
    read, ValueError if a named one does not exist.

    ``metrics`` has the columns of every visible GPU; they are NaN until it is in use. A guess that a GPU is
    in use is marked "likely" in ``Metric.device``. Where a MIG slice is in use, the columns of its GPU are
    the figures of that slice.
    """

    def __init__(
        self,
        gpus: Sequence[int | str] | None = None,
        *,
        search: Callable[[], Sequence[cuda.Used]] | None = None,
        proc: Path = scope.PROC,
    ) -> None:
        with warnings.catch_warnings():
            # The deprecated distribution "pynvml" warns at every import, for reasons that are not the user's.
            warnings.simplefilter("ignore", FutureWarning)
            try:
                import pynvml  # noqa: PLC0415 - not at import time: many machines have no GPU
            except ImportError:
                raise NvidiaUnavailable("the package nvidia-ml-py is not installed", broken=True) from None
        self._nvml: Any = pynvml
        self.errors: Mapping[str, str] = {}
        self._devices: list[_Device] = []
        self._seen: dict[str | int, _Device | None] = {}
        self._trouble: dict[str | int, str] = {}
        self._thread = _Thread()
        # This only signals: joining could happen on the very thread that drops the last reference.
        weakref.finalize(self, self._thread.close).atexit = False
        try:
            self._thread.ask(lambda: self._open(gpus, proc), _OPENING)
        except NoAnswerError:
            reason = f"the NVIDIA driver has not answered for {_OPENING:.0f} s; see what nvidia-smi says"
            raise NvidiaUnavailable(reason, broken=True) from None
        finally:
            self.close()
        if search is not None or gpus is None:
            self._search = search or cuda.Search(self._known, proc=proc).look
        else:
            self._search = list  # named GPUs are in use because the user says so: nothing to find

    @property
    def metrics(self) -> Sequence[Metric]:
        """The columns of every visible GPU; device, limit and source are filled in as they become known."""
        return self._metrics

    def collect(self) -> Mapping[str, float]:
        """One reading of every GPU in use, after about a second at the latest.

        Raises NvidiaUnavailable if the driver no longer works at all.
        """
        try:
            values, self.errors = self._thread.ask(self._read, _ANSWER)
        except NoAnswerError:
            reason = f"the NVIDIA driver has not answered for {self._thread.silence:.0f} s"
            self.errors = dict.fromkeys(self._names, reason)
            return dict.fromkeys(self._names, math.nan)
        return dict(values)

    def close(self) -> None:
        """End the thread that asks the driver; the next reading starts a new one."""
        self._thread.close()
        self._thread.join()

    def _open(self, gpus: Sequence[int | str] | None, proc: Path) -> None:
        nvml = self._nvml
        self._session = _initialise(nvml)
        try:
            count = nvml.nvmlDeviceGetCount()
        except nvml.NVMLError as error:
            raise NvidiaUnavailable(
                f"the NVIDIA driver does not work: {_reason(error)}", broken=True
            ) from None
        if not count:
            raise NvidiaUnavailable("the NVIDIA driver shows no GPU to this process", broken=False)
        known = cuda.known_gpus(proc)
        self._known = known if len(known) == count else [cuda.Gpu()] * count
        if gpus is None:
            text, order = os.environ.get("CUDA_VISIBLE_DEVICES"), os.environ.get("CUDA_DEVICE_ORDER", "")
            visible = cuda.visible_devices(text, self._known, order)
            if visible.certain and not visible.indices:
                raise NvidiaUnavailable(
                    "CUDA_VISIBLE_DEVICES hides every GPU from this process", broken=False
                )
            for index in sorted(visible.indices) if visible.certain else range(count):
                self._devices.append(_Device(nvml, f"gpu{index}", index, self._known[index]))
        for gpu in gpus or ():
            self._name(gpu)
        self._describe()
        self._names = [metric.name for metric in self._metrics]

    def _name(self, gpu: int | str) -> None:
        """Add the columns of a GPU that the user named; raises ValueError if there is none of that name."""
        nvml = self._nvml
        if isinstance(gpu, str) and gpu.isdigit():
            gpu = int(gpu)
        used = cuda.Used("named", index=gpu) if isinstance(gpu, int) else cuda.Used("named", uuid=gpu)
        if used.index < 0 and not used.uuid.startswith(("GPU-", "MIG-")):
            raise ValueError(f"there is no GPU {gpu!r} here, only {self._existing()}")
        try:
            handle, parent = find(nvml, used)
            index = nvml.nvmlDeviceGetIndex(parent or handle)
            where = f"gpu{index}"
            if parent and any(device.where == where for device in self._devices):
                ids = nvml.nvmlDeviceGetGpuInstanceId(handle), nvml.nvmlDeviceGetComputeInstanceId(handle)
                where = f"gpu{index}/gi{ids[0]}ci{ids[1]}"
        except nvml.NVMLError as error:
            if error.value not in (_INVALID, _NOT_FOUND):
                raise NvidiaUnavailable(
                    f"GPU {gpu!r} cannot be read: {_reason(error)}", broken=True
                ) from None
            raise ValueError(f"there is no GPU {gpu!r} here, only {self._existing()}") from None
        if all(device.where != where for device in self._devices):
            self._devices.append(_Device(nvml, where, index, self._known[index]))
            self._devices[-1].use(used)

    def _existing(self) -> str:
        """The GPUs there are, for an error message: ``0 (GPU-…), 1 (GPU-…)``."""
        listed = []
        for index, gpu in enumerate(self._known):
            identity = gpu.uuid
            if not identity:
                with contextlib.suppress(self._nvml.NVMLError):
                    handle = self._nvml.nvmlDeviceGetHandleByIndex(index)
                    identity = self._nvml.nvmlDeviceGetUUID(handle)
            listed.append(f"{index} ({identity})" if identity else str(index))
        return ", ".join(listed)

    def _describe(self) -> None:
        self._metrics = tuple(metric for device in self._devices for metric in device.metrics())

    def _read(self) -> tuple[dict[str, float], dict[str, str]]:
        """One reading and the reasons for what is missing; runs on the collector's thread."""
        session = _initialise(self._nvml)
        if session != self._session:
            self._session = session
            for device in self._devices:
                device.detach()
        for used in self._search():
            self._notice(used)
        now = time.monotonic()
        values = dict.fromkeys(self._names, math.nan)
        errors: dict[str, str] = {}
        for device in self._devices:
            if device.used is None:
                reason = next(iter(self._trouble.values()), _NOT_IN_USE)
                errors.update(dict.fromkeys(device.columns, reason))
            else:
                device.read(now, values, errors)
        if any(device.learnt for device in self._devices):
            self._describe()
        return values, errors

    def _notice(self, used: cuda.Used) -> None:
        """Begin to read a GPU that was found in use, or be surer of it."""
        key = used.uuid or used.pci or used.index
        if key in self._seen:
            device = self._seen[key]
            if device is not None:
                device.use(used)
            return
        try:
            handle, parent = find(self._nvml, used)
            index = self._nvml.nvmlDeviceGetIndex(parent or handle)
        except self._nvml.NVMLError as error:
            if error.value == _UNINITIALIZED:
                _Session.process = -1
            self._trouble[key] = f"a GPU is in use, but cannot be read: {_reason(error)}"
            return  # tried again at the next reading
        self._trouble.pop(key, None)
        self._seen[key] = device = next((one for one in self._devices if one.index == index), None)
        if device is None:
            self._trouble[key] = (
                f"this Jupyter kernel also uses GPU {index}, which CUDA_VISIBLE_DEVICES hid when the monitor"
                " was made: make a new one to see it"
            )
        else:
            device.use(used, as_slice=parent is not None)
