"""Sampler: the sampling thread, and when the next sample is due."""

from __future__ import annotations

import contextlib
import math
import sys
import threading
import time
from collections.abc import Callable

# How long stop() waits for a reading that hangs in a driver before it lets the thread go.
TIMEOUT = 5.0
# How many samples are taken that were asked for: one per so many seconds in the long run, because a loop may
# ask each time round; but so many in a row, so that a few quick cells can be told apart; and no two closer
# than that, because over so short a time no share of CPU time can be measured.
_EVERY, _IN_A_ROW, _APART = 0.1, 5, 0.005
# A sample that comes so many seconds late shows that this thread does not get the GIL.
_STARVED = 0.25
# Then it asks for it after so many seconds instead of the usual 5 ms. Each time that the GIL is free for a
# moment the wait begins anew, and this thread wakes too slowly to take it: a loop with a quick system call
# every 0.5 to 5 ms keeps it out for as long as it runs. Not from the beginning, because it costs a program
# that computes in several threads of Python 1 to 6 %.
_SWITCH_INTERVAL = 0.0005


class Sampler(threading.Thread):
    """A thread that takes a sample every interval: made for one start, ended by one stop.

    Args:
        take: takes a sample, and calls taken() when it is stored; told whether samples are missing before.
        between: called after each sample and each wake(), for what else is to be done on this thread.
        after: called when the thread ends.
        interval: seconds between samples, asked anew each time.
        after_gap: whether samples are missing before the first.
    """

    def __init__(
        self,
        take: Callable[[bool], object],
        between: Callable[[], object],
        after: Callable[[], object],
        interval: Callable[[], float],
        *,
        after_gap: bool,
    ) -> None:
        super().__init__(name="perfmon-sampler", daemon=True)
        self.missed = 0
        """How many samples were due but not taken, because the thread came too late."""
        self._take = take
        self._between = between
        self._after = after
        self._interval = interval
        self._after_gap = after_gap
        self._stopping = False
        self._wanted = False
        self.newest = -math.inf
        """When the newest sample was stored, in monotonic seconds."""
        self._spent = -math.inf  # until when samples have been taken, at one per _EVERY
        # Held as long as nobody wakes the thread, so that waiting for it is one call; an Event takes many.
        self._asleep = threading.Lock()
        self._asleep.acquire()
        self._served = threading.Event()
        self._slow = False  # whether somebody has lost patience since the newest sample
        self._usual_switch_interval = math.nan  # which is given back at the end; NaN if it was not changed

    def wake(self) -> None:
        """Have it look at once at what there is to do, and at the interval."""
        with contextlib.suppress(RuntimeError):  # it has been woken already
            self._asleep.release()

    def soon(self, patience: float = 0.0) -> None:
        """Have a sample taken beside the regular ones, which go on as they would.

        It is taken at once, or a little later if there were many. Only in the first case waits for it: as a
        rule, the time that it takes, and at most so many seconds from when it is due. If it takes longer,
        nobody waits again before one has come.
        """
        now = time.monotonic()
        affordable = now >= self._affordable()  # before the thread counts this one
        self._served.clear()
        waiting, self._wanted = self._wanted, True
        if not waiting:  # or the thread knows already
            self.wake()
        if patience and not self._slow and affordable:
            # A moment more right after another sample, or what comes next would count as what came before.
            self._slow = not self._served.wait(patience + max(0.0, self.newest + _APART - now))

    def taken(self) -> None:
        """A sample has been stored: told before the subscribers are, for whom a span need not wait."""
        self.newest = time.monotonic()
        self._slow = False
        if not self._wanted and not self._served.is_set():  # else it had begun before it was asked for
            self._served.set()

    def _allowed(self) -> float:
        """When a sample that was asked for may be taken."""
        return max(self.newest + _APART, self._affordable())

    def _affordable(self) -> float:
        """When there are no longer too many that were asked for."""
        return self._spent - (_IN_A_ROW - 1) * _EVERY

    def stop(self) -> None:
        """End the thread and wait for its end, unless a reading hangs or this is the thread itself."""
        self._stopping = True
        self.wake()
        if threading.current_thread() is not self:
            with contextlib.suppress(RuntimeError):  # an interrupted start may have made no thread
                self.join(TIMEOUT)

    @property
    def running(self) -> bool:
        """Whether samples are being taken."""
        return self.is_alive() and not self._stopping

    def run(self) -> None:
        """Take the samples; ended by stop()."""
        interval = self._interval()
        due = time.monotonic()
        after_gap = self._after_gap
        while not self._stopping:
            now = time.monotonic()
            if now >= due:
                # What was missed while this thread could not run lies before this row, what is missed
                # while the sources answer lies before the next.
                following, missed = next_due(due, now, interval)
                self._sample(after_gap or missed > 0)
                due, late = next_due(following - interval, time.monotonic(), interval)
                self.missed += missed + late
                after_gap = late > 0
            elif self._wanted and now >= self._allowed():
                self._spent = max(self._spent, now) + _EVERY
                self._sample(after_gap)
                after_gap = False
            self._between()
            if self._interval() != interval:
                # What a shorter interval would have made due before is not missed: nobody asked for it.
                before, interval = interval, self._interval()
                due = max(due - before + interval, time.monotonic())
            next_one = min(due, self._allowed()) if self._wanted else due
            woken = self._asleep.acquire(timeout=max(0.0, next_one - time.monotonic()))
            if not woken and time.monotonic() > next_one + _STARVED:
                self._ask_for_the_gil_sooner()
        if self._wanted:
            self._sample(after_gap)  # the end of what was asked for would be missing for good
        self.give_back()
        self._after()

    def _ask_for_the_gil_sooner(self) -> None:
        if sys.getswitchinterval() > _SWITCH_INTERVAL:
            self._usual_switch_interval = sys.getswitchinterval()
            sys.setswitchinterval(_SWITCH_INTERVAL)

    def give_back(self) -> None:
        """Have the interpreter switch threads as before: at the end, and in a forked child."""
        if sys.getswitchinterval() == _SWITCH_INTERVAL and not math.isnan(self._usual_switch_interval):
            sys.setswitchinterval(self._usual_switch_interval)

    def _sample(self, after_gap: bool) -> None:
        self._wanted = False  # before: what is asked for from here on lies after this reading
        self._take(after_gap)


def next_due(due: float, now: float, interval: float) -> tuple[float, int]:
    """When the next sample is due after the one that was due at ``due``, and how many were missed by ``now``.

    The grid is kept, so that lateness does not add up; what is past is skipped, never made up for.
    """
    following = due + interval
    if following > now:
        return following, 0
    missed = int((now - following) // interval) + 1
    return following + missed * interval, missed
