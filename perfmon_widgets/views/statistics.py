"""Mean, min, max, 95th percentile and change of rows, computed here for every table, summary and span.

All of it is numpy arrays: ``values`` has the shape (rows, columns), ``times`` and ``seconds`` have one number
per row, each result has one number per column. A value that is NaN or infinite is missing: it counts neither
as a value nor as time. A column without any value has NaN. The same rows count for all statistics of a
column, so min <= mean <= max.

Means are **time-weighted**: a row stands for the time since the row before, see row_seconds(). That is exact
for rates and shares, which the collectors measure over just that time, and close for amounts.
"""
# ruff: noqa: A005 - a room of its own: nothing here imports the standard library's module of this name

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from perfmon_widgets.clocks import time
from perfmon_widgets.interrupts import Event
from perfmon_widgets.metrics import Sample

if TYPE_CHECKING:
    from numpy.typing import NDArray

PEAKS = {"process_ram_bytes": "process_ram_peak_bytes"}
"""For a column the one with its highest values between samples: its maximum is the higher of the two."""

RIGHT_AFTER = 0.02
"""Seconds after the end of a span within which the next row still belongs to it.

The end of a span asks for a sample, which comes within 1 ms, and on a busy machine within about this time."""
RIGHT_BEFORE = 0.1
"""Seconds before the start of a span within which a row shows the values at its start."""
_TOLERANCE = 0.05  # both may be this share of the span's length, if that is more: of a minute, 3 s
_MOSTLY = 0.49  # half of a row's time, less what rounding the times to microseconds takes away


