"""Summaries of a history, and what each span cost, as tables. DataFrame in, DataFrame out.

The numbers are computed in statistics.py, which says what they mean; table.py prints them with their units.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from perfmon_widgets.metrics import unit_of
from perfmon_widgets.views import statistics
from perfmon_widgets.views.table import METRIC, PER_SPAN, STATISTICS, Origin, Report, Rows

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_DURATIONS = ("duration_seconds", "cpu_seconds")
_NAMES = ("source", "name")
_FIRST = (*_NAMES, *_DURATIONS, "raised")


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
    mean, smallest, largest = statistics.summary(values, seconds)
    table = np.column_stack(
        [
            newest,
            mean,
            smallest,
            statistics.with_peaks(largest, list(history.columns)),
            statistics.percentile_95(values, seconds),
        ]
    )
    units = _units(history)
    report: Report = Report(table, index=pd.Index(history.columns, name=METRIC), columns=list(STATISTICS))
    report.insert(0, "unit", list(units.values()))
    report.attrs["units"] = units
    report._origin = Origin(units, dict(zip(units, table, strict=True)))
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
    most = PER_SPAN.index("max")
    table[..., most] = statistics.with_peaks(table[..., most], list(units))
    columns = pd.MultiIndex.from_product([list(units), PER_SPAN], names=[METRIC, "statistic"])
    costs: Report = Report(table.reshape(len(starts), len(columns)), index=index, columns=columns)
    costs.attrs["units"] = dict(units)
    numbers: dict[Hashable, NDArray[np.float64]] = {name: table[:, place] for place, name in enumerate(units)}
    costs._origin = Origin(dict(units), numbers)
    return costs


def join_costs(name: str, spans: pd.DataFrame, costs: Report) -> Report:
    """One table of the spans, whose columns come first and under ``name``, and of what each cost.

    Of the spans' columns, those that say what a span was and how long it took come before the others.
    """
    first = [column for column in _FIRST if column in spans]
    spans = spans[[*first, *spans.columns.drop(first)]]
    columns = pd.MultiIndex.from_product([[name], spans.columns], names=costs.columns.names)
    joined: Report = Report(pd.concat([spans.set_axis(columns, axis=1), pd.DataFrame(costs)], axis=1))
    joined.attrs = dict(costs.attrs)
    origin = costs._origin
    assert origin is not None  # noqa: S101 - for the type checker
    durations: dict[Hashable, NDArray[np.float64]] = {
        (name, each): spans[each].to_numpy() for each in _DURATIONS if each in spans
    }
    names = next((spans[each].tolist() for each in _NAMES if each in spans), [""] * len(spans))
    joined._origin = Origin(origin.units, {**origin.numbers, **durations}, Rows(name, spans.index, names))
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
