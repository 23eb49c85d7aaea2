"""A process tree timed and weighed together: real children that allocate, fork, share and end."""

from __future__ import annotations

import math
import mmap
import os
import signal
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from fakes.trees import MIB, PAGE, SLACK, TICKS, forked, resident

from perfmon_widgets.collectors import allowance
from perfmon_widgets.collectors.linux import processes, tree
from perfmon_widgets.collectors.linux.process import ProcessCollector
from perfmon_widgets.collectors.linux.tree import Tree


@pytest.fixture
def whatever_it_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Children are read each time, and looked for and weighed when there is a reason to."""
    monkeypatch.setattr(allowance, "_SHARE", math.inf)


@pytest.fixture
def look_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Children are looked for and weighed at every reading, whatever that costs."""
    monkeypatch.setattr(tree, "_EVERY", 0.0)
    monkeypatch.setattr(allowance, "_SHARE", math.inf)


def burn(seconds: float) -> float:
    """Use so much CPU time; returns what was really used."""
    before = time.process_time()
    while time.process_time() - before < seconds:
        pass
    return time.process_time() - before


# -- memory ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("look_each_time")
def test_workers_that_share_the_memory_of_their_parent_count_it_once():
    block = b"x" * (100 * MIB)
    watched = Tree(os.getpid())
    _, before = watched.read()
    with ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(forked())
        _, after = watched.read()
        assert after - before == pytest.approx(0, abs=3 * SLACK)  # and not 800 MiB
    del block


@pytest.mark.usefixtures("look_each_time")
def test_memory_that_only_children_share_with_each_other_counts_once():
    def work() -> None:
        block = b"x" * (200 * MIB)
        for _ in range(3):
            if os.fork() == 0:
                time.sleep(60)
                os._exit(0)
        globals()["kept"] = block

    watched = Tree(os.getpid())
    _, before = watched.read()
    with forked(lambda: (os.setpgrp(), work())) as child:
        time.sleep(0.2)
        _, after = watched.read()
        os.killpg(child, 9)
    assert after - before == pytest.approx(200 * MIB, abs=2 * SLACK)  # and not 800 MiB


@pytest.mark.usefixtures("whatever_it_costs")
def test_the_memory_of_a_child_that_has_ended_is_gone_at_once_and_the_rest_stays(monkeypatch):
    """Also what the two shared: it is still there, though nothing has been weighed again."""
    block = b"x" * (200 * MIB)
    watched = Tree(os.getpid())
    watched.read()
    with forked():
        _, both = watched.read()
        monkeypatch.setattr(tree, "_EVERY", 3600.0)
    _, alone = watched.read()
    assert both == pytest.approx(alone, abs=SLACK)
    assert alone == pytest.approx(resident(os.getpid()), abs=SLACK)
    del block


