"""One AMD GPU: its columns, and the files that fill them."""

from __future__ import annotations

import errno
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from perfmon_widgets.collectors.amd.gpus import Gpu
from perfmon_widgets.collectors.amd.metrics import METRICS
from perfmon_widgets.collectors.linux.system_file import SystemFile
from perfmon_widgets.collectors.plausible import OF_A_GPU, impossible
from perfmon_widgets.collectors.reasons import NOT_IN_USE
from perfmon_widgets.metrics import Metric, place_label

_ASLEEP = "the GPU is asleep, and reading it would wake it"
_UNSUPPORTED = "not supported by this GPU or its driver"
_BUSY = "the driver is busy or is resetting the GPU: the next sample tries again"
_ASLEEP_OR_NOT = "the GPU is asleep, or its driver is busy or is resetting it"
# The driver returns these for a GPU that sleeps, before and from Linux 6.15, but also for one that is awake.
_ASLEEP_OR_BUSY = (errno.EBUSY, errno.EPERM)
_REASONS = {
    errno.ENOENT: _UNSUPPORTED,
    errno.EOPNOTSUPP: _UNSUPPORTED,
    errno.EINVAL: _UNSUPPORTED,
    errno.ENODATA: _UNSUPPORTED,
    errno.EACCES: "not permitted to this user: ask the administrator of this machine",
    errno.ENODEV: "the GPU is gone: it was unplugged, or its driver was unloaded",
}

# For each column the files that may hold it, in the GPU's folder or that of its sensors, and their unit.
# Files joined by a plus are added up.
_READINGS = (
    ("utilization_percent", ("gpu_busy_percent",), 1.0),
    ("memory_used_bytes", ("mem_info_vram_used",), 1.0),
    ("memory_limit_bytes", ("mem_info_vram_total",), 1.0),
    ("memory_activity_percent", ("mem_busy_percent",), 1.0),
    # The chip decides which of the two exists; both are in microwatts.
    ("power_watts", ("power1_average", "power1_input"), 1e-6),
    ("clock_hertz", ("freq1_input",), 1.0),
    ("memory_clock_hertz", ("freq2_input",), 1.0),
)
# A model on an APU lies in GTT, the machine's memory that the GPU may use, since the driver prefers it to a
# smaller carve-out (apu_prefer_gtt in amdgpu_ttm.c).
_SHARED_MEMORY = {
    "memory_used_bytes": ("mem_info_vram_used + mem_info_gtt_used",),
    "memory_limit_bytes": ("mem_info_vram_total + mem_info_gtt_total",),
}

_UNITS = {metric.name: metric.unit for metric in METRICS}


