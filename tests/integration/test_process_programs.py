"""What is measured of this process, of its children and of another program."""

from __future__ import annotations

import math
import os
import queue
import subprocess
import threading
import time
from pathlib import Path

import pytest
from fakes.programs import let_work, program, work_of

from perfmon_widgets.collectors import allowance
from perfmon_widgets.collectors.affinity import allowed_cpus
from perfmon_widgets.collectors.linux import newcomers, processes
from perfmon_widgets.collectors.linux.process import ProcessCollector

pytestmark = pytest.mark.alone  # they need a CPU for each program

MIB = 2**20
PAGE = os.sysconf("SC_PAGE_SIZE")
# What the interpreter itself may take and give back between two readings.
SLACK = 30 * MIB


@pytest.fixture(autouse=True)
def look_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Children are looked for at every reading, not every ten seconds."""
    monkeypatch.setattr(newcomers, "_EVERY", 0.0)
    monkeypatch.setattr(allowance, "_SHARE", math.inf)


# Not for ever: a run of the tests that is killed cannot end it.
BUSY = (
    "import time\nend = time.monotonic() + 60\nprint('ready', flush=True)\nwhile time.monotonic() < end: pass"
)
IDLE = "print('ready', flush=True)\ninput()"


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def test_another_process_is_measured_and_this_one_is_not():
    block = b"x" * (100 * MIB)
    with program(BUSY) as other:
        made = ProcessCollector(root=other.pid)
        made.collect()
        cpu = time.process_time()
        while time.process_time() - cpu < 0.2:
            pass
        values = made.collect()
        assert 0 < values["process_cpu_percent"] <= 130 / len(allowed_cpus())  # both would be twice as much
        assert 0 < values["process_ram_bytes"] < 50 * MIB
        assert values["process_read_bytes_per_second"] >= 0
    del block


def test_of_a_process_that_has_ended_the_last_cpu_time_is_there_and_memory_is_missing():
    with program("print('ready', flush=True)\ninput()") as ending:
        made = ProcessCollector(root=ending.pid)
        assert made.collect()["process_ram_bytes"] > 0
        ending.stdin.close()
        os.waitid(os.P_PID, ending.pid, os.WEXITED | os.WNOWAIT)
        values = made.collect()
        assert math.isnan(values["process_ram_bytes"])
        assert made.errors["process_ram_bytes"] == "the process has ended"
        assert values["process_cpu_percent"] >= 0
        assert values["process_read_bytes_per_second"] >= 0


class Share:
    """What share of the allowed CPUs a CPU time is, since the last call."""

    def __init__(self) -> None:
        self._clock = time.monotonic()

    def of(self, seconds: float) -> float:
        clock, self._clock = self._clock, time.monotonic()
        return 100 * seconds / (self._clock - clock) / len(allowed_cpus())


def test_the_work_of_children_counts():
    made = ProcessCollector()
    with program(BUSY) as busy:
        made.collect()
        share, before = Share(), work_of(busy.pid)
        let_work(busy.pid)
        used = work_of(busy.pid) - before
        # The OS kernel counts the child's time in hundredths of a second; this process takes some itself.
        assert made.collect()["process_cpu_percent"] == pytest.approx(share.of(used), rel=0.4)


def test_the_work_of_grandchildren_counts():
    made = ProcessCollector()
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-S', '-c', {BUSY!r}])"
    with program(code) as child:
        made.collect()
        share = Share()
        (grandchild,) = processes.children(child.pid)
        let_work(grandchild)
        assert made.collect()["process_cpu_percent"] > share.of(0.15)


def test_children_that_threads_have_started_count():
    made = ProcessCollector()
    started, done = queue.SimpleQueue(), threading.Event()

    def start() -> None:
        with program(BUSY) as busy:
            started.put(busy.pid)
            done.wait(60)

    thread = threading.Thread(target=start)
    thread.start()
    try:
        busy = started.get(timeout=60)
        made.collect()
        share = Share()
        let_work(busy)
        assert made.collect()["process_cpu_percent"] > share.of(0.15)
    finally:
        done.set()
        thread.join()


def test_a_child_that_ends_does_no_harm():
    made = ProcessCollector()
    with program(BUSY):
        made.collect()
        made.collect()
    values = made.collect()
    assert values["process_cpu_percent"] >= 0
    assert values["process_ram_bytes"] == pytest.approx(resident(), abs=SLACK)


def test_the_name_of_a_child_may_be_anything(tmp_path):
    strange = tmp_path / "a ) b (c 1 2 3"
    strange.symlink_to("/bin/sleep")
    made = ProcessCollector()
    with subprocess.Popen([strange, "60"]) as running:
        made.collect()
        assert 0 <= made.collect()["process_cpu_percent"] < 1000
        running.kill()


def test_the_memory_of_children_counts():
    made = ProcessCollector()
    before = made.collect()["process_ram_bytes"]
    with program(f"block = bytearray(b'x') * {100 * MIB}\n{IDLE}"):
        after = made.collect()["process_ram_bytes"]
    assert after - before == pytest.approx(100 * MIB, abs=SLACK)


def test_memory_follows_this_process_between_two_looks_at_its_children(monkeypatch):
    made = ProcessCollector()
    with program(IDLE):
        before = made.collect()["process_ram_bytes"]
        made.collect()
        block = bytearray(b"x") * (100 * MIB)
        assert made.collect()["process_ram_bytes"] - before == pytest.approx(100 * MIB, abs=SLACK)
        del block
