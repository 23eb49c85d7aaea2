"""What an open live page costs: ``python tests/benchmarks/live_page.py`` prints it.

For several machines: CPU time and bytes of a refresh with the two sections open that are open at first, and
with all of them; it is that of the whole program, with all its threads. Also with a search for findings, of
which there is one in five seconds. Then, for a program that computes in pure Python: how long the first
picture and a refresh take, and how late samples are while the page is refreshed once a second, and while
nobody looks, in turns.
"""

from __future__ import annotations

import gzip
import http.client
import json
import math
import statistics
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from perfmon_widgets import Metric, PerformanceMonitor
from perfmon_widgets.web.page import VIEW

MACHINES = {
    "2 CPUs": (2, 0, 0),
    "8 CPUs, 1 GPU": (8, 1, 0),
    "64 CPUs, 8 GPUs": (64, 8, 0),
    "32 workers": (4, 0, 32),
}
"""CPUs, GPUs and workers of each."""

_ROWS, _REFRESHES = 600, 24
_IDLE = 0.4  # seconds before each refresh, after which less of it is in the CPU's caches
_OF_A_GPU = {
    "utilization_percent": "percent",
    "memory_percent": "percent",
    "memory_used_bytes": "bytes",
    "memory_limit_bytes": "bytes",
    "power_watts": "watts",
    "sm_clock_hertz": "hertz",
    "pcie_sent_bytes_per_second": "bytes_per_second",
}
# Has the history of a machine and nothing to do. Takes a sample for each line, and says so. With a second
# argument it looks for findings in each refresh, else in none.
_SERVED = """
import math, sys, time
from live_page import MACHINES, machine
from perfmon_widgets import serve
from perfmon_widgets.web import asked
asked._FIND_EVERY = 1e-3 if sys.argv[2:] else math.inf
monitor = machine(*MACHINES[sys.argv[1]])
monitor.start()
server = serve(monitor)
print(server.url, server.token, flush=True)
for line in sys.stdin:
    monitor.sample()
    print(flush=True)
"""
# Computes, and prints the times of its samples in the end.
_BUSY = """
import sys, time
from live_page import MACHINES, machine
from perfmon_widgets import serve
times = []
monitor = machine(*MACHINES[sys.argv[2]])
monitor.interval = 0.2
monitor.on_sample(lambda sample: times.append(sample.time))
monitor.start()
server = serve(monitor)
print(server.url, server.token, flush=True)
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    sum(number * number for number in range(10_000))
monitor.stop()
print(*times)
"""
_INTERVAL = 0.2  # seconds between two of its samples
_TURN = 6.0  # seconds of looking, then as many of not looking


class Cost(NamedTuple):
    """What one refresh costs, at the median."""

    figures: int
    milliseconds: float
    """CPU time of the program that answers."""
    at_first: float
    """The same for a page that has nothing yet."""
    sent: int
    """Bytes that are sent to a browser, which takes long ones compressed."""
    bytes: int
    """The same where they are not compressed."""


