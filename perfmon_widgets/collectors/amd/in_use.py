"""Which AMD GPUs there are, which of them this process may use, and which it uses; none is woken by it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from perfmon_widgets.collectors.linux import limits as scope
from perfmon_widgets.collectors.linux import tree
from perfmon_widgets.collectors.linux.system_file import text_if_there

# ROCm opens every GPU it may use and takes a few megabytes on each: it is in use above this many bytes.
_IN_USE = 16 * 2**20
# How often to look whether another GPU has come into use, in seconds.
_SEARCH_EVERY = 2.0

_UNITS = {b"": 1, b"KiB": 2**10, b"MiB": 2**20, b"GiB": 2**30}
_CANONICAL = re.compile(r"0|[1-9]\d*")


@dataclass(frozen=True)
class Gpu:
    """One GPU: a device on the PCI bus that the driver amdgpu has."""

    pci: str
    """Its address, ``0000:c3:00.0``."""
    folder: Path
    """Its folder in /sys."""
    uuid: str = ""
    """``GPU-`` and 16 hexadecimal digits; empty where the chip has none."""
    name: str = ""
    node: int = -1
    """The first of its nodes in the compute driver's topology, whose order ROCm counts in; −1 if unknown."""
    render: str = ""
    """The file in /dev/dri through which programs use it: ``renderD128``."""
    partitions: int = 1
    """How many GPUs ROCm sees in it: more than one only for an MI300 that is split."""


def known_gpus(sys: Path) -> list[Gpu]:
    """The GPUs that have the driver amdgpu, in the order of their PCI addresses."""
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
        gpus.append(Gpu(pci, folder, uuid, name, min(own, default=-1), render, max(len(own), 1)))
    return sorted(gpus, key=lambda gpu: gpu.pci)


def _nodes(sys: Path) -> Iterator[tuple[int, str]]:
    """The GPUs of the compute driver (KFD): number of the node, PCI address."""
    for file in (sys / "class/kfd/kfd/topology/nodes").glob("*/properties"):
        fields = dict(line.split(" ", 1) for line in _text(file).splitlines() if " " in line)
        if int(fields.get("simd_count", 0)) == 0:
            continue  # a CPU
        # Bits above 16 are the number of a partition.
        location, domain = int(fields.get("location_id", 0)), int(fields.get("domain", 0))
        address = f"{domain:04x}:{location >> 8 & 0xFF:02x}:{location >> 3 & 0x1F:02x}.{location & 7}"
        yield int(file.parent.name), address


def visible_gpus(gpus: Sequence[Gpu], dev: Path, environment: Mapping[str, str]) -> list[Gpu]:
    """The GPUs that this container was given and the environment leaves, in the order of ``gpus``.

    Where the order in which ROCm counts them is not known, the environment is taken to leave all.
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
    """Why this process cannot use the GPU, for a person to act on; empty if it can."""
    path = dev / "dri" / gpu.render
    if not gpu.render or os.access(path, os.R_OK | os.W_OK):
        return ""
    return f"this user may not open {path}: ask to become a member of its group (render or video)"


def visible_devices(rocr: str | None, hip: str, uuids: Sequence[str]) -> tuple[int, ...]:
    """The positions that ROCR_VISIBLE_DEVICES (None: not set) and HIP_VISIBLE_DEVICES leave, by ROCm's rules.

    The first is applied below everything, the second (or CUDA_VISIBLE_DEVICES) counts in what that left. In
    both, what is no device ends the list. The same device twice ends the first list, and is passed over in
    the second; the first when set to nothing hides all, the second hides none. As read in ROCR-Runtime
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


class Search:
    """Looks for the GPUs on which this process, or another one (``root``), and its children hold memory."""

    def __init__(self, proc: Path = scope.PROC, root: int | None = None) -> None:
        self._proc, self._root = proc, root
        self._allowance = tree.Allowance(_SEARCH_EVERY)
        self._found: set[str] = set()

    def look(self) -> set[str]:
        """The PCI addresses of the GPUs in use so far; looks again every two seconds at most.

        Read from ``/proc/<pid>/fdinfo`` of the open render nodes, which counts what that very process
        allocated, ROCm's memory included, in every container.
        """
        if self._allowance.due():
            with self._allowance:
                held: dict[tuple[str, bytes], int] = {}
                self._search(self._root or scope.own_number(self._proc), held, set())
                totals: dict[str, int] = {}
                for (pci, _), size in held.items():
                    totals[pci] = totals.get(pci, 0) + size
                self._found |= {pci for pci, size in totals.items() if size > _IN_USE}
        return self._found

    def _search(self, process: int, held: dict[tuple[str, bytes], int], seen: set[int]) -> None:
        seen.add(process)
        folder = f"{self._proc}/{process}"
        for number in _render_nodes(f"{folder}/fd"):
            try:
                content = Path(f"{folder}/fdinfo/{number}").read_bytes()
            except OSError:
                continue  # closed meanwhile
            fields = dict(line.split(b":", 1) for line in content.splitlines() if b":" in line)
            if fields.get(b"drm-driver", b"").strip() == b"amdgpu" and b"drm-pdev" in fields:
                # Copies of one open file, in this process or in a child of a fork, have the same number.
                client = fields[b"drm-pdev"].strip().decode(), fields.get(b"drm-client-id", b"").strip()
                # An APU gives out the machine's memory (GTT) rather than the little it calls its own.
                held[client] = max(held.get(client, 0), _bytes(fields, b"vram") + _bytes(fields, b"gtt"))
        for child in tree.children(process, self._proc):
            if child not in seen:
                self._search(child, held, seen)


def _render_nodes(folder: str) -> Iterator[str]:
    """The numbers of the open files below this folder that are GPUs."""
    try:
        numbers = os.listdir(folder)  # noqa: PTH208 - names are enough
    except OSError:
        return  # it ended meanwhile, or belongs to another user
    for number in numbers:
        try:
            if os.readlink(f"{folder}/{number}").startswith("/dev/dri/"):  # noqa: PTH115 - the text is enough
                yield number
        except OSError:
            continue  # closed meanwhile


def _bytes(fields: Mapping[bytes, bytes], kind: bytes) -> int:
    """The memory of one kind that an open render node holds; older drivers have only the second name."""
    text = fields.get(b"drm-resident-" + kind) or fields.get(b"drm-memory-" + kind) or b"0"
    number, _, unit = text.strip().partition(b" ")
    return int(number) * _UNITS.get(unit.strip(), 1)


def _text(path: Path) -> str:
    return text_if_there(path).strip()
