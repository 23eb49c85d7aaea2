"""The newest rows of many processes as columns, and a monitor whose columns grow by those of a new one."""

from __future__ import annotations

import math
import socket
from dataclasses import replace
from importlib import import_module

import pytest
from fakes.clocks import Clocks
from fakes.collectors import FakeCollector

from perfmon_widgets import PerformanceMonitor, read_csv
from perfmon_widgets.cluster.members import Members
from perfmon_widgets.cluster.rows import Row, own_name, row_of, share_of, split
from perfmon_widgets.metrics import Metric


@pytest.fixture
def clock():
    return Clocks()


@pytest.fixture
def members(clock):
    return Members("worker", "a test", "it was killed", clock.monotonic)


def row(name: str, host: str = "a", interval: float = 5.0, key: str = "", **more: object) -> Row:
    own = {"cpu_percent": 50.0, "ram_used_bytes": 10.0, "ram_limit_bytes": 40.0, "ram_percent": 25.0}
    return Row(key or name, name, host, interval, own, {"cpu_percent": 80.0})._replace(**more)


def test_a_row_is_split_into_what_is_the_process_s_and_what_is_the_machine_s():
    own, machine = split(
        {
            "cpu_percent": 90.0,
            "core0/cpu_percent": 91.0,
            "ram_limit_bytes": 1000.0,
            "io_pressure_percent": 1.0,
            "gpu0/utilization_percent": 70.0,
            "gpu1/utilization_percent": math.nan,
            "process_cpu_percent": 10.0,
            "process_ram_bytes": 100.0,
            "process_read_bytes_per_second": 5.0,
            "loss": 0.25,
        }
    )
    assert machine == {"cpu_percent": 90.0, "ram_limit_bytes": 1000.0, "io_pressure_percent": 1.0}
    assert own == {
        "cpu_percent": 10.0,
        "ram_used_bytes": 100.0,
        "ram_limit_bytes": 1000.0,
        "ram_percent": 10.0,
        "read_bytes_per_second": 5.0,
        "gpu0/utilization_percent": 70.0,
        "loss": 0.25,
    }
    assert own_name("process_ram_bytes") == "ram_used_bytes"


def test_what_a_program_records_is_its_own_whatever_its_name():
    recorded = {"network_loss": 1.0, "memory_size": 2.0, "disk_usage": 3.0, "process_reward": 4.0}
    assert split(recorded) == (recorded, {})


def test_every_column_of_the_default_collectors_has_its_side():
    """All that they may declare, on any machine; places, such as GPUs, belong to the process."""
    declared = {
        metric.name
        for name in ("cpu", "memory", "disk", "network", "pressure", "process")
        for found in vars(import_module(f"perfmon_widgets.collectors.linux.{name}")).values()
        for metric in (
            found.values() if isinstance(found, dict) else found if isinstance(found, tuple) else (found,)
        )
        if isinstance(metric, Metric)
    }
    assert len(declared) >= 26
    own, machine = split(dict.fromkeys(declared, 1.0))
    processes = {name for name in declared if name.startswith("process_")}
    assert machine.keys() == declared - processes - {"host_cpu_percent"}
    assert own.keys() - {"ram_limit_bytes", "ram_percent"} == {own_name(name) for name in processes}
    assert not any(name.startswith("process_") for name in own)


def test_the_cpus_of_a_machine_are_all_that_it_has():
    """Of two ranks that are bound to one CPU each, neither knows the CPU of the other, or of the machine."""
    _, machine = split({"cpu_percent": 100.0, "host_cpu_percent": 2.0})
    assert machine == {"cpu_percent": 2.0}


def test_the_limit_of_the_process_itself_comes_before_that_of_the_machine():
    own, machine = split(
        {"ram_limit_bytes": 1000.0, "process_ram_bytes": 100.0, "process_ram_limit_bytes": 200.0}
    )
    assert (own["ram_limit_bytes"], own["ram_percent"]) == (200.0, 50.0)
    assert machine["ram_limit_bytes"] == 1000.0