@pytest.mark.usefixtures("whatever_it_costs")
@pytest.mark.parametrize("how", [signal.SIGUSR1, signal.SIGKILL], ids=["lets go", "ends"])
def test_what_a_child_no_longer_holds_of_its_parents_memory_is_not_taken_from_the_parent(how):
    """Until it is weighed again, and where it has ended, until it has been waited for."""
    inherited = mmap.mmap(-1, 200 * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    inherited.write(b"x" * len(inherited))
    watched = Tree(os.getpid())
    with forked(lambda: signal.signal(signal.SIGUSR1, lambda *_: inherited.close())) as child:
        _, before = watched.read()
        held = resident(child)
        os.kill(child, how)
        deadline = time.monotonic() + 10
        while resident(child) > held - len(inherited) / 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        _, after = watched.read()
    assert after == pytest.approx(before, abs=SLACK)


@pytest.mark.usefixtures("whatever_it_costs")
def test_a_fork_that_was_not_yet_weighed_does_not_double_the_memory(monkeypatch):
    block = b"x" * (200 * MIB)
    watched = Tree(os.getpid())
    _, before = watched.read()
    monkeypatch.setattr(watched, "_weigh", lambda: None)
    with forked():
        _, after = watched.read()
    assert after == pytest.approx(before, abs=SLACK)
    del block


def test_a_tree_too_large_to_weigh_is_not_weighed(monkeypatch):
    monkeypatch.setattr(tree, "_WEIGHABLE", 1)
    monkeypatch.setattr(tree, "_weight", lambda *arguments: pytest.fail("this would take seconds"))
    with forked():
        assert Tree(os.getpid()).read()[1] > 0


# -- CPU time ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("whatever_it_costs")
def test_what_a_child_used_before_it_was_seen_is_not_this_interval():
    """The monitor starts late, beside a child that has worked for long."""
    with forked(lambda: burn(0.4)):
        watched = Tree(os.getpid())
        watched._look()
        watched.read()
        time.sleep(0.2)
        assert watched.read()[0] < 0.5


@pytest.mark.usefixtures("look_each_time")
def test_a_child_found_late_does_not_bring_its_past(monkeypatch):
    watched = Tree(os.getpid())
    watched.read()
    with forked(lambda: burn(0.4)):
        with monkeypatch.context() as patch:
            patch.setattr(watched, "_look", lambda: None)
            watched.read()
        time.sleep(0.2)
        assert watched.read()[0] < 0.5


# -- canned files ------------------------------------------------------------------------------------------


class FakeTree:
    """A /proc with this process and canned children."""

    def __init__(self, proc: Path) -> None:
        self.proc = proc
        self.write(os.getpid(), pages=1000)
        (proc / "self").symlink_to(str(os.getpid()))

    def write(
        self,
        number: int,
        *,
        pages: int,
        children: str = "",
        seconds: float = 0,
        waited_for: float = 0,
        began: int = 0,
    ) -> Path:
        folder = self.proc / str(number)
        (folder / "task" / str(number)).mkdir(parents=True, exist_ok=True)
        (folder / "task" / str(number) / "children").write_text(children)
        (folder / "statm").write_text(f"9999 {pages} 1 1 0 1 0\n")
        times = f"{seconds * TICKS:.0f} 0 {waited_for * TICKS:.0f} 0"
        (folder / "stat").write_text(
            f"{number} (a ) (b) S 1 1 1 0 -1 0 0 0 0 0 {times} 20 0 1 0 {began} 99999 {pages} 1 1\n"
        )
        return folder

    def weigh(self, number: int, *, proportional: int, private: int) -> None:
        (self.proc / str(number) / "smaps_rollup").write_text(
            "00400000-7fff [rollup]\n"
            f"Rss:  1 kB\nPss:      {proportional} kB\nPss_Dirty: 7 kB\nShared_Clean: 1 kB\n"
            f"Private_Clean:  {private - 4} kB\nPrivate_Dirty:  4 kB\nSwap: 0 kB\n"
        )


@pytest.mark.usefixtures("whatever_it_costs")
def test_what_children_hold_beyond_the_root_is_what_the_proportional_sizes_add_up_to(tmp_path):
    fake = FakeTree(tmp_path)
    fake.write(os.getpid(), pages=1000, children="70 71 ")
    fake.write(70, pages=900)
    fake.write(71, pages=800)
    for number, proportional, private in ((os.getpid(), 2000, 500), (70, 1500, 400), (71, 1700, 800)):
        fake.weigh(number, proportional=proportional, private=private)
    watched = Tree(os.getpid(), tmp_path)
    assert watched.read()[1] == (2000 + 1500 + 1700) * 1024
    # Between two weighings the sizes grow by what becomes resident.
    fake.write(70, pages=950)
    assert watched.read()[1] == (2000 + 1500 + 1700) * 1024 + 50 * PAGE


def test_a_child_that_may_not_be_weighed_counts_with_what_is_resident(tmp_path):
    """hidepid, or a child of another user (sudo): its files are there and cannot be read."""
    fake = FakeTree(tmp_path)
    fake.write(os.getpid(), pages=1000, children="70 71 ")
    fake.write(70, pages=900)
    (tmp_path / "70" / "smaps_rollup").mkdir()  # reading fails, also for root
    assert Tree(os.getpid(), tmp_path).read()[1] == 1900 * PAGE  # 71 is hidden altogether


@pytest.mark.usefixtures("whatever_it_costs")
def test_a_process_that_has_the_number_of_one_that_ended_is_another(tmp_path):
    fake = FakeTree(tmp_path)
    fake.write(os.getpid(), pages=1000, children="70 ")
    fake.write(70, pages=900, seconds=5, began=100)
    watched = Tree(os.getpid(), tmp_path)
    assert watched.read()[1] == 1900 * PAGE
    fake.write(os.getpid(), pages=1000)
    fake.write(70, pages=5000, seconds=500, began=200)
    assert watched.read()[1] == 1000 * PAGE


@pytest.mark.usefixtures("look_each_time")
def test_time_that_is_lost_with_an_orphan_leaves_one_row_without_a_number_and_says_why(tmp_path):
    """It was waited for by the process that adopted it, which is not of this tree."""
    fake = FakeTree(tmp_path)
    fake.write(os.getpid(), pages=1000, children="70 ")
    folder = fake.write(70, pages=900, seconds=500)
    made = ProcessCollector(tmp_path)
    made.collect()
    assert made.collect()["process_cpu_percent"] >= 0
    (folder / "stat").unlink()
    assert math.isnan(made.collect()["process_cpu_percent"])
    assert "has ended" in made.errors["process_cpu_percent"]
    assert made.collect()["process_cpu_percent"] >= 0
    assert "process_cpu_percent" not in made.errors


@pytest.mark.usefixtures("look_each_time")
@pytest.mark.parametrize("waited_for", [number / 10 for number in range(10)])
def test_a_child_that_uses_no_time_leaves_every_row_its_number_however_its_time_is_rounded(
    tmp_path, waited_for
):
    """0.1 + 0.7 - 0.7 is less than 0.1, in floats; what is found late and what ends are such sums."""
    fake = FakeTree(tmp_path)
    fake.write(70, pages=1000, waited_for=waited_for)
    watched = Tree(70, tmp_path)
    watched.read()
    fake.write(70, pages=1000, children="71 72 ", waited_for=waited_for)
    fake.write(71, pages=900, seconds=0.7)
    fake.write(72, pages=900, seconds=0.2)
    assert watched.read()[0] == 0
    fake.write(70, pages=1000, children="72 ", waited_for=waited_for + 0.7)
    (tmp_path / "71" / "stat").unlink()
    assert watched.read()[0] == 0


def test_an_os_kernel_that_does_not_list_children_is_said_in_the_source(tmp_path):
    own = tmp_path / "self"
    own.mkdir()
    (own / "statm").write_text("9999 1000 1 1 0 1 0\n")
    made = ProcessCollector(tmp_path)
    assert made.collect()["process_ram_bytes"] == 1000 * PAGE
    sources = {metric.name: metric.source for metric in made.metrics}
    assert "does not list children" in sources["process_ram_bytes"]
    assert "does not list children" in sources["process_cpu_percent"]


def test_the_own_number_is_the_one_in_proc(tmp_path):
    """``unshare --pid --fork``, bwrap: /proc is still the outer one, where another process has this id."""
    fake = FakeTree(tmp_path)
    fake.write(os.getpid(), pages=5000, children="60 61 ")
    fake.write(60, pages=3000)
    (tmp_path / "self").unlink()
    (tmp_path / "self").symlink_to("4242")
    fake.write(4242, pages=1000, children="4243 ")
    fake.write(4243, pages=900)
    assert ProcessCollector(tmp_path).collect()["process_ram_bytes"] == 1900 * PAGE
    for number, inside in ((4242, os.getpid()), (4243, 17)):
        (tmp_path / str(number) / "status").write_text(
            f"Name:\tpython\nNSpid:\t{number}\t{inside}\nTrace: 0\n"
        )
    assert processes.number_of(os.getpid(), tmp_path) == 4242
    assert processes.number_of(17, tmp_path) == 4243
    with pytest.raises(ProcessLookupError, match=r"process 60 .* another PID namespace"):
        processes.number_of(60, tmp_path)


def test_in_the_own_proc_a_process_has_its_own_number():
    assert processes.number_of(os.getpid()) == os.getpid()
    assert processes.number_of(1) == 1


# -- cost --------------------------------------------------------------------------------------------------


def test_no_files_stay_open_for_children():
    """Hundreds of children would use up what this process may open."""
    watched = Tree(os.getpid())
    watched.read()
    before = len(os.listdir("/proc/self/fd"))
    with ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(forked())
        inside = len(os.listdir("/proc/self/fd"))
        watched.read()
        assert len(os.listdir("/proc/self/fd")) == inside
    assert len(os.listdir("/proc/self/fd")) == before


def test_children_are_walked_and_weighed_seldom(monkeypatch):
    walked: list[int] = []
    weighed: list[Path] = []
    walk, weigh = tree.children, tree._weight
    monkeypatch.setattr(tree, "children", lambda number, proc: walked.append(number) or walk(number, proc))
    monkeypatch.setattr(tree, "_weight", lambda folder, size: weighed.append(folder) or weigh(folder, size))
    with forked():
        watched = Tree(os.getpid())
        for _ in range(100):
            watched.read()
    assert len(walked) == 2  # this process and its child, once
    assert len(weighed) == 2


def test_reading_many_children_takes_its_share_of_time_and_no_more(monkeypatch):
    """However often a reading is wanted, children are read only as often as their cost allows."""
    reads = []
    read = Tree._read_members
    monkeypatch.setattr(Tree, "_read_members", lambda self: reads.append(1) or read(self))
    with ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(forked())
        watched = Tree(os.getpid())
        watched.read()  # which also finds and weighs them
        reads.clear()
        for _ in range(2000):
            watched.read()
    assert len(reads) < 200
