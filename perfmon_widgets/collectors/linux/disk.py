"""Disk: space in the file system of the working directory, and traffic of the disk beneath it."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from perfmon_widgets.collectors.linux.limits import Allowed
from perfmon_widgets.collectors.linux.mountinfo import mounts
from perfmon_widgets.collectors.linux.system_file import SystemFile
from perfmon_widgets.collectors.plausible import impossible
from perfmon_widgets.collectors.rate import Rate
from perfmon_widgets.collectors.timeout_thread import NoAnswerError, TimeoutThread
from perfmon_widgets.metrics import Metric

# File systems without a disk of their own that answer at once. Any other without a disk may ask a server, and
# hang while the server does not respond.
_LOCAL = frozenset(("bcachefs", "btrfs", "overlay", "ramfs", "tmpfs", "zfs"))
# Seconds to wait for the answer of such a server.
_TIMEOUT = 1.0
# The device of a file system that seems unchanged is read again after this many seconds.
_EVERY = 10.0

# The unit in which the OS kernel counts disk traffic, whatever the device's own sectors are.
_SECTOR = 512

METRICS = (
    Metric(
        name="disk_percent",
        unit="percent",
        group="disk",
        label="disk",
        help="Space in use in the file system of the working directory, as df counts it.",
        source="statvfs",
    ),
    Metric(
        name="disk_used_bytes",
        unit="bytes",
        group="disk",
        label="disk space in use",
        limit="disk_limit_bytes",
        help="Space in use in the file system of the working directory.",
        source="statvfs",
    ),
    Metric(
        name="disk_limit_bytes",
        unit="bytes",
        group="disk",
        label="disk size",
        role="limit",
        help="Space in the file system of the working directory: in use, or free for an ordinary user.",
        source="statvfs",
    ),
    Metric(
        name="disk_read_bytes_per_second",
        unit="bytes_per_second",
        group="disk",
        label="read",
        help="Read by all programs from the disk beneath the working directory.",
        source="/sys/dev/block/<device>/stat",
    ),
    Metric(
        name="disk_write_bytes_per_second",
        unit="bytes_per_second",
        group="disk",
        label="written",
        help="Written by all programs to the disk beneath the working directory.",
        source="/sys/dev/block/<device>/stat",
    ),
)
_SPACE = tuple(metric.name for metric in METRICS if metric.unit != "bytes_per_second")
_TRAFFIC = tuple(metric.name for metric in METRICS if metric.unit == "bytes_per_second")


class Disk:
    """The disk columns of HostCollector: the file system of the working directory, as ``df .`` prints it."""

    def __init__(self, proc: Path, sys: Path) -> None:
        self._proc, self._sys = proc, sys
        self._device = -1
        self._seen: tuple[int, int] | None = None  # distinguishes most file systems
        self._due = 0.0
        self._thread: TimeoutThread | None = TimeoutThread("perfmon-disk")  # until it is known to be local
        self._statistics: SystemFile | None = None
        self._read, self._written = Rate(), Rate()
        self.errors: dict[str, str] = {}
        self.metrics: Sequence[Metric] = METRICS

    def refresh(self, allowed: Allowed) -> None:
        """Do nothing: no limit changes what is read here."""

    def collect(self) -> dict[str, float]:
        """Return a value for each column; traffic is NaN in the first reading.

        Raises OSError if the directory is gone, and TimeoutError if its file server does not answer.
        """
        space, device = self._look()
        used = float(space.f_blocks - space.f_bfree) * space.f_frsize
        # Below 0 where the reserve of root is in use too: then nothing is free.
        limit = used + float(max(space.f_bavail, 0)) * space.f_frsize
        values = self._space_in_use(used, limit)
        if device != self._device:
            self._device = device
            self._open(device)
        if self._statistics is not None:
            fields = self._statistics.read().split(None, 7)
            clock = time.monotonic()
            values["disk_read_bytes_per_second"] = self._read.update(int(fields[2]) * _SECTOR, clock)
            values["disk_write_bytes_per_second"] = self._written.update(int(fields[6]) * _SECTOR, clock)
        return values

    def _space_in_use(self, used: float, limit: float) -> dict[str, float]:
        """Return the columns of the space; none if a network file system reports more free than it has."""
        for name in _SPACE:
            self.errors.pop(name, None)
        if reason := impossible("bytes", used) or impossible("bytes", limit):
            self.errors.update(dict.fromkeys(_SPACE, reason))
            return dict.fromkeys(_SPACE, math.nan)
        if not limit:
            self.errors["disk_percent"] = "this file system has no size (it exists only in memory)"
            return {"disk_used_bytes": used, "disk_limit_bytes": limit}
        return {"disk_percent": 100 * used / limit, "disk_used_bytes": used, "disk_limit_bytes": limit}

    def _look(self) -> tuple[os.statvfs_result, int]:
        """Return the space of the file system and the number of its device."""
        if self._thread is None:
            space = os.statvfs(".")
            seen = space.f_fsid, space.f_blocks
            if seen == self._seen and time.monotonic() < self._due:
                return space, self._device
            device = _device()  # if this raises, the next reading tries again
            self._seen, self._due = seen, time.monotonic() + _EVERY
            return space, device
        try:
            answer: tuple[os.statvfs_result, int] = self._thread.ask(_space, _TIMEOUT)
        except NoAnswerError:
            raise TimeoutError("the file system of the working directory does not answer") from None
        return answer

    def _wait_for(self, kind: str) -> None:
        """Use a thread with a timeout from now on, if a file system of this kind may not answer at once."""
        if kind and kind not in _LOCAL:
            self._thread = self._thread or TimeoutThread("perfmon-disk")
        else:
            self.close()
            self._thread = None

    def close(self) -> None:
        """End the thread that waits for a remote file system, if there is one."""
        if self._thread is not None:
            self._thread.close()
            self._thread.join(_TIMEOUT)

    def _open(self, device: int) -> None:
        """Open the counters of the disk beneath the working directory."""
        self._read, self._written = Rate(), Rate()
        self._statistics = self._seen = None
        block, kind, source = f"{os.major(device)}:{os.minor(device)}", "", ""
        try:
            if os.major(device) == 0:  # btrfs, and also overlays, network and memory file systems
                kind, source = _mounted(self._proc, block)
                if not source.startswith("/dev/"):
                    raise FileNotFoundError(f"{kind} has no block device")
                number = Path(source).stat().st_rdev
                block = f"{os.major(number)}:{os.minor(number)}"
            self._statistics = SystemFile(self._sys / "dev" / "block" / block / "stat")
        except OSError as error:
            reason = f"no disk counters for the file system of the working directory ({error})"
            self.errors.update(dict.fromkeys(_TRAFFIC, reason))
        else:
            for name in _TRAFFIC:
                self.errors.pop(name, None)
        self._wait_for(kind)
        path = self._statistics.path if self._statistics is not None else ""
        self.metrics = tuple(
            replace(metric, source=str(path)) if metric.name in _TRAFFIC else metric for metric in METRICS
        )


def _space() -> tuple[os.statvfs_result, int]:
    return os.statvfs("."), _device()


def _device() -> int:
    return os.stat(".").st_dev  # noqa: PTH116 - a Path would cost ten times as much


def _mounted(proc: Path, anonymous: str) -> tuple[str, str]:
    """Return the type and the source of the working directory's file system, which has an anonymous device.

    Raises FileNotFoundError where it is not listed.
    """
    number = _mount_of_working_directory(proc)
    # From the end, since later mounts hide earlier ones.
    for mount in reversed(mounts(proc)):
        if mount.number == number if number else mount.device == anonymous:
            return mount.kind, mount.source
    raise FileNotFoundError(f"device {anonymous} is not in mountinfo")


def _mount_of_working_directory(proc: Path) -> str | None:
    """Return the number of its mount; for btrfs, mountinfo shows another device number than stat does."""
    directory = os.open(".", os.O_PATH)
    try:
        text = (proc / "self" / "fdinfo" / str(directory)).read_text()
    except OSError:
        return None
    finally:
        os.close(directory)
    return next((line.split()[1] for line in text.splitlines() if line.startswith("mnt_id:")), None)
