"""What a page without a kernel shows of a panel: what it says, and that nothing in it is taken for HTML."""

from __future__ import annotations

import math
import re
from base64 import b64decode
from collections.abc import Sequence
from xml.etree import ElementTree

import numpy as np
import pytest
from test_chart import NOW, history

from perfmon_widgets.core.spans import CELL, MARK, SPAN, Span
from perfmon_widgets.metrics import RECORDED, Metric, unit_of
from perfmon_widgets.panel.snapshot import charts, table
from perfmon_widgets.views.gauges import Bar, Reading

CPU = {"CPU": Reading(43.2, "this kernel 40%", column="cpu_percent")}


def rows(text: str) -> list[list[str]]:
    """The words of each row of the body."""
    body = text.partition("<tbody>")[2]
    found = re.findall(r"<tr>(.*?)</tr>", body)
    return [re.findall(r"<t[hd][^>]*>([^<]*)", row) for row in found]


def line(ago: Sequence[float], values: Sequence[float]) -> str:
    """The path of the picture of a line."""
    text = table(CPU, history(ago, {"cpu_percent": values}))
    _, drawn = pictures(text)
    [path] = drawn.findall("{*}path")
    return path.attrib["d"]


def pictures(text: str) -> list[ElementTree.Element]:
    """The pictures in HTML: of a row the ring and, if there is one, the line."""
    sources = re.findall(r'<img src="data:image/svg\+xml;base64,([^"]*)"', text)
    return [ElementTree.fromstring(b64decode(source)) for source in sources]


def filled(reading: Reading) -> tuple[str, float]:
    """The colour of a ring and the share of it that is filled."""
    [ring] = pictures(table({"RAM": reading}, history([], {})))
    _, arc = ring.findall("{*}circle")
    part, whole = map(float, arc.attrib["stroke-dasharray"].split())
    return arc.attrib["stroke"], part / whole


def test_each_gauge_has_a_row():
    shown = CPU | {"GPU": Reading(math.nan, "none found on this machine")}
    text = table(shown, history([5, 0], {"cpu_percent": [1, 2]}))
    assert rows(text) == [
        ["", "CPU", "43%", "this kernel 40%", ""],
        ["", "GPU", "–", "none found on this machine", ""],
    ]


def test_the_time_of_the_values_is_reported_with_its_zone():
    text = table(CPU, history([5, 0], {"cpu_percent": [1, 2]}))
    [caption] = re.findall("<caption>(.*?)</caption>", text)
    assert re.fullmatch(
        r"Last values, 2027-01-1[45] \d\d:\d\d:\d\d \w+\. Run the cell to have them live\.", caption
    )


def test_before_the_first_sample_it_says_so():
    text = table({"CPU": Reading(math.nan, "–", column="cpu_percent")}, history([], {"cpu_percent": []}))
    assert "<caption>no values yet</caption>" in text
    assert len(pictures(text)) == 1


@pytest.mark.parametrize(("first", "words"), [(5, "last 5 s"), (90, "last 2 min"), (600, "last 10 min")])
def test_how_long_the_lines_are_is_reported(first, words):
    assert f">{words}<" in table(CPU, history([first, 0], {"cpu_percent": [1, 2]}))


def test_the_line_goes_from_the_first_sample_to_the_last():
    assert line([10, 5, 0], [0, 50, 100]).startswith("M0.0,27.0")
    assert line([10, 5, 0], [0, 50, 100]).endswith("L160.0,2.0")


def test_the_line_is_broken_where_numbers_are_missing():
    values = np.full(101, 50.0)
    values[40:60] = np.nan
    assert line(np.arange(100, -1, -1), values).count("M") == 2
    assert line(np.arange(100, -1, -1), np.full(101, 50.0)).count("M") == 1


def test_of_points_at_one_height_only_the_ends_are_written():
    drawn = line([40, 30, 20, 10, 0], [50, 50, 50, 50, 100])
    assert drawn == "M0.0,14.5h0L120.0,14.5L160.0,2.0"
    assert line([40, 30, 20, 10, 0], [50, 50, 50, 50, 50]) == "M0.0,14.5h0L160.0,14.5"
    broken = line(np.arange(6, -1, -1), [50, 50, np.nan, 50, 50, 50, 50])
    assert broken.count("M") == 2
    assert broken.count("L") == 2


def test_a_line_of_few_samples_is_not_broken():
    assert line([600, 400, 200, 0], [1, 2, 3, 4]).count("M") == 1


@pytest.mark.parametrize("ago", [[10, 5, 3600, 3595], [0, 3600], [5, 5]])
def test_a_computer_whose_time_was_set_back_has_lines_all_the_same(ago):
    rows = history(ago, {"cpu_percent": range(len(ago))})
    _, drawn = pictures(table(CPU, rows))
    [path] = drawn.findall("{*}path")
    assert all(0 <= float(x) <= 160 for x in re.findall(r"[ML](-?[\d.]+),", path.attrib["d"]))
    [chart] = pictures(charts(METRICS, rows))
    assert "nan" not in ElementTree.tostring(chart, "unicode")


def test_a_peak_is_seen_however_many_samples_there_are():
    values = np.ones(6000)
    values[3333] = 100
    assert ",2.0" in line(np.linspace(600, 0, 6000), values)


def test_a_number_that_was_never_known_has_no_line():
    assert len(pictures(table(CPU, history([5, 0], {"cpu_percent": [math.nan] * 2})))) == 1


