"""What a stretch of history amounts to: summaries, and what each span cost. DataFrame in, DataFrame out.

**Time-weighted** means: a row's value stands for the time since the row before. That is exact for rates and
shares (the collectors measure them over just that time) and close for amounts. The first row, and a row
before which samples are missing (``attrs["gaps"]``), stand for the usual time between two rows: nothing is
known of what lies before. A missing number (NaN) counts neither as a value nor as time.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from perfmon_widgets.metrics import unit_of
from perfmon_widgets.views.text import format_value

if TYPE_CHECKING:
    from numpy.typing import NDArray

STATISTICS = ("now", "mean", "min", "max", "p95")
PER_SPAN = ("mean", "max", "change")


class Report(pd.DataFrame):
    """A table whose numbers are printed for people, with their units; otherwise a DataFrame as any other.

    What is selected or computed from it is a plain DataFrame.
    """

    def formatted(self) -> pd.DataFrame:
        """What is printed: a table of texts, without the column ``unit``; of a long one its ends.

        One row more than pandas prints, so that it says itself that something is left out.
        """
        units: dict[Any, str] = self.attrs["units"]
        table: pd.DataFrame = pd.DataFrame(self)
        most = pd.get_option("display.max_rows")
        if most and len(table) > most:
            table = pd.concat([table.head(most // 2 + 1), table.tail(most // 2)])
        table = table.astype(object)
        for place in range(table.shape[1]):
            column: Any = table.columns[place]
            if column in STATISTICS:
                words = [format_value(value, units[name]) for name, value in table.iloc[:, place].items()]
            elif isinstance(column, tuple) and column[1] in PER_SPAN:
                words = [format_value(value, units[column[0]]) for value in table.iloc[:, place]]
            else:
                continue
            table.isetitem(place, words)
        if table.columns.nlevels == 1:  # else it is a series
            table = table.drop(columns="unit", errors="ignore")
        return table

    def __repr__(self) -> str:
        return self.formatted().to_string(max_rows=pd.get_option("display.max_rows"), max_cols=8)

    def _repr_html_(self) -> str:
        return self.formatted().to_html(max_rows=pd.get_option("display.max_rows"), max_cols=20, border=0)


def summary(history: pd.DataFrame, since: datetime | float | None = None) -> Report:
    """One row per column of a history: ``unit``, then ``now``, ``mean``, ``min``, ``max`` and ``p95``.

    ``now`` is the value in the newest row. ``mean`` and ``p95`` are time-weighted: for 95 % of the time the
    value was at or below ``p95``. ``since``: a time with a zone, or so many seconds before the newest row;
    by default all rows. Takes ``PerformanceMonitor.history`` or what ``read_csv`` returns. Raises ValueError
    for a time without zone and seconds not above 0, TypeError for what is neither.
    """
    part = history if since is None else history[_later(history, since)]
    values = part.to_numpy(dtype=float)
    weights = _seconds(history)[len(history) - len(part) :]
    statistics = [_statistics(values[:, column], weights) for column in range(values.shape[1])]
    table = np.array(statistics, dtype=float).reshape(len(statistics), len(STATISTICS))
    index = pd.Index(history.columns, name="metric")
    report: Report = Report(table, index=index, columns=list(STATISTICS))
    report.attrs["units"] = _units(history)
    report.insert(0, "unit", list(report.attrs["units"].values()))
    return report


def by_span(history: pd.DataFrame, spans: pd.DataFrame) -> Report:
    """What each span cost: one row per row of ``spans``, columns (metric, statistic).

    ``spans`` has the columns ``start`` and ``end`` (no end: up to the newest row). For each metric, ``mean``
    is time-weighted over the part of each row's time that lies in the span, ``max`` is that of the rows in
    the span, ``change`` is the value at its end minus that at its start. The value at the start is that of
    the last row before it (else of the first after it), at the end that of the first row after it (else of
    the newest). NaN where no row's time overlaps the span. Where the computer's time was set back, all rows
    of a time that came twice count.
    """
    times = _unix(history.index)
    values = history.to_numpy(dtype=float)
    since = times - _seconds(history)
    starts = _unix(spans["start"])
    ends = np.where(spans["end"].isna(), times[-1] if len(times) else np.inf, _unix(spans["end"]))
    table = np.full((len(spans), values.shape[1], len(PER_SPAN)), np.nan)
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        table[number] = _cost(times, since, values, start, end)
    columns = pd.MultiIndex.from_product([history.columns, PER_SPAN], names=["metric", "statistic"])
    flat = table.reshape(len(spans), len(columns))
    costs: Report = Report(flat, index=spans.index, columns=columns)
    costs.attrs["units"] = _units(history)
    return costs


def beside(name: str, spans: pd.DataFrame, costs: Report) -> Report:
    """The spans, under ``name``, and what each cost in one table."""
    columns = pd.MultiIndex.from_product([[name], spans.columns], names=costs.columns.names)
    joined: Report = Report(pd.concat([spans.set_axis(columns, axis=1), costs], axis=1))
    joined.attrs = dict(costs.attrs)
    return joined


def _cost(
    times: NDArray[np.float64],
    since: NDArray[np.float64],
    values: NDArray[np.float64],
    start: float,
    end: float,
) -> NDArray[np.float64]:
    """Mean, max and change of every column over one span, of shape (columns, 3)."""
    overlap = np.minimum(times, end) - np.maximum(since, start)
    touched = np.flatnonzero(overlap > 0)
    if not len(touched):
        return np.full((values.shape[1], len(PER_SPAN)), np.nan)
    part, weights, at = values[touched], overlap[touched], times[touched]
    # A row after the end also tells of what came after the span: it counts if most of it is the span's.
    inside = (at <= end) | (weights >= 0.5 * (at - since[touched]))
    largest = _max(part[inside] if inside.any() else part)
    # By the order of the rows, since times are not in order where the computer's time was set back.
    before = max(touched[0] - 1, 0)
    over = touched[at >= end]
    after = over[0] if len(over) else min(touched[-1] + 1, len(times) - 1)
    return np.column_stack([_mean(part, weights), largest, values[after] - values[before]])


def _statistics(values: NDArray[np.float64], weights: NDArray[np.float64]) -> list[float]:
    known = np.isfinite(values)
    if not known.any():
        return [np.nan] * len(STATISTICS)
    now = float(values[-1])
    values, weights = values[known], weights[known]
    order = np.argsort(values)
    share = np.cumsum(weights[order])
    p95 = values[order][np.searchsorted(share, 0.95 * share[-1])]
    return [now, float(np.average(values, weights=weights)), values.min(), values.max(), p95]


def _mean(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    known = np.isfinite(values)
    time = weights @ known
    total = weights @ np.where(known, values, 0.0)
    with np.errstate(invalid="ignore"):
        mean: NDArray[np.float64] = total / time
    return mean


def _max(values: NDArray[np.float64]) -> NDArray[np.float64]:
    largest = np.max(values, axis=0, initial=-np.inf, where=np.isfinite(values))
    return np.where(np.isneginf(largest), np.nan, largest)


def _seconds(history: pd.DataFrame) -> NDArray[np.float64]:
    """How many seconds each row stands for."""
    times = _unix(history.index)
    seconds = np.diff(times, prepend=np.nan)
    seconds[np.isin(times, history.attrs.get("gaps", ()))] = np.nan
    known = seconds > 0  # not where the computer's time was set back
    usual = float(np.median(seconds[known])) if known.any() else 1.0
    return np.where(known, seconds, usual)


def _later(history: pd.DataFrame, since: datetime | float) -> NDArray[np.bool_]:
    if isinstance(since, datetime):
        if since.tzinfo is None:
            raise ValueError(f"since: {since} has no time zone; use for example datetime.now(timezone.utc)")
        begin = pd.Timestamp(since)
    elif isinstance(since, (int, float)) and not isinstance(since, bool):
        if not 0 < since < timedelta.max.total_seconds():
            raise ValueError(f"since: must be a number of seconds greater than 0, not {since}")
        if not len(history):
            return np.zeros(0, dtype=bool)
        begin = history.index[-1] - timedelta(seconds=since)
    else:
        raise TypeError(f"since: must be a time with a zone or a number of seconds, not {since!r}")
    return np.asarray(history.index > begin)


def _unix(times: Any) -> NDArray[np.float64]:
    """Times as Unix seconds."""
    seconds: NDArray[np.float64] = pd.DatetimeIndex(times).as_unit("us").asi8 / 1e6
    return seconds


def _units(history: pd.DataFrame) -> dict[str, str]:
    """The unit of each column: as the monitor declared it, or of a log read back as its name says."""
    declared = history.attrs
    columns = map(str, history.columns)
    return {column: declared[column]["unit"] if column in declared else unit_of(column) for column in columns}
