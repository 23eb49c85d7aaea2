"""Section: one group of metrics, as a chart for each unit and a small table that is their legend."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import ipywidgets
import numpy as np

from perfmon_widgets.metrics import Metric, in_words
from perfmon_widgets.panel.chart import Chart, columns

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

_HEAD = "".join(f'<th scope="col">{name}</th>' for name in ("metric", "now", "mean", "peak"))


class Section(ipywidgets.VBox):
    """The charts of one group's metrics, one per unit, above a table of now, mean and peak."""

    def __init__(self, title: str, metrics: Sequence[Metric], window: float) -> None:
        self._metrics = metrics
        # What is a limit of another metric stands in its table row and as the end of its gauge; a flat line
        # far above would only press the others down.
        limits = {metric.limit for metric in metrics}
        drawn = [metric for metric in metrics if metric.name not in limits]
        units = dict.fromkeys(metric.unit for metric in drawn)
        self.charts = tuple(
            Chart([metric for metric in drawn if metric.unit == unit], title, window) for unit in units
        )
        self._colors = {name: color for chart in self.charts for name, color in chart.colors.items()}
        self._table = ipywidgets.HTML(layout={"max_height": "260px", "overflow": "auto"})
        self._window = window
        super().__init__(
            [
                ipywidgets.HBox(self.charts, layout={"flex_flow": "row wrap", "overflow": "hidden"}),
                self._table,
            ]
        )

    def show(self, history: pd.DataFrame, errors: Mapping[str, str]) -> None:
        """Draw the history up to its newest row, one message per chart and one for the table."""
        newest = history.index[-1]
        for chart in self.charts:
            chart.show(history, newest.timestamp())
        inside = history.index >= newest - np.timedelta64(round(self._window), "s")
        self._table.value = _table(
            self._metrics, columns(history, self._metrics)[inside], self._colors, errors
        )

    def set_window(self, seconds: float) -> None:
        """Show the last ``seconds`` of the history from the next show() on."""
        self._window = seconds
        for chart in self.charts:
            chart.set_window(seconds)


def _table(
    metrics: Sequence[Metric],
    values: NDArray[np.float64],
    colors: Mapping[str, str],
    errors: Mapping[str, str],
) -> str:
    """Now, mean and peak of each metric over the rows given, with the reason where a number is missing."""
    rows = "".join(
        _row(metric, values[:, number], colors.get(metric.name), errors.get(metric.name, ""))
        for number, metric in enumerate(metrics)
    )
    return f'<table class="perfmon-table"><thead><tr>{_HEAD}</tr></thead><tbody>{rows}</tbody></table>'


def _row(metric: Metric, values: NDArray[np.float64], color: str | None, reason: str) -> str:
    known = values[np.isfinite(values)]
    mean, peak = (known.mean(), known.max()) if len(known) else (np.nan, np.nan)
    cells = "".join(f"<td>{in_words(float(value), metric.unit)}</td>" for value in (values[-1], mean, peak))
    swatch = f'<span class="perfmon-swatch" style="background: {color}"></span>' if color else ""
    about = ". ".join(filter(None, [metric.help.rstrip("."), metric.source, reason]))
    name = html.escape(metric.name)
    return f'<tr title="{html.escape(about)}"><th scope="row">{swatch}{name}</th>{cells}</tr>'
