"""What an open live page costs: ``python tests/benchmarks/live_page.py`` prints it.

For several machines: CPU time and bytes of a refresh with the two sections open that are open at first, and
with all of them. Then, for a program that computes in pure Python: how long the first picture takes, and how
late samples are while the page is refreshed once a second, and while nobody looks.
"""

from __future__ import annotations

import gzip
import json
import math
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from perfmon_widgets import Metric, PerformanceMonitor
from perfmon_widgets.views.columns import groups
from perfmon_widgets.web import api
from perfmon_widgets.web.page import VIEW
from perfmon_widgets.web.request import Request

MACHINES = {
    "2 CPUs": (2, 0, 0),
    "8 CPUs, 1 GPU": (8, 1, 0),
    "64 CPUs, 8 GPUs": (64, 8, 0),
    "32 workers": (4, 0, 32),
}
"""CPUs, GPUs and workers of each."""

_ROWS, _REFRESHES = 600, 30
_OF_A_GPU = {
    "utilization_percent": "percent",
    "memory_percent": "percent",
    "memory_used_bytes": "bytes",
    "memory_limit_bytes": "bytes",
    "power_watts": "watts",
    "sm_clock_hertz": "hertz",
    "pcie_sent_bytes_per_second": "bytes_per_second",
}
_PROGRAM = """
import sys, time
from perfmon_widgets import PerformanceMonitor, serve
late, due = [], None
monitor = PerformanceMonitor(interval=0.2)
def note(sample):
    late.append(sample.time)
monitor.on_sample(note)
monitor.start()
server = serve(monitor)
print(server.url, server.token, flush=True)
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    sum(number * number for number in range(10_000))
monitor.stop()
print(*late)
"""


class Cost(NamedTuple):
    """What one refresh costs, at the median."""

    figures: int
    milliseconds: float
    """CPU time of the thread that answers."""
    bytes: int
    sent: int
    """Bytes that are sent to a browser, which takes them compressed."""


class _Waves:
    """Every column goes up and down, each in its own way."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self.metrics = metrics
        self._row = 0

    def collect(self) -> dict[str, float]:
        self._row += 1
        return {each.name: 50 + 40 * math.sin(self._row / 9 + at) for at, each in enumerate(self.metrics)}


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
    now = time.time()
    for row in range(_ROWS):
        monitor._history.append(now - _ROWS + row, [*waves.collect().values()])
    monitor.sample()
    return monitor


def refresh(monitor: PerformanceMonitor, opened: Sequence[str] | None = None) -> Cost:
    """What a refresh costs of a page with these sections open; without them, with the first two."""
    query = {"width": "460"} | ({} if opened is None else {"open": ",".join(opened)})
    first = json.loads(api.answer(monitor, Request("GET", VIEW, query)).body)
    query |= {"since": first["newest"], "have": first["have"]}
    spent = []
    for _ in range(_REFRESHES):
        monitor.sample()
        begun = time.thread_time()
        body = api.answer(monitor, Request("GET", VIEW, query)).body
        spent.append(1e3 * (time.thread_time() - begun))
    figures = sum(len(each.get("figures", ())) for each in first["sections"])
    return Cost(figures, statistics.median(spent), len(body), len(gzip.compress(body, compresslevel=1)))


def _seen(seconds: float, *, looked_at: bool) -> tuple[float, list[float]]:
    """The seconds until the first picture of a program that computes; how far samples are from their time."""
    command = [sys.executable, "-c", _PROGRAM, str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        url, token = program.stdout.readline().split()
        time.sleep(2)
        first = math.nan
        end = time.monotonic() + seconds - 4
        query = ""
        while time.monotonic() < end:
            if looked_at:
                begun = time.monotonic()
                request = urllib.request.Request(
                    f"{url}{VIEW}{query}", headers={"Authorization": f"token {token}"}
                )
                with urllib.request.urlopen(request, timeout=20) as response:
                    shown = json.load(response)
                first = time.monotonic() - begun if math.isnan(first) else first
                query = f"?since={shown['newest']}&columns={shown['columns']}"
            time.sleep(1)
        times = [float(each) for each in program.stdout.readline().split()]
    steps = [later - former - 0.2 for former, later in pairwise(times[10:])]
    return first, [1e3 * abs(step) for step in steps]


def main() -> None:
    """Print the figures."""
    for name, counts in MACHINES.items():
        monitor = machine(*counts)
        for which, opened in (("first two", None), ("all", [*groups(monitor.metrics)])):
            cost = refresh(monitor, opened)
            print(
                f"{name}, {which} open: {cost.figures} figures, {cost.milliseconds:.1f} ms, "
                f"{cost.bytes / 1e3:.0f} kB, {cost.sent / 1e3:.0f} kB sent"
            )
    for looked_at in (False, True):
        first, late = _seen(24, looked_at=looked_at)
        rare = statistics.quantiles(late, n=20)[-1]
        print(
            f"{'a page' if looked_at else 'nobody'} looks: first picture {first:.2f} s, samples away from "
            f"their time {statistics.median(late):.1f} ms at the median, {rare:.1f} ms in 95 % of all"
        )


if __name__ == "__main__":
    main()