def test_without_any_limit_there_is_no_share_of_it():
    own, _ = split({"process_ram_bytes": 100.0})
    assert own == {"ram_used_bytes": 100.0}


def test_what_is_missing_is_not_a_hundred_percent():
    assert math.isnan(share_of(math.nan, capacity=8, cpus=2))
    own, _ = split({"ram_limit_bytes": 1000.0, "process_ram_bytes": math.nan})
    assert math.isnan(own["ram_percent"])


def test_a_share_of_all_cpus_becomes_one_of_those_that_a_member_may_use():
    assert share_of(25.0, capacity=8, cpus=2) == 100.0
    assert share_of(10.0, capacity=8, cpus=4) == 20.0
    assert share_of(40.0, capacity=8, cpus=2) == 100.0
    assert share_of(40.0, capacity=8, cpus=64) == 40.0


def test_a_row_of_a_monitor_travels_as_a_message():
    machine = FakeCollector("process_cpu_percent", "cpu_percent", read=lambda: {"cpu_percent": 3.0})
    machine.metrics = [replace(each, device="a CPU") for each in machine.metrics]
    machine.errors = {"process_cpu_percent": "needs two readings"}
    monitor = PerformanceMonitor([machine], interval=2.0)
    row = row_of(monitor, monitor.sample(), "k", "n", {"process_ram_bytes": 7.0})
    assert math.isnan(row.own["cpu_percent"])
    assert row.own["ram_used_bytes"] == 7.0
    assert (row.machine, row.interval, row.host) == ({"cpu_percent": 3.0}, 2.0, socket.gethostname())
    assert row.devices == {"": "a CPU"}
    assert row.reasons == {"cpu_percent": "needs two readings"}
    assert Row.from_message({**row._asdict(), "stamp": 1}) == row
    with pytest.raises(KeyError):
        Row.from_message({"key": "k"})


def test_each_member_has_its_columns_and_a_host_has_its_own_once(members):
    members.put(row("1"))
    members.put(row("0"))
    members.put(row("2", host="b", machine={"cpu_percent": 30.0}))
    reading = members.collect()
    assert reading["worker0/cpu_percent"] == reading["worker1/cpu_percent"] == 50.0
    assert [name for name in reading if name.startswith("host")] == ["host0/cpu_percent", "host1/cpu_percent"]
    assert (reading["host0/cpu_percent"], reading["host1/cpu_percent"]) == (80.0, 30.0)
    assert reading.keys() == {metric.name for metric in members.metrics}
    places = list(dict.fromkeys(metric.where for metric in members.metrics))
    assert places == ["worker0", "worker1", "worker2", "host0", "host1"]


def test_the_metrics_say_what_they_are(members):
    gpu = {"cpu_percent": 1.0, "gpu0/power_watts": 300.0, "ram_used_bytes": 5.0, "ram_limit_bytes": 9.0}
    members.put(row("tcp://x:1", host="node7", own=gpu, devices={"gpu0": "NVIDIA H200"}))
    metrics = {metric.name: metric for metric in members.metrics}
    assert metrics["worker0/cpu_percent"].label == "worker 0 CPU"
    assert metrics["worker0/cpu_percent"].device == "tcp://x:1"
    assert metrics["worker0/cpu_percent"].group == "workers"
    assert metrics["worker0/gpu0/power_watts"].device == "NVIDIA H200"
    assert metrics["worker0/ram_used_bytes"].limit == "worker0/ram_limit_bytes"
    assert metrics["host0/cpu_percent"].device == "node7"
    assert all(metric.help and metric.source == "a test" for metric in metrics.values())


