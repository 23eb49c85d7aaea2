"""NvidiaCollector: NVIDIA GPUs, read through NVML. This is the only file that imports pynvml.

A GPU is attached (an NVML handle taken) only once it is in use, because a handle keeps a sleeping GPU awake.
in_use.py finds those in use, readings.py has the calls for each. All calls run on a thread with a timeout,
because a hung driver may never return.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from perfmon_widgets.clocks import time
from perfmon_widgets.collectors.allowance import Allowance
from perfmon_widgets.collectors.linux.processes import PROC, Members, own_number, with_descendants
from perfmon_widgets.collectors.nvidia.device import Device, find
from perfmon_widgets.collectors.nvidia.errors import (
    INVALID,
    IS_LOST,
    NOT_FOUND,
    UNINITIALIZED,
    Missing,
    explain,
)
from perfmon_widgets.collectors.nvidia.gpus import SYS, fallen_off_the_bus, visible_devices
from perfmon_widgets.collectors.nvidia.in_use import Search, Used
from perfmon_widgets.collectors.nvidia.metrics import METRICS
from perfmon_widgets.collectors.nvidia.numbering import Numbering
from perfmon_widgets.collectors.nvidia.processes import memory_by_process, unrelated
from perfmon_widgets.collectors.nvidia.session import NvidiaUnavailable, Session
from perfmon_widgets.collectors.reasons import NOT_IN_USE, no_answer
from perfmon_widgets.collectors.timeout_thread import NoAnswerError, TimeoutThread
from perfmon_widgets.metrics import Metric

__all__ = ["METRICS", "NvidiaCollector", "NvidiaUnavailable"]

_OPENING = 10.0  # the timeout of the start, in seconds: the driver may have to wake up
_ANSWER = 1.0  # the timeout of one reading, in seconds
# Seconds after which to look again whether a GPU that is not in use has fallen off the bus.
_LOST_EVERY = 5.0


_session = Session()


class NvidiaCollector:
    """NVIDIA GPUs that this process and its descendants use.

    ``gpus`` names the GPUs (index as in nvidia-smi, UUID, or the UUID of a MIG slice) and replaces the search
    for those in use. ``search`` is another such search; ``root`` is another process to search; ``members``
    lists descendants of it that are known already, also those whose parent has ended. Raises
    FileNotFoundError if there is no GPU, NvidiaUnavailable if the driver does not work, ValueError if a named
    GPU does not exist.

    ``metrics`` has the columns of every visible GPU; they are NaN until it is in use. A guess that a GPU is
    in use is marked "likely" in ``Metric.device``. Where a MIG slice is in use, the columns of its GPU show
    that slice.
    """

    def __init__(
        self,
        gpus: Sequence[int | str] | None = None,
        *,
        search: Callable[[], Sequence[Used]] | None = None,
        root: int | None = None,
        members: Members = tuple,
        proc: Path = PROC,
        sys: Path = SYS,
    ) -> None:
        with warnings.catch_warnings():
            # The deprecated distribution "pynvml" warns at every import; the user can do nothing about that.
            warnings.simplefilter("ignore", FutureWarning)
            try:
                import pynvml  # noqa: PLC0415 - not at import time: many machines have no GPU
            except ImportError:
                raise NvidiaUnavailable(
                    "the package nvidia-ml-py is not installed: run pip install nvidia-ml-py"
                ) from None
        self._nvml: Any = pynvml
        self._proc, self._sys, self._root, self._members = proc, sys, root, members
        # Those of the current reading: the watched processes, and the users of a GPU, None if not known.
        self._tree: Collection[int] = ()
        self._users: dict[int, Collection[int] | None] = {}
        self._lost: set[str] = set()
        self._looking_for_lost = Allowance(_LOST_EVERY)
        self.errors: Mapping[str, str] = {}
        self._devices: list[Device] = []
        self._seen: dict[str | int, Device | None] = {}
        self._trouble: dict[str | int, str] = {}
        self._thread = TimeoutThread("perfmon-nvidia")
        try:
            self._thread.ask(lambda: self._open(gpus), _OPENING)
        except NoAnswerError:
            reason = f"the NVIDIA driver has not answered for {_OPENING:.0f} s; see what nvidia-smi says"
            raise NvidiaUnavailable(reason) from None
        finally:
            self.close()
        if search is not None or gpus is None:
            numbering = self._numbering
            found = Search(
                numbering.known,
                root=root,
                members=members,
                proc=proc,
                numbered=numbering.ask,
                listed=self._is_listed,
            )
            self._search = search or found.look
        else:
            self._search = list  # named GPUs are read without a search

    @property
    def metrics(self) -> Sequence[Metric]:
        """The columns of every visible GPU; device, limit and source follow once the GPU is attached."""
        return self._metrics

    def collect(self) -> Mapping[str, float]:
        """Return a value for each column, within about a second; NaN for GPUs that are not in use.

        Raises OSError if the driver no longer works at all.
        """
        try:
            values, self.errors = self._thread.ask(self._read, _ANSWER)
        except NoAnswerError:
            self.errors = dict.fromkeys(self._names, no_answer("NVIDIA", self._thread.silence))
            return dict.fromkeys(self._names, math.nan)
        except OSError as error:
            self.errors = dict.fromkeys(self._names, str(error))
            raise
        return dict(values)

    def close(self) -> None:
        """End the thread that calls the driver; the next reading starts a new one."""
        self._thread.close()
        self._thread.join(_ANSWER)

    def _open(self, gpus: Sequence[int | str] | None) -> None:
        nvml = self._nvml
        self._session = _session.open(nvml)
        try:
            count = nvml.nvmlDeviceGetCount()
        except nvml.NVMLError as error:
            raise NvidiaUnavailable(f"the NVIDIA driver does not work: {explain(error)}") from None
        if not count:
            raise FileNotFoundError("the NVIDIA driver shows no GPU to this process")
        self._unrelated = unrelated(nvml, self._proc)
        self._numbering = Numbering(nvml, count, self._proc)
        known = self._numbering.known
        if gpus is None:
            text, order = os.environ.get("CUDA_VISIBLE_DEVICES"), os.environ.get("CUDA_DEVICE_ORDER", "")
            visible = visible_devices(text, known, order)
            if visible.certain and not visible.indices:
                raise FileNotFoundError("CUDA_VISIBLE_DEVICES hides every GPU from this process")
            for index in sorted(visible.indices) if visible.certain else range(count):
                self._add(f"gpu{index}", index)
        for gpu in gpus or ():
            self._name(gpu)
        self._describe()
        self._names = [metric.name for metric in self._metrics]

    def _name(self, gpu: int | str) -> None:
        """Add the columns of a GPU that the user named; raises ValueError if it does not exist."""
        nvml = self._nvml
        if isinstance(gpu, str) and gpu.isdigit():
            gpu = int(gpu)
        used = Used("named", index=gpu) if isinstance(gpu, int) else Used("named", uuid=gpu)
        if used.index < 0 and not used.uuid.startswith(("GPU-", "MIG-")):
            raise ValueError(f"there is no GPU {gpu!r} here, only {self._numbering.existing()}")
        try:
            handle, parent = find(nvml, used)
            index = nvml.nvmlDeviceGetIndex(parent or handle)
            where = f"gpu{index}"
            if parent and any(device.where == where for device in self._devices):
                ids = nvml.nvmlDeviceGetGpuInstanceId(handle), nvml.nvmlDeviceGetComputeInstanceId(handle)
                where = f"gpu{index}/gi{ids[0]}ci{ids[1]}"
        except nvml.NVMLError as error:
            # Its columns then have the reason, and the other GPUs their numbers.
            index = self._numbering.of(used)
            if index < 0 and error.value not in (INVALID, NOT_FOUND):
                index = self._numbering.of_lost()
            if index < 0:
                raise ValueError(f"there is no GPU {gpu!r} here, only {self._numbering.existing()}") from None
            where = f"gpu{index}"
            if not used.uuid.startswith("MIG-"):
                used = Used("named", index=index)
        if all(device.where != where for device in self._devices):
            self._add(where, index)
            self._devices[-1].use(used)

    def _add(self, where: str, index: int) -> None:
        known = self._numbering.known[index]
        device = Device(self._nvml, where, index, known, tree=self._processes, unrelated=self._unrelated)
        self._devices.append(device)

    def _processes(self) -> Collection[int]:
        """Return the ids of this process, or ``root``, and its descendants as they are in this reading."""
        if not self._tree:
            root = self._root or own_number(self._proc)
            self._tree = with_descendants({root, *self._members()}, self._proc)
        return self._tree

    def _is_listed(self, index: int, process: int) -> bool | None:
        """Return whether NVML lists a process as a user of that GPU; None if it cannot say.

        The lists cost milliseconds. They are read once in a search, and not of a GPU that is read already.
        """
        if self._unrelated or any(one.index == index and one.used for one in self._devices):
            return None
        if index not in self._users:
            try:
                handle = self._nvml.nvmlDeviceGetHandleByIndex(index)
                self._users[index] = memory_by_process(self._nvml, handle)
            except (self._nvml.NVMLError, Missing):
                self._users[index] = None  # no such list: WSL, some virtual GPUs
        users = self._users[index]
        return None if users is None else process in users

    def _describe(self) -> None:
        self._metrics = tuple(metric for device in self._devices for metric in device.metrics())

    def _read(self) -> tuple[dict[str, float], dict[str, str]]:
        """Return the values, and the reasons for those that are missing; runs on the collector's thread."""
        session = _session.open(self._nvml)
        if session != self._session:
            self._session = session
            for device in self._devices:
                device.detach()
        self._tree, self._users = (), {}
        for used in self._search():
            self._notice(used)
        if self._looking_for_lost.due():
            with self._looking_for_lost:
                self._lost = {
                    device.where
                    for device in self._devices
                    if device.used is None
                    and fallen_off_the_bus(self._numbering.known[device.index], self._sys)
                }
        now = time.monotonic()
        values = dict.fromkeys(self._names, math.nan)
        errors: dict[str, str] = {}
        for device in self._devices:
            if device.used is None:
                errors.update(dict.fromkeys(device.columns, self._idle(device)))
            else:
                device.read(now, values, errors)
                if device.shut_down:
                    _session.is_open = False
        if any(device.learnt for device in self._devices):
            self._describe()
        return values, errors

    def _idle(self, device: Device) -> str:
        """Return why there are no numbers of a GPU that was not found in use."""
        if device.where in self._lost:
            return IS_LOST
        trouble = next(iter(self._trouble.values()), NOT_IN_USE)
        return self._numbering.unreadable.get(device.index, trouble)

    def _notice(self, used: Used) -> None:
        """Read a GPU that was found in use from now on, or mark one that is read as certainly in use."""
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
                _session.is_open = False
            index = self._numbering.of(used)
            if index < 0:
                self._trouble[key] = f"a GPU is in use, but cannot be read: {explain(error)}"
                return  # tried again at the next reading
            parent = None
        self._trouble.pop(key, None)
        self._seen[key] = device = next((one for one in self._devices if one.index == index), None)
        if device is None:
            self._trouble[key] = (
                f"this process also uses GPU {index}, which CUDA_VISIBLE_DEVICES hid when the monitor was"
                " made: make a new monitor to see it"
            )
        else:
            device.use(used, as_slice=parent is not None)
