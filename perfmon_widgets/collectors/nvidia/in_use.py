"""Which NVIDIA GPUs this Jupyter kernel and its children use, found without waking or attaching any of them.

Nothing here loads or initialises CUDA. What this process has already loaded is asked; what is only inferred
from its surroundings is marked as a guess, and so shown as "likely".
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from perfmon_widgets.collectors.linux import limits as scope

# Looking at children reads many small files: done after this many seconds, or later where it takes so
from perfmon_widgets.collectors.linux import tree

# Looking at children reads many small files: done after this many seconds, or later where it takes so
# long that it would use more than this share of one CPU.
_CHILDREN_EVERY = 5.0
_CHILDREN_SHARE = 0.001
# Once this process is known to use a GPU, how often to ask whether it now uses another one too.
_PROBE_EVERY = 2.0

# NVML opens only the first kind. CUDA opens the second too, for its memory.
_DEVICE_FILE = re.compile(r"/dev/nvidia(\d+|-uvm)$")
_NUMBER = re.compile(r"\s*\+?0*(\d{1,9})(?!\d)", re.ASCII)


@dataclass(frozen=True)
class Gpu:
    """One GPU as the driver lists it in /proc; a field is empty where the driver does not tell it."""

    pci: str = ""
    minor: int = -1
    """The N of ``/dev/nvidiaN``."""
    uuid: str = ""
    name: str = ""


@dataclass(frozen=True)
class Used:
    """A GPU, or a MIG slice of one, that was found in use: one of index, pci and uuid says which."""

    how: str
    """Why it counts as in use."""
    certain: bool = True
    """False for a guess."""
    index: int = -1
    pci: str = ""
    uuid: str = ""
    """With its prefix ``GPU-`` or ``MIG-``; without one where CUDA does not tell which of the two it is."""


class Visible(NamedTuple):
    """What CUDA_VISIBLE_DEVICES leaves of the GPUs."""

    indices: tuple[int, ...]
    """Positions in the given list, in CUDA's order."""
    certain: bool = True
    """False where CUDA may count in another order than the list, or a UUID is not known here."""
    slice: str = ""
    """The MIG slice that hides everything else."""


def known_gpus(proc: Path = scope.PROC) -> list[Gpu]:
    """The GPUs the driver lists, in the order of their PCI addresses, which is also NVML's order.

    Read from ``/proc/driver/nvidia/gpus/*/information``, which prints what the driver has cached: no GPU is
    woken by it. Empty where there is no such folder (WSL, Windows).
    """
    gpus = []
    for file in sorted((proc / "driver/nvidia/gpus").glob("*/information")):
        try:
            lines = file.read_text().splitlines()
        except OSError:
            continue  # the GPU has gone meanwhile
        fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
        if fields.get("GPU Excluded") == "Yes":
            continue
        identity = fields.get("GPU UUID", "")
        gpus.append(
            Gpu(
                file.parent.name,
                int(fields.get("Device Minor", -1)),
                "" if "?" in identity else identity,
                fields.get("Model", ""),
            )
        )
    return gpus


