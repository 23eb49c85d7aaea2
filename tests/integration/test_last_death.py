"""What a real Jupyter kernel died of, read back by its next process: real kills, real restarts."""

from __future__ import annotations

import os
import signal
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.real_group import RealGroup, real_group
from real_kernel import BUSY, Kernel

from perfmon_widgets.core.black_box import SIZE

LIMIT = 512 * 2**20

START = """
import perfmon_widgets
monitor = perfmon_widgets.PerformanceMonitor(interval=0.2)
monitor.start()
while monitor.latest is None: pass
"""
REPORT = """
import perfmon_widgets
death = perfmon_widgets.last_death()
None if death is None else (str(death), death.verdict, death.cell, death.time)
"""


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    kernel = Kernel(tmp_path)
    try:
        yield kernel
    finally:
        kernel.shut_down()
        assert not box_of(kernel).exists()


@pytest.fixture
def group() -> Iterator[RealGroup]:
    with real_group() as group:
        group.limit_memory(LIMIT)
        yield group


def box_of(kernel: Kernel) -> Path:
    return kernel.connection_file.with_suffix(".perfmon")


def wait_for_a_sample_after(kernel: Kernel) -> None:
    """Wait until the box has been written once more."""
    box = box_of(kernel)
    before, deadline = box.read_bytes(), time.monotonic() + 20
    while box.read_bytes() == before:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_box_is_small_and_private_and_beside_the_connection_file(kernel):
    kernel.execute(START)
    box = box_of(kernel)
    assert stat.S_IMODE(box.stat().st_mode) == 0o600
    kernel.execute("for _ in range(3000): monitor.sample()")
    assert box.stat().st_size <= SIZE == 256 * 1024
    kernel.execute("monitor.stop()")
    assert not box.exists()


def test_a_full_disk_shows_nothing_in_a_cell_and_costs_no_end_of_one(kernel):
    kernel.execute(START)
    kernel.execute("""
import errno, os
write = os.pwrite
def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")
os.pwrite = full
""")
    kernel.execute("monitor.sample()")  # the error is logged once
    request = kernel.start("a = 2 + 2")
    published = list(kernel.messages(request))
    own = [message for message in published if message["parent_header"].get("msg_id") == request]
    assert {message["msg_type"] for message in own} == {"status", "execute_input"}
    assert kernel.finish(request)["status"] == "ok"
    assert "No space left" in kernel.run("monitor.errors")["on_sample BlackBox.write"]
    assert kernel.run("monitor.cells['end'].isna().sum().item()") == 1  # the cell that asks
    kernel.execute("os.pwrite = write")
    kernel.execute("monitor.sample()")
    assert "on_sample BlackBox.write" not in kernel.run("monitor.errors")


def test_memory_that_runs_out_is_certain_and_names_the_cell(kernel, group):
    (group.memory / "cgroup.procs").write_text(str(kernel.process))
    kernel.execute(START)
    kernel.start(
        "# take all the memory there is\n\nframes = []\n"
        "while True: frames.append(bytearray(b'x') * 4_000_000), __import__('time').sleep(0.01)"
    )
    assert kernel.wait_until_dead() == -signal.SIGKILL
    kernel.restart(now=True)
    text, verdict, cell, _ = kernel.run(REPORT.replace("death.cell,", "tuple(death.cell),"))
    assert verdict == "certain"
    number, source, _ = cell
    assert source == "frames = []"
    assert f"in cell [{number}] `frames = []`: RAM " in text
    assert "of 512 MiB, +" in text
    assert "the OS kernel's count of OOM kills rose: killed for want of memory" in text
    peak, limit = kernel.run("death.history[['ram_used_bytes', 'ram_limit_bytes']].max().tolist()")
    assert limit == LIMIT
    assert peak > 0.6 * LIMIT
    assert kernel.run("death.history.index.tz is not None and death.history.index.is_monotonic_increasing")
    assert not box_of(kernel).exists()  # it was read, and no monitor runs yet