class _Waves:
    """Every column goes up and down, each in its own way."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self.metrics = metrics
        self._row = 0

    def collect(self) -> dict[str, float]:
        self._row += 1
        # Samples are taken sooner where memory fills up.
        return {
            each.name: 40.0 if each.group == "memory" else 50 + 40 * math.sin(self._row / 9 + at)
            for at, each in enumerate(self.metrics)
        }


def machine(cpus: int, gpus: int, workers: int) -> PerformanceMonitor:
    """A monitor with a full history of these, and of the other columns of this machine."""
    here = [each for each in PerformanceMonitor(interval=3600).metrics if each.role != "part"]
    own = [each for each in here if each.group != "gpu"]
    metrics = [
        *(
            Metric(f"gpu{gpu}/{what}", unit, "gpu", "", role="limit" if "limit" in what else "")
            for gpu in range(gpus)
            for what, unit in _OF_A_GPU.items()
        ),
        *own,
        *(Metric(f"core{core}/cpu_percent", "percent", "cpu", "", role="part") for core in range(cpus)),
        *(
            Metric(f"worker{worker}/{what}", unit, "workers", "")
            for worker in range(workers)
            for what, unit in (("cpu_percent", "percent"), ("ram_used_bytes", "bytes"))
        ),
    ]
    waves = _Waves(metrics)
    monitor = PerformanceMonitor([waves], interval=3600)
    now, monotonic = time.time(), time.monotonic()
    for before in range(_ROWS, 0, -1):
        monitor._history.append(now - before, [*waves.collect().values()], taken=monotonic - before)
    monitor.sample()
    return monitor


class Program(NamedTuple):
    """A program that serves its page."""

    connection: http.client.HTTPConnection
    """Kept open, as by a browser."""
    token: str
    process: int
    input: IO[str]
    output: IO[str]

    def view(self, query: Mapping[str, object]) -> tuple[Any, int, int]:
        """What the page shows, and the bytes that were sent and that they are."""
        headers = {"Authorization": f"token {self.token}", "Accept-Encoding": "gzip"}
        self.connection.request("GET", f"{VIEW}?{urllib.parse.urlencode(query)}", headers=headers)
        response = self.connection.getresponse()
        sent = response.read()
        body = gzip.decompress(sent) if response.getheader("Content-Encoding") == "gzip" else sent
        return json.loads(body), len(sent), len(body)

    def sample(self) -> None:
        """Let the program take another sample."""
        print(file=self.input, flush=True)
        self.output.readline()

    def cpu_seconds_beside(self) -> float:
        """The CPU time that all its threads but the first have used: to answer, and to take samples."""
        first = Path(f"/proc/{self.process}/task/{self.process}/schedstat").read_text()
        return self.cpu_seconds() - int(first.split()[0]) / 1e9

    def cpu_seconds(self) -> float:
        """The CPU time that all threads of the program have used, of which it notices nothing."""
        return time.clock_gettime(~self.process << 3 | 2)  # as clock_getcpuclockid(3) makes it on Linux


@contextmanager
def running(code: str, *arguments: str) -> Iterator[Program]:
    """Run this code until the end of the block."""
    command = [sys.executable, "-c", code, *arguments]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes, cwd=Path(__file__).parent) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        url, token = process.stdout.readline().split()
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=20)
        try:
            yield Program(connection, token, process.pid, process.stdin, process.stdout)
        finally:
            connection.close()
            process.kill()


def cost(program: Program, opened: Sequence[str] | None = None) -> Cost:
    """What a refresh costs of a page with these sections open; without them, with the first two."""
    query: dict[str, object] = {"width": 460, "zone": "Europe/Berlin", "minutes": 60}
    query |= {} if opened is None else {"open": ",".join(opened)}
    spent, firsts, sizes = [], [], []
    for _ in range(_REFRESHES // 4):
        before = program.cpu_seconds()
        shown, _, _ = program.view(query)
        firsts.append(1e3 * (program.cpu_seconds() - before))
    figures = sum(len(each.get("figures", ())) for each in shown["sections"])
    has = {"since": shown["newest"], "have": shown["have"]}
    for _ in range(_REFRESHES):
        program.sample()
        time.sleep(_IDLE)
        before = program.cpu_seconds()
        shown, *size = program.view(query | has)
        spent.append(1e3 * (program.cpu_seconds() - before))
        sizes.append(size)
        has = {"since": shown["newest"], "have": shown["have"]}
    sent, size_of_all = (round(statistics.median(each)) for each in zip(*sizes, strict=True))
    return Cost(figures, statistics.median(spent), statistics.median(firsts), sent, size_of_all)


class Busy(NamedTuple):
    """What is measured of a program that computes in pure Python."""

    first: float
    """How long its first picture takes, in seconds."""
    spent: float
    """CPU time in ms for a refresh with all sections open, at the median."""
    looked_at: list[float]
    """How late its samples are in ms, while the page is refreshed once a second."""
    alone: list[float]
    """How late its samples are in ms, while nobody looks at the page."""


def busy(seconds: float, name: str) -> Busy:
    """Measure a program that computes for so long, with and without a page, in turns."""
    looks: list[tuple[float, float]] = []
    spent: list[float] = []
    with running(_BUSY, str(seconds), name) as program:
        time.sleep(2)
        begun = time.monotonic()
        shown, _, _ = program.view({})
        first = time.monotonic() - begun
        query = {"open": ",".join(each["group"] for each in shown["sections"])}
        shown, _, _ = program.view(query)
        end = begun + seconds - 4 - 2 * _TURN
        while time.monotonic() < end:
            turn = time.time()
            while time.time() < turn + _TURN:
                time.sleep(1)
                has = {"since": shown["newest"], "have": shown["have"]}
                before = program.cpu_seconds_beside()
                shown, _, _ = program.view(query | has)
                spent.append(1e3 * (program.cpu_seconds_beside() - before))
            looks.append((turn, time.time()))
            time.sleep(_TURN)
        first_time, *times = [float(each) for each in program.output.readline().split()]
    # The first sample is taken before the program computes. The others are due at whole intervals after it.
    early = _INTERVAL / 5
    late = [1e3 * ((at - first_time + early) % _INTERVAL - early) for at in times]
    is_seen = [any(start <= at <= until for start, until in looks) for at in times]
    return Busy(
        first,
        statistics.median(spent),
        [each for each, seen in zip(late, is_seen, strict=True) if seen],
        [each for each, seen in zip(late, is_seen, strict=True) if not seen],
    )


def main() -> None:
    """Print the figures."""
    for name in MACHINES:
        with running(_SERVED, name) as program:
            every = [each["group"] for each in program.view({})[0]["sections"]]
            for which, opened in (("first two", None), ("all", every)):
                print(f"{name}, {which} open: {cost(program, opened)}", flush=True)
        with running(_SERVED, name, "findings") as program:
            with_findings = cost(program, every).milliseconds
            print(f"{name}, all open, with a search for findings: {with_findings:.1f} ms", flush=True)
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 120
    for name in ("2 CPUs", "64 CPUs, 8 GPUs"):
        found = busy(seconds, name)
        print(f"{name}: first picture {found.first:.2f} s, {found.spent:.1f} ms a refresh in a busy kernel")
        for who, late in (("a page is open", found.looked_at), ("nobody looks", found.alone)):
            quantiles = statistics.quantiles(late, n=100)
            print(
                f"{who}: {len(late)} samples, late by {statistics.median(late):.1f} ms at the median, "
                f"{quantiles[94]:.1f} in 95 %, {quantiles[98]:.1f} in 99 %, {max(late):.1f} at most",
                flush=True,
            )


if __name__ == "__main__":
    main()
