"""Numbers that cannot be true: missing with a reason, and only theirs."""

from __future__ import annotations

import math
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from fakes.amd import DISCRETE, MIB, FakeAmd
from fakes.collectors import FakeCollector, FakeMachine, OtherCollector, metric
from hypothesis import given
from hypothesis import strategies as st

from perfmon_widgets import Metric, PerformanceMonitor
from perfmon_widgets.collectors import portable
from perfmon_widgets.collectors.amd.collector import AmdCollector
from perfmon_widgets.collectors.linux.host import HostCollector
from perfmon_widgets.collectors.plausible import checked, impossible


@pytest.mark.parametrize(
    ("unit", "value", "words"),
    [
        ("percent", 0.0, ""),
        ("percent", 100.0, ""),
        ("percent", math.nan, ""),
        ("percent", -0.1, "less than 0"),
        ("percent", 4294967295, "more than 100"),
        ("bytes", 2.0**50, ""),
        ("bytes", 2.0**64, "more than"),
        ("bytes_per_second", 1e15, ""),
        ("bytes_per_second", -1, "less than 0"),
        ("bytes_per_second", math.inf, "infinite"),
        ("watts", 4294967.295, "more than 100000"),
        ("celsius", -12.0, ""),
        ("", -1.5, ""),  # such as a loss
        ("tokens", 1e30, ""),  # a unit that this package does not know
    ],
)
def test_what_cannot_be_true(unit, value, words):
    assert (words in impossible(unit, value)) is True
    assert bool(impossible(unit, value)) is bool(words)


@pytest.mark.parametrize(
    ("value", "expected"), [(100.0, 100.0), (100.4, 100.0), (101.0, 100.0), (99.9, 99.9)]
)
def test_a_share_a_little_above_all_is_all(value, expected):
    assert checked("percent", value) == (expected, "")


def test_more_than_the_limit_cannot_be_true():
    assert impossible("bytes", 11, limit=10)
    assert not impossible("bytes", 10, limit=10)
    assert not impossible("bytes", 10, limit=math.nan)


def collected(machine: FakeMachine) -> tuple[dict[str, float], dict[str, str]]:
    made = HostCollector(machine.proc, machine.sys, environment={})
    made.collect()
    values = dict(made.collect())
    made.close()
    return values, made.errors


@pytest.mark.parametrize("free", [2_001, 18446744073709346016])
def test_more_free_swap_than_there_is_costs_the_swap_columns(machine, free):
    machine.write_memory(MemTotal=16_000, MemFree=4_000, MemAvailable=10_000, SwapTotal=2_000, SwapFree=free)
    values, errors = collected(machine)
    assert math.isnan(values["swap_used_bytes"])
    assert "less than 0" in errors["swap_used_bytes"]
    assert "less than 0" in errors["swap_percent"]
    assert values["swap_limit_bytes"] == 2_000 * 1024
    assert values["ram_percent"] == 37.5


@pytest.mark.parametrize("available", [0, 18446744073708785356])
def test_a_machine_without_memory_costs_the_memory_columns_only(machine, available):
    """lxcfs#389."""
    machine.write_memory(MemTotal=0, MemFree=available, MemAvailable=available, SwapTotal=0, SwapFree=0)
    values, errors = collected(machine)
    assert "ram_used_bytes" not in values
    assert "of 0 bytes are free" in errors["ram_used_bytes"]
    assert values["disk_used_bytes"] > 0
    assert "cpu_percent" in values


def test_a_format_that_is_not_known_costs_its_part_only(machine):
    machine.write("proc/meminfo", "MemTotal: many kB\nMemAvailable: 1 kB\n")
    values, errors = collected(machine)
    assert "format is not known" in errors["ram_used_bytes"]
    assert values["disk_used_bytes"] > 0


@pytest.mark.parametrize(
    ("blocks", "free", "available"), [(1000, 1024, 1024), (1000, 400, 2**64 - 5)], ids=["more free", "wraps"]
)
def test_a_file_system_with_more_free_than_it_has_has_no_numbers(
    machine, monkeypatch, blocks, free, available
):
    space = SimpleNamespace(f_blocks=blocks, f_bfree=free, f_bavail=available, f_frsize=4096, f_fsid=blocks)
    monkeypatch.setattr(os, "statvfs", lambda path: space)
    values, errors = collected(machine)
    assert all(math.isnan(values[f"disk_{what}"]) for what in ("percent", "used_bytes", "limit_bytes"))
    assert "cannot be" in errors["disk_percent"]
    assert values["ram_percent"] > 0


def test_a_file_system_in_whose_reserve_root_writes_is_full(machine, monkeypatch):
    """df prints 101 %."""
    space = SimpleNamespace(f_blocks=1000, f_bfree=400, f_bavail=-5, f_frsize=4096, f_fsid=1)
    monkeypatch.setattr(os, "statvfs", lambda path: space)
    assert collected(machine)[0]["disk_percent"] == 100


def test_an_amd_gpu_that_prints_garbage_has_no_such_numbers(tmp_path: Path):
    machine = FakeAmd(tmp_path)
    garbage = {"gpu_busy_percent": "65535", "mem_busy_percent": "-1", "mem_info_vram_used": str(20_000 * MIB)}
    machine.gpu("0000:c5:00.0", DISCRETE | garbage)
    made = AmdCollector(
        [0], sys=machine.sys, proc=machine.proc, dev=machine.dev, environment={}, opener=machine.open
    )
    values = made.collect()
    made.close()
    assert set(made.errors) == {
        "gpu0/utilization_percent",
        "gpu0/memory_activity_percent",
        "gpu0/memory_percent",
        "gpu0/memory_used_bytes",
    }
    assert not set(made.errors) & set(values)
    assert values["gpu0/power_watts"] == 123.0