def test_a_signal_is_no_want_of_memory_and_the_magic_shows_it(kernel):
    kernel.execute(START)
    kernel.start_busy()
    wait_for_a_sample_after(kernel)
    os.kill(kernel.process, signal.SIGKILL)
    kernel.wait_until_dead()
    died = time.time()
    kernel.restart(now=True)
    text, verdict, (_, source, start), at = kernel.run(REPORT.replace("death.cell,", "tuple(death.cell),"))
    assert verdict == "unlikely"
    assert source == BUSY.strip().partition("\n")[0]
    assert start <= at <= died
    assert "a signal or a crash in compiled code ended it" in text
    kernel.execute("%load_ext perfmon_widgets")
    request = kernel.start("%perfmon why -o reasons")
    shown = [
        message["content"]["data"]
        for message in kernel.messages(request)
        if message["msg_type"] == "display_data"
    ]
    assert kernel.finish(request)["status"] == "ok"
    assert text in shown[0]["text/plain"]
    assert "<b>The previous kernel died at" in shown[0]["text/html"]
    assert kernel.run("str(reasons[0])") == text


def test_the_report_is_there_when_a_monitor_starts_and_stays_the_same(kernel):
    kernel.execute(START)
    wait_for_a_sample_after(kernel)
    os.kill(kernel.process, signal.SIGKILL)
    kernel.wait_until_dead()
    kernel.restart(now=True)
    kernel.execute(START)  # replaces the box
    first = kernel.run(REPORT)
    assert first is not None
    assert kernel.run(REPORT) == first
    line = "perfmon_widgets.PerformancePanel(monitor).children[1].value"
    assert kernel.run(f"str(death).replace('`', '') in {line}.replace('`', '')")


def test_a_death_without_a_running_cell_names_none(kernel):
    kernel.execute(START)
    wait_for_a_sample_after(kernel)
    os.kill(kernel.process, signal.SIGKILL)
    kernel.wait_until_dead()
    kernel.restart(now=True)
    text, _, cell, _ = kernel.run(REPORT)
    assert cell is None
    assert " in cell " not in text


def test_a_clean_restart_leaves_no_report(kernel):
    kernel.execute(START)
    kernel.restart(now=False)
    assert kernel.run(REPORT) is None


def test_a_restart_while_a_cell_is_busy_leaves_no_report(kernel):
    """The server asks the kernel to end, waits, and kills it: a person has asked for that."""
    kernel.execute(START)
    kernel.start_busy()
    kernel.restart(now=False)
    assert kernel.run(REPORT) is None


def test_a_forked_child_neither_writes_nor_removes_the_box(kernel):
    kernel.execute(START)
    kernel.execute(
        "import os, warnings\nwarnings.simplefilter('ignore')\nmonitor.stop()\nmonitor.start()\n"
        "child = os.fork()\n"
        "if child == 0:\n    monitor.sample(); perfmon_widgets.last_death(); monitor.start(); os._exit(0)\n"
        "os.waitpid(child, 0)"
    )
    wait_for_a_sample_after(kernel)
    os.kill(kernel.process, signal.SIGKILL)
    kernel.wait_until_dead()
    kernel.restart(now=True)
    assert kernel.run(REPORT)[1] == "unlikely"


def test_the_next_monitor_goes_on_when_the_first_one_stops(kernel):
    kernel.execute(START)
    kernel.execute(
        "second = perfmon_widgets.PerformanceMonitor(interval=0.2)\nsecond.start()\nmonitor.stop()"
    )
    wait_for_a_sample_after(kernel)
    kernel.execute("second.stop()")
    assert not box_of(kernel).exists()


def test_boxes_without_a_connection_file_are_removed(kernel):
    """Those of kernels that no server will start again; not what only has the same name."""
    kernel.execute(START)
    orphan = box_of(kernel).with_name("kernel-perfmon-test-orphan.perfmon")
    other = box_of(kernel).with_name("kernel-perfmon-test-other.perfmon")
    orphan.write_bytes(box_of(kernel).read_bytes())
    other.write_bytes(b"of another program")
    try:
        kernel.restart(now=False)
        kernel.execute(START)
        assert not orphan.exists()
        assert other.exists()
    finally:
        other.unlink()
