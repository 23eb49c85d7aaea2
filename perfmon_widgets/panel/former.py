"""Former panels: those that earlier executions of a cell made are closed when it is run again."""

from __future__ import annotations

import weakref
from typing import Protocol

from perfmon_widgets.jupyter import kernel


class _Closable(Protocol):
    def close(self) -> None: ...


# For each cell its newest execution, and the panels that this execution has made.
_newest: dict[str, tuple[str, list[weakref.ref[_Closable]]]] = {}


def replace_former(panel: _Closable) -> None:
    """Close the panels that earlier executions of the running cell made, and remember this one.

    Without this each run would leave a panel that goes on drawing: six of them sent 180 messages a second.
    """
    cell = kernel.running_cell()
    if cell is None:
        return
    execution, panels = _newest.get(cell.identity, ("", []))
    if execution != cell.execution:
        for reference in panels:
            former = reference()
            if former is not None:
                former.close()
        panels = []
    _newest[cell.identity] = (cell.execution, [*panels, weakref.ref(panel)])