@pytest.mark.parametrize("power", ["65535000000", "4294967295"])
def test_power_and_clock_that_no_gpu_has(tmp_path: Path, power: str):
    """65535 of a 16-bit field of gpu_metrics, in W and MHz."""
    machine = FakeAmd(tmp_path)
    garbage = {"hwmon/hwmon3/power1_average": power, "hwmon/hwmon3/freq1_input": "65535000000"}
    machine.gpu("0000:c5:00.0", DISCRETE | garbage)
    made = AmdCollector(
        [0], sys=machine.sys, proc=machine.proc, dev=machine.dev, environment={}, opener=machine.open
    )
    values = made.collect()
    made.close()
    assert set(made.errors) == {"gpu0/power_watts", "gpu0/clock_hertz"}
    assert values["gpu0/memory_clock_hertz"] == 1e9


# -- collectors of the user's own --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "unit", "value", "words"),
    [
        ("a_percent", "percent", 65535, "more than 100"),
        ("a_percent", "percent", -0.5, "less than 0"),
        ("a_bytes", "bytes", -1.9e22, "less than 0"),
        ("a_bytes", "bytes", 2.0**64 - 4096, "more than"),
        ("a_bytes_per_second", "bytes_per_second", -7, "less than 0"),
        ("requests_per_second", "requests_per_second", -7, "less than 0"),
        ("a_watts", "watts", 4294967.295, "more than 100000"),
        ("a_hertz", "hertz", -1, "less than 0"),
    ],
)
def test_a_value_of_the_users_that_cannot_be_true_costs_its_own_column(name, unit, value, words):
    answers = iter([value, 1.0])
    declared = [Metric(name, unit, "mine", "About it."), metric("b_percent")]
    mine = FakeCollector(metrics=declared, read=lambda: {name: next(answers), "b_percent": 100.3})
    monitor = PerformanceMonitor([mine, OtherCollector("c_percent")])
    sample = monitor.sample()
    assert math.isnan(sample.values[name])
    assert (sample.values["b_percent"], sample.values["c_percent"]) == (100.0, 0.0)
    assert set(monitor.errors) == {name}
    assert words in monitor.errors[name]
    assert monitor.sample().values[name] == 1.0
    assert monitor.errors == {}


@pytest.mark.parametrize("limit", [1000.0, "most_bytes"])
def test_bytes_of_the_users_are_at_most_their_limit(limit):
    declared = [Metric("used_bytes", "bytes", "mine", "In use.", limit=limit), metric("most_bytes")]
    values = {"used_bytes": 1001.0, "most_bytes": 1000.0}
    monitor = PerformanceMonitor([FakeCollector(metrics=declared, read=lambda: values)])
    sample = monitor.sample()
    assert math.isnan(sample.values["used_bytes"])
    assert sample.values["most_bytes"] == 1000.0
    assert "more than 1000" in monitor.errors["used_bytes"]
    values["used_bytes"] = 1000.0
    assert monitor.sample().values["used_bytes"] == 1000.0
    values |= {"used_bytes": 5000.0, "most_bytes": math.nan}
    if isinstance(limit, str):
        assert monitor.sample().values["used_bytes"] == 5000.0  # the limit is not known now


def test_a_limit_in_a_column_of_another_source_counts():
    used = Metric("used_bytes", "bytes", "mine", "In use.", limit="most_bytes")
    first = FakeCollector("most_bytes", read=lambda: {"most_bytes": 10})
    monitor = PerformanceMonitor([first, OtherCollector(metrics=[used], read=lambda: {"used_bytes": 11})])
    assert math.isnan(monitor.sample().values["used_bytes"])
    assert "more than 10" in monitor.errors["used_bytes"]


class Zero:
    """A value that fails when it is asked for."""

    def __float__(self) -> float:
        return 1 / 0


@pytest.mark.parametrize("value", ["N/A", None, Zero()])
def test_a_value_of_the_users_that_is_no_number_leaves_the_others(value):
    mine = FakeCollector("a_percent", "b_percent", read=lambda: {"a_percent": value, "b_percent": 5})
    monitor = PerformanceMonitor([mine])
    sample = monitor.sample()
    assert math.isnan(sample.values["a_percent"])
    assert sample.values["b_percent"] == 5
    assert set(monitor.errors) == {"FakeCollector", "a_percent"}
    assert monitor.errors["FakeCollector"].startswith("a_percent: ")


@given(st.dictionaries(st.sampled_from(["a_percent", "b_bytes", "c_watts", "d_hertz"]), st.floats()))
def test_whatever_a_collector_returns_only_what_can_be_true_is_kept(reading):
    monitor = PerformanceMonitor(
        [FakeCollector("a_percent", "b_bytes", "c_watts", "d_hertz", read=lambda: reading)]
    )
    sample = monitor.sample()
    for name, value in sample.values.items():
        assert math.isnan(value) or value == reading[name] or (name, value) == ("a_percent", 100.0)
        assert not impossible(name.rpartition("_")[2], value)
        lost = math.isnan(value) and not math.isnan(reading.get(name, math.nan))
        assert lost == (name in monitor.errors)


def test_a_value_of_psutil_that_cannot_be_true_costs_its_own_column(monkeypatch):
    memory = SimpleNamespace(percent=140.0, total=1000, available=400)
    monkeypatch.setattr(portable.psutil, "virtual_memory", lambda: memory)
    made = portable.PortableCollector()
    values = made.collect()
    assert math.isnan(values["ram_percent"])
    assert values["ram_used_bytes"] == 600
    assert "more than 100" in made.errors["ram_percent"]
