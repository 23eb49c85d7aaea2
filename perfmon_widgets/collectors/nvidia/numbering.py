"""Which GPU has which number: NVML's numbers, as nvidia-smi prints them."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from perfmon_widgets.collectors.nvidia.errors import explain
from perfmon_widgets.collectors.nvidia.gpus import Gpu, known_gpus
from perfmon_widgets.collectors.nvidia.in_use import Used


class Numbering:
    """The GPUs that NVML shows to this process, in the order of their numbers.

    They are those that the driver lists in /proc, unless it lists another count: /proc lists all GPUs of the
    machine, NVML only those of a batch job (Slurm); a lost GPU may be missing; WSL has no list.
    """

    def __init__(self, nvml: Any, count: int, proc: Path) -> None:
        self._nvml = nvml
        self._listed = known_gpus(proc)
        self.known: Sequence[Gpu] = self._listed if len(self._listed) == count else [Gpu()] * count
        """What is known of each; fields are empty until ``ask`` was called, where the counts differ."""
        self.unreadable: dict[int, str] = {}
        """Why NVML could not attach some of them when ``ask`` was called."""

    def ask(self) -> Sequence[Gpu]:
        """Ask NVML which GPU has which number, and return ``known``.

        This attaches the GPUs, so it is only for when one is in use.
        """
        nvml = self._nvml
        known = [Gpu()] * len(self.known)
        for gpu in self._listed:
            with contextlib.suppress(nvml.NVMLError):  # not given to this job
                known[nvml.nvmlDeviceGetIndex(nvml.nvmlDeviceGetHandleByPciBusId(gpu.pci))] = gpu
        self.unreadable = {}
        for index, gpu in enumerate(known):
            if gpu.minor < 0:
                try:
                    handle = nvml.nvmlDeviceGetHandleByIndex(index)
                except nvml.NVMLError as error:
                    self.unreadable[index] = explain(error)
                    continue
                with contextlib.suppress(nvml.NVMLError):
                    uuid, name = nvml.nvmlDeviceGetUUID(handle), nvml.nvmlDeviceGetName(handle)
                    known[index] = Gpu("", -1, uuid, name)
                    known[index] = Gpu("", nvml.nvmlDeviceGetMinorNumber(handle), uuid, name)
        self.known = known
        return known

    def of(self, used: Used) -> int:
        """Return the number of a GPU without asking NVML, which may have lost it; −1 if it is not known."""
        if used.index >= 0:
            return used.index if used.index < len(self.known) else -1
        # CUDA writes addresses in capitals, /proc does not, and UUIDs without a prefix. That of a slice may
        # contain its GPU's: MIG-GPU-…/1/0.
        pci, uuid = used.pci.lower(), used.uuid.lower()
        for index, gpu in enumerate(self.known):
            bare = gpu.uuid.lower().removeprefix("gpu-")
            if (gpu.pci and gpu.pci.lower() == pci) or (bare and bare in uuid):
                return index
        return -1

    def of_lost(self) -> int:
        """Return the number of the only GPU that cannot be attached; −1 if there is none, or several."""
        lost = []
        for index in range(len(self.known)):
            try:
                self._nvml.nvmlDeviceGetHandleByIndex(index)
            except self._nvml.NVMLError:
                lost.append(index)
        return lost[0] if len(lost) == 1 else -1

    def existing(self) -> str:
        """Return the GPUs there are, for an error message: ``0 (GPU-…), 1 (GPU-…)``."""
        listed = []
        for index, gpu in enumerate(self.known):
            identity = gpu.uuid
            if not identity:
                with contextlib.suppress(self._nvml.NVMLError):
                    identity = self._nvml.nvmlDeviceGetUUID(self._nvml.nvmlDeviceGetHandleByIndex(index))
            listed.append(f"{index} ({identity})" if identity else str(index))
        return ", ".join(listed)
