"""plot(): figures of a history over its real times, and the picture that is stored with them."""

from __future__ import annotations

import math
import re
from base64 import b64encode
from collections.abc import Sequence
from xml.etree import ElementTree

import bqplot
import ipywidgets
import nbformat
import numpy as np
import pandas as pd
import pytest
from fakes.collectors import FakeCollector
from test_chart import vertical
from test_report import START, history

from perfmon_widgets import PerformanceMonitor, plot, read_csv, read_spans
from perfmon_widgets.core.spans import CELL

COLOR, SECOND = "#c05fa8", "#a6851d"  # of the first and the second column of unknown origin
SVG = "{http://www.w3.org/2000/svg}"


def lines(figure: bqplot.Figure) -> bqplot.Lines:
    """The mark that holds the columns, in front of what lies behind them."""
    mark = figure.marks[-1]
    assert isinstance(mark, bqplot.Lines)
    return mark


def drawn(figure: bqplot.Figure) -> dict[str, list[float]]:
    mark = lines(figure)
    return dict(zip(mark.labels, np.atleast_2d(mark.y).tolist(), strict=True))


def seconds(figure: bqplot.Figure) -> list[list[float]]:
    """The times of each line, in seconds after START."""
    start = np.datetime64(START.replace(tzinfo=None), "ms")
    return ((np.atleast_2d(lines(figure).x) - start) / np.timedelta64(1, "s")).tolist()


def texts(picture: str) -> list[str]:
    return [each.text or "" for each in ElementTree.fromstring(picture).iter(f"{SVG}text")]


def paths(picture: str, color: str) -> list[str]:
    """What is drawn in a colour, without the dash in front of the name."""
    every = ElementTree.fromstring(picture).iter(f"{SVG}path")
    return [each.get("d", "") for each in every if each.get("stroke") == color and each.get("fill")]


# -- figures -----------------------------------------------------------------------------------------------


def test_columns_of_one_unit_are_one_figure():
    rows = history([0, 5, 10], a_percent=[1, 2, 3], b_percent=[10, 20, 30], c_bytes=[1, 1, 1])
    figure = plot(rows, ["b_percent", "a_percent"])
    assert isinstance(figure, bqplot.Figure)
    assert drawn(figure) == {"b_percent": [10, 20, 30], "a_percent": [1, 2, 3]}
    assert seconds(figure) == [[0, 5, 10]] * 2
    assert isinstance(lines(figure).scales["x"], bqplot.DateScale)
    # What it is set to is another moment in a browser whose zone is not UTC.
    assert lines(figure).scales["x"].min is lines(figure).scales["x"].max is None
    assert vertical(figure) == (0, 100)
    assert figure.axes[0].label == "2023-11-14 UTC"
    assert figure.title == "2 columns, %"
    assert lines(figure).display_legend


def test_one_column_may_be_named_without_a_list():
    figure = plot(history([0, 5], a_percent=[1, 2]), "a_percent")
    assert drawn(figure) == {"a_percent": [1, 2]}
    assert figure.title == "a_percent, %"


def test_columns_of_several_units_are_figures_below_one_another():
    rows = history([0, 5], a_percent=[1, 2], ram_used_bytes=[2**30, 2**31], loss=[0.5, 0.25])
    made = plot(rows, ["ram_used_bytes", "a_percent", "loss"])
    assert isinstance(made, ipywidgets.VBox)
    assert [figure.title for figure in made.children] == ["ram_used_bytes, GiB", "a_percent, %", "loss"]
    assert drawn(made.children[0]) == {"ram_used_bytes": [1, 2]}


def test_without_columns_it_draws_what_was_measured_but_limits_and_single_cpus():
    rows = history([0, 5], **{"cpu_percent": [1, 2], "core0/cpu_percent": [1, 2], "ram_limit_bytes": [1, 1]})
    rows["gpu0/power_watts"] = math.nan
    assert list(drawn(plot(rows))) == ["cpu_percent"]


def test_a_part_of_a_history_is_drawn_as_it_is():
    rows = history(range(100), a_percent=range(100))
    figure = plot(rows[START + pd.Timedelta("10s") : START + pd.Timedelta("12s")], "a_percent")
    assert drawn(figure) == {"a_percent": [10, 11, 12]}


