"""Whether samples come when they are due: ``python tests/benchmarks/cadence.py`` prints two tables.

Its environment is that of peers.py, which says how to make it.

The first is by the rules of JUmPER's benchmark (``jumper_extension.monitor.benchmark.run_benchmark``): 1, 2,
4, 8 and 16 samples a second while a busy process runs on every CPU. A watcher has taken some of the samples
that were due (seconds × rate), and some of them came at most one and a half intervals after the one before.
Here rounds take turns, the worst is printed next to the median, and none is left out as an outlier. JUmPER's
processes give others niceness 19, see jumper.py: the last column has that of the watched process.

The second holds the samples of this package against the grid, while its own process does several things. What
is missing must be reported: rows and ``monitor.missed`` make up what was due, and each hole is in ``gaps``.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from typing import Any

from jumper import compiled
from loads import LOADS
from peers import machine, measured, table

NAMES = ["perfmon_widgets", "JUmPER thread", "JUmPER subprocess", "JUmPER native_c"]
RATES = [1, 2, 4, 8, 16]


def hits(rates: list[int], seconds: float, rounds: int) -> str:
    found: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for number in range(rounds):
        for rate in rates:
            for name in NAMES:
                print(f"hits, round {number + 1} of {rounds}: {name} at {rate} Hz", file=sys.stderr)
                found.setdefault((name, rate), []).append(measured("sampled.py", "hits", name, rate, seconds))
    head = [
        "",
        "Hz",
        "samples there",
        "worst",
        "at most 1.5 intervals apart",
        "p95 apart",
        "longest",
        "niceness",
    ]
    return table(head, [hits_row(name, rate, found[name, rate]) for name in NAMES for rate in rates])


def hits_row(name: str, rate: int, found: list[dict[str, Any]]) -> list[str]:
    for one in found:
        if "error" in one:
            return [name, str(rate), f"did not run: {one['error']}", "", "", "", "", ""]
    middle = {key: statistics.median(one[key] for one in found) for key in found[0]}
    return [
        name,
        str(rate),
        f"{middle['there']:.1%}",
        f"{min(one['there'] for one in found):.1%}",
        f"{middle['hits']:.1%}",
        f"{middle['p95']:.2f} intervals",
        f"{max(one['longest'] for one in found):.2f} intervals",
        f"{middle['nice']:.0f}",
    ]


def jitters(interval: float, seconds: float) -> str:
    rows = []
    for load in LOADS:
        print(f"jitter: {load}", file=sys.stderr)
        rows.append(jitter_row(load, measured("sampled.py", "jitter", load, interval, seconds)))
    head = ["", "late, median", "p95", "max", "due", "rows", "missed", "gaps", "longest", "all reported"]
    return table(head, rows)


def jitter_row(load: str, found: dict[str, Any]) -> list[str]:
    if "error" in found:
        return [load, f"did not run: {found['error']}", *[""] * 8]
    late = [f"{1000 * found[key]:.1f} ms" for key in ("median", "p95", "max")]
    counts = [str(found[key]) for key in ("due", "rows", "missed", "gaps")]
    return [load, *late, *counts, f"{found['longest']:.2f} s", "yes" if told_of(found) else "NO"]


def told_of(found: dict[str, Any]) -> bool:
    """Whether what is missing is counted, and each stretch of it marked."""
    return bool(found["rows"] + found["missed"] == found["due"] and found["gaps"] == found["holes"])


def main() -> None:
    parser = argparse.ArgumentParser(description="Whether samples come when they are due.")
    parser.add_argument("--rates", type=int, nargs="+", default=RATES, help="samples a second (1 2 4 8 16)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each run (10 s)")
    parser.add_argument("--rounds", type=int, default=3, help="of the first table; 0: none (3)")
    parser.add_argument("--interval", type=float, default=0.1, help="of the second table (0.1 s)")
    options = parser.parse_args()
    if options.rounds and (reason := compiled()):
        print(f"JUmPER native_c: {reason}", file=sys.stderr)
    print(f"{machine()}; load {os.getloadavg()[0]:.1f} at the start\n")
    if options.rounds:
        print(f"A busy process on every CPU, {options.rounds} rounds of {options.seconds:g} s:\n")
        print(hits(options.rates, options.seconds, options.rounds), flush=True)
    print(f"\nOne sample every {options.interval:g} s, {options.seconds:g} s of each:\n")
    print(jitters(options.interval, options.seconds))
    print(f"\nload {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()
