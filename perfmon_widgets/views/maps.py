"""The numbers of a map, such as how busy each of many CPUs was: rows are lines, columns are times."""

from __future__ import annotations

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
    inside = (rows.times > start) & (rows.times <= end)
    place = np.ceil((rows.times[inside] - start) / (end - start) * count).astype(int) - 1
    values = rows.of([line.name for line in figure.lines])[inside]
    means = means_by_place(values, rows.seconds[inside], place, count).astype(np.float32).T
    return _joined(means, place)


def _joined(means: NDArray[np.float32], place: NDArray[np.int64]) -> NDArray[np.float32]:
    """Fill empty columns between samples, where columns are narrow: with the value of the next sample."""
    filled = np.unique(place)
    if len(filled) < 2:
        return means
    step = round(float(np.median(np.diff(filled))))
    joined: NDArray[np.float32] = means.copy()
    for ago in range(1, step):
        shifted = np.full_like(means, np.nan)
        shifted[:, :-ago] = means[:, ago:]
        missing = np.isnan(joined)
        joined[missing] = shifted[missing]
    return joined
