"""Disk: space in the file system of the working directory, and traffic of the disks beneath it."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from perfmon_widgets.clocks import time
from perfmon_widgets.collectors.linux.block_devices import (
    counters_of,
    find_devices,
    is_anonymous,
    mount_of_working_directory,
)
from perfmon_widgets.collectors.linux.limits import Allowed
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
# The devices of a file system that seems unchanged are read again after this many seconds.
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
        help="Read by all programs from the disk, or disks, beneath the working directory.",
        source="/sys/dev/block/<device>/stat",
    ),
    Metric(
        name="disk_write_bytes_per_second",
        unit="bytes_per_second",
        group="disk",
        label="written",
        help="Written by all programs to the disk, or disks, beneath the working directory.",
        source="/sys/dev/block/<device>/stat",
    ),
)
_SPACE = tuple(metric.name for metric in METRICS if metric.unit != "bytes_per_second")
_TRAFFIC = tuple(metric.name for metric in METRICS if metric.unit == "bytes_per_second")


class Disk:
    """The disk columns of HostCollector: the file system of the working directory, as ``df .`` prints it.

    Traffic is that of all devices beneath it: a btrfs may lie on several disks.
    """

    def __init__(self, proc: Path, sys: Path) -> None:
        self._proc, self._sys = proc, sys
        self._device = -1
        self._seen: tuple[int, int] | None = None  # distinguishes most file systems
        self._due = 0.0
        self._list_again = False  # whether the devices of the file system are due to be listed
        self._thread: TimeoutThread | None = TimeoutThread("perfmon-disk")  # until it is known to be local
        self._devices: Sequence[str] = ()
        self._counters: Sequence[SystemFile] = ()
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
            self._find(device)
        elif self._list_again:
            self._look_for_others(device)
        if self._counters:
            self._add_traffic(values)
        return values

    def _space_in_use(self, used: float, limit: float) -> dict[str, float]:
        """Return the columns of the space; none if a network file system reports more free than it has."""
        if self.errors:
            for name in _SPACE:
                self.errors.pop(name, None)
        if reason := impossible("bytes", used) or impossible("bytes", limit):
            self.errors.update(dict.fromkeys(_SPACE, reason))
            return dict.fromkeys(_SPACE, math.nan)
        if not limit:
            self.errors["disk_percent"] = "this file system has no size (it exists only in memory)"
            return {"disk_used_bytes": used, "disk_limit_bytes": limit}
        return {"disk_percent": 100 * used / limit, "disk_used_bytes": used, "disk_limit_bytes": limit}

    def _add_traffic(self, values: dict[str, float]) -> None:
        """Add the bytes per second of all devices together."""
        read = written = 0
        try:
            for counter in self._counters:
                fields = counter.read().split(None, 7)
                read += int(fields[2])
                written += int(fields[6])
        except OSError as error:  # a disk was removed: from the next reading on count those that are left
            self._device, self._seen = -1, None
            self._fail(f"the disks beneath the working directory have changed ({error})")
            return
        clock = time.monotonic()
        values[_TRAFFIC[0]] = self._read.update(read * _SECTOR, clock)
        values[_TRAFFIC[1]] = self._written.update(written * _SECTOR, clock)

    def _look(self) -> tuple[os.statvfs_result, int]:
        """Return the space of the file system and the number of its device."""
        if self._thread is None:
            space = os.statvfs(".")
            seen = space.f_fsid, space.f_blocks
            if seen == self._seen and time.monotonic() < self._due:
                return space, self._device
            device = _device()  # if this raises, the next reading tries again
            self._seen, self._due = seen, time.monotonic() + _EVERY
            self._list_again = is_anonymous(device)
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

    def _find(self, device: int) -> None:
        """Find the devices of another file system, and open their counters."""
        self._seen = None
        mount = mount_of_working_directory(device, self._proc)
        try:
            self._open(find_devices(device, mount, self._sys))
        except OSError as error:
            self._fail(f"no disk counters for the file system of the working directory ({error})")
        # A file system on a disk of its own answers at once.
        self._wait_for(mount.kind if mount is not None and is_anonymous(device) else "")

    def _look_for_others(self, device: int) -> None:
        """Begin again if devices were added to the file system, or removed from it."""
        self._list_again = False
        mount = mount_of_working_directory(device, self._proc)
        with contextlib.suppress(OSError):
            if find_devices(device, mount, self._sys) != self._devices:
                self._find(device)

    def _open(self, devices: Sequence[str]) -> None:
        """Open the counters of these devices; raises OSError if none of them can be read."""
        self._devices = devices
        self._read, self._written = Rate(), Rate()
        counters: dict[Path, SystemFile] = {}  # two partitions may have those of one disk
        without, of_disk, reason = [], [], OSError()
        for device in devices:
            try:
                files, is_of_disk = counters_of(device, self._sys)
                counters.update({file: SystemFile(file) for file in files if file not in counters})
                if is_of_disk:
                    of_disk.append(device)
            except OSError as error:
                without.append(device)
                reason = error
        if not counters:
            raise reason
        self._counters = tuple(counters.values())
        source = ", ".join(map(str, counters))
        if of_disk:
            source += f"; of the whole disk of {', '.join(of_disk)}, since its partitions are not counted"
        if without:
            source += f"; without {', '.join(without)}, which cannot be read"
        self._describe(source)
        for name in _TRAFFIC:
            self.errors.pop(name, None)

    def _fail(self, reason: str) -> None:
        """Count nothing, for this reason."""
        self._counters = ()
        self.errors.update(dict.fromkeys(_TRAFFIC, reason))
        self._describe("")

    def _describe(self, source: str) -> None:
        self.metrics = tuple(
            replace(metric, source=source) if metric.name in _TRAFFIC else metric for metric in METRICS
        )


def _space() -> tuple[os.statvfs_result, int]:
    return os.statvfs("."), _device()


def _device() -> int:
    return os.stat(".").st_dev  # noqa: PTH116 - a Path would cost ten times as much
