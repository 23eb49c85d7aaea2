"""The legend of the figures of a group: names of lines, and of each column its value now, mean and peak."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from perfmon_widgets.metrics import Metric
from perfmon_widgets.views import statistics
from perfmon_widgets.views.figures import Line
from perfmon_widgets.views.text import format_value

if TYPE_CHECKING:
    from numpy.typing import NDArray


def cells(metrics: Sequence[Metric], shown: statistics.Summary, now: NDArray[np.float64]) -> list[list[str]]:
    """Return now, mean and peak of each metric in words.

    ``shown`` is the summary of the rows that are shown, ``now`` the newest; both with a number per metric.
    """
    peaks = statistics.with_peaks(shown.maximum, [metric.name for metric in metrics])
    columns = (metrics, now.tolist(), shown.mean.tolist(), peaks.tolist())
    return [
        [format_value(value, metric.unit) for value in numbers]
        for metric, *numbers in zip(*columns, strict=True)
    ]


def about(metric: Metric) -> str:
    """Return what the column means and where it comes from, as one text."""
    return ". ".join(filter(None, [metric.help.rstrip("."), metric.source]))


def last_values(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the newest value of each column; that of a recorded series holds until another is recorded."""
    last = np.full(values.shape[1], np.nan)
    for place, column in enumerate(values.T):
        known = column[np.isfinite(column)]
        if len(known):
            last[place] = known[-1]
    return last


def names_of_lines(lines: Sequence[Line]) -> list[tuple[str, Line]]:
    """Return the names of a figure's lines, each with its line; all faint lines share one name, the last."""
    names = [(line.label, line) for line in lines if not line.faint]
    faint = [line for line in lines if line.faint]
    if faint:
        names.append((" … ".join(dict.fromkeys([faint[0].label, faint[-1].label])), faint[0]))
    return names
