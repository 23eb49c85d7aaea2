"""What one cell cost: the monitor at a finer interval while it runs, then a line of text."""

from __future__ import annotations

import math
import os
import re
import threading
import time
from typing import TYPE_CHECKING

from perfmon_widgets.metrics import Sample
from perfmon_widgets.views.text import format_change, format_duration, format_value
from perfmon_widgets.views.totals import Totals

if TYPE_CHECKING:
    import pandas as pd

    from perfmon_widgets.core.monitor import PerformanceMonitor

# Seconds between samples if nothing else is asked for.
_FINER = 0.2
# A row that is this young will do for the start, in seconds.
_FRESH = 0.1
# How long to wait for a row that the sampling thread is about to take, in seconds.
_TIMEOUT = 0.02
# The most points of a line in the picture.
_POINTS = 400


class Measurement:
    """Has a monitor sample at a finer interval from now to ``end()``, which takes everything back.

    A monitor that does not run is started, and stopped again unless somebody else has started it meanwhile,
    such as a panel. Raises ValueError for an interval that makes no sense, RuntimeError where there are no
    more threads; whatever is raised, an interrupt too, changes nothing.
    """

    def __init__(self, monitor: PerformanceMonitor, interval: float | None = None) -> None:
        self._monitor = monitor
        self._before = monitor.interval
        self._during = min(_FINER, self._before) if interval is None else interval
        self._starts_it = not monitor.running
        self._starts = monitor.starts + self._starts_it
        self._totals = Totals()
        self.seconds = math.nan
        """How long it lasted."""
        self.cpu_seconds = math.nan
        """CPU time of this process, and of its children that have ended."""
        self.rows: pd.DataFrame | None = None
        """The samples that were taken meanwhile, as far as they lie in the window; None before the end."""
        try:
            monitor.interval = self._during
            if self._starts_it:
                monitor.start()
            have_row(monitor, since=time.time() - (0 if self._starts_it else _FRESH))
            monitor.on_sample(self._totals.add)
            if monitor.latest is not None:
                self._totals.add(monitor.latest)
            self._started, self._cpu = time.time(), _cpu_seconds()
            self._clock = time.perf_counter()
        except BaseException:
            self._give_back()
            raise

    def end(self) -> None:
        """Take the last sample and give the monitor back as it was; what has been set meanwhile stays."""
        try:
            self.seconds = time.perf_counter() - self._clock
            self.cpu_seconds = _cpu_seconds() - self._cpu
            have_row(self._monitor, since=time.time())
        finally:
            self._give_back()
        # By their number, since the time may have been set; the first only tells where the time begins.
        self.rows = self._monitor.history.tail(max(self._totals.count - 1, 0))

    def _give_back(self) -> None:
        if self._monitor.interval == self._during:
            self._monitor.interval = self._before
        self._monitor.on_sample(self._totals.add, remove=True)
        if self._starts_it and self._monitor.running and self._monitor.starts == self._starts:
            self._monitor.stop()

    def summary(self) -> str:
        """One line: wall time, CPU time, memory, each GPU in use, what was read and written."""
        totals = self._totals
        share = format_value(totals.mean("process_cpu_percent"), "percent")
        parts = [
            format_duration(self.seconds),
            f"CPU {format_duration(self.cpu_seconds)} ({share} of what it may use)",
            f"RAM peak {_amount(totals, 'process_ram_bytes')}",
        ]
        for metric in self._monitor.metrics:
            if metric.group == "gpu" and metric.name.endswith("/utilization_percent"):
                mean, peak = totals.mean(metric.name), totals.peak(metric.name)
                if math.isfinite(mean):
                    where = metric.where.replace("gpu", "GPU ")
                    parts.append(
                        f"{where} mean {format_value(mean, 'percent')}, "
                        f"peak {format_value(peak, 'percent')}, "
                        f"memory peak {_amount(totals, f'{metric.where}/memory_used_bytes')}"
                    )
        for word, kind in (("read", "read"), ("wrote", "write")):
            amount = totals.integral(f"process_{kind}_bytes_per_second")
            if math.isfinite(amount):
                parts.append(f"{word} {format_value(amount, 'bytes')}")
        return " · ".join(parts)

    def picture(self) -> str:
        """CPU, memory and each GPU in use, in percent over time, as SVG; empty where too little is known."""
        # Here, since a terminal draws no pictures.
        from perfmon_widgets.views.figures import chosen, fill, rows_of  # noqa: PLC0415
        from perfmon_widgets.views.svg import picture  # noqa: PLC0415

        if self.rows is None or len(self.rows) < 2:
            return ""
        rows = rows_of(self.rows)
        gpus = [name for name in rows.columns if re.fullmatch(r"gpu\d+/utilization_percent", name)]
        known = rows.known()
        names = [name for name in ("process_cpu_percent", "ram_percent", *gpus) if name in known]
        figures = [fill(figure, rows, points=_POINTS) for figure in chosen(names, self._monitor.metrics)]
        start, end = float(rows.times.min()), float(rows.times.max())
        return picture(figures, min(self._started, start), end) if figures else ""


def _amount(totals: Totals, column: str) -> str:
    """The peak of an amount of bytes, and by how much the amount has changed."""
    peak, change = totals.peak(column), totals.change(column)
    return f"{format_value(peak, 'bytes')} ({format_change(change, 'bytes')})"


def _cpu_seconds() -> float:
    ended_children = os.times()[2:4]
    return time.process_time() + sum(ended_children)


def have_row(monitor: PerformanceMonitor, since: float) -> None:
    """See to it that there is a row that was taken since then: the sampling thread's, or else one more."""
    taken = threading.Event()

    def notice(sample: Sample) -> None:
        if sample.time >= since:
            taken.set()

    monitor.on_sample(notice)
    try:
        if monitor.latest is not None:
            notice(monitor.latest)
        if not taken.wait(_TIMEOUT):
            monitor.sample()
    finally:
        monitor.on_sample(notice, remove=True)
