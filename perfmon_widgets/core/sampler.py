"""Sampler: the sampling thread, and when the next sample is due."""

from __future__ import annotations

import contextlib
import math
import sys
import threading
from collections.abc import Callable

from perfmon_widgets.clocks import time
from perfmon_widgets.forks import renew_after_fork
from perfmon_widgets.interrupts import Event, start_thread

TIMEOUT = 5.0
"""Seconds that stop() waits for the thread, in which a reading may hang in a driver."""

# Seconds to wait for a thread whose start was interrupted: nothing says whether there is one.
_AFTER_INTERRUPTED_START = 0.1

# The rate limit of requested samples, since a loop may request one in each pass. On average it is one
# per _EVERY seconds. Up to _BURST in a row are allowed, so that a few quick cells get samples of their own.
# Samples are at least _APART seconds apart, because a share of CPU time cannot be measured over less.
_EVERY, _BURST, _APART = 0.1, 5, 0.005
# A sample that is this many seconds late shows that the thread does not get the GIL.
_STARVED = 0.25
# The switch interval, in seconds, that a starved thread sets; see Sampler.
_SWITCH_INTERVAL = 0.0005
# Seconds until the thread tries again after memory was missing for what it did.
_AFTER_MEMORY_ERROR = 0.1


class Sampler(threading.Thread):
    """A thread that takes a sample every interval: made for one start, ended by one stop.

    If the thread has to wait for the GIL, it sets ``sys.setswitchinterval`` from the usual 5 ms to 0.5 ms
    until it stops. This setting applies to the whole process. The reason is a loop with a quick system call
    every 0.5 to 5 ms, such as one that reads small files. It releases the GIL too briefly for another thread
    to wake up and take it, and each release restarts the 5 ms after which a waiting thread may demand the
    GIL. During such a loop on an idle machine 65 to 185 of 206 samples are taken, and 7 without the change:
    the panel would not move for the whole cell (tests/benchmarks/cadence.py). The change costs a program that
    computes in several Python threads 1 to 6 %, so it is not made from the start.

    Args:
        take: takes a sample and calls sample_stored(); its argument: whether samples are missing before it.
        between: called after each sample and each wake(), for other work on this thread.
        at_end: called when the thread ends.
        interval: returns the seconds between samples; called before each wait.
        after_gap: whether samples are missing before the first.
    """

    def __init__(
        self,
        take: Callable[[bool], object],
        between: Callable[[], object],
        at_end: Callable[[], object],
        interval: Callable[[], float],
        *,
        after_gap: bool,
    ) -> None:
        super().__init__(name="perfmon-sampler", daemon=True)
        self.missed = 0
        """How many samples were due but not taken, because the thread came too late."""
        self.newest = -math.inf
        """Monotonic time at which the newest sample was stored."""
        self._take = take
        self._between = between
        self._at_end = at_end
        self._interval = interval
        self._after_gap = after_gap  # whether samples are missing before the next one
        self._due = math.nan  # monotonic time of the next regular sample; NaN before the first
        self._pace = math.nan  # the seconds between samples by which that was reckoned
        self._stopping = False
        self._requested = False  # whether a sample was requested that has not begun
        self._paid_until = -math.inf  # requested samples have used up the rate limit up to this time
        # Held while there is no reason to wake up. Waiting for a lock is a single call; an Event needs many.
        self._wake_up = threading.Lock()
        self._wake_up.acquire()
        self._stored = Event()  # set, and replaced, when a requested sample is there
        # The state of the thread. Thread.is_alive() would not know it after an interrupt: see interrupts.py.
        self._launched = False  # whether there may be a thread
        self._began = False  # whether there is, or was, one
        self._over = Event()  # set when it has nothing left to do
        self._timed_out = False  # whether a caller of sample_soon() has, since the newest sample
        self._usual_switch_interval = math.nan  # set again at the end; NaN while it is unchanged
        renew_after_fork(self)

    def wake(self) -> None:
        """Wake the thread, so that it checks its interval, the requests and its other work at once."""
        with contextlib.suppress(RuntimeError):  # it has been woken already
            self._wake_up.release()

    def sample_soon(self, timeout: float = 0.0) -> None:
        """Request a sample in addition to the regular ones, whose times do not change.

        If the rate limit allows it, the sample is taken at once, and this method waits until it is stored: at
        most ``timeout`` seconds from when it is due. Otherwise the sample is taken a little later, and
        this method does not wait. After a timeout no caller waits before the next sample is stored, so that a
        driver that does not answer delays one caller only.
        """
        now = time.monotonic()
        allowed = now >= self._within_limit_from()  # before the thread counts this one
        stored = self._stored
        requested, self._requested = self._requested, True
        if not requested:  # otherwise the thread knows already
            self.wake()
        if timeout and not self._timed_out and allowed:
            # Right after another sample it is due _APART later. Without waiting that long, what the caller
            # does next would be counted as what came before.
            self._timed_out = not stored.wait(timeout + max(0.0, self.newest + _APART - now))

    def sample_stored(self) -> None:
        """Note that a sample is stored. Called before the subscribers, so that no caller waits for those."""
        self.newest = time.monotonic()
        self._timed_out = False
        if not self._requested:  # otherwise it had begun before the request
            stored, self._stored = self._stored, Event()
            stored.set()

    def _due_if_requested(self) -> float:
        """Return the monotonic time from which a requested sample may be taken."""
        return max(self.newest + _APART, self._within_limit_from())

    def _within_limit_from(self) -> float:
        return self._paid_until - (_BURST - 1) * _EVERY

    def start(self) -> None:
        """Start the thread; raises RuntimeError if the system has no more threads."""
        self._launched = True
        try:
            start_thread(self)
        except RuntimeError:
            self._launched = False
            raise
        self._began = True

    def stop(self, timeout: float | None = None) -> None:
        """End the thread, and wait for its end, unless this is the thread itself.

        Waits up to ``timeout`` seconds, by default ``TIMEOUT``.
        """
        timeout = TIMEOUT if timeout is None else timeout
        self._stopping = True
        self.wake()
        if self.ended or threading.current_thread() is self:
            return
        if self._over.wait(timeout if self._began else min(timeout, _AFTER_INTERRUPTED_START)):
            self.join(timeout)  # it has nothing left to do
        elif not self._began:
            self._launched = False  # there is no thread, or it ends as soon as it begins

    @property
    def running(self) -> bool:
        """Whether samples are being taken."""
        return self._began and not self._stopping and not self._over.is_set()

    @property
    def ended(self) -> bool:
        """Whether the thread has nothing left to do, or was never started."""
        return not self._launched or self._over.is_set()

    def run(self) -> None:
        """Take the samples until stop()."""
        self._began = True
        try:
            # Memory may be missing at the end, too. Then the next stop() closes what is still open.
            with contextlib.suppress(MemoryError):
                self._sample_until_stopped()
        finally:
            self._over.set()

    def _sample_until_stopped(self) -> None:
        try:
            while not self._stopping:
                # Where memory is full, an allocation may fail on this thread too, anywhere in here. So no
                # step may leave something behind that the next round cannot go on from.
                try:
                    next_one = self.step()
                    woken = self._wake_up.acquire(timeout=max(0.0, next_one - time.monotonic()))
                    if not woken and time.monotonic() > next_one + _STARVED:
                        self._shorten_switch_interval()
                except MemoryError:
                    self._wait_for_memory()
            if self._requested:
                self._sample()  # the last chance: no later sample would show the end of that span
        finally:
            try:
                self._restore_switch_interval()
            finally:
                self._at_end()

    def step(self) -> float:
        """Take a sample if one is due, and do the other work; return when the next one is due."""
        now = time.monotonic()
        if math.isnan(self._due):
            self._due, self._pace = now, self._interval()
        if now >= self._due:
            # Samples that were missed while this thread could not run are missing before this row, those
            # missed while the sources answer are missing before the next.
            following, missed = next_due(self._due, now, self._pace)
            self._after_gap |= missed > 0
            self._sample()
            self._due, late = next_due(following - self._pace, time.monotonic(), self._pace)
            self.missed += missed + late
            self._after_gap |= late > 0
        elif self._requested and now >= self._due_if_requested():
            self._paid_until = max(self._paid_until, now) + _EVERY
            self._sample()
        self._between()
        interval = self._interval()
        if interval != self._pace:
            # Samples that a shorter interval would have made due earlier are not missed.
            self._due = max(self._due - self._pace + interval, time.monotonic())
            self._pace = interval
        return min(self._due, self._due_if_requested()) if self._requested else self._due

    def _sample(self) -> None:
        self._requested = False  # first: a request from now on is for a sample that begins after this one
        # A sample for which memory is missing is left out. The next one is due at its usual time.
        try:
            self._take(self._after_gap)
            self._after_gap = False
        except MemoryError:
            self._after_gap = True

    def _wait_for_memory(self) -> None:
        with contextlib.suppress(MemoryError):
            self._wake_up.acquire(timeout=_AFTER_MEMORY_ERROR)

    def _shorten_switch_interval(self) -> None:
        if sys.getswitchinterval() > _SWITCH_INTERVAL:
            self._usual_switch_interval = sys.getswitchinterval()
            sys.setswitchinterval(_SWITCH_INTERVAL)

    def _restore_switch_interval(self) -> None:
        # Not if another part of the program has set its own meanwhile.
        if sys.getswitchinterval() == _SWITCH_INTERVAL and not math.isnan(self._usual_switch_interval):
            sys.setswitchinterval(self._usual_switch_interval)

    def renew_after_fork(self) -> None:
        """In a forked child: restore the switch interval, since this thread does not exist there."""
        self._restore_switch_interval()


def next_due(due: float, now: float, interval: float) -> tuple[float, int]:
    """Return when the sample after the one due at ``due`` is due, and how many have been missed by ``now``.

    Samples stay on the grid ``due + n * interval``, so that lateness does not add up: those in the past are
    skipped, never made up for.
    """
    following = due + interval
    if following > now:
        return following, 0
    missed = int((now - following) // interval) + 1
    return following + missed * interval, missed
