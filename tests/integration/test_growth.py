"""The tables of benchmarks/growth.py, for small sizes: that each measures what its heads say."""

from __future__ import annotations

from benchmarks import growth


def test_each_cpu_is_a_column_more():
    one, four = growth.cpus((1, 4)).rows
    assert four[1] - one[1] == 3
    assert min(*one, *four) > 0


def test_each_gpu_in_use_has_its_columns():
    none, one, three = growth.gpus((0, 1, 3)).rows
    assert none[1] == 0
    assert three[1] == 3 * one[1] > 0


def test_a_window_is_full_when_it_is_measured():
    short, long = growth.windows(("10 s", "1 h")).rows
    assert (short[1], long[1]) == (3, 721)
    assert long[2] >= 720 * growth.COLUMNS * 8 / 1e6


def test_each_panel_sends_its_own_messages():
    one, two = growth.panels((1, 2)).rows
    assert two[1] == 2 * one[1] > 0


def test_a_table_is_printed_with_a_line_for_each_size():
    table = growth.Table("Things", ("things", "ms/thing"), (("1", 0.12345), ("10", 12.3)))
    assert str(table) == "Things\nthings  ms/thing\n     1     0.123\n    10      12.3\n"
