"""AMD GPUs, from what their driver amdgpu shows in /sys and in /proc/<pid>/fdinfo; no library, no ROCm.

Reading a sensor wakes a sleeping GPU on Linux before 6.15, so a GPU is read only once it is in use, and never
while it sleeps. Which GPUs there are, and which of them are in use, is found in amd_devices.py.
"""

from __future__ import annotations

import errno
import math
import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from perfmon_widgets.collectors.amd import in_use as amd_devices
from perfmon_widgets.collectors.amd.in_use import Gpu, Search
from perfmon_widgets.collectors.linux import limits as scope
from perfmon_widgets.collectors.linux.system_file import SystemFile
from perfmon_widgets.collectors.timeout_thread import NoAnswerError, TimeoutThread
from perfmon_widgets.metrics import Metric

SYS, DEV = Path("/sys"), Path("/dev")
_ANSWER = 1.0  # seconds that the driver gets for one reading

# What each column means; "gpuN/" goes before the name. Declared for every visible GPU.
METRICS = (
    Metric(
        "utilization_percent",
        "percent",
        "gpu",
        "Load of the GPU as its firmware measures it.",
        100.0,
        "gpu_busy_percent",
    ),
    Metric(
        "memory_percent", "percent", "gpu", "GPU memory in use, of all it has.", 100.0, "mem_info_vram_used"
    ),
    Metric(
        "memory_used_bytes",
        "bytes",
        "gpu",
        "GPU memory (VRAM) in use by all processes.",
        "memory_limit_bytes",
        "mem_info_vram_used",
    ),
    Metric("memory_limit_bytes", "bytes", "gpu", "GPU memory (VRAM) there is.", source="mem_info_vram_total"),
    Metric(
        "memory_activity_percent",
        "percent",
        "gpu",
        "Load of the GPU's memory controller as its firmware measures it.",
        100.0,
        "mem_busy_percent",
    ),
    Metric("power_watts", "watts", "gpu", "Power drawn by the GPU's package.", source="power1_average"),
    Metric("clock_hertz", "hertz", "gpu", "Clock of the GPU's compute units.", source="freq1_input"),
    Metric("memory_clock_hertz", "hertz", "gpu", "Clock of the GPU's memory.", source="freq2_input"),
)

_NOT_IN_USE = (
    "no GPU in use yet: the numbers start when this Jupyter kernel, or a child of it, works on this one"
)
_ASLEEP = "the GPU is asleep, and reading it would wake it"
_UNSUPPORTED = "not supported by this GPU or its driver"
_REASONS = {
    errno.ENOENT: _UNSUPPORTED,
    errno.EOPNOTSUPP: _UNSUPPORTED,
    errno.EINVAL: _UNSUPPORTED,
    errno.ENODATA: _UNSUPPORTED,
    errno.EBUSY: _ASLEEP,
    # Not a matter of rights: what the driver says of a GPU that sleeps, from Linux 6.15, or is being reset.
    errno.EPERM: "the GPU is asleep or being reset",
    errno.EACCES: "not permitted to this user: ask the administrator of this machine",
    errno.ENODEV: "the GPU is gone: it was unplugged, or its driver was unloaded",
}

# Which file, in the GPU's own folder or in that of its sensors, in which unit, fills which column.
_READINGS = (
    ("utilization_percent", ("gpu_busy_percent",), 1.0),
    ("memory_used_bytes", ("mem_info_vram_used",), 1.0),
    ("memory_limit_bytes", ("mem_info_vram_total",), 1.0),
    ("memory_activity_percent", ("mem_busy_percent",), 1.0),
    # Which of the two there is depends on the chip; both in microwatts.
    ("power_watts", ("power1_average", "power1_input"), 1e-6),
    ("clock_hertz", ("freq1_input",), 1.0),
    ("memory_clock_hertz", ("freq2_input",), 1.0),
)


