"""The block devices beneath a file system: one as a rule, several for btrfs, bcachefs and XFS."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from perfmon_widgets.collectors.linux.mountinfo import Mount, mounts
from perfmon_widgets.collectors.linux.system_file import read_if_there, read_once, text_if_there

# Where sysfs lists the devices of a file system that may have several: a folder for each file system, and in
# it a file with the number of each device.
_MEMBERS = (("btrfs", "devices/*/dev"), ("bcachefs", "dev-*/block/dev"))
# The name of an NVMe disk or of its partition. The paths to nvme0n1 have the names nvme0c0n1, nvme0c1n1 ….
_NVME = re.compile(r"(nvme\d+)(n\d+)(p\d+)?")
# Further devices that an XFS names in its options: its log, and its files for real-time use.
_FURTHER = re.compile(r"\b(?:logdev|rtdev)=(/[^,]+)")


def is_anonymous(device: int) -> bool:
    """Whether a device number stands for no block device, as for btrfs, overlays, and file servers."""
    return os.major(device) == 0


def find_devices(device: int, mount: Mount | None, sys: Path) -> Sequence[str]:
    """Return the numbers (``8:1``) of the block devices beneath a mounted file system.

    ``device`` is the number that ``stat`` gives for its files, ``mount`` its line of mountinfo, if there is
    one. Raises FileNotFoundError if it has no block device.
    """
    if not is_anonymous(device):
        found = [_text_of(device)]
    elif mount is None:
        raise FileNotFoundError(f"device {_text_of(device)} is not in mountinfo")
    elif not mount.source.startswith("/dev/"):
        raise FileNotFoundError(f"{mount.kind} has no block device")
    else:
        # bcachefs lists all devices, with a colon between them.
        found = [_number_of(source, sys) for source in mount.source.split(":")]
    if mount is not None:
        found += [_number_of(source, sys) for source in _FURTHER.findall(mount.options)]
    for kind, members in _MEMBERS:
        for folder in _folders(sys / "fs" / kind):
            listed = {text_if_there(file) for file in folder.glob(members)} - {""}
            if not listed.isdisjoint(found):
                return sorted(listed.union(found))
    return found


def counters_of(device: str, sys: Path) -> tuple[Sequence[Path], bool]:
    """Return the files that count the traffic of a block device, and whether it is that of its whole disk.

    They are those of an NVMe disk's paths (nvme_core.multipath) where only these count, as in older OS
    kernels. Paths have no partitions. Raises OSError if the device has no counters.
    """
    own = sys / "dev" / "block" / device
    if read_once(own / "stat").strip(b"0 \n"):
        return [own / "stat"], False
    name = _NVME.fullmatch(own.resolve().name)
    paths = sorted((sys / "block").glob(f"{name[1]}c*{name[2]}/stat")) if name else []
    if name and any(read_if_there(path).strip(b"0 \n") for path in paths):
        return paths, bool(name[3])
    return [own / "stat"], False


def _folders(folder: Path) -> Sequence[Path]:
    try:
        return list(folder.iterdir())
    except OSError:  # there is no such file system on this machine
        return ()


def _number_of(source: str, sys: Path) -> str:
    """Return the number of a device by its path; raises FileNotFoundError if there is no such device."""
    try:
        return _text_of(Path(source).stat().st_rdev)
    except OSError:
        # The /dev of a container lacks the disks of the machine, but /sys has them. There a logical volume,
        # or an encrypted disk, has a number for its name.
        name, folder = Path(source).name, sys / "class" / "block"
        for mapped in folder.glob("dm-*"):
            if text_if_there(mapped / "dm" / "name") == name:
                name = mapped.name
        number = text_if_there(folder / name / "dev")
        if not number:
            raise
        return number


def _text_of(device: int) -> str:
    return f"{os.major(device)}:{os.minor(device)}"


def mount_of_working_directory(device: int, proc: Path) -> Mount | None:
    """Return the line of mountinfo of the working directory's file system; None where it is not listed.

    ``device`` is the number that ``stat`` gives for its files.
    """
    number = _mount_number(proc)
    # From the end, since later mounts hide earlier ones.
    for mount in reversed(mounts(proc)):
        if mount.number == number if number else mount.device == _text_of(device):
            return mount
    return None


def _mount_number(proc: Path) -> str | None:
    """Return the number of its mount; for btrfs, mountinfo shows another device number than stat does."""
    directory = os.open(".", os.O_PATH)
    try:
        text = (proc / "self" / "fdinfo" / str(directory)).read_text()
    except OSError:
        return None
    finally:
        os.close(directory)
    return next((line.split()[1] for line in text.splitlines() if line.startswith("mnt_id:")), None)
