"""Real Jupyter kernels whose cells fill the memory of a real control group, in ten ways.

``python tests/benchmarks/kills.py`` takes about ten minutes, and needs the right to make control groups:

- Without the guard each kernel is killed. Right is what its next process says of that: that memory was
  missing for certain, the cell, and either a peak above 70 % of the limit in the last samples, or that memory
  filled up after them: within half a second, or while a call kept Python's interpreter lock.
- With the guard no kernel may be killed. Right is a MemoryError in the cell, the next cell within a second,
  and memory that is free again once the variable is deleted.

It prints a table, and ends with status 1 if anything was not right.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from fakes.allocations import GIVE_BACK, LATE, PATTERNS
from fakes.real_group import RealGroup, real_group
from real_kernel import Kernel

CELLS = PATTERNS | {"reserved before": LATE.strip()}
_LEAST = 0.7

START = """
import gc, json, time
import numpy as np, pandas as pd, perfmon_widgets
LIMIT = {limit}
monitor = perfmon_widgets.PerformanceMonitor(interval=0.5)
monitor.start()
while monitor.latest is None: pass
"""


def without_guard(kernel: Kernel, group: RealGroup, limit: int, cell: str) -> str:
    """Let a cell kill the kernel; returns what is wrong with the report, nothing if it is right."""
    begin(kernel, group, limit)
    kernel.start(cell)
    kernel.wait_until_dead()
    kernel.restart(now=True)
    verdict, source, peak, said = kernel.run(
        "import perfmon_widgets\ndeath = perfmon_widgets.last_death()\n"
        "peak = death and float(death.history['ram_used_bytes'].max())\n"
        "death and (death.verdict, death.cell and death.cell.source, peak, str(death))"
    ) or ("no report", "", 0, "")
    wrong = [] if verdict == "certain" else [f"the verdict is {verdict}"]
    if source != cell.partition("\n")[0]:
        wrong.append(f"the cell is {source!r}")
    if peak < _LEAST * limit and "full before the next one" not in said:
        wrong.append(f"the peak is {peak / limit:.0%}")
    return ", ".join(wrong)


def with_guard(kernel: Kernel, group: RealGroup, limit: int, cell: str) -> str:
    """Let a cell fill the memory of a guarded kernel; returns what is wrong, nothing if all is right."""
    begin(kernel, group, limit)
    kernel.execute("monitor.guard.start()")
    reply = kernel.finish(kernel.start(cell))
    wrong = [] if reply.get("ename") == "MemoryError" else [f"the cell ended with {reply.get('ename')}"]
    before = time.monotonic()
    kernel.execute("pass")
    if (took := time.monotonic() - before) > 1:
        wrong.append(f"the next cell took {took:.1f} s")
    kernel.execute(GIVE_BACK)
    left = kernel.run("monitor.sample().values['ram_used_bytes']") / limit
    if left > 0.4:
        wrong.append(f"{left:.0%} stay occupied")
    kernel.restart(now=False)
    return ", ".join(wrong)


def begin(kernel: Kernel, group: RealGroup, limit: int) -> None:
    """Put the kernel into the group and start a monitor in it."""
    (group.memory / "cgroup.procs").write_text(str(kernel.process))
    kernel.execute(START.format(limit=limit))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all and print the table; 1 if anything was not right."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="how often each kind of cell is tried")
    parser.add_argument("--limit", type=int, default=1_000_000_000, help="of the control group, in bytes")
    options = parser.parse_args(arguments)
    failures = 0
    with ExitStack() as stack:
        group = stack.enter_context(real_group("kills"))
        group.limit_memory(options.limit)
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        kernel = Kernel(Path(folder))
        stack.callback(kernel.shut_down)
        tries: dict[str, Callable[[Kernel, RealGroup, int, str], str]] = {
            "guard off": without_guard,
            "guard on": with_guard,
        }
        for name, attempt in tries.items():
            for kind, cell in CELLS.items():
                wrong = [attempt(kernel, group, options.limit, cell) for _ in range(options.rounds)]
                found = [each for each in wrong if each]
                failures += len(found)
                print(
                    f"{name:<10} {kind:<28} {len(wrong) - len(found)} of {len(wrong)} right  {found}",
                    flush=True,
                )
    print("all were right" if not failures else f"{failures} were not right")
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
