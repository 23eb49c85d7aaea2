"""Workers of real Dask clusters in one monitor: of processes, of threads, of programs, with TLS."""

from __future__ import annotations

import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psutil
import pytest
from distributed import Client, LocalCluster, Worker
from distributed.core import Status
from fakes.threads import wait_until

from perfmon_widgets import PerformanceMonitor
from perfmon_widgets.cluster import dask, dask_worker
from perfmon_widgets.cluster.dask import Workers

INTERVAL = 0.2
# Processes come and go: on a busy machine that takes long.
until = partial(wait_until, seconds=30.0)
pytestmark = [
    # Dask closes some of its sockets and event loops late.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@contextmanager
def local_cluster(**more: object) -> Iterator[Client]:
    settings = {"n_workers": 2, "threads_per_worker": 1, "memory_limit": "600MB", "dashboard_address": ":0"}
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        LocalCluster(local_directory=folder, **{**settings, **more}) as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with local_cluster() as client:
        yield client


def places(monitor: PerformanceMonitor) -> set[str]:
    """The workers that have numbers in the newest sample."""
    values = monitor.latest.values if monitor.latest else {}
    known = [name for name, value in values.items() if not math.isnan(value)]
    return {name.partition("/")[0] for name in known if "/ram_used" in name} - {"host0"}


def busy(seconds: float) -> int:
    end, count = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        count += 1
    return count


# -- a cluster of processes ---------------------------------------------------------------------------------


def test_each_worker_has_its_columns_from_the_first_sample_on(client):
    workers = Workers(client, interval=INTERVAL)
    with PerformanceMonitor([workers], interval=INTERVAL) as monitor:
        until(lambda: monitor.latest)
        first = list(monitor.history.columns)
        assert {"worker0/cpu_percent", "worker1/cpu_percent", "worker0/ram_used_bytes"} <= set(first)
        until(lambda: monitor.latest.values["worker1/cpu_percent"] >= 0)
        until(lambda: monitor.latest.values["worker0/cpu_percent"] >= 0)
        values = monitor.latest.values
        assert values["worker0/ram_limit_bytes"] == 600e6
        assert values["worker0/ram_percent"] == pytest.approx(100 * values["worker0/ram_used_bytes"] / 600e6)
        assert {name.partition("/")[0] for name in values} == {"worker0", "worker1", "host0"}
        assert {metric.device for metric in monitor.metrics if metric.where == "host0"} == {
            socket.gethostname()
        }
        assert "host0/cpu_percent" in values
        assert not any("core" in name for name in values)


def test_a_busy_worker_is_told_from_an_idle_one(client):
    with PerformanceMonitor([Workers(client, interval=INTERVAL)], interval=INTERVAL) as monitor:
        address = next(
            address for address, each in client.scheduler_info()["workers"].items() if each["name"] == 0
        )
        future = client.submit(busy, 4, workers=[address], pure=False)

        def is_seen() -> bool:
            row = monitor.latest.values if monitor.latest else {}
            ratio = row.get("worker0/cpu_percent", 0) > 3 * row.get("worker1/cpu_percent", 100)
            return ratio and row.get("worker0/tasks_running") == 1 and row["worker1/tasks_running"] == 0

        until(is_seen)
        future.result()


def test_rows_arrive_while_the_notebook_computes_in_python(client):
    """On a thread of the client, in pure Python that gives the interpreter lock away every 5 ms only."""
    with PerformanceMonitor([Workers(client, interval=INTERVAL)], interval=INTERVAL) as monitor:
        until(lambda: len(places(monitor)) == 2)
        begin = time.time()
        busy(3)
        end = time.time()
        rows = monitor.history["worker0/uptime_seconds"]
        rows = rows[(rows.index.astype("int64") / 1e6 > begin) & (rows.index.astype("int64") / 1e6 < end)]
        assert rows.nunique() >= 5
        assert rows.dropna().is_monotonic_increasing


def test_a_client_that_comes_later_finds_the_recent_rows(client):
    with PerformanceMonitor([Workers(client, interval=INTERVAL)], interval=INTERVAL) as monitor:
        until(lambda: len(monitor.history) > 5)
        with Client(client.scheduler.address) as later:
            second = Workers(later, interval=60)
            recent = second.recent()
            assert recent.index.names == ["worker", "time"]
            assert set(recent.index.get_level_values("worker")) >= {"0", "1"}
            assert len(recent.loc["0"]) > 5
            newest = recent.index.get_level_values("time").max().timestamp()
            assert abs(newest - time.time()) < 10
            assert {"worker0/ram_used_bytes", "worker1/ram_used_bytes"} <= second.collect().keys()
            second.close()


def test_two_monitors_of_one_client_see_the_same(client):
    """As when a cell is executed again."""
    first = PerformanceMonitor([Workers(client, interval=INTERVAL)], interval=INTERVAL)
    first.start()
    with PerformanceMonitor([Workers(client, interval=INTERVAL)], interval=INTERVAL) as second:
        until(lambda: len(places(second)) == 2)
        until(lambda: len(places(first)) == 2)
        first.stop()
        rows = len(second.history)
        until(lambda: len(second.history) > rows + 20)
        assert len(places(second)) == 2


def watched(client: Client) -> set[bool]:
    return set(client.run(lambda dask_worker: "perfmon" in dask_worker.plugins).values())


def test_the_workers_sample_until_the_monitor_stops_and_again_after_a_start(client):
    monitor = PerformanceMonitor([Workers(client, interval=INTERVAL)], interval=INTERVAL)
    monitor.start()
    assert watched(client) == {True}
    threads = client.run(lambda: [thread.name for thread in threading.enumerate()])
    assert all("perfmon-sampler" in names for names in threads.values())
    monitor.stop()
    assert watched(client) == {False}
    threads = client.run(lambda: [thread.name for thread in threading.enumerate()])
    assert not any("perfmon-sampler" in names for names in threads.values())
    with monitor:
        until(lambda: len(places(monitor)) == 2)
    assert watched(client) == {False}


def test_a_monitor_that_stops_while_it_begins_again_leaves_no_worker_watched(client):
    monitor = PerformanceMonitor([Workers(client, interval=INTERVAL)], interval=INTERVAL)
    for _ in range(6):
        monitor.start()
        monitor.sample()  # which has the workers watched again
        monitor.stop()
    assert watched(client) == {False}
    assert not any("dask" in name for name in monitor.errors)


def test_the_workers_are_watched_again_after_an_end_that_failed(client):
    workers = Workers(client, interval=INTERVAL)
    client.unregister_worker_plugin("perfmon")
    with pytest.raises(ValueError, match="does not exist"):
        workers.close()
    with PerformanceMonitor([workers], interval=INTERVAL) as monitor:
        until(lambda: len(places(monitor)) == 2)
    assert watched(client) == {False}


def test_workers_that_cannot_be_watched_do_not_sample(client, monkeypatch):
    async def fail(_: Workers) -> None:
        raise OSError("the scheduler does not answer")

    monkeypatch.setattr(Workers, "_events", fail)
    with pytest.raises(OSError, match="the scheduler does not answer"):
        Workers(client, interval=INTERVAL)
    assert watched(client) == {False}


def test_what_others_write_to_the_topic_costs_nothing(client):
    workers = Workers(client, interval=INTERVAL)
    with PerformanceMonitor([workers], interval=INTERVAL) as monitor:
        until(lambda: len(places(monitor)) == 2)
        for message in (None, 7, "text", {"own": {}}, {"key": "0"}, [1, 2], {"error": "x"}, {"left": "x"}):
            client.log_event("perfmon", message)
        for own in (1, {"cpu_percent": "much"}, {"cpu_percent": [1.0]}):
            client.log_event("perfmon", {"name": "stranger", "own": own})
        until(lambda: "worker unknown" in monitor.errors)
        assert set(workers.recent().index.get_level_values("worker")) == {"0", "1"}
        assert "no row of this package" in monitor.errors["worker unknown"]
        rows = len(monitor.history)
        until(lambda: len(monitor.history) > rows + 3)
        assert places(monitor) == {"worker0", "worker1"}


def test_a_worker_that_cannot_import_the_package_is_named_and_works_on(client):
    """The others are seen as ever; and one of these that joins later is not kept out of the cluster."""
    client.run(hide_package, workers=[next(iter(client.scheduler_info()["workers"]))])
    try:
        workers = Workers(client, interval=INTERVAL)
        until(lambda: len({name.partition("/")[0] for name in workers.collect()} - {"host0"}) == 1)
        [(name, text)] = [item for item in workers.errors.items() if "install" in item[1]]
        assert name in {"worker 0", "worker 1"}
        assert "perfmon_widgets cannot be imported there" in text
        assert client.submit(busy, 0.01, pure=False).result() > 0
        workers.close()
    finally:
        client.restart()


def hide_package() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "perfmon_widgets"]:
        del sys.modules[name]
    sys.modules["perfmon_widgets"] = None


