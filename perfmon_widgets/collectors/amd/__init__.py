"""AMD GPUs, from what their driver shows in /sys; ../gpus.py asks every vendor for these two functions."""

from __future__ import annotations

from collections.abc import Sequence

from perfmon_widgets.collectors.amd.collector import AmdCollector
from perfmon_widgets.collectors.amd.gpus import SYS, known_gpus
from perfmon_widgets.collectors.linux.processes import Members


def known_uuids() -> list[str]:
    """Return the UUID of each GPU, or "" for a chip without one, in the order of their PCI addresses."""
    return [gpu.uuid for gpu in known_gpus(SYS)]


def make(gpus: Sequence[int | str] | None, first: int, root: int | None, members: Members) -> AmdCollector:
    """Return the collector of these GPUs, or of all that are in use.

    ``first`` is the number of the first AMD GPU. Raises FileNotFoundError without an AMD GPU, ValueError for
    an unknown one.
    """
    return AmdCollector(gpus, first=first, root=root, members=members)
