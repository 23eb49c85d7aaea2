"""PerformanceMonitor: the clock, the thread, the stores and the subscribers. The core ends here."""

from __future__ import annotations

import atexit
import logging
import math
import os
import queue
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from perfmon_widgets.collectors import Collector, default_collectors
from perfmon_widgets.csv_log import CsvLog, Rows
from perfmon_widgets.history import History, microseconds
from perfmon_widgets.metrics import Metric, Sample

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray
    from typing_extensions import Self

_logger = logging.getLogger(__name__)

# How long stop() waits for a reading that hangs in a driver before it lets the thread go.
_PATIENCE = 5.0


class PerformanceMonitor:
    """Takes a sample of its collectors every ``interval`` seconds and keeps those of the last ``window``.

    Args:
        collectors: the sources of readings; by default those that this machine has.
        interval: seconds between samples, greater than 0; may be changed while running.
        window: seconds of history to keep, greater than 0.
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
        self._collectors = _named(default_collectors(gpus) if collectors is None else collectors)
        self._columns = tuple(metric.name for metric in self.metrics)
        repeated = {name for name in self._columns if self._columns.count(name) > 1}
        if repeated:
            raise ValueError(f"two metrics have the name {min(repeated)!r}; rename one of them")
        self._history = History(self._columns, self._window)
        self._log = CsvLog(self._columns, self._rows)
        self._latest: Sample | None = None
        self._missed = 0
        self._started = 0.0
        self._errors: dict[str, str] = {}
        self._callbacks: list[Callable[[Sample], object]] = []
        self._renew_locks()
        _monitors.add(self)

    def _renew_locks(self) -> None:
        self._sampling = threading.Lock()  # one reading at a time
        self._switching = threading.Lock()  # one thread at a time
        self._wishes: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._thread: _Sampler | None = None

    # -- reading ---------------------------------------------------------------------------------------

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What each column means, in the order of the columns."""
        return tuple(metric for collector in self._collectors.values() for metric in collector.metrics)

    @property
    def history(self) -> pd.DataFrame:
        """The samples of the window: index ``time`` (UTC), one float64 column per metric; a copy of its own.

        ``attrs`` holds, for each column, its unit, help and source; under ``devices`` the device names by
        what stands before the slash; under ``gaps`` the times (Unix seconds) of the rows before which samples
        are missing.
        """
        frame = self._history.frame()
        for metric in self.metrics:
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
        errors = dict(self._errors)
        for collector in self._collectors.values():
            errors.update(getattr(collector, "errors", {}))
        return errors

    @property
    def missed(self) -> int:
        """How many samples were due since the start but not taken, because the thread came too late."""
        return self._missed

    @property
    def log(self) -> CsvLog:
        """The history mirrored to a CSV file: ``log.start()``, ``log.stop()``."""
        return self._log

    @property
    def window(self) -> float:
        """How many seconds of history are kept."""
        return self._window

    # -- sampling --------------------------------------------------------------------------------------

    def sample(self) -> Sample:
        """Take one reading of every collector, store it and tell the subscribers; returns it.

        The thread only calls this. A collector that fails costs its own columns (NaN) and stands in
        ``errors``; a subscriber that fails is logged once. Neither raises.
        """
        return self._sample(after_gap=False)

    def _sample(self, *, after_gap: bool) -> Sample:
        with self._sampling:
            at = time.time()
            values = dict.fromkeys(self._columns, math.nan)
            for name, collector in self._collectors.items():
                self._collect(name, collector, values)
            sample = Sample(at, values)
            row = tuple(values.values())
            number = self._history.append(at, row, after_gap)
            self._latest = sample
            self._log.append(number, self._columns, microseconds(at), row)
        for callback in tuple(self._callbacks):
            self._tell(callback, sample)
        return sample

    def _collect(self, name: str, collector: Collector, values: dict[str, float]) -> None:
        try:
            reading = {column: float(value) for column, value in collector.collect().items()}
            unknown = reading.keys() - values.keys()
            if unknown:
                raise ValueError(f"{min(unknown)!r} is not among its metrics")
        except Exception as error:  # noqa: BLE001 - whatever a source does wrong, the others go on
            self._failed(name, error)
        else:
            values.update(reading)
            self._errors.pop(name, None)

    def _tell(self, callback: Callable[[Sample], object], sample: Sample) -> None:
        name = _name_of(callback)
        try:
            callback(sample)
        except Exception as error:  # noqa: BLE001 - a face that fails must not stop the sampling
            self._failed(name, error)
        else:
            self._errors.pop(name, None)

    def _failed(self, name: str, error: Exception) -> None:
        """Note an error, and log it once for as long as it lasts."""
        text = str(error) or type(error).__name__
        if name not in self._errors:
            _logger.warning("%s: %s", name, text, exc_info=_logger.isEnabledFor(logging.DEBUG))
        self._errors[name] = text

    def on_sample(self, callback: Callable[[Sample], object], remove: bool = False) -> None:
        """Call back with each new sample, on the thread that took it; ``remove=True`` ends that."""
        if remove:
            self._errors.pop(_name_of(callback), None)
            self._callbacks = [known for known in self._callbacks if known != callback]
        elif callback not in self._callbacks:
            self._callbacks = [*self._callbacks, callback]

    def _rows(self) -> Rows:
        number, times, _, values = self._history.read()
        return number, times, values.tolist()

    # -- the clock -------------------------------------------------------------------------------------

    @property
    def interval(self) -> float:
        """Seconds between samples. Setting it holds from the sample before; ValueError unless above 0."""
        return self._interval

    @interval.setter
    def interval(self, seconds: float) -> None:
        self._interval = _seconds("interval", seconds)
        thread = self._thread
        if thread is not None:
            thread.wake.set()

    @property
    def running(self) -> bool:
        """Whether samples are being taken."""
        thread = self._thread
        return thread is not None and thread.is_alive()

    def start(self) -> None:
        """Begin to sample, at once and then every ``interval`` seconds; nothing if running already."""
        with self._switching:
            if not self.running:
                self._missed = 0
                self._started = time.monotonic()
                self._thread = _Sampler(self)
                self._thread.start()

    def stop(self) -> None:
        """Stop sampling and close the log; the history stays readable. Nothing if not running."""
        with self._switching:
            thread, self._thread = self._thread, None
        # Not under the lock: the thread may be about to stop the monitor too, from a subscriber.
        if thread is not None:
            thread.stop()
        self._fulfil()
        self._log.stop()
        self._close_collectors()

    def _close_collectors(self) -> None:
        # Not in the middle of a reading, unless that one hangs.
        held = self._sampling.acquire(timeout=_PATIENCE)
        try:
            for name, collector in self._collectors.items():
                try:
                    getattr(collector, "close", _nothing)()
                except Exception as error:  # noqa: BLE001 - the others are to be closed too
                    self._failed(name, error)
        finally:
            if held:
                self._sampling.release()

    def submit(self, action: Callable[[], object]) -> None:
        """Have the sampling thread do something soon; at once and here if the monitor is not running.

        For what comes from a browser while a cell runs: the thread that hears it must not be kept.
        """
        self._wishes.put(action)
        thread = self._thread
        if thread is not None and thread.is_alive():
            thread.wake.set()
        else:
            self._fulfil()

    def _fulfil(self) -> None:
        while True:
            try:
                action = self._wishes.get_nowait()
            except queue.Empty:
                return
            try:
                action()
            except Exception as error:  # noqa: BLE001 - nobody above could do anything about it
                self._failed(getattr(action, "__qualname__", str(action)), error)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = "running" if self.running else "stopped"
        return f"<PerformanceMonitor {state}, every {self.interval:g} s, {len(self._columns)} metrics>"

    def _forget_thread(self) -> None:
        """In a forked child there is no thread, and the log is the parent's."""
        self._renew_locks()
        self._history.renew_lock()
        self._log.forget()


