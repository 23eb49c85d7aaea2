"""The actions of ``%perfmon``, one function and one row of ACTIONS each; the rows also make its help text."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from IPython.core.error import UsageError
from IPython.display import display

from perfmon_widgets.jupyter.kernel import is_jupyter_kernel
from perfmon_widgets.jupyter.measurement import have_row
from perfmon_widgets.views.headline import headline_of_cells
from perfmon_widgets.views.local_time import format_period
from perfmon_widgets.views.text import align, format_change, format_duration, format_value

if TYPE_CHECKING:
    import pandas as pd

    from perfmon_widgets.core.guard import Guard
    from perfmon_widgets.core.monitor import PerformanceMonitor
    from perfmon_widgets.panel.panel import PerformancePanel
    from perfmon_widgets.views.death import Death
    from perfmon_widgets.views.evidence import Finding
    from perfmon_widgets.web.server import PerformanceServer

# What the table of cells shows of a column: what follows its label, the statistic, and how it is written.
_OF_AMOUNTS = ((", peak", "max", format_value), (", change", "change", format_change))
_OF_SHARES = (("", "mean", format_value),)
_LONGEST_SOURCE = 50  # characters of a cell's first line in the table of cells


@dataclass
class Kept:
    """What is kept from one ``%perfmon`` to the next in the same shell."""

    panel: PerformancePanel | None = None
    """The panel whose values were printed last in a terminal."""
    server: PerformanceServer | None = None
    served: PerformanceMonitor | None = None
    """The monitor that the server answers for."""


class Line(NamedTuple):
    """The parsed arguments of one ``%perfmon`` line that actions use."""

    monitor: PerformanceMonitor
    path: str | None
    """The file of the log; None for the default name."""
    dock: bool
    off: bool
    output: str
    """The name of the variable for the result; empty if none was given."""
    variables: dict[str, Any]
    """The variables of the notebook."""
    kept: Kept


def show_panel(line: Line) -> PerformancePanel:
    """Show gauges and charts; in a terminal, which has no widgets, print the newest values.

    Raises UsageError with ``--dock`` if a panel cannot be docked here.
    """
    from perfmon_widgets.panel.panel import PerformancePanel  # noqa: PLC0415 - the other actions need no widgets

    panel = PerformancePanel(line.monitor)
    if line.dock:
        try:
            panel.dock()
        except (RuntimeError, ModuleNotFoundError) as error:
            panel.close()
            raise UsageError(str(error)) from None
    line.monitor.start()
    if line.dock:
        return panel
    if is_jupyter_kernel():
        display(panel)
        return panel
    if line.kept.panel is not None:
        line.kept.panel.close()
    line.kept.panel = panel
    have_row(line.monitor, since=0)
    print(panel.in_lines())
    return panel


def start(line: Line) -> PerformanceMonitor:
    """Start the monitor."""
    monitor = line.monitor
    monitor.start()
    print(f"sampling every {monitor.interval:g} s, keeping the last {monitor.window:g} s")
    return monitor


def stop(line: Line) -> PerformanceMonitor:
    """Stop the monitor."""
    print("sampling has stopped" if line.monitor.running else "nothing is being sampled")
    line.monitor.stop()
    return line.monitor


def show_summary(line: Line) -> pd.DataFrame:
    """Show the statistics of each column that changed, and of which time; return those of all columns.

    What never changed, such as a limit, is listed below the table. Raises UsageError without samples.
    """
    from perfmon_widgets.views.report import summary  # noqa: PLC0415 - most actions do without pandas

    _require_samples(line.monitor)
    history = line.monitor.history
    report = summary(history)
    count = len(history)
    period = format_period(*(time.timestamp() for time in history.index[[0, -1]]))
    print(f"{period}, {count} sample{'s' if count > 1 else ''}")
    missing, constant = report["max"].isna(), report["min"] == report["max"]
    if count < 2 or (missing | constant).all():
        display(report)
        return report
    display(report[~(missing | constant)])
    values = [
        f"{name} {format_value(value, unit)}"
        for name, unit, value in report[constant][["unit", "max"]].itertuples()
    ]
    for words, names in (("never changed", values), ("without values", list(report.index[missing]))):
        if names:
            print(f"{words}: {', '.join(names)}")
    return report


def show_cells(line: Line) -> pd.DataFrame:
    """Show the headline of each cell that has ended, return ``by_cell()``.

    Raises UsageError without samples.
    """
    import pandas as pd  # noqa: PLC0415 - most actions do without

    _require_samples(line.monitor)
    costs = line.monitor.by_cell()
    ended = costs[costs["cell", "duration_seconds"].notna()]
    if not len(ended):
        print("no cell has ended while samples were taken; each one that does is listed here")
        return costs
    shown = {"cell": [_shortened(source) for source in ended["cell", "source"]]}
    shown["time"] = [format_duration(seconds) for seconds in ended["cell", "duration_seconds"]]
    for metric in headline_of_cells(line.monitor.metrics):
        for ending, statistic, write in _OF_AMOUNTS if metric.unit == "bytes" else _OF_SHARES:
            values = ended[metric.name, statistic]
            if values.notna().any():
                shown[metric.label + ending] = [write(value, metric.unit) for value in values]
    table = pd.DataFrame(shown, index=ended.index)
    if is_jupyter_kernel():
        display(table)
    else:  # display() would leave out columns
        rows = zip(map(str, table.index), *shown.values(), strict=True)
        print(align([("", *shown), *rows], left=(1,)))
    return costs


def switch_log(line: Line) -> Path | None:
    """Start the log, or end it with ``--off``; raises UsageError if the file cannot be written."""
    log = line.monitor.log
    if line.off:
        was_running = log.running
        log.stop()
        print(f"{log.rows} rows in {_relative(log.path)}" if was_running else "no log is being written")
        return log.path
    try:
        path = log.start(line.path)
    except (OSError, RuntimeError) as error:
        raise UsageError(getattr(error, "strerror", None) or str(error)) from None
    line.monitor.start()
    print(f"every row goes to {_relative(path)}; %perfmon log --off ends that")
    return path


def switch_guard(line: Line) -> Guard:
    """Start the memory guard, or stop it with ``--off``; raises UsageError where it does not work."""
    guard = line.monitor.guard
    if line.off:
        print("memory is not guarded any more" if guard.running else "memory is not guarded")
        guard.stop()
        return guard
    try:
        guard.start()
    except RuntimeError as error:
        raise UsageError(str(error)) from None
    line.monitor.start()
    print(guard.state)
    return guard


def serve(line: Line) -> PerformanceServer:
    """Serve the HTTP API from this process; without a name the server becomes ``perfmon_server``."""
    from perfmon_widgets.web import server  # noqa: PLC0415 - the other actions need no tornado

    kept = line.kept
    if kept.server is not None and kept.served is not line.monitor:
        kept.server.stop()
    if kept.server is None or not kept.server.running:
        line.monitor.start()
        kept.server, kept.served = server.serve(line.monitor), line.monitor
    name = line.output or "perfmon_server"
    line.variables[name] = kept.server
    # Without the token: what is printed is saved with the notebook.
    print(f"{kept.server.url}/api/performance/current — the token is {name}.token, {name}.stop() ends it")
    return kept.server


def explain(line: Line) -> list[Death | Finding]:
    """Show what the last kernel died of, and what holds the work up; return both as a list."""
    from perfmon_widgets.jupyter.black_box import last_death  # noqa: PLC0415 - the other actions do without

    death, found = last_death(), line.monitor.findings()
    if death is not None:
        display(death) if is_jupyter_kernel() else print(death)
    for finding in found:
        print(finding)
    if death is None and not found:
        has_samples = line.monitor.latest is not None
        nothing = "nothing holds the work up, as far as the samples show"
        print(nothing if has_samples else "there are no samples yet; %perfmon start begins to take some")
    return [*([] if death is None else [death]), *found]


class Action(NamedTuple):
    """A form of ``%perfmon``."""

    name: str
    run: Callable[[Line], object]
    """Performs the action. Its result is assigned to the variable after ``-o``."""
    options: tuple[str, ...]
    """The arguments that it takes, in addition to ``-o``, which all actions take."""
    help: str


_PACE = ("interval", "window")

ACTIONS = {
    action.name: action
    for action in (
        Action(
            "panel", show_panel, ("dock", *_PACE), "show gauges and charts; in a terminal the newest values."
        ),
        Action("start", start, _PACE, "begin to sample, or set another interval or window."),
        Action("stop", stop, (), "stop sampling; the samples that were taken stay."),
        Action(
            "summary",
            show_summary,
            (),
            "mean, minimum, maximum and 95th percentile of every column that changed in the window.",
        ),
        Action("cells", show_cells, (), "what each executed cell has cost."),
        Action("why", explain, (), "what the last kernel died of, and what holds the work up, with advice."),
        Action("log", switch_log, ("path", "off", *_PACE), "write every row to a CSV file; --off ends that."),
        Action(
            "guard",
            switch_guard,
            ("off", *_PACE),
            "make allocations fail before memory is full, so that the kernel lives; --off ends that.",
        ),
        Action("serve", serve, _PACE, "answer HTTP requests from this process."),
    )
}
"""What ``%perfmon`` can do, by the word that follows it; without a word it is ``panel``."""


def check_arguments(action: Action, given: Mapping[str, object]) -> None:
    """Raise UsageError for an argument that means nothing to this action; None and False: not given."""
    for name, value in given.items():
        if value is not None and value is not False and name not in action.options:
            text = value if name == "path" else f"--{name}"
            takers = ", ".join(other.name for other in ACTIONS.values() if name in other.options)
            raise UsageError(f"%perfmon {action.name} takes no {text}; it goes with {takers}")


def _require_samples(monitor: PerformanceMonitor) -> None:
    if monitor.latest is None:
        raise UsageError("there are no samples yet; %perfmon start begins to take some")


def _shortened(source: str) -> str:
    return source if len(source) <= _LONGEST_SOURCE else f"{source[: _LONGEST_SOURCE - 1]}…"


def _relative(path: Path | None) -> str:
    """Return a path below the working directory as relative to it, since a notebook may be moved."""
    try:
        return os.path.relpath(path) if path is not None and path.is_relative_to(Path.cwd()) else str(path)
    except OSError:  # the working directory has been deleted
        return str(path)