def test_the_axis_ends_at_a_round_number_above_the_largest_value():
    figure = plot(history([0, 5], ram_used_bytes=[2**30, 5 * 2**30]), "ram_used_bytes")
    assert vertical(figure) == (0, 6)
    over = plot(history([0, 5], a_percent=[90, 150]), "a_percent")
    assert vertical(over) == (0, 200)


def test_negative_values_are_seen():
    assert vertical(plot(history([0, 5], reward=[-3, 1]), "reward")) == (-4, 4)


def test_a_line_is_broken_where_samples_are_missing():
    figure = plot(history([0, 1, 100, 101], gaps=[100], a_percent=[1, 2, 3, 4]), "a_percent")
    assert drawn(figure)["a_percent"] == pytest.approx([1, 2, math.nan, 3, 4], nan_ok=True)


@pytest.mark.parametrize("attrs", [{}, {"loss": {"unit": ""}}], ids=["unknown", "as read_csv has them"])
def test_a_series_that_was_recorded_now_and_then_is_joined(attrs):
    values = [math.nan] * 20
    values[3], values[9], values[17] = 3, 2, 1
    rows = history(range(20), loss=values, a=range(20))
    rows.attrs |= attrs
    rows.attrs["a"] = {"unit": "", "help": "", "source": ""}
    figure = plot(rows, ["loss", "a"])
    assert drawn(figure)["loss"][2:5] == [3, 2, 1]
    # Two points that are not seen, since bqplot's axis ends with the points; the last point is repeated.
    assert np.isnan(drawn(figure)["loss"][:2]).all()
    assert seconds(figure)[0] == [0, 19, 3, 9] + [17] * 16
    assert drawn(figure)["a"] == list(range(20))


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_single_value_is_a_dash_where_it_was(number):
    """What was recorded once, and a rate after two samples: the first reading of a counter has none."""
    values = [math.nan] * 3
    values[number] = 30
    figure = plot(history([0, 5, 10], cpu_percent=values), "cpu_percent")
    assert drawn(figure)["cpu_percent"] == pytest.approx([math.nan, math.nan, 30, 30], nan_ok=True)
    ((first, last, begun, ended),) = seconds(figure)
    assert (first, last) == (0, 10)  # the axis shows the whole time
    assert begun <= 5 * number <= ended
    assert 0.01 <= ended - begun <= 0.1


def test_a_gpu_that_was_used_for_a_while_is_not_joined_across_the_rest():
    values = [math.nan] * 10 + [50.0] * 10 + [math.nan] * 10
    figure = plot(history(range(30), **{"gpu0/utilization_percent": values}), "gpu0/utilization_percent")
    values = drawn(figure)["gpu0/utilization_percent"]
    assert values == pytest.approx([math.nan] * 2 + [50.0] * 10, nan_ok=True)
    assert seconds(figure) == [[0, 29, *range(10, 20)]]  # the axis shows the whole time


def test_a_value_between_missing_ones_is_a_dash():
    """bqplot draws nothing for a point without neighbours."""
    values = [1, 2, 2, math.nan, 5, math.nan, 3, 4, 4]
    figure = plot(history(range(0, 90, 10), a_percent=values), "a_percent")
    assert drawn(figure)["a_percent"] == pytest.approx(
        [1, 2, 2, math.nan, 5, 5, math.nan, 3, 4, 4], nan_ok=True
    )
    (shown,) = seconds(figure)
    assert shown[4] < 40 < shown[5] < 41


def test_a_day_of_rows_is_as_many_points_as_can_be_seen_and_keeps_its_peaks():
    values = np.zeros(86_400)
    values[40_001] = 77
    figure = plot(history(range(86_400), a_percent=values), "a_percent")
    assert len(drawn(figure)["a_percent"]) <= 1_500
    assert max(drawn(figure)["a_percent"]) == 77
    assert len(figure.picture) < 60_000


# -- spans -------------------------------------------------------------------------------------------------


def shaded(figure: bqplot.Figure) -> tuple[list[float], list[str]]:
    """Starts and ends, and names, of what lies behind the lines."""
    *areas, names, _ = figure.marks
    start = np.datetime64(START.replace(tzinfo=None), "ms")
    moments = np.concatenate([np.ravel(each.x) for each in areas])
    edges = ((moments - start) / np.timedelta64(1, "s"))[1::2].round(3).tolist()
    return edges, names.text.tolist()


