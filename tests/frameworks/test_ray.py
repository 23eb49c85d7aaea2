"""Nodes of a real Ray cluster in one monitor: two raylets on this machine, others that come and go."""

from __future__ import annotations

import math
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from fakes.threads import wait_until

# Read when Ray starts: no token in the home directory, no statistics about these tests, no idle workers.
os.environ.update(RAY_AUTH_MODE="disabled", RAY_USAGE_STATS_ENABLED="0", RAY_enable_worker_prestart="0")
ray = pytest.importorskip("ray")

from ray.cluster_utils import Cluster  # noqa: E402
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: E402

from perfmon_widgets import PerformanceMonitor  # noqa: E402
from perfmon_widgets.cluster import ray as collector  # noqa: E402
from perfmon_widgets.cluster import ray_actors  # noqa: E402
from perfmon_widgets.cluster.ray import Nodes  # noqa: E402

INTERVAL = 0.2
# Processes come and go: on a busy machine that takes long.
until = partial(wait_until, seconds=60.0)
SMALL = {"num_cpus": 4, "object_store_memory": 100 * 1024 * 1024}
pytestmark = [
    # Ray leaves files and sockets of its own to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    # It announces what a later version does about GPUs that are hidden.
    pytest.mark.filterwarnings("ignore:Tip. In future versions of Ray:FutureWarning"),
]


def connect(cluster: Cluster) -> None:
    ray.init(address=cluster.address, log_to_driver=False, logging_level="error")


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[Cluster]:
    cluster = Cluster(initialize_head=True, head_node_args={**SMALL, "include_dashboard": False})
    try:
        cluster.add_node(**SMALL)
        connect(cluster)
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture
def cluster(two_nodes: Cluster) -> Cluster:
    """Two nodes, to which this process is connected."""
    if not ray.is_initialized():
        connect(two_nodes)
    return two_nodes


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that comes or goes is seen soon."""
    monkeypatch.setattr(collector, "_FIRST_ROWS", 60.0)  # however busy this machine is
    monkeypatch.setattr(ray_actors, "_LOOK_EVERY", 0.2)
    monkeypatch.setattr(ray_actors, "_START_EVERY", 0.5)


def watched(**more: Any) -> PerformanceMonitor:
    return PerformanceMonitor([Nodes(interval=INTERVAL, **more)], interval=INTERVAL)


def places(monitor: PerformanceMonitor) -> set[str]:
    """The nodes that have numbers in the newest sample."""
    values = monitor.latest.values if monitor.latest else {}
    return {
        name.partition("/")[0]
        for name, value in values.items()
        if name.startswith("node") and "/ram_used" in name and not math.isnan(value)
    }


def silent(monitor: PerformanceMonitor, seconds: int) -> dict[str, str]:
    """The nodes all of whose columns say that no row has come for so long, each with that reason."""
    reasons: dict[str, set[str]] = {}
    for name, reason in monitor.errors.items():
        reasons.setdefault(name.partition("/")[0], set()).add(reason)
    return {
        node: min(texts)
        for node, texts in reasons.items()
        if node.startswith("node") and min(map(_seconds_without_a_row, texts)) >= seconds
    }


def _seconds_without_a_row(reason: str) -> int:
    found = re.search(r"^no row from .* for (\d+) s: ", reason)
    return int(found[1]) if found else 0


def place(monitor: PerformanceMonitor, node: str) -> str:
    """Where the columns of a node are. Its number may be any: Ray lists one that was killed for a while."""
    return next((metric.where for metric in monitor.metrics if f" {node[:8]}" in metric.device), "")


def actors() -> list[psutil.Process]:
    """The processes of the actors that watch nodes."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or [""]
        if command[0].startswith("ray::PerfmonNode"):
            found.append(process)
    return found


@pytest.fixture(autouse=True)
def no_actor_is_left() -> Iterator[None]:
    yield
    until(lambda: not actors())


def by_address() -> list[str]:
    """The ids of the nodes, that of the head first."""
    alive = [node for node in ray.nodes() if node["Alive"]]
    return [node["NodeID"] for node in sorted(alive, key=ray_actors._order)]


def added(cluster: Cluster, **more: object) -> tuple[Any, str]:
    """A new node, and its id."""
    before = {node["NodeID"] for node in ray.nodes()}
    node = cluster.add_node(**SMALL, **more)
    until(lambda: set(by_address()) - before)
    [new] = set(by_address()) - before
    return node, new


@ray.remote(num_cpus=0)
def busy(seconds: float) -> int:
    end, count = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        count += 1
    return count


def on(node: str, task: Any) -> Any:
    return task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False))


