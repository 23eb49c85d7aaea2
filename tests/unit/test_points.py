"""Figures in numbers: what a page has after each answer is what an answer with everything would give it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from perfmon_widgets.metrics import RECORDED, Metric
from perfmon_widgets.views.figures import Figure, Rows, fill, section
from perfmon_widgets.views.palette import MAP_COLORS
from perfmon_widgets.views.points import Grid, Points, grid_of, in_json
from perfmon_widgets.views.statistics import row_seconds, summary

START = 1_800_000_000.0
METRICS = [
    Metric("cpu_percent", "percent", "cpu", ""),
    *(Metric(f"core{core}/cpu_percent", "percent", "cpu", "", role="part") for core in range(10)),
    Metric("ram_used_bytes", "bytes", "memory", ""),
    Metric("loss", "", RECORDED, ""),
]
FIGURES = [figure for group in ("cpu", "memory", RECORDED) for figure in section(group, METRICS)]


def history(seconds: float, count: int, seed: int = 0) -> Rows:
    """Rows at uneven times, with gaps and missing values."""
    random = np.random.default_rng(seed)
    times = START + np.cumsum(seconds * random.uniform(0.6, 1.4, count))
    values = random.uniform(0, 100, (count, len(METRICS)))
    values[:, -2] *= 1e8
    values[random.uniform(size=values.shape) < 0.05] = np.nan
    values[random.uniform(size=count) < 0.7, -1] = np.nan
    gaps = random.uniform(size=count) < 0.03
    times[gaps] += 0.3 * seconds
    columns = {metric.name: at for at, metric in enumerate(METRICS)}
    return Rows(columns, times, values, gaps, row_seconds(times, gaps))


def until(rows: Rows, count: int, window: float) -> Rows:
    """What is shown when so many rows have been taken."""
    end = float(rows.times[count - 1])
    first = Rows(rows.columns, *(each[:count] for each in rows[1:]))
    return first.between(end - window, end)


def points_of(rows: Rows, grid: Grid, since: float = -math.inf) -> Points:
    return Points(rows, grid, since, summary(rows.values, rows.seconds))


class Page:
    """Keeps points as page_figures.js does."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.values: list[list[list[float]]] = []
        self.maps: list[dict[int, str]] = []

    def take(self, points: Points, figures: list[dict[str, Any]], start: float, seconds: float) -> None:
        kept = [at for at, time in enumerate(self.times) if time < points.start]
        gone = max([0, *(at for at, time in enumerate(self.times) if time < start)])
        old = slice(gone, len(kept))
        self.times = self.times[old] + points.times
        lines = [
            [[float(each) for each in text.split(",")] for text in each.get("values", [])] for each in figures
        ]
        before = self.values or [[[] for _ in each] for each in lines]
        self.values = [
            [line[old] + new for line, new in zip(*pair, strict=True)]
            for pair in zip(before, lines, strict=True)
        ]
        columns = [
            {points.column + at: text for at, text in enumerate(each.get("columns", []))} for each in figures
        ]
        self.maps = [
            {
                number: text
                for number, text in one.items()
                if number < points.column and (number + 1) * seconds >= start
            }
            | other
            for one, other in zip(self.maps or [{} for _ in figures], columns, strict=True)
        ]

    def shown(self, start: float, seconds: float) -> list[Any]:
        """The points and the columns of maps from a time on."""
        seen = [at for at, time in enumerate(self.times) if time >= start]
        values = [[[line[at] for at in seen] for line in each] for each in self.values]
        maps = [{at: text for at, text in each.items() if at * seconds >= start} for each in self.maps]
        return [[self.times[at] for at in seen], str(values), maps]


