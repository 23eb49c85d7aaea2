"""This Jupyter kernel as a place to run in: its control channel, and which cell is running."""

from __future__ import annotations

from typing import Any, NamedTuple

from IPython.core.getipython import get_ipython


class Cell(NamedTuple):
    """The cell that is being executed."""

    identity: str
    """The same for each execution of one cell: the front end's id of it, or else its source."""
    execution: str
    """Another one for each execution."""


def running_cell() -> Cell | None:
    """The cell that is being executed; None outside a Jupyter kernel and while no cell runs."""
    kernel = _kernel()
    message = kernel.get_parent() if kernel is not None else None
    if not message or message["header"].get("msg_type") != "execute_request":
        return None
    identity = message["metadata"].get("cellId") or message["content"]["code"]
    return Cell(identity, message["header"]["msg_id"])


def hear_widgets_while_busy() -> bool:
    """Have widget messages on the control channel answered; True where there is such a channel.

    The shell channel waits for the running cell, the control channel is served by a thread of its own. What
    is heard there runs on that thread, which also carries interrupts, so handlers must return at once.
    """
    kernel = _kernel()
    if kernel is None or not hasattr(kernel, "control_handlers"):
        return False
    kernel.control_handlers.setdefault("comm_msg", kernel.comm_manager.comm_msg)
    return True


def _kernel() -> Any:
    """The ipykernel this code runs in, if it does."""
    return getattr(get_ipython(), "kernel", None)