# -- two nodes ----------------------------------------------------------------------------------------------


def test_each_node_has_its_columns_from_the_first_sample_on_and_the_host_has_its_own_once(cluster):
    with watched() as monitor:
        until(lambda: monitor.latest)
        first = list(monitor.history.columns)
        assert {name.partition("/")[0] for name in first} == {"node0", "node1", "host0"}
        until(lambda: monitor.latest.values["node1/cpu_percent"] >= 0)
        values = monitor.latest.values
        assert values["node0/ram_used_bytes"] > 50e6  # a raylet and this package's actor at least
        assert values["node0/ram_limit_bytes"] == values["host0/ram_limit_bytes"]
        devices = {metric.where: metric.device for metric in monitor.metrics}
        head, other = by_address()
        address = ray.nodes()[0]["NodeManagerAddress"]
        assert devices == {
            "node0": f"{address}, {head[:8]}, head",
            "node1": f"{address}, {other[:8]}",
            "host0": socket.gethostname(),
        }
        assert list(monitor.history.columns) == first
        until(lambda: monitor.errors.keys() <= {"host0/swap_percent"})


def test_all_processes_of_a_node_count_as_its_own(cluster):
    with watched() as monitor:
        tasks = [on(by_address()[1], busy).remote(4) for _ in range(2)]

        def is_seen() -> bool:
            row = monitor.latest.values if monitor.latest else {}
            return row.get("node1/cpu_percent", 0) > 3 * row.get("node0/cpu_percent", 100)

        until(is_seen)
        ray.get(tasks)


def test_rows_arrive_while_the_driver_computes_in_python(cluster):
    """Each needs this process to ask for the next one, on a thread that shares the interpreter with it."""
    with watched() as monitor:
        until(lambda: len(places(monitor)) == 2)
        end, rows, count = time.monotonic() + 3, len(monitor.history), 0
        while time.monotonic() < end:
            count += 1
        new = monitor.history.iloc[rows:]
        # A row counts for two intervals: if none had come meanwhile, only two or three would have a number.
        assert new["host0/ram_used_bytes"].count() >= 5


def test_two_monitors_of_one_driver_see_the_same_and_each_may_stop_and_start(cluster):
    """As when a cell is executed again."""
    first = watched()
    with watched() as second:
        with first:
            until(lambda: len(places(second)) == len(places(first)) == 2)
            assert len(actors()) == 4
        until(lambda: len(actors()) == 2)
        rows = len(second.history)
        until(lambda: len(second.history) > rows + 10)
        assert len(places(second)) == 2
    until(lambda: not actors())
    rows = len(first.history)
    with first:
        until(lambda: len(first.history) > rows)
        until(lambda: len(places(first)) == 2)


def test_a_collector_that_is_dropped_ends_its_actors(cluster):
    nodes = Nodes(interval=INTERVAL)
    assert len(actors()) == 2
    del nodes
    until(lambda: not actors())


def test_a_node_with_an_older_version_of_this_package_is_named(cluster):
    nodes = Nodes(interval=60)  # no other row comes
    node = by_address()[0]
    answer: Future[object] = Future()
    answer.set_result({"key": node, "name": "a name"})
    nodes._actors.take(node, nodes._actors._actors[node], answer)
    nodes.collect()
    [name] = [name for name, text in nodes.errors.items() if "install the same version" in text]
    assert name.endswith(f"{node[:8]}, head")
    nodes.close()


def test_an_actor_that_is_lost_is_replaced(cluster):
    with watched() as monitor:
        until(lambda: len(places(monitor)) == 2)
        before = actors()
        victim = before[0]
        os.kill(victim.pid, signal.SIGKILL)
        until(lambda: len(places(monitor)) == 1)
        reasons = [text for name, text in monitor.errors.items() if name.startswith("node")]
        assert any("has lost its monitor, and gets a new one: The actor" in text for text in reasons)
        until(lambda: len(places(monitor)) == 2)
        assert set(actors()) - set(before)
        until(lambda: monitor.errors.keys() <= {"host0/swap_percent"})


def test_a_node_that_is_suspended_is_missing_and_then_there_again(cluster):
    with watched() as monitor:
        until(lambda: len(places(monitor)) == 2)
        victim = actors()[0]
        os.kill(victim.pid, signal.SIGSTOP)
        try:
            # While this machine is busy, the other node may miss a row, too, but not for seconds.
            [(missing, reason)] = until(lambda: silent(monitor, seconds=3)).items()
            assert "the node is overloaded, suspended or cannot be reached" in reason
            until(lambda: places(monitor) == {"node0", "node1"} - {missing})
        finally:
            os.kill(victim.pid, signal.SIGCONT)
        until(lambda: len(places(monitor)) == 2)


