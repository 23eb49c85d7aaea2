"""``%perfmon`` and ``%%perfmon``: the shared monitor of this Jupyter kernel, or of a terminal's IPython."""

from __future__ import annotations

import keyword
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.inputtransformer2 import cell_magic as to_cell_magic
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring
from IPython.display import display

from perfmon_widgets.core.monitor import PerformanceMonitor
from perfmon_widgets.core.shared import running_monitor, shared_monitor
from perfmon_widgets.jupyter.kernel import is_jupyter_kernel
from perfmon_widgets.jupyter.measurement import Measurement, have_row
from perfmon_widgets.views.text import format_change, format_duration, format_value

if TYPE_CHECKING:
    import pandas as pd
    from IPython.core.interactiveshell import InteractiveShell

    from perfmon_widgets.web.server import PerformanceServer

# What %perfmon cells shows of what by_cell() has: title, end of the column's name, statistic.
_SHOWN_PER_CELL = (
    ("CPU", "process_cpu_percent", "mean"),
    ("RAM peak", "process_ram_bytes", "max"),
    ("RAM change", "process_ram_bytes", "change"),
    ("", "utilization_percent", "mean"),
    (" memory peak", "memory_used_bytes", "max"),
)
_SERVER = "perfmon_server"


@magics_class
class PerfmonMagics(Magics):
    """What is done for the magics, and the measurements that are under way."""

    shell: Any  # IPython's own type has no names that are added later, and may be None

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__(shell)
        self._panel: Any = None
        self._server: PerformanceServer | None = None
        self._measuring: list[tuple[Any, Measurement, str | None]] = []

    # -- %perfmon --------------------------------------------------------------------------------------

    @magic_arguments()
    @argument(
        "action",
        nargs="?",
        default="panel",
        choices=["panel", "start", "stop", "summary", "cells", "log", "serve"],
        help="""
        panel (or nothing): show gauges and charts; in a terminal the newest values as text.
        start: begin to sample, or set another interval or window.
        stop: stop sampling; what was sampled stays.
        summary: mean, minimum, maximum and 95th percentile of everything over the window.
        cells: what each executed cell has cost.
        log: write every row to a CSV file from now on; with --off no more.
        serve: answer the HTTP API from this process.
        """,
    )
    @argument("path", nargs="?", help="The file of the log; by default its name tells date and time.")
    @argument("--interval", type=float, metavar="SECONDS", help="Time between samples; 5 at first.")
    @argument("--window", type=float, metavar="SECONDS", help="How long samples are kept; 600 at first.")
    @argument("--off", action="store_true", help="End the log.")
    @argument("-o", "--output", metavar="NAME", help="Give the result this name: panel, monitor, table, …")
    @line_magic("perfmon")  # type: ignore[arg-type]
    def perfmon(self, line: str) -> None:
        """Watch what this notebook uses: GPU, CPU, memory and disk.

        All forms are about the one monitor that the panels of this Jupyter kernel share. It is started by
        the first of them that needs it, and goes on while cells run. To measure a single cell, see %%perfmon?

        Examples::

            %perfmon
            %perfmon start --interval 1 -o monitor
            %perfmon summary
            %perfmon cells -o costs
            %perfmon log run.csv
            %perfmon serve
        """
        options = _parsed(self.perfmon, line, "%perfmon")
        _refuse_what_does_not_fit(options)
        name = _checked(options.output)
        monitor = shared_monitor()
        _set(monitor, options.interval, options.window)
        actions: dict[str, Callable[[], object]] = {
            "panel": self._show_panel,
            "start": lambda: _start(monitor),
            "stop": lambda: _stop(monitor),
            "summary": lambda: _show_summary(monitor),
            "cells": lambda: _show_cells(monitor),
            "log": lambda: _switch_log(monitor, _unquoted(options.path), options.off),
            "serve": lambda: self._serve(monitor, name or _SERVER),
        }
        result = actions[options.action]()
        if name is not None:
            self.shell.user_ns[name] = result

    def _show_panel(self) -> object:
        from perfmon_widgets.panel.panel import PerformancePanel  # noqa: PLC0415 - scripts do without widgets

        panel = PerformancePanel()
        if is_jupyter_kernel():
            display(panel)
            return panel
        # Nothing can be shown in a terminal but the values of this moment.
        if self._panel is not None:
            self._panel.close()
        self._panel = panel
        have_row(panel.monitor, since=0)
        print(repr(panel))
        return panel

    def _serve(self, monitor: PerformanceMonitor, name: str) -> PerformanceServer:
        from perfmon_widgets.web.server import serve  # noqa: PLC0415 - tornado only for those who serve

        if self._server is None or not self._server.running:
            monitor.start()
            self._server = serve(monitor)
        self.shell.user_ns[name] = self._server
        # Not the token itself: what is printed is saved with the notebook.
        url = f"{self._server.url}/api/performance/current"
        print(f"{url} — the token is {name}.token, {name}.stop() ends it")
        return self._server

    # -- %%perfmon -------------------------------------------------------------------------------------

    @magic_arguments("%perfmon")
    @argument(
        "--interval",
        type=float,
        metavar="SECONDS",
        help="Time between samples while the cell runs; by default 0.2, or less if it is less already.",
    )
    @argument("-o", "--output", metavar="NAME", help="Give the rows, a DataFrame, this name.")
    @cell_magic("perfmon")  # type: ignore[arg-type]
    def measured_cell(self, line: str, cell: str) -> None:
        """Run a cell with samples at a finer interval, then show what it cost.

        That is the wall time, CPU time, the peak of memory, mean and peak of each GPU, and what was read
        from disks and written to them. The numbers are those of this process and its children, GPUs as a
        whole. If no monitor is running, one runs during the cell.

        The cell may hold whatever a cell may hold: it shows its last value, may await, and fails as it would.

        Examples::

            %%perfmon
            model.fit(images, digits)

            %%perfmon --interval 0.05 -o rows
            model.fit(images, digits)
        """
        # A cell that begins with %%perfmon does not come here, but to `measure`, by way of `unwrapped`.
        self.shell.run_cell(f"%%perfmon {line}\n{cell}").raise_error()

    def measure(self, line: str) -> None:
        """Measure from now to the end of the cell that is being executed."""
        options = _parsed(self.measured_cell, self.shell.var_expand(line), "%%perfmon")
        name = _checked(options.output)
        cell = self.shell.displayhook.exec_result
        if cell is not None and cell.info.silent:
            return  # its end is not told
        monitor = running_monitor() or shared_monitor()
        try:
            measurement = Measurement(monitor, options.interval)
        except ValueError as error:
            raise UsageError(str(error)) from None
        if not self._measuring:
            self.shell.events.register("post_run_cell", self._cell_has_ended)
        self._measuring.append((cell, measurement, name))

    def _cell_has_ended(self, result: Any) -> None:
        """Show what was measured in the cell; what was begun last is shown first."""
        ended = [one for one in self._measuring if _is_of(result, one[0])]
        self._measuring = [one for one in self._measuring if one not in ended]
        if not self._measuring:
            self.shell.events.unregister("post_run_cell", self._cell_has_ended)
        for _, measurement, name in reversed(ended):
            measurement.end()
            if name is not None:
                self.shell.user_ns[name] = measurement.rows
            print(measurement.summary())
            picture = measurement.picture() if is_jupyter_kernel() else ""
            if picture:
                from perfmon_widgets.views.svg import image  # noqa: PLC0415 - loads no widgets

                words = "picture of the cell's samples"
                display({"text/html": image(picture, words), "text/plain": f"<{words}>"}, raw=True)

    def close(self) -> None:
        """Measure no more, and end the server."""
        self._cell_has_ended(None) if self._measuring else None
        if self._server is not None:
            self._server.stop()


