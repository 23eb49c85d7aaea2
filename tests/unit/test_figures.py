"""Figures as data: which there are, their colours, their axes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from test_chart import history

from perfmon_widgets import Metric, plot
from perfmon_widgets.collectors.linux.host import METRICS as HOST
from perfmon_widgets.collectors.linux.host import OPTIONAL_METRICS as OPTIONAL
from perfmon_widgets.metrics import RECORDED, unit_of
from perfmon_widgets.views.columns import group_of, groups, metrics_of, quantity_label, without_limits
from perfmon_widgets.views.figures import Figure, by_default, chosen, fill, rows_of, section
from perfmon_widgets.views.palette import COLORS, DARK, DASHES, Look

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


def own_looks(figures: Sequence[Figure]) -> dict[str, Look]:
    return {line.name: Look(line.color, line.dash) for figure in figures for line in figure.lines}


def hue(name: str, metrics: Sequence[Metric]) -> str:
    """The colour of a column that is drawn alone."""
    return colors(chosen([name], metrics))[name]


def test_a_column_keeps_its_look_whatever_else_has_no_values():
    names = ["ram_percent", "swap_percent", "memory_pressure_percent"]
    [every] = chosen(names, declared(*names))
    [some] = chosen([names[0], names[2]], declared(*names))
    assert own_looks([some]) == {name: own_looks([every])[name] for name in (names[0], names[2])}


def test_a_log_that_is_read_back_has_the_colours_of_the_live_charts():
    """Nothing is known of its columns but their names."""
    _, rows = awkward()
    names = list(COLUMNS)
    read_back = metrics_of(names, rows[names].to_numpy(), {})
    compared = 0
    for group in groups(METRICS):
        for figure in section(group, METRICS):
            strong = [line.name for line in figure.lines if not line.faint]
            assert own_looks(chosen(strong, read_back)) == {
                name: look for name, look in own_looks([figure]).items() if name in strong
            }
            compared += len(strong)
    assert compared == 15


GPUS = [
    name
    for number in range(8)
    for name in (
        f"gpu{number}/utilization_percent",
        f"gpu{number}/memory_percent",
        f"gpu{number}/memory_used_bytes",
        f"gpu{number}/memory_limit_bytes",
        f"gpu{number}/power_watts",
        f"gpu{number}/memory_activity_percent",
        f"gpu{number}/pcie_sent_bytes_per_second",
        f"gpu{number}/pcie_received_bytes_per_second",
    )
]


def of_gpus(count: int) -> list[Metric]:
    """The columns of some GPUs, as collectors declare them."""
    return [
        replace(
            each,
            limit=f"{each.where}/memory_limit_bytes" if each.what == "memory_used_bytes" else None,
            role="limit" if each.what == "memory_limit_bytes" else "",
        )
        for each in declared(*GPUS[: 8 * count])
    ]


@pytest.mark.parametrize("count", [1, 2, 8])
def test_a_gpu_has_one_colour_in_every_figure(count):
    of_place: dict[str, set[str]] = {}
    for figure in section("gpu", of_gpus(count)):
        for line in figure.lines:
            base = COLORS[DARK.index(line.color)] if line.color in DARK else line.color
            of_place.setdefault(line.name.partition("/")[0], set()).add(base)
    assert {len(each) for each in of_place.values()} == {1}
    assert len(set.union(*of_place.values())) == count


def test_the_machine_the_process_and_gpus_have_colours_of_their_own():
    metrics = declared(
        "cpu_percent", "ram_percent", "disk_percent", "process_cpu_percent", "gpu0/utilization_percent",
        "gpu1/utilization_percent",
    )  # fmt: skip
    assert len({hue(each.name, metrics) for each in metrics}) == 4
    assert len({hue(name, metrics) for name in ("cpu_percent", "ram_percent", "disk_percent")}) == 1


def test_two_columns_of_one_thing_differ_in_dashes_and_in_how_dark_they_are():
    names = ["network_received_bytes_per_second", "network_sent_bytes_per_second"]
    [figure] = section("network", declared(*names))
    assert own_looks([figure]) == {names[0]: Look(COLORS[0]), names[1]: Look(DARK[0], DASHES[1])}
    for name in names:
        assert own_looks(chosen([name], declared(*names))) == {name: Look(COLORS[0])}


@pytest.mark.parametrize("count", [2, 5, 8, 27])
@pytest.mark.parametrize("seed", range(5))
def test_chosen_columns_look_different(count, seed):
    metrics = [
        *declared(*(f"core{number}/cpu_percent" for number in range(9)), "cpu_percent", "host_cpu_percent"),
        *declared("ram_percent", "swap_percent", "memory_pressure_percent", "disk_percent"),
        *declared(*(f"gpu{number}/utilization_percent" for number in range(9)), "process_cpu_percent"),
        *declared("a_percent", "b_percent"),
    ]
    names = [str(name) for name in np.random.default_rng(seed).permutation([each.name for each in metrics])]
    [figure] = chosen(names[:count], metrics)
    assert len(set(own_looks([figure]).values())) == count


def test_eight_columns_of_each_of_eight_things_look_different():
    names = [f"gpu{gpu}/{quantity}_percent" for gpu in range(8) for quantity in "abcdefgh"]
    [figure] = chosen(names, declared(*names))
    assert len(set(own_looks([figure]).values())) == 64


# Machado, Oliveira and Fernandes (2009), for linear RGB: who has no red, and who has no green receptors.
COLOUR_BLIND = {
    "nobody": np.eye(3),
    "protanopia": np.array([[0.1523, 1.0526, -0.2049], [0.1145, 0.7863, 0.0992], [-0.0039, -0.0481, 1.0520]]),
    "deuteranopia": np.array(
        [[0.3673, 0.8606, -0.2280], [0.2801, 0.6725, 0.0474], [-0.0118, 0.0429, 0.9690]]
    ),
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(color: str) -> np.ndarray:
    rgb = np.array([int(color[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def in_lab(color: str, seen: np.ndarray) -> np.ndarray:
    """A colour in CIELAB, in which distances are about as large as people find them."""
    x, y, z = np.cbrt(np.maximum(XYZ @ np.clip(seen @ linear(color), 0, 1) / [0.9505, 1, 1.089], 0.0089))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("seen", COLOUR_BLIND)
def test_the_colour_blind_can_tell_the_machine_the_process_and_two_gpus_apart(seen):
    """Of eight colours on black and on white some look alike to them: maps and tables have names instead."""
    names = ["cpu_percent", "process_cpu_percent", "gpu0/utilization_percent", "gpu1/utilization_percent"]
    found = [in_lab(hue(name, declared(*names)), COLOUR_BLIND[seen]) for name in names]
    # 2.3 is a difference that people just notice.
    assert min(np.linalg.norm(one - other) for one, other in itertools.combinations(found, 2)) > 10


@pytest.mark.parametrize("color", [*COLORS, *DARK])
def test_each_colour_is_seen_on_white_and_on_black(color):
    brightness = XYZ[1] @ linear(color)
    assert 1.05 / (brightness + 0.05) > 2.8
    assert (brightness + 0.05) / 0.05 > 3


def test_a_single_cpu_that_is_chosen_is_a_line_like_any_other():
    names = ["cpu_percent", "core0/cpu_percent", "core1/cpu_percent"]
    [figure] = chosen(names, declared(*names))
    assert len(set(colors([figure]).values())) == 3
    assert not any(line.faint for line in figure.lines)
    [figure] = section("cpu", declared(*names))
    assert [line.faint for line in figure.lines] == [True, True, False]


def test_more_than_eight_chosen_gpus_are_drawn_in_dashes():
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


def drawn(group: str, metrics: Sequence[Metric]) -> list[list[str]]:
    return [[line.name for line in figure.lines] for figure in section(group, metrics)]


def test_of_an_amount_and_its_percentage_one_is_drawn():
    """The amount where it is a headline, since the percentage of that stands in a gauge."""
    memory = [
        Metric("ram_percent", "percent", "memory", "In use."),
        Metric("ram_used_bytes", "bytes", "memory", "In use.", limit="ram_limit_bytes"),
        Metric("ram_limit_bytes", "bytes", "memory", "Limit.", role="limit"),
        Metric("ram_unreclaimable_bytes", "bytes", "memory", "No cache.", limit="ram_limit_bytes"),
    ]
    assert drawn("memory", memory) == [["ram_percent"], ["ram_unreclaimable_bytes"]]
    memory[1] = replace(memory[1], role="headline")
    assert drawn("memory", memory) == [["ram_used_bytes", "ram_unreclaimable_bytes"]]
    assert drawn("memory", memory[1:]) == [["ram_used_bytes", "ram_unreclaimable_bytes"]]
    assert drawn("memory", [*memory[:1], *memory[2:]]) == [["ram_percent"], ["ram_unreclaimable_bytes"]]
    # Where that is not declared, two columns may be about anything.
    memory[1] = replace(memory[1], limit=None)
    assert drawn("memory", memory) == [["ram_percent"], ["ram_used_bytes", "ram_unreclaimable_bytes"]]


def test_a_column_that_is_not_drawn_is_still_chosen_by_name_or_by_default():
    memory = [each for each in METRICS if each.group == "memory"]
    assert "ram_used_bytes" in by_default(memory)
    assert [line.name for line in chosen(["ram_used_bytes"], memory)[0].lines] == ["ram_used_bytes"]


@pytest.mark.parametrize("count", [1, 2])
def test_the_percentages_of_two_gpus_are_lines_of_one_figure(count):
    gpus = section("gpu", of_gpus(count))
    assert [(figure.name, figure.unit, len(figure.lines), figure.is_map) for figure in gpus] == [
        ("GPU", "percent", 3 * count, False),
        ("GPU", "watts", count, False),
        ("GPU", "bytes_per_second", 2 * count, False),
    ]


@pytest.mark.parametrize("count", [3, 8])
def test_more_gpus_have_a_map_for_each_percentage_and_a_figure_for_each_other_quantity(count):
    gpus = section("gpu", of_gpus(count))
    assert [(figure.title, figure.is_map) for figure in gpus] == [
        ("GPU utilization (bright: 100 %)", True),
        ("GPU memory (bright: 100 %)", True),
        ("GPU memory activity (bright: 100 %)", True),
        ("GPU power, W", False),
        ("GPU pcie sent, B/s", False),
        ("GPU pcie received, B/s", False),
    ]
    assert {len(figure.lines) for figure in gpus} == {count}
    assert {line.dash for figure in gpus for line in figure.lines} == {""}
    # A map is drawn from below.
    assert gpus[0].rows == tuple(f"GPU {number}" for number in range(count))[::-1]
    assert [line.name for line in gpus[0].lines][-1] == "gpu0/utilization_percent"


def test_workers_of_any_kind_are_drawn_as_gpus_are():
    names = [f"worker{n}/{what}" for n in range(5) for what in ("cpu_percent", "ram_bytes")]
    workers = section(
        "workers", [*declared(*names, group="workers"), *declared("lag_percent", group="workers")]
    )
    assert [(figure.name, figure.is_map, len(figure.lines)) for figure in workers] == [
        ("Workers cpu", True, 5),
        ("Workers ram", False, 5),
        ("Workers", False, 1),
    ]
    assert workers[0].rows[-1] == "worker 0"


def test_places_without_a_quantity_in_common_are_not_of_one_kind():
    names = ["reader/wait_percent", "writer/busy_percent", "trainer/idle_percent"]
    [figure] = section("jobs", declared(*names, group="jobs"))
    assert (figure.is_map, len(figure.lines)) == (False, 3)


def test_a_map_without_some_of_its_lines_lacks_their_rows():
    some = section("gpu", of_gpus(4))[0].only(["gpu0/utilization_percent", "gpu2/utilization_percent"])
    assert some.rows == ("GPU 2", "GPU 0")


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


@pytest.mark.parametrize(
    ("name", "label", "words"),
    [
        ("gpu3/power_watts", "GPU 3 power", "power"),
        ("gpu3/power_watts", "", "power"),
        ("worker2/gpu0/power_watts", "", "power"),
        ("load_watts", "load of all", "load of all"),
        ("gpu3/watts", "GPU 3", "watts"),
    ],
)
def test_a_quantity_is_named_without_its_place(name, label, words):
    assert quantity_label(Metric(name, "watts", "gpu", "About it.", label=label)) == words


def test_the_group_of_a_column_whose_log_is_read_back_is_that_of_its_collector():
    assert [each.name for each in (*HOST, *OPTIONAL) if group_of(each.name) != each.group] == []


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


@pytest.mark.parametrize("value", [5e-324, -5e-324, 1e-310, 1e-40])
def test_a_number_too_small_to_be_drawn_counts_as_nothing(value):
    """The power of ten below the smallest numbers is 0, of which no axis can be made."""
    assert filled("watts", 0, value).axis.top == filled("watts", 0, 0).axis.top == 1


def test_the_axis_of_a_small_number_ends_at_a_round_one():
    assert filled("watts", 0, 3e-30).axis.top == pytest.approx(4e-30)


def test_a_live_axis_shrinks_only_by_halves_and_another_one_fits():
    before = filled("watts", 0, 400)
    assert filled("watts", 0, 110, before=before).axis.top == 200
    assert filled("watts", 0, 100, before=filled("watts", 0, 110)).axis.top == 100
    assert filled("watts", 0, 70, before=filled("watts", 0, 100)).axis.top == 100
    assert filled("watts", 0, 70).axis.top == 80
    assert filled("watts", -1, 70, before=filled("watts", 0, 100)).axis[:2] == (-80, 80)
