"""Record each cell that IPython executes in the running monitors, in a Jupyter kernel or a terminal."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from IPython.core.getipython import get_ipython

from perfmon_widgets.clocks import time
from perfmon_widgets.core import spans
from perfmon_widgets.forks import renew_after_fork
from perfmon_widgets.jupyter.kernel import log_exceptions
from perfmon_widgets.views.source import telling_line


def executing(shell: Any) -> Any:
    """Return the ``ExecutionResult`` of the innermost cell that is being executed; None outside cells."""
    return shell.displayhook.exec_result


def execution_number(shell: Any) -> int:
    """Return the execution count of the cell that is being executed, for use before and while it runs."""
    # IPython 8 increments execution_count after the cell, IPython 9 before the pre_run_cell hooks.
    return min(int(shell.execution_count), len(shell.history_manager.input_hist_raw))


def ends(result: Any, info: Any) -> bool:
    """Return whether ``result``, passed to a post_run_cell hook, ends the execution that ``info`` describes.

    Usually the result refers to the same ``ExecutionInfo`` object. If an interrupt occurs inside IPython
    itself, for example between two statements, IPython makes a new object with the same source, or passes
    None.
    """
    if result is None or result.info is None or result.info is info:
        return True
    return result.execution_count is None and bool(result.info.raw_cell == info.raw_cell)


class RunningCell(NamedTuple):
    """A cell that is being executed, and its span in each monitor."""

    info: Any
    """IPython's ``ExecutionInfo``: as a rule the same object in the hooks before and after the cell."""
    number: int
    """Its execution count."""
    thread: int
    """The identifier of the thread that executes it."""
    spans: list[tuple[Any, spans.Span]]
    """Each monitor with the span that ends with the cell."""
    start: float
    """When it started, or was found to be running, in Unix seconds (UTC)."""

    def begin(self, monitor: Any) -> None:
        """Begin the span of this cell in a monitor."""
        self.spans.append((monitor, monitor.begin(spans.CELL, _name(self.info), self.number)))

    def end(self, *, raised: bool) -> None:
        """End its span in each monitor."""
        for monitor, span in self.spans:
            try:
                monitor.end(span, raised=raised)
            except BaseException:  # an interrupt must not leave it open
                monitor.end(span, raised=raised)
                raise


class ExecutedCells:
    """Begins and ends a span in each running monitor for every cell that IPython executes.

    A cell counts if it gets a number, ``In [3]``. What a front end or a widget executes silently does not
    count, nor does code that a cell hands to IPython without storing it in the history. Cells may be nested,
    and several may run at once in the subshells of one Jupyter kernel.

    Two hooks of IPython are registered while at least one monitor runs.
    """

    def __init__(self) -> None:
        self._shell: Any = None
        self._lock = threading.Lock()
        self._monitors: dict[Any, float] = {}  # with the monotonic time of each one's add()
        self._running: dict[int, RunningCell] = {}  # by the id() of their info
        renew_after_fork(self)

    def renew_after_fork(self) -> None:
        """In a forked child: make a new lock and forget the monitors, which do not run there."""
        self._lock = threading.Lock()
        self._monitors, self._running = {}, {}
        self._unregister()

    def add(self, monitor: Any) -> None:
        """Record cells in a monitor from now on, the running one included; no effect without IPython."""
        shell = get_ipython()
        if shell is None:
            return
        with self._lock:
            if not self._monitors:
                self._register(shell)
                self._find_running()
            self._monitors[monitor] = time.monotonic()
            running = tuple(self._running.values())
        for cell in running:
            cell.begin(monitor)

    def remove(self, monitor: Any) -> None:
        """Stop recording cells in a monitor, and end there the spans of the cells that are running."""
        with self._lock:
            self._monitors.pop(monitor, None)
            running = tuple(self._running.values())
            if not self._monitors:
                self._running.clear()
                self._unregister()
        for cell in running:
            for owner, span in cell.spans:
                if owner is monitor:
                    monitor.end(span)

    @property
    def newest(self) -> RunningCell | None:
        """The running cell that began last; None if none is running, and while no monitor runs."""
        return next(reversed(tuple(self._running.values())), None)

    def _hooks(self) -> tuple[tuple[str, Any], ...]:
        return ("pre_run_cell", self._before), ("post_run_cell", self._after)

    def _register(self, shell: Any) -> None:
        self._shell = shell
        for event, hook in self._hooks():
            shell.events.register(event, hook)

    def _unregister(self) -> None:
        if self._shell is None:
            return
        for event, hook in self._hooks():
            with contextlib.suppress(ValueError):  # another program has cleared all hooks
                self._shell.events.unregister(event, hook)

    def _find_running(self) -> None:
        """Find the cell in which the first monitor starts: it began before our hook was registered."""
        result = executing(self._shell)
        if result is not None and _counts(result.info):
            cell = RunningCell(result.info, result.execution_count, threading.get_ident(), [], time.time())
            self._running[id(cell.info)] = cell

    def _before(self, info: Any) -> None:
        """The pre_run_cell hook."""
        with log_exceptions():
            if not _counts(info):
                return
            cell = RunningCell(info, execution_number(self._shell), threading.get_ident(), [], time.time())
            with self._lock:
                self._running[id(info)] = cell
                monitors = tuple(self._monitors)
            for monitor in monitors:
                cell.begin(monitor)
            _notify(cell)

    def _after(self, result: Any) -> None:
        """The post_run_cell hook."""
        with log_exceptions():
            with self._lock:
                cell = self._take_ended(result)
                monitors = dict(self._monitors)
            if cell is not None:
                try:
                    cell.end(raised=result is None or not result.success)
                finally:
                    _notify(self.newest)
            elif result is not None and result.execution_count is not None and _counts(result.info):
                # The first monitor was started in this cell, but in a nested execution that does not count,
                # such as the body of %%capture. So _find_running() found that execution instead of the cell.
                for monitor, since in monitors.items():
                    span = monitor.begin(spans.CELL, _name(result.info), result.execution_count)
                    span.start -= time.monotonic() - since
                    monitor.end(span, raised=not result.success)

    def _take_ended(self, result: Any) -> RunningCell | None:
        """Remove and return the running cell that has ended with this result; None if it is not recorded."""
        if result is not None and id(result.info) in self._running:
            return self._running.pop(id(result.info))
        here = [cell for cell in self._running.values() if cell.thread == threading.get_ident()]
        if here and ends(result, here[-1].info):
            return self._running.pop(id(here[-1].info))
        return None


def _counts(info: Any) -> bool:
    return bool(info.store_history) and not info.silent and bool(info.raw_cell.strip())


def _name(info: Any) -> str:
    return telling_line(str(info.raw_cell))


executed = ExecutedCells()
"""The executed cells of this process."""

listeners: list[Callable[[RunningCell | None], object]] = []
"""Called with the running cell, None if none is, whenever one begins or ends while a monitor runs."""


def _notify(cell: RunningCell | None) -> None:
    for listener in listeners:
        with log_exceptions():
            listener(cell)


def note_cells(monitor: Any, running: bool) -> None:
    """Begin to record executed cells in a monitor, or end that; the core calls this at start and stop."""
    if running:
        executed.add(monitor)
    else:
        executed.remove(monitor)


spans.watchers.append(note_cells)
