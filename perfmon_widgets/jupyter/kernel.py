"""This Jupyter kernel as a place to run in, and which cells are executed.

The cells are told by the hooks of IPython, so also where that runs in a terminal.
"""

from __future__ import annotations

import _thread
import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from IPython.core.getipython import get_ipython
from IPython.display import publish_display_data

from perfmon_widgets.core import spans

_logger = logging.getLogger(__name__)

# Seconds after which a cell has begun whose hook was interrupted.
_INTERRUPT_AGAIN = 0.05


class Cell(NamedTuple):
    """The cell that is being executed."""

    identity: str
    """The same for each execution of one cell: the front end's id of it, or else its source."""
    execution: str
    """Another one for each execution."""


def running_cell() -> Cell | None:
    """The cell that is being executed; None outside a Jupyter kernel and while no cell runs."""
    kernel = current_kernel()
    message = kernel.get_parent() if kernel is not None else None
    if not message or message["header"].get("msg_type") != "execute_request":
        return None
    identity = message["metadata"].get("cellId") or message["content"]["code"]
    return Cell(identity, message["header"]["msg_id"])


def after_each_cell(callback: Callable[..., object], remove: bool = False) -> None:
    """Call back each time a cell has ended; ``remove=True`` ends that. Nothing outside a Jupyter kernel."""
    shell = get_ipython()
    if current_kernel() is None or shell is None:
        return
    if remove:
        with contextlib.suppress(ValueError):  # somebody has cleared all hooks
            shell.events.unregister("post_run_cell", _after_cell.pop(callback, callback))
        return

    def ended(result: object) -> None:
        with _harmless():
            callback(result)

    _after_cell[callback] = ended
    shell.events.register("post_run_cell", ended)


_after_cell: dict[Callable[..., object], Callable[[object], None]] = {}


def show_html(text: str, name: str, *, again: bool) -> None:
    """Make HTML an output of the running cell, or with ``again`` change the one of that name wherever it is.

    Nothing outside a Jupyter kernel.
    """
    if current_kernel() is not None:
        data = {"text/html": text, "text/plain": ""}
        publish_display_data(data, transient={"display_id": name}, update=again)  # type: ignore[no-untyped-call]


def is_jupyter_kernel() -> bool:
    """Whether this is a Jupyter kernel, whose front end may show widgets."""
    return current_kernel() is not None


def current_kernel() -> Any:
    """The ipykernel this code runs in, if it does."""
    return getattr(get_ipython(), "kernel", None)


# -- cells ---------------------------------------------------------------------------------------------


class _Running(NamedTuple):
    """A cell that is being executed, and the spans of it that end with it."""

    info: Any
    """IPython's own description, the same object before and after the cell."""
    number: int
    thread: int
    spans: list[tuple[Any, spans.Span]]


