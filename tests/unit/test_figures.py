"""Figures as data: which there are, their colours, their axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from test_chart import history

from perfmon_widgets import Metric, plot
from perfmon_widgets.metrics import RECORDED, unit_of
from perfmon_widgets.views.columns import group_of, groups, metrics_of, without_limits
from perfmon_widgets.views.figures import Figure, by_default, chosen, fill, rows_of, section
from perfmon_widgets.views.palette import COLORS, DASHES, FAINT

NAN = math.nan
WINDOW = 600.0
UNITS = ("%", "GiB", "W")


def declared(*names: str, group: str = "") -> list[Metric]:
    return [Metric(name, unit_of(name), group or group_of(name) or "model", "About it.") for name in names]


AGO = list(range(200, -1, -5))
COUNT = len(AGO)


def some(at: Sequence[int], values: Sequence[float]) -> list[float]:
    """A column that has values only in some rows."""
    column = [NAN] * COUNT
    for place, value in zip(at, values, strict=True):
        column[place] = value
    return column


def wave(middle: float, number: int) -> list[float]:
    return [middle + middle / 2 * math.sin(at / 4 + number) for at in range(COUNT)]


METRICS = [
    *declared("cpu_percent", "host_cpu_percent", *(f"core{number}/cpu_percent" for number in range(3))),
    Metric("ram_percent", "percent", "memory", "In use."),
    Metric("ram_used_bytes", "bytes", "memory", "In use.", limit="ram_limit_bytes"),
    Metric("ram_limit_bytes", "bytes", "memory", "Limit."),
    *declared("swap_percent", "memory_pressure_percent"),
    *declared("gpu0/utilization_percent", "gpu0/power_watts", "gpu1/utilization_percent", "gpu1/power_watts"),
    *declared("process_cpu_percent"),
    *declared("offset", group="model"),
    *(
        replace(each, source="record()")
        for each in declared("gain_percent", "reward", "train/loss", "test/loss", group=RECORDED)
    ),
]
COLUMNS = {each.name: wave(40, number) for number, each in enumerate(METRICS)} | {
    "ram_used_bytes": [2**30 * value for value in wave(8, 0)],
    "ram_limit_bytes": [2**36] * COUNT,
    "swap_percent": [NAN] * COUNT,
    "gpu1/utilization_percent": [NAN] * 10 + wave(30, 0)[10:20] + [NAN] * (COUNT - 20),
    "process_cpu_percent": some([7], [30]),
    "offset": wave(-3, 0),
    "gain_percent": some([3, 9, 30], [150, 20, 60]),
    "reward": some([5, 6, 7, 21], [-3, -1, 1, 2]),
    "train/loss": some([2, 12, 22, 32], [4, 2, 1, 0.5]),
    "test/loss": some([17], [3]),
}


def awkward() -> tuple[list[Metric], pd.DataFrame]:
    """No swap, a percentage above 100, negative values, sparse series, a gap, single values, cores, two GPUs.

    One column, the last, has no Metric.
    """
    rows = history(AGO, {**COLUMNS, "undeclared_percent": wave(20, 3)}, gaps=[100])
    for each in METRICS:
        rows.attrs[each.name] = {"unit": each.unit, "help": each.help, "source": each.source}
    return METRICS, rows


# -- colours -----------------------------------------------------------------------------------------------


def colors(figures: Sequence[Figure]) -> dict[str, str]:
    return {line.name: line.color for figure in figures for line in figure.lines}


def test_a_column_keeps_its_colour_whatever_else_has_no_values():
    values = {"ram_percent": [1, 2], "swap_percent": [3, 3], "memory_pressure_percent": [5, 6]}
    [every] = plot(history([5, 0], values)).marks
    [mark] = plot(history([5, 0], {**values, "swap_percent": [NAN, NAN]})).marks
    assert every.colors == [COLORS[2], COLORS[3], COLORS[4]]
    assert mark.labels == ["ram_percent", "memory_pressure_percent"]
    assert mark.colors == [COLORS[2], COLORS[4]]


def test_a_log_that_is_read_back_has_the_colours_of_the_live_charts():
    """Nothing is known of its columns but their names."""
    expected = {}
    for group in groups(METRICS):
        expected |= colors(section(group, METRICS))
    _, rows = awkward()
    names = list(COLUMNS)
    read_back = metrics_of(names, rows[names].to_numpy(), {})
    found = {name: colors(chosen([name], read_back))[name] for name in by_default(read_back)}
    assert found == {name: color for name, color in expected.items() if color != FAINT}


def test_the_first_columns_of_all_groups_differ():
    first = declared(
        "cpu_percent", "ram_percent", "gpu0/utilization_percent", "disk_percent", "process_cpu_percent"
    )
    shown = colors(chosen([each.name for each in first], first))
    assert len(set(shown.values())) == 5
    assert shown == {each.name: colors(section(each.group, first))[each.name] for each in first}


@pytest.mark.parametrize("count", [2, 5, 8])
@pytest.mark.parametrize("seed", range(5))
def test_up_to_eight_chosen_columns_differ_in_colour_and_more_in_dashes(count, seed):
    metrics = [
        *declared(*(f"core{number}/cpu_percent" for number in range(9)), "cpu_percent", "host_cpu_percent"),
        *declared("ram_percent", "swap_percent", "memory_pressure_percent", "disk_percent"),
        *declared(*(f"gpu{number}/utilization_percent" for number in range(9)), "process_cpu_percent"),
        *declared("a_percent", "b_percent"),
    ]
    names = [str(name) for name in np.random.default_rng(seed).permutation([each.name for each in metrics])]
    [figure] = chosen(names[:count], metrics)
    assert len(set(colors([figure]).values())) == count
    assert {line.dash for line in figure.lines} == {""}
    [figure] = chosen(names, metrics)
    assert len({(line.color, line.dash) for line in figure.lines}) == len(metrics) == 27
    assert list(dict.fromkeys(line.dash for line in figure.lines)) == list(DASHES)


def test_a_single_cpu_that_is_chosen_is_a_line_like_any_other():
    names = ["cpu_percent", "core0/cpu_percent", "core1/cpu_percent"]
    [figure] = chosen(names, declared(*names))
    assert len(set(colors([figure]).values())) == 3
    assert not any(line.faint for line in figure.lines)
    [figure] = section("cpu", declared(*names))
    assert [line.faint for line in figure.lines] == [True, True, False]


def test_more_than_eight_chosen_columns_are_drawn_in_dashes():
    names = [f"gpu{number}/utilization_percent" for number in range(10)]
    figure = plot(history([5, 0], {name: [1, 2] for name in names}))
    assert [(mark.line_style, len(mark.labels)) for mark in figure.marks] == [("solid", 8), ("dashed", 2)]
    assert figure.picture.count(f'stroke-dasharray="{DASHES[1]}"') == 4  # two lines, and two of the legend


# -- which figures there are -------------------------------------------------------------------------------


def test_limits_are_not_drawn_whether_declared_by_role_or_as_the_limit_of_another_or_by_name():
    used, size = declared("disk_used_bytes", "disk_size_bytes")
    by_role = [used, replace(size, role="limit")]
    by_reference = [replace(used, limit="disk_size_bytes"), size]
    by_name = metrics_of(["disk_used_bytes", "disk_limit_bytes"], np.ones((2, 2)), {})
    for metrics in (by_role, by_reference, by_name):
        assert [each.name for each in without_limits(metrics)] == ["disk_used_bytes"]


def test_parts_of_ones_own_are_faint_and_many_are_a_map():
    def parts(count: int) -> list[Metric]:
        total, *experts = declared("load_percent", *(f"expert{n}/load_percent" for n in range(count)))
        return [total, *(replace(each, role="part") for each in experts)]

    [figure] = section("model", parts(8))
    assert [line.faint for line in figure.lines] == [True] * 8 + [False]
    lines, brightness = section("model", parts(9))
    assert [line.name for line in lines.lines] == ["load_percent"]
    assert (brightness.is_map, brightness.name, len(brightness.lines)) == (True, "model", 9)


def test_recorded_series_of_a_quantity_share_a_figure():
    figures = section(RECORDED, declared("train/loss", "lr", "test/loss", group=RECORDED))
    assert [(figure.name, [line.name for line in figure.lines]) for figure in figures] == [
        ("loss", ["train/loss", "test/loss"]),
        ("lr", ["lr"]),
    ]
    assert all(line.joined for figure in figures for line in figure.lines)


def test_the_groups_of_the_machine_come_first_and_what_is_recorded_last():
    metrics = [
        *declared("loss", group=RECORDED),
        *declared("score", group="model"),
        *declared("disk_percent", "cpu_percent", "gpu0/power_watts"),
    ]
    assert list(groups(metrics)) == ["gpu", "cpu", "disk", "model", RECORDED]


def test_each_line_has_words_for_a_person():
    [figure] = section("gpu", declared("gpu0/power_watts"))
    assert figure.lines[0].label == "GPU 0 power"


# -- the axis ----------------------------------------------------------------------------------------------


def filled(unit: str, *values: float, before: Figure | None = None) -> Figure:
    """A figure of these values, the axis of which may have been that of a figure before."""
    name = f"a_{unit}"
    rows = rows_of(history(list(range(len(values)))[::-1], {name: values}))
    if before is not None:
        return fill(before, rows, points=100, keep_axis=True)
    [figure] = chosen([name], [Metric(name, unit, "model", "About it.")])
    return fill(figure, rows, points=100)


@pytest.mark.parametrize(
    ("values", "ends"),
    [
        ([0, 100], (0, 100)),
        ([NAN, NAN], (0, 100)),
        ([0, 100.5], (0, 200)),
        ([0, 350], (0, 400)),
        ([-5, 20], (-100, 100)),
        ([-250, 20], (-400, 400)),
    ],
)
def test_a_percentage_has_0_to_100_unless_it_exceeds_them(values, ends):
    axis = filled("percent", *values).axis
    assert (axis.bottom, axis.top, axis.label) == (*ends, "%")
    assert axis.ticks == np.linspace(*ends, 5).tolist()


def test_a_peak_below_zero_is_on_the_axis_however_many_rows_there_are():
    """Thinning keeps the highest of the values that fall together."""
    values = np.ones(5_000)
    values[2_222] = -30
    assert filled("watts", *values).axis.bottom == -40


def test_a_number_that_no_brush_can_draw_is_missing():
    figure = filled("watts", 1, 3e39, math.inf, 2)
    assert figure.axis.top == 2
    assert figure.lines[0].values.tolist() == pytest.approx([1, NAN, NAN, 2], nan_ok=True)


def test_a_live_axis_shrinks_only_by_halves_and_another_one_fits():
    before = filled("watts", 0, 400)
    assert filled("watts", 0, 110, before=before).axis.top == 200
    assert filled("watts", 0, 100, before=filled("watts", 0, 110)).axis.top == 100
    assert filled("watts", 0, 70, before=filled("watts", 0, 100)).axis.top == 100
    assert filled("watts", 0, 70).axis.top == 80
    assert filled("watts", -1, 70, before=filled("watts", 0, 100)).axis[:2] == (-80, 80)