# -- nodes that come and go ---------------------------------------------------------------------------------


def test_a_node_that_cannot_import_the_package_is_named_until_it_leaves(cluster, tmp_path):
    """The others are seen as ever."""
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['perfmon_widgets'] = None")
    third, its_id = added(cluster, env_vars={"PYTHONPATH": str(tmp_path)})
    try:
        with watched() as monitor:
            until(lambda: len(places(monitor)) == 2)
            until(lambda: any("cannot be imported" in text for text in monitor.errors.values()))
            [(name, text)] = [item for item in monitor.errors.items() if "cannot be imported" in item[1]]
            assert name == f"node {third.node_ip_address}, {its_id[:8]}"
            assert text.startswith("perfmon_widgets cannot be imported there (")
            assert text.endswith(
                "); install it on all nodes, or have Ray do it: "
                "ray.init(runtime_env={'pip': ['perfmon_widgets']})"
            )
            assert len(actors()) == 2
            assert ray.get(on(its_id, busy).remote(0.01)) > 0
            cluster.remove_node(third, allow_graceful=True)
            until(lambda: name not in monitor.errors)
    finally:
        if third in cluster.list_all_nodes():
            cluster.remove_node(third, allow_graceful=False)


def test_a_node_that_joins_adds_columns_and_one_that_is_killed_is_missing(cluster):
    with watched() as monitor:
        until(lambda: len(places(monitor)) == 2)
        columns = list(monitor.history.columns)
        third, its_id = added(cluster)
        try:
            until(lambda: len(places(monitor)) == 3)
            assert list(monitor.history.columns)[: len(columns)] == columns
            column = f"{place(monitor, its_id)}/cpu_percent"
            assert column in monitor.history
        finally:
            cluster.remove_node(third, allow_graceful=False)  # its raylet gets SIGKILL
        until(lambda: "has lost its monitor" in monitor.errors.get(column, ""))
        rows = len(monitor.history)
        until(lambda: len(monitor.history) > rows + 3)
        assert len(places(monitor)) == 2
        assert monitor.latest.values["host0/cpu_percent"] >= 0


# -- the connection of this process -------------------------------------------------------------------------


def test_an_interval_that_cannot_be_used_is_refused(cluster):
    with pytest.raises(ValueError, match="interval must be a number of seconds greater than 0, not 0"):
        Nodes(interval=0)


def test_a_process_that_disconnects_and_connects_again(cluster):
    with watched() as monitor:
        until(lambda: len(places(monitor)) == 2)
        ray.shutdown()
        until(lambda: not places(monitor))
        reason = "is watched no longer: this process is not connected to Ray"
        until(lambda: any(reason in text for text in monitor.errors.values()))
        time.sleep(1)
        assert not ray.is_initialized()  # nothing here connects it
        with pytest.raises(RuntimeError, match=r"call ray\.init\(\) before Nodes\(\)"):
            Nodes()
        assert not ray.is_initialized()
        connect(cluster)
        until(lambda: len(places(monitor)) == 2)
        ray.shutdown()
        connect(cluster)  # before anybody looks
        rows = len(monitor.history)
        until(lambda: monitor.history["node0/ram_used_bytes"].iloc[rows:].isna().any())
        until(lambda: len(places(monitor)) == 2)


PROGRAM = """
import sys, time
import ray
ray.init(address=sys.argv[1], logging_level="error")
from perfmon_widgets import PerformanceMonitor
from perfmon_widgets.cluster.ray import Nodes
monitor = PerformanceMonitor([Nodes(interval=0.2)], interval=0.2)
monitor.start()
while not (monitor.latest and monitor.latest.values.get("node0/cpu_percent", -1) >= 0):
    time.sleep(0.1)
print("watching", flush=True)
if sys.argv[2] == "stays":
    time.sleep(60)
"""


def test_the_actors_end_with_their_driver_and_print_nothing(cluster):
    """One is killed, the other one ends without having stopped the monitor."""
    environment = {**os.environ, "PYTHONPATH": str(Path(ray_actors.__file__).parents[2])}
    drivers = {
        ends: subprocess.Popen(
            [sys.executable, "-c", PROGRAM, cluster.address, ends],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for ends in ("stays", "exits")
    }
    assert drivers["stays"].stdout.readline() == "watching\n"
    drivers["stays"].kill()
    assert drivers["stays"].communicate(timeout=30) == ("", "")
    assert drivers["exits"].communicate(timeout=30) == ("watching\n", "")
    assert drivers["exits"].returncode == 0
    until(lambda: not actors())