def stretches(*moments: tuple[float, float], **columns: Sequence[object]) -> pd.DataFrame:
    times = [[START + pd.Timedelta(each, "s") for each in both] for both in zip(*moments, strict=True)]
    return pd.DataFrame({"start": times[0], "end": times[1], **columns})


def test_cells_are_shown_with_their_numbers_as_far_as_they_lie_in_the_plot():
    cells = stretches((-20, -10), (-5, 2), (3, 4), (8, math.nan), (20, 21), source=list("abcde"))
    cells.index = pd.Index([3, 4, 5, 6, 7], name="execution_count")
    figure = plot(history(range(11), a_percent=range(11)), "a_percent", spans=cells)
    assert shaded(figure) == ([0, 2, 3, 4, 8, 10], ["[4] b", "[5] c", "[6] d"])
    assert [text for text in texts(figure.picture) if "[" in text] == ["[4] b", "[5] c", "[6] d"]


def test_spans_and_marks_are_shown_with_their_names():
    monitor = PerformanceMonitor([FakeCollector("a_percent")])
    monitor.sample()
    with monitor.span("validation"):
        monitor.mark("epoch <1>")
    monitor.sample()
    assert shaded(plot(monitor.history, "a_percent", spans=monitor.spans))[1] == ["validation"]
    with_mark = plot(monitor.history, "a_percent", spans=monitor.marks)
    edges, names = shaded(with_mark)
    assert names == ["epoch <1>"]
    assert edges[0] == edges[1]
    assert "epoch <1>" in texts(with_mark.picture)


def test_spans_of_a_log_are_shown_over_its_rows(folder):
    monitor = PerformanceMonitor([FakeCollector("a_percent")])
    path = monitor.log.start("run.csv")
    monitor.sample()
    with monitor.span("validation"):
        monitor.end(monitor.begin(CELL, "train()", 12))
        monitor.mark("end")
    monitor.sample()
    monitor.stop()
    figure = plot(read_csv(path), spans=read_spans(path))
    # How long the cell took, and so whether its line fits behind its number, depends on the machine.
    assert [name.removesuffix(" train()") for name in shaded(figure)[1]] == ["validation", "[12]", "end"]


def test_names_that_would_lie_over_one_another_are_left_out_of_the_picture():
    many = stretches(
        *[(at / 10, at / 10 + 0.05) for at in range(100)], name=[f"step {n}" for n in range(100)]
    )
    figure = plot(history(range(11), a_percent=range(11)), "a_percent", spans=many)
    assert 3 < len([text for text in texts(figure.picture) if "step" in text]) < 20


def test_it_is_the_names_of_the_shortest_that_are_left_out():
    many = stretches(
        (0, 0.1), (0.1, 7), (7.1, 9), (9.3, 9.3), name=["import", "training", "validation", "mark"]
    )
    many["kind"] = ["span", "span", "span", "mark"]
    figure = plot(history(range(11), a_percent=range(11)), "a_percent", spans=many)
    expected = {"training", "validation", "mark"}
    assert {"import", *expected} & {*texts(figure.picture)} == expected
    *_, names, _ = figure.marks
    assert {*names.text.tolist()} == expected  # the figure and its picture agree


def test_what_has_no_starts_and_ends_is_refused():
    rows = history([0, 1], a_percent=[1, 2])
    with pytest.raises(TypeError, match="spans must be the cells"):
        plot(rows, "a_percent", spans=rows)


@pytest.mark.parametrize("kind", ["cells", "marks"])
def test_cells_and_marks_that_have_lost_their_index_are_refused(kind):
    """What the index says, the number of a cell or the time of a mark, cannot be shown then."""
    monitor = PerformanceMonitor([FakeCollector("a_percent")])
    monitor.sample()
    monitor.end(monitor.begin(CELL, "train()", 12))
    monitor.mark("end")
    monitor.sample()
    with pytest.raises(TypeError, match="spans must be the cells"):
        plot(monitor.history, "a_percent", spans=getattr(monitor, kind).reset_index())


def test_spans_that_are_no_table_are_refused():
    rows = history([0, 1], a_percent=[1, 2])
    with pytest.raises(TypeError, match="spans must be the cells"):
        plot(rows, "a_percent", spans=[(0, 1)])


