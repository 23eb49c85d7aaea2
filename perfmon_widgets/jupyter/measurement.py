"""Measurement: what one cell cost, sampled more often while it runs, as a line of text and a picture."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from typing import TYPE_CHECKING

from perfmon_widgets.clocks import time
from perfmon_widgets.collectors import capacity
from perfmon_widgets.collectors.rate import percent
from perfmon_widgets.interrupts import Event
from perfmon_widgets.metrics import Sample
from perfmon_widgets.views.headline import gpus, headline_of_cells
from perfmon_widgets.views.statistics import Totals
from perfmon_widgets.views.text import format_change, format_duration, format_value

if TYPE_CHECKING:
    import pandas as pd

    from perfmon_widgets.core.monitor import PerformanceMonitor
    from perfmon_widgets.views.evidence import Finding
    from perfmon_widgets.views.figures import Figure

# Seconds between samples, unless the user chooses another number or the monitor samples more often anyway.
_DEFAULT_INTERVAL = 0.2
# Seconds since the newest row within which it also shows the start.
_MAX_AGE = 0.01
# Seconds to wait for a row that the sampling thread is about to take.
_TIMEOUT = 0.02
# The most seconds for which a cell waits for one that is taken for it, if a collector or a disk hangs.
_LONGEST = 0.5
# The most rows after the end of the cell, so that a cell on all CPUs takes 0.1 s longer.
_MORE_ROWS = 5
# Seconds of samples that it takes to say what held the cell up.
_LEAST = 3.0
# The most points of a line in the picture.
_MAX_POINTS = 400


class Measurement:
    """Makes a monitor sample more often from now until ``end()``, which restores its interval.

    A monitor that does not run is started, and ``end()`` stops it again unless something else, such as a
    panel, has started it meanwhile. Raises ValueError for an interval that is not a number above 0, and
    RuntimeError if no thread can be started. If it raises, or is interrupted, nothing has changed.
    """

    def __init__(self, monitor: PerformanceMonitor, interval: float | None = None) -> None:
        self._monitor = monitor
        self._before = monitor.interval
        self._during = min(_DEFAULT_INTERVAL, self._before) if interval is None else interval
        self._starts_it = not monitor.running
        self._starts = monitor.starts + self._starts_it
        self._totals = Totals()
        self.seconds = math.nan
        """How long it lasted, on a monotonic clock; NaN before the end."""
        self.cpu_seconds = math.nan
        """CPU time of this process and its descendants, from the rows; NaN before the end.

        Where no row has a value, that of this process and of its children that have ended.
        """
        self.rows: pd.DataFrame | None = None
        """The samples taken meanwhile that are still in the window; None before the end."""
        try:
            monitor.interval = self._during
            if self._starts_it:
                monitor.start()
            have_row(monitor, since=time.time() - (0 if self._starts_it else _MAX_AGE))
            monitor.on_sample(self._totals.add)
            if monitor.latest is not None:
                self._totals.add(monitor.latest)
            self._started, self._cpu = time.time(), _cpu_seconds()
            self._clock = time.perf_counter()
        except BaseException:
            self._give_back()
            raise

    def end(self) -> None:
        """Take the last sample and restore the monitor; an interval that was set meanwhile stays."""
        try:
            self.seconds = time.perf_counter() - self._clock
            ended = _cpu_seconds() - self._cpu
            have_row(self._monitor, since=time.time())
            self._take_what_waits()
            # The last row may come late, with what was used until the end; or some rows have no value.
            covered = max(self._totals.covered("process_cpu_percent"), self.seconds)
            counted = self._totals.mean("process_cpu_percent") / 100 * capacity() * covered
            self.cpu_seconds = ended if math.isnan(counted) else counted
        finally:
            self._give_back()
        # By their number, since the computer's clock may have been set. The first only marks the start.
        self.rows = self._monitor.history.tail(max(self._totals.count - 1, 0))

    def _take_what_waits(self) -> None:
        """Take further rows while all CPUs seem busy: a short last row cannot hold time that came at once.

        The CPU time of a child that has ended comes so. See Backlog, which passes it on to the next rows.
        """
        for _ in range(_MORE_ROWS):
            if not self._totals.last("process_cpu_percent") >= 100:
                return
            if not have_row(self._monitor, since=time.time()):
                return

    def _give_back(self) -> None:
        if self._monitor.interval == self._during:
            self._monitor.interval = self._before
        self._monitor.on_sample(self._totals.add, remove=True)
        if self._starts_it and self._monitor.running and self._monitor.starts == self._starts:
            self._monitor.stop()

    def summary(self) -> str:
        """One line: wall time, CPU time, memory, GPUs in use, disk traffic, and what held the cell up."""
        totals = self._totals
        share = format_value(self._share(), "percent")
        parts = [
            format_duration(self.seconds),
            f"CPU {format_duration(self.cpu_seconds)} ({share} of what it may use)",
            f"RAM peak {_amount(totals, 'process_ram_bytes')}",
        ]
        for gpu in gpus(self._monitor.metrics):
            mean, peak = totals.mean(gpu.busy), totals.peak(gpu.busy)
            if math.isfinite(mean):
                parts.append(
                    f"{gpu.label} mean {format_value(mean, 'percent')}, "
                    f"peak {format_value(peak, 'percent')}, "
                    f"memory peak {_amount(totals, gpu.memory)}"
                )
        for word, kind in (("read", "read"), ("wrote", "write")):
            amount = totals.integral(f"process_{kind}_bytes_per_second")
            if math.isfinite(amount):
                parts.append(f"{word} {format_value(amount, 'bytes')}")
        parts += [finding.what for finding in self._findings()[:1] if finding.severity != "info"]
        return " · ".join(parts)

    def _share(self) -> float:
        """The CPU time in percent of what this process may use; NaN if no row has a value."""
        if math.isnan(self._totals.mean("process_cpu_percent")) or not self.seconds > 0:
            return math.nan
        return percent(self.cpu_seconds, capacity() * self.seconds)

    def _findings(self) -> list[Finding]:
        """What the samples of the cell show."""
        from perfmon_widgets.views.figures import rows_of  # noqa: PLC0415 - needs numpy
        from perfmon_widgets.views.findings import findings  # noqa: PLC0415 - as above

        if self.rows is None:
            return []
        rows = rows_of(self.rows)
        metrics = self._monitor.metrics
        return findings(metrics, rows.times, rows.gaps, rows.values, least=_LEAST, over=self.seconds)

    def picture(self) -> str:
        """CPU and memory of this process and of each GPU in use over time, as SVG; each amount with its peak.

        The same columns as summary() has. Empty for fewer than two rows.
        """
        # Here, since a terminal draws no pictures.
        from perfmon_widgets.views.figures import chosen, fill, rows_of  # noqa: PLC0415
        from perfmon_widgets.views.svg import picture  # noqa: PLC0415

        if self.rows is None or len(self.rows) < 2:
            return ""
        rows = rows_of(self.rows)
        known = rows.known()
        names = [metric.name for metric in headline_of_cells(self._monitor.metrics) if metric.name in known]
        figures = [
            self._with_peaks(fill(figure, rows, points=_MAX_POINTS))
            for figure in chosen(names, self._monitor.metrics)
        ]
        start, end = float(rows.times.min()), float(rows.times.max())
        return picture(figures, min(self._started, start), end) if figures else ""

    def _with_peaks(self, figure: Figure) -> Figure:
        """The same figure, with the peak of an amount of bytes next to the name of its line."""
        if figure.unit != "bytes":
            return figure
        peaks = [self._totals.peak(line.name) for line in figure.lines]
        lines = [
            line._replace(label=f"{line.label}, peak {format_value(peak, figure.unit)}")
            for line, peak in zip(figure.lines, peaks, strict=True)
        ]
        return replace(figure, lines=tuple(lines))


def _amount(totals: Totals, column: str) -> str:
    """The peak of an amount of bytes, and its change."""
    peak, change = totals.peak(column), totals.change(column)
    return f"{format_value(peak, 'bytes')} ({format_change(change, 'bytes')})"


def _cpu_seconds() -> float:
    ended_children = os.times()[2:4]
    return time.process_time() + sum(ended_children)


def have_row(monitor: PerformanceMonitor, since: float) -> bool:
    """Make sure that there is a row taken at ``since`` (Unix seconds) or later; returns whether there is one.

    Waits a moment for the sampling thread to take one. If none comes, has one taken besides: that thread may
    be waiting for a callback of the user's.
    """
    taken = Event()

    def notice(sample: Sample) -> None:
        if sample.time >= since:
            taken.set()

    monitor.on_sample(notice)
    try:
        if monitor.latest is not None:
            notice(monitor.latest)
        if not taken.wait(_TIMEOUT):
            monitor.sample_within(_LONGEST)
        return taken.is_set()
    finally:
        monitor.on_sample(notice, remove=True)