@pytest.mark.parametrize(
    ("seconds", "window"),
    [(0.1, 60.0), (1.0, 60.0), (1.0, 600.0), (5.0, 600.0), (20.0, 600.0), (30.0, 86_400.0)],
)
@pytest.mark.parametrize("step", [1, 7])
def test_new_points_complete_those_that_a_page_has(seconds: float, window: float, step: int) -> None:
    every = history(seconds, 700)
    page, has, since, anew = Page(), None, -math.inf, 0
    for count in range(300, 700, step):
        rows = until(every, count, window)
        grid = grid_of(rows, FIGURES, window)
        kind = (grid.per_second, grid.column)
        if has != kind:  # as the live page: the figures differ
            page, since, anew = Page(), -math.inf, anew + 1
        has = kind
        new, whole = points_of(rows, grid, since), points_of(rows, grid, -math.inf)
        page.take(new, in_json(FIGURES, new), grid.start, grid.column)
        other = Page()
        other.take(whole, in_json(FIGURES, whole), grid.start, grid.column)
        # The rows of the first point leave the window one by one.
        first = float(rows.times[0]) + (1 / grid.per_second if grid.per_second else 0.0)
        assert page.shown(first, grid.column) == other.shown(first, grid.column)
        assert since == -math.inf or len(new.times) <= 2 + 2 * step
        since = float(rows.times[-1])
    assert anew <= 4  # since a longer time is shown as the history grows


def test_lines_are_those_of_every_other_face() -> None:
    rows = history(1.0, 500)
    window = 600.0
    grid = grid_of(rows, FIGURES, window)
    points = points_of(rows, grid, -math.inf)
    for figure in FIGURES:
        if figure.is_map:
            continue
        count = round(grid.per_second * (grid.end - grid.start)) + 1
        filled = fill(figure, rows, points=count, seconds=grid.end - grid.start)
        [sent] = in_json([figure], points)
        assert sent["ends"] == filled.axis.ends
        assert sent["title"] == filled.title
        for line, text in zip(filled.lines, sent["values"], strict=True):
            assert points.times == line.times.round(3).tolist()
            shown = np.array([float(each) for each in text.split(",")]) / sent["divisor"]
            np.testing.assert_allclose(shown, line.values, rtol=1e-3)


def map_of(rows: Rows) -> tuple[Figure, Points]:
    figure = next(each for each in FIGURES if each.is_map)
    return figure, points_of(rows, grid_of(rows, [figure], 600.0), -math.inf)


def test_a_map_has_the_colours_of_its_means() -> None:
    every = history(1.0, 100)
    values = np.full_like(every.values, 100.0)
    values[:, every.columns["core3/cpu_percent"]] = 0.0
    values[:, every.columns["core4/cpu_percent"]] = np.nan
    figure, points = map_of(every._replace(values=values, gaps=np.full(100, False)))
    names = [line.name for line in figure.lines]
    brightest = str(len(MAP_COLORS) - 1)
    expected = {"core3/cpu_percent": "0", "core4/cpu_percent": "-"}
    [columns] = points.of_maps([figure])
    column = columns[-2]
    assert column == "".join(expected.get(name, brightest) for name in names)


def test_where_the_clock_was_set_back_all_points_are_sent() -> None:
    rows = history(1.0, 200)
    grid = grid_of(rows, FIGURES, 600.0)
    since = float(rows.times[-2])
    assert len(points_of(rows, grid, since).times) <= 2
    times = rows.times.copy()
    times[100] -= 3
    back = points_of(rows._replace(times=times), grid, since)
    assert len(back.times) > 50
    assert back.start <= times.min() + 0.001


def test_numbers_that_no_browser_can_draw_are_missing() -> None:
    rows = history(1.0, 5)
    values = rows.values.copy()
    values[:, -1] = [1.0, 2.0, np.inf, 1e300, 4.0]
    figure = section(RECORDED, METRICS)[0]
    rows = rows._replace(values=values, gaps=np.full(5, False))
    [sent] = in_json([figure], points_of(rows, grid_of(rows, [figure], 600.0), -math.inf))
    assert sent["values"] == ["1,2,nan,nan,4"]
    assert sent["ticks"][-1] == (4.0, "4")