def test_the_help_of_a_node_is_about_all_that_runs_on_it(clock):
    nodes = Members("node", "a test", "", clock.monotonic)
    nodes.put(row("a"))
    metrics = {metric.name: metric for metric in nodes.metrics}
    assert "all processes that Ray has started on the node" in metrics["node0/cpu_percent"].help
    assert metrics["node0/cpu_percent"].group == "nodes"
    assert metrics["node0/cpu_percent"].label == "node 0 CPU"


def test_a_row_is_repeated_for_two_intervals_and_then_missing_with_a_reason(members, clock):
    members.put(row("0", interval=5.0))
    clock.passed += 9.9
    assert members.collect()["worker0/cpu_percent"] == 50.0
    assert members.errors == {}
    clock.passed += 0.2
    assert members.collect() == {}
    assert members.errors["worker0/cpu_percent"] == "no row from worker 0 for 10 s: it was killed"
    assert members.errors["host0/cpu_percent"] == "no row from any worker on a"
    members.put(row("0"))
    assert members.collect()["worker0/cpu_percent"] == 50.0
    assert members.errors == {}


def test_the_first_member_with_a_row_speaks_for_its_host(members, clock):
    members.put(row("0", machine={"cpu_percent": 10.0}))
    clock.passed += 8
    members.put(row("1", machine={"cpu_percent": 20.0}))
    assert members.collect()["host0/cpu_percent"] == 10.0
    clock.passed += 3
    assert members.collect()["host0/cpu_percent"] == 20.0


def test_one_that_left_is_missing_at_once(members):
    members.put(row("0"))
    members.put(row("1"))
    members.leave("0", "has left the cluster")
    assert "worker0/cpu_percent" not in members.collect()
    assert members.errors["worker0/cpu_percent"] == "worker 0 has left the cluster"
    assert members.collect()["worker1/cpu_percent"] == 50.0


def test_one_that_came_back_has_not_left(members, clock):
    """The scheduler hands over what it has kept after the newest row has arrived."""
    clock.passed += 100
    members.put(row("0"))
    members.leave("0", "has left the cluster", age=1.0)
    assert members.collect()["worker0/cpu_percent"] == 50.0


def test_a_row_that_is_older_than_the_one_there_changes_nothing(members, clock):
    """The scheduler hands over the rows that it has kept while new ones arrive."""
    members.put(row("0", own={"cpu_percent": 2.0}))
    members.put(row("0", own={"cpu_percent": 1.0}), age=3.0)
    assert members.collect()["worker0/cpu_percent"] == 2.0
    members.put(row("1"), age=60.0)
    assert members.collect().keys() == {"worker0/cpu_percent", "host0/cpu_percent"}


def test_one_that_is_expected_has_its_number_before_it_has_a_row(members, clock):
    members.expect("a", "10.0.0.1")
    members.expect("b", "10.0.0.2")
    assert members.collect() == {}
    assert members.errors["worker 10.0.0.1"] == "no row from worker 0 (10.0.0.1) yet: it was killed"
    members.put(row("b"))
    members.expect("b", "10.0.0.2")
    assert members.collect()["worker1/cpu_percent"] == 50.0
    assert members.errors.keys() == {"worker 10.0.0.1"}
    members.leave("a", "has left the cluster")
    members.collect()
    assert members.errors == {}


def test_one_that_takes_the_place_of_one_that_left_is_missing_until_it_has_a_row(members):
    members.put(row("a"))
    members.leave("a", "has left the cluster")
    members.expect("b", "10.0.0.2")
    assert members.collect() == {}
    assert members.errors["worker0/cpu_percent"] == "no row from worker 0 (10.0.0.2) yet: it was killed"


def test_one_that_could_not_be_used_and_left_is_no_longer_listed(members):
    members.put(row("a"))
    members.fail("a", "it cannot be used")
    members.leave("a", "has left the cluster")
    members.collect()
    assert "worker a" not in members.errors


