"""PerformanceMonitor: takes samples, stores them and notifies subscribers."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

from perfmon_widgets.clocks import time
from perfmon_widgets.collectors import Collector, default_collectors
from perfmon_widgets.collectors.timeout_thread import NoAnswerError, TimeoutThread
from perfmon_widgets.core.actions import Actions
from perfmon_widgets.core.errors import Subscribers, name_of
from perfmon_widgets.core.guard import Guard, guard
from perfmon_widgets.core.history import microseconds
from perfmon_widgets.core.pace import Pace
from perfmon_widgets.core.registry import registry
from perfmon_widgets.core.sampler import TIMEOUT, Sampler
from perfmon_widgets.core.spans import SPAN, Span, watchers
from perfmon_widgets.core.steps import Batch, Loop, Steps
from perfmon_widgets.core.stores import Stores
from perfmon_widgets.forks import renew_after_fork
from perfmon_widgets.interrupts import acquire
from perfmon_widgets.metrics import Sample

if TYPE_CHECKING:
    from typing_extensions import Self

# Seconds that a span waits for the sample at its start or end, from when that is due: several times as long
# as a sample takes. Then it goes on without one, so that a driver that does not answer cannot block the user.
_FOR_A_SAMPLE = 0.005
# A sample that is at most this many seconds old also shows the start of a span. Below statistics.RIGHT_BEFORE
# by the time that a slow reading takes.
_FRESH = 0.05
# Seconds that start() waits for the end of the thread before, if a stop() was interrupted or has timed out.
_FOR_THE_LAST_THREAD = 0.1


class PerformanceMonitor(Stores):
    """Takes a sample of its collectors every ``interval`` seconds and keeps those of the last ``window``.

    While memory is more than 80 % full and grows fast, samples come sooner, up to ten a second.
    Safe to use from any thread.

    Args:
        collectors: the sources of readings; by default those that this machine has.
        interval: seconds between samples, greater than 0; may be changed while running.
        window: seconds of history to keep, greater than 0; may be changed while running.
        gpus: indices or UUIDs of the GPUs to watch, instead of those the model is found to use.

    Raises ValueError, naming the argument, for a number out of range, for two columns of one name and for a
    GPU that does not exist; TypeError for an object that is not a collector.
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
        super().__init__(default_collectors(gpus) if collectors is None else collectors, self._window)
        self._missing = dict.fromkeys(self._columns, math.nan)
        self.started = 0.0
        """When the last start() began to sample, in monotonic seconds; 0 before the first."""
        self.starts = 0
        """How many times start() was called, whether or not the monitor was running already."""
        self._clocks_differ = math.nan  # time of day minus monotonic time at the newest sample
        self._sample_subscribers: Subscribers[Sample] = Subscribers("on_sample", self._errors)
        self._state_subscribers: Subscribers[bool] = Subscribers("on_state", self._errors)
        self._interval_subscribers: Subscribers[float] = Subscribers("on_interval", self._errors)
        self._aside: deque[Sample] = deque()  # samples of which no callback of the user's was notified yet
        self._actions = Actions(self._errors)
        self._pace = Pace()
        self._measured = frozenset(self._columns)  # the columns that are not recorded
        self.renew_after_fork()
        renew_after_fork(self)
        registry.monitors.add(self)

    def renew_after_fork(self) -> None:
        """In a forked child: there is no sampling thread, and new locks, since the parent's may be held."""
        self._sampling = threading.Lock()  # one reading at a time
        self._starting = threading.Lock()  # one start at a time
        self._sampler: Sampler | None = None

    @property
    def missed(self) -> int:
        """How many samples were due since the start but not taken, because the thread came too late."""
        sampler = self._sampler
        return 0 if sampler is None else sampler.missed

    @property
    def window(self) -> float:
        """Seconds of history to keep. A new value applies from the next row; ValueError unless above 0."""
        return self._window

    @window.setter
    def window(self, seconds: float) -> None:
        self._window = self._history.window = _seconds("window", seconds)

    # -- sampling --------------------------------------------------------------------------------------

    def sample(self) -> Sample:
        """Read every collector, store the sample, notify the subscribers; returns the sample.

        The sampling thread does the same. A collector that raises has NaN in its columns and is listed in
        ``errors``; so is a subscriber that raises. Neither raises here; only KeyboardInterrupt does.
        """
        # Without a timeout: a slow collector blocks only the caller's own thread.
        return self._sample(after_gap=False, with_timeout=False)

    def sample_within(self, seconds: float) -> None:
        """Take a sample in addition to the regular ones; return when it is stored, or after these seconds.

        For code that runs in the user's cell: the collectors are read on another thread, and the callbacks of
        the user's are called soon, on the sampling thread. No sample is taken while another reading hangs.
        """
        thread = TimeoutThread("perfmon-reading")
        try:
            # After a timeout that thread goes on. Without memory, or another thread, there is no sample.
            with suppress(NoAnswerError, OSError, MemoryError):
                thread.ask(partial(self._sample_aside, seconds), seconds)
        finally:
            thread.close()

    def _sample_aside(self, seconds: float) -> None:
        taken: list[bool] = []
        with self._errors.catch("sample"):
            try:
                acquire(self._sampling, seconds, taken)
                if True not in taken:
                    return
                sample = self._store(after_gap=False, with_timeout=True)
                self._aside.append(sample)
            finally:
                if True in taken:
                    self._sampling.release()
            self._sample_subscribers.notify_ours(sample)
        self.call_soon(partial(self._notify_users_aside, TIMEOUT), "on_sample")

    def _notify_users_aside(self, timeout: float) -> None:
        """Call the callbacks of the user's with the samples that were taken aside, in their order."""
        with suppress(IndexError):
            while True:
                self._sample_subscribers.notify_users(self._aside.popleft(), timeout)

    def _sample(self, after_gap: bool, with_timeout: bool = True) -> Sample:
        timeout = TIMEOUT if with_timeout else math.inf
        with self._sampling:
            sample = self._store(after_gap, with_timeout)
        subscribers = self._sample_subscribers
        subscribers.notify_ours(sample)
        self._notify_users_aside(timeout)  # those were taken before
        subscribers.notify_users(sample, timeout)
        return sample

    def _store(self, after_gap: bool, with_timeout: bool) -> Sample:
        """Read every collector and store the sample; the caller has locked ``_sampling``."""
        recorded, measured = self._recorded.new, self._sources.new
        if recorded or measured:
            self._add_columns(recorded, measured)
        at = time.time()
        after_gap |= self._clock_was_set(at)
        values = self._missing.copy()
        self._sources.read_into(values, with_timeout=with_timeout)
        sample = Sample(at, values)
        row = tuple(values.values())
        number = self._history.append(at, row, after_gap, at - self._clocks_differ)
        self._latest = sample
        self._pace.note(sample)
        if self._log.running:  # otherwise a start of the log will write this row
            self._log.append(number, microseconds(at), row)
        sampler = self._sampler
        if sampler is not None:
            sampler.sample_stored()
        return sample

    def _clock_was_set(self, now: float) -> bool:
        """Whether the time of day was set, by more than an interval, since the last sample.

        Also true after the machine was suspended, since the monotonic clock stops meanwhile.
        """
        before, self._clocks_differ = self._clocks_differ, now - time.monotonic()
        return abs(self._clocks_differ - before) > self._interval

    def _add_columns(self, recorded: Sequence[str], measured: Sequence[str]) -> None:
        """Append a column for each series that was recorded or measured first since the last sample."""
        # Each step may be repeated, and adopt() comes last: if an interrupt ends this in between, the next
        # sample does all of it again. The log comes first: it can write a row that lacks the last columns.
        self._measured |= frozenset(measured)
        new = (*recorded, *(name for name in measured if name not in recorded))
        self._log.add_columns(new)
        self._history.add_columns(new)
        self._columns = self._history.columns
        self._missing = dict.fromkeys(self._columns, math.nan)
        self._sources.adopt(new)
        self._recorded.adopt(recorded)

    def on_sample(self, callback: Callable[[Sample], object], remove: bool = False) -> None:
        """Call ``callback(sample)`` with each new sample.

        While the monitor runs, each callback is called on a thread of its own, and the next sample waits for
        it: at most ``TIMEOUT`` seconds. A callback that takes longer is listed in ``errors`` and left out
        until it has returned. A sample() by hand calls it on the caller's thread.

        Adding the same callback again changes nothing. ``remove=True`` removes it.
        """
        self._sample_subscribers.change(callback, remove)

    def on_state(self, callback: Callable[[bool], object], remove: bool = False) -> None:
        """Call ``callback(running)`` after each start and stop, on the thread that called start() or stop().

        Adding the same callback again changes nothing. ``remove=True`` removes it.
        """
        self._state_subscribers.change(callback, remove)

    def on_interval(self, callback: Callable[[float], object], remove: bool = False) -> None:
        """Call ``callback(interval)`` soon after each change of the interval, in the way of on_sample().

        Adding the same callback again changes nothing. ``remove=True`` removes it.
        """
        self._interval_subscribers.change(callback, remove)

    @property
    def guard(self) -> Guard:
        """The memory guard of this process, the same for all monitors: ``guard.start()``, ``guard.stop()``.

        An allocation that would fill the memory then raises MemoryError, and the kernel lives. Linux only.
        """
        return guard

    # -- what the user adds ----------------------------------------------------------------------------

    def mark(self, label: str) -> None:
        """Add a labelled mark at this moment; raises TypeError or ValueError for an unusable label."""
        self._spans.mark(label)
        self._write_spans()

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """``with monitor.span("validation"):`` records when the block started and ended; spans may be nested.

        A sample is taken at its start and at its end. If many short spans follow each other, a rate limit
        applies: about ten such samples a second. Raises TypeError or ValueError for an unusable name.
        """
        span = self._spans.new(SPAN, name)
        raised = True
        try:
            self._begin(span)
            yield
            raised = False
        finally:
            try:
                self.end(span, raised=raised)
            except BaseException:  # an interrupt must not leave it open
                self._spans.end(span, raised=raised)
                raise

    def begin(self, kind: str, name: str, execution_count: int | None = None) -> Span:
        """Start a span or cell, which end() ends: for code that cannot use ``with``."""
        span = self._spans.new(kind, name, execution_count)
        try:
            self._begin(span)
        except BaseException:  # an interrupt: the caller does not get the span, and so cannot end it
            self._spans.end(span, raised=True)
            raise
        return span

    def _begin(self, span: Span) -> None:
        sampler = self._running_sampler()
        if sampler is not None and time.monotonic() - sampler.newest >= _FRESH:
            sampler.sample_soon(self._timeout(sampler))
        self._spans.start(span)
        self._write_spans()

    def _timeout(self, sampler: Sampler) -> float:
        """Return the seconds to wait for a sample; 0 on the thread that takes it, or that it waits for."""
        if sampler is threading.current_thread() or self._sample_subscribers.running_here:
            return 0.0
        return _FOR_A_SAMPLE

    def end(self, span: Span, *, raised: bool = False) -> None:
        """End a span or cell that begin() started; does nothing if it has ended."""
        self._spans.end(span, raised=raised)
        sampler = self._running_sampler()
        if sampler is not None:
            sampler.sample_soon(self._timeout(sampler))  # before the caller frees or allocates more
        self._write_spans()

    def record(self, **values: float) -> None:
        """Add your own series to the history, the charts and the CSV: ``record(loss=0.31, epoch=3)``.

        The next sample takes the last value of each; rows without a value have NaN. A name may end in a unit:
        ``tokens_per_second``, ``cache_bytes``. A tensor is kept, and its number is read when the next sample
        is taken, so that this never waits for a GPU; one that is changed in place before has the later
        number. One that cannot be read then is missing, and the reason is in ``errors``.

        All values are recorded or none: raises TypeError for a value that is not a number, and ValueError for
        a name that cannot be a column or is another one already, and for more than 100 names.
        """
        self._recorded.record(values, self._measured)

    def steps(self, loader: Iterable[Batch]) -> Steps[Batch]:
        """``for batch in monitor.steps(loader):`` measures how long the loop waits for its batches.

        Recorded are ``steps_per_second``, ``waiting_percent`` (the share of the loop's time in which it waits
        for the next batch) and ``samples_per_second``: with each sample what the loops did since the one
        before. A step costs one to three microseconds. Each use of the result in a loop is a pass over the
        loader; it has the loader's length, as tqdm needs it.

        The samples in a batch are the first dimension that its tensors have in common. They are NaN where
        that is not certain, as of a list of images, and where a batch has no length.

        Raises ValueError if another column has one of these names.
        """
        self._recorded.follow(self._meter, self._measured)
        return Steps(loader, self._meter)

    def begin_steps(self) -> Loop:
        """Measure a loop as steps() does, for code that has no loader to wrap, such as callbacks.

        Call ``take(samples)`` when a batch has come, ``wait()`` when the loop wants the next one, and
        ``end()`` at its end. Raises ValueError as steps() does.
        """
        self._recorded.follow(self._meter, self._measured)
        return self._meter.begin()

    # -- the sampling thread ---------------------------------------------------------------------------

    @property
    def interval(self) -> float:
        """Seconds between samples. A new value counts from the newest sample; ValueError unless above 0."""
        return self._interval

    @interval.setter
    def interval(self, seconds: float) -> None:
        before, self._interval = self._interval, _seconds("interval", seconds)
        sampler = self._sampler
        if sampler is not None:
            sampler.wake()
        if self._interval != before:
            self.call_soon(self._notify_interval, "interval")

    def _notify_interval(self) -> None:
        self._interval_subscribers.notify(self._interval, TIMEOUT if self.running else math.inf)

    @property
    def running(self) -> bool:
        """Whether samples are being taken."""
        return self._running_sampler() is not None

    def _running_sampler(self) -> Sampler | None:
        sampler = self._sampler
        return sampler if sampler is not None and sampler.running else None

    def start(self) -> None:
        """Begin to sample, at once and then every ``interval`` seconds; does nothing if running already."""
        with self._starting:
            self.starts += 1
            if self.running:
                return
            if self._sampler is not None:
                # After an interrupted start or stop there may be a thread; it is not waited for if it hangs.
                self._sampler.stop(_FOR_THE_LAST_THREAD)
            self.started = time.monotonic()
            sampler = self._sampler = Sampler(
                self._sample,
                self._between,
                self._close_threads,
                lambda: min(self._interval, self._pace.seconds),
                after_gap=self._latest is not None,
            )
            try:
                sampler.start()
            except BaseException:  # an interrupt, or no thread could be made: this one must not begin later
                sampler.stop()
                raise
            self._notify_watchers(True)
        self._state_subscribers.notify(True)

    def stop(self) -> None:
        """Stop sampling and close the log; the history stays readable. Does nothing if not running."""
        sampler, was_running, log = self._sampler, self.running, self._log.path
        if was_running:
            self._notify_watchers(False)
        # Not under the lock: a subscriber may be about to stop the monitor on the sampling thread.
        if sampler is not None:
            if self._recorded.waiting:
                sampler.sample_soon()  # so that the values that were recorded last get a row
            # A callback that stops the monitor is waited for by the sampling thread.
            calling = self._sample_subscribers.running_here or self._interval_subscribers.running_here
            sampler.stop(0 if calling else None)
        self._actions.drain()
        again = self.running  # another thread has started it meanwhile, and perhaps a log too
        if not again or self._log.path is log:
            self._log.stop()
        if not again and (sampler is None or sampler.ended):
            self._close_threads()  # otherwise that thread does it, as soon as it can
        if was_running:
            self._state_subscribers.notify(False)

    def _notify_watchers(self, running: bool) -> None:
        for watcher in watchers:
            with self._errors.catch(name_of(watcher)):
                watcher(self, running)

    def _close_threads(self) -> None:
        self._sample_subscribers.close(TIMEOUT)
        self._interval_subscribers.close(TIMEOUT)
        taken: list[bool] = []
        try:
            acquire(self._sampling, TIMEOUT, taken)  # not during a reading: if one hangs, by the next call
            if True in taken:
                self._sources.close()
        finally:
            if True in taken:
                self._sampling.release()

    def call_soon(self, action: Callable[[], object], name: str = "") -> None:
        """Call ``action()`` on the sampling thread soon; at once and here if the monitor is not running.

        For requests of a browser while a cell runs: the thread that receives them must not be blocked.
        An action that raises is logged and listed in ``errors`` under ``name``, by default the function's.
        """
        self._actions.add(action, name)
        sampler = self._running_sampler()
        if sampler is not None:
            sampler.wake()
        else:
            self._actions.drain()

    def _between(self) -> None:
        """Do the other work of the sampling thread: after each sample, and when it is woken."""
        self._actions.drain()
        self._span_log.write()

    def _write_spans(self) -> None:
        """Write new spans soon on the sampling thread; at once and here if the monitor is not running."""
        sampler = self._sampler
        if sampler is None or sampler.ended:
            self._span_log.write()
        elif self._log.running:
            sampler.wake()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = "running" if self.running else "stopped"
        return f"<PerformanceMonitor {state}, every {self.interval:g} s, {len(self._columns)} metrics>"


def _seconds(name: str, value: float) -> float:
    """Return the value if it is a number of seconds above 0; raises ValueError, naming it, if not."""
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    # Times are stored in microseconds. Far below one, the number of missed samples would overflow.
    if not 1e-6 <= seconds <= threading.TIMEOUT_MAX:
        raise ValueError(f"{name} must be a number of seconds greater than 0, not {value!r}")
    return seconds