def test_a_client_or_interval_that_cannot_be_used_is_refused(client):
    with pytest.raises(ValueError, match="interval must be a number of seconds greater than 0, not 0"):
        Workers(client, interval=0)

    async def with_asynchronous_client() -> None:
        async with Client(client.scheduler.address, asynchronous=True) as other:
            with pytest.raises(ValueError, match="without asynchronous=True"):
                Workers(other)

    client.sync(with_asynchronous_client)


# -- workers that come and go -------------------------------------------------------------------------------


def test_restarts_scaling_and_kills_are_followed():
    with local_cluster() as client:
        cluster = client.cluster
        with PerformanceMonitor([Workers(client, interval=INTERVAL)], interval=INTERVAL) as monitor:
            until(lambda: len(places(monitor)) == 2)
            columns = list(monitor.history.columns)

            def started() -> float:
                return time.monotonic() - monitor.latest.values.get("worker0/uptime_seconds", math.inf)

            before = started()
            client.restart()
            until(lambda: started() > before + 1)
            until(lambda: len(places(monitor)) == 2)

            process = client.run(os.getpid)
            victim = next(a for a, each in client.scheduler_info()["workers"].items() if each["name"] == 1)
            os.kill(process[victim], signal.SIGSTOP)
            until(lambda: places(monitor) == {"worker0"})
            assert monitor.errors["worker1/cpu_percent"].startswith("no row from worker 1 for ")
            os.kill(process[victim], signal.SIGKILL)
            until(lambda: len(places(monitor)) == 2)  # its nanny has restarted it
            assert list(monitor.history.columns) == columns

            cluster.scale(4)
            until(lambda: len(places(monitor)) == 4)
            assert list(monitor.history.columns)[: len(columns)] == columns
            cluster.scale(1)
            until(lambda: len(places(monitor)) == 1)
            gone = ({f"worker{number}" for number in range(4)} - places(monitor)).pop()
            assert "has left the cluster" in monitor.errors[f"{gone}/cpu_percent"]


