"""A real btrfs over two disks, made in files: what is written to it is what both disks write."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from perfmon_widgets.collectors.linux.host import HostCollector

pytestmark = pytest.mark.kernel_may_lack  # loop devices, and btrfs

MIB = 2**20


def run(*command: object) -> str:
    return subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout.strip()


def loop_device(file: Path) -> str:
    with file.open("wb") as disk:
        disk.truncate(512 * MIB)
    return run("losetup", "-f", "--show", file)


@pytest.fixture
def disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The two disks of the working directory's file system."""
    if os.geteuid() != 0 or shutil.which("mkfs.btrfs") is None:
        pytest.skip("needs root and btrfs-progs")
    mount = tmp_path / "mount"
    mount.mkdir()
    devices: list[str] = []
    mounted = False
    try:
        try:
            devices.extend(loop_device(tmp_path / f"disk{number}") for number in range(2))
            run("mkfs.btrfs", "-q", "-d", "raid0", "-m", "raid1", *devices)
            run("mount", devices[0], mount)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"this OS kernel mounts no btrfs here ({error.stderr})")
        mounted = True
        with monkeypatch.context() as patch:
            patch.chdir(mount)
            yield devices
    finally:
        if mounted:
            run("umount", mount)
        for device in devices:
            run("losetup", "-d", device)


def written(devices: list[str]) -> int:
    """Bytes written to these disks."""
    counters = (Path("/sys/block", Path(device).name, "stat").read_text().split() for device in devices)
    return sum(int(fields[6]) * 512 for fields in counters)


def write(size: int) -> None:
    with Path("data").open("wb") as file:
        file.write(os.urandom(size))
        file.flush()
        os.fsync(file.fileno())


def test_the_traffic_of_a_btrfs_is_that_of_both_its_disks(disks):
    collector = HostCollector()
    try:
        counted, clock = written(disks), time.monotonic()
        collector.collect()
        counted_later, clock_later = written(disks), time.monotonic()
        write(100 * MIB)
        least, early = written(disks) - counted_later, time.monotonic()
        value = collector.collect()["disk_write_bytes_per_second"]
        most, late = written(disks) - counted, time.monotonic()
    finally:
        collector.close()
    assert least >= 100 * MIB
    assert least / (late - clock) <= value <= most / (early - clock_later)