class _Device:
    """The columns of one GPU."""

    def __init__(self, where: str, gpu: Gpu, opener: Callable[[Path], SystemFile]) -> None:
        self.where, self.gpu = where, gpu
        self.in_use = False
        self.learnt = False
        """Whether something has changed that Metric tells."""
        self.idle = _NOT_IN_USE
        """Why there are no numbers as long as it is not in use."""
        self._open = opener
        self._files: dict[Path, SystemFile] = {}
        self._sensors = next(iter(sorted((gpu.folder / "hwmon").glob("hwmon*"))), gpu.folder / "hwmon")
        self._sources: dict[str, Path] = {}
        self.columns = tuple(f"{where}/{metric.name}" for metric in METRICS)

    def metrics(self) -> list[Metric]:
        """What its columns mean, with the file that each was last read from."""
        self.learnt = False
        limits = {"memory_used_bytes": f"{self.where}/memory_limit_bytes"}
        return [
            replace(
                metric,
                name=f"{self.where}/{metric.name}",
                limit=limits.get(metric.name, metric.limit),
                source=str(self._sources.get(metric.name, metric.source)),
                device=self.gpu.name,
            )
            for metric in METRICS
        ]

    def read(self, values: dict[str, float], errors: dict[str, str]) -> None:
        """One reading of its columns; each fails alone."""
        asleep = self._is_asleep()
        for name, files, factor in _READINGS:
            column = f"{self.where}/{name}"
            if asleep and not files[0].startswith("mem_info"):  # what the driver itself counts wakes nothing
                errors[column] = _ASLEEP
                continue
            try:
                values[column] = factor * self._first(name, files)
            except OSError as error:
                errors[column] = _REASONS.get(error.errno or 0) or f"the driver reports: {error.strerror}"
            except ValueError:
                errors[column] = _UNSUPPORTED  # what some chips print instead of a number
        used, total = (
            values.get(f"{self.where}/memory_{which}_bytes", math.nan) for which in ("used", "limit")
        )
        column = f"{self.where}/memory_percent"
        if total > 0 and not math.isnan(used):
            values[column] = 100 * used / total
        else:
            errors[column] = errors.get(f"{self.where}/memory_used_bytes", _UNSUPPORTED)

    def _is_asleep(self) -> bool:
        """Whether reading a sensor would wake it, which on Linux before 6.15 it does."""
        try:
            state = self._number_or_word(self.gpu.folder / "power" / "runtime_status")
        except OSError:
            return False  # without power management it cannot sleep
        return state.startswith((b"suspend", b"resuming"))

    def _first(self, name: str, files: Sequence[str]) -> float:
        """The number in the first of these files that has one; raises OSError of the first that is there."""
        failed: OSError | None = None
        for file in files:
            folder = self._sensors if file.startswith(("power", "freq")) else self.gpu.folder
            try:
                number = float(self._number_or_word(folder / file))
            except OSError as error:
                if failed is None or failed.errno == errno.ENOENT:
                    failed = error
            else:
                if self._sources.get(name) != folder / file:
                    self._sources[name], self.learnt = folder / file, True
                return number
        raise failed or FileNotFoundError(errno.ENOENT, name)

    def _number_or_word(self, path: Path) -> bytes:
        try:
            if path not in self._files:
                self._files[path] = self._open(path)
            return self._files[path].read().strip()
        except OSError:
            self._files.pop(path, None)  # opened anew the next time: the device may have come back
            raise


