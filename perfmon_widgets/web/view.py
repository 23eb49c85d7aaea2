"""What the live page shows at a moment, as JSON: gauges, findings, figures and tables in numbers, the log.

Loads numpy. A Jupyter server imports this only to show the last minutes of a kernel that has died.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from perfmon_widgets.core.protocol import findings_of, newest_rows_of
from perfmon_widgets.metrics import Metric, Sample
from perfmon_widgets.views.death import Death
from perfmon_widgets.views.figures import Rows
from perfmon_widgets.views.findings import pressing
from perfmon_widgets.views.gauges import readings
from perfmon_widgets.views.last_minutes import last_minutes, last_sample
from perfmon_widgets.views.sent import sent
from perfmon_widgets.views.statistics import row_seconds
from perfmon_widgets.views.stretches import MAX_STRETCHES
from perfmon_widgets.views.windows import windows
from perfmon_widgets.web import api
from perfmon_widgets.web.asked import Asked
from perfmon_widgets.web.drawn import sections
from perfmon_widgets.web.outline import Outline, outline
from perfmon_widgets.web.request import Request, Response, json_response, time_text

if TYPE_CHECKING:
    from perfmon_widgets.core.protocol import Monitor

# How often the page asks whether a kernel that has died was started again, in seconds.
_INTERVAL_OF_DEAD = 5.0


def view(monitor: Monitor, request: Request) -> Response:
    """Return what the page shows of a monitor.

    The query: ``window`` in seconds; ``width`` of a figure in pixels; ``open``, the groups whose figures are
    shown (their names, each percent-encoded, with commas in between), by default the first two; ``since`` and
    ``have``, the ``newest`` and the ``have`` of the last answer; ``zone`` and ``minutes``, the time zone of
    the reader and its difference to UTC. If there is no newer sample, figures and tables are left out. If the
    figures are those of the last answer, only their new points are sent.
    """
    metrics = tuple(monitor.metrics)
    shown = outline(metrics)
    asked = Asked(request, shown.groups, windows(monitor.window))
    with asked.reader:
        return json_response(_content(monitor, metrics, shown, asked))


def _content(monitor: Monitor, metrics: tuple[Metric, ...], shown: Outline, asked: Asked) -> dict[str, Any]:
    sample, running, errors = monitor.latest, monitor.running, monitor.errors
    content: dict[str, Any] = {
        **_gauges(metrics, sample, errors, monitor.interval, running=running),
        **asked.choices,
        "log": api.log_state(monitor),
    }
    if sample is None:
        content["sections"] = shown.titles
    elif not asked.has(sample.time):
        if running and asked.is_time_for_findings(sample.time):
            content["verdict"] = _verdict(monitor)
        rows = _rows_of(monitor, asked.window, metrics)
        if len(rows.columns) != len(metrics):  # columns that are still to be added stand behind the others
            shown = outline(metrics[: len(rows.columns)])
        spans = monitor.newest_spans(MAX_STRETCHES)
        content |= sections(shown, rows, errors, spans, asked, whose=(os.getpid(), id(monitor)))
    return content


def view_of_death(death: Death, request: Request) -> Response:
    """Return what the page shows of a Jupyter kernel that has died: its last minutes and what it died of."""
    listed, rows = last_minutes(death)
    metrics = tuple(listed)
    asked = Asked(request, outline(metrics).groups, windows(math.inf))
    asked.since = None  # it may be of the living kernel
    sample = last_sample(death)
    with asked.reader:
        content = {
            **_gauges(metrics, sample, {}, _INTERVAL_OF_DEAD, running=False),
            **asked.choices,
            "death": str(death),
        }
        return json_response(content | sections(outline(metrics), rows, {}, [], asked, whose="death"))


def _gauges(
    metrics: tuple[Metric, ...],
    sample: Sample | None,
    errors: Mapping[str, str],
    interval: float,
    *,
    running: bool,
) -> dict[str, Any]:
    return {
        **sent(readings(metrics, sample, errors), sample, interval, running=running),
        "newest": None if sample is None else time_text(sample.time),
    }


def _rows_of(monitor: Monitor, seconds: float, metrics: Sequence[Metric]) -> Rows:
    """Return the newest rows of these metrics; not as a DataFrame, for which pandas would be loaded."""
    stamps, gaps, values = newest_rows_of(monitor, seconds)
    times = stamps.astype("datetime64[us]").astype("int64") / 1e6
    values = values[:, : len(metrics)]
    columns = {metric.name: at for at, metric in enumerate(metrics[: values.shape[1]])}
    return Rows(columns, times, values, gaps, row_seconds(times, gaps))


def _verdict(monitor: Monitor) -> dict[str, str] | None:
    finding = pressing(findings_of(monitor))
    return None if finding is None else api.finding_in_json(finding)
