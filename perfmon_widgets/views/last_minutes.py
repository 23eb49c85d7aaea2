"""The last samples of a process that has died, in the form in which figures and gauges take samples."""

from __future__ import annotations

import numpy as np

from perfmon_widgets.metrics import Metric, Sample
from perfmon_widgets.views.columns import metrics_of
from perfmon_widgets.views.death import Death
from perfmon_widgets.views.figures import Rows
from perfmon_widgets.views.statistics import row_seconds


def last_minutes(death: Death) -> tuple[list[Metric], Rows]:
    """Return the columns and the rows of the last samples."""
    names = [name for name, _, _ in death.columns]
    times = np.array(death.times, dtype=float)
    values = np.array([death.series[name] for name in names], dtype=float).T.reshape(len(times), len(names))
    gaps = np.full(len(times), False)
    attrs = {name: {"unit": unit, "label": label} for name, unit, label in death.columns}
    columns = {name: at for at, name in enumerate(names)}
    metrics = metrics_of(names, values, attrs)
    return metrics, Rows(columns, times, values, gaps, row_seconds(times, gaps))


def last_sample(death: Death) -> Sample:
    """Return the last sample that was taken."""
    return Sample(death.times[-1], {name: values[-1] for name, values in death.series.items()})
