"""PerformanceMonitor: the clock, the stores and the subscribers. The core ends here."""

from __future__ import annotations

import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from perfmon_widgets.collectors import Collector, default_collectors
from perfmon_widgets.core.csv_log import CsvLog, Rows
from perfmon_widgets.core.errors import Errors, Subscribers, name_of
from perfmon_widgets.core.history import History, microseconds
from perfmon_widgets.core.recorded import Recorded
from perfmon_widgets.core.registry import registry
from perfmon_widgets.core.sampler import Sampler
from perfmon_widgets.core.sources import Sources
from perfmon_widgets.core.span_log import SpanLog
from perfmon_widgets.core.spans import CELL, MARK, SPAN, Span, Spans, watchers
from perfmon_widgets.forks import renew_after_fork
from perfmon_widgets.metrics import Metric, Sample

if TYPE_CHECKING:
    from datetime import datetime

    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray
    from typing_extensions import Self

_logger = logging.getLogger(__name__)

# How many seconds a span waits, from when it is due, for the sample that shows the numbers at its start or
# end: several times what one takes. It goes on without, rather than be kept by a driver that does not answer.
_FOR_A_SAMPLE = 0.005
# What lasted so many seconds has a sample at its end; one that is so young will do for the start of the next.
_WORTH_A_SAMPLE = 0.1