def test_a_worker_that_does_not_answer_costs_no_other(monkeypatch):
    """Suspended before it is watched, it holds up what Dask asks of all workers until it is dropped."""
    monkeypatch.setattr(dask, "_TIMEOUT", 2.0)
    with local_cluster() as client:
        process = client.run(os.getpid)
        stuck = next(a for a, each in client.scheduler_info()["workers"].items() if each["name"] == 1)
        os.kill(process[stuck], signal.SIGSTOP)
        try:
            begun = time.monotonic()
            workers = Workers(client, interval=INTERVAL)
            assert time.monotonic() - begun < 10
            with PerformanceMonitor([workers], interval=INTERVAL) as monitor:
                until(lambda: places(monitor) == {"worker0"})
                assert "some workers have not answered yet" in monitor.errors["dask"]
                os.kill(process[stuck], signal.SIGCONT)
                until(lambda: places(monitor) == {"worker0", "worker1"})
                until(lambda: "dask" not in monitor.errors)
        finally:
            os.kill(process[stuck], signal.SIGCONT)


def test_when_the_cluster_is_gone_the_reason_says_so():
    with local_cluster(n_workers=1) as client:
        monitor = PerformanceMonitor([Workers(client, interval=INTERVAL)], interval=INTERVAL)
        monitor.start()
        until(lambda: places(monitor))
    until(lambda: not places(monitor))
    assert monitor.errors["worker0/cpu_percent"]
    monitor.stop()
    assert "Workers.close" not in monitor.errors


def test_workers_in_one_process_count_once():
    with local_cluster(processes=False, n_workers=3) as client:
        with PerformanceMonitor([Workers(client, interval=INTERVAL)], interval=INTERVAL) as monitor:
            until(lambda: monitor.latest and places(monitor))
            rows = len(monitor.history)
            until(lambda: len(monitor.history) > rows + 5)
            assert len(places(monitor)) == 1
        samplers = [thread.name for thread in threading.enumerate() if thread.name == "perfmon-sampler"]
        assert samplers == []


def test_workers_in_one_process_have_their_threads_limits_and_tasks_together():
    """Since CPU and memory are those of the whole process."""
    with (
        local_cluster(processes=False, n_workers=4, threads_per_worker=2) as client,
        PerformanceMonitor([Workers(client, interval=INTERVAL)], interval=INTERVAL) as monitor,
    ):
        tasks = [client.submit(time.sleep, 2, pure=False, workers=[each]) for each in addresses(client)]
        name = f"worker{min(each['name'] for each in client.scheduler_info()['workers'].values())}"
        until(lambda: monitor.latest and monitor.latest.values.get(f"{name}/tasks_running") == 4)
        assert monitor.latest.values[f"{name}/ram_limit_bytes"] == 4 * 600e6
        client.gather(tasks)


def addresses(client: Client) -> list[str]:
    return list(client.scheduler_info(n_workers=-1)["workers"])