def _is_of(result: Any, cell: Any) -> bool:
    """Whether this is the result of that cell, as IPython tells it after the cell."""
    if result is None or cell is None or result.info is cell.info:
        return True
    # What broke off IPython itself, such as an interrupt between two statements, comes with another one.
    return result.execution_count is None and bool(result.info.raw_cell == cell.info.raw_cell)


def unwrapped(lines: list[str]) -> list[str]:
    """A cell that begins with ``%%perfmon``, as an ordinary cell with one statement in front.

    So the rest of it is executed as any other cell: in IPython's own hands are await, the value that is
    shown, exceptions and interrupts, none of which a cell magic can do as well.
    """
    if not lines or lines[0].split(None, 1)[:1] != ["%%perfmon"] or not "".join(lines[1:]).strip():
        return lines
    arguments = lines[0].rstrip().partition(" ")[2]
    begin = f"get_ipython().magics_manager.registry['PerfmonMagics'].measure({arguments!r})\n"
    return [begin, *to_cell_magic(unwrapped(lines[1:]))]


# Whether a cell in a terminal is complete is told by its two percent signs.
unwrapped.has_side_effects = True  # type: ignore[attr-defined]


def load(shell: InteractiveShell) -> None:
    """Add the magics to a shell."""
    shell.register_magics(PerfmonMagics)
    shell.input_transformers_cleanup.append(unwrapped)


