"""The heap of the C library in a real process: what it gave back is not filled past a limit on the data."""

from __future__ import annotations

import subprocess
import sys

import pytest

FILL = """
import gc, resource, threading, time
from perfmon_widgets.core.data_limit import DataLimit
from perfmon_widgets.core.heap import Heap

# Threads have heaps of their own, and leave them behind.
threads = [threading.Thread(target=time.sleep, args=(0.2,)) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
limit = DataLimit()
heap = Heap(limit)

def fill(most):
    lines = []
    try:
        while len(lines) < most: lines.append(bytes(1000))
    except MemoryError:
        del lines[-100:]  # for what follows
    return lines

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() / 1e6
"""

REFUSED = """
limit.set(limit.data() + 1e6)
refused = fill(10**7)
limit.lift()
del refused
"""

MEASURE = """
lines = fill(200_000)
full = resident()
lines = lines[::1000]
gc.collect()
heap.give_back()
heap.plug()
empty = resident()
limit.set(limit.data())
more = fill(10**7)
limit.lift()
print(full - empty, resident() - empty)
"""


@pytest.mark.parametrize(
    "code",
    [MEASURE, REFUSED + MEASURE, "lines = fill(200_000)" + REFUSED + MEASURE.partition("200_000)")[2]],
    ids=["the first heap", "the heap after a refusal", "the heap before a refusal"],
)
def test_what_is_given_back_is_not_filled_past_the_limit(code):
    """After a refusal the C library gives the thread another heap; it falls back to the first one."""
    ended = subprocess.run(
        [sys.executable, "-c", FILL + code], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stderr
    given_back, filled = map(float, ended.stdout.split())
    assert given_back > 150
    assert filled < 20