def test_numbers_are_names_and_else_the_lowest_that_is_free(members, clock):
    members.put(row("3"))
    members.put(row("tcp://a:1"))
    members.put(row("tcp://b:2"))
    members.put(row("99999"))
    assert {key for key in members.collect() if key.startswith("worker") and key.endswith("cpu_percent")} == {
        f"worker{number}/cpu_percent" for number in range(4)
    }
    before = members.metrics
    members.leave("tcp://a:1", "has left the cluster")
    members.put(row("tcp://c:3"))
    reading = members.collect()
    assert reading["worker0/cpu_percent"] == 50.0
    assert [metric.name for metric in members.metrics] == [metric.name for metric in before]
    assert {metric.device for metric in members.metrics if metric.where == "worker0"} == {"tcp://c:3"}


def test_a_number_of_one_that_is_silent_is_not_given_away_for_a_minute(members, clock):
    members.put(row("tcp://a:1"))
    clock.passed += 30
    members.put(row("tcp://b:2"))
    clock.passed += 29
    members.put(row("tcp://a:1"))
    assert members.collect()["worker0/cpu_percent"] == 50.0
    clock.passed += 61
    members.put(row("tcp://d:4"))
    assert {name.partition("/")[0] for name in members.collect()} == {"worker0", "host0"}


def test_an_adaptive_cluster_does_not_add_columns_for_ever(members):
    for number in range(2000):
        members.put(row(str(number + 256), host=f"pod-{number}"))
        members.leave(str(number + 256), "has left the cluster")
    assert {metric.where for metric in members.metrics} == {"worker0", "host0"}
    members.put(row("a", host="pod-a"))
    members.put(row("b", host="pod-b"))
    assert {metric.device for metric in members.metrics if "host" in metric.where} == {"pod-a", "pod-b"}
    assert members.collect().keys() >= {"host0/cpu_percent", "host1/cpu_percent"}


def test_a_bad_row_leaves_the_one_before_it_as_it_was(members):
    members.put(row("0"))
    before, metrics = members.collect(), members.metrics
    members.put(row("0", host="b", own={"cpu_percent": 1.0, "new": 2.0}, machine={"cpu_percent": "much"}))
    assert members.collect() == before
    assert members.metrics == metrics


def test_a_large_cluster_keeps_its_numbers_and_an_adaptive_one_uses_few(members):
    """The rows of a cluster that begins come in any order; the names of an adaptive one go on counting."""
    for number in (40, 7, *range(60)):
        members.put(row(str(number)))
    assert {metric.device for metric in members.metrics if metric.where == "worker40"} == {"40"}
    for number in range(60, 256):
        members.leave(str(number - 60), "has left the cluster")
        members.put(row(str(number)))
    places = {metric.where for metric in members.metrics} - {"host0"}
    assert len(places) <= 60 + 8
    assert len({name for name in members.collect() if name.startswith("worker")}) == 4 * 60


def test_names_that_others_invent_are_not_kept_for_ever(members):
    for number in range(1000):
        members.fail(f"x{number}", "bad")
    members.collect()
    assert len(members.errors) == 100


@pytest.mark.parametrize(
    "bad",
    [
        row("1", own={"cpu_percent": "much"}),
        row("1", own={"cpu_percent/": 1.0}),
        row("1", own={f"x{number}": 1.0 for number in range(300)}),
        row("1", own=None),
        row("1", interval="often"),
        row("1", interval=math.nan),
        row("1", interval=math.inf),
        row("1", interval=0.0),
        row("1", interval=10**400),
        row("1", own={"cpu_percent": 10**400}),
        row("1", machine={"cpu_percent": "much"}),
    ],
)
def test_a_bad_row_costs_no_other_member(members, bad):
    members.put(row("0"))
    members.put(bad)
    assert members.collect()["worker0/cpu_percent"] == 50.0
    assert members.errors["worker 1"].startswith("its row cannot be used: ")
    assert {metric.where for metric in members.metrics} == {"worker0", "host0"}
    members.put(row("1"))
    assert members.collect()["worker1/cpu_percent"] == 50.0
    assert members.errors == {}