class _Sampler(threading.Thread):
    """The sampling thread: made for one start, ended by one stop."""

    def __init__(self, monitor: PerformanceMonitor) -> None:
        super().__init__(name="perfmon-sampler", daemon=True)
        self.wake = threading.Event()
        self._stopping = False
        self._monitor = monitor

    def stop(self) -> None:
        self._stopping = True
        self.wake.set()
        if threading.current_thread() is not self:
            self.join(_PATIENCE)

    def run(self) -> None:
        monitor, interval = self._monitor, self._monitor.interval
        due = time.monotonic()
        after_gap = monitor.latest is not None
        while not self._stopping:
            if time.monotonic() >= due:
                # What was missed while this thread could not run lies before this row, what is missed
                # while the sources answer lies before the next.
                following, missed = next_due(due, time.monotonic(), interval)
                monitor._sample(after_gap=after_gap or missed > 0)
                due, late = next_due(following - interval, time.monotonic(), interval)
                monitor._missed += missed + late
                after_gap = late > 0
            monitor._fulfil()
            if monitor.interval != interval:
                # What a shorter interval would have made due before is not missed: nobody asked for it.
                due = max(due - interval + monitor.interval, time.monotonic())
                interval = monitor.interval
            self.wake.wait(max(0.0, due - time.monotonic()))
            self.wake.clear()