def unload(shell: InteractiveShell) -> None:
    """Take the magics out of a shell; the monitor goes on."""
    if unwrapped in shell.input_transformers_cleanup:
        shell.input_transformers_cleanup.remove(unwrapped)
    for magics in shell.magics_manager.magics.values():
        magics.pop("perfmon", None)
    registered = shell.magics_manager.registry.pop("PerfmonMagics", None)
    if registered is not None:
        registered.close()


# -- what the forms of %perfmon do ---------------------------------------------------------------------


def _parsed(magic: Any, line: str, name: str) -> Any:
    """The arguments of a magic; raises UsageError, with where to read on, for what makes no sense."""
    try:
        return parse_argstring(magic, line)
    except ValueError as error:  # of shlex, for quotes that are not closed
        reason = f"{str(error)[:1].lower()}{str(error)[1:]}: {line}"
    except UsageError as error:
        reason = str(error)
    raise UsageError(f"{reason}; see {name}?")


def _refuse_what_does_not_fit(options: Any) -> None:
    """Raise UsageError for an argument that means nothing to this form."""
    action = options.action
    for given, argument_, where in (
        (options.path, options.path, ("log",)),
        (options.off, "--off", ("log",)),
        (options.interval is not None, "--interval", ("panel", "start", "log", "serve")),
        (options.window is not None, "--window", ("panel", "start", "log", "serve")),
    ):
        if given and action not in where:
            raise UsageError(f"%perfmon {action} takes no {argument_}; it goes with {', '.join(where)}")


def _set(monitor: PerformanceMonitor, interval: float | None, window: float | None) -> None:
    before = monitor.interval
    try:
        if interval is not None:
            monitor.interval = interval
        if window is not None:
            monitor.window = window
    except ValueError as error:
        monitor.interval = before
        raise UsageError(str(error)) from None


def _start(monitor: PerformanceMonitor) -> PerformanceMonitor:
    monitor.start()
    print(f"sampling every {monitor.interval:g} s, keeping the last {monitor.window:g} s")
    return monitor


def _stop(monitor: PerformanceMonitor) -> PerformanceMonitor:
    print("sampling has stopped" if monitor.running else "nothing is being sampled")
    monitor.stop()
    return monitor


def _show_summary(monitor: PerformanceMonitor) -> pd.DataFrame:
    _require_samples(monitor)
    summary = monitor.summary()
    display(summary)
    return summary


def _show_cells(monitor: PerformanceMonitor) -> pd.DataFrame:
    import pandas as pd  # noqa: PLC0415

    _require_samples(monitor)
    costs = monitor.by_cell()
    shown = {"time": [format_duration(seconds) for seconds in costs["cell", "duration_seconds"]]}
    for title, ending, statistic in _SHOWN_PER_CELL:
        for metric in monitor.metrics:
            what = metric.name.removeprefix(f"{metric.where}/")
            if what != ending or costs[metric.name, statistic].isna().all():
                continue
            where = metric.where.replace("gpu", "GPU ")
            write = format_change if statistic == "change" else format_value
            shown[where + title] = [write(value, metric.unit) for value in costs[metric.name, statistic]]
    shown["cell"] = [text if len(text) <= 50 else f"{text[:49]}…" for text in costs["cell", "source"]]
    _show(pd.DataFrame(shown, index=costs.index))
    return costs


def _switch_log(monitor: PerformanceMonitor, path: str | None, off: bool) -> Path | None:
    log = monitor.log
    if off:
        was_running = log.running
        log.stop()
        print(f"{log.rows} rows in {_near(log.path)}" if was_running else "no log is being written")
        return log.path
    try:
        written = log.start(path)
    except (OSError, RuntimeError) as error:
        raise UsageError(getattr(error, "strerror", None) or str(error)) from None
    monitor.start()
    print(f"every row goes to {_near(written)}; %perfmon log --off ends that")
    return written


def _require_samples(monitor: PerformanceMonitor) -> None:
    if monitor.latest is None:
        raise UsageError("there are no samples yet; %perfmon start begins to take some")


def _show(table: pd.DataFrame) -> None:
    """Display a table; in a terminal with all its columns."""
    if is_jupyter_kernel():
        display(table)
    else:
        print(table.to_string())


def _near(path: Path | None) -> str:
    """A path as it is found from here: what is printed is saved with the notebook, which may go elsewhere."""
    try:
        return os.path.relpath(path) if path is not None and path.is_relative_to(Path.cwd()) else str(path)
    except OSError:  # "here" has been deleted
        return str(path)


def _checked(name: str | None) -> str | None:
    if name is not None and (not name.isidentifier() or keyword.iskeyword(name)):
        raise UsageError(f"-o needs a name for a variable, not {name!r}")
    return name


def _unquoted(path: str | None) -> str | None:
    return path[1:-1] if path and path[0] in "\"'" and path[-1:] == path[0] else path
