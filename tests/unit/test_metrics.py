"""What a column means: Metric and Sample."""

from __future__ import annotations

import dataclasses
import math

import pytest

from perfmon_widgets import Metric, Sample


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("cpu_percent", "percent"),
        ("core3/cpu_percent", "percent"),
        ("gpu0/memory_used_bytes", "bytes"),
        ("disk_read_bytes_per_second", "bytes_per_second"),
        ("rack/node/gpu0/power_watts", "watts"),
        ("percent", "percent"),
        ("gpu0/percent", "percent"),
        ("loss", ""),
    ],
)
def test_a_name_that_ends_in_its_unit_is_a_metric(name, unit):
    metric = Metric(name, unit, "cpu", "Some number.")
    assert (metric.name, metric.unit, metric.limit, metric.source, metric.device) == (
        name,
        unit,
        None,
        "",
        "",
    )


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("cpu", "percent"),
        ("cpu_percent", "bytes"),
        ("cpupercent", "percent"),  # the unit is a word of its own
        ("cpu_percent/0", "percent"),  # the unit stands last
        ("disk_bytes_per_second", "bytes"),
        ("percent/cpu", "percent"),
    ],
)
def test_a_name_that_does_not_end_in_its_unit_is_refused_by_name(name, unit):
    with pytest.raises(ValueError, match=f"'{name}' must end in its unit.*{name}_{unit}"):
        Metric(name, unit, "cpu", "Some number.")


@pytest.mark.parametrize("name", ["", "gpu0/"])
def test_a_name_that_says_nothing_is_refused(name):
    with pytest.raises(ValueError, match="empty after the slash"):
        Metric(name, "", "cpu", "Some number.")


@pytest.mark.parametrize("name", ["time", "devices", "gaps"])
def test_a_name_that_the_history_uses_itself_is_refused(name):
    """``history.attrs`` has under it what is about no single column; the index is ``time``."""
    with pytest.raises(ValueError, match=f"'{name}' is reserved for the history itself"):
        Metric(name, "", "cpu", "Some number.")


def test_a_metric_cannot_be_changed():
    metric = Metric("cpu_percent", "percent", "cpu", "Some number.")
    with pytest.raises(dataclasses.FrozenInstanceError):
        metric.name = "other_percent"


def test_a_metric_knows_where_it_belongs():
    assert Metric("gpu0/power_watts", "watts", "gpu", "").where == "gpu0"
    assert Metric("node1/gpu0/power_watts", "watts", "gpu", "").where == "node1/gpu0"
    assert Metric("cpu_percent", "percent", "cpu", "").where == ""


def test_a_sample_is_a_time_and_its_values_and_cannot_be_changed():
    sample = Sample(1.5, {"cpu_percent": 2.0})
    assert (sample.time, sample.values) == (1.5, {"cpu_percent": 2.0})
    with pytest.raises(dataclasses.FrozenInstanceError):
        sample.time = 2.0


def test_a_sample_is_printed_for_people():
    values = {"cpu_percent": 43.2109, "ram_used_bytes": 2_899_102_924.0, "swap_percent": math.nan}
    assert repr(Sample(1_700_000_000.1234, values)) == (
        "<Sample of 2023-11-14 22:13:20.123 UTC\n"
        "  cpu_percent     43.21\n"
        "  ram_used_bytes  2,899,102,924\n"
        "  swap_percent    –>"
    )
    assert repr(Sample(0, {})) == "<Sample of 1970-01-01 00:00:00.000 UTC>"


def test_a_name_with_a_lone_surrogate_is_refused_and_other_texts_are_made_writable():
    with pytest.raises(ValueError, match="no UTF-8 file can hold"):
        Metric("\udcff/cpu_percent", "percent", "cpu", "x")
    metric = Metric("cpu_percent", "percent", "cpu", "of \udcff", device="disk \udcff", label="\udcff")
    assert (metric.help, metric.device, metric.label) == ("of ?", "disk ?", "?")
