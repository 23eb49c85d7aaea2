"""What watching costs, here and by peers: ``python tests/benchmarks/peers.py`` prints two tables.

Its environment is one of its own, since the peers bring a lot along (Linux; make and a C compiler for one):

    python -m venv peers && peers/bin/pip install -e . -r tests/benchmarks/peers.txt
    peers/bin/python tests/benchmarks/peers.py

Each runs in a process of its own (watched.py), all at the same interval, in rounds that take turns. It is the
first process of a PID namespace where one can be made, because JUmPER looks through all processes there are
and costs more where there are more. A peer that cannot run has the reason in its row. How each is used stands
in watchers.py and jumper.py. All figures are medians.

- CPU per tick: user and system time of the whole process while its main thread sleeps, its children included,
  those that were reaped too, over the samples that were taken.
- start-up CPU, RSS added: until the first sample, and at the end, beyond a Python process that has NumPy.
- slowdown: time of a training loop with watching over the time without, less 1, in pairs that take turns; in
  brackets where the median lies with 95 %. "nothing" is the same without a watcher: what the machine adds.
  Times are those that pass, which mean something on a machine that does nothing else; with ``--clock cpu``
  they are CPU seconds, of the process and its children, which other programs disturb less.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from jumper import compiled
from medians import Median, median_of
from training import LOOPS
from watchers import WATCHERS

HERE = Path(__file__).parent
# It needs no privileges as a rule, and gives none.
NAMESPACE = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc"]
TIMEOUT = 3600.0


@functools.cache
def alone() -> tuple[str, ...]:
    """What to start a program with to make it the first of a PID namespace; nothing if there can be none."""
    try:
        subprocess.run([*NAMESPACE, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"no PID namespace: {error}", file=sys.stderr)
        return ()
    return tuple(NAMESPACE)


def measured(script: str, what: str, name: str, *numbers: object) -> dict[str, Any]:
    """What that script here has measured in a process of its own; ``error`` if it could not."""
    arguments = [sys.executable, "-W", "ignore", str(HERE / script), what, name, *map(str, numbers)]
    try:
        done = subprocess.run(
            [*alone(), *arguments], capture_output=True, text=True, timeout=TIMEOUT, check=True
        )
        answer: dict[str, Any] = json.loads(done.stdout)
    except subprocess.CalledProcessError as error:
        return {"error": (error.stderr.strip().splitlines() or ["no reason given"])[-1]}
    except subprocess.TimeoutExpired:
        return {"error": f"not done after {TIMEOUT:g} s"}
    return answer


def table(head: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown, its columns padded so that it reads as text too."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [head, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in lines
    )


def costs(names: list[str], interval: float, seconds: float, rounds: int) -> str:
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names:
            if not any("error" in one for one in found[name]):
                print(f"cost, round {number + 1} of {rounds}: {name}", file=sys.stderr)
                found[name].append(measured("watched.py", "cost", name, interval, seconds))
    head = ["", "CPU per tick", "from … to", "start-up CPU", "RSS added", "numbers per tick", "ticks/s"]
    return table(head, [cost_row(name, found[name]) for name in names])


def cost_row(name: str, found: list[dict[str, Any]]) -> list[str]:
    for one in found:
        if "error" in one:
            return [name, f"did not run: {one['error']}", "", "", "", "", ""]
    middle = {key: median_of([one[key] for one in found]).value for key in found[0]}
    ticks = [1000 * one["cpu_per_tick"] for one in found]
    return [
        name,
        f"{1000 * middle['cpu_per_tick']:.2f} ms",
        f"{min(ticks):.2f} … {max(ticks):.2f}",
        f"{1000 * middle['start_up']:.0f} ms",
        f"{middle['resident'] / 2**20:.1f} MiB",
        f"{middle['numbers']:.0f}",
        f"{middle['ticks_per_second']:.2f}",
    ]


def slowdowns(names: list[str], interval: float, segment: float, pairs: int, clock: str) -> str:
    rows = []
    for name in names:
        print(f"slowdown at {interval:g} s: {name}", file=sys.stderr)
        found = measured("watched.py", "slowdown", name, interval, segment, pairs, clock)
        if "error" in found:
            rows.append([name, f"did not run: {found['error']}", *[""] * (len(LOOPS) - 1)])
        else:
            rows.append([name, *(in_percent(median_of(found["ratios"][loop])) for loop in LOOPS)])
    return table(["", *LOOPS], rows)


def in_percent(ratio: Median) -> str:
    value, low, high = (100 * (one - 1) for one in ratio)
    return f"{value:+.2f} % ({low:+.2f} … {high:+.2f})" + (", no different from 0" if ratio.holds(1) else "")


def machine() -> str:
    cpus = len(os.sched_getaffinity(0))
    return f"{cpus} CPUs, Linux {platform.release()}, Python {platform.python_version()}"


def main() -> None:
    parser = argparse.ArgumentParser(description="What watching costs, of this package and of its peers.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"among {', '.join(WATCHERS)}; default all")
    parser.add_argument("--interval", type=float, default=0.2, help="between samples, for the cost (0.2 s)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of sampling, in each round (10 s)")
    parser.add_argument("--rounds", type=int, default=5, help="of all processes, for the cost; 0: none (5)")
    parser.add_argument("--slow-interval", type=float, default=0.1, help="the same for the slowdown (0.1 s)")
    parser.add_argument("--segment", type=float, default=1.0, help="of training, with and without (1 s)")
    parser.add_argument("--pairs", type=int, default=20, help="of such segments, for each loop; 0: none (20)")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall", help="for the slowdown (wall)")
    options = parser.parse_args()
    names = options.names or list(WATCHERS)
    if unknown := set(names) - set(WATCHERS):
        parser.error(f"not known: {min(unknown)}")
    if "JUmPER native_c" in names and (reason := compiled()):
        print(f"JUmPER native_c: {reason}", file=sys.stderr)
    print(f"{machine()}; load {os.getloadavg()[0]:.1f} at the start\n")
    if options.rounds:
        samplers = [name for name in names if name != "nothing"]
        print(f"One sample every {options.interval:g} s, {options.rounds} rounds of {options.seconds:g} s:\n")
        print(costs(samplers, options.interval, options.seconds, options.rounds), flush=True)
    if options.pairs:
        print(f"\nSlowdown of training, one sample every {options.slow_interval:g} s, ", end="")
        print(f"{options.pairs} pairs of {options.segment:g} s, {options.clock} clock:\n")
        print(slowdowns(names, options.slow_interval, options.segment, options.pairs, options.clock))
    print(f"\nload {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()
