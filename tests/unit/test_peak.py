"""The highest memory of a process between two samples."""

from __future__ import annotations

import math
import os
import resource

import numpy as np
import pandas as pd
import pytest
from fakes.trees import MIB

from perfmon_widgets.collectors.linux.peak import Peak
from perfmon_widgets.collectors.linux.process import ProcessCollector
from perfmon_widgets.metrics import Sample
from perfmon_widgets.views import statistics
from perfmon_widgets.views.report import by_span, summary
from perfmon_widgets.views.statistics import Totals


def highest() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


def allocate_and_free(forked_resident: int) -> None:
    block = b"x" * forked_resident
    del block


def test_memory_that_is_held_between_two_samples_is_seen_once_and_by_each_monitor(forked):
    """In a fork, whose highest size so far is that of now."""

    def measure() -> list[float]:
        monitors = [ProcessCollector(), ProcessCollector()]
        before = monitors[0].collect()["process_ram_bytes"]
        monitors[1].collect()
        allocate_and_free(400 * MIB)
        peaks = [made.collect() for made in (*monitors, *monitors)]
        return [(row["process_ram_peak_bytes"] - before) / MIB for row in peaks]

    first, second, first_after, second_after = forked(measure)
    assert first == pytest.approx(400, abs=30)
    assert second == pytest.approx(400, abs=30)
    assert first_after == pytest.approx(0, abs=30)
    assert second_after == pytest.approx(0, abs=30)


def test_what_the_os_kernel_counts_for_the_whole_run_stays(forked):
    """The program itself, its parent and job schedulers read it."""

    def measure() -> tuple[float, float]:
        allocate_and_free(200 * MIB)
        before, made = highest(), ProcessCollector()
        for _ in range(3):
            made.collect()
        return before, highest()

    before, after = forked(measure)
    assert after >= before


def test_it_is_never_less_than_the_memory_of_the_sample():
    made = ProcessCollector()
    for _ in range(2):
        values = made.collect()
        assert values["process_ram_peak_bytes"] >= values["process_ram_bytes"]


def test_the_peak_of_another_program_begins_anew_when_it_executes_one(tmp_path):
    status = tmp_path / "status"
    status.write_text("Name:\tsh\nVmHWM:\t  9000 kB\n")
    peak = Peak(tmp_path, is_this_process=False)
    assert peak.read(5.0) == 5.0
    status.write_text("Name:\tpython\nVmHWM:\t  1000 kB\n")
    assert peak.read(5.0) == 5.0
    status.write_text("Name:\tpython\nVmHWM:\t  2000 kB\n")
    assert peak.read(5.0) == 2000 * 1024
    assert peak.read(5.0) == 5.0


def test_where_it_is_not_counted_it_is_missing_with_a_reason(tmp_path):
    own = tmp_path / str(os.getpid())
    own.mkdir()
    (tmp_path / "self").symlink_to(own.name)
    (own / "statm").write_text("5000 250 0 1 0 90 0\n")
    made = ProcessCollector(tmp_path)
    assert "process_ram_peak_bytes" not in made.collect()
    assert "does not count this" in made.errors["process_ram_peak_bytes"]


def rows() -> pd.DataFrame:
    """Five rows, one a second, with a peak of 9 between the third and the fourth."""
    index = pd.to_datetime(np.arange(5.0), unit="s", utc=True)
    columns = {"process_ram_bytes": [1, 2, 3, 2, 1], "process_ram_peak_bytes": [1, 2, 3, 9, 1]}
    return pd.DataFrame({name: np.array(values, float) for name, values in columns.items()}, index=index)


def test_the_maximum_of_the_memory_is_that_of_its_peaks():
    found = summary(rows())
    assert found.loc["process_ram_bytes", "max"] == 9
    assert found.loc["process_ram_bytes", "mean"] < 3
    spans = pd.DataFrame({"start": rows().index[[1, 2]], "end": rows().index[[2, 4]]})
    assert by_span(rows(), spans)["process_ram_bytes"]["max"].tolist() == [3, 9]
    totals = Totals()
    for time, row in enumerate(rows().to_dict("records")):
        totals.add(Sample(float(time), row))
    assert totals.peak("process_ram_bytes") == 9


def test_without_peaks_the_maximum_is_that_of_the_samples():
    assert statistics.with_peaks(np.array([3.0]), ["process_ram_bytes"]).tolist() == [3]
    both = ["process_ram_peak_bytes", "process_ram_bytes"]
    assert statistics.with_peaks(np.array([math.nan, 3.0]), both).tolist()[1] == 3
