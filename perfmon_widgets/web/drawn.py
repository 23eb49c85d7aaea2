"""The open sections in numbers: figures and tables, which page_figures.js and page_table.js draw."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from itertools import compress, islice
from typing import Any

from perfmon_widgets.metrics import RECORDED
from perfmon_widgets.views.figures import Rows
from perfmon_widgets.views.grid import lagging
from perfmon_widgets.views.legend import cells, last_values
from perfmon_widgets.views.local_time import ticks, zone_name
from perfmon_widgets.views.palette import MAP_COLORS
from perfmon_widgets.views.points import Grid, Points, grid_of, in_json
from perfmon_widgets.views.statistics import Summary, summary
from perfmon_widgets.views.stretches import LOOKS, Named, Stretch, edges, names, stretches
from perfmon_widgets.web.asked import Asked
from perfmon_widgets.web.outline import Outline, drawn, frame

# Pixels beside the lines of a figure, as in page_figures.js, and those of a letter, about.
_BESIDE, _LETTER = 68, 6.2


def sections(
    outline: Outline,
    every: Rows,
    errors: Mapping[str, str],
    spans: Sequence[Named],
    asked: Asked,
    *,
    whose: object,
) -> dict[str, Any]:
    """Return the sections as they are sent, the open ones with figures and a table, and their time axis.

    ``every``: rows of all columns, at least those that are shown. ``whose``: differs between monitors.
    ``have`` of the result is a digest of what a page needs to be sent only once. If the page sends it back
    unchanged, all of that is left out, and of the points only the new ones are sent.
    """
    now = float(every.times[-1])
    rows = every.between(now - asked.window, now)
    opened = [group for group in outline.groups if group in asked.open]
    # Of all columns, since to select some copies the rows.
    shown = summary(rows.values, rows.seconds)
    known = set(compress(rows.columns, shown.known))
    figures = [(group, figure) for group in opened for figure in drawn(outline.figures[group], known)]
    grid = grid_of(rows, [figure for _, figure in figures], asked.window)
    unknown = [metric.name for metric in outline.of(opened) if metric.name not in known]
    have = _digest(whose, outline.digest, opened, unknown, grid.per_second, grid.column)
    is_same = asked.since is not None and have == asked.have
    since = asked.since if is_same and asked.since is not None else -math.inf
    points = Points(rows, grid, since, shown)
    sent: dict[str, list[dict[str, Any]]] = {group: [] for group in opened}
    numbers = in_json([figure for _, figure in figures], points)
    for (group, figure), each in zip(figures, numbers, strict=True):
        sent[group].append(each if is_same else each | frame(figure))
    with_lags = not is_same or asked.is_time_for_findings(now)
    tables = _tables(outline, opened, rows, shown, errors, with_lags=with_lags)
    titles = outline.titles
    for section in titles:
        group = section["group"]
        if group in sent:
            section.update(figures=sent[group], table=tables[group])
            section.update({} if is_same else outline.table(group))
    return {
        "have": have,
        "sections": titles,
        "axis": _axis(grid, points, asked.width) | ({} if is_same else {"colors": MAP_COLORS}),
        "behind": _behind(stretches(spans, grid.start, grid.end), grid, asked.width),
    }


def _digest(*parts: object) -> str:
    return hashlib.blake2b(repr(parts).encode(), digest_size=8).hexdigest()


def _axis(grid: Grid, points: Points, width: int) -> dict[str, Any]:
    """The time axis of all figures: its ends, round times in the reader's zone, and where the points lie."""
    zone = zone_name(grid.end)
    return {
        "start": grid.start,
        "end": grid.end,
        "ticks": ticks(grid.start, grid.end, width - _BESIDE, free=_LETTER * len(zone)),
        "zone": zone,
        "from": points.start,
        "times": points.times,
        "column": points.column,
        "seconds": grid.column,
    }


def _behind(members: Sequence[Stretch], grid: Grid, width: int) -> dict[str, Any]:
    """The cells, spans and marks behind the lines of all figures, by layer, and their names."""
    pixel = (grid.end - grid.start) / (width - _BESIDE)
    layers = []
    for layer, look in LOOKS.items():
        at = [(max(start, grid.start), min(end, grid.end)) for start, end in edges(members, layer, pixel)]
        if at:
            layers.append(
                {
                    "color": look.color,
                    "edge": look.edge,
                    "inside": look.inside,
                    "bottom": max(look.bottom, 0.0),
                    "top": min(look.top, 1.0),
                    "at": at,
                }
            )
    return {"layers": layers, "names": names(members, grid.start, grid.end, _LETTER * pixel)}


def _tables(
    outline: Outline,
    opened: Sequence[str],
    rows: Rows,
    shown: Summary,
    errors: Mapping[str, str],
    *,
    with_lags: bool,
) -> dict[str, dict[str, Any]]:
    """For each open section now, mean and peak of each column in words, why some are missing, who lags."""
    metrics = outline.of(opened)
    places = [rows.columns[metric.name] for metric in metrics]
    newest = rows.values[-1, places]
    held = [place for place, metric in enumerate(metrics) if metric.group == RECORDED]
    if held:
        newest[held] = last_values(rows.values[:, [places[place] for place in held]])
    # All sections together, since most of the time is taken by the number of calls.
    texts = iter(cells(metrics, Summary(*(each[places] for each in shown)), newest))
    found = {}
    for group in opened:
        members = outline.groups[group]
        table: dict[str, Any] = {
            "cells": [*islice(texts, len(members))],
            "reasons": {each.name: errors[each.name] for each in members if each.name in errors},
        }
        if with_lags and group in outline.busy:
            table["lags"] = lagging(outline.metrics, rows, outline.busy[group])
        found[group] = table
    return found