class _Cells:
    """Tells monitors which cells a shell executes, by two of its hooks, while at least one monitor runs.

    What counts is a cell with a number: neither what is run silently, as by a widget, nor what code runs that
    is in a cell itself. Cells may be nested, and with subshells several run at once.
    """

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._hooks = {"pre_run_cell": self._before, "post_run_cell": self._after}
        self._lock = threading.Lock()
        self._monitors: dict[Any, float] = {}  # and when each began to listen
        self._running: dict[int, _Running] = {}

    def tell(self, monitor: Any) -> None:
        """Tell a monitor of the cells from now on; the one that is running counts from now on too."""
        with self._lock:
            if not self._monitors:
                for event, hook in self._hooks.items():
                    self._shell.events.register(event, hook)
                self._find_running()
            self._monitors[monitor] = time.time()
            running = tuple(self._running.values())
        for cell in running:
            _begin(cell, monitor)

    def tell_no_more(self, monitor: Any) -> bool:
        """End what a monitor was told; whether it was the last."""
        with self._lock:
            self._monitors.pop(monitor, None)
            last = not self._monitors
            running = tuple(self._running.values())
            if last:
                self._running.clear()
                for event, hook in self._hooks.items():
                    with contextlib.suppress(ValueError):  # somebody has cleared all hooks
                        self._shell.events.unregister(event, hook)
        for cell in running:
            for owner, span in cell.spans:
                if owner is monitor:
                    monitor.end(span)
        return last

    def _find_running(self) -> None:
        """The cell in which this is called, whose beginning was not told: what IPython shows results of."""
        result = self._shell.displayhook.exec_result
        if result is not None and _counts(result.info):
            cell = _Running(result.info, result.execution_count, threading.get_ident(), [])
            self._running[id(cell.info)] = cell

    def _before(self, info: Any) -> None:
        with _harmless():
            if not _counts(info):
                return
            # The number it has: IPython counts on after the cell, and from version 9 on before these hooks.
            number = min(self._shell.execution_count, len(self._shell.history_manager.input_hist_raw))
            cell = _Running(info, number, threading.get_ident(), [])
            with self._lock:
                self._running[id(info)] = cell
                monitors = tuple(self._monitors)
            for monitor in monitors:
                _begin(cell, monitor)

    def _after(self, result: Any) -> None:
        with _harmless():
            with self._lock:
                cell = self._ended(result)
                monitors = dict(self._monitors)
            if cell is not None:
                for monitor, span in cell.spans:
                    monitor.end(span, raised=result is None or not result.success)
            elif result is not None and result.execution_count is not None and _counts(result.info):
                # A monitor was started in it, below another one that does not count.
                for monitor, since in monitors.items():
                    span = monitor.begin(spans.CELL, _first_line(result.info), result.execution_count)
                    span.start = since
                    monitor.end(span, raised=not result.success)

    def _ended(self, result: Any) -> _Running | None:
        """The cell that this is the result of; none for what does not count."""
        info = getattr(result, "info", None)
        if id(info) in self._running:
            return self._running.pop(id(info))
        # What broke off IPython itself, such as an interrupt between two statements, comes with another
        # description or with none: it is the innermost one then.
        here = [cell for cell in self._running.values() if cell.thread == threading.get_ident()]
        if here and (
            info is None or (result.execution_count is None and info.raw_cell == here[-1].info.raw_cell)
        ):
            return self._running.pop(id(here[-1].info))
        return None


_cells: _Cells | None = None


def _tell_of_cells(monitor: Any, running: bool) -> None:
    """Have a monitor told of the cells, or no more: what spans.watchers calls."""
    global _cells  # noqa: PLW0603 - one per process is what it is
    if running:
        shell = get_ipython()
        if shell is not None:
            _cells = _cells or _Cells(shell)
            _cells.tell(monitor)
    elif _cells is not None and _cells.tell_no_more(monitor):
        _cells = None


spans.watchers.append(_tell_of_cells)


def _after_fork() -> None:
    """A forked child executes no cells, and the lock of whom the parent tells may have been held."""
    global _cells  # noqa: PLW0603
    _cells = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _counts(info: Any) -> bool:
    return bool(info.store_history) and not info.silent and bool(info.raw_cell.strip())


def _begin(cell: _Running, monitor: Any) -> None:
    cell.spans.append((monitor, monitor.begin(spans.CELL, _first_line(cell.info), cell.number)))


def _first_line(info: Any) -> str:
    return str(info.raw_cell).strip().partition("\n")[0]


def _interrupt_main_thread() -> None:
    if hasattr(signal, "pthread_kill") and callable(signal.getsignal(signal.SIGINT)):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)  # ends a call that waits, too
    else:
        _thread.interrupt_main()


@contextlib.contextmanager
def _harmless() -> Iterator[None]:
    """What goes wrong in a hook is nothing that the user's cell shall show; an interrupt is the cell's."""
    try:
        yield
    except KeyboardInterrupt:
        # IPython would print it as an error of the hook, and execute the cell after all.
        later = threading.Timer(_INTERRUPT_AGAIN, _interrupt_main_thread)
        later.daemon = True
        later.start()
    except Exception:
        _logger.exception("a cell could not be followed")
