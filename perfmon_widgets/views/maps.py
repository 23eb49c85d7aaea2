"""The numbers of a map, such as how busy each of many CPUs was: rows are lines, columns are times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from perfmon_widgets.views.figures import Figure, Rows
from perfmon_widgets.views.statistics import means_by_place

if TYPE_CHECKING:
    from numpy.typing import NDArray


def means_of_map(figure: Figure, rows: Rows, start: float, end: float, count: int) -> NDArray[np.float32]:
    """Return the means of each line over ``count`` equal times between start and end (Unix seconds).

    Of shape (lines, count); NaN where there is no value.
    """
    return means_of_columns([line.name for line in figure.lines], rows, start, end, count)


def means_of_columns(
    names: Sequence[str], rows: Rows, start: float, end: float, count: int
) -> NDArray[np.float32]:
    """Return the same for columns, such as those of several maps together; of shape (names, count)."""
    inside = (rows.times > start) & (rows.times <= end)
    place = np.ceil((rows.times[inside] - start) / (end - start) * count).astype(int) - 1
    columns = [rows.columns[name] for name in names]
    # The rows first: a live page asks for the newest times only.
    means = means_by_place(rows.values[inside][:, columns], rows.seconds[inside], place, count)
    is_empty = np.full(count, True)
    is_empty[place] = False
    if is_empty.any():
        _fill(means, np.flatnonzero(is_empty), columns, rows, (start, end))
    drawn: NDArray[np.float32] = means.astype(np.float32).T
    return drawn


def _fill(
    means: NDArray[np.float64],
    empty: NDArray[np.intp],
    columns: Sequence[int],
    rows: Rows,
    ends: tuple[float, float],
) -> None:
    """Fill the times without a row that are part of the time that the next row stands for.

    Not where samples are missing, nor before the first row, of which that time is not known.
    """
    start, end = ends
    usual = 2 * float(np.median(rows.seconds)) if len(rows.seconds) else 0.0
    edges = start + (empty + 1) * (end - start) / len(means)
    order = np.argsort(rows.times, kind="stable")
    later = np.searchsorted(rows.times[order], edges)
    known = (later > 0) & (later < len(order))
    row = order[later[known]]
    covers = rows.times[row] - np.minimum(rows.seconds[row], usual) < edges[known]
    means[empty[known][covers]] = rows.values[row[covers]][:, columns]
