"""The soak run (benchmarks/soak.py): a short one passes, and a long one reports what is lost or grows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.soak import Reading, complaints, growth, lost

SOAK = Path(__file__).parents[1] / "benchmarks" / "soak.py"


def readings(**rises: int) -> list[Reading]:
    """A reading after each thousand samples, in which these fields rise by so much each time."""
    usual = {"missed": 0, "resident": 10**8, "threads": 5, "files": 26, "messages": 0}
    return [
        Reading(
            seconds=60.0 * number,
            samples=1000 * number,
            **{name: value + number * rises.get(name, 0) for name, value in usual.items()},
        )
        for number in range(30)
    ]


@pytest.mark.alone
def test_a_short_run_loses_nothing():
    ran = subprocess.run(
        # Of a few seconds the growth means nothing: that is what the long run is for.
        [sys.executable, SOAK, "--minutes", "0.15", "--window", "6", "--growth", "50"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.stderr == ""
    assert (ran.returncode, ran.stdout.splitlines()[-1]) == (0, "nothing was lost, and nothing grew"), (
        ran.stdout
    )


def test_what_stays_the_same_is_no_growth():
    assert complaints(readings(messages=100), 1e6) == []
    assert growth(readings())[1] == pytest.approx(0.0, abs=1.0)  # byte


def test_the_growth_is_reported_per_sample_and_in_all():
    per_sample, risen = growth(readings(resident=100_000))
    assert per_sample == pytest.approx(100.0)  # bytes, which is MB per million
    assert risen == pytest.approx(29 * 100_000)


@pytest.mark.parametrize("name", ["resident", "threads", "files"])
def test_each_growth_is_a_complaint_of_its_own(name):
    [complaint] = complaints(readings(**{name: 100_000}), 1e6)
    assert complaint.startswith({"resident": "memory"}.get(name, name))


def test_a_connection_that_comes_and_goes_is_no_growth():
    busy = [
        Reading(one.seconds, one.samples, 0, one.resident, 5 + number % 2, 26 + number % 3, 0)
        for number, one in enumerate(readings())
    ]
    assert complaints(busy, 1e6) == []


@pytest.mark.parametrize(
    ("numbers", "followed", "due", "complaint"),
    [
        ([0, 1, 2, 3], 4, 6, None),  # two were missed
        ([0, 1, 3], 4, 6, "1 are not in the file"),
        ([0, 1, 3, 2], 4, 6, "not in order"),
        ([0, 1, 2, 2, 3], 4, 6, "not in order"),
        ([0, 1, 2, 3], 3, 6, "3 came to the client"),
        ([0, 1, 2, 3], 4, 60, "60 ticks were due"),
    ],
)
def test_what_is_missing_is_reported(numbers, followed, due, complaint):
    found = lost(4, 2, due, 2, numbers, followed)
    assert [complaint in each for each in found] == ([True] if complaint else [])
