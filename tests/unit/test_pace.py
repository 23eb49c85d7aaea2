"""Samples come more often while memory fills up, and only then."""

from __future__ import annotations

import math

import pytest
from fakes.collectors import FakeCollector, Samples, metric

from perfmon_widgets import PerformanceMonitor
from perfmon_widgets.core.pace import Pace
from perfmon_widgets.metrics import Sample


def seconds(*samples: tuple[float, float]) -> float:
    """The pace after samples of RAM in percent, each with its time."""
    pace = Pace()
    for at, percent in samples:
        pace.note(Sample(at, {"ram_percent": percent}))
    return pace.seconds


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        ([(0, 85)], math.inf),  # nothing to compare with
        ([(0, 70), (5, 79)], math.inf),  # not nearly full
        ([(0, 85), (5, 85)], math.inf),  # nearly full, but it does not grow
        ([(0, 90), (5, 85)], math.inf),
        ([(0, 79), (5, 80)], 5.0),  # full in 100 s: 20 samples until then
        ([(0, 70), (5, 90)], 0.125),
        ([(0, 20), (5, 95)], 0.1),  # ten a second at most
        ([(0, 80), (5, 99.9)], 0.1),
        ([(0, math.nan), (5, 95)], math.inf),
        ([(0, 80), (5, math.nan)], math.inf),
        ([(5, 80), (5, 95)], math.inf),
        ([(0, 80), (5, 95), (5.1, 95)], math.inf),
    ],
)
def test_the_pace(samples, expected):
    assert seconds(*samples) == expected


def test_without_the_column_nothing_changes():
    pace = Pace()
    pace.note(Sample(0.0, {}))
    pace.note(Sample(5.0, {"cpu_percent": 99.0}))
    assert pace.seconds == math.inf


def test_a_running_monitor_takes_more_samples_while_memory_fills_up():
    """Several within the time of one interval, which is an hour."""
    values = iter([{"ram_percent": percent} for percent in (70.0, 82.0, 84.0, 86.0, 88.0, 90.0, 92.0)])
    samples = Samples()
    collector = FakeCollector(
        read=lambda: next(values, {"ram_percent": 92.0}), metrics=(metric("ram_percent"),)
    )
    with PerformanceMonitor([collector], interval=3600) as monitor:
        monitor.on_sample(samples)
        while monitor.latest is None:
            pass
        monitor.sample()
        monitor.interval = 3599  # as any change, this makes the thread look when the next sample is due
        while samples.next(30).values["ram_percent"] != 92.0:
            pass  # of the six that come before, the first may have been taken before the callback was added
        assert monitor.interval == 3599
        # Not those of the time before, when the interval was longer; a busy machine may miss a few now.
        assert monitor.missed < 20