def row_seconds(times: NDArray[np.float64], after_gap: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Seconds that each row stands for: the time since the row before.

    ``after_gap`` marks the rows before which samples are missing. Such a row stands for the usual time
    between two rows (the median), or for the time since the row before if that is less. The first row, and
    one whose time is not after that of the row before, stand for the usual time too: 1 s if there is none.
    """
    passed = np.full(len(times), np.nan)
    np.subtract(times[1:], times[:-1], out=passed[1:])
    known = passed > 0  # not where the computer's clock was set back
    usual = _median(passed[known & ~after_gap])
    return np.where(known, np.where(after_gap, np.minimum(passed, usual), passed), usual)


def _median(values: NDArray[np.float64]) -> float:
    """The median; 1 if there are no values.

    np.median gives the same. Called once a second, when its code has left the CPU's caches, it takes 0.15 ms
    longer.
    """
    if not len(values):
        return 1.0
    middle = len(values) // 2
    lower, upper = (middle, middle) if len(values) % 2 else (middle - 1, middle)
    parted = np.partition(values, (lower, upper))
    return float(parted[lower] + parted[upper]) / 2


def mean(values: NDArray[np.float64], seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Time-weighted mean of each column."""
    return summary(values, seconds).mean


class Summary(NamedTuple):
    """Statistics of rows, each with one number per column."""

    mean: NDArray[np.float64]
    """Time-weighted."""
    minimum: NDArray[np.float64]
    """The smallest value."""
    maximum: NDArray[np.float64]
    """The largest value."""

    @property
    def known(self) -> list[bool]:
        """Whether each column has a value."""
        known: list[bool] = np.isfinite(self.maximum).tolist()
        return known


def summary(values: NDArray[np.float64], seconds: NDArray[np.float64]) -> Summary:
    """Return mean, smallest and largest value of each column; NaN for a column without any value."""
    # Divided by a power of two above their sum, which costs no precision, the weights are at most 1 together:
    # a user's series may have values near 1e308, and the sum must not overflow.
    shares = np.ldexp(seconds, -np.frexp(seconds.sum())[1])
    with np.errstate(all="ignore"):
        means: NDArray[np.float64] = (shares @ values) / shares.sum()
        some = np.flatnonzero(~np.isfinite(means))
        if len(some):  # the columns in which a value is missing
            known = np.isfinite(values[:, some])
            filled = np.where(known, values[:, some], 0.0)
            means[some] = (shares @ filled) / (shares @ known)
    smallest, largest = minimum(values), maximum(values)
    # Rounding may put a mean of equal values just outside them.
    return Summary(np.minimum(np.maximum(means, smallest), largest), smallest, largest)


def means_by_place(
    values: NDArray[np.float64], seconds: NDArray[np.float64], places: NDArray[np.int64], count: int
) -> NDArray[np.float64]:
    """Time-weighted means of the rows that share a place, of shape (count, columns); places begin at 0."""
    # As a rule the places are in order: they go back where the computer's clock was set back.
    order = np.argsort(places, kind="stable")
    values, weights, places = values[order], seconds[order, np.newaxis], places[order]
    starts = np.flatnonzero(np.diff(places, prepend=-1))
    known = np.isfinite(values)
    means = np.full((count, values.shape[1]), np.nan)
    with np.errstate(all="ignore"):
        total = np.add.reduceat(np.where(known, values, 0.0) * weights, starts, axis=0)
        means[places[starts]] = total / np.add.reduceat(known * weights, starts, axis=0)
    return means


def minimum(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The smallest value of each column."""
    smallest = np.fmin.reduce(values, axis=0, initial=np.inf, dtype=float)
    if np.isneginf(smallest).any():
        smallest = np.min(np.where(np.isfinite(values), values, np.inf), axis=0, initial=np.inf)
    return np.where(np.isposinf(smallest), np.nan, smallest)


def maximum(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The largest value of each column."""
    largest = np.fmax.reduce(values, axis=0, initial=-np.inf, dtype=float)
    if np.isposinf(largest).any():
        largest = np.max(np.where(np.isfinite(values), values, -np.inf), axis=0, initial=-np.inf)
    return np.where(np.isneginf(largest), np.nan, largest)


def with_peaks(maxima: NDArray[np.float64], names: Sequence[str]) -> NDArray[np.float64]:
    """The maximum of each of these columns, also between samples where that is known (``PEAKS``)."""
    raised: NDArray[np.float64] = maxima.copy()
    for name, peak in PEAKS.items():
        if name in names and peak in names:
            at = names.index(name)
            raised[..., at] = np.fmax(maxima[..., at], maxima[..., names.index(peak)])
    return raised


def percentile_95(values: NDArray[np.float64], seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """For each column the value that it was at or below for 95 % of the time."""
    found = np.full(values.shape[1], np.nan)
    for column in range(values.shape[1]):
        known = np.isfinite(values[:, column])
        if known.any():
            sorted_values, weights = values[known, column], seconds[known]
            order = np.argsort(sorted_values)
            passed = np.cumsum(weights[order])
            found[column] = sorted_values[order][np.searchsorted(passed, 0.95 * passed[-1])]
    return found


def change(first: NDArray[np.float64], last: NDArray[np.float64]) -> NDArray[np.float64]:
    """The last value minus the first; NaN where one of them is missing."""
    with np.errstate(all="ignore"):
        difference = last - first
    return np.where(np.isfinite(difference), difference, np.nan)


def span_statistics(
    times: NDArray[np.float64],
    seconds: NDArray[np.float64],
    values: NDArray[np.float64],
    start: float,
    end: float,
) -> NDArray[np.float64]:
    """Mean, max and change of each column over one span, of shape (columns, 3).

    Times, start and end are of one clock. A row belongs to the span if its sample was taken

    - in the span: after its start, and not after its end;
    - or right after its end: the first row within RIGHT_AFTER seconds or a twentieth of the span's length,

    and if at least half of the time that it stands for lies in the span. **Mean** and **max** are those of
    these rows, weighted by their time in the span; NaN if there is none, because the number of any other row
    is mostly about what ran before or after.

    **Change** is the difference of two readings. The one at the end is the first row at or right after the
    end, or else the last in the span. The one at the start is the last row before it, at most RIGHT_BEFORE
    seconds or a twentieth of its length earlier, or else the first in the span. NaN if these are one row.
    """
    length = max(end - start, 0.0)
    latest = end + max(RIGHT_AFTER, _TOLERANCE * length)
    earliest = start - max(RIGHT_BEFORE, _TOLERANCE * length)
    near = (times >= earliest) & (times <= latest)
    times, seconds, values = times[near], seconds[near], values[near]

    in_span = (times > start) & (times <= end)
    taken = in_span.copy()
    taken[np.flatnonzero(times > end)[:1]] = True
    overlap = np.minimum(times, end) - np.maximum(times - seconds, start)
    own = taken & (overlap >= _MOSTLY * seconds)
    part = values[own]

    within = np.flatnonzero(in_span)
    at_start = np.flatnonzero(times <= start)[-1:]
    at_end = np.flatnonzero(times >= end)[:1]
    first = at_start if len(at_start) else within[:1]
    last = at_end if len(at_end) else within[-1:]
    changes = np.full(values.shape[1], np.nan)
    # By the order of the rows: times are not in order where the computer's clock was set back.
    if len(first) and len(last) and first[0] < last[0]:
        changes = change(values[first[0]], values[last[0]])
    own_rows = summary(part, overlap[own])
    return np.column_stack([own_rows.mean, own_rows.maximum, changes])


def thin(
    times: NDArray[np.float64], y: NDArray[np.float64], gaps: NDArray[np.bool_], points: int, window: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Times and values of about ``points`` rows at most, for a figure that is ``window`` seconds wide."""
    return thin_to(times, y, gaps, density(times, points, window))


def density(times: NDArray[np.float64], points: int, window: float) -> float:
    """How many points per second thin() leaves; 0 if each row is a point."""
    if len(times) <= points:
        return 0.0
    # While a window is being filled, its points lie closer by a power of two: at least half are used.
    filled = np.ptp(times) / window
    closer = 2.0 ** max(0, math.floor(-math.log2(filled))) if filled > 0 else 1.0
    return closer * (points - 1) / window


def thin_to(
    times: NDArray[np.float64], y: NDArray[np.float64], gaps: NDArray[np.bool_], per_second: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Times and values with at most ``per_second`` points a second; with 0, each row is a point.

    Of rows that fall together, the largest value of each column is kept, at the time of the last row, so
    that a peak of one row is seen. Which rows fall together depends on their times alone, so that a line
    keeps its shape while it moves. Before each row after a gap a row of NaN is inserted, which breaks the
    line.
    """
    if per_second and len(times):
        ends = np.flatnonzero(np.diff(np.floor(times * per_second), append=math.inf))
        starts = np.concatenate([[0], ends[:-1] + 1])
        times, y = times[ends], np.fmax.reduceat(y, starts, axis=0)
        gaps = np.logical_or.reduceat(gaps, starts)
    before = np.flatnonzero(gaps)
    if not len(before):
        return times, y
    return np.insert(times, before, times[before]), np.insert(y, before, np.nan, axis=0)


class Totals:
    """Running statistics of samples, also over more time than the window holds.

    Subscribe ``add`` with ``on_sample``. As in row_seconds(), a value stands for the time since the sample
    before; the first sample only marks the start of the time. Time is measured on the monotonic clock, which
    does not change when the computer's clock is set and stops while the machine is suspended.
    """

    def __init__(self) -> None:
        self.begun = Event()
        """Set by the first sample."""
        self.count = 0
        """Number of samples."""
        self.newest = -math.inf
        """When the newest sample was taken, in monotonic seconds."""
        self._sample: Sample | None = None
        self._columns: dict[str, _Running] = {}

    def add(self, sample: Sample) -> None:
        """Add a sample that has just been taken; does nothing if it is already the newest."""
        if sample is self._sample:
            return
        now = time.monotonic()
        ago = time.time() - sample.time  # wrong if the computer's clock was set since then
        taken = min(max(now - ago, self.newest), now)
        for column, value in sample.values.items():
            if not math.isfinite(value):
                continue
            running = self._columns.get(column)
            if running is None:
                running = self._columns[column] = _Running(value)
            if self.count:
                running.add(value, taken - self.newest)
        self.count += 1
        self.newest, self._sample = taken, sample
        self.begun.set()

    def mean(self, column: str) -> float:
        """Its time-weighted mean; NaN if it has no value."""
        return self._columns.get(column, _MISSING).mean

    def covered(self, column: str) -> float:
        """The seconds that its values stand for."""
        return self._columns.get(column, _MISSING).seconds

    def peak(self, column: str) -> float:
        """Its largest value after the first sample, also between samples (``PEAKS``); NaN if it has none."""
        largest = self._columns.get(column, _MISSING).largest
        between = self._columns.get(PEAKS.get(column, ""), _MISSING).largest
        return between if between > largest else largest

    def integral(self, column: str) -> float:
        """What a rate per second adds up to; NaN if it has no value."""
        running = self._columns.get(column, _MISSING)
        if math.isnan(running.largest):
            return math.nan
        return running.mean * running.seconds if running.seconds else 0.0

    def last(self, column: str) -> float:
        """Its last value; NaN if it has none."""
        return self._columns.get(column, _MISSING).last

    def change(self, column: str) -> float:
        """Its last value minus its first; NaN if it has none."""
        running = self._columns.get(column, _MISSING)
        return running.last - running.first


class _Running:
    """The running statistics of one column."""

    __slots__ = ("first", "largest", "last", "mean", "seconds", "smallest")

    def __init__(self, first: float) -> None:
        self.first = self.last = first
        self.mean = self.smallest = self.largest = math.nan
        self.seconds = 0.0

    def add(self, value: float, seconds: float) -> None:
        """Add a value that stands for ``seconds`` seconds."""
        self.last = value
        # The first time, these are NaN, to which every comparison is false.
        self.smallest = self.smallest if self.smallest <= value else value
        self.largest = self.largest if self.largest >= value else value
        if seconds <= 0:
            return
        share = seconds / (self.seconds + seconds)
        # A sum of values times seconds would overflow for values near 1e308.
        mixed = (1 - share) * self.mean + share * value if self.seconds else value
        self.mean = min(max(mixed, self.smallest), self.largest)
        self.seconds += seconds


_MISSING = _Running(math.nan)
