"""Values and their units in words."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfmon_widgets.views.text import (
    align,
    format_change,
    format_duration,
    format_used,
    format_value,
    scale_for,
)

KIB, MIB, GIB, TIB = 2.0**10, 2.0**20, 2.0**30, 2.0**40


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0, "percent", "0%"),
        (43.4, "percent", "43%"),
        (3.14, "percent", "3.1%"),
        (9.94, "percent", "9.9%"),
        (9.96, "percent", "10%"),
        (100.0, "percent", "100%"),
        (0.0, "bytes", "0 B"),
        (512.0, "bytes", "512 B"),
        (KIB, "bytes", "1 KiB"),
        (5.2 * GIB, "bytes", "5.2 GiB"),
        (16 * GIB, "bytes", "16 GiB"),
        (1.5 * TIB, "bytes", "1.5 TiB"),
        (5000 * 2.0**50, "bytes", "5000 PiB"),
        (0.0, "bytes_per_second", "0 B/s"),
        (999.0, "bytes_per_second", "999 B/s"),
        (12e6, "bytes_per_second", "12 MB/s"),
        (1.25e9, "bytes_per_second", "1.2 GB/s"),
        (250.0, "watts", "250 W"),
        (2.5, "seconds", "2.5 s"),
        (7.0, "", "7"),
        (3.0, "rows", "3 rows"),
        (4200.0, "tokens_per_second", "4200 tokens/s"),
        (0.00012345, "", "0.0001234"),
    ],
)
def test_a_value_is_printed_for_a_person(value, unit, text):
    assert format_value(value, unit) == text


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("unit", ["percent", "bytes", "bytes_per_second", "watts", ""])
def test_a_missing_value_is_a_dash_without_a_unit(value, unit):
    assert format_value(value, unit) == "–"


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1023.9, "bytes", "1 KiB"),
        (1023.9 * MIB, "bytes", "1 GiB"),
        (999.9e3, "bytes_per_second", "1 MB/s"),
    ],
)
def test_what_is_rounded_up_to_the_next_prefix_is_printed_with_it(value, unit, text):
    assert format_value(value, unit).replace(".0", "") == text


@given(st.floats(0, 1e15), st.sampled_from(["bytes", "bytes_per_second"]))
def test_an_amount_with_a_prefix_has_at_most_four_digits_and_is_nearly_the_value(value, unit):
    number, label = format_value(value, unit).split(" ")
    divisor = {scale_for(unit, 2.0**power)[1]: scale_for(unit, 2.0**power)[0] for power in range(60)}[label]
    assert len(number) <= 4
    assert float(number) * divisor == pytest.approx(value, rel=0.05, abs=0.5)


@pytest.mark.parametrize(
    ("unit", "largest", "expected"),
    [
        ("bytes", 6e9, (GIB, "GiB")),
        ("bytes", GIB, (GIB, "GiB")),
        ("bytes", GIB - 1, (MIB, "MiB")),
        ("bytes", 0.0, (1.0, "B")),
        ("bytes", -5.0, (1.0, "B")),
        ("bytes", math.nan, (1.0, "B")),
        ("bytes", math.inf, (1.0, "B")),
        ("bytes_per_second", 3e6, (1e6, "MB/s")),
        ("bytes_per_second", 1e15, (1e12, "TB/s")),
        ("percent", 50.0, (1.0, "%")),
        ("watts", 50.0, (1.0, "W")),
        ("", 50.0, (1.0, "")),
        ("rows", 50.0, (1.0, "rows")),
    ],
)
def test_the_largest_value_decides_about_the_prefix_of_an_axis(unit, largest, expected):
    assert scale_for(unit, largest) == expected


@pytest.mark.parametrize(
    ("used", "limit", "text"),
    [
        (5.2 * GIB, 16 * GIB, "5.2 of 16 GiB"),
        (512 * MIB, 16 * GIB, "0.5 of 16 GiB"),
        (0.0, 16 * GIB, "0 of 16 GiB"),
        (15.5 * GIB, 15.5 * GIB, "16 of 16 GiB"),
        (0.0, 0.0, "0 of 0 B"),
        (5.2 * GIB, math.nan, "5.2 GiB"),
        (5.2 * GIB, math.inf, "5.2 GiB"),
        (math.nan, 16 * GIB, "–"),
        (math.nan, math.nan, "–"),
    ],
)
def test_an_amount_beside_its_limit_has_the_limits_prefix(used, limit, text):
    assert format_used(used, limit, "bytes") == text


def test_watts_beside_their_limit():
    assert format_used(249.6, 300.0, "watts") == "250 of 300 W"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0000031, "3.1 µs"),
        (0.0000996, "0.1 ms"),
        (0.0521, "52 ms"),
        (0.0994, "99 ms"),
        (0.0996, "0.1 s"),
        (0, "0 s"),
        (7.94, "7.9 s"),
        (42.4, "42 s"),
        (99.4, "99 s"),
        (99.6, "0:01:40"),
        (7503.2, "2:05:03"),
        (90000, "1 day, 1:00:00"),
        (float("nan"), "–"),
    ],
)
def test_a_length_of_time_is_as_short_as_it_is_clear(seconds, text):
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("change", "unit", "text"),
    [
        (512 * MIB, "bytes", "+512 MiB"),
        (-300 * MIB, "bytes", "−300 MiB"),
        (0.0, "bytes", "+0 B"),
        (-3.0, "percent", "−3%"),
        (math.nan, "bytes", "–"),
        (-math.inf, "bytes", "–"),
    ],
)
def test_a_change_has_a_sign(change, unit, text):
    assert format_change(change, unit) == text


def test_columns_of_texts_are_aligned():
    assert align([("a", "1", "x"), ("long", "22", "")]) == "a      1  x\nlong  22"
    assert align([("a", "1"), ("long", "22")], left=(1,)) == "   a  1\nlong  22"
