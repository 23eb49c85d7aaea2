"""The disks beneath a file system: all of them where it has several, from canned /proc and /sys."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.clocks import Clocks
from fakes.collectors import FakeMachine

from perfmon_widgets.collectors.linux import disk
from perfmon_widgets.collectors.linux.disk import Disk

SECTOR = 512
READ, WRITTEN = "disk_read_bytes_per_second", "disk_write_bytes_per_second"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    made = Clocks()
    monkeypatch.setattr(disk, "time", made)
    return made


@pytest.fixture(autouse=True)
def shm(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory, on a file system whose device number stands for no block device."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name, monkeypatch.context() as patch:
        patch.chdir(name)
        yield Path(name)


def mounted(machine: FakeMachine, kind: str, source: str, *, options: str = "rw") -> None:
    """Mount the working directory's file system in the canned mountinfo, in place of what was there."""
    number = Path.cwd().stat().st_dev
    machine._mounts.clear()
    device = f"{os.major(number)}:{os.minor(number)}"
    machine.mount(kind, Path.cwd(), device=device, source=source, options=options)


def traffic(machine: FakeMachine, **sectors: tuple[int, int]) -> None:
    """Count sectors read and written of devices: ``d8_1=(read, written)`` stands for device 8:1."""
    for name, (read, written) in sectors.items():
        device = name.removeprefix("d").replace("_", ":")
        machine.write(f"sys/dev/block/{device}/stat", f"1 0 {read} 5 2 0 {written} 7 0 9 9 0 0 0 0 0 0\n")


def known_by_name(machine: FakeMachine, **numbers: str) -> None:
    for name, number in numbers.items():
        machine.write(f"sys/class/block/{name}/dev", f"{number}\n")


def btrfs(machine: FakeMachine, uuid: str, **devices: str) -> None:
    for name, number in devices.items():
        machine.write(f"sys/fs/btrfs/{uuid}/devices/{name}/dev", f"{number}\n")


def rates(made: Disk, clock: Clocks) -> tuple[float, float]:
    clock.passed += 2.0
    values = made.collect()
    return values[READ], values[WRITTEN]


@pytest.fixture
def two_disks(machine: FakeMachine) -> FakeMachine:
    """Two btrfs file systems on this machine; the working directory is on that of sda and sdb."""
    known_by_name(machine, sda="8:0", sdb="8:16", sdc="8:32")
    btrfs(machine, "1111", sdc="8:32")
    btrfs(machine, "2222", sda="8:0", sdb="8:16")
    machine.write("sys/fs/btrfs/features/raid56", "0\n")
    mounted(machine, "btrfs", "/dev/sda")
    traffic(machine, d8_0=(100, 100), d8_16=(1000, 1000), d8_32=(9, 9))
    return machine


def made_of(machine: FakeMachine) -> Disk:
    return Disk(machine.proc, machine.sys)


def test_the_traffic_of_a_btrfs_is_that_of_all_its_disks(two_disks, clock):
    made = made_of(two_disks)
    assert math.isnan(rates(made, clock)[0])
    traffic(two_disks, d8_0=(110, 120), d8_16=(1030, 1040), d8_32=(999, 999))
    assert rates(made, clock) == (40 * SECTOR / 2, 60 * SECTOR / 2)
    source = {metric.name: metric.source for metric in made.metrics}[READ]
    assert source == f"{two_disks.sys}/dev/block/8:0/stat, {two_disks.sys}/dev/block/8:16/stat"


def test_it_does_not_matter_which_of_its_disks_is_mounted(two_disks, clock):
    mounted(two_disks, "btrfs", "/dev/sdb")
    made = made_of(two_disks)
    made.collect()
    traffic(two_disks, d8_0=(110, 100))
    assert rates(made, clock) == (10 * SECTOR / 2, 0.0)


def test_an_encrypted_disk_is_found_by_its_name_where_dev_does_not_show_it(two_disks, clock):
    mounted(two_disks, "btrfs", "/dev/mapper/secret")
    known_by_name(two_disks, **{"dm-0": "253:0", "dm-1": "253:1"})
    for name, mapped in (("dm-0", "other"), ("dm-1", "secret")):
        two_disks.write(f"sys/class/block/{name}/dm/name", f"{mapped}\n")
    traffic(two_disks, d253_0=(0, 0), d253_1=(0, 0))
    made = made_of(two_disks)
    made.collect()
    traffic(two_disks, d253_0=(99, 99), d253_1=(2, 4))
    assert rates(made, clock) == (2 * SECTOR / 2, 4 * SECTOR / 2)


