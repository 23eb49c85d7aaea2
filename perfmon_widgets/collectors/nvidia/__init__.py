"""NVIDIA GPUs, through NVML; ../gpus.py asks every vendor for these two functions."""

from __future__ import annotations

from collections.abc import Sequence

from perfmon_widgets.collectors.linux.processes import Members
from perfmon_widgets.collectors.nvidia.collector import NvidiaCollector
from perfmon_widgets.collectors.nvidia.gpus import known_gpus


def known_uuids() -> list[str]:
    """Return the UUID of each GPU, in the order of their numbers; empty where only NVML lists them."""
    return [gpu.uuid for gpu in known_gpus()]


def make(gpus: Sequence[int | str] | None, first: int, root: int | None, members: Members) -> NvidiaCollector:
    """Return the collector of these GPUs, or of all that are in use.

    ``first`` is 0, since NVIDIA comes first: its numbers are those of nvidia-smi. Raises FileNotFoundError
    without an NVIDIA GPU, NvidiaUnavailable if the driver does not work, ValueError for an unknown GPU.
    """
    del first
    return NvidiaCollector(gpus, root=root, members=members)
