"""A process tree of real programs that run, allocate and end."""

from __future__ import annotations

import math
import mmap
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from fakes.programs import let_work, program, stranger
from fakes.trees import MIB, PAGE, SLACK, forked

from perfmon_widgets.collectors import allowance
from perfmon_widgets.collectors.linux import newcomers, processes
from perfmon_widgets.collectors.linux.process import ProcessCollector
from perfmon_widgets.collectors.linux.tree import Tree

pytestmark = pytest.mark.alone  # they need a CPU for each program


@pytest.fixture
def whatever_it_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Children are read each time."""
    monkeypatch.setattr(allowance, "_SHARE", math.inf)


@pytest.fixture
def look_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """All processes are listed at every reading, whatever that costs."""
    monkeypatch.setattr(newcomers, "_EVERY", 0.0)
    monkeypatch.setattr(allowance, "_SHARE", math.inf)


class Stopwatch:
    """The seconds that have passed between two readings."""

    def __init__(self) -> None:
        self._at = time.monotonic()

    def lap(self) -> float:
        now = time.monotonic()
        passed, self._at = now - self._at, now
        return passed


# -- memory ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("whatever_it_costs")
def test_what_a_child_allocates_counts_at_once():
    watched = Tree(os.getpid())
    code = f"print('ready', flush=True)\ninput()\nblock = b'x' * {200 * MIB}\nprint(flush=True)\ninput()"
    with program(code) as child:
        _, before = watched.read()
        child.stdin.write(b"\n")
        child.stdin.flush()
        child.stdout.readline()
        _, after = watched.read()
    assert after - before == pytest.approx(200 * MIB, abs=SLACK)


@pytest.mark.usefixtures("whatever_it_costs")
def test_a_program_outside_that_maps_the_same_file_hides_nothing_of_what_a_child_holds(tmp_path):
    """It halves the proportional size of the root."""
    file = tmp_path / "weights"
    file.write_bytes(b"x" * (300 * MIB))
    touch = f"sum(mapped[::{PAGE}])\nprint('ready', flush=True)\ntime.sleep(60)"
    outside = (
        f"import mmap, time\nfile = open({str(file)!r}, 'rb')\n"
        f"mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)\n{touch}"
    )
    inside = f"block = b'x' * {200 * MIB}\nprint('ready', flush=True)\ninput()"
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        sum(mapped[::PAGE])
        watched = Tree(os.getpid())
        _, before = watched.read()
        with stranger(outside), program(inside):
            _, after = watched.read()
    assert after - before == pytest.approx(200 * MIB, abs=SLACK)


@pytest.mark.usefixtures("whatever_it_costs")
def test_a_child_that_has_the_address_space_of_its_parent_holds_nothing_of_its_own(tmp_path):
    """From vfork() until it executes its program, here for as long as the test likes.

    Every launcher starts its workers in this way. On a busy machine a row may fall into that moment.
    """
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    opens = f"[(os.POSIX_SPAWN_OPEN, 0, {str(fifo)!r}, os.O_RDONLY, 0)]"
    code = (
        f"import os\nkept = b'x' * {200 * MIB}\nprint('ready', flush=True)\ninput()\n"
        f"child = os.posix_spawn('/bin/sleep', ['sleep', '60'], {{}}, file_actions={opens})\n"
        "print(child, flush=True)\ninput()\nos.kill(child, 9)\nos.waitpid(child, 0)"
    )
    with program(code) as parent:
        watched = Tree(parent.pid)
        before = [watched.read()[1] for _ in range(2)][1]
        parent.stdin.write(b"\n")
        parent.stdin.flush()
        deadline = time.monotonic() + 30
        while not watched.members:
            assert time.monotonic() < deadline
            watched.read()
        within = [watched.read()[1] for _ in range(3)]
        os.close(os.open(fifo, os.O_WRONLY))
        child = int(parent.stdout.readline())
        _, after = watched.read()
        assert list(watched.members) == [child]
        parent.communicate(b"\n")
    assert within == pytest.approx([before] * 3, abs=SLACK)
    assert after == pytest.approx(before, abs=SLACK)


# -- CPU time ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("whatever_it_costs")
def test_a_child_that_ends_between_two_readings_counts_with_all_its_time():
    watched, stopwatch = Tree(os.getpid()), Stopwatch()
    watched.read()
    before = sum(os.times()[:4])
    subprocess.run([sys.executable, "-S", "-c", "sum(range(20_000_000))"], check=True)
    busy, _ = watched.read()
    used = sum(os.times()[:4]) - before
    assert used > 0.1
    assert busy == pytest.approx(used / stopwatch.lap(), rel=0.1, abs=0.05)


@pytest.mark.usefixtures("whatever_it_costs")
def test_the_time_of_a_child_counts_once_however_it_is_read():
    """While it lives it is the child's; when it has ended, the parent's who waited for it."""
    watched, stopwatch = Tree(os.getpid()), Stopwatch()
    watched.read()
    total = 0.0
    before = sum(os.times()[:4])
    with subprocess.Popen([sys.executable, "-S", "-c", "sum(range(60_000_000))"]) as child:
        while child.poll() is None:
            time.sleep(0.1)
            busy, _ = watched.read()
            total += busy * stopwatch.lap()
    busy, _ = watched.read()
    total += busy * stopwatch.lap()
    used = sum(os.times()[:4]) - before
    assert used > 0.3
    assert total == pytest.approx(used, rel=0.15)


@pytest.mark.usefixtures("whatever_it_costs")
def test_a_new_child_is_noticed_with_the_next_reading():
    """And not after the ten seconds in which children of other threads are."""
    watched = Tree(os.getpid())
    watched.read()
    with forked(), program("print('ready', flush=True)\nwhile True: pass") as busy:
        stopwatch = Stopwatch()
        watched.read()
        stopwatch.lap()
        let_work(busy.pid)
        assert watched.read()[0] * stopwatch.lap() > 0.15


@pytest.mark.usefixtures("whatever_it_costs")
def test_whoever_starts_a_descendant_it_is_noticed_with_the_next_reading():
    """A launcher starts its worker, and a thread another program, after the tree was read."""
    launcher = (
        "import subprocess, sys\nprint('ready', flush=True)\ninput()\n"
        f"code = \"kept = b'x' * {150 * MIB}\\nprint('ready', flush=True)\\ninput()\"\n"
        "subprocess.run([sys.executable, '-S', '-c', code])"
    )
    watched = Tree(os.getpid())
    watched.read()
    others = len(watched.members)  # an earlier test may have left one, as multiprocessing does
    with program(launcher) as child:
        watched.read()
        watched.read()
        child.stdin.write(b"\n")
        child.stdin.flush()
        assert child.stdout.readline() == b"ready\n"
        _, before = watched.read()
        assert len(watched.members) == others + 2

        with ThreadPoolExecutor(1) as threads, ExitStack() as stack:
            own = f"kept = b'x' * {150 * MIB}\nprint('ready', flush=True)\ninput()"
            threads.submit(stack.enter_context, program(own)).result()
            _, after = watched.read()
            assert len(watched.members) == others + 3
    assert after - before == pytest.approx(150 * MIB, abs=SLACK)


@pytest.mark.usefixtures("look_each_time")
def test_a_child_is_still_counted_when_its_parent_has_ended():
    """What ``Popen(shell=True)`` leaves behind when the shell is killed."""
    code = (
        "import subprocess, sys, os\n"
        "busy = subprocess.Popen([sys.executable, '-S', '-c', 'while True: pass'])\n"
        "print('ready', flush=True)\nprint(busy.pid, flush=True)\ninput()"
    )
    watched = Tree(os.getpid())
    with program(code) as parent:
        orphan = int(parent.stdout.readline())
        watched.read()
    try:
        stopwatch = Stopwatch()
        watched.read()
        stopwatch.lap()
        let_work(orphan)
        assert watched.read()[0] * stopwatch.lap() > 0.15
    finally:
        os.kill(orphan, 9)


@pytest.mark.usefixtures("look_each_time")
def test_a_double_fork_that_was_never_seen_is_not_counted():
    """Nothing but its parent's number says whose it was; the docstring says so."""
    code = (
        "import subprocess, sys, os\n"
        "busy = subprocess.Popen([sys.executable, '-S', '-c', 'while True: pass'], start_new_session=True)\n"
        "print('ready', flush=True)\nprint(busy.pid, flush=True)\ninput()"
    )
    watched = Tree(os.getpid())
    watched.read()
    with program(code) as parent:
        orphan = int(parent.stdout.readline())
    try:
        stopwatch = Stopwatch()
        watched.read()
        stopwatch.lap()
        let_work(orphan, 0.5)
        assert watched.read()[0] * stopwatch.lap() < 0.3
    finally:
        os.kill(orphan, 9)