def test_a_disk_that_is_added_counts_within_ten_seconds_without_its_past(two_disks, clock):
    made = made_of(two_disks)
    made.collect()
    btrfs(two_disks, "2222", sdd="8:48")
    traffic(two_disks, d8_48=(5000, 5000))
    clock.passed += 10
    assert math.isnan(rates(made, clock)[0])
    traffic(two_disks, d8_48=(5010, 5000))
    assert rates(made, clock) == (10 * SECTOR / 2, 0.0)


def test_a_disk_that_is_taken_away_counts_no_longer(two_disks, clock):
    """Also when it is the one that the file system was mounted by: mountinfo then shows another."""
    made = made_of(two_disks)
    made.collect()
    (two_disks.sys / "fs/btrfs/2222/devices/sda/dev").unlink()
    mounted(two_disks, "btrfs", "/dev/sdb")
    clock.passed += 10
    assert math.isnan(rates(made, clock)[0])
    traffic(two_disks, d8_0=(9999, 9999), d8_16=(1010, 1000))
    assert rates(made, clock) == (10 * SECTOR / 2, 0.0)


def test_a_disk_that_fails_to_be_read_costs_one_row_of_traffic_and_no_space(two_disks, clock, monkeypatch):
    made = made_of(two_disks)
    made.collect()
    gone = OSError(19, "No such device")
    with monkeypatch.context() as patch:
        patch.setattr(disk.SystemFile, "read", lambda self: (_ for _ in ()).throw(gone))
        values = made.collect()
    assert values["disk_limit_bytes"] > 0
    assert READ not in values
    assert "No such device" in made.errors[READ]
    assert math.isnan(rates(made, clock)[0])
    assert READ not in made.errors
    assert rates(made, clock) == (0.0, 0.0)


def test_a_disk_without_counters_is_left_out_and_named(two_disks, clock):
    (two_disks.sys / "dev/block/8:16/stat").unlink()
    made = made_of(two_disks)
    made.collect()
    traffic(two_disks, d8_0=(110, 100))
    assert rates(made, clock) == (10 * SECTOR / 2, 0.0)
    source = {metric.name: metric.source for metric in made.metrics}[WRITTEN]
    assert source.endswith("; without 8:16, which cannot be read")


def test_where_none_of_the_disks_has_counters_the_reason_is_given(two_disks):
    for device in ("8:0", "8:16"):
        (two_disks.sys / f"dev/block/{device}/stat").unlink()
    made = made_of(two_disks)
    assert READ not in made.collect()
    assert "no disk counters" in made.errors[READ]


def nvme(machine: FakeMachine, name: str, number: str = "") -> None:
    """Make the folder of a disk or of a path to it, or with a number that of a partition or disk to mount."""
    folder = machine.sys / "devices" / name.partition("p")[0] / name
    folder.mkdir(parents=True)
    (machine.sys / "block").mkdir(parents=True, exist_ok=True)
    (machine.sys / "block" / name).symlink_to(folder)
    if number:
        known_by_name(machine, **{name: number})
        (machine.sys / "dev/block").mkdir(parents=True, exist_ok=True)
        (machine.sys / "dev/block" / number).symlink_to(folder)


def counted(machine: FakeMachine, **sectors: int) -> None:
    """Count sectors read and written of the disks and paths with these names."""
    for name, number in sectors.items():
        times = "1 0 {0} 5 2 0 {0} 7 0 9 9" if number else "0 0 0 0 0 0 0 0 0 0 0"
        machine.write(f"sys/block/{name}/stat", f"{times.format(number)} 0 0 0 0 0 0\n")