def test_workers_in_one_process_take_the_last_interval():
    with (
        local_cluster(processes=False, n_workers=3) as client,
        PerformanceMonitor([Workers(client, interval=60)], interval=INTERVAL) as monitor,
    ):
        until(lambda: monitor.latest and places(monitor))
        second = Workers(client, interval=INTERVAL)
        [reporter] = dask_worker._reporters.values()
        assert (reporter.interval, len(reporter.workers)) == (INTERVAL, 3)
        rows = len(second.recent())
        until(lambda: len(second.recent()) > rows + 5)
        second.close()


def test_a_worker_that_dask_has_paused_is_seen_and_has_not_left():
    """It is the one with the fullest memory. Here it is paused by hand, and nothing makes it go on."""
    with local_cluster(n_workers=1, memory_limit=None) as client:
        with PerformanceMonitor([Workers(client, interval=INTERVAL)], interval=INTERVAL) as monitor:
            until(lambda: places(monitor) == {"worker0"})
            client.run(pause)
            until(lambda: next(iter(client.scheduler_info()["workers"].values()))["status"] == "paused")
            rows = len(monitor.history)
            until(lambda: len(monitor.history) > rows + 20)
            assert places(monitor) == {"worker0"}
            assert monitor.history["worker0/uptime_seconds"].iloc[rows + 5 :].nunique() >= 5

        def reasons() -> list[str]:
            return [event["left"] for _, event in client.get_events("perfmon") if "left" in event]

        until(reasons)
        assert reasons() == ["is watched no longer: its plugin was removed"]


def pause(dask_worker: Worker) -> None:
    dask_worker.status = Status.paused


def test_the_uptime_is_that_of_the_process(client):
    with PerformanceMonitor([Workers(client, interval=INTERVAL)], interval=INTERVAL) as monitor:
        until(lambda: len(places(monitor)) == 2)
        [process, *_] = client.run(os.getpid).values()
        age = time.time() - psutil.Process(process).create_time()
        numbers = [monitor.latest.values[f"worker{number}/uptime_seconds"] for number in (0, 1)]
        assert min(abs(number - age) for number in numbers) < 1


def test_an_encrypted_cluster():
    with local_cluster(security=True, n_workers=1) as client:
        assert client.scheduler.address.startswith("tls://")
        with PerformanceMonitor([Workers(client, interval=INTERVAL)], interval=INTERVAL) as monitor:
            until(lambda: places(monitor) == {"worker0"})


# -- programs of their own ----------------------------------------------------------------------------------


@contextmanager
def program(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


def free_port() -> int:
    with socket.socket() as any_free:
        any_free.bind(("127.0.0.1", 0))
        return any_free.getsockname()[1]


def worker_of(address: str, folder: Path) -> tuple[str, ...]:
    words = f"dask worker {address} --nthreads 1 --no-dashboard --local-directory"
    return (*words.split(), str(folder))


def test_a_scheduler_that_is_started_anew_is_watched_again(folder):
    """The new one knows nothing of who listens, or of the plugin."""
    address = f"tcp://127.0.0.1:{free_port()}"
    scheduler = ("dask", "scheduler", "--no-dashboard", "--host", address)
    worker = worker_of(address, folder)
    with program(*scheduler) as first, Client(address, timeout=30) as client, program(*worker):
        client.wait_for_workers(1, timeout=60)
        with PerformanceMonitor([Workers(client, interval=INTERVAL)], interval=INTERVAL) as monitor:
            until(lambda: places(monitor), seconds=60)
            first.kill()
            first.wait()
            until(lambda: not places(monitor), seconds=60)
            with program(*scheduler), program(*worker):
                until(lambda: places(monitor), seconds=60)
                assert "dask" not in monitor.errors


def test_a_scheduler_and_workers_that_are_programs_of_their_own(folder):
    address = f"tcp://127.0.0.1:{free_port()}"
    worker = worker_of(address, folder)
    with (
        program("dask", "scheduler", "--no-dashboard", "--host", address),
        Client(address, timeout=30) as client,
        program(*worker),
        program(*worker, "--name", "gpu-box"),
        program(*worker, "--no-nanny"),
    ):
        client.wait_for_workers(2, timeout=60)
        with PerformanceMonitor([Workers(client, interval=INTERVAL)], interval=INTERVAL) as monitor:
            until(lambda: places(monitor) == {"worker0", "worker1", "worker2"}, seconds=60)
            devices = {m.device for m in monitor.metrics if m.what == "cpu_percent" and "worker" in m.where}
            assert "gpu-box" in devices
            assert all(each == "gpu-box" or each.startswith("tcp://127.0.0.1:") for each in devices)
