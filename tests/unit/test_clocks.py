"""The clocks go on while a test of the user's freezes the time, as freezegun does."""

from __future__ import annotations

import ast
import math
import os
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

import perfmon_widgets
from perfmon_widgets import PerformanceMonitor

FUNCTIONS = ("monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "time", "time_ns")


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the clocks in ``time``, and in each module of this package that has one of them by name."""
    real = {id(getattr(time, name)): name for name in FUNCTIONS}
    ours = [module for name, module in sys.modules.items() if name.startswith("perfmon_widgets")]
    for module in (time, *ours):
        if isinstance(module, ModuleType):
            for attribute, value in list(vars(module).items()):
                if id(value) in real:
                    monkeypatch.setattr(module, attribute, lambda: 1e9)


def spin(seconds: float) -> None:
    """Use CPU time for so long, by a clock that nothing replaces. It ticks a hundred times a second."""
    until = os.times().elapsed + seconds
    while os.times().elapsed < until:
        pass


def test_rates_rows_and_durations_are_right_while_the_time_is_frozen(frozen):
    monitor = PerformanceMonitor()
    monitor.sample()
    cpu, elapsed = sum(os.times()[:4]), os.times().elapsed
    with monitor.span("a"):
        spin(0.3)
    sample = monitor.sample()
    cpu, elapsed = sum(os.times()[:4]) - cpu, os.times().elapsed - elapsed
    share = sample.values["process_cpu_percent"]
    assert not math.isnan(share)
    # A share of all CPUs that may be used; how many these are is measured elsewhere.
    assert 0.5 * 100 * cpu / elapsed / (os.cpu_count() or 1) <= share <= 2 * 100 * cpu / elapsed
    assert 0.28 <= monitor.spans["duration_seconds"].iloc[0] <= 2 * elapsed
    first, second = monitor.history.index
    assert 0.28 <= (second - first).total_seconds() <= 2 * elapsed
    monitor.stop()


def test_no_module_takes_its_clocks_from_elsewhere():
    package = Path(perfmon_widgets.__file__).parent
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            imported = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                imported.append(node.module or "")
            assert "time" not in imported or path.name == "clocks.py", path
