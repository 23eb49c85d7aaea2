"""Summaries of a history, and what each span cost, as tables. DataFrame in, DataFrame out.

The numbers are computed in statistics.py, which says what they mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from perfmon_widgets.metrics import unit_of
from perfmon_widgets.views import statistics
from perfmon_widgets.views.text import format_value

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

STATISTICS = ("now", "mean", "min", "max", "p95")
PER_SPAN = ("mean", "max", "change")


class Report(pd.DataFrame):
    """A DataFrame that prints its numbers with their units.

    Selections from it, and results computed from it, are plain DataFrames.
    """

    def formatted(self) -> pd.DataFrame:
        """The table of texts that is printed, without the column ``unit``; of a long one its two ends.

        It keeps one row more than pandas prints, so that pandas marks where rows are left out.
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
        if table.columns.nlevels == 1:  # with two levels, "unit" is a series of the user's
            table = table.drop(columns="unit", errors="ignore")
        return table

    def __repr__(self) -> str:
        return self.formatted().to_string(max_rows=pd.get_option("display.max_rows"), max_cols=8)

    def _repr_html_(self) -> str:
        return self.formatted().to_html(max_rows=pd.get_option("display.max_rows"), max_cols=20, border=0)


def summary(history: pd.DataFrame, since: datetime | float | None = None) -> Report:
    """One row per column of a history: ``unit``, then ``now``, ``mean``, ``min``, ``max`` and ``p95``.

    ``history`` is ``PerformanceMonitor.history`` or what ``read_csv`` returns. ``since`` is a time with a
    zone, or a number of seconds before the newest row; by default all rows count. ``now`` is the value in
    the newest row. ``mean`` and ``p95`` are time-weighted: for 95 % of the time the value was at or below
    ``p95``. Raises ValueError for a time without zone and for seconds not above 0, TypeError for another
    type.
    """
    seconds = statistics.row_seconds(_unix(history.index), _after_gap(history))
    rows = slice(None) if since is None else _later(history, since)
    values, seconds = history.to_numpy(dtype=float)[rows], seconds[rows]
    known = np.isfinite(values).any(axis=0)
    newest = np.where(known, values[-1], np.nan) if len(values) else np.full(values.shape[1], np.nan)
    table = np.column_stack(
        [
            newest,
            statistics.mean(values, seconds),
            statistics.minimum(values),
            statistics.maximum(values),
            statistics.percentile_95(values, seconds),
        ]
    )
    index = pd.Index(history.columns, name="metric")
    report: Report = Report(table, index=index, columns=list(STATISTICS))
    report.attrs["units"] = _units(history)
    report.insert(0, "unit", list(report.attrs["units"].values()))
    return report


def by_span(history: pd.DataFrame, spans: pd.DataFrame) -> Report:
    """What each span cost: one row per row of ``spans``, columns (metric, statistic).

    ``history`` is ``PerformanceMonitor.history`` or what ``read_csv`` returns. ``spans`` has the columns
    ``start`` and ``end``, and may have ``duration_seconds``; one without an end lasts up to the newest row.
    The statistics are ``mean`` (time-weighted), ``max`` and ``change``; NaN for a span that no row belongs
    to. Which rows belong to a span: see statistics.span_statistics.

    Rows and spans are matched by their times of day. Where the computer's clock was set back, all rows of a
    time that came twice count; where it was set back during a span, only those before that.
    """
    times = _unix(history.index)
    starts = _unix(spans["start"])
    ends = _unix(spans["end"])
    if "duration_seconds" in spans:  # the end is no later than the start if the clock was set back
        ends = np.fmax(ends, starts + spans["duration_seconds"].to_numpy(dtype=float))
    values = history.to_numpy(dtype=float)
    return span_costs(
        times,
        _after_gap(history),
        values,
        starts=starts,
        ends=ends,
        units=_units(history),
        index=spans.index,
    )


def span_costs(
    times: NDArray[np.float64],
    after_gap: NDArray[np.bool_],
    values: NDArray[np.float64],
    *,
    starts: ArrayLike,
    ends: ArrayLike,
    units: Mapping[str, str],
    index: pd.Index[Any],
) -> Report:
    """The table of by_span(), from rows and spans whose times are of any one clock.

    ``units`` has the unit of each column of ``values``. An end that is NaN is that of the newest row.
    """
    seconds = statistics.row_seconds(times, after_gap)
    starts, ends = np.asarray(starts, dtype=float), np.asarray(ends, dtype=float)
    ends = np.where(np.isnan(ends), times[-1] if len(times) else np.nan, ends)
    table = np.full((len(starts), len(units), len(PER_SPAN)), np.nan)
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        table[number] = statistics.span_statistics(times, seconds, values, start, end)
    columns = pd.MultiIndex.from_product([list(units), PER_SPAN], names=["metric", "statistic"])
    costs: Report = Report(table.reshape(len(starts), len(columns)), index=index, columns=columns)
    costs.attrs["units"] = dict(units)
    return costs


def join_costs(name: str, spans: pd.DataFrame, costs: Report) -> Report:
    """One table of the spans, whose columns come first and under ``name``, and of what each cost."""
    columns = pd.MultiIndex.from_product([[name], spans.columns], names=costs.columns.names)
    joined: Report = Report(pd.concat([spans.set_axis(columns, axis=1), costs], axis=1))
    joined.attrs = dict(costs.attrs)
    return joined


def _after_gap(history: pd.DataFrame) -> NDArray[np.bool_]:
    """For each row, whether samples are missing before it; a history read from a file does not say."""
    return np.isin(_unix(history.index), history.attrs.get("gaps", ()))


def _later(history: pd.DataFrame, since: datetime | float) -> NDArray[np.bool_]:
    """For each row, whether it was taken after ``since``."""
    if isinstance(since, datetime):
        if since.tzinfo is None:
            raise ValueError(f"since: {since} has no time zone; use for example datetime.now(timezone.utc)")
        begin = pd.Timestamp(since)
    elif isinstance(since, (int, float)) and not isinstance(since, bool):
        if not 0 < since < timedelta.max.total_seconds():
            raise ValueError(f"since: must be a number of seconds greater than 0, not {since}")
        if not len(history):
            return np.zeros(0, dtype=bool)
        newest = history.index[-1]
        # Rows of a later time were taken before the computer's clock was set back.
        return np.asarray((history.index > newest - timedelta(seconds=since)) & (history.index <= newest))
    else:
        raise TypeError(f"since: must be a time with a zone or a number of seconds, not {since!r}")
    return np.asarray(history.index > begin)


def _unix(times: Any) -> NDArray[np.float64]:
    """Times as Unix seconds; NaN for none."""
    index = pd.DatetimeIndex(times).as_unit("us")
    return np.where(index.isna(), np.nan, index.asi8 / 1e6)


def _units(history: pd.DataFrame) -> dict[str, str]:
    """The unit of each column, as the monitor declared it; of a file read back, as its name ends."""
    declared = history.attrs
    columns = map(str, history.columns)
    return {column: declared[column]["unit"] if column in declared else unit_of(column) for column in columns}
