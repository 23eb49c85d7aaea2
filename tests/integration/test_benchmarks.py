"""What the benchmarks compute and count: a figure is worth no more than that."""

from __future__ import annotations

import itertools
import math
import random
import statistics
import subprocess
import sys
import time

import pytest
from cadence import told_of
from jumper import JumperProcess
from medians import median_of
from peers import in_percent, table
from sampled import hits_of, jitter, lateness_of
from watched import children, cost, cpu_clock, cpu_seconds, pair, slowdown
from watchers import Nothing, PerfmonWidgets, Ticker, _numbers_in

BUSY = "import time\nend = time.process_time() + {seconds}\nwhile time.process_time() < end: pass\n"


def test_the_median_of_all_there_could_be_lies_between_the_bounds():
    chance = random.Random(1)
    found = [median_of([chance.expovariate(1) for _ in range(20)]) for _ in range(500)]
    held = sum(one.holds(math.log(2)) for one in found)
    assert 0.93 * 500 <= held <= 500
    assert statistics.mean(one.high - one.low for one in found) < 1.5  # and they say something


def test_the_bounds_are_those_of_the_table_of_the_sign_test():
    assert median_of(list(range(1, 21))) == (10.5, 6, 15)
    assert median_of(list(range(1, 7))) == (3.5, 1, 6)


def test_five_values_are_too_few_to_be_sure():
    assert median_of([1.0, 2.0, 3.0, 4.0, 5.0]) == (3.0, -math.inf, math.inf)


def test_a_slowdown_says_whether_it_can_be_distinguished_from_none():
    assert in_percent(median_of([1.01] * 10)) == "+1.00 % (+1.00 … +1.00)"
    assert in_percent(median_of([0.99, 1.02] * 10)).endswith("no different from 0")


def test_the_cpu_clock_of_a_child_runs_with_its_work_and_survives_its_end():
    code = BUSY.format(seconds=0.3) + "print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        before = cpu_seconds([])
        child.stdout.readline()
        assert child.pid in children()
        assert cpu_clock(child.pid) >= 0.3
        alive = cpu_seconds([child.pid]) - before
        assert alive >= 0.3
        child.communicate(b"\n")
    assert cpu_clock(child.pid) == 0
    assert cpu_seconds([]) - before >= alive


def test_a_ticker_keeps_its_grid_and_does_not_catch_up():
    taken: list[float] = []

    def take() -> None:
        taken.append(time.monotonic())
        if len(taken) == 3:
            time.sleep(0.25)

    ticker = Ticker(take)
    ticker.start(0.05)
    while len(taken) < 8:
        time.sleep(0.01)
    ticker.stop()
    assert ticker.ticks == len(taken)
    apart = [after - before for before, after in itertools.pairwise(taken)]
    assert apart[2] >= 0.25
    # What was due meanwhile, four ticks at least, was not taken afterwards.
    assert (taken[-1] - taken[0]) / 0.05 > len(taken) - 1 + 3


def test_numbers_are_counted_however_deep_they_lie():
    assert _numbers_in([{"a": 1, "b": {"c": 2.5}, "name": "x", "on": True}, [3]]) == 3


def test_the_cost_of_this_package_is_that_of_its_samples():
    found = cost(PerfmonWidgets, 0.02, 0.5)
    assert found["numbers"] >= 15
    assert 10 <= found["ticks_per_second"] <= 52  # 25 in half a second, or one more
    assert 1e-5 < found["cpu_per_tick"] < 0.02
    assert found["start_up"] > found["cpu_per_tick"]


def test_each_pair_has_one_time_with_and_one_without():
    class Slow(Nothing):
        on = False

        def start(self, interval: float) -> None:
            self.on = True

        def stop(self) -> None:
            self.on = False

    watcher = Slow()
    times = {True: 3.0, False: 2.0}
    assert pair(watcher, 0.1, lambda: times[watcher.on], True) == 1.5
    assert pair(watcher, 0.1, lambda: times[watcher.on], False) == 1.5


def test_nothing_slows_nothing_down():
    found = slowdown(Nothing, 0.1, 0.01, 3, "cpu")["ratios"]
    assert list(found) == ["pure Python", "NumPy", "scikit-learn"]
    assert all(len(ratios) == 3 and min(ratios) > 0 for ratios in found.values())


def test_a_table_is_aligned():
    assert table(["", "a"], [["name", "1"]]) == "|      | a |\n| ---- | - |\n| name | 1 |"


def test_lateness_is_held_against_the_grid_of_the_first_row():
    times = [10.0, 10.11, 10.2, 10.55, 10.6]
    found = lateness_of(times, 0.1)
    assert found["due"] == 7
    assert found["holes"] == 1  # 10.3 and 10.4; the row of 10.5 came late
    assert found["max"] == pytest.approx(0.05)
    assert found["median"] == pytest.approx(0.0, abs=1e-9)
    assert found["longest"] == pytest.approx(0.35)


def test_a_first_row_that_was_late_makes_no_other_early():
    found = lateness_of([10.01, 10.1, 10.2], 0.1)
    assert (found["due"], found["holes"]) == (3, 0)
    assert found["max"] == 0


def test_hits_are_counted_by_the_rules_of_jumper():
    found = hits_of([0.0, 0.5, 1.0, 2.0, 2.5], 2, 3)
    assert found["there"] == pytest.approx(5 / 6)
    assert found["hits"] == pytest.approx(4 / 5)  # the first always is one
    assert found["longest"] == 2
    assert hits_of([0.0, 0.5, 1.0], 2, 1)["there"] == 1  # one more than were due


def test_what_a_c_call_that_holds_the_gil_costs_is_counted_and_marked():
    found = jitter("a C call that holds the GIL for 3 s", 0.05, 3.5)
    assert found["missed"] >= 50
    assert found["longest"] >= 2.9
    assert found["gaps"] >= 1
    # One more or less where the first tick comes late, or a stop falls on one.
    assert abs(found["rows"] + found["missed"] - found["due"]) <= 1


def test_what_is_not_reported_is_noticed():
    whole = {"rows": 8, "missed": 2, "due": 10, "gaps": 1, "holes": 1}
    assert told_of(whole)
    assert not told_of(whole | {"missed": 1})
    assert not told_of(whole | {"gaps": 0})


def test_a_backend_that_changes_priorities_is_kept_from_the_processes_of_others():
    with pytest.raises(RuntimeError, match="priority of other processes"):
        JumperProcess()
