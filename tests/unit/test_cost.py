"""What a cell cost, in words."""

from __future__ import annotations

import pytest
from test_chart import NOW, history

from perfmon_widgets import Metric
from perfmon_widgets.core.spans import CELL, MARK, SPAN, Span
from perfmon_widgets.views.cost import cost_in_words, name_in_words
from perfmon_widgets.views.figures import rows_of

METRICS = [
    Metric("cpu_percent", "percent", "cpu", "Of all.", role="headline"),
    Metric("process_cpu_percent", "percent", "process", "Own.", role="headline", label="CPU of this process"),
    Metric("process_ram_bytes", "bytes", "process", "Own.", role="headline", label="RAM of this process"),
]
ROWS = rows_of(
    history(
        [30, 20, 10, 0],
        {
            "cpu_percent": [1, 1, 1, 1],
            "process_cpu_percent": [5, 40, 60, 5],
            "process_ram_bytes": [2**30, 2**30, 3 * 2**30, 2**30],
        },
    )
)


def test_a_cell_is_its_line_its_duration_its_cpu_and_its_memory():
    cell = Span(1, CELL, "model.fit(images)", NOW - 30, NOW - 10, execution_count=7)
    assert cost_in_words(cell, ROWS, METRICS) == "[7] model.fit(images) · 20 s · CPU 50% · RAM +2 GiB"


def test_the_duration_is_that_of_the_monotonic_clock():
    """The computer's clock was set forward by an hour meanwhile."""
    span = Span(1, SPAN, "load", NOW - 30, NOW - 10 + 3600, began=100.0, ended=120.0, seconds=20.0)
    assert cost_in_words(span, ROWS, METRICS).startswith("load · 20 s · CPU 50%")


def test_what_no_row_belongs_to_has_its_duration_alone():
    assert cost_in_words(Span(1, SPAN, "load", NOW - 26, NOW - 25), ROWS, METRICS) == "load · 1 s"


def test_what_goes_on_and_a_mark_have_their_names_alone():
    assert cost_in_words(Span(1, CELL, "fit()", NOW - 30, execution_count=7), ROWS, METRICS) == "[7] fit()"
    assert cost_in_words(Span(1, MARK, "epoch 3", NOW - 5, NOW - 5), ROWS, METRICS) == "epoch 3"


@pytest.mark.parametrize(("name", "words"), [("a\n b", "a b"), ("x" * 100, "x" * 59 + "…"), ("", "[3]")])
def test_a_name_is_one_line(name, words):
    kind = CELL if not name else SPAN
    assert name_in_words(Span(1, kind, name, NOW, NOW, execution_count=3)) == words


def test_what_began_before_the_oldest_row_has_its_duration_alone():
    """The rows that are left are about its end only."""
    cell = Span(1, CELL, "train()", NOW - 500, NOW - 10, execution_count=7)
    assert cost_in_words(cell, ROWS, METRICS) == "[7] train() · 0:08:10"
