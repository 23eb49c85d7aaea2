"""What is said of a history: for each rule one that it finds something in, and one that it nearly does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from fakes.clocks import Clocks
from fakes.collectors import FakeCollector
from fakes.histories import CORES, GIB, found, metrics_of
from hypothesis import given
from hypothesis import strategies as st

from perfmon_widgets import PerformanceMonitor
from perfmon_widgets.views.evidence import SEVERITIES, Finding
from perfmon_widgets.views.findings import RULES, findings, pressing

GPU = "gpu0/utilization_percent"
GROWING_RAM = {"ram_used_bytes": lambda t: (10 + t / 60) * GIB, "ram_limit_bytes": 16 * GIB}
GROWING_DISK = {"disk_used_bytes": lambda t: (10 + t / 60) * GIB, "disk_limit_bytes": 16 * GIB}
HELD = {"gpu0/memory_percent": 30.0, "gpu0/memory_used_bytes": 24 * GIB, "gpu0/memory_limit_bytes": 80 * GIB}


def length(said: str) -> float:
    """Seconds of history that the case is about."""
    return 400.0 if "held" in said else 120.0


def gpus(*busy: float) -> dict[str, float]:
    return {f"gpu{number}/utilization_percent": share for number, share in enumerate(busy)}


def workers(what: str, *values: float) -> dict[str, float]:
    return {f"worker{number}/{what}": value for number, value in enumerate(values)}


# For each rule: what it says, what makes it say so, the columns that are changed so that it nearly does.
CASES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    (
        "RAM full in about 4 min: 12 of 16 GiB in use, +1.0 GiB/min at this pace",
        GROWING_RAM,
        {"ram_limit_bytes": 24 * GIB},
    ),
    (
        "RAM is nearly full: 15 of 16 GiB in use, this kernel has 12 GiB",
        {
            "ram_percent": 90.0,
            "ram_used_bytes": 15 * GIB,
            "ram_limit_bytes": 16 * GIB,
            "process_ram_bytes": 12 * GIB,
        },
        {"ram_percent": 89.9},
    ),
    (
        "The machine's memory is nearly full, although the container's is not: 61 of 64 GiB in use "
        "on the machine, 40% of the container's limit",
        {
            "ram_percent": 40.0,
            "host_ram_percent": 95.0,
            "host_ram_used_bytes": 61 * GIB,
            "host_ram_limit_bytes": 64 * GIB,
        },
        {"host_ram_percent": 94.9},
    ),
    (
        "Disk full in about 4 min: 12 of 16 GiB in use, +1.0 GiB/min at this pace",
        GROWING_DISK,
        {"disk_used_bytes": 12 * GIB},
    ),
    (
        "The disk is nearly full: 490 of 500 GiB in use",
        {"disk_percent": 98.0, "disk_used_bytes": 490 * GIB, "disk_limit_bytes": 500 * GIB},
        {"disk_percent": 97.9},
    ),
    (
        "Memory is short: programs wait for it for 12% of the time",
        {"memory_pressure_percent": 12.0},
        {"memory_pressure_percent": 9.9},
    ),
    (
        "Memory is short: 110 MiB went to the swap space within a minute",
        {"swap_used_bytes": lambda t: GIB + 2 * 2**20 * t},
        {"swap_used_bytes": lambda t: GIB + 2**20 * t},
    ),
    (
        "GPU 0 waits for data: 43% of its time the loop waits for the next batch, and the GPU is "
        "busy 52% of the time",
        {"waiting_percent": 43.0, GPU: 52.0},
        {GPU: 85.0},
    ),
    (
        "The loop waits for data: 43% of its time it waits for the next batch",
        {"waiting_percent": 43.0},
        {"waiting_percent": 4.9},
    ),
    (
        "GPU 0 waits for data: 43% of its time the loop waits for the next batch, and the GPU is "
        "busy 52% of the time; no CPU is free",
        {"waiting_percent": 43.0, GPU: 52.0, "process_cpu_percent": 95.0},
        {GPU: 85.0},
    ),
    (
        "The loop waits for data now and then: 12% of its time it waits for the next batch",
        {"waiting_percent": 12.0},
        {"waiting_percent": 4.9},
    ),
    (
        "GPU 0 waits for the CPU: it is busy 40% of the time, while this kernel keeps 1.0 of 8 CPUs busy",
        {GPU: 40.0, "process_cpu_percent": 12.5, **CORES},
        {GPU: 50.0},
    ),
    (
        "GPU 0 waits for the CPU: it is busy 40% of the time, while this kernel keeps its CPUs busy",
        {GPU: 40.0, "process_cpu_percent": 80.0, "cpu_throttled_percent": 0.0},
        {"process_cpu_percent": 79.0},
    ),
    (
        "GPU 0 waits for the disk: it is busy 40% of the time, while this kernel reads 350 MB/s and"
        " keeps 0.4 of 8 CPUs busy",
        {GPU: 40.0, "process_cpu_percent": 5.0, "process_read_bytes_per_second": 350e6, **CORES},
        {"process_read_bytes_per_second": 49e6},
    ),
    (
        "This kernel waits for the disk: it reads 350 MB/s and keeps 0.4 of 8 CPUs busy",
        {"process_cpu_percent": 5.0, "process_read_bytes_per_second": 350e6, **CORES},
        {"process_cpu_percent": 50.0},
    ),
    (
        "This kernel waits for the disk: it reads 2 MB/s and keeps 0.4 of 8 CPUs busy; programs wait for "
        "disks 63% of the time",
        {
            "process_cpu_percent": 5.0,
            "process_read_bytes_per_second": 2e6,
            "process_write_bytes_per_second": 0.0,
            "io_pressure_percent": 63.0,
            **CORES,
        },
        {"io_pressure_percent": 19.0},
    ),
    (
        "GPU 0 waits for the disk: it is busy 40% of the time, while this kernel writes 2 MB/s and keeps "
        "0.4 of 8 CPUs busy; programs wait for disks 63% of the time",
        {
            GPU: 40.0,
            "process_cpu_percent": 5.0,
            "process_read_bytes_per_second": 0.0,
            "process_write_bytes_per_second": 2e6,
            "io_pressure_percent": 63.0,
            **CORES,
        },
        {"process_write_bytes_per_second": 0.9e6},
    ),
    (
        "This kernel waits for the network: it receives 60 MB/s and keeps 0.4 of 8 CPUs busy",
        {"process_cpu_percent": 5.0, "network_received_bytes_per_second": 60e6, **CORES},
        {"network_received_bytes_per_second": 49e6},
    ),
    (
        "GPU 0 waits for the network: it is busy 40% of the time, while this kernel receives 60 MB/s "
        "and keeps 0.4 of 8 CPUs busy",
        {GPU: 40.0, "process_cpu_percent": 5.0, "network_received_bytes_per_second": 60e6, **CORES},
        {GPU: 50.0},
    ),
    (
        "GPU 0 runs at a lower clock than it could: 80% of the time the power limit or heat holds it back",
        {GPU: 98.0, "gpu0/throttled_percent": 80.0},
        {"gpu0/throttled_percent": 49.0},
    ),
    (
        "GPU 2 lags behind: it is busy 36% of the time, the other 3 are 95%",
        gpus(94, 95, 36, 96),
        {"gpu2/utilization_percent": 70.0},
    ),
    (
        "GPU 0 lags behind: it is busy 40% of the time, the other is 90%",
        gpus(40, 90),
        {"gpu0/utilization_percent": 4.0},
    ),
    (
        "GPU 0 memory is nearly full: 79 of 80 GiB in use",
        {
            GPU: 90.0,
            "gpu0/memory_percent": 98.7,
            "gpu0/memory_used_bytes": 79 * GIB,
            "gpu0/memory_limit_bytes": 80 * GIB,
        },
        {"gpu0/memory_percent": 96.9},
    ),
    (
        "GPU 0 is idle but its memory is held: 24 of 80 GiB in use, and nothing was computed for 5 min",
        {GPU: 0.0, **HELD},
        {GPU: lambda t: np.where(t > 100, 0.0, 30.0)},
    ),
    (
        "The container's CPU quota slows the work down: it is used up in 60% of its periods; for "
        "the rest of each all threads stand still",
        {"cpu_throttled_percent": 60.0, "cpu_percent": 90.0, "process_cpu_percent": 90.0},
        {"cpu_throttled_percent": 24.0},
    ),
    (
        "All CPUs are busy with other programs: 99% busy, this kernel uses 12% of them",
        {"cpu_percent": 99.0, "process_cpu_percent": 12.0},
        {"cpu_percent": 94.0},
    ),
    (
        "All CPUs are busy with this kernel: 99% busy, this kernel uses 92% of them",
        {"cpu_percent": 99.0, "process_cpu_percent": 92.0},
        {"cpu_percent": 94.0},
    ),
    (
        "More threads or workers run than there are CPUs: one of them waits for a CPU 97% of the time, and "
        "this kernel uses 92% of the CPUs",
        {"cpu_percent": 99.0, "process_cpu_percent": 92.0, "cpu_pressure_percent": 97.0},
        {"cpu_percent": 94.0},
    ),
    (
        "Worker 3 was restarted: 35 s ago, after it had run for 0:09:35",
        {"worker3/uptime_seconds": lambda t: np.where(t < 80, 500 + t, t - 79)},
        {"worker3/uptime_seconds": lambda t: 500 + t},
    ),
    (
        "Worker 3 has much more in memory than the rest: 80% of its limit, the others 30% at the median",
        workers("ram_percent", 30.0, 30.0, 40.0, 80.0),
        {"worker3/ram_percent": 59.0},
    ),
    (
        "Rank 1 does much less than the rest: it uses 60% of its CPUs, the others 90% at the median",
        {"rank0/cpu_percent": 90.0, "rank1/cpu_percent": 60.0, "rank2/cpu_percent": 90.0},
        {"rank1/cpu_percent": 61.0},
    ),
    (
        "Node 2 has much more in memory than the rest: 80% of its limit, the others 30% at the median",
        {"node0/ram_percent": 30.0, "node1/ram_percent": 30.0, "node2/ram_percent": 80.0},
        {"node2/ram_percent": 59.0},
    ),
    (
        "3 of 5 workers have nothing to do while others are busy: worker 0 nearly always has a task, "
        "worker 1, worker 2, worker 3 have none",
        {
            **workers("cpu_percent", 95.0, 1.0, 1.0, 1.0, 50.0),
            **workers("tasks_running", 1.0, 0.0, 0.0, 0.0, 0.5),
        },
        {f"worker{number}/tasks_running": 1.0 for number in (1, 2, 3)},
    ),
    (
        "Only one of 8 CPUs works for this kernel: it keeps 1.0 CPUs busy, as a single thread of Python does",
        {"cpu_percent": 20.0, "process_cpu_percent": 12.4, **CORES},
        {"process_cpu_percent": 18.0},
    ),
    (
        "Nothing runs: for 60 s this kernel used at most 0.2% of its CPUs",
        {"process_cpu_percent": 0.2, "cpu_percent": 3.0, **CORES},
        {"process_cpu_percent": lambda t: np.where(t == 80, 3.0, 0.2)},
    ),
]

each_case = pytest.mark.parametrize(
    ("said", "history", "nearly"), CASES, ids=[case[0].partition(":")[0] for case in CASES]
)


@each_case
def test_a_rule_speaks_where_its_numbers_are_reached_and_only_there(said, history, nearly):
    assert [finding.line for finding in found(history, seconds=length(said))] == [said]
    assert found(history | nearly, seconds=length(said)) == []


def test_as_many_threads_as_cpus_wait_for_a_cpu_now_and_then():
    busy = {"cpu_percent": 99.0, "process_cpu_percent": 92.0}
    for waiting, what in ((79.0, "All CPUs are busy with this kernel"), (80.0, "More threads or workers")):
        [finding] = found(busy | {"cpu_pressure_percent": waiting}, seconds=120)
        assert finding.what.startswith(what)


def test_threads_that_wait_for_a_cpu_may_be_those_of_others():
    waiting = {"cpu_percent": 99.0, "cpu_pressure_percent": 97.0}
    for more in ({"process_cpu_percent": 80.0}, {"process_cpu_percent": 99.0, "host_cpu_percent": 99.0}):
        [finding] = found(waiting | more, seconds=120)
        assert finding.what == "All CPUs are busy with this kernel"


@each_case
def test_a_rule_is_silent_without_the_columns_it_needs(said, history, nearly):
    for column in nearly:
        rest = {name: value for name, value in history.items() if name != column}
        assert said not in [finding.line for finding in (found(rest, seconds=length(said)) if rest else [])]


def test_every_rule_has_a_case():
    advices = {
        finding.advice for said, history, _ in CASES for finding in found(history, seconds=length(said))
    }
    missing = {rule.advice for rule in RULES} - advices
    assert [advice[:27] for advice in missing] == ["make that call in a process"]  # has a test of its own


def test_a_worker_with_no_task_is_idle_and_not_slow():
    shares = workers("cpu_percent", 90.0, 90.0, 90.0, 90.0, 1.0)
    for running, said in ((1.0, ["Worker 4 does much less than the rest"]), (0.0, [])):
        assert [finding.what for finding in found(shares | {"worker4/tasks_running": running})] == said


@pytest.mark.parametrize(
    "uptime",
    [
        lambda t: np.where(t < 20, 500 + t, np.where(t < 81, np.nan, t - 80)),  # free for a minute
        lambda t: np.where(t < 80, 500 + t, 300 + t),  # another one, which began before this one left
    ],
)
def test_a_number_that_goes_to_another_worker_is_no_restart(uptime):
    assert found({"worker3/uptime_seconds": uptime}) == []


def test_of_two_workers_none_stands_out():
    assert found(workers("ram_percent", 90.0, 10.0) | workers("cpu_percent", 90.0, 20.0)) == []


def test_many_workers_are_named_by_a_few_and_their_number():
    shares = workers("cpu_percent", *[99.0] * 5, *[0.0] * 27) | workers(
        "tasks_running", *[1.0] * 5, *[0.0] * 27
    )
    [finding] = found(shares)
    assert finding.line == (
        "27 of 32 workers have nothing to do while others are busy: worker 0, worker 1, worker 2 and 2 more "
        "nearly always have a task, worker 5, worker 6, worker 7 and 24 more have none"
    )


def test_a_finding_is_one_sentence():
    finding = Finding("info", "All CPUs are busy", "99% busy", "use more")
    assert str(finding) == "All CPUs are busy: 99% busy; use more."
    assert finding.line == "All CPUs are busy: 99% busy"
    assert repr([finding]) == "[<Finding info: All CPUs are busy: 99% busy; use more.>]"


def test_a_call_that_holds_the_interpreter_lock_is_seen_by_the_missing_samples():
    times = np.array([*np.arange(0.0, 80.0), 88.0, 89.0, 99.0, 100.0])
    history = {"process_cpu_percent": 12.5, "cpu_percent": 20.0, **CORES}
    gaps = np.isin(times, [88.0, 99.0])
    said = [finding for finding in found(history, times=times, after_gap=gaps) if "GIL" in finding.what]
    assert [finding.evidence for finding in said] == [
        "samples of 17 s of the last 60 s are missing, those of up to 9 s in a row"
    ]
    once = np.array([*np.arange(0.0, 84.0), 99.0, 100.0])  # as long, but a single time
    assert not any(
        "GIL" in finding.what for finding in found(history, times=once, after_gap=np.isin(once, [99.0]))
    )
    waiting = history | {"process_cpu_percent": 2.0}  # a driver that does not answer
    assert not any("GIL" in finding.what for finding in found(waiting, times=times, after_gap=gaps))
    busy = history | {"cpu_percent": 99.0}  # waiting for a CPU
    assert not any("GIL" in finding.what for finding in found(busy, times=times, after_gap=gaps))


@pytest.mark.parametrize("free", [5.0, 50.0])
def test_file_cache_does_not_fill_memory(free):
    """A container reads a data set twice: its working set reaches the limit, and most of it goes at once."""
    cached = {
        "ram_percent": lambda t: np.minimum(60 + t / 4, 95.0),
        "ram_used_bytes": lambda t: np.minimum(60 + t / 4, 95.0) * GIB,
        "ram_unreclaimable_bytes": 10 * GIB,
        "ram_limit_bytes": 100 * GIB,
        "host_ram_percent": 100 - free,
        "host_ram_used_bytes": (100 - free) * GIB,
        "host_ram_limit_bytes": 100 * GIB,
    }
    said = [finding.what for finding in found(cached)]
    host = ["The machine's memory is nearly full, although the container's is not"]
    assert said == (host if free == 5 else [])
    growing = {"ram_unreclaimable_bytes": lambda t: (10 + t / 4) * GIB}
    assert [each.what for each in found(cached | growing) if each.what.startswith("RAM full in about")]


def test_the_cpus_of_this_process_are_those_that_its_share_is_of():
    """Of 64 CPUs, JupyterHub lets it use two: 5 % of these are a tenth of a CPU."""
    cores = {f"core{number}/cpu_percent": 10.0 for number in range(64)}
    history = {"process_cpu_percent": 50.0, "cpu_percent": 50.0, **cores}
    assert found(history) == []
    for cpus in (2.0, 2.5):  # the second is that of a quota
        [finding] = found(history, cpus=cpus)
        assert finding.what == f"Only one of {cpus:g} CPUs works for this kernel"


def test_the_most_pressing_comes_first_and_what_is_of_no_use_does_not_come():
    history = {
        GPU: 30.0,
        "process_cpu_percent": 99.0,
        "cpu_percent": 99.0,
        "ram_percent": 93.0,
        "disk_percent": 99.0,
        **CORES,
    }
    said = found(history)
    assert [finding.what for finding in said] == [
        "RAM is nearly full",
        "GPU 0 waits for the CPU",
        "The disk is nearly full",
        "All CPUs are busy with this kernel",
    ]
    assert [finding.severity for finding in said] == ["critical", "warning", "warning", "info"]
    assert pressing(said) is said[0]


def test_an_idle_kernel_is_no_news():
    idle = found({"process_cpu_percent": 0.2, "cpu_percent": 3.0, **CORES})
    assert [finding.what for finding in idle] == ["Nothing runs"]
    assert pressing(idle) is None
    assert pressing([]) is None


def test_what_steps_measures_replaces_the_guess():
    history = {GPU: 40.0, "process_cpu_percent": 12.5, **CORES}
    assert [finding.what for finding in found(history)] == ["GPU 0 waits for the CPU"]
    measured = history | {"waiting_percent": 30.0}
    assert [finding.what for finding in found(measured)] == ["GPU 0 waits for data"]
    assert found(history | {"waiting_percent": 1.0}) == []


def test_gpu_memory_that_others_hold_is_no_finding():
    history = {GPU: 0.0, **HELD}
    assert len(found(history | {"gpu0/process_memory_bytes": 20 * GIB}, seconds=400.0)) == 1
    assert found(history | {"gpu0/process_memory_bytes": 2 * GIB}, seconds=400.0) == []


def test_more_workers_are_advised_only_where_cpus_are_free():
    history = {"waiting_percent": 43.0, GPU: 52.0}
    [free] = found(history | {"process_cpu_percent": 94.0})
    [busy] = found(history | {"process_cpu_percent": 95.0})
    assert free.what == busy.what == "GPU 0 waits for data"
    assert free.advice.startswith("use more workers in the loader")
    assert busy.advice.startswith("use no more workers than CPUs")


def test_a_short_peak_is_no_finding():
    def short(t):
        return np.where(t > 104, 100.0, 20.0)

    assert found({"cpu_percent": short, "process_cpu_percent": short}) == []
    assert found({"cpu_percent": 100.0, "process_cpu_percent": 100.0}, seconds=9.0, interval=1.0) == []
    assert len(found({"cpu_percent": 100.0, "process_cpu_percent": 100.0}, seconds=11.0, interval=1.0)) == 1


@pytest.mark.parametrize("interval", [0.1, 1.0, 5.0, 10.0, 60.0])
def test_findings_are_the_same_at_every_interval(interval):
    history = {"cpu_percent": 99.0, "process_cpu_percent": 12.0}
    assert [finding.what for finding in found(history, seconds=600.0, interval=interval)] == [
        "All CPUs are busy with other programs"
    ]


def test_what_was_before_a_pause_says_nothing_about_now():
    times = np.array([*np.arange(0.0, 60.0, 5.0), 4000.0, 4005.0])
    history = {"cpu_percent": 99.0, "process_cpu_percent": 99.0}
    assert found(history, times=times, after_gap=times == 4000.0) == []


# -- findings never raise ----------------------------------------------------------------------------------

COLUMNS = sorted({column for case in CASES for column in case[1]})
ANY = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.floats(0.0, 100.0),
    st.sampled_from([0.0, 99.0, 1e308, -1e308, GIB, 16 * GIB]),
)


@st.composite
def any_history(draw):
    names = draw(st.lists(st.sampled_from(COLUMNS), unique=True))
    rows = draw(st.integers(0, 30))
    steps = draw(st.lists(st.one_of(st.floats(-1e6, 1e6), st.just(5.0)), min_size=rows, max_size=rows))
    times = np.cumsum(np.array(steps, dtype=float))
    values = np.array([[draw(ANY) for _ in names] for _ in range(rows)]).reshape(rows, len(names))
    gaps = np.array(draw(st.lists(st.booleans(), min_size=rows, max_size=rows)), dtype=bool)
    return names, times, gaps, values


@given(any_history())
def test_findings_never_raise(history):
    names, times, gaps, values = history
    said = findings(metrics_of(names), times, gaps, values)
    assert all(isinstance(finding, Finding) and finding.severity in SEVERITIES for finding in said)
    assert all("nan" not in str(finding) and "inf" not in str(finding) for finding in said)


# -- from a monitor ----------------------------------------------------------------------------------------


def test_a_monitor_without_samples_has_nothing_to_say():
    assert PerformanceMonitor([]).findings() == []
    assert PerformanceMonitor([FakeCollector("cpu_percent")]).findings() == []


def test_a_monitor_says_what_its_newest_rows_show(monkeypatch):
    clocks = Clocks()
    monkeypatch.setattr("perfmon_widgets.core.monitor.time", clocks)
    busy = FakeCollector(
        "cpu_percent", "process_cpu_percent", read=lambda: {"cpu_percent": 99.0, "process_cpu_percent": 92.0}
    )
    monitor = PerformanceMonitor([busy], interval=5.0)
    monkeypatch.setattr(monitor._history, "_clock", clocks.monotonic)
    for _ in range(8):
        clocks.passed += 5.0
        clocks.set_by -= 3600.0 * (clocks.passed == 20.0)  # setting the clock makes no difference
        monitor.sample()
    [finding] = monitor.findings()
    assert finding.line == "All CPUs are busy with this kernel: 99% busy, this kernel uses 92% of them"


def test_a_series_that_was_recorded_since_the_last_sample_changes_nothing():
    monitor = PerformanceMonitor([FakeCollector("cpu_percent")])
    monitor.sample()
    monitor.record(loss=1.0)
    assert monitor.findings() == []
    monitor.sample()
    assert monitor.findings() == []


def test_a_loader_that_is_slow_is_found_by_steps(monkeypatch):
    clocks = Clocks()
    monkeypatch.setattr("perfmon_widgets.core.monitor.time", clocks)
    monitor = PerformanceMonitor([FakeCollector("cpu_percent")])
    monkeypatch.setattr(monitor._history, "_clock", clocks.monotonic)
    monkeypatch.setattr(monitor._meter, "clock", clocks.monotonic)

    def slow() -> Iterator[int]:
        for number in range(36):
            clocks.passed += 0.3
            yield number

    for _ in monitor.steps(slow()):
        clocks.passed += 0.1
        monitor.sample()
    [finding] = monitor.findings()
    assert finding.line == "The loop waits for data: 75% of its time it waits for the next batch"