# -- errors ------------------------------------------------------------------------------------------------


def test_a_column_that_does_not_exist_is_named_with_those_that_do():
    with pytest.raises(ValueError, match=r"no column 'nope' in this history; there are a_percent, b_percent"):
        plot(history([0, 1], a_percent=[1, 2], b_percent=[1, 2]), ["a_percent", "nope"])


@pytest.mark.parametrize("number", [0, 1])
def test_too_few_rows_are_refused(number):
    with pytest.raises(ValueError, match=f"this history has {number}"):
        plot(history(range(number), a_percent=range(number)))


def test_no_columns_are_refused():
    rows = history([0, 1], a_percent=[1, 2])
    with pytest.raises(ValueError, match="nothing to draw"):
        plot(rows, [])
    with pytest.raises(ValueError, match="nothing to draw"):
        plot(history([0, 1], a_percent=[math.nan] * 2))


@pytest.mark.parametrize("other", [[1, 2], None, pd.DataFrame({"a": [1, 2]})])
def test_what_is_no_history_is_refused(other):
    with pytest.raises(TypeError, match="history must be what monitor.history or read_csv"):
        plot(other)


def test_a_column_without_a_single_number_is_an_empty_plot():
    figure = plot(history([0, 1], a_percent=[math.nan] * 2), "a_percent")
    assert np.isnan(drawn(figure)["a_percent"]).all()
    assert paths(figure.picture, COLOR) == [""]


# -- the picture -------------------------------------------------------------------------------------------


def test_the_picture_has_every_line_its_name_and_its_times():
    rows = history([0, 60], a_percent=[0, 100], b_bytes=[0, 2**20])
    picture = plot(rows, ["a_percent", "b_bytes"]).picture
    said = texts(picture)
    assert {"%", "MiB", "a_percent", "b_bytes", "22:13:30", "22:14:10", "UTC", "100", "0"} <= set(said)
    [first], [second] = paths(picture, COLOR), paths(picture, SECOND)
    assert first == second == "M52.0,168.0h0L704.0,38.2"  # from corner to corner, but for the edge above 100


def test_the_picture_breaks_a_line_where_numbers_are_missing():
    rows = history(range(7), a_percent=[1, 2, math.nan, 1, 2, 3, math.inf])
    (path,) = paths(plot(rows, "a_percent").picture, COLOR)
    assert re.sub(r"[\d.,]+", "", path) == "MhLMhLL"


def test_long_names_have_lines_of_their_own():
    names = [f"a_very_long_name_of_a_column_{number}_percent" for number in range(5)]
    picture = plot(history([0, 1], **{name: [1, 2] for name in names})).picture
    root = ElementTree.fromstring(picture)
    for text in root.iter(f"{SVG}text"):
        if text.text in names:
            assert float(text.get("x", "")) + 6.5 * len(text.text) < 730
    assert set(names) <= set(texts(picture))


def test_a_notebook_stores_the_picture_beside_the_widget():
    figure = plot(history([0, 1], a_percent=[1, 2]), "a_percent")
    bundle = figure._repr_mimebundle_()
    assert bundle["text/html"].startswith('<img src="data:image/svg+xml;base64,')
    assert b64encode(figure.picture.encode()).decode() in bundle["text/html"]
    assert bundle["text/html"].endswith(' alt="&lt;PlotFigure: a_percent, %&gt;">')
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert bundle["text/plain"] == "<PlotFigure: a_percent, %>"
    several = plot(history([0, 1], a_percent=[1, 2], b_bytes=[1, 2]))
    assert several._repr_mimebundle_()["text/plain"] == "<PlotFigures: a_percent, %; b_bytes, B>"


def test_a_notebook_turned_into_html_shows_the_picture():
    from nbconvert import HTMLExporter

    figure = plot(history([0, 1], a_percent=[1, 2]), "a_percent")
    output = nbformat.v4.new_output("execute_result", data=figure._repr_mimebundle_(), execution_count=1)
    cell = nbformat.v4.new_code_cell("plot(history)", outputs=[output], execution_count=1)
    page, _ = HTMLExporter().from_notebook_node(nbformat.v4.new_notebook(cells=[cell]))
    assert b64encode(figure.picture.encode()).decode() in page