def test_a_number_that_cannot_be_true_is_missing_alone(members):
    members.put(row("0", own={"cpu_percent": 65535.0, "ram_percent": 5.0}))
    reading = members.collect()
    assert "worker0/cpu_percent" not in reading
    assert reading["worker0/ram_percent"] == 5.0
    assert "cannot be more than 100" in members.errors["worker0/cpu_percent"]


def test_what_a_program_records_may_be_any_number(members):
    own = {"gain_percent": -3.0, "train/margin_percent": 250.0, "gpu0/utilization_percent": 250.0}
    members.put(row("0", own=own))
    reading = members.collect()
    assert (reading["worker0/gain_percent"], reading["worker0/train/margin_percent"]) == (-3.0, 250.0)
    assert "worker0/gpu0/utilization_percent" not in reading


def test_the_reason_that_the_member_gives_is_passed_on(members):
    members.put(row("0", own={"cpu_percent": math.nan}, reasons={"cpu_percent": "needs two readings"}))
    members.collect()
    assert members.errors["worker0/cpu_percent"] == "needs two readings"


# -- in a monitor --------------------------------------------------------------------------------------------


def test_a_member_that_joins_later_gets_columns_behind_the_others(members, folder):
    monitor = PerformanceMonitor([members, FakeCollector("a_percent")])
    members.put(row("0"))
    monitor.sample()
    path = monitor.log.start("run.csv")
    monitor.record(loss=1.0)
    monitor.sample()
    members.put(row("1", own={"cpu_percent": 7.0}))
    sample = monitor.sample()
    monitor.log.stop()
    columns = list(monitor.history.columns)
    assert columns == [metric.name for metric in monitor.metrics] == list(sample.values)
    assert columns[0] == "a_percent"
    assert columns[-2:] == ["loss", "worker1/cpu_percent"]
    assert monitor.history["worker1/cpu_percent"].tolist()[-1] == 7.0
    assert monitor.history["worker1/cpu_percent"].isna().tolist() == [True, True, False]
    assert monitor.history.attrs["worker1/cpu_percent"]["label"] == "worker 1 CPU"
    assert read_csv(path)["worker1/cpu_percent"].tolist()[-1] == 7.0
    with pytest.raises(ValueError, match="worker1/cpu_percent"):
        monitor.record(**{"worker1/cpu_percent": 1.0})


def test_columns_that_are_there_from_the_start_stay_where_they_are(members):
    members.put(row("0"))
    monitor = PerformanceMonitor([members, FakeCollector("a_percent")])
    assert monitor.sample().values["worker0/cpu_percent"] == 50.0
    assert [metric.name for metric in monitor.metrics][-1] == "a_percent"


def test_two_sources_of_one_column_cost_the_second_this_column_only(members, clock):
    other = Members("worker", "another", "", clock.monotonic)
    monitor = PerformanceMonitor([members, other])
    members.put(row("0"))
    other.put(row("0", own={"cpu_percent": 1.0, "tasks_ready": 3.0}))
    for _ in range(2):
        sample = monitor.sample()
        assert sample.values["worker0/cpu_percent"] == 50.0
        assert sample.values["worker0/tasks_ready"] == 3.0
    assert "column of another collector" in monitor.errors["Members 2.metrics"]


def test_a_member_that_changes_its_device_only_brings_no_column(members):
    monitor = PerformanceMonitor([members])
    members.put(row("tcp://a:1"))
    monitor.sample()
    columns = list(monitor.history.columns)
    members.leave("tcp://a:1", "has left the cluster")
    members.put(row("tcp://b:2"))
    monitor.sample()
    assert list(monitor.history.columns) == columns
    assert monitor.history.attrs["devices"]["worker0"] == "tcp://b:2"