def test_a_ring_is_filled_as_far_as_the_number_says_in_the_colour_of_its_level():
    assert filled(Reading(25.0, "")) == ("#3d8fd1", pytest.approx(0.25, abs=0.01))
    assert filled(Reading(80.0, "", "warning")) == ("#e08214", pytest.approx(0.8, abs=0.01))
    assert filled(Reading(240.0, "", "critical")) == ("#d9482b", pytest.approx(1.0, abs=0.01))
    assert filled(Reading(math.nan, "no GPU")) == ("#3d8fd1", 0)


def test_the_memory_of_a_gpu_is_a_bar_below_its_ring_in_the_colour_of_its_own_level():
    text = table({"GPU": Reading(93.0, "79 of 80 GiB", bar=Bar("memory", 98.0, "critical"))}, history([], {}))
    [ring] = pictures(text)
    assert [circle.get("stroke") for circle in ring.findall("{*}circle")][1] == "#3d8fd1"
    back, bar = ring.findall("{*}rect")
    assert (bar.get("fill"), back.get("width")) == ("#d9482b", "28")
    assert float(bar.get("width", "")) == pytest.approx(0.98 * 28, abs=0.1)
    assert "memory 98%, 79 of 80 GiB" in text


def test_the_maps_of_many_gpus_are_lines_in_a_picture():
    names = [f"gpu{number}/utilization_percent" for number in range(8)]
    text = charts([metric(name, "gpu") for name in names], history([5, 0], {name: [1, 2] for name in names}))
    [picture] = pictures(text)
    assert {f"GPU {number} utilization" for number in range(8)} <= {*texts(picture)}


# -- the charts --------------------------------------------------------------------------------------------


def metric(name: str, group: str, limit: str | None = None) -> Metric:
    return Metric(name, unit_of(name), group, "About it.", limit)


METRICS = [
    metric("ram_percent", "memory"),
    metric("ram_used_bytes", "memory", "ram_limit_bytes"),
    metric("ram_limit_bytes", "memory"),
    metric("cpu_percent", "cpu"),
    metric("core0/cpu_percent", "cpu"),
    metric("gpu0/utilization_percent", "gpu"),
    metric("train/loss", RECORDED),
    metric("test/loss", RECORDED),
    metric("epoch", RECORDED),
]
ROWS = history([10, 5, 0], {each.name: [1, 2, 3] for each in METRICS if each.group != "gpu"})
ROWS["gpu0/utilization_percent"] = math.nan


def texts(picture: ElementTree.Element) -> list[str]:
    return [each.text or "" for each in picture.iter("{http://www.w3.org/2000/svg}text")]


def summaries(text: str) -> list[tuple[bool, str]]:
    """What can be unfolded, and whether it is."""
    return [(bool(opened), title) for opened, title in re.findall(r"<details( open)?><summary>(.*?)<", text)]


def test_the_charts_of_each_section_with_numbers_can_be_unfolded_and_the_first_is():
    text = charts(METRICS, ROWS)
    assert summaries(text) == [(True, "CPU"), (False, "Memory"), (False, "Recorded values")]
    labels = {each.label for each in METRICS}
    named = [[word for word in texts(each) if word in labels] for each in pictures(text)]
    assert named == [["cpu", "core 0 cpu"], ["ram"], ["train loss", "test loss", "epoch"]]
    assert 'alt="ram over time"' in text


def test_the_section_that_is_open_in_the_panel_is_unfolded_if_it_has_numbers():
    assert summaries(charts(METRICS, ROWS, opened="memory"))[1] == (True, "Memory")
    assert [opened for opened, _ in summaries(charts(METRICS, ROWS, opened="memory"))].count(True) == 1
    assert summaries(charts(METRICS, ROWS, opened="gpu"))[0] == (True, "CPU")


def test_cells_spans_and_marks_lie_behind_the_lines_as_far_as_they_lie_in_the_window():
    spans = [
        Span(1, CELL, "x = 1", NOW - 100, NOW - 50, execution_count=1),
        Span(2, CELL, "y = 1", NOW - 20, NOW - 5, execution_count=2),
        Span(3, SPAN, "a < b", NOW - 4),
        Span(4, MARK, "end", NOW - 1, NOW - 1),
        Span(5, CELL, "later", NOW + 1, execution_count=3),
    ]
    words = texts(pictures(charts(METRICS, ROWS, spans))[0])
    assert [word for word in words if word in ("[1] x = 1", "[2] y = 1", "a < b", "end", "[3]")] == [
        "[2] y = 1",
        "a < b",
        "end",
    ]


@pytest.mark.parametrize("number", [0, 1])
def test_there_are_no_charts_before_there_are_lines(number):
    assert charts(METRICS, ROWS[:number]) == ""


def test_a_series_that_is_no_column_yet_is_left_out():
    assert "epoch" not in charts(METRICS, ROWS.drop(columns="epoch"))


def test_it_is_small():
    ago = np.arange(600, -1, -1)
    rows = history(ago, {each.name: ago / 7 % 100 for each in METRICS})
    assert len(table(CPU, rows)) < 5_000
    assert len(charts(METRICS, rows)) < 5_000 * len(METRICS)


def test_labels_and_reasons_are_text_and_not_html():
    evil = "<img src=x onerror='alert(1)'>"
    text = table({evil: Reading(math.nan, evil)}, history([0], {"cpu_percent": [1]}))
    assert len(re.findall("<img", text)) == len(pictures(text)) == 1
    assert text.count("&lt;img") == 2
