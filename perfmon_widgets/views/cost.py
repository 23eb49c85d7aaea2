"""What a cell or span cost, in one line of words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from perfmon_widgets.metrics import Metric
from perfmon_widgets.views.figures import Rows
from perfmon_widgets.views.headline import headline_of_cells
from perfmon_widgets.views.statistics import span_statistics
from perfmon_widgets.views.stretches import Named
from perfmon_widgets.views.text import format_change, format_duration, format_value

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_LONGEST = 60  # characters of a name


class Timed(Named, Protocol):
    """A span whose length was measured."""

    @property
    def seconds(self) -> float:
        """How long it lasted on the monotonic clock; NaN while it goes on."""


def cost_in_words(span: Timed, rows: Rows, metrics: Sequence[Metric]) -> str:
    """Return ``[7] model.fit(images) · 3.2 s · CPU 43% · RAM +1.2 GiB`` for a cell or span that has ended.

    CPU and GPUs are the mean, memory is the change, as statistics.span_statistics() has them; rows are found
    by their time of day. A number that is missing is left out: no row belongs to a short cell, and of one
    that began before the oldest row the beginning is unknown. What goes on, and a mark, has its name alone.
    """
    words = [name_in_words(span)]
    if span.kind != "mark" and math.isfinite(span.seconds):
        words += [format_duration(span.seconds), *_costs(span, rows, metrics)]
    return " · ".join(words)


def name_in_words(span: Named) -> str:
    """Return the name of a cell with its number, or of a span or mark, on one line."""
    count = f"[{span.execution_count}]" if span.kind == "cell" and span.execution_count is not None else ""
    name = " ".join([count, *span.name.split()]).strip()
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"


def _costs(span: Timed, rows: Rows, metrics: Sequence[Metric]) -> list[str]:
    if not len(rows.times) or span.start < rows.times[0] - rows.seconds[0]:
        return []
    shown = [metric for metric in headline_of_cells(metrics) if metric.name in rows.columns]
    values: NDArray[np.float64] = rows.of([metric.name for metric in shown])
    table = span_statistics(rows.times, rows.seconds, values, span.start, span.start + span.seconds)
    words = []
    for metric, (mean, _, change) in zip(shown, table.tolist(), strict=True):
        amount = (
            format_value(mean, "percent") if metric.unit == "percent" else format_change(change, metric.unit)
        )
        if math.isfinite(mean if metric.unit == "percent" else change):
            words.append(f"{metric.label.removesuffix(' of this process')} {amount}")
    return words