@pytest.mark.usefixtures("look_each_time")
def test_many_short_children_are_no_more_than_the_machine():
    made = ProcessCollector()
    made.collect()
    for _ in range(10):
        for _ in range(10):
            with forked():
                pass
        percent = made.collect()["process_cpu_percent"]
        assert math.isnan(percent) or 0 <= percent <= 100


@pytest.mark.usefixtures("whatever_it_costs")
def test_the_tree_of_another_process_is_measured_like_ones_own():
    code = (
        "import subprocess, sys\nprint('ready', flush=True)\n"
        f"busy = \"x = b'x' * {100 * MIB}\\nwhile True: pass\"\n"
        "child = subprocess.Popen([sys.executable, '-S', '-c', busy])\ninput()"
    )
    with program(code) as parent:
        time.sleep(0.5)
        watched, stopwatch = Tree(parent.pid), Stopwatch()
        watched.read()
        stopwatch.lap()
        children = [int(number) for number in processes.children(parent.pid)]
        let_work(children[0])
        busy, memory = watched.read()
        worked = busy * stopwatch.lap()
        for number in children:
            os.kill(number, 9)
    assert 0.15 < worked < 1
    assert memory > 100 * MIB


def test_a_tree_whose_root_has_ended_is_an_os_error():
    with program("print('ready', flush=True)\ninput()") as parent:
        watched = Tree(parent.pid)
    with pytest.raises(OSError, match=r".+"):
        watched.read()


# -- canned files ------------------------------------------------------------------------------------------
