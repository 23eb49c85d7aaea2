"""The CPU time of random trees of real processes, against what the OS kernel counts for them in the end."""

from __future__ import annotations

import json

import pytest

# In a program of its own: what a test process has done before (threads, children, coverage) is not in it.
PROGRAM = '''
import json, math, os, random, signal, sys, time, warnings

from perfmon_widgets.collectors import allowance
from perfmon_widgets.collectors.linux.process import ProcessCollector

def burn(seconds: float) -> None:
    """Use this much CPU time."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def fork(choose: random.Random, depth: int) -> int:
    """Start a tree of processes and return the first."""
    seed = choose.random()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from Python 3.12, where threads are running
        number = os.fork()
    if number == 0:
        try:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            grow(random.Random(seed), depth)
        finally:
            os._exit(0)
    return number


def grow(choose: random.Random, depth: int) -> None:
    """Work, fork some and wait for them; all within a few tenths of a second."""
    started = []
    for _ in range(choose.randint(0, 3) if depth else 0):
        started.append(fork(choose, depth - 1))
        burn(choose.random() * 0.05)
    burn(choose.random() * 0.1)
    time.sleep(choose.random() * 0.1)
    for number in started:
        os.waitpid(number, 0)
        burn(choose.random() * 0.02)


seed, share = int(sys.argv[1]), float(sys.argv[2])
allowance._SHARE = share
choose = random.Random(seed)
made = ProcessCollector()
made.collect()
counted, before = 0.0, sum(os.times()[:4])
roots = [fork(choose, 3) for _ in range(3)]
idle = 0
while idle < 20:  # the last rows hold what was carried over
    time.sleep(choose.random() * 0.05)
    for number in [number for number in roots if os.waitpid(number, os.WNOHANG)[0]]:
        roots.remove(number)
    idle += not roots
    share_of_row = made.collect()["process_cpu_percent"]
    counted += share_of_row / 100 * made._capacity * made._tree.passed
print(json.dumps([counted, sum(os.times()[:4]) - before]))
'''


@pytest.mark.parametrize("share", ["0.001", "inf"], ids=["as rarely as usual", "each time"])
@pytest.mark.parametrize("seed", range(3))
def test_the_rows_add_up_to_the_cpu_time_of_a_random_tree(run_python, seed, share):
    """However its processes start, end and wait for each other while they are read."""
    ended = run_python(PROGRAM, seed, share)
    assert ended.returncode == 0, ended.stderr
    counted, used = json.loads(ended.stdout)
    assert used > 0.3
    # The OS kernel gives the times of each of some forty processes in hundredths of a second, rounded down.
    assert counted == pytest.approx(used, rel=0.02, abs=0.1)
