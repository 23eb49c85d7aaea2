"""When something will be full: right where it grows steadily, and no false alarms over a day."""

from __future__ import annotations

import numpy as np
import pytest

from perfmon_widgets.views.findings import LOOKS_BACK
from perfmon_widgets.views.forecast import Forecast, forecast

HOUR = 3600.0
LIMIT = 16.0


def steady(pace: float, lasted: float, start: float = 4.0, interval: float = 5.0) -> Forecast | None:
    """The forecast after growth at this pace per minute."""
    times = np.arange(0.0, lasted + interval, interval)
    return forecast(times, start + pace * times / 60, LIMIT)


@pytest.mark.parametrize("interval", [0.2, 1.0, 5.0, 10.0])
def test_steady_growth_is_extended_to_the_limit(interval):
    found = steady(1.2, lasted=180.0, start=10.0, interval=interval)
    assert found is not None
    assert found.seconds == pytest.approx((16.0 - 13.6) / 1.2 * 60, rel=0.05)
    assert 60 * found.per_second == pytest.approx(1.2, rel=0.05)


def test_noise_does_not_matter():
    random = np.random.default_rng(0)
    for _ in range(50):
        times = np.arange(0.0, 200.0, 1.0)
        used = 8 + 1.5 * times / 60 + random.normal(0, 0.05, len(times))
        found = forecast(times, used, LIMIT)
        assert found is not None
        assert found.seconds == pytest.approx((16 - 13) / 1.5 * 60, rel=0.2)


def test_a_short_growth_is_not_extended_unless_little_is_left():
    assert steady(4.0, lasted=60.0) is None
    assert steady(4.0, lasted=120.0) is not None
    assert steady(2.0, lasted=40.0, start=13.5) is not None
    assert steady(2.0, lasted=20.0, start=14.5) is None


def test_what_is_far_away_is_not_said():
    assert steady(0.5, lasted=300.0, start=6.1) is not None  # full in 15 min
    assert steady(0.5, lasted=300.0, start=5.9) is None
    assert steady(1.0, lasted=120.0, start=4.1) is not None  # full in 10 min
    assert steady(1.0, lasted=120.0, start=3.9) is None


def test_what_falls_or_stays_is_not_said():
    assert steady(0.0, lasted=300.0) is None
    assert steady(-1.0, lasted=300.0, start=12.0) is None


def test_one_jump_is_no_growth():
    times = np.arange(0.0, 300.0, 5.0)
    for at in times[1:]:
        assert forecast(times, np.where(times >= at, 14.0, 4.0), LIMIT) is None


def test_what_slows_down_is_not_extended():
    times = np.arange(0.0, 600.0, 5.0)
    used = 15.0 - 11.0 * np.exp(-times / 100)
    assert all(forecast(times[:end], used[:end], LIMIT) is None for end in range(30, len(times)))


def test_checkpoints_fill_a_disk_in_steps():
    times = np.arange(0.0, 600.0, 5.0)
    used = 1.0 + np.floor(times / 50)  # one every 50 s
    found = forecast(times, used, 20.0)
    assert found is not None
    assert found.seconds == pytest.approx((20 - used[-1]) * 50, rel=0.3)


@pytest.mark.parametrize("limit", [np.nan, np.inf, 0.0, -1.0])
def test_without_a_limit_there_is_no_forecast(limit):
    times = np.arange(0.0, 300.0, 5.0)
    assert forecast(times, 4 + times / 60, limit) is None


# -- a day in which memory is never full -------------------------------------------------------------------


def alarms(times, used) -> int:
    """How many warnings a person would see: stretches of samples with a forecast, within 10 min one."""
    count, said = 0, -np.inf
    for end in range(2, len(times), 3):  # every 15 s
        begin = np.searchsorted(times, times[end] - LOOKS_BACK)
        if forecast(times[begin : end + 1], used[begin : end + 1], LIMIT) is not None:
            count += times[end] - said > LOOKS_BACK
            said = times[end]
    return count


def day(seed: int):
    random = np.random.default_rng(seed)
    times = np.arange(0.0, 8 * HOUR, 5.0)
    return random, times, random.normal(0, 0.02, len(times))


def collected(seed: int):
    """A collector of garbage: memory climbs for half a minute to ten, by 2 to 6, and falls at once."""
    random, times, noise = day(seed)
    used, at = 3.0 + noise, 0.0
    period, height = random.uniform(30, 600), random.uniform(2, 6)
    while at < times[-1]:
        length = period * random.uniform(0.8, 1.2)
        tooth = (times >= at) & (times < at + length)
        used[tooth] += height * (times[tooth] - at) / length * random.uniform(0.9, 1.1)
        at += length
    return times, used


def cached(seed: int):
    """Caches that fill, fast at first, and are dropped every half hour."""
    random, times, noise = day(seed)
    since = times % (0.5 * HOUR)
    return times, 3.0 + noise + random.uniform(4, 11) * (1 - np.exp(-since / random.uniform(30, 600)))


def loaded(seed: int):
    """Data sets that are read within 5 to 90 s, 1 to 9 in size, twice an hour, and dropped later."""
    random, times, noise = day(seed)
    used = 2.0 + noise
    for at in np.arange(0.25 * HOUR, 8 * HOUR, 0.5 * HOUR):
        takes, size = random.uniform(5, 90), random.uniform(1, 9)
        held = (times >= at) & (times < at + random.uniform(100, 1700))
        used[held] += size * np.minimum((times[held] - at) / takes, 1.0)
    return times, used


def wandering(seed: int):
    """Cells that take and release memory at random."""
    random, times, noise = day(seed)
    steps = random.normal(0, 0.15, len(times)) * (random.random(len(times)) < 0.2)
    walk = np.abs((np.cumsum(steps) + 6) % 20 - 10)  # between 0 and 10
    return times, 3.0 + noise + walk


@pytest.mark.parametrize("kind", [collected, cached, loaded, wandering])
def test_less_than_one_false_alarm_in_eight_hours(kind):
    counts = [alarms(*kind(seed)) for seed in range(3)]
    assert sum(counts) < len(counts), counts
