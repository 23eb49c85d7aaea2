"""Which NVIDIA GPUs there are, and which of them CUDA_VISIBLE_DEVICES leaves; none is woken to find out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from perfmon_widgets.collectors.linux.processes import PROC
from perfmon_widgets.collectors.linux.system_file import read_if_there, text_if_there

SYS = Path("/sys")

_NUMBER = re.compile(r"\s*\+?0*(\d{1,9})(?!\d)", re.ASCII)


@dataclass(frozen=True)
class Gpu:
    """One GPU as the driver lists it in /proc; a field is empty where the driver does not say."""

    pci: str = ""
    minor: int = -1
    """The N of ``/dev/nvidiaN``."""
    uuid: str = ""
    name: str = ""


class Visible(NamedTuple):
    """The GPUs that CUDA_VISIBLE_DEVICES leaves."""

    indices: tuple[int, ...]
    """Positions in the given list, in CUDA's order."""
    certain: bool = True
    """False where CUDA may count in another order than the list, or a UUID is not known here."""
    slice: str = ""
    """The MIG slice that hides everything else."""


def known_gpus(proc: Path = PROC) -> list[Gpu]:
    """Return the GPUs that the driver lists, in the order of their PCI addresses, which is also NVML's.

    Read from ``/proc/driver/nvidia/gpus/*/information``, which prints what the driver has cached: no GPU is
    woken. Empty where there is no such folder (WSL, Windows).
    """
    gpus = []
    for file in sorted((proc / "driver/nvidia/gpus").glob("*/information")):
        try:
            lines = file.read_text().splitlines()
        except OSError:
            continue  # the GPU has gone
        fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
        if fields.get("GPU Excluded") == "Yes":
            continue
        uuid, minor = fields.get("GPU UUID", ""), fields.get("Device Minor", "")
        gpus.append(
            Gpu(
                pci=file.parent.name,
                minor=int(minor) if minor.isdecimal() else -1,
                uuid="" if "?" in uuid else uuid,
                name=fields.get("Model", ""),
            )
        )
    return gpus


def fallen_off_the_bus(gpu: Gpu, sys: Path = SYS) -> bool:
    """Return whether a GPU no longer answers on the PCI bus; false for one that sleeps or is not known.

    The driver is not asked, since that would attach the GPU. All bits of an address from which nothing
    answers are set. A sleeping GPU is not asked, since a reading wakes it.
    """
    folder = sys / "bus/pci/devices" / gpu.pci
    if not gpu.pci or text_if_there(folder / "power/runtime_status").startswith(("suspend", "resuming")):
        return False
    return read_if_there(folder / "config")[:4] == b"\xff" * 4


def visible_devices(text: str | None, gpus: Sequence[Gpu], order: str = "") -> Visible:
    """Return which of these GPUs a text of CUDA_VISIBLE_DEVICES (None: not set) leaves, by CUDA's own rules.

    The first entry that is not a device ends the list. A device named twice empties it. The first entry
    decides whether all are numbers or UUIDs. A MIG slice hides all other devices. ``order`` is the text of
    CUDA_DEVICE_ORDER: by default CUDA counts the fastest GPU first, so its numbers are certain only if that
    variable is PCI_BUS_ID or if all GPUs are the same model. The rules are those of the CUDA Programming
    Guide, "CUDA Environment Variables"; where it is silent, those of PyTorch's ``torch.cuda.device_count``.
    """
    if text is None:
        return Visible(tuple(range(len(gpus))))
    entries = [entry.strip() for entry in text.split(",")]
    if entries[0].startswith("MIG-"):
        # The older form MIG-GPU-<uuid>/<gpu instance>/<compute instance> names its GPU.
        parent = entries[0].removeprefix("MIG-").partition("/")[0]
        indices = tuple(index for index, gpu in enumerate(gpus) if gpu.uuid and gpu.uuid == parent)
        if len(gpus) == 1:
            indices = (0,)
        return Visible(indices, bool(indices), entries[0])
    if entries[0].startswith("GPU-"):
        return _by_uuid(entries, gpus)
    return _by_number(entries, gpus, order)


def _by_number(entries: Sequence[str], gpus: Sequence[Gpu], order: str) -> Visible:
    found: list[int] = []
    for entry in entries:
        # As C's strtoul reads it: "1gpu2" is 1, "-1" and "gpu1" are no device.
        match = _NUMBER.match(entry)
        number = int(match[1]) if match else len(gpus)
        if number >= len(gpus):
            break
        if number in found:
            return Visible(())
        found.append(number)
    alike = len({gpu.name for gpu in gpus}) == 1 and bool(gpus[0].name)
    everything_or_nothing = len(found) in (0, len(gpus))
    return Visible(tuple(found), order == "PCI_BUS_ID" or alike or everything_or_nothing)


def _by_uuid(entries: Sequence[str], gpus: Sequence[Gpu]) -> Visible:
    found: list[int] = []
    certain = all(gpu.uuid for gpu in gpus)
    for entry in entries:
        # An abbreviation counts if it fits exactly one GPU.
        fitting = [index for index, gpu in enumerate(gpus) if entry and gpu.uuid.startswith(entry)]
        if len(fitting) != 1 or not entry.startswith("GPU-"):
            break
        if fitting[0] in found:
            return Visible((), certain)
        found.append(fitting[0])
    return Visible(tuple(found), certain)
