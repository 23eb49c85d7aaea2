"""The process that is watched: peers.py starts it for one watcher, and it prints what that cost as JSON.

``python watched.py cost NAME INTERVAL SECONDS`` measures what sampling takes while the main thread sleeps;
``python watched.py slowdown NAME INTERVAL SEGMENT PAIRS CLOCK`` what it takes from training.
"""

from __future__ import annotations

import contextlib
import io
import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np  # noqa: F401 - a process that trains has it, so no watcher is charged for it
import psutil
from training import LOOPS
from watchers import WATCHERS, Watcher

TIMEOUT = 60.0
"""Seconds to wait for a watcher's first samples."""


def cpu_clock(process: int) -> float:
    """The CPU seconds of a process, all its threads, on the OS kernel's fine clock; 0 if it has ended."""
    try:
        return time.clock_gettime((~process << 3) | 2)  # clock_getcpuclockid(3), which Python does not have
    except OSError:
        return 0.0


def children() -> list[int]:
    return [child.pid for child in psutil.Process().children(recursive=True)]


def cpu_seconds(alive: list[int]) -> float:
    """The CPU seconds of this process, of its children that were reaped, and of those that are alive."""
    reaped = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + reaped.ru_utime + reaped.ru_stime + sum(map(cpu_clock, alive))


def resident_bytes(process: int) -> int:
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * resource.getpagesize()
    return 0


def wait_for_ticks(watcher: Watcher, ticks: int) -> None:
    deadline = time.monotonic() + TIMEOUT
    while watcher.ticks < ticks:
        if time.monotonic() > deadline:
            raise TimeoutError(f"not {ticks} samples within {TIMEOUT:g} s")
        time.sleep(0.005)


def cost(make: Callable[[], Watcher], interval: float, seconds: float) -> dict[str, float]:
    """Start-up to the first sample, then seconds of steady sampling, with nothing else to do."""
    own = psutil.Process().pid
    resident, before = resident_bytes(own), cpu_seconds([])
    watcher = make()
    watcher.start(interval)
    wait_for_ticks(watcher, 1)
    started = cpu_seconds(children()) - before
    wait_for_ticks(watcher, 4)  # what is done once is over
    alive = children()
    begun, ticks, before = time.monotonic(), watcher.ticks, cpu_seconds(alive)
    time.sleep(seconds)
    used, ticks = cpu_seconds(alive) - before, watcher.ticks - ticks
    lasted = time.monotonic() - begun
    resident = resident_bytes(own) + sum(map(resident_bytes, alive)) - resident
    watcher.stop()
    return {
        "cpu_per_tick": used / ticks,
        "ticks_per_second": ticks / lasted,
        "start_up": started,
        "resident": resident,
        "numbers": watcher.numbers,
    }


def seconds_of(step: Callable[[], object], steps: int, clock: Callable[[], float]) -> float:
    begun = clock()
    for _ in range(steps):
        step()
    return clock() - begun


def slowdown(
    make: Callable[[], Watcher], interval: float, segment: float, pairs: int, clock: str
) -> dict[str, Any]:
    """For each training loop, the time with watching over the time without, pair by pair."""
    watcher = make()
    read = time.perf_counter if clock == "wall" else lambda: cpu_seconds(children())
    ratios: dict[str, list[float]] = {}
    for name, loop in LOOPS.items():
        step = loop()
        seconds_of(step, 3, read)
        steps, took = 1, 0.0
        while took < segment / 2:
            steps *= 2
            took = seconds_of(step, steps, time.perf_counter)
        steps = max(1, round(steps * segment / took))

        def timed(step: Callable[[], object] = step, steps: int = steps) -> float:
            seconds_of(step, max(1, steps // 20), read)  # whatever the pause before has left cold
            return seconds_of(step, steps, read)

        ratios[name] = [pair(watcher, interval, timed, number % 2 == 0) for number in range(pairs)]
    return {"ratios": ratios}


def pair(watcher: Watcher, interval: float, timed: Callable[[], float], watched_first: bool) -> float:
    """The time with over the time without; which comes first alternates, so that a drift cancels out."""
    took = {}
    for watched in (watched_first, not watched_first):
        if watched:
            watcher.start(interval)
            wait_for_ticks(watcher, 1)
        took[watched] = timed()
        if watched:
            watcher.stop()
    return took[True] / took[False]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """What a peer prints does not mix with the answer."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def main() -> None:
    what, name, *numbers = sys.argv[1:]
    del sys.argv[1:]  # glances would read them
    with quiet():
        make = WATCHERS[name]
        if what == "cost":
            answer = cost(make, *map(float, numbers))
        else:
            interval, segment, pairs, clock = numbers
            answer = slowdown(make, float(interval), float(segment), int(pairs), clock)
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
