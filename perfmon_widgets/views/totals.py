"""Totals: mean and peak of every column since a moment, also where that lies further back than the window."""

from __future__ import annotations

import math
import threading
import time

from perfmon_widgets.metrics import Sample


class Totals:
    """What the samples since the first one amount to; subscribe ``add`` with ``on_sample``.

    The means are time-weighted as in analysis.py: a value stands for the time since the sample before. The
    first sample only tells where that time begins. A missing number counts neither as a value nor as time.
    As for rates, time is what passes on the clock that nobody sets, which stands still during a suspend.
    """

    def __init__(self) -> None:
        self.begun = threading.Event()
        """Set by the first sample."""
        self.count = 0
        """How many samples there were."""
        self.newest = -math.inf
        """When the newest was taken, in monotonic seconds."""
        self._sample: Sample | None = None
        self._first: dict[str, float] = {}
        self._last: dict[str, float] = {}
        self._sums: dict[str, float] = {}
        self._seconds: dict[str, float] = {}
        self._peaks: dict[str, float] = {}

    def add(self, sample: Sample) -> None:
        """Take account of a sample that has just been taken; nothing if it is the newest already."""
        if sample is self._sample:
            return
        now = time.monotonic()
        ago = time.time() - sample.time  # which is wrong if the time was set since
        taken = min(max(now - ago, self.newest), now)
        for column, value in sample.values.items():
            if not math.isfinite(value):
                continue
            self._first.setdefault(column, value)
            self._last[column] = value
            if self.count:
                passed = taken - self.newest
                self._sums[column] = self._sums.get(column, 0.0) + passed * value
                self._seconds[column] = self._seconds.get(column, 0.0) + passed
                self._peaks[column] = max(self._peaks.get(column, value), value)
        self.count += 1
        self.newest, self._sample = taken, sample
        self.begun.set()

    def mean(self, column: str) -> float:
        """Its mean over time; NaN where there is no value."""
        seconds = self._seconds.get(column)
        return self._sums[column] / seconds if seconds else math.nan

    def peak(self, column: str) -> float:
        """Its largest value after the first sample; NaN where there is none."""
        return self._peaks.get(column, math.nan)

    def integral(self, column: str) -> float:
        """What a rate per second amounts to; NaN where there is no value."""
        return self._sums.get(column, math.nan)

    def change(self, column: str) -> float:
        """Its last value less its first; NaN where there is none."""
        return self._last.get(column, math.nan) - self._first.get(column, math.nan)
