"""Numbers that cannot be true: missing with a reason, and only theirs."""

from __future__ import annotations

import math
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from fakes.amd import DISCRETE, MIB, FakeAmd
from fakes.collectors import FakeMachine

from perfmon_widgets.collectors.amd.collector import AmdCollector
from perfmon_widgets.collectors.linux.host import HostCollector
from perfmon_widgets.collectors.plausible import impossible


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
        ("watts", 4294967.295, "more than 100000"),
        ("tokens", 1e30, ""),  # a unit that this package does not know
    ],
)
def test_what_cannot_be_true(unit, value, words):
    assert (words in impossible(unit, value)) is True
    assert bool(impossible(unit, value)) is bool(words)


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
