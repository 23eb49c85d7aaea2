"""What grows with what: ``python tests/benchmarks/growth.py`` prints a small table for each.

CPUs (a canned /proc/stat), NVIDIA GPUs (a fake driver library, compiled here, which looks each answer up in a
text: what a real driver takes comes in its place), the window (at an interval of 5 s), and panels with an
open section (a comm that records, no browser). Times are CPU time, the best of some rounds, so that other
work on the machine shows little. ``--plot FILE.png`` draws the same; that needs matplotlib, which nothing
else here does: ``pip install matplotlib``.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from fakes import nvidia as fakes
from fakes.collectors import FakeCollector, FakeMachine
from fakes.comm import Wire

from perfmon_widgets import PerformanceMonitor, PerformancePanel
from perfmon_widgets.collectors.linux import limits
from perfmon_widgets.collectors.linux.host import HostCollector
from perfmon_widgets.collectors.nvidia.collector import NvidiaCollector
from perfmon_widgets.collectors.nvidia.in_use import Used
from perfmon_widgets.core.history import History

CPUS = (1, 4, 16, 64, 256)
GPUS = (0, 1, 2, 4, 8, 16)
WINDOWS = {"10 s": 10, "1 min": 60, "10 min": 600, "1 h": 3600, "6 h": 21_600, "24 h": 86_400}
PANELS = (1, 2, 5, 10, 20)
INTERVAL = 5.0
COLUMNS = 60  # of a machine with 32 CPUs
ROWS = 120  # of the default window


@dataclass(frozen=True)
class Table:
    """What was measured while one thing grew: a row for each size of it."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | float, ...], ...]

    def __str__(self) -> str:
        def text(cell: str | float) -> str:
            return cell if isinstance(cell, str) else f"{cell:.3g}" if isinstance(cell, float) else f"{cell}"

        cells = [self.columns, *(tuple(map(text, row)) for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [
            "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in cells
        ]
        return "\n".join([self.title, *lines, ""])


def milliseconds(action: Callable[[], object], times: int = 20, rounds: int = 5) -> float:
    """CPU time of this process for one call: of some rounds of calls the best."""
    action()
    best = float("inf")
    for _ in range(rounds):
        started = time.process_time()
        for _ in range(times):
            action()
        best = min(best, time.process_time() - started)
    return 1000 * best / times


def cost(monitor: PerformanceMonitor) -> tuple[int, float, float]:
    """Columns of a monitor, then ms for a sample, and for its history when that has the default length."""
    sample = milliseconds(monitor.sample, times=ROWS // 5)
    return len(monitor.metrics), sample, milliseconds(lambda: monitor.history)


def cpus(sizes: Sequence[int] = CPUS) -> Table:
    """From one CPU to many."""
    rows = []
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
            patch.setattr(limits, "allowed_cpus", lambda size=size: tuple(range(size)))
            machine = FakeMachine(Path(folder))
            machine.write_processors(dict.fromkeys(range(size), (100, 0, 50, 800, 50, 0, 0, 0)))
            monitor = PerformanceMonitor([HostCollector(machine.proc, machine.sys, environment={})])
            rows.append((size, *cost(monitor)))
            monitor.stop()
    return Table("CPUs", ("CPUs", "columns", "ms/sample", "ms/history"), tuple(rows))


def gpus(sizes: Sequence[int] = GPUS) -> Table:
    """From no GPU to many, all of them in use."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            # One library each, since it remembers its answers by the inode of their file, which comes again.
            library = fakes.compiled("nvml.c", "libnvidia-ml.so.1", Path(folder, f"{size}"))
            used = [Used("a benchmark", index=number) for number in range(size)]
            with pytest.MonkeyPatch.context() as patch:
                state = fakes.nvml(patch, library, library.parent, *map(fakes.gpu, range(size)))
                state.set({"log": None})  # of the calls
                collectors = [NvidiaCollector(search=lambda used=used: used)] if size else []
                monitor = PerformanceMonitor(collectors)
                rows.append((size, *cost(monitor)))
                monitor.stop()
    return Table("GPUs, all in use", ("GPUs", "columns", "ms/sample", "ms/history"), tuple(rows))


def windows(sizes: Sequence[str] = tuple(WINDOWS)) -> Table:
    """From a short history to that of a day, when it is full."""
    rows = []
    for size in sizes:
        ticks = itertools.count(step=INTERVAL)
        history = History([f"core{n}/cpu_percent" for n in range(COLUMNS)], WINDOWS[size], ticks.__next__)
        append = functools.partial(history.append, 1.7e9, (1.0,) * COLUMNS)
        for _ in range(int(WINDOWS[size] / INTERVAL) + 2):
            append()
        memory = history._rows.nbytes / 1e6
        took = milliseconds(history.frame, times=5)
        rows.append((size, len(history), memory, 1000 * milliseconds(append, times=200), took))
    title = f"Window, {COLUMNS} columns every {INTERVAL:g} s"
    return Table(title, ("window", "rows", "MB", "µs/append", "ms/history"), tuple(rows))


def panels(sizes: Sequence[int] = PANELS) -> Table:
    """From one panel to many over one monitor, of each the section of the CPU open."""
    rows = []
    names = ["cpu_percent", *(f"core{n}/cpu_percent" for n in range(32))]
    percents = itertools.cycle(map(float, range(100)))
    cpus = FakeCollector(*names, read=lambda: dict.fromkeys(names, next(percents)))
    for size in sizes:
        with pytest.MonkeyPatch.context() as patch:
            wire = Wire(patch)
            monitor = PerformanceMonitor([cpus])
            shown = [PerformancePanel(monitor) for _ in range(size)]
            for panel in shown:
                wire.ask(panel._link, page="page", views=1)
                panel.advanced.selected_index = 0
            for _ in range(ROWS):
                monitor.sample()

            def tick(monitor: PerformanceMonitor = monitor, wire: Wire = wire) -> int:
                wire.clear()
                monitor.sample()
                return len(wire.messages)

            # A line of words comes and goes now and then.
            messages = statistics.median_low(tick() for _ in range(5))
            took = milliseconds(tick, times=5, rounds=10)
            for panel in shown:
                panel.close()
            rows.append((size, messages, took))
    return Table("Panels, a section of 32 CPUs open", ("panels", "messages/tick", "ms/tick"), tuple(rows))


def plot(tables: Sequence[Table], file: Path) -> None:
    """The times of all tables over what grows; over the rows where its sizes are no numbers."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 3.2), layout="constrained")
    for axes, table in zip(figure.subplots(1, len(tables)), tables, strict=True):
        along = next(number for number, cell in enumerate(table.rows[0]) if not isinstance(cell, str))
        sizes = [row[along] for row in table.rows]
        for number, name in enumerate(table.columns):
            if name.startswith("ms/"):
                axes.plot(sizes, [row[number] for row in table.rows], "o-", label=name)
        axes.set(xlabel=table.columns[along], ylabel="ms of CPU time", xlim=(0, None), ylim=(0, None))
        axes.set_title(table.title, fontsize=10)
        axes.legend()
    figure.savefig(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--plot", type=Path, metavar="FILE.png")
    given = parser.parse_args()
    tables = []
    for measure in (cpus, gpus, windows, panels):
        tables.append(measure())
        print(tables[-1], flush=True)
    if given.plot:
        plot(tables, given.plot)


if __name__ == "__main__":
    main()
