"""Which NVIDIA GPUs this process and its descendants use.

No GPU is attached or woken until one of these processes has opened a device file of CUDA. Then NVML may be
asked which file belongs to which GPU, and who uses it; that attaches GPUs, also those that are not used.

Nothing here loads or initialises CUDA: libraries that this process has already loaded are asked. What is only
inferred from outside is marked as a guess, and shown as "likely".
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perfmon_widgets.clocks import time
from perfmon_widgets.collectors.allowance import Allowance
from perfmon_widgets.collectors.linux.processes import PROC, Members, children, own_number
from perfmon_widgets.collectors.linux.system_file import read_once
from perfmon_widgets.collectors.nvidia.gpus import Gpu, visible_devices

# Seconds after which the open files of the processes are searched again: there are many of them.
_TREE_EVERY = 5.0
# Seconds after which this process, once it uses a GPU, is checked for using another one.
_OWN_EVERY = 2.0

# NVML opens only the first kind. CUDA opens the second too, for its memory. In WSL both open only the third.
_DEVICE_FILE = re.compile(r"/dev/(?:nvidia(\d+|-uvm)|(dxg))$")

# The frameworks that work in primary contexts.
_FRAMEWORKS = ("torch", "jax", "tensorflow", "cupy", "numba.cuda")
# Seconds after which the driver is asked again about this process, while one of them is imported.
_ASK_EVERY = 60.0

_OWN = "this process has it open"
_CHILD = "a child process has it open"


@dataclass(frozen=True)
class Used:
    """A GPU in use, or a MIG slice of one: one of index, pci and uuid says which."""

    how: str
    """Why it counts as in use."""
    certain: bool = True
    """False for a guess."""
    index: int = -1
    pci: str = ""
    uuid: str = ""
    """With its prefix ``GPU-`` or ``MIG-``; without one where CUDA does not say which of the two it is."""


def mapped_library() -> ctypes.CDLL | None:
    """Return the CUDA driver library if this process has already loaded it, else None; never loads it."""
    if not hasattr(os, "RTLD_NOLOAD"):
        return None  # Windows
    try:
        return ctypes.CDLL("libcuda.so.1", mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
    except OSError:
        return None


class Search:
    """Search for the GPUs that this process and its descendants use: exact findings first, then guesses.

    For another process (``root``) there are only guesses: it is searched from outside, like a child.
    ``members`` lists descendants that are known already: one whose parent has ended is found only there.

    ``gpus`` are in the order of their numbers. ``numbered`` asks the driver for the same list: it is called
    when a process uses a GPU, and ``gpus`` does not say which device file belongs to which number. ``listed``
    asks it whether a GPU (its number) has a process (its number in /proc) as a user; None if it cannot say.
    """

    def __init__(
        self,
        gpus: Sequence[Gpu],
        *,
        root: int | None = None,
        members: Members = tuple,
        proc: Path = PROC,
        library: Callable[[], ctypes.CDLL | None] = mapped_library,
        modules: Mapping[str, Any] = sys.modules,
        numbered: Callable[[], Sequence[Gpu]] | None = None,
        listed: Callable[[int, int], bool | None] = lambda index, process: None,
    ) -> None:
        self._gpus = gpus
        self._numbered = numbered
        self._listed = listed
        self._root = root
        self._members = members
        self._proc = proc
        self._find_library = library
        self._modules = modules
        self._library: ctypes.CDLL | None = None
        self._own: list[Used] = []
        self._own_due = 0.0
        self._opened_by_tree: list[Used] = []
        self._searching_tree = Allowance(_TREE_EVERY)
        self._asking_beside_framework = Allowance(_ASK_EVERY)

    def look(self) -> list[Used]:
        """Return the GPUs in use now, exact findings first; takes microseconds unless a search is due."""
        now = time.monotonic()
        if self._root is None and now >= self._own_due:
            self._own = self._this_process()
            self._own_due = now + _OWN_EVERY if self._own else 0.0
        if self._searching_tree.due():
            with self._searching_tree:
                self._opened_by_tree = list(self._used_by_all(own_number(self._proc)))
        return self._own + self._opened_by_tree

    def _this_process(self) -> list[Used]:
        self._library = self._library or self._find_library()
        if self._library is not None:
            return primary_contexts(self._library)
        # Where the library has another name (Windows), ask the frameworks.
        return [*self._used_by_torch(), *self._used_by_jax()]

    def _used_by_torch(self) -> Iterator[Used]:
        torch = self._modules.get("torch")
        try:
            # Any other call before this one would initialise CUDA, in a process that may be about to fork.
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

    def _used_by_all(self, own: int) -> Iterator[Used]:
        """Yield the GPUs that the root and its descendants seem to use, orphans included."""
        root = self._root or own
        seen: set[int] = set()
        yield from self._used_by_tree(root, own, seen)
        if orphans := [number for number in self._members() if number not in seen]:
            inherited = self._opened(root)
            for number in orphans:
                if number not in seen:  # else it is a descendant of another of them
                    yield from self._used_by_tree(number, own, seen, inherited)

    def _used_by_tree(
        self, process: int, own: int, seen: set[int], inherited: frozenset[tuple[str, str]] = frozenset()
    ) -> Iterator[Used]:
        """Yield the GPUs that a process and its descendants seem to use, by the files that they have open.

        This process is guessed about only while CUDA reports no context of it. Some programs have none that
        CUDA reports: those that make their own (PyCUDA), and those that use OpenCL or Vulkan.
        """
        seen.add(process)
        opened = self._opened(process)
        if process != own or self._is_doubtful():
            # A forked child inherits the open files of its parent, whether it uses them or not. A process
            # that has opened GPUs without CUDA only monitors them, as wandb and this package do.
            devices = {device for _, device in opened - inherited}
            if "-uvm" in devices:
                yield from self._likely({int(device) for device in devices - {"-uvm", "dxg"}}, process, own)
            elif "dxg" in devices and self._has_cuda(process):
                yield from self._likely(None, process, own)
        for child in children(process, self._proc):
            if child not in seen:
                yield from self._used_by_tree(child, own, seen, opened)

    def _is_doubtful(self) -> bool:
        """Return whether this process may use GPUs of which CUDA reports nothing.

        A framework opens all GPUs when it only counts them, and works in contexts that CUDA reports. So while
        one is imported the driver decides, and is rarely asked: its answers cost milliseconds.
        """
        if self._own:
            return False
        if not self._has_framework():
            return True
        if not self._asking_beside_framework.due():
            return False
        with self._asking_beside_framework:
            return True

    def _has_framework(self) -> bool:
        return not self._modules.keys().isdisjoint(_FRAMEWORKS)

    def _likely(self, minors: set[int] | None, process: int, own: int) -> Iterator[Used]:
        """Yield the GPUs that a process with these device files open (None: the one of all) may use.

        CUDA opens every GPU that it may see, so the process's own environment narrows them.
        """
        if self._numbered and len(self._gpus) > 1 and any(gpu.minor < 0 for gpu in self._gpus):
            self._gpus = self._numbered()
        settings = os.environ if process == own else self._environment(process)
        visible = visible_devices(
            settings.get("CUDA_VISIBLE_DEVICES"), self._gpus, settings.get("CUDA_DEVICE_ORDER", "")
        )
        how = _OWN if process == own else _CHILD
        must_be_listed = process == own and self._has_framework()
        if visible.slice:
            yield Used(how, certain=False, uuid=visible.slice)
            return
        for index, gpu in enumerate(self._gpus):
            opened = minors is None or gpu.minor in minors or (gpu.minor < 0 and len(self._gpus) == 1)
            seen = index in visible.indices or not visible.certain
            if opened and seen:
                listed = self._listed(index, process)
                if listed or (listed is None and not must_be_listed):
                    yield Used(how, certain=False, index=index)

    def _has_cuda(self, process: int) -> bool:
        """Return whether a process has loaded CUDA; also if that cannot be read."""
        try:
            return b"/libcuda.so" in read_once(self._proc / str(process) / "maps")
        except OSError:
            return True

    def _opened(self, process: int) -> frozenset[tuple[str, str]]:
        """Return the NVIDIA device files a process has open: number of the descriptor, end of the name."""
        folder = self._proc / str(process) / "fd"
        found = set()
        try:
            for number in os.listdir(folder):  # noqa: PTH208 - names are enough
                match = _DEVICE_FILE.match(_target(folder / number))
                if match:
                    found.add((number, match[1] or match[2]))
        except OSError:
            pass  # it has ended, or belongs to another user
        return frozenset(found)

    def _environment(self, process: int) -> dict[str, str]:
        """Return the environment a process was started with; empty if it may not be read."""
        try:
            text = (self._proc / str(process) / "environ").read_bytes().decode(errors="replace")
        except OSError:
            return {}
        return {key: value for key, _, value in (entry.partition("=") for entry in text.split("\0"))}


def _target(link: Path) -> str:
    try:
        return os.readlink(link)  # noqa: PTH115 - the text is enough
    except OSError:
        return ""  # the file was closed


def primary_contexts(library: ctypes.CDLL) -> list[Used]:
    """Return the devices on which this process has an active primary context; empty before CUDA was started.

    Every framework that uses the CUDA runtime works in the primary contexts. They are read through
    ``cuDevicePrimaryCtxGetState``, which creates none; ``cuInit`` is never called.
    """
    used = []
    for _, device in _cuda_devices(library):
        flags, active = ctypes.c_uint(), ctypes.c_int()
        if library.cuDevicePrimaryCtxGetState(device, ctypes.byref(flags), ctypes.byref(active)):
            continue
        if active.value:
            address = ctypes.create_string_buffer(32)
            if library.cuDeviceGetPCIBusId(address, len(address), device):
                continue
            how = "this process has a CUDA context on it"
            used.append(Used(how, pci=address.value.decode(), uuid=_cuda_uuid(library, device)))
    return used


def ordinals(library: ctypes.CDLL) -> dict[str, int]:
    """Return CUDA's number of each GPU or MIG slice in this process, by its UUID without a prefix.

    Empty before CUDA was started. No context is created.
    """
    return {_cuda_uuid(library, device): ordinal for ordinal, device in _cuda_devices(library)}


def _cuda_devices(library: ctypes.CDLL) -> Iterator[tuple[int, ctypes.c_int]]:
    count = ctypes.c_int()
    if library.cuDeviceGetCount(ctypes.byref(count)):  # not initialised, or in the child of a fork
        return
    for ordinal in range(count.value):
        device = ctypes.c_int()
        if not library.cuDeviceGet(ctypes.byref(device), ordinal):
            yield ordinal, device


def _cuda_uuid(library: ctypes.CDLL, device: ctypes.c_int) -> str:
    identity = ctypes.create_string_buffer(16)
    # Version 2 (CUDA 11.4) distinguishes a MIG slice from its GPU.
    ask = getattr(library, "cuDeviceGetUuid_v2", None) or library.cuDeviceGetUuid
    return "" if ask(identity, device) else str(uuid.UUID(bytes=identity.raw))