class PerformanceMonitor:
    """Takes a sample of its collectors every ``interval`` seconds and keeps those of the last ``window``.

    Args:
        collectors: the sources of readings; by default those that this machine has.
        interval: seconds between samples, greater than 0; may be changed while running.
        window: seconds of history to keep, greater than 0; may be changed while running.
        gpus: indices or UUIDs of the GPUs to watch, instead of those the model is found to use.

    Raises ValueError, naming the argument, for a number that makes no sense, for two columns of one name and
    for a GPU that does not exist; TypeError for a collector that is none.
    """

    def __init__(
        self,
        collectors: Sequence[Collector] | None = None,
        *,
        interval: float = 5.0,
        window: float = 600.0,
        gpus: Sequence[int | str] | None = None,
    ) -> None:
        self._interval = _seconds("interval", interval)
        self._window = _seconds("window", window)
        if collectors is not None and gpus is not None:
            raise ValueError("gpus chooses among the default collectors; leave out one of the two arguments")
        self._recorded = Recorded()
        chosen = default_collectors(gpus) if collectors is None else collectors
        self._errors = Errors()
        self._sources = Sources([*chosen, self._recorded], self._errors)
        self._columns = tuple(metric.name for metric in self.metrics)
        self._missing = dict.fromkeys(self._columns, math.nan)
        self._history = History(self._columns, self._window)
        self._log = CsvLog(self._columns, self._rows)
        self._spans = Spans(lambda: self._history.oldest)
        self._span_log = SpanLog(self._log, self._spans)
        self._unseen = False  # whether a span ended since the last sample without one of its own
        self._latest: Sample | None = None
        self.started = 0.0
        """When the last start() began to sample, in monotonic seconds; 0 before the first."""
        self.starts = 0
        """How often start() was called, whether it had to do anything or not: somebody wants it to run."""
        self._clocks_differ = math.nan  # by so many seconds when the newest sample was taken
        self._told_samples: Subscribers[Sample] = Subscribers("on_sample", self._errors)
        self._told_states: Subscribers[bool] = Subscribers("on_state", self._errors)
        self._measured = frozenset(self._columns)  # by others than record()
        self._renew_locks()
        registry.monitors.add(self)
        renew_after_fork(self)

    def _renew_locks(self) -> None:
        self._sampling = threading.Lock()  # one reading at a time
        self._switching = threading.Lock()  # one thread at a time
        self._queue: queue.SimpleQueue[tuple[str, Callable[[], object]]] = queue.SimpleQueue()
        self._clock: Sampler | None = None

    # -- reading ---------------------------------------------------------------------------------------

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What each column means, in the order of the columns."""
        return self._sources.metrics

    @property
    def history(self) -> pd.DataFrame:
        """The samples of the window: index ``time`` (UTC), one float64 column per metric; a copy of its own.

        ``attrs`` holds, for each column, its unit, help and source; under ``devices`` the device names by
        what stands before the slash; under ``gaps`` the times (Unix seconds) of the rows before which samples
        are missing.
        """
        frame = self._history.frame()
        for metric in self.metrics[: frame.shape[1]]:
            frame.attrs[metric.name] = {"unit": metric.unit, "help": metric.help, "source": metric.source}
        frame.attrs["devices"] = {metric.where: metric.device for metric in self.metrics if metric.device}
        return frame

    @property
    def rows(self) -> tuple[NDArray[np.datetime64], NDArray[np.float64]]:
        """The window as arrays: times (datetime64[us], UTC) and values (float64, rows × columns)."""
        _, times, _, values = self._history.read()
        return times, values

    @property
    def latest(self) -> Sample | None:
        """The newest sample; None before the first."""
        return self._latest

    @property
    def errors(self) -> dict[str, str]:
        """Why numbers are missing: by collector for a source that failed, by column for a single number."""
        errors = self._errors.now()
        if self._span_log.error:
            errors["span log"] = self._span_log.error
        return errors | self._sources.reasons

    @property
    def missed(self) -> int:
        """How many samples were due since the start but not taken, because the thread came too late."""
        clock = self._clock
        return 0 if clock is None else clock.missed

    @property
    def log(self) -> CsvLog:
        """The history mirrored to a CSV file: ``log.start()``, ``log.stop()``."""
        return self._log

    @property
    def window(self) -> float:
        """Seconds of history that are kept. Setting it holds from the next row; ValueError unless above 0."""
        return self._window

    @window.setter
    def window(self, seconds: float) -> None:
        self._window = self._history.window = _seconds("window", seconds)

    # -- sampling --------------------------------------------------------------------------------------

    def sample(self) -> Sample:
        """Take one reading of every collector, store it and tell the subscribers; returns it.

        The thread only calls this. A collector that fails costs its own columns (NaN) and stands in
        ``errors``; a subscriber that fails is logged once. Neither raises.
        """
        # Whoever asks for a sample by hand waits for it on their own.
        return self._sample(after_gap=False, patiently=False)

    def _sample(self, after_gap: bool, patiently: bool = True) -> Sample:
        with self._sampling:
            new = self._recorded.new
            if new:
                self._add_columns(new)
            self._unseen = False
            at = time.time()
            after_gap |= self._clock_was_set(at)
            values = self._missing.copy()
            self._sources.read_into(values, patiently=patiently)
            sample = Sample(at, values)
            row = tuple(values.values())
            number = self._history.append(at, row, after_gap)
            self._latest = sample
            if self._log.running:  # else a start writes this row too
                self._log.append(number, microseconds(at), row)
            clock = self._clock
            if clock is not None:
                clock.taken()
        self._told_samples.tell(sample)
        return sample

    def _clock_was_set(self, now: float) -> bool:
        """Whether the time of day moved by more than an interval beside the clock that nobody sets.

        So it does too while the machine is suspended, when that clock stands still.
        """
        before, self._clocks_differ = self._clocks_differ, now - time.monotonic()
        return abs(self._clocks_differ - before) > self._interval

    def _add_columns(self, new: Sequence[str]) -> None:
        """Have a column for each series that was recorded for the first time since the last sample."""
        # The log first: it can write a row that lacks the last columns, but none that is too long. What is
        # new last: what an interrupt breaks off here is done again by the next sample.
        self._log.add_columns(new)
        self._history.add_columns(new)
        self._columns = self._history.columns
        self._missing = dict.fromkeys(self._columns, math.nan)
        self._recorded.adopt(new)

    def on_sample(self, callback: Callable[[Sample], object], remove: bool = False) -> None:
        """Call back with each new sample, on the thread that took it; ``remove=True`` ends that."""
        self._told_samples.change(callback, remove)

    def on_state(self, callback: Callable[[bool], object], remove: bool = False) -> None:
        """Call back after each start (True) and stop (False), on the thread that asked for it.

        ``remove=True`` ends that.
        """
        self._told_states.change(callback, remove)

    def _rows(self) -> Rows:
        number, times, _, values = self._history.read()
        return number, times, values.tolist()

    # -- what the user adds ----------------------------------------------------------------------------

    def mark(self, label: str) -> None:
        """Put a labelled mark at this moment; raises TypeError or ValueError for a label that is none."""
        self._spans.mark(label)
        self._write_spans()

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """``with monitor.span("validation"):`` is a stretch of time with a name; spans may be nested.

        A sample is taken at its start and, if it lasted at least 0.1 s, at its end; where many follow each
        other, at most ten a second. Raises TypeError or ValueError for a name that is none.
        """
        span = self.begin(SPAN, name)
        try:
            yield
        except BaseException:
            self.end(span, raised=True)
            raise
        self.end(span)

    def begin(self, kind: str, name: str, execution_count: int | None = None) -> Span:
        """Start a span, or a cell, which end() ends: for what cannot be put into a ``with``."""
        clock = self._running_clock()
        if clock is not None and (self._unseen or time.monotonic() - clock.newest >= _WORTH_A_SAMPLE):
            clock.soon(_patience(clock))
        span = self._spans.begin(kind, name, execution_count)
        self._write_spans()
        return span

    def end(self, span: Span, *, raised: bool = False) -> None:
        """End what begin() started; nothing if it has ended."""
        self._spans.end(span, raised=raised)
        clock = self._running_clock()
        if span.seconds < _WORTH_A_SAMPLE:
            self._unseen = True
        elif clock is not None:
            clock.soon(_patience(clock))  # so that what is freed next counts as the span's no more
        self._write_spans()

    def record(self, **values: float) -> None:
        """Add series of your own to the history, the charts and the CSV: ``record(loss=0.31, epoch=3)``.

        The next sample takes the last value of each; rows without one have NaN. The end of a name tells its
        unit if it is one: ``tokens_per_second``, ``cache_bytes``. All values are recorded, or none: raises
        TypeError for what is no number, ValueError for a name that another column has or that cannot be one,
        and for more than 100 names.
        """
        self._recorded.record(values, self._measured)

    @property
    def marks(self) -> pd.DataFrame:
        """The marks in the window: index ``time`` (UTC), column ``label``; a copy of its own."""
        return self._spans.frame(MARK)

    @property
    def spans(self) -> pd.DataFrame:
        """The spans in the window: ``name``, ``start``, ``end`` (UTC), ``duration_seconds``, ``raised``.

        A copy of its own. While a span goes on, its end is NaT and its duration NaN.
        """
        return self._spans.frame(SPAN)

    @property
    def cells(self) -> pd.DataFrame:
        """The executed cells in the window: ``start``, ``end``, ``duration_seconds``, ``raised``, ``source``.

        A copy of its own, index ``execution_count``; times are UTC, ``source`` is the first line. While a
        cell runs, its end is NaT and its duration NaN. There are none outside IPython.
        """
        return self._spans.frame(CELL)

    def newest_spans(self, most: int) -> list[Span]:
        """The newest cells, spans and marks, so many of each kind at most: to be looked at, not changed."""
        return self._spans.newest(most)

    # -- reports ---------------------------------------------------------------------------------------

    def summary(self, since: datetime | float | None = None) -> pd.DataFrame:
        """One row per column: ``unit``, ``now``, ``mean``, ``min``, ``max``, ``p95``; see analysis.summary.

        ``since``: a time with a zone, or so many seconds before the newest row; by default the window.
        """
        from perfmon_widgets.views.report import summary  # noqa: PLC0415 - a program that only samples never pays

        return summary(self.history, since)

    def by_cell(self) -> pd.DataFrame:
        """What each cell cost: below ``cell`` what ``cells`` has, below each metric its mean, max and change.

        ``by_cell()["process_ram_bytes"]`` is a table of these three; see analysis.by_span for what they are.
        """
        return self._by("cell", self.cells)

    def by_span(self) -> pd.DataFrame:
        """What each span cost: the same as by_cell(), with the table of ``spans`` below ``span``."""
        return self._by("span", self.spans)

    def _by(self, name: str, stretches: pd.DataFrame) -> pd.DataFrame:
        from perfmon_widgets.views.report import beside, by_span  # noqa: PLC0415

        return beside(name, stretches, by_span(self.history, stretches))

    # -- the clock -------------------------------------------------------------------------------------

    @property
    def interval(self) -> float:
        """Seconds between samples. Setting it holds from the sample before; ValueError unless above 0."""
        return self._interval

    @interval.setter
    def interval(self, seconds: float) -> None:
        self._interval = _seconds("interval", seconds)
        clock = self._clock
        if clock is not None:
            clock.wake()

    @property
    def running(self) -> bool:
        """Whether samples are being taken."""
        return self._running_clock() is not None

    def _running_clock(self) -> Sampler | None:
        clock = self._clock
        return clock if clock is not None and clock.running else None

    def start(self) -> None:
        """Begin to sample, at once and then every ``interval`` seconds; nothing if running already."""
        with self._switching:
            self.starts += 1
            if self.running:
                return
            if self._clock is not None:
                self._clock.wake()  # an interrupted stop may have left it asleep
            self.started = time.monotonic()
            clock = self._clock = Sampler(
                self._sample,
                self._between,
                self._close_sources,
                lambda: self._interval,
                after_gap=self._latest is not None,
            )
            try:
                clock.start()
            except BaseException:  # an interrupt, or no more threads: none is to begin later on
                clock.stop()
                raise
            self._tell_watchers(True)
        self._told_states.tell(True)

    def stop(self) -> None:
        """Stop sampling and close the log; the history stays readable. Nothing if not running."""
        clock, was_running, log = self._clock, self.running, self._log.path
        if was_running:
            self._tell_watchers(False)
        # Not under the lock: the thread may be about to stop the monitor too, from a subscriber.
        if clock is not None:
            if self._recorded.waiting:
                clock.soon()  # so that what was recorded last finds a row
            clock.stop()
        self._drain_queue()
        again = self.running  # another thread has started it meanwhile, and perhaps a log too
        if not again or self._log.path is log:
            self._log.stop()
        if not again and (clock is None or not clock.is_alive()):
            self._close_sources()  # else that thread does it, as soon as it can
        if was_running:
            self._told_states.tell(False)

    def _tell_watchers(self, running: bool) -> None:
        for watcher in watchers:
            with self._errors.of(watcher.__qualname__):
                watcher(self, running)

    def _close_sources(self) -> None:
        with self._sampling:  # not in the middle of a reading
            self._sources.close()

    def call_soon(self, action: Callable[[], object], name: str = "") -> None:
        """Call ``action()`` on the sampling thread soon; at once and here if the monitor is not running.

        For what a browser asks while a cell runs: the thread that receives the request must not be held up.
        An action that raises is logged and listed in ``errors`` under ``name``, by default the function's.
        """
        self._queue.put((name or name_of(action), action))
        clock = self._running_clock()
        if clock is not None:
            clock.wake()
        else:
            self._drain_queue()

    def _between(self) -> None:
        """What else the sampling thread does: after each sample, and when it is woken."""
        self._drain_queue()
        self._span_log.write()

    def _write_spans(self) -> None:
        """Have what is new among the spans written soon; here and at once if the monitor is not running."""
        clock = self._clock
        if clock is None or not clock.is_alive():
            self._span_log.write()
        elif self._log.running:
            clock.wake()

    def _drain_queue(self) -> None:
        while not self._queue.empty():
            try:
                name, action = self._queue.get_nowait()
            except queue.Empty:  # another thread was quicker
                return
            with self._errors.of(name):
                action()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = "running" if self.running else "stopped"
        return f"<PerformanceMonitor {state}, every {self.interval:g} s, {len(self._columns)} metrics>"

    def renew_after_fork(self) -> None:
        """In a forked child there is no thread, and the log is the parent's."""
        if self._clock is not None:
            self._clock.give_back()
        self._renew_locks()
        for part in (self._history, self._spans, self._recorded, self._told_samples, self._told_states):
            part.renew_lock()
        self._sources.forget()
        self._span_log.forget()
        self._log.forget()


def _patience(clock: Sampler) -> float:
    """How long to wait for a sample; not at all on the thread that takes it."""
    return 0.0 if clock is threading.current_thread() else _FOR_A_SAMPLE


def _seconds(name: str, value: float) -> float:
    """The value if it is a number of seconds above 0; raises ValueError, naming it, if not."""
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    # Below a microsecond nothing is told apart, and far below it how many were missed is no number.
    if not 1e-6 <= seconds <= threading.TIMEOUT_MAX:
        raise ValueError(f"{name} must be a number of seconds greater than 0, not {value!r}")
    return seconds
