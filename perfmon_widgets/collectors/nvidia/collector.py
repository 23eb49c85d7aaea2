"""NVIDIA GPUs, read through NVML: the only file that imports pynvml.

A GPU is attached (an NVML handle taken) only once it is in use, because a handle keeps a sleeping GPU awake.
Which ones are in use is found in cuda.py, what is read of each is in nvidia_readings.py. All calls run on a
thread of their own, because a wedged driver may never answer.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from perfmon_widgets.collectors.linux import limits as scope
from perfmon_widgets.collectors.nvidia import in_use as cuda
from perfmon_widgets.collectors.nvidia.device import Device, find
from perfmon_widgets.collectors.nvidia.errors import (
    INVALID,
    LIBRARY_NOT_FOUND,
    NOT_FOUND,
    UNINITIALIZED,
    explain,
    explain_opening,
)
from perfmon_widgets.collectors.nvidia.readings import METRICS
from perfmon_widgets.collectors.timeout_thread import NoAnswerError, TimeoutThread
from perfmon_widgets.metrics import Metric

__all__ = ["METRICS", "NvidiaCollector", "NvidiaUnavailable"]

_OPENING = 10.0  # seconds that the driver gets at the start, where it may have to wake up
_ANSWER = 1.0  # seconds that it gets for one reading

_NOT_IN_USE = (
    "no GPU in use yet: the numbers start when this Jupyter kernel, or a child of it, works on this one"
)


class NvidiaUnavailable(OSError):  # noqa: N818 - a state of the machine, not always an error
    """There is no NVIDIA GPU to read, with a sentence why, for a person to act on."""

    def __init__(self, reason: str, *, broken: bool) -> None:
        super().__init__(reason)
        self.broken = broken
        """True if there is an NVIDIA driver but it does not work; False if there is simply no GPU here."""


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
            broken = error.value != LIBRARY_NOT_FOUND
            raise NvidiaUnavailable(explain_opening(error), broken=broken) from None
        _Session.process = os.getpid()
        _Session.number += 1
    return _Session.number


class NvidiaCollector:
    """NVIDIA GPUs that this process and its children use.

    ``gpus`` names the GPUs (index as in nvidia-smi, UUID, or the UUID of a MIG slice) and overrules the
    search for those in use; ``search`` replaces that search, ``root`` is another process to search instead of
    this one. Raises NvidiaUnavailable if there is no GPU to read, ValueError if a named one does not exist.

    ``metrics`` has the columns of every visible GPU; they are NaN until it is in use. A guess that a GPU is
    in use is marked "likely" in ``Metric.device``. Where a MIG slice is in use, the columns of its GPU are
    the figures of that slice.
    """

    def __init__(
        self,
        gpus: Sequence[int | str] | None = None,
        *,
        search: Callable[[], Sequence[cuda.Used]] | None = None,
        root: int | None = None,
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
        self._devices: list[Device] = []
        self._seen: dict[str | int, Device | None] = {}
        self._trouble: dict[str | int, str] = {}
        self._thread = TimeoutThread("perfmon-nvidia")
        try:
            self._thread.ask(lambda: self._open(gpus, proc), _OPENING)
        except NoAnswerError:
            reason = f"the NVIDIA driver has not answered for {_OPENING:.0f} s; see what nvidia-smi says"
            raise NvidiaUnavailable(reason, broken=True) from None
        finally:
            self.close()
        if search is not None or gpus is None:
            self._search = search or cuda.Search(self._known, root=root, proc=proc).look
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
        self._thread.join(_ANSWER)

    def _open(self, gpus: Sequence[int | str] | None, proc: Path) -> None:
        nvml = self._nvml
        self._session = _initialise(nvml)
        try:
            count = nvml.nvmlDeviceGetCount()
        except nvml.NVMLError as error:
            raise NvidiaUnavailable(
                f"the NVIDIA driver does not work: {explain(error)}", broken=True
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
                self._devices.append(Device(nvml, f"gpu{index}", index, self._known[index]))
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
            if error.value not in (INVALID, NOT_FOUND):
                raise NvidiaUnavailable(
                    f"GPU {gpu!r} cannot be read: {explain(error)}", broken=True
                ) from None
            raise ValueError(f"there is no GPU {gpu!r} here, only {self._existing()}") from None
        if all(device.where != where for device in self._devices):
            self._devices.append(Device(nvml, where, index, self._known[index]))
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
                if device.shut_down:
                    _Session.process = -1
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
            if error.value == UNINITIALIZED:
                _Session.process = -1
            self._trouble[key] = f"a GPU is in use, but cannot be read: {explain(error)}"
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
