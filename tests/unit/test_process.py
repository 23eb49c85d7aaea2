"""This process's own share of the machine, its children included: real children do real work."""

from __future__ import annotations

import math
import os
import time
import warnings
from pathlib import Path

import pytest
from fakes import trees
from fakes.collectors import read
from fakes.trees import MIB, PAGE, SLACK

from perfmon_widgets.collectors import Collector, allowance
from perfmon_widgets.collectors.linux import limits, newcomers
from perfmon_widgets.collectors.linux.process import ProcessCollector


@pytest.fixture(autouse=True)
def look_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Children are looked for at every reading, not every ten seconds."""
    monkeypatch.setattr(newcomers, "_EVERY", 0.0)
    monkeypatch.setattr(allowance, "_SHARE", math.inf)


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def fork() -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from Python 3.12, where threads are running
        return os.fork()


def test_it_is_a_collector_of_five_numbers():
    made = ProcessCollector()
    assert isinstance(made, Collector)
    assert [metric.name for metric in made.metrics] == [
        "process_cpu_percent",
        "process_ram_bytes",
        "process_ram_peak_bytes",
        "process_read_bytes_per_second",
        "process_write_bytes_per_second",
    ]
    assert set(read(made)) == {metric.name for metric in made.metrics}


def test_only_a_machine_with_proc_has_one(tmp_path):
    with pytest.raises(FileNotFoundError):
        ProcessCollector(tmp_path)


def test_the_first_reading_of_a_rate_is_missing():
    values = ProcessCollector().collect()
    assert math.isnan(values["process_cpu_percent"])
    assert math.isnan(values["process_read_bytes_per_second"])
    assert math.isnan(values["process_write_bytes_per_second"])
    assert values["process_ram_bytes"] > 0


def test_memory_is_what_is_resident():
    made = ProcessCollector()
    assert made.collect()["process_ram_bytes"] == pytest.approx(resident(), abs=SLACK)


def test_memory_grows_by_what_is_used():
    made = ProcessCollector()
    before = made.collect()["process_ram_bytes"]
    block = bytearray(os.urandom(1)) * (100 * MIB)
    assert made.collect()["process_ram_bytes"] - before == pytest.approx(100 * MIB, abs=SLACK)
    del block


def test_work_of_this_process_is_its_share_of_the_allowed_cpus(monkeypatch):
    monkeypatch.setattr(limits, "allowed_cpus", lambda: (0, 1, 2, 3))
    made = ProcessCollector()
    made.collect()
    clock, cpu = time.monotonic(), time.process_time()
    while time.process_time() - cpu < 0.1:
        pass
    expected = 100 * (time.process_time() - cpu) / (time.monotonic() - clock) / 4
    assert made.collect()["process_cpu_percent"] == pytest.approx(expected, rel=0.1)
    assert "of 4 CPUs" in next(m.source for m in made.metrics if m.name == "process_cpu_percent")


def test_a_quota_below_the_cpus_is_what_the_share_is_of(monkeypatch):
    quota = limits.CpuQuota(2.5, "cpu.max", None)
    monkeypatch.setattr(limits, "allowed", lambda *_: limits.Allowed((0, 1, 2, 3), None, quota))
    made = ProcessCollector()
    made.collect()
    clock, cpu = time.monotonic(), time.process_time()
    while time.process_time() - cpu < 0.1:
        pass
    expected = 100 * (time.process_time() - cpu) / (time.monotonic() - clock) / 2.5
    assert made.collect()["process_cpu_percent"] == pytest.approx(expected, rel=0.1)


def test_another_process_that_is_not_there_is_an_error():
    with pytest.raises(FileNotFoundError):
        ProcessCollector(root=2**22 + 1)


def test_traffic_that_may_not_be_seen_any_more_costs_its_own_columns(monkeypatch):
    made = ProcessCollector()
    made.collect()

    class Forbidden:
        def read(self):
            raise PermissionError(13, "Permission denied")  # as of a process that has become another user's

    monkeypatch.setattr(made, "_traffic", Forbidden())
    values = made.collect()
    assert values["process_ram_bytes"] > 0
    assert "process_read_bytes_per_second" not in values
    assert "not permitted" in made.errors["process_write_bytes_per_second"]


def test_an_idle_process_is_idle():
    made = ProcessCollector()
    made.collect()
    time.sleep(0.2)
    assert made.collect()["process_cpu_percent"] < 20


def test_a_child_that_has_ended_and_was_not_waited_for_does_no_harm():
    made = ProcessCollector()
    number = fork()
    if number == 0:
        os._exit(0)
    os.waitid(os.P_PID, number, os.WEXITED | os.WNOWAIT)  # it has ended, and is a zombie
    made.collect()
    values = made.collect()
    assert values["process_cpu_percent"] >= 0
    assert values["process_ram_bytes"] == pytest.approx(resident(), abs=SLACK)
    assert made.errors == {}
    os.waitpid(number, 0)


def test_a_forked_child_goes_by_its_own_limits_at_once():
    made = ProcessCollector()
    made.collect()
    number = fork()
    if number == 0:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        made.collect()
        os._exit(0 if "of 1 CPUs" in made.metrics[0].source else 1)
    assert os.waitpid(number, 0)[1] == 0


def test_pages_that_a_forked_child_shares_with_its_parent_count_once():
    block = bytearray(b"x") * (200 * MIB)
    made = ProcessCollector()
    before = made.collect()["process_ram_bytes"]
    with trees.forked():
        after = made.collect()["process_ram_bytes"]
    assert after - before == pytest.approx(0, abs=SLACK)  # and not 200 MiB
    del block


def test_pages_that_a_forked_child_has_written_to_count_for_themselves():
    block = bytearray(b"x") * (100 * MIB)
    made = ProcessCollector()
    before = made.collect()["process_ram_bytes"]

    def write() -> None:
        for at in range(0, len(block), PAGE):
            block[at] = 1

    with trees.forked(write):
        after = made.collect()["process_ram_bytes"]
    assert after - before == pytest.approx(100 * MIB, abs=SLACK)


def test_what_is_written_to_disk_counts(tmp_path):
    made = ProcessCollector()
    made.collect()
    written = lambda: int(Path("/proc/self/io").read_text().split("\nwrite_bytes: ")[1].split()[0])  # noqa: E731
    before, clock = written(), time.monotonic()
    with (tmp_path / "data").open("wb") as file:
        file.write(os.urandom(4 * MIB))
        os.fsync(file.fileno())
    time.sleep(0.05)
    value = made.collect()["process_write_bytes_per_second"]
    assert value == pytest.approx((written() - before) / (time.monotonic() - clock), rel=0.2)
    assert value > 0 or written() == before


def test_where_traffic_is_not_counted_it_is_missing_with_a_reason(tmp_path):
    """Canned files: a container may hide /proc/self/io."""
    own = tmp_path / "self"
    own.mkdir()
    (own / "statm").write_text("5000 250 100 1 0 90 0\n")
    made = ProcessCollector(tmp_path)
    values = made.collect()
    assert values["process_ram_bytes"] == 250 * PAGE
    assert "process_read_bytes_per_second" not in values
    assert "does not count this" in made.errors["process_read_bytes_per_second"]
    assert "does not count this" in made.errors["process_write_bytes_per_second"]


def test_where_pages_cannot_be_sampled_files_count_once_and_the_rest_in_full(tmp_path):
    """Canned files of an OS kernel without pagemap, with one child of this process."""
    me = str(os.getpid())
    for name, pages in (("self", 250), (me, 250), ("4242", 1000)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "statm").write_text(f"5000 {pages} 100 1 0 90 0\n")
        times = f"50 50 0 0 20 0 1 0 5 9000 {pages} 1"
        parent = me if name == "4242" else 1
        (folder / "stat").write_text(f"{name} (x) S {parent} 1 1 0 -1 0 0 0 0 0 {times}\n")
    assert ProcessCollector(tmp_path).collect()["process_ram_bytes"] == 1150 * PAGE


def test_a_forked_child_measures_itself(forked):
    block = bytearray(b"x") * (50 * MIB)
    made = ProcessCollector()
    made.collect()
    made.collect()

    def in_child() -> tuple[bool, float, float, float]:
        first = made.collect()
        own = bytearray(b"y") * (100 * MIB)
        after, there = made.collect(), resident()
        del own
        grown = after["process_ram_bytes"] - first["process_ram_bytes"]
        return math.isnan(first["process_cpu_percent"]), grown, after["process_ram_bytes"], there

    # Not held against the parent's memory: of that the child has all but the files that were mapped.
    first_is_missing, grown, memory, there = forked(in_child)
    assert first_is_missing
    assert grown == pytest.approx(100 * MIB, abs=SLACK)
    assert memory == pytest.approx(there, abs=SLACK)
    del block
