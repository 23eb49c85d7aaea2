"""What a live tick costs with the panel shown: the goal is at most 2 ms of CPU time.

Not part of the tests. Run with: pytest tests/benchmarks/bench_panel.py -o addopts= -q
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from perfmon_widgets import PerformanceMonitor, PerformancePanel

sys.path.insert(0, str(Path(__file__).parents[1]))
from fakes.comm import Wire

ROUNDS = 60

pytestmark = pytest.mark.benchmark(timer=time.process_time, group="a whole live tick, CPU time")


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    return Wire(monkeypatch)


@contextmanager
def shown() -> Iterator[PerformancePanel]:
    """A panel over the collectors of this machine; with the rounds, the history has 90 to 150 rows."""
    panel = PerformancePanel(PerformanceMonitor())
    panel._viewers.heard("page", 1)  # nobody is sent nothing
    for _ in range(90):
        panel.monitor.sample()
    yield panel
    panel.close()


def test_sample_without_a_panel(benchmark):
    monitor = PerformanceMonitor()
    benchmark.pedantic(lambda: monitor.sample(), rounds=ROUNDS, iterations=5, warmup_rounds=5)


def test_tick_of_the_basic_view(benchmark, wire):
    with shown() as panel:
        benchmark.pedantic(lambda: panel.monitor.sample(), rounds=ROUNDS)
        wire.clear()
        panel.monitor.sample()
        assert len(wire.messages) == 1


@pytest.mark.parametrize("title", ["CPU", "Memory", "Disk", "Network", "This process"])
def test_tick_with_an_open_section(benchmark, wire, title):
    with shown() as panel:
        panel.advanced.selected_index = panel.advanced.titles.index(title)
        benchmark.pedantic(lambda: panel.monitor.sample(), rounds=ROUNDS)
        wire.clear()
        panel.monitor.sample()
        sent = {message.comm_id for message in wire.messages}
        charts = panel.advanced.children[panel.advanced.selected_index].charts
        assert all(chart.marks[0].comm.comm_id in sent for chart in charts)
