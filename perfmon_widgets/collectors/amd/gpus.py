"""Which AMD GPUs there are, and which of them this process may use; none is woken to find out."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from perfmon_widgets.collectors.linux.system_file import text_if_there

SYS = Path("/sys")

_CANONICAL = re.compile(r"0|[1-9]\d*")


@dataclass(frozen=True)
class Gpu:
    """One GPU: a PCI device that belongs to the driver amdgpu."""

    pci: str
    """Its address, ``0000:c3:00.0``."""
    folder: Path
    """Its folder in /sys."""
    uuid: str = ""
    """``GPU-`` and 16 hexadecimal digits; empty where the chip has none."""
    name: str = ""
    node: int = -1
    """The first of its nodes in the compute driver's topology, in whose order ROCm counts; −1 if unknown."""
    render: str = ""
    """The file in /dev/dri that programs open to use it: ``renderD128``."""
    partitions: int = 1
    """How many GPUs ROCm sees in it: more than one only for an MI300 in a partition mode."""
    shares_memory: bool = False
    """Whether it is part of the processor (an APU), with VRAM cut from the machine's memory."""


def known_gpus(sys: Path) -> list[Gpu]:
    """Return the GPUs that belong to the driver amdgpu, in the order of their PCI addresses."""
    nodes = list(_nodes(sys))
    gpus = []
    for card in sorted((sys / "class" / "drm").glob("card*")):
        folder = card / "device"
        if not re.fullmatch(r"card\d+", card.name) or _text(folder / "vendor") != "0x1002":
            continue
        settings = dict(line.split("=", 1) for line in _text(folder / "uevent").splitlines() if "=" in line)
        pci = settings.get("PCI_SLOT_NAME", "")
        if settings.get("DRIVER") != "amdgpu" or not pci:
            continue
        own = [number for number, address in nodes if address == pci]
        identity = _text(folder / "unique_id")
        name = _text(folder / "product_name") or f"AMD GPU {_text(folder / 'device').removeprefix('0x')}"
        if len(own) > 1:
            name += f", all of its {len(own)} partitions together"
        uuid = f"GPU-{identity}" if identity else ""
        render = next((path.name for path in sorted((folder / "drm").glob("renderD*"))), "")
        node, partitions = min(own, default=-1), max(len(own), 1)
        gpus.append(Gpu(pci, folder, uuid, name, node, render, partitions, _shares_memory(folder)))
    return sorted(gpus, key=lambda gpu: gpu.pci)


def _shares_memory(folder: Path) -> bool:
    """Return whether the GPU in this folder is an APU with a carve-out as its VRAM.

    The driver does not say so in a file. But only for such a GPU it makes neither of two files: the load of
    the memory controller (also missing on Vega 10) and the PCIe traffic (also missing on all newer chips).
    An MI300A has the first one; its VRAM is all the memory there is. Where the driver measures nothing, as in
    some virtual machines, the first file is missing too.
    """
    has = {file: (folder / file).exists() for file in ("gpu_busy_percent", "mem_busy_percent", "pcie_bw")}
    return has["gpu_busy_percent"] and not has["mem_busy_percent"] and not has["pcie_bw"]


def _nodes(sys: Path) -> Iterator[tuple[int, str]]:
    """Yield the GPUs of the compute driver (KFD): number of the node, PCI address."""
    for file in (sys / "class/kfd/kfd/topology/nodes").glob("*/properties"):
        fields = dict(line.split(" ", 1) for line in _text(file).splitlines() if " " in line)
        if int(fields.get("simd_count", 0)) == 0:
            continue  # a CPU
        # Bits above 16 are the number of a partition.
        location, domain = int(fields.get("location_id", 0)), int(fields.get("domain", 0))
        address = f"{domain:04x}:{location >> 8 & 0xFF:02x}:{location >> 3 & 0x1F:02x}.{location & 7}"
        yield int(file.parent.name), address


def visible_gpus(gpus: Sequence[Gpu], dev: Path, environment: Mapping[str, str]) -> list[Gpu]:
    """Return the GPUs that this container was given and the environment leaves, in the order of ``gpus``.

    Where the order in which ROCm counts is not known, the environment is ignored.
    """
    given = [gpu for gpu in gpus if not gpu.render or (dev / "dri" / gpu.render).exists()]
    ordered = sorted(given, key=lambda gpu: gpu.node)
    if len(given) > 1 and ordered[0].node < 0:
        return given
    counted = [gpu for gpu in ordered for _ in range(gpu.partitions)]
    left = visible_devices(
        environment.get("ROCR_VISIBLE_DEVICES"),
        environment.get("HIP_VISIBLE_DEVICES") or environment.get("CUDA_VISIBLE_DEVICES", ""),
        [gpu.uuid for gpu in counted],
    )
    return [gpu for gpu in given if gpu in {counted[index] for index in left}]


def forbidden(gpu: Gpu, dev: Path) -> str:
    """Return why this user cannot use the GPU, and what to do about it; empty if it can be used."""
    path = dev / "dri" / gpu.render
    if not gpu.render or os.access(path, os.R_OK | os.W_OK):
        return ""
    return f"this user may not open {path}: ask to become a member of its group (render or video)"


def visible_devices(rocr: str | None, hip: str, uuids: Sequence[str]) -> tuple[int, ...]:
    """Return the positions of the GPUs that ROCR_VISIBLE_DEVICES and HIP_VISIBLE_DEVICES leave visible.

    ``rocr`` is None if that variable is not set. It is applied first. The indices in ``hip`` (or in
    CUDA_VISIBLE_DEVICES) count the GPUs that are left then. In both, an entry that is not a device ends the
    list. A repeated device ends the list of ``rocr``, and is skipped in that of ``hip``. An empty text hides
    all devices in ``rocr``, and none in ``hip``. These are ROCm's rules, as read in ROCR-Runtime
    (amd_filter_device.cpp) and clr (rocdevice.cpp).
    """
    left = tuple(range(len(uuids))) if rocr is None else tuple(_rocr(rocr, uuids))
    if not hip:
        return left
    return tuple(dict.fromkeys(left[index] for index in _hip(hip, [uuids[index] for index in left])))


def _rocr(text: str, uuids: Sequence[str]) -> Iterator[int]:
    seen = set()
    for entry in text.upper().split(",")[: len(uuids)]:
        token = entry.strip()
        if token.startswith("G"):
            fitting = [index for index, uuid in enumerate(uuids) if uuid and uuid.upper().startswith(token)]
            index = fitting[0] if len(fitting) == 1 and len(token) >= len("GPU-0") else -1
        else:
            try:
                index = int(token, 8 if re.fullmatch(r"0[0-7]+", token) else 0)  # as C's strtol reads it
            except ValueError:
                index = -1
        if not 0 <= index < len(uuids) or index in seen:
            return
        seen.add(index)
        yield index


def _hip(text: str, uuids: Sequence[str]) -> Iterator[int]:
    for token in text.split(","):
        if "GPU-" in token:
            index = next((number for number, uuid in enumerate(uuids) if token in uuid), -1)
        else:
            index = int(token) if _CANONICAL.fullmatch(token) else -1
        if not 0 <= index < len(uuids):
            return
        yield index


def _text(path: Path) -> str:
    return text_if_there(path).strip()
