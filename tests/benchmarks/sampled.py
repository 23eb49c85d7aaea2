"""The process whose cadence is measured: cadence.py starts it for one row of its tables; it prints JSON.

``python sampled.py hits NAME HERTZ SECONDS`` counts samples by the rules of JUmPER's benchmark;
``python sampled.py jitter LOAD INTERVAL SECONDS`` holds those of this package against the grid.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any

from loads import LOADS, all_cpus
from watched import quiet
from watchers import WATCHERS

from perfmon_widgets import PerformanceMonitor


def hits(name: str, hertz: float, seconds: float) -> dict[str, Any]:
    """A run with a busy process on every CPU; what it counts, see hits_of."""
    watcher: Any = WATCHERS[name]()
    with all_cpus():
        watcher.start(1 / hertz)
        time.sleep(seconds)
        nice = os.getpriority(os.PRIO_PROCESS, 0)
    watcher.stop()
    return hits_of(watcher.times, hertz, seconds) | {"nice": nice}


def hits_of(times: Sequence[float], hertz: float, seconds: float) -> dict[str, float]:
    """What share of the samples that were due there is, and the time between two: 95th percentile, maximum.

    JUmPER's rules: due are seconds × hertz, there cannot be more than all, and a sample is a hit if it comes
    at most one and a half intervals after the one before.
    """
    apart = [after - before for before, after in itertools.pairwise(times)]
    return {
        "there": min(1.0, len(times) / int(seconds * hertz)),
        "hits": (1 + sum(one <= 1.5 / hertz for one in apart)) / max(len(times), 1),
        "p95": percentile(apart, 95) * hertz,
        "longest": max(apart) * hertz,
    }


def jitter(load: str, interval: float, seconds: float) -> dict[str, Any]:
    """How late samples are while the process does that, and whether every missing one is reported."""
    monitor = PerformanceMonitor(interval=interval)
    with monitor:
        time.sleep(2.5 * interval)
        LOADS[load](seconds)
        time.sleep(2.5 * interval)
    times = (monitor.rows[0].astype(float) / 1e6).tolist()
    return {
        **lateness_of(times, interval),
        "rows": len(times),
        "missed": monitor.missed,
        "gaps": len(monitor.history.attrs["gaps"]),
    }


def lateness_of(times: Sequence[float], interval: float) -> dict[str, float]:
    """How many were due until the newest, how many stretches are missing, and how late the rows are.

    The grid begins with the first row. A row belongs to the last point of it that had passed; a fifth of an
    interval is left for a first row that was late itself.
    """
    early = interval / 5
    points = [int((one - times[0] + early) // interval) for one in times]
    late = [one - times[0] - point * interval for one, point in zip(times, points, strict=True)]
    return {
        "due": points[-1] + 1,
        "holes": sum(after - before > 1 for before, after in itertools.pairwise(points)),
        "median": statistics.median(late),
        "p95": percentile(late, 95),
        "max": max(late),
        "longest": max(after - before for before, after in itertools.pairwise(times)),
    }


def percentile(values: Sequence[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def main() -> None:
    what, name, *numbers = sys.argv[1:]
    with quiet():
        answer = (hits if what == "hits" else jitter)(name, *map(float, numbers))
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
