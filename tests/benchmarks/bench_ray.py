"""What the rows of Ray's nodes cost, and how late they are.

``python tests/benchmarks/bench_ray.py 1 2 4`` prints a table.

For each number of nodes a cluster with as many raylets is started on this machine. The CPU time of this
process, the driver, and of the raylets is counted for as long without the rows as with them.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.update(RAY_AUTH_MODE="disabled", RAY_USAGE_STATS_ENABLED="0")

import psutil
import ray
from ray.cluster_utils import Cluster

from perfmon_widgets.cluster import ray as cluster_ray
from perfmon_widgets.cluster import ray_actors
from perfmon_widgets.cluster.ray import Nodes
from perfmon_widgets.cluster.ray_actor import PerfmonNode

INTERVAL = 0.5
SETTINGS = {"num_cpus": 1, "object_store_memory": 100 * 1024 * 1024}
FIELDS = (
    "nodes",
    "rows/s",
    "driver, per row",
    "raylet, per row",
    "actor, per row",
    "late, median",
    "late, 99 %",
    "memory of an actor",
    "a collect()",
)


class Timed(PerfmonNode):
    """Notes when each row is handed over: all processes of a machine have the same monotonic clock."""

    def next_row(self, seconds: float) -> dict[str, Any] | None:
        message = super().next_row(seconds)
        return message and {**message, "handed_over": time.monotonic()}


class Late(ray_actors.NodeActors):
    """Notes how late each row is."""

    late: list[float]

    def take(self, node: str, actor: Any, answer: Any) -> None:
        message = None if answer.exception() else answer.result()
        if message and hasattr(self, "late"):
            self.late.append(time.monotonic() - message["handed_over"])
        super().take(node, actor, answer)


@contextmanager
def cluster(nodes: int) -> Iterator[None]:
    """As many nodes, to which this process is connected."""
    cluster = Cluster(initialize_head=True, head_node_args={**SETTINGS, "include_dashboard": False})
    try:
        for _ in range(nodes - 1):
            cluster.add_node(**SETTINGS)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="error")
        yield
    finally:
        ray.shutdown()
        cluster.shutdown()


def processes(name: str) -> list[int]:
    """The processes whose command begins with a name."""
    commands = {one.pid: one.info["cmdline"] or [""] for one in psutil.process_iter(["cmdline"])}
    return [number for number, words in commands.items() if Path(words[0]).name.startswith(name)]


def cpu_seconds(numbers: Sequence[int]) -> float:
    return sum(sum(psutil.Process(number).cpu_times()[:2]) for number in numbers)


def measure(nodes: int, seconds: float) -> list[str]:
    with cluster(nodes):
        time.sleep(10)
        raylets = processes("raylet")

        def used(actors: Sequence[int]) -> list[float]:
            def now() -> list[float]:
                return [time.process_time(), cpu_seconds(raylets), cpu_seconds(actors)]

            before = now()
            time.sleep(seconds)
            return [after - earlier for after, earlier in zip(now(), before, strict=True)]

        without = used([])
        collector = Nodes(interval=INTERVAL)
        assert collector._actors.answered.wait(120)
        time.sleep(5)
        actors = processes("ray::Timed")
        assert len(raylets) == len(actors) == nodes
        collector._actors.late = late = []
        with_rows = used(actors)
        late = sorted(late)
        before = time.thread_time()
        for _ in range(100):
            collector.collect()
        collect = (time.thread_time() - before) / 100
        memory = statistics.mean(psutil.Process(number).memory_full_info().uss for number in actors)
        collector.close()
    costs = [(after - plain) / len(late) for after, plain in zip(with_rows, without, strict=True)]
    return [
        str(nodes),
        f"{len(late) / seconds:.0f}",
        *(f"{1e3 * cost:.2f} ms" for cost in costs),
        f"{1e3 * statistics.median(late):.1f} ms",
        f"{1e3 * late[int(0.99 * (len(late) - 1))]:.0f} ms",
        f"{memory / 2**20:.0f} MiB",
        f"{1e3 * collect:.2f} ms",
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("nodes", nargs="*", type=int, default=[1, 2, 4])
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args(arguments)
    ray_actors._Actor = ray.remote(num_cpus=0)(Timed)
    cluster_ray.NodeActors = Late
    print(f"| {' | '.join(FIELDS)} |\n|{'---|' * len(FIELDS)}")
    for nodes in options.nodes:
        print(f"| {' | '.join(measure(nodes, options.seconds))} |", flush=True)


if __name__ == "__main__":
    main()