def next_due(due: float, now: float, interval: float) -> tuple[float, int]:
    """When the next sample is due after the one that was due at ``due``, and how many were missed by ``now``.

    The grid is kept, so that lateness does not add up; what is past is skipped, never made up for.
    """
    following = due + interval
    if following > now:
        return following, 0
    missed = int((now - following) // interval) + 1
    return following + missed * interval, missed


_shared: PerformanceMonitor | None = None
_shared_lock = threading.Lock()
_monitors: weakref.WeakSet[PerformanceMonitor] = weakref.WeakSet()


def shared_monitor() -> PerformanceMonitor:
    """The one monitor of this Jupyter kernel that panels and magics share, made on first use."""
    global _shared  # noqa: PLW0603 - one per process is what it is
    with _shared_lock:
        if _shared is None:
            _shared = PerformanceMonitor()
        return _shared


def running_monitor() -> PerformanceMonitor | None:
    """The monitor that speaks for this process: of those that run the one started last; None if none runs."""
    running = [monitor for monitor in tuple(_monitors) if monitor.running]
    return max(running, key=lambda monitor: monitor._started, default=None)


def _named(collectors: Sequence[Collector]) -> dict[str, Collector]:
    """Each collector under the name of its class, numbered where there are several."""
    named: dict[str, Collector] = {}
    for collector in collectors:
        if not isinstance(collector, Collector):
            raise TypeError(f"{collector!r} is no collector: it needs `metrics` and `collect()`")
        name = kind = type(collector).__name__
        number = 1
        while name in named:
            number += 1
            name = f"{kind} {number}"
        named[name] = collector
    return named


def _nothing() -> None:
    """What a collector without a close() does at the end."""


def _name_of(callback: Callable[[Sample], object]) -> str:
    return f"on_sample {getattr(callback, '__qualname__', callback)}"


def _seconds(name: str, value: float) -> float:
    """The value if it is a number of seconds above 0; raises ValueError, naming it, if not."""
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not 0 < seconds <= threading.TIMEOUT_MAX:
        raise ValueError(f"{name} must be a number of seconds greater than 0, not {value!r}")
    return seconds


def _after_fork() -> None:
    for monitor in tuple(_monitors):
        monitor._forget_thread()


def _at_exit() -> None:
    # Joined while the interpreter is still whole: a thread that outlives it may crash in a driver.
    for monitor in tuple(_monitors):
        monitor.stop()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
