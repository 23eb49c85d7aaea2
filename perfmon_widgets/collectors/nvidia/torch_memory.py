"""The GPU memory that PyTorch's allocator holds, asked of PyTorch where this process already uses it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from perfmon_widgets.collectors.nvidia.errors import Missing
from perfmon_widgets.collectors.nvidia.readings import Reading


class TorchMemory(Reading):
    """Bytes in tensors, bytes that the allocator has reserved for them, and the peak of the first.

    ``ordinal`` returns CUDA's number of the GPU in this process, which is also PyTorch's, or −1. PyTorch is
    neither imported nor made to initialise CUDA, which would break forks of this process.
    """

    names = ("torch_allocated_bytes", "torch_reserved_bytes", "torch_peak_bytes")

    def __init__(self, modules: Mapping[str, Any], ordinal: Callable[[], int]) -> None:
        super().__init__(None, None)
        self._modules = modules
        self._find = ordinal
        self._ordinal = -1

    def take(self) -> Sequence[float]:
        """Return the three numbers; raises Missing where PyTorch does not use this GPU."""
        torch = self._modules.get("torch")
        if torch is None:
            raise Missing("PyTorch is not imported in this process", 0.0)
        try:
            if not torch.cuda.is_initialized():
                raise Missing("PyTorch has not used CUDA in this process", 0.0)
            if self._ordinal < 0:  # once known it stays
                self._ordinal = self._find()
            if self._ordinal < 0:
                raise Missing("CUDA does not show this GPU to this process", 0.0)
            statistics = torch.cuda.memory_stats_as_nested_dict(self._ordinal)
            allocated, reserved = (statistics[f"{kind}_bytes"]["all"] for kind in ("allocated", "reserved"))
            return float(allocated["current"]), float(reserved["current"]), float(allocated["peak"])
        except (AttributeError, RuntimeError, KeyError):
            # It is still being imported, is another version, or has an allocator that does not count.
            raise Missing("this PyTorch or its allocator does not report its memory", 0.0) from None
