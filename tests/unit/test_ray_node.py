"""What runs on a Ray node, without Ray: whose processes it reads, and which row it hands over."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.collectors import FakeCollector

from perfmon_widgets.cluster.ray_actor import PerfmonNode
from perfmon_widgets.cluster.ray_node import Reporter, node_collectors, raylet_above, show_gpus
from perfmon_widgets.cluster.rows import Row
from perfmon_widgets.collectors import capacity


def process(proc: Path, number: int, parent: int, name: str) -> None:
    (proc / str(number)).mkdir(parents=True)
    (proc / str(number) / "stat").write_text(f"{number} ({name}) S {parent} 1 1 0 -1\n")


def test_the_root_of_a_node_is_the_nearest_raylet(tmp_path):
    """A local cluster has the raylet below the driver, which may itself be an actor below another raylet."""
    process(tmp_path, 10, 1, "raylet")
    process(tmp_path, 20, 10, "python")
    process(tmp_path, 30, 20, "raylet")
    process(tmp_path, 40, 30, "bash) (raylet")
    process(tmp_path, 50, 40, "ray::PerfmonNode")
    assert raylet_above(50, tmp_path) == 30
    assert raylet_above(20, tmp_path) == 10


def test_without_a_raylet_the_error_says_so(tmp_path):
    process(tmp_path, 20, 1, "python")
    for proc in (tmp_path, tmp_path / "none"):
        with pytest.raises(OSError, match="on Linux only, as children of a raylet"):
            raylet_above(20, proc)
    with pytest.raises(OSError, match="as children of a raylet"):
        node_collectors()


def test_an_actor_without_gpus_sees_those_of_its_node():
    environment = {"CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": "", "HOME": "/root"}
    show_gpus(environment, {"CUDA_VISIBLE_DEVICES": "2,3", "HOME": "/"})
    assert environment == {"CUDA_VISIBLE_DEVICES": "2,3", "HOME": "/root"}


@pytest.fixture
def busy() -> list[float]:
    """How busy the node is, in percent of all its CPUs."""
    return [math.nan]


@pytest.fixture
def reporter(busy: list[float]) -> Iterator[Reporter]:
    machine = FakeCollector(
        "process_cpu_percent",
        "cpu_percent",
        read=lambda: {"process_cpu_percent": busy[0], "cpu_percent": 80.0},
    )
    reporter = Reporter(0.01, capacity() / 2, "a1b2", "10.0.0.1, a1b2", [machine])
    yield reporter
    reporter.close()


def row(reporter: Reporter) -> Row:
    message = reporter.next_row(10)
    assert message is not None
    return Row.from_message(message)


def until(condition) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline


def test_a_row_says_whose_it_is_and_is_about_the_cpus_that_ray_may_use(reporter, busy):
    first = row(reporter)
    assert (first.key, first.name, first.interval) == ("a1b2", "10.0.0.1, a1b2", 0.01)
    assert first.machine == {"cpu_percent": 80.0}
    assert math.isnan(first.own["cpu_percent"])
    busy[0] = 30.0
    until(lambda: row(reporter).own == {"cpu_percent": 60.0})
    busy[0] = 70.0
    until(lambda: row(reporter).own == {"cpu_percent": 100.0})


def test_a_node_that_gets_no_tasks_has_a_share_of_all_its_cpus():
    machine = FakeCollector("process_cpu_percent", read=lambda: {"process_cpu_percent": 30.0})
    reporter = Reporter(0.01, 0, "a", "a", [machine])
    assert row(reporter).own == {"cpu_percent": 30.0}
    reporter.close()


def test_only_the_newest_row_waits_and_each_is_handed_over_once(reporter, busy):
    busy[0] = 1.0
    time.sleep(0.1)
    busy[0] = 2.0
    time.sleep(0.1)
    assert row(reporter).own == {"cpu_percent": 4.0}
    reporter.close()
    reporter.next_row(0)
    assert reporter.next_row(0.05) is None


def test_a_row_is_handed_over_as_soon_as_it_is_there(reporter):
    reporter.close()
    while reporter.next_row(0) is not None:
        pass
    threading.Timer(0.1, reporter._monitor.sample).start()
    begin = time.monotonic()
    assert reporter.next_row(20) is not None
    assert time.monotonic() - begin < 10


def test_what_goes_wrong_on_a_node_is_not_printed_there(capfd):
    """Ray would print it below the cell of the driver."""
    logger = logging.getLogger("perfmon_widgets")
    handlers, propagate = list(logger.handlers), logger.propagate
    logger.propagate = False  # pytest has handlers of its own above it

    def fail() -> dict[str, float]:
        raise OSError("no such device")

    try:
        logger.handlers.clear()
        reporter = Reporter(0.01, 1, "a", "a", [FakeCollector("process_cpu_percent", read=fail)])
        assert row(reporter).reasons["cpu_percent"] == "no such device"
        reporter.close()
    finally:
        logger.handlers[:], logger.propagate = handlers, propagate
    assert capfd.readouterr().err == ""


def test_the_actor_reports_why_it_cannot_begin(monkeypatch):
    node = PerfmonNode(1.0, 1.0, "a", "a")
    with pytest.raises(OSError, match="as children of a raylet"):
        node.next_row(1.0)
    monkeypatch.setitem(__import__("sys").modules, "perfmon_widgets.cluster.ray_node", None)
    with pytest.raises(ImportError):
        node.next_row(1.0)
