"""This process as a Jupyter kernel: which cell runs, when a cell has ended, and HTML output."""

from __future__ import annotations

import contextlib
import enum
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from IPython.core.getipython import get_ipython
from IPython.display import display, publish_display_data

_logger = logging.getLogger(__name__)


class Cell(NamedTuple):
    """The cell that is being executed."""

    identity: str
    """The same for each execution of one cell: the front end's id of the cell, or else its source."""
    execution: str
    """Different for each execution."""


def current_kernel() -> Any:
    """Return the ipykernel of this process; None if this process is not a Jupyter kernel."""
    return getattr(get_ipython(), "kernel", None)


def is_jupyter_kernel() -> bool:
    """Return whether this process is a Jupyter kernel, whose front end may show widgets."""
    return current_kernel() is not None


def connection_file() -> str:
    """Return the path of this kernel's connection file; empty outside a kernel that has one."""
    path: str = getattr(getattr(current_kernel(), "parent", None), "abs_connection_file", "")
    return path


def running_cell() -> Cell | None:
    """Return the cell that is being executed; None outside a Jupyter kernel and while no cell runs."""
    kernel = current_kernel()
    message = kernel.get_parent() if kernel is not None else None
    if not message or message["header"].get("msg_type") != "execute_request":
        return None
    identity = message["metadata"].get("cellId") or message["content"]["code"]
    return Cell(identity, message["header"]["msg_id"])


class Shown(enum.Enum):
    """In which way an output of a cell shows a widget."""

    DISPLAYED = "displayed"
    """``display(widget)``: reported just before the output is made."""
    UPDATED = "updated"
    """``handle.update(widget)``: an output that there was shows it now."""
    RESULT = "result"
    """As the last value of a cell: reported when the cell has ended, also if that value is no widget."""


_VIEW = "application/vnd.jupyter.widget-view+json"
_KINDS = {"display_data": Shown.DISPLAYED, "update_display_data": Shown.UPDATED}
_listening = threading.local()


def view_of(data: Mapping[str, Any]) -> str:
    """Return the model id of the widget that an output shows; empty if it shows none."""
    return str(data.get(_VIEW, {}).get("model_id", ""))


def on_shown(callback: Callable[[str, Shown], object]) -> None:
    """Call ``callback(model_id, how)`` when a cell that this thread runs shows a widget; see ``Shown``.

    It is also called when a cell has ended that shows none, with an empty ``model_id``. Adding the same
    callback again changes nothing. An exception of the callback is logged. Nothing outside a Jupyter kernel.
    """
    known = vars(_listening).setdefault("callbacks", set())
    shell = get_ipython()
    if not is_jupyter_kernel() or shell is None or callback in known:
        return
    known.add(callback)

    def published(message: dict[str, Any]) -> dict[str, Any]:
        with log_exceptions():
            how, model = _KINDS.get(message["msg_type"]), view_of(message["content"]["data"])
            if how is not None and model:
                callback(model, how)
        return message

    def ended(result: Any) -> None:
        value: Any = getattr(result, "result", None)
        is_widget = hasattr(type(value), "_view_name")
        callback(value.model_id or "" if is_widget else "", Shown.RESULT)

    shell.display_pub.register_hook(published)  # type: ignore[attr-defined]
    after_each_cell(ended)


_registered: dict[Callable[..., object], Callable[[object], None]] = {}


def after_each_cell(callback: Callable[..., object], remove: bool = False) -> None:
    """Call ``callback(result)`` after each cell, or remove the callback; nothing outside a Jupyter kernel.

    An exception of the callback is logged.
    """
    shell = get_ipython()
    if not is_jupyter_kernel() or shell is None:
        return
    if remove:
        with contextlib.suppress(ValueError):  # another program has cleared all hooks
            shell.events.unregister("post_run_cell", _registered.pop(callback, callback))
        return

    def call(result: object) -> None:
        with log_exceptions():
            callback(result)

    _registered[callback] = call
    shell.events.register("post_run_cell", call)


@contextlib.contextmanager
def log_exceptions() -> Iterator[None]:
    """Log an exception of one of our hooks; IPython would print its traceback into the user's cell.

    An interrupt (Ctrl-C) is passed to IPython, which prints it as an error of the hook and then executes the
    cell. That is rare: our hook before a cell takes 0.03 to 0.06 ms (measured with IPython 8.18 and 9.18).
    Between two cells, ipykernel ignores interrupts altogether.
    """
    try:
        yield
    except Exception:
        _logger.exception("a hook of perfmon_widgets failed; this cell may not be recorded")


def show(value: object) -> None:
    """Show an object as an output of the running cell, as IPython's display() does."""
    display(value)  # type: ignore[no-untyped-call]


def show_html(text: str, name: str, *, again: bool) -> None:
    """Show HTML as an output of the running cell; nothing outside a Jupyter kernel.

    With ``again``, replace the output that was shown under this name before, in whichever cell it is.
    """
    if is_jupyter_kernel():
        data = {"text/html": text, "text/plain": ""}
        publish_display_data(data, transient={"display_id": name}, update=again)  # type: ignore[no-untyped-call]