@pytest.mark.parametrize(("mounted_name", "whole"), [("nvme0n1", False), ("nvme0n1p2", True)])
def test_a_disk_of_nvme_whose_paths_alone_are_counted_has_their_traffic(machine, clock, mounted_name, whole):
    """With nvme_core.multipath, older OS kernels count nothing of the disk itself."""
    nvme(machine, mounted_name, "259:2")
    for name in ("nvme0c0n1", "nvme0c11n1", "nvme0c0n11", "nvme10c0n1"):
        nvme(machine, name)
    counted(machine, **{mounted_name: 0, "nvme0c0n1": 100, "nvme0c11n1": 50})
    counted(machine, nvme0c0n11=9, nvme10c0n1=9)  # of other disks
    mounted(machine, "btrfs", f"/dev/{mounted_name}")
    made = made_of(machine)
    made.collect()
    counted(machine, nvme0c0n1=130, nvme0c11n1=60, nvme0c0n11=99, nvme10c0n1=99)
    assert rates(made, clock) == (40 * SECTOR / 2, 40 * SECTOR / 2)
    source = {metric.name: metric.source for metric in made.metrics}[READ]
    paths = f"{machine.sys}/block/nvme0c0n1/stat, {machine.sys}/block/nvme0c11n1/stat"
    words = "; of the whole disk of 259:2, since its partitions are not counted"
    assert source == paths + (words if whole else "")


@pytest.mark.parametrize(("disk_counts", "path_counts"), [(100, 100), (0, 0)])
def test_a_disk_of_nvme_that_is_counted_itself_has_its_own_traffic(machine, clock, disk_counts, path_counts):
    nvme(machine, "nvme0n1", "259:0")
    nvme(machine, "nvme0c0n1")
    counted(machine, nvme0n1=disk_counts, nvme0c0n1=path_counts)
    mounted(machine, "btrfs", "/dev/nvme0n1")
    made = made_of(machine)
    made.collect()
    counted(machine, nvme0n1=disk_counts + 10, nvme0c0n1=path_counts + 10)
    assert rates(made, clock) == (10 * SECTOR / 2, 10 * SECTOR / 2)


def test_two_partitions_that_have_the_counters_of_one_disk_count_once(machine, clock):
    nvme(machine, "nvme0n1p1", "259:1")
    nvme(machine, "nvme0n1p2", "259:2")
    nvme(machine, "nvme0c0n1")
    counted(machine, nvme0n1p1=0, nvme0n1p2=0, nvme0c0n1=100)
    btrfs(machine, "4444", nvme0n1p1="259:1", nvme0n1p2="259:2")
    mounted(machine, "btrfs", "/dev/nvme0n1p1")
    made = made_of(machine)
    made.collect()
    counted(machine, nvme0c0n1=110)
    assert rates(made, clock) == (10 * SECTOR / 2, 10 * SECTOR / 2)


def test_bcachefs_lists_its_disks_in_mountinfo_and_in_sysfs(machine, clock):
    known_by_name(machine, sda="8:0", sdb="8:16")
    mounted(machine, "bcachefs", "/dev/sda:/dev/sdb")
    traffic(machine, d8_0=(0, 0), d8_16=(0, 0), d8_32=(0, 0))
    made = made_of(machine)
    made.collect()
    traffic(machine, d8_0=(1, 0), d8_16=(0, 2), d8_32=(100, 100))
    assert rates(made, clock) == (SECTOR / 2, 2 * SECTOR / 2)
    for number, device in enumerate(("8:0", "8:16", "8:32")):  # a third is added
        machine.write(f"sys/fs/bcachefs/3333/dev-{number}/block/dev", f"{device}\n")
    clock.passed += 10
    made.collect()
    traffic(machine, d8_0=(1, 0), d8_16=(0, 2), d8_32=(110, 100))
    assert rates(made, clock) == (10 * SECTOR / 2, 0.0)


def test_the_log_and_the_real_time_part_of_an_xfs_are_disks_of_it_too(machine, clock, tmp_path):
    os.chdir(tmp_path)  # the fixture shm returns from here
    number = tmp_path.stat().st_dev
    device = f"{os.major(number)}:{os.minor(number)}"
    known_by_name(machine, sdl="8:64", sdr="8:80")
    mounted(machine, "xfs", "/dev/disk", options="rw,logdev=/dev/sdl,rtdev=/dev/sdr,noquota")
    each = {f"d{device.replace(':', '_')}": (0, 0), "d8_64": (0, 0), "d8_80": (0, 0)}
    traffic(machine, **each)
    made = made_of(machine)
    made.collect()
    traffic(machine, **dict.fromkeys(each, (0, 4)))
    assert rates(made, clock) == (0.0, 12 * SECTOR / 2)
