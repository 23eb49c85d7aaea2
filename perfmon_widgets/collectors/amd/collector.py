"""AmdCollector: AMD GPUs, from what their driver amdgpu shows in /sys and in /proc/<pid>/fdinfo.

No library and no ROCm is needed. Reading a sensor wakes a sleeping GPU on Linux before 6.15, so a GPU is read
only once it is in use, and never while it sleeps. gpus.py finds the GPUs, in_use.py those in use.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from perfmon_widgets.collectors.amd.device import Device
from perfmon_widgets.collectors.amd.gpus import SYS, forbidden, known_gpus, visible_gpus
from perfmon_widgets.collectors.amd.in_use import Search
from perfmon_widgets.collectors.amd.metrics import METRICS
from perfmon_widgets.collectors.linux.processes import PROC, Members
from perfmon_widgets.collectors.linux.system_file import SystemFile
from perfmon_widgets.collectors.reasons import NOT_IN_USE, no_answer
from perfmon_widgets.collectors.timeout_thread import NoAnswerError, TimeoutThread
from perfmon_widgets.metrics import Metric

__all__ = ["METRICS", "AmdCollector"]

DEV = Path("/dev")
_ANSWER = 1.0  # the timeout of one reading, in seconds


class AmdCollector:
    """AMD GPUs that this process and its descendants use.

    ``gpus`` names the GPUs (the N of ``gpuN``, or the ``GPU-…`` that rocminfo prints) and replaces the search
    for those in use. ``first`` is the N of the first one: GPUs of other vendors have the numbers below.
    ``root`` is another process to search; ``members`` lists descendants of it that are known already, also
    those whose parent has ended. Raises FileNotFoundError if no AMD GPU is visible, ValueError if a named one
    does not exist.

    ``metrics`` has the columns of every GPU that ROCR_VISIBLE_DEVICES and HIP_VISIBLE_DEVICES leave; they are
    NaN until it is in use. The numbers are those of the whole GPU, even if it is split in partitions.
    """

    def __init__(
        self,
        gpus: Sequence[int | str] | None = None,
        *,
        first: int = 0,
        root: int | None = None,
        members: Members = tuple,
        sys: Path = SYS,
        proc: Path = PROC,
        dev: Path = DEV,
        environment: Mapping[str, str] = os.environ,
        opener: Callable[[Path], SystemFile] = SystemFile,
    ) -> None:
        known = known_gpus(sys)
        visible = known if gpus is not None else visible_gpus(known, dev, environment)
        if not visible:
            hidden = "no AMD GPU was given to this container, or ROCR_/HIP_VISIBLE_DEVICES hide all of them"
            raise FileNotFoundError(hidden if known else "there is no AMD GPU with the driver amdgpu")
        numbered = {
            first + index: Device(f"gpu{first + index}", gpu, opener) for index, gpu in enumerate(known)
        }
        self._devices = [device for device in numbered.values() if device.gpu in visible]
        for device in self._devices:
            device.idle = forbidden(device.gpu, dev) or NOT_IN_USE
        if gpus is not None:
            self._devices = list(dict.fromkeys(_named(gpu, numbered) for gpu in gpus))
            for device in self._devices:
                device.in_use = True
        self._search = Search(proc, root, members) if gpus is None else None
        self.errors: Mapping[str, str] = {}
        self._describe()
        self._names = [metric.name for metric in self.metrics]
        self._thread = TimeoutThread("perfmon-amd")

    def collect(self) -> Mapping[str, float]:
        """Return the values of the GPUs in use, within about a second."""
        self._look()
        if not any(device.in_use for device in self._devices):
            self.errors = {column: device.idle for device in self._devices for column in device.columns}
            return {}
        try:
            values, self.errors = self._thread.ask(self._read, _ANSWER)
        except NoAnswerError:
            self.errors = dict.fromkeys(self._names, no_answer("AMD", self._thread.silence))
            return {}
        if any(device.learnt for device in self._devices):
            self._describe()
        return dict(values)

    def close(self) -> None:
        """End the thread that reads; the next reading starts a new one."""
        self._thread.close()
        self._thread.join(_ANSWER)

    def _look(self) -> None:
        """Find the GPUs that are in use now and were not before."""
        if self._search is not None and not all(device.in_use for device in self._devices):
            addresses = self._search.look()
            for device in self._devices:
                device.in_use |= device.gpu.pci in addresses

    def _describe(self) -> None:
        self.metrics: Sequence[Metric] = tuple(m for device in self._devices for m in device.metrics())

    def _read(self) -> tuple[dict[str, float], dict[str, str]]:
        """Return the values, and the reasons for those that are missing; runs on the collector's thread."""
        values: dict[str, float] = {}
        errors: dict[str, str] = {}
        for device in self._devices:
            if device.in_use:
                device.read(values, errors)
            else:
                errors.update(dict.fromkeys(device.columns, device.idle))
        return values, errors


def _named(gpu: int | str, numbered: Mapping[int, Device]) -> Device:
    """Return the device that the user named; raises ValueError, with a list, if there is none."""
    for number, device in numbered.items():
        if str(gpu) in (str(number), device.gpu.uuid):
            return device
    existing = ", ".join(f"{number} ({device.gpu.uuid})" for number, device in numbered.items())
    raise ValueError(f"there is no GPU {gpu!r} here, only {existing}")
