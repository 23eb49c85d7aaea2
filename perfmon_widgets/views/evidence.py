"""Evidence: the newest rows of a history, as the rules read them; Finding: what a rule found in them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from perfmon_widgets.metrics import Metric, place_label
from perfmon_widgets.views import statistics

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

SEVERITIES = ("critical", "warning", "info")
"""How pressing a finding is: the work may end; time is lost; worth knowing."""

# A mean is over the newest rows of this many seconds, so that a finding neither comes with a short peak nor
# stays long after its cause. If samples are far apart, it is over the time of this many rows.
_NOW, _ROWS_OF_NOW = 30.0, 5
# A mean of fewer values says nothing.
_LEAST_VALUES = 3
# The share of a stretch of time that the rows must cover to say something about all of it.
_COVERED = 0.9

_CORE = re.compile(r"core\d+/cpu_percent")
_GPU = re.compile(r"gpu\d*")
_MEMBER = re.compile(r"(?:worker|rank|node)\d+")


@dataclass(frozen=True, repr=False)
class Finding:
    """Something that holds the work up; ``str()`` is one sentence."""

    severity: str
    """``critical``, ``warning`` or ``info``."""
    what: str
    """What it is, in a few words: ``GPU 0 waits for the CPU``."""
    evidence: str
    """The numbers that show it."""
    advice: str
    """What helps."""

    @property
    def line(self) -> str:
        """It without the advice, as the panel shows it."""
        return f"{self.what}: {self.evidence}"

    def __str__(self) -> str:
        return f"{self.line}; {self.advice}."

    def __repr__(self) -> str:
        return f"<Finding {self.severity}: {self}>"


class Rule(NamedTuple):
    """One kind of finding."""

    severity: str
    advice: str
    find: Callable[[Evidence], Iterable[tuple[str, str]]]
    """Returns ``what`` and ``evidence`` of each finding; nothing where a column that it needs is missing."""


class _Columns(NamedTuple):
    """What a list of metrics means to the rules, whatever their numbers are."""

    metrics: Mapping[str, Metric]
    """By column."""
    places: Mapping[str, int]
    """The place of each column."""
    cores: int
    """How many CPUs have a column."""
    gpus: Mapping[str, str]
    """The label of each GPU by its place in column names."""
    members: Mapping[str, Mapping[str, str]]
    """By quantity, ``cpu_percent``, the column of each worker, rank or node by its place: ``worker3``."""


# Found anew for each look at a history of a hundred columns, these took a third of its time.
@lru_cache(maxsize=8)
def _columns_of(metrics: tuple[Metric, ...]) -> _Columns:
    names = [metric.name for metric in metrics]
    gpus = [metric.where for metric in metrics if metric.what == "utilization_percent"]
    members: dict[str, dict[str, str]] = {}
    for metric in metrics:
        if _MEMBER.fullmatch(metric.where):
            members.setdefault(metric.what, {})[metric.where] = metric.name
    return _Columns(
        dict(zip(names, metrics, strict=True)),
        {name: place for place, name in enumerate(names)},
        sum(_CORE.fullmatch(name) is not None for name in names),
        {place: place_label(place) for place in gpus if _GPU.fullmatch(place)},
        members,
    )


class Evidence:
    """The newest rows of a history. A number that is missing, or of which there is too little, is NaN.

    Every comparison with NaN is false, so a rule finds nothing where a column does not exist.

    Args:
        metrics: what the columns of ``values`` mean.
        times: seconds on any one clock, one per row.
        seconds: how many seconds each row stands for; see statistics.row_seconds.
        after_gap: whether samples are missing before the row.
        values: of shape (rows, metrics).
        least: the seconds that a mean must be about; with less, a busy import would be a finding.
        over: the seconds before the newest row that a mean is over; by default 30, or five samples.
    """

    def __init__(
        self,
        metrics: Sequence[Metric],
        times: Floats,
        seconds: Floats,
        after_gap: NDArray[np.bool_],
        values: Floats,
        *,
        least: float,
        over: float | None = None,
    ) -> None:
        self._columns = _columns_of(tuple(metrics[: values.shape[1]]))
        self.metrics = self._columns.metrics
        self.times, self.seconds, self.after_gap = times, seconds, after_gap
        self._values, self._least, self._over = values, least, over
        self._places = self._columns.places
        self._peaks: dict[float, list[float]] = {}  # by the number of seconds, of each column

    @cached_property
    def now(self) -> float:
        """The length of the time that mean() is about, in seconds."""
        if self._over is not None:
            return self._over
        usual = median(self.seconds[-_ROWS_OF_NOW:].tolist()) if len(self.seconds) else 0.0
        return max(_NOW, _ROWS_OF_NOW * usual)

    @cached_property
    def cpus(self) -> float:
        """How many CPUs this process may use, a part of one under a quota; NaN if that is not known."""
        own = self.metrics.get("process_cpu_percent")
        if own is not None and own.whole is not None:
            return own.whole
        count = self._columns.cores
        return count if count and "cpu_throttled_percent" not in self.metrics else np.nan

    @cached_property
    def cpus_busy(self) -> float:
        """How many CPUs this process and its children keep busy on average."""
        return self.mean("process_cpu_percent") / 100 * self.cpus

    @property
    def gpus(self) -> Mapping[str, str]:
        """The label of each GPU by its place in column names: ``GPU 0`` by ``gpu0``."""
        return self._columns.gpus

    def members(self, what: str) -> Mapping[str, str]:
        """The column of each worker, rank or node that has this quantity, by its place: ``worker3``."""
        return self._columns.members.get(what, {})

    def newest(self, column: str) -> float:
        """The value in the newest row."""
        place = self._places.get(column)
        return float(self._values[-1, place]) if place is not None and len(self._values) else np.nan

    def mean(self, column: str) -> float:
        """The time-weighted mean over the last ``now`` seconds."""
        place = self._places.get(column)
        return self._means[place] if place is not None else np.nan

    @cached_property
    def _means(self) -> list[float]:
        rows = self._newest_rows(self.now)
        values, seconds = self._values[rows], self.seconds[rows]
        count, covered = _known(values, seconds)
        enough = (count >= _LEAST_VALUES) & (covered >= self._least)
        means: list[float] = np.where(enough, statistics.mean(values, seconds), np.nan).tolist()
        return means

    def peak(self, column: str, seconds: float) -> float:
        """The largest value of the last ``seconds`` seconds; NaN if the rows do not cover that time."""
        place = self._places.get(column)
        if place is None:
            return np.nan
        if seconds not in self._peaks:
            rows = self._newest_rows(seconds)
            values = self._values[rows]
            _, covered = _known(values, self.seconds[rows])
            largest = np.where(covered >= _COVERED * seconds, statistics.maximum(values), np.nan)
            self._peaks[seconds] = largest.tolist()
        return self._peaks[seconds][place]

    def missing(self, seconds: float) -> list[float]:
        """For each gap in the last ``seconds`` seconds, the seconds of which samples are missing."""
        rows = self._newest_rows(seconds)
        lost = (np.diff(self.times, prepend=np.nan) - self.seconds)[rows]
        gaps: list[float] = lost[self.after_gap[rows] & (lost > 0)].tolist()
        return gaps

    def series(self, column: str) -> tuple[Floats, Floats]:
        """The times and values of all rows that have a value."""
        values = self._column(column)
        known = np.isfinite(values)
        return self.times[known], values[known]

    def _column(self, column: str) -> Floats:
        place = self._places.get(column)
        return self._values[:, place] if place is not None else np.full(len(self._values), np.nan)

    def _newest_rows(self, seconds: float) -> slice:
        if not len(self.times):
            return slice(0, 0)
        # By the order of the rows: in a file, times go back where the computer's clock was set.
        earlier = np.flatnonzero(self.times <= self.times[-1] - seconds)
        return slice(int(earlier[-1]) + 1 if len(earlier) else 0, None)


def _known(values: Floats, seconds: Floats) -> tuple[NDArray[np.intp], Floats]:
    """For each column how many rows have a value, and the seconds that these stand for."""
    count, covered = np.full(values.shape[1], len(values)), np.full(values.shape[1], seconds.sum())
    with np.errstate(all="ignore"):  # a user's series may have values near 1e308
        # A sum is NaN where one of its values is. Most columns have them all.
        some = np.flatnonzero(~np.isfinite(seconds @ values))
    known = np.isfinite(values[:, some])
    count[some], covered[some] = known.sum(axis=0), seconds @ known
    return count, covered
