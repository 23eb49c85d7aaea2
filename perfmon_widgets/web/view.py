"""What the live page shows at a moment, as JSON: gauges, findings, figures as SVG, tables, the log's state.

Loads numpy. A Jupyter server imports this only to show the last minutes of a kernel that has died.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import timezone
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from perfmon_widgets.core.protocol import findings_of, newest_rows_of
from perfmon_widgets.metrics import RECORDED, Metric
from perfmon_widgets.views.columns import groups, title_of
from perfmon_widgets.views.death import Death
from perfmon_widgets.views.figures import Figure, Rows, fill, section, shown_seconds
from perfmon_widgets.views.findings import pressing
from perfmon_widgets.views.gauges import readings
from perfmon_widgets.views.last_minutes import last_minutes, last_sample
from perfmon_widgets.views.legend import about, cells, last_values
from perfmon_widgets.views.local_time import reader
from perfmon_widgets.views.maps import means_of_map
from perfmon_widgets.views.sent import sent
from perfmon_widgets.views.statistics import row_seconds
from perfmon_widgets.views.stretches import MAX_STRETCHES, Named, Stretch, stretches
from perfmon_widgets.views.svg import map_picture, picture
from perfmon_widgets.views.windows import window_in_words, windows
from perfmon_widgets.web import api
from perfmon_widgets.web.request import Refusal, Request, Response, json_response, read_since, time_text

if TYPE_CHECKING:
    from perfmon_widgets.core.protocol import Monitor

# Points of a line, and of all lines together: each takes 11 bytes of every refresh.
_POINTS, _LEAST_POINTS, _ALL_POINTS = 60, 24, 1000
# Columns of a map, fewer where there are many rows.
_COLUMNS, _LEAST_COLUMNS, _CELLS = 60, 24, 1500
# Names in the description of a picture for those who cannot see it. The table has all of them.
_NAMES = 8
# How many sections are open where the page does not say which.
_OPEN_AT_FIRST = 2
# The width of a figure, in pixels.
_NARROWEST, _WIDEST = 280, 1000
# Seconds between two searches for findings: one takes up to a millisecond.
_FIND_EVERY = 5.0

# How often the page asks whether a kernel that has died was started again, in seconds.
_INTERVAL_OF_DEAD = 5.0
# Seconds by which a time in whole microseconds may differ from that of its sample.
_ROUNDED = 1e-6


def view(monitor: Monitor, request: Request) -> Response:
    """Return what the page shows of a monitor.

    The query: ``window`` in seconds; ``width`` of a figure in pixels; ``open``, the groups whose figures are
    shown (their names, each percent-encoded, with commas in between), by default the first two; ``since`` and
    ``columns``, the newest sample and the digest of the columns that the page has already; ``zone`` and
    ``minutes``, the time zone of the reader and its difference to UTC. If there is no newer
    sample, figures and tables are left out; if the columns are the same, what does not change is left out:
    the rows of the tables without their numbers.
    """
    metrics = tuple(monitor.metrics)
    asked = _Asked(request, metrics, windows(monitor.window))
    with asked.reader:
        return json_response(_content(monitor, metrics, asked))


def _content(monitor: Monitor, metrics: tuple[Metric, ...], asked: _Asked) -> dict[str, Any]:
    sample, running, errors = monitor.latest, monitor.running, monitor.errors
    found = readings(metrics, sample, errors)
    content: dict[str, Any] = {
        **sent(found, sample, monitor.interval, running=running),
        "newest": None if sample is None else time_text(sample.time),
        "state": "live" if running else "stopped",  # the page shows its last picture of a stopped monitor
        **asked.choices,
        "columns": _digest(metrics),
        "log": api.log_state(monitor),
    }
    if sample is None:
        content["sections"] = _titles(metrics)
    elif asked.since is None or sample.time > asked.since + _ROUNDED:
        if running and asked.is_time_for_findings(sample.time):
            content["verdict"] = _verdict(monitor)
        rows = _rows_of(monitor, asked.window)
        spans = monitor.newest_spans(MAX_STRETCHES)
        content["sections"] = _sections(metrics[: len(rows.columns)], rows, errors, spans, asked)
    return content


def view_of_death(death: Death, request: Request) -> Response:
    """Return what the page shows of a Jupyter kernel that has died: its last minutes and what it died of."""
    metrics, rows = last_minutes(death)
    asked = _Asked(request, metrics, windows(math.inf))
    sample = last_sample(death)
    with asked.reader:
        return json_response(
            {
                **sent(readings(metrics, sample, {}), sample, _INTERVAL_OF_DEAD, running=False),
                "newest": time_text(sample.time),
                "state": "stopped",
                "death": str(death),
                **asked.choices,
                "columns": _digest(tuple(metrics)),
                "sections": _sections(metrics, rows, {}, [], asked),
            }
        )


class _Asked:
    """What a request asks for; raises Refusal, naming the field, for a wrong value."""

    def __init__(self, request: Request, metrics: Sequence[Metric], offered: Sequence[float]) -> None:
        query = request.query
        self.window = _number("window", query.get("window", "inf"), infinite=True)
        if not self.window > 0:
            raise Refusal(400, "window: must be a number of seconds greater than 0")
        self.window = min(self.window, offered[-1])
        names = query["open"].split(",") if "open" in query else [*groups(metrics)][:_OPEN_AT_FIRST]
        self.open = {unquote(name) for name in names}
        width = _number("width", query.get("width", "720"), infinite=True)
        self.width = int(min(max(width, _NARROWEST), _WIDEST))
        minutes = _number("minutes", query.get("minutes", "0"))
        self.reader: AbstractContextManager[None] = nullcontext()
        if "zone" in query:  # figures have the times of the person who looks at them
            self.reader = reader(query["zone"], minutes)
        since = read_since(query)
        is_new = query.get("columns") != _digest(tuple(metrics))
        self.since = None if since is None or is_new else since.replace(tzinfo=timezone.utc).timestamp()
        self.choices = {
            "window": self.window,
            "windows": [{"seconds": each, "words": window_in_words(each)} for each in offered],
        }

    def is_time_for_findings(self, time: float) -> bool:
        """Whether five seconds of the clock have ended between what the page has and this time."""
        return self.since is None or time // _FIND_EVERY != self.since // _FIND_EVERY


def _number(field: str, text: str, *, infinite: bool = False) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if math.isnan(number) or (math.isinf(number) and not infinite):
        raise Refusal(400, f"{field}: must be a number")
    return number


# Changes when columns are added, and differs where another monitor answers: after a restart, for example.
@lru_cache(maxsize=4)
def _digest(metrics: tuple[Metric, ...]) -> str:
    """Return a digest of all that the page keeps of columns: names, groups, and what tables say of them."""
    kept = [(metric.name, metric.group, metric.label, about(metric)) for metric in metrics]
    return hashlib.blake2b(repr(kept).encode(), digest_size=8).hexdigest()


def _rows_of(monitor: Monitor, seconds: float) -> Rows:
    """Return the newest rows of a monitor; not as a DataFrame, for which pandas would be loaded."""
    stamps, gaps, values = newest_rows_of(monitor, seconds)
    times = stamps.astype("datetime64[us]").astype("int64") / 1e6
    names = [metric.name for metric in monitor.metrics][: values.shape[1]]
    columns = {name: at for at, name in enumerate(names)}
    return Rows(columns, times, values, gaps, row_seconds(times, gaps))


def _verdict(monitor: Monitor) -> dict[str, str] | None:
    finding = pressing(findings_of(monitor))
    return None if finding is None else api.finding_in_json(finding)


def _titles(metrics: Sequence[Metric]) -> list[dict[str, Any]]:
    return [{"group": group, "title": title_of(group)} for group in groups(metrics)]


def _sections(
    metrics: Sequence[Metric],
    rows: Rows,
    errors: Mapping[str, str],
    spans: Sequence[Named],
    asked: _Asked,
) -> list[dict[str, Any]]:
    """Return the sections of all groups: the open ones with figures and a table."""
    end = float(rows.times[-1])
    rows = rows.between(end - asked.window, end)
    start = end - shown_seconds(end - float(rows.times.min()), asked.window)
    behind = stretches(spans, start, end)
    all_figures = _figures_of(tuple(metrics))
    figures = {group: drawn for group, drawn in all_figures.items() if group in asked.open}
    known = rows.known()
    lines = sum(len(figure.lines) for drawn in figures.values() for figure in drawn if not figure.is_map)
    points = min(_POINTS, max(_LEAST_POINTS, _ALL_POINTS // max(lines, 1)))
    shown = _titles(metrics)
    for each in shown:
        group = each["group"]
        if group in figures:
            of_group = [metric for metric in metrics if metric.group == group]
            each["figures"] = [
                _drawn(figure, rows, (start, end), behind, points=points, width=asked.width)
                for figure in (empty.only(known) for empty in figures[group])
                if figure.lines
            ]
            each["table"] = _table(of_group, rows, errors)
            if asked.since is None:
                each["rows"] = _legend(of_group, figures[group])
    return shown


# The figures of a monitor change when columns are added; to find them takes as long as to draw them.
@lru_cache(maxsize=4)
def _figures_of(metrics: tuple[Metric, ...]) -> dict[str, list[Figure]]:
    """Return the figures of each group, without numbers."""
    return {group: section(group, metrics) for group in groups(metrics)}


def _drawn(
    figure: Figure,
    rows: Rows,
    ends: tuple[float, float],
    behind: Sequence[Stretch],
    *,
    points: int,
    width: int,
) -> dict[str, str]:
    """Return a figure as SVG, with its description in words."""
    names = [line.label for line in figure.lines]
    rest = len(names) - _NAMES
    words = ", ".join(names[:_NAMES]) + (f" and {rest} more" if rest > 0 else "")
    if figure.is_map:
        count = min(_COLUMNS, max(_LEAST_COLUMNS, _CELLS // len(names)))
        svg = map_picture(figure, means_of_map(figure, rows, *ends, count), *ends, width)
    else:
        filled = fill(figure, rows, points=points, seconds=ends[1] - ends[0])
        svg = picture([filled], *ends, behind, width)
    return {"svg": svg, "words": f"{figure.title} over time: {words}"}


def _table(metrics: Sequence[Metric], rows: Rows, errors: Mapping[str, str]) -> dict[str, Any]:
    """Return now, mean and peak of each column in words, and why numbers are missing."""
    values = rows.of([metric.name for metric in metrics])
    newest = last_values(values) if metrics[0].group == RECORDED else values[-1]
    reasons = {metric.name: errors[metric.name] for metric in metrics if metric.name in errors}
    return {"cells": cells(metrics, values, rows.seconds, newest), "reasons": reasons}


def _legend(metrics: Sequence[Metric], figures: Collection[Figure]) -> list[dict[str, str]]:
    """Return the rows of a table without their numbers: what they are about, and how their lines look."""
    lines = {line.name: line for figure in figures if not figure.is_map for line in figure.lines}
    shown = []
    for metric in metrics:
        row = {"name": metric.name, "label": metric.label, "about": about(metric)}
        if metric.name in lines:
            row |= {"color": lines[metric.name].color, "dash": lines[metric.name].dash}
        shown.append(row)
    return shown
