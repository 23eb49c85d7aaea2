"""What the rows of Dask's workers cost, and how late they are.

``python tests/benchmarks/bench_dask.py 1 8 32`` prints a table.

For each number of workers a scheduler and workers are started as programs of their own. The CPU time of the
scheduler and of this process, the client, is counted for as long without the rows as with them.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from distributed import Client

from perfmon_widgets.cluster import dask_worker
from perfmon_widgets.cluster.dask import TOPIC, Workers

INTERVAL = 0.5
FIELDS = (
    "workers",
    "rows/s",
    "scheduler, per row",
    "client, per row",
    "late, median",
    "late, 99 %",
    "a collect()",
)


def cpu_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def program(*words: str) -> Iterator[int]:
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([sys.executable, "-m", "dask", *words], **quiet)
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait(60)


@contextmanager
def cluster(workers: int) -> Iterator[tuple[Client, int]]:
    """A client, and the process id of its scheduler."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    settings = ("--nworkers", str(workers), "--nthreads", "1", "--no-dashboard")
    with (
        program("scheduler", "--no-dashboard", "--host", address) as scheduler,
        Client(address, timeout=60) as client,
        program("worker", address, *settings),
    ):
        client.wait_for_workers(workers, timeout=300)
        yield client, scheduler


class Late(Workers):
    """Notes how late each row is: all processes of a machine have the same monotonic clock."""

    begun: dict[str, float]
    late: list[float]

    def hear(self, stamp: float, message: object) -> None:
        if isinstance(message, dict) and "own" in message and hasattr(self, "late"):
            sent = self.begun[message["worker"]] + message["own"]["uptime_seconds"]
            self.late.append(time.monotonic() - sent)
        super().hear(stamp, message)


def measure(workers: int, seconds: float) -> list[str]:
    with cluster(workers) as (client, scheduler):
        begun = client.run(lambda: dask_worker._imported)
        time.sleep(10)

        def used() -> tuple[float, float]:
            before = cpu_seconds(scheduler), time.process_time()
            time.sleep(seconds)
            return cpu_seconds(scheduler) - before[0], time.process_time() - before[1]

        without = used()
        collector = Late(client, interval=INTERVAL)
        time.sleep(3)
        collector.begun, collector.late = begun, []
        with_rows = used()
        late = sorted(collector.late)
        before = time.thread_time()
        for _ in range(100):
            collector.collect()
        collect = (time.thread_time() - before) / 100
        assert len(client.get_events(TOPIC)) > 0
        collector.close()
        costs = [(after - plain) / len(late) for after, plain in zip(with_rows, without, strict=True)]
    return [
        str(workers),
        f"{len(late) / seconds:.0f}",
        *(f"{1e3 * cost:.2f} ms" for cost in costs),
        f"{1e3 * statistics.median(late):.1f} ms",
        f"{1e3 * late[int(0.99 * (len(late) - 1))]:.0f} ms",
        f"{1e3 * collect:.2f} ms",
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workers", nargs="*", type=int, default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args(arguments)
    print(f"| {' | '.join(FIELDS)} |\n|{'---|' * len(FIELDS)}")
    for workers in options.workers:
        print(f"| {' | '.join(measure(workers, options.seconds))} |", flush=True)


if __name__ == "__main__":
    main()