class AmdCollector:
    """AMD GPUs that this process and its children use.

    ``gpus`` names the GPUs (the N of ``gpuN``, or the ``GPU-…`` that rocminfo prints) and overrules the
    search for those in use. ``first`` is the N of the first one, where NVIDIA GPUs have the numbers below.
    ``root`` is another process to find the GPUs of, instead of this one.
    Raises FileNotFoundError if no AMD GPU is visible, ValueError if a named one does not exist.

    ``metrics`` has the columns of every GPU that ROCR_VISIBLE_DEVICES and HIP_VISIBLE_DEVICES leave; they are
    NaN until it is in use. The numbers are those of the whole GPU, also where it is split in partitions.
    """

    def __init__(
        self,
        gpus: Sequence[int | str] | None = None,
        *,
        first: int = 0,
        root: int | None = None,
        sys: Path = SYS,
        proc: Path = scope.PROC,
        dev: Path = DEV,
        environment: Mapping[str, str] = os.environ,
        opener: Callable[[Path], SystemFile] = SystemFile,
    ) -> None:
        known = amd_devices.known_gpus(sys)
        visible = known if gpus is not None else amd_devices.visible_gpus(known, dev, environment)
        if not visible:
            hidden = (
                "no AMD GPU was given to this container, or ROCR_VISIBLE_DEVICES, HIP_VISIBLE_DEVICES hide it"
            )
            raise FileNotFoundError(hidden if known else "there is no AMD GPU with the driver amdgpu")
        numbered = {
            first + index: _Device(f"gpu{first + index}", gpu, opener) for index, gpu in enumerate(known)
        }
        self._devices = [device for device in numbered.values() if device.gpu in visible]
        for device in self._devices:
            device.idle = amd_devices.forbidden(device.gpu, dev) or _NOT_IN_USE
        if gpus is not None:
            self._devices = list(dict.fromkeys(_named(gpu, numbered) for gpu in gpus))
            for device in self._devices:
                device.in_use = True
        self._search = Search(proc, root) if gpus is None else None
        self.errors: Mapping[str, str] = {}
        self._describe()
        self._names = [metric.name for metric in self.metrics]
        self._thread = TimeoutThread("perfmon-amd")
        # This only signals: joining could happen on the very thread that drops the last reference.
        weakref.finalize(self, self._thread.close).atexit = False

    def collect(self) -> Mapping[str, float]:
        """One reading of every GPU in use, after about a second at the latest."""
        self._look()
        if not any(device.in_use for device in self._devices):
            self.errors = {column: device.idle for device in self._devices for column in device.columns}
            return {}
        try:
            values, self.errors = self._thread.ask(self._read, _ANSWER)
        except NoAnswerError:
            reason = f"the AMD driver has not answered for {self._thread.silence:.0f} s"
            self.errors = dict.fromkeys(self._names, reason)
            return {}
        if any(device.learnt for device in self._devices):
            self._describe()
        return dict(values)

    def close(self) -> None:
        """End the thread that reads; the next reading starts a new one."""
        self._thread.close()
        self._thread.join(_ANSWER)

    def _look(self) -> None:
        """Notice which GPUs have come into use."""
        if self._search is not None and not all(device.in_use for device in self._devices):
            addresses = self._search.look()
            for device in self._devices:
                device.in_use |= device.gpu.pci in addresses

    def _describe(self) -> None:
        self.metrics: Sequence[Metric] = tuple(m for device in self._devices for m in device.metrics())

    def _read(self) -> tuple[dict[str, float], dict[str, str]]:
        """One reading and the reasons for what is missing; runs on the collector's thread."""
        values: dict[str, float] = {}
        errors: dict[str, str] = {}
        for device in self._devices:
            if device.in_use:
                device.read(values, errors)
            else:
                errors.update(dict.fromkeys(device.columns, device.idle))
        return values, errors


def among(gpus: Sequence[int | str], first: int = 0, sys: Path = SYS) -> list[int | str]:
    """Those of the GPUs a user names that are AMD's, where ``first`` is the number of the first AMD GPU."""
    known = amd_devices.known_gpus(sys)
    names = {str(first + index) for index in range(len(known))} | {gpu.uuid for gpu in known if gpu.uuid}
    return [gpu for gpu in gpus if str(gpu) in names]


def _named(gpu: int | str, numbered: Mapping[int, _Device]) -> _Device:
    """The device that the user means; raises ValueError if there is none, naming those there are."""
    for number, device in numbered.items():
        if str(gpu) in (str(number), device.gpu.uuid):
            return device
    existing = ", ".join(f"{number} ({device.gpu.uuid})" for number, device in numbered.items())
    raise ValueError(f"there is no GPU {gpu!r} here, only {existing}")
