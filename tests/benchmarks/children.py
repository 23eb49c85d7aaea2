"""What watching child processes costs: ``python tests/benchmarks/children.py`` prints a table.

Each figure is the median of rounds that take turns. In each, a process of its own has so many children, which
sleep or work, and samples itself and them every 0.2 s: CPU time of the whole process per sample, without that
of its children.
"""

from __future__ import annotations

import statistics
import subprocess
import sys

COUNTS = (0, 8, 64)
_ROUNDS, _SECONDS = 5, 4.0
_SLEEPS = "import time; time.sleep(600)"
_WORKS = "import time\nwhile True: sum(range(9000)); time.sleep(0.05)"
_SAMPLED = """
import subprocess, sys, time
from perfmon_widgets import PerformanceMonitor
count, seconds, code = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
children = [subprocess.Popen([sys.executable, "-S", "-c", code]) for _ in range(count)]
ticks = []
with PerformanceMonitor(interval=0.2) as monitor:
    monitor.on_sample(lambda sample: ticks.append(sample.time))
    time.sleep(2)
    before, first = time.process_time(), len(ticks)
    time.sleep(seconds)
    print((time.process_time() - before) / (len(ticks) - first))
for child in children:
    child.kill()
    child.wait()
"""


def cost(count: int, code: str) -> float:
    """CPU milliseconds of a sample while this many children run this code."""
    command = [sys.executable, "-c", _SAMPLED, str(count), str(_SECONDS), code]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return 1e3 * float(done.stdout)


def main() -> None:
    """Print the table."""
    columns = [("sleep", _SLEEPS), ("work", _WORKS)]
    found: dict[tuple[int, str], list[float]] = {}
    for _ in range(_ROUNDS):
        for count in COUNTS:
            for does, code in columns:
                found.setdefault((count, does), []).append(cost(count, code))
    print("| children | that sleep | that work |\n|---|---|---|")
    none = statistics.median(found[0, "sleep"])
    for count in COUNTS:
        cells = [statistics.median(found[count, does]) for does, _ in columns]
        print(f"| {count} | " + " | ".join(f"{cell:.2f} ms ({cell / none:.2f}×)" for cell in cells) + " |")


if __name__ == "__main__":
    main()
