"""Intervention: what the memory guard did, and the words for it."""

from __future__ import annotations

from typing import NamedTuple

from perfmon_widgets.views.death import Cell
from perfmon_widgets.views.text import format_used

STOPPED = "the memory guard of perfmon_widgets stopped this cell"
"""How the message of the MemoryError begins that interrupts a cell."""

REFUSED, INTERRUPTED = "refused", "interrupted"
"""The kinds of interventions: an allocation failed; a running cell was interrupted."""


class Intervention(NamedTuple):
    """What the guard did to keep this process alive."""

    time: float
    """Unix seconds (UTC)."""
    kind: str
    """``refused``: an allocation failed. ``interrupted``: the running cell was interrupted."""
    cell: Cell | None
    """The cell that was running."""
    occupied: float
    """Memory that could not be given back, in bytes: the most that was seen while the cell ran."""
    limit: float
    """The memory limit, in bytes."""

    def __str__(self) -> str:
        did = "refused an allocation" if self.kind == REFUSED else "interrupted the cell"
        where = "" if self.cell is None else f" in {self.cell}"
        return f"memory guard {did}{where}: RAM {format_used(self.occupied, self.limit, 'bytes')}"