def visible_devices(text: str | None, gpus: Sequence[Gpu], order: str = "") -> Visible:
    """What the text of CUDA_VISIBLE_DEVICES (None: not set) leaves of these GPUs, by CUDA's own rules.

    The first entry that is no device ends the list, a device named twice empties it, the first entry decides
    between numbers and UUIDs, and a MIG slice hides all others. ``order`` is the text of CUDA_DEVICE_ORDER:
    CUDA counts the fastest GPU first, so its numbers can be trusted only if it was told to count by PCI
    address, or where all GPUs are the same. The rules are those of the CUDA Programming Guide, "CUDA
    Environment Variables", and for what it leaves open those of PyTorch's ``torch.cuda.device_count``.
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
        # An abbreviation is good as long as it fits one GPU only.
        fitting = [index for index, gpu in enumerate(gpus) if entry and gpu.uuid.startswith(entry)]
        if len(fitting) != 1 or not entry.startswith("GPU-"):
            break
        if fitting[0] in found:
            return Visible((), certain)
        found.append(fitting[0])
    return Visible(tuple(found), certain)


def mapped_library() -> ctypes.CDLL | None:
    """The CUDA driver library if this process has loaded it, else None: it is never loaded from here."""
    if not hasattr(os, "RTLD_NOLOAD"):
        return None  # Windows
    try:
        return ctypes.CDLL("libcuda.so.1", mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
    except OSError:
        return None


class Search:
    """Looks for the GPUs that this process and its children use: first what is exact, then what is likely.

    Of another process (``root``) nothing is exact: it is looked at from outside, like a child.
    """

    def __init__(
        self,
        gpus: Sequence[Gpu],
        *,
        root: int | None = None,
        proc: Path = scope.PROC,
        library: Callable[[], ctypes.CDLL | None] = mapped_library,
        modules: Mapping[str, Any] = sys.modules,
    ) -> None:
        self._gpus = gpus
        self._root = root
        self._proc = proc
        self._find_library = library
        self._modules = modules
        self._library: ctypes.CDLL | None = None
        self._own: list[Used] = []
        self._children: list[Used] = []
        self._own_due = self._children_due = 0.0

    def look(self) -> list[Used]:
        """The GPUs in use now, exact findings first; costs microseconds except when children are due."""
        now = time.monotonic()
        if self._root is None and now >= self._own_due:
            self._own = self._this_process()
            self._own_due = now + _PROBE_EVERY if self._own else 0.0
        if now >= self._children_due:
            started = time.thread_time()
            own = scope.own_number(self._proc)
            self._children = list(self._used_by_children(self._root or own, own))
            cost = time.thread_time() - started
            self._children_due = now + max(_CHILDREN_EVERY, cost / _CHILDREN_SHARE)
        return self._own + self._children

    def _this_process(self) -> list[Used]:
        self._library = self._library or self._find_library()
        if self._library is not None:
            return primary_contexts(self._library)
        # Where the library has another name (Windows), the frameworks know.
        return [*self._used_by_torch(), *self._used_by_jax()]

    def _used_by_torch(self) -> Iterator[Used]:
        torch = self._modules.get("torch")
        try:
            # Asking anything else first would initialise CUDA, in a process that may be about to fork.
            if torch is None or torch.version.cuda is None or not torch.cuda.is_initialized():
                return
            for number in range(torch.cuda.device_count()):
                if torch.cuda.memory_reserved(number) > 0:
                    identity = str(torch.cuda.get_device_properties(number).uuid)
                    yield Used("PyTorch holds memory on it", certain=False, uuid=identity)
        except (AttributeError, RuntimeError):
            return  # still being imported, or a version without these names

    def _used_by_jax(self) -> Iterator[Used]:
        try:
            # Asking for the devices first would initialise CUDA on all of them.
            if not self._modules["jax._src.xla_bridge"].backends_are_initialized():
                return
            visible = visible_devices(
                os.environ.get("CUDA_VISIBLE_DEVICES"), self._gpus, os.environ.get("CUDA_DEVICE_ORDER", "")
            )
            for device in self._modules["jax"].local_devices(backend="cuda"):
                index = visible.indices[device.local_hardware_id]
                yield Used("JAX started on it", certain=False, index=index)
        except (KeyError, AttributeError, IndexError, RuntimeError):
            return  # not imported, still being imported, without a CUDA backend, or another version

    def _used_by_children(
        self, process: int, own: int, inherited: frozenset[tuple[str, str]] = frozenset()
    ) -> Iterator[Used]:
        opened = self._opened(process)
        if process != own:
            # A forked child holds what its parent had open; that says nothing about what it uses itself.
            # One that has opened GPUs without CUDA only watches them, as wandb does.
            devices = {device for _, device in opened - inherited}
            if "-uvm" in devices:
                yield from self._likely({int(device) for device in devices - {"-uvm"}}, process)
        for child in tree.children(process, self._proc):
            yield from self._used_by_children(child, own, opened)

    def _likely(self, minors: set[int], process: int) -> Iterator[Used]:
        """Without limits CUDA opens every GPU it may see, so the child's own environment narrows them."""
        settings = self._environment(process)
        visible = visible_devices(
            settings.get("CUDA_VISIBLE_DEVICES"), self._gpus, settings.get("CUDA_DEVICE_ORDER", "")
        )
        how = "a child process has it open"
        if visible.slice:
            yield Used(how, certain=False, uuid=visible.slice)
            return
        for index, gpu in enumerate(self._gpus):
            opened = gpu.minor in minors or (gpu.minor < 0 and len(self._gpus) == 1)
            if opened and (index in visible.indices or not visible.certain):
                yield Used(how, certain=False, index=index)

    def _opened(self, process: int) -> frozenset[tuple[str, str]]:
        """The NVIDIA device files a process has open: number of the descriptor, end of the file's name."""
        folder = self._proc / str(process) / "fd"
        found = set()
        try:
            for number in os.listdir(folder):  # noqa: PTH208 - names are enough
                match = _DEVICE_FILE.match(_target(folder / number))
                if match:
                    found.add((number, match[1]))
        except OSError:
            pass  # it ended meanwhile, or belongs to another user
        return frozenset(found)

    def _environment(self, process: int) -> dict[str, str]:
        """The environment a process was started with; empty if it may not be read."""
        try:
            text = (self._proc / str(process) / "environ").read_bytes().decode(errors="replace")
        except OSError:
            return {}
        return {key: value for key, _, value in (entry.partition("=") for entry in text.split("\0"))}


def _target(link: Path) -> str:
    try:
        return os.readlink(link)  # noqa: PTH115 - the text is enough
    except OSError:
        return ""  # closed meanwhile


def primary_contexts(library: ctypes.CDLL) -> list[Used]:
    """The devices on which this process has an active primary context; empty before CUDA was started.

    Every framework that uses the CUDA runtime works in the primary contexts. Asked of the driver library by
    ``cuDevicePrimaryCtxGetState``, which creates none; ``cuInit`` is never called.
    """
    count = ctypes.c_int()
    if library.cuDeviceGetCount(ctypes.byref(count)):  # not initialised, or in the child of a fork
        return []
    used = []
    for ordinal in range(count.value):
        device, flags, active = ctypes.c_int(), ctypes.c_uint(), ctypes.c_int()
        if library.cuDeviceGet(ctypes.byref(device), ordinal):
            continue
        if library.cuDevicePrimaryCtxGetState(device, ctypes.byref(flags), ctypes.byref(active)):
            continue
        if active.value:
            address, identity = ctypes.create_string_buffer(32), ctypes.create_string_buffer(16)
            if library.cuDeviceGetPCIBusId(address, len(address), device):
                continue
            # Version 2 (CUDA 11.4) tells a MIG slice from its GPU.
            ask = getattr(library, "cuDeviceGetUuid_v2", None) or library.cuDeviceGetUuid
            known = ask(identity, device) == 0
            used.append(
                Used(
                    "this process has a CUDA context on it",
                    pci=address.value.decode(),
                    uuid=str(uuid.UUID(bytes=identity.raw)) if known else "",
                )
            )
    return used
