"""Made histories: rows of chosen columns, as a monitor would have stored them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from perfmon_widgets.metrics import Metric, unit_of
from perfmon_widgets.views.columns import group_of
from perfmon_widgets.views.evidence import Finding
from perfmon_widgets.views.findings import findings

Column = float | Callable[[NDArray[np.float64]], NDArray[np.float64]]
GIB = 2.0**30

CORES = {f"core{number}/cpu_percent": 10.0 for number in range(8)}
"""The columns of eight CPUs."""


def metrics_of(names: Sequence[str]) -> list[Metric]:
    return [Metric(name, unit_of(name), group_of(name), "") for name in names]


def found(
    columns: dict[str, Column],
    *,
    seconds: float = 120.0,
    interval: float = 5.0,
    times: NDArray[np.float64] | None = None,
    after_gap: NDArray[np.bool_] | None = None,
    cpus: float | None = None,
) -> list[Finding]:
    """The findings in a history of these columns: each a number, or a function of the times.

    ``cpus`` are those that a ``process_cpu_percent`` is of, if that is known.
    """
    if times is None:
        times = np.arange(0.0, seconds, interval)
    values = np.column_stack(
        [column(times) if callable(column) else np.full(len(times), column) for column in columns.values()]
    )
    gaps = np.zeros(len(times), dtype=bool) if after_gap is None else after_gap
    metrics = [
        replace(metric, whole=cpus) if metric.name == "process_cpu_percent" else metric
        for metric in metrics_of(list(columns))
    ]
    return findings(metrics, times, gaps, values)