class Device:
    """The columns ``where/…`` of one GPU; ``opener`` opens its files."""

    def __init__(self, where: str, gpu: Gpu, opener: Callable[[Path], SystemFile]) -> None:
        self.where, self.gpu = where, gpu
        self.in_use = False
        self.learnt = False
        """Whether ``metrics()`` has changed since it was last called."""
        self.idle = NOT_IN_USE
        """The reason for its missing numbers while it is not in use."""
        self._open = opener
        self._files: dict[Path, SystemFile] = {}
        self._sensors = gpu.folder / "hwmon"
        self._find_sensors()
        self._sources: dict[str, str] = {}
        self._readings: Sequence[tuple[str, Sequence[str], float]] = _READINGS
        self._name = gpu.name
        if gpu.shares_memory:
            self._readings = tuple(
                (name, _SHARED_MEMORY.get(name, files), factor) for name, files, factor in _READINGS
            )
            self._name += ", shares the machine's memory: VRAM and GTT together"
        self.columns = tuple(f"{where}/{metric.name}" for metric in METRICS)

    def metrics(self) -> list[Metric]:
        """Return its columns, each with the file that it was last read from."""
        self.learnt = False
        limits = {"memory_used_bytes": f"{self.where}/memory_limit_bytes"}
        return [
            replace(
                metric,
                name=f"{self.where}/{metric.name}",
                label=f"{place_label(self.where)} {metric.label}",
                limit=limits.get(metric.name, metric.limit),
                source=self._sources.get(metric.name, metric.source),
                device=self._name,
            )
            for metric in METRICS
        ]

    def read(self, values: dict[str, float], errors: dict[str, str]) -> None:
        """Read each column into ``values``, or the reason why that fails into ``errors``."""
        asleep = self._power_state() == "asleep"
        for name, files, factor in self._readings:
            column = f"{self.where}/{name}"
            if asleep and not files[0].startswith("mem_info"):  # the driver counts memory without the GPU
                errors[column] = _ASLEEP
                continue
            try:
                value = factor * self._first(name, files)
            except OSError as error:
                errors[column] = self._why(error)
            except ValueError:
                errors[column] = _UNSUPPORTED  # some chips print a word instead of a number
            else:  # and some 65535 for "not available"
                unit = _UNITS[name]
                if reason := impossible(unit, value, OF_A_GPU.get(unit, math.inf)):
                    errors[column] = reason
                else:
                    values[column] = value
        self._add_percent(values, errors)
        sensors = [name for name, files, _ in self._readings if not files[0].startswith("mem_info")]
        if any(f"{self.where}/{name}" in values for name in sensors):  # it is awake
            unsure = [column for column in self.columns if errors.get(column) == _ASLEEP_OR_NOT]
            errors.update(dict.fromkeys(unsure, _BUSY))

    def _add_percent(self, values: dict[str, float], errors: dict[str, str]) -> None:
        """Fill the percentage of the memory from its two other columns."""
        percent, used, total = (
            f"{self.where}/memory_{what}" for what in ("percent", "used_bytes", "limit_bytes")
        )
        if not values.get(total):
            errors[percent] = errors.get(used, _UNSUPPORTED)
        elif used not in values:
            errors[percent] = errors[used]
        elif reason := impossible("bytes", values[used], limit=values[total]):
            del values[used]
            errors.update(dict.fromkeys((used, percent), reason))
        else:
            values[percent] = 100 * values[used] / values[total]

    def _power_state(self) -> str:
        """Return asleep, awake or unknown: on Linux before 6.15 reading a sensor wakes a sleeping GPU."""
        try:
            state = self._number_or_word(self.gpu.folder / "power" / "runtime_status")
        except OSError:
            return "unknown"
        if state.startswith((b"suspend", b"resuming")):
            return "asleep"
        return "awake" if state in (b"active", b"unsupported") else "unknown"

    def _why(self, error: OSError) -> str:
        """Return the reason for a number that could not be read."""
        if error.errno in _ASLEEP_OR_BUSY:
            # The state is read again: it may have changed since the reading began.
            return {"asleep": _ASLEEP, "awake": _BUSY}.get(self._power_state(), _ASLEEP_OR_NOT)
        return _REASONS.get(error.errno or 0) or f"the driver reports: {error.strerror}"

    def _first(self, name: str, files: Sequence[str]) -> float:
        """Return the number in the first of these files that has one; raises the error of one that exists."""
        of_sensors = files[0].startswith(("power", "freq"))
        failed: OSError | None = None
        for file in files:
            folder = self._sensors if of_sensors else self.gpu.folder
            paths = [folder / part for part in file.split(" + ")]
            try:
                number = sum(float(self._number_or_word(path)) for path in paths)
            except OSError as error:
                if failed is None or failed.errno == errno.ENOENT:
                    failed = error
            else:
                source = " + ".join(map(str, paths))
                if self._sources.get(name) != source:
                    self._sources[name], self.learnt = source, True
                return number
        if of_sensors and failed and failed.errno in (errno.ENOENT, errno.ENODEV) and self._find_sensors():
            return self._first(name, files)
        raise failed or FileNotFoundError(errno.ENOENT, name)

    def _find_sensors(self) -> bool:
        """Find the folder of the sensors, whose number is another each time that the driver is bound.

        Returns whether it is another one now.
        """
        found = next(iter(sorted((self.gpu.folder / "hwmon").glob("hwmon*"))), self._sensors)
        former, self._sensors = self._sensors, found
        return found != former

    def _number_or_word(self, path: Path) -> bytes:
        try:
            if path not in self._files:
                self._files[path] = self._open(path)
            return self._files[path].read().strip()
        except OSError:
            self._files.pop(path, None)  # open it again the next time: the device may be back
            raise
