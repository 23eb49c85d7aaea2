"""Which processes belong to a tree, and their CPU time: real children, and canned files."""

from __future__ import annotations

import itertools
import math
import os
import shutil
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from fakes.trees import PAGE, TICKS, forked

from perfmon_widgets.collectors import allowance
from perfmon_widgets.collectors.linux import member, newcomers, processes, tree
from perfmon_widgets.collectors.linux.process import ProcessCollector
from perfmon_widgets.collectors.linux.traffic import Traffic
from perfmon_widgets.collectors.linux.tree import Tree


@pytest.fixture
def whatever_it_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Children are read each time."""
    monkeypatch.setattr(allowance, "_SHARE", math.inf)


@pytest.fixture
def look_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """All processes are listed at every reading, whatever that costs."""
    monkeypatch.setattr(newcomers, "_EVERY", 0.0)
    monkeypatch.setattr(allowance, "_SHARE", math.inf)


def burn(seconds: float) -> float:
    """Use this much CPU time; returns what was really used."""
    before = time.process_time()
    while time.process_time() - before < seconds:
        pass
    return time.process_time() - before


# -- CPU time ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("whatever_it_costs")
def test_what_a_child_used_before_it_was_seen_is_not_this_interval():
    """The monitor starts when a child has worked for long."""
    with forked(lambda: burn(0.4)):
        watched = Tree(os.getpid())
        watched.read()
        time.sleep(0.2)
        assert watched.read()[0] < 0.5


@pytest.mark.usefixtures("look_each_time")
def test_a_child_found_late_brings_all_its_time(monkeypatch):
    watched = Tree(os.getpid())
    watched.read()
    with forked(lambda: burn(0.4)):
        with monkeypatch.context() as patch:
            patch.setattr(watched, "_find", lambda: None)
            watched.read()
        before = watched._others
        watched.read()
        assert watched._others - before == pytest.approx(0.4, abs=0.05)


# -- canned files ------------------------------------------------------------------------------------------


class FakeTree:
    """A /proc with this process and canned processes."""

    def __init__(self, proc: Path) -> None:
        self.proc = proc
        self.write(os.getpid(), pages=1000)
        (proc / "self").symlink_to(str(os.getpid()))

    def write(
        self,
        number: int,
        *,
        pages: int,
        parent: int = 1,
        session: int = 1,
        seconds: float = 0,
        waited_for: float = 0,
        began: int = 0,
        state: str = "S",
    ) -> Path:
        folder = self.proc / str(number)
        folder.mkdir(exist_ok=True)
        (folder / "statm").write_text(f"9999 {pages} 0 1 0 1 0\n")
        times = f"{seconds * TICKS:.0f} 0 {waited_for * TICKS:.0f} 0"
        (folder / "stat").write_text(
            f"{number} (a ) (b) {state} {parent} 1 {session} 0 -1 0 0 0 0 0 {times}"
            f" 20 0 1 0 {began} 99999 {pages} 1 1\n"
        )
        return folder

    def end(self, number: int) -> None:
        """Remove a process."""
        shutil.rmtree(self.proc / str(number))


@pytest.fixture
def fake(tmp_path, monkeypatch: pytest.MonkeyPatch) -> FakeTree:
    """Its files are replaced, which a reader that keeps them open would not see."""
    monkeypatch.setattr(tree, "_KEPT_OPEN", 0)
    return FakeTree(tmp_path)


def test_a_child_whose_pages_may_not_be_read_counts_with_what_is_resident(tmp_path, fake):
    """hidepid, or a child of another user (sudo): its files are there and cannot be read."""
    fake.write(70, pages=900, parent=os.getpid())
    (tmp_path / "71").mkdir()  # hidden altogether
    assert Tree(os.getpid(), tmp_path).read()[1] == 1900 * PAGE


@pytest.mark.usefixtures("whatever_it_costs")
def test_a_process_that_has_the_number_of_one_that_ended_is_another(tmp_path, fake):
    fake.write(70, pages=900, parent=os.getpid(), seconds=5, began=100)
    watched = Tree(os.getpid(), tmp_path)
    assert watched.read()[1] == 1900 * PAGE
    fake.write(70, pages=5000, seconds=500, began=200)
    assert watched.read()[1] == 1000 * PAGE
    assert watched.members == {}


def cpu_seconds(watched: Tree) -> float:
    """Read the tree and return the CPU seconds of its descendants since it is watched."""
    watched.read()
    return watched._others


@pytest.mark.usefixtures("look_each_time")
def test_time_that_nobody_in_the_tree_waits_for_is_not_lost(tmp_path, fake):
    """An orphan's is waited for by the process that adopted it; with SIGCHLD ignored, nobody has it."""
    fake.write(60, pages=1000)
    fake.write(70, pages=900, parent=60, seconds=500)
    fake.write(80, pages=900, parent=1, session=9, seconds=7)
    watched = Tree(60, tmp_path)
    assert cpu_seconds(watched) == 500
    fake.end(70)
    assert cpu_seconds(watched) == 500
    fake.write(60, pages=1000, waited_for=2)  # of a child that was never seen
    assert cpu_seconds(watched) == 502


@pytest.mark.usefixtures("look_each_time")
def test_nothing_is_counted_of_descendants_before_they_are_read_again(tmp_path, fake, monkeypatch):
    """A guess at what they use meanwhile was never taken back when they had ended by then."""
    fake.write(60, pages=1000)
    fake.write(70, pages=900, parent=60, seconds=3)
    watched = Tree(60, tmp_path)
    assert cpu_seconds(watched) == 3
    time.sleep(0.01)
    fake.write(70, pages=900, parent=60, seconds=5)
    assert cpu_seconds(watched) == 5
    used = watched._used
    monkeypatch.setattr(watched._reading, "affordable", lambda: False)
    time.sleep(0.01)
    watched.read()
    assert watched._used == used


@pytest.mark.usefixtures("look_each_time")
def test_a_child_that_has_ended_is_counted_whatever_reading_costs(tmp_path, fake, monkeypatch):
    """The last row of a cell came too soon for another reading, and lacked what the cell's child had used."""
    fake.write(60, pages=1000)
    fake.write(70, pages=900, parent=60, seconds=3)
    fake.write(80, pages=900, parent=60)
    watched = Tree(60, tmp_path)
    assert cpu_seconds(watched) == 3
    monkeypatch.setattr(watched._reading, "affordable", lambda: False)
    fake.end(70)
    fake.write(60, pages=1000, waited_for=5)
    assert cpu_seconds(watched) == 5


@pytest.mark.usefixtures("look_each_time")
def test_the_time_of_one_that_ends_with_its_parent_moves_to_the_living_ancestor(tmp_path, fake):
    fake.write(60, pages=1000)
    fake.write(70, pages=900, parent=60, seconds=3)
    fake.write(71, pages=900, parent=70, seconds=5)
    fake.write(72, pages=900, parent=71, seconds=2)
    watched = Tree(60, tmp_path)
    assert cpu_seconds(watched) == 10
    fake.end(70)
    fake.end(71)
    fake.write(72, pages=900, parent=1, seconds=4)
    fake.write(60, pages=1000, waited_for=8.5)
    assert cpu_seconds(watched) == 12.5
    assert list(watched.members) == [72]
    fake.end(72)
    assert cpu_seconds(watched) == 12.5


@pytest.mark.usefixtures("look_each_time")
@pytest.mark.parametrize("reading", range(1, 6))
def test_a_child_that_ends_while_the_tree_is_read_counts_once(tmp_path, fake, monkeypatch, reading):
    """Its parent waits for it before, between and after the readings of the two."""
    fake.write(60, pages=1000)
    fake.write(70, pages=900, parent=60, seconds=3)
    fake.write(71, pages=900, parent=70, seconds=5)
    watched = Tree(60, tmp_path)
    assert cpu_seconds(watched) == 8
    number, read = 0, member.read_short

    def end_in_time(path: str) -> bytes:
        nonlocal number
        number += 1
        if number == reading:
            fake.write(70, pages=900, parent=60, seconds=3, waited_for=5)
            fake.end(71)
        return read(path)

    monkeypatch.setattr(member, "read_short", end_in_time)
    assert cpu_seconds(watched) == 8
    assert cpu_seconds(watched) == 8


@pytest.mark.usefixtures("look_each_time")
def test_a_child_whose_parent_takes_over_its_time_right_now_counts_once(tmp_path, fake):
    """In state X the time may be at either, or at both."""
    fake.write(60, pages=1000)
    fake.write(70, pages=900, parent=60, seconds=5)
    watched = Tree(60, tmp_path)
    assert cpu_seconds(watched) == 5
    fake.write(70, pages=900, parent=60, seconds=5, state="X")
    assert cpu_seconds(watched) == 5
    fake.write(60, pages=1000, waited_for=6)
    fake.write(70, pages=900, parent=60, session=-1)  # everything else is 0 already
    assert cpu_seconds(watched) == 6
    fake.end(70)
    assert cpu_seconds(watched) == 6


@pytest.mark.usefixtures("look_each_time")
def test_no_process_has_to_be_started_by_the_root_itself_to_be_found(tmp_path, fake):
    fake.write(60, pages=1000, session=60)
    fake.write(90, pages=1, parent=1, session=9)
    watched = Tree(60, tmp_path)
    watched.read()
    fake.write(75, pages=1, parent=74, session=60)  # a lower number: the numbers have begun again
    fake.write(74, pages=1, parent=60, session=60)
    fake.write(73, pages=1, parent=75, session=73)  # a session of its own
    fake.write(72, pages=1, parent=1, session=60)  # its launcher has ended
    fake.write(71, pages=1, parent=1, session=71)
    fake.write(70, pages=1, parent=1, session=73)  # its launcher has ended, in the session of a descendant
    watched.read()
    assert watched.members.keys() == {70, 72, 73, 74, 75}
    order = list(watched.members)
    assert order.index(74) < order.index(75) < order.index(73)  # parents first


@pytest.mark.usefixtures("look_each_time")
@pytest.mark.parametrize("order", [*itertools.permutations((72, 73, 74, 75))])
def test_in_whatever_order_they_are_found_parents_come_first(tmp_path, fake, order, monkeypatch):
    """Numbers begin again, so that a child may have a lower one than its parent."""
    parents = {74: 60, 75: 74, 73: 75, 72: 73}
    sessions = {75: 75, 72: 60}  # 75 has begun its own
    fake.write(60, pages=1000, session=60)
    watched = Tree(60, tmp_path)
    watched.read()
    for number, parent in parents.items():
        fake.write(number, pages=1, parent=parent, session=sessions.get(number, 60))
    new = {number: (parents[number], sessions.get(number, 60)) for number in order}
    monkeypatch.setattr(watched._newcomers, "look", lambda members: new)
    watched.read()
    assert list(watched.members) == [74, 75, 73, 72]


@pytest.mark.usefixtures("look_each_time")
@pytest.mark.parametrize("order", [(72, 73, 55), (73, 55, 72), (55, 73, 72)])
def test_a_session_belongs_to_the_tree_also_where_a_launcher_outside_it_is_seen(
    tmp_path, fake, order, monkeypatch
):
    parents, sessions = {72: 55, 73: 72, 55: 1}, {72: 60, 73: 60, 55: 9}
    fake.write(60, pages=1000, session=60)
    watched = Tree(60, tmp_path)
    watched.read()
    for number in order:
        fake.write(number, pages=1, parent=parents[number], session=sessions[number])
    new = {number: (parents[number], sessions[number]) for number in order}
    monkeypatch.setattr(watched._newcomers, "look", lambda members: new)
    watched.read()
    assert list(watched.members) == [72, 73]


@pytest.mark.usefixtures("look_each_time")
def test_numbers_that_are_given_again_while_they_are_read_do_not_make_it_go_in_a_circle(
    tmp_path, fake, monkeypatch
):
    fake.write(60, pages=1000, session=60)
    watched = Tree(60, tmp_path)
    watched.read()
    fake.write(72, pages=1, parent=73, session=60)
    fake.write(73, pages=1, parent=72, session=60)
    monkeypatch.setattr(watched._newcomers, "look", lambda members: {72: (73, 60), 73: (72, 60)})
    watched.read()
    assert watched.members.keys() == {72, 73}


@pytest.mark.usefixtures("look_each_time")
def test_the_session_of_a_root_that_does_not_lead_it_is_not_its_tree(tmp_path, fake):
    fake.write(60, pages=1000, session=50)
    fake.write(72, pages=1, parent=1, session=50)
    watched = Tree(60, tmp_path)
    watched.read()
    assert watched.members == {}


@pytest.mark.usefixtures("look_each_time")
def test_a_session_whose_leader_has_ended_belongs_to_the_tree_while_a_member_has_it(tmp_path, fake):
    fake.write(60, pages=1000, session=50)
    fake.write(70, pages=1, parent=60, session=70)
    fake.write(71, pages=1, parent=70, session=70)
    fake.write(72, pages=1, parent=60, session=50)
    watched = Tree(60, tmp_path)
    watched.read()
    fake.end(70)
    fake.write(71, pages=1, parent=1, session=70)
    watched.read()
    assert watched.members.keys() == {71, 72}
    fake.write(80, pages=1, parent=1, session=70)  # its launcher has ended, too
    fake.write(81, pages=1, parent=1, session=50)  # of the session that the root is in and does not lead
    watched.read()
    assert watched.members.keys() == {71, 72, 80}
    for number in (71, 80):
        fake.end(number)
    watched.read()
    fake.write(90, pages=1, parent=1, session=70)  # now the OS kernel may have given the number again
    watched.read()
    assert watched.members.keys() == {72}


@pytest.mark.usefixtures("whatever_it_costs")
def test_what_the_worker_of_a_launcher_starts_is_found_at_once_when_the_launcher_has_ended():
    """A launcher with a session of its own: its worker's children have that session, without a leader."""
    orders, order = os.pipe()
    told, tell = os.pipe()
    ends, end = os.pipe()  # all of the session end when the last writer is closed

    def begin() -> None:
        os.setsid()
        if os.fork():
            return
        os.close(end)
        os.read(orders, 1)
        child = os.fork()
        if child:
            os.write(tell, b"%d" % child)
        os.read(ends, 1)
        os._exit(0)

    watched = Tree(os.getpid())
    with forked(begin) as launcher:
        os.close(orders)
        watched.read()
        (worker,) = (number for number, one in watched.members.items() if one.parent == launcher)
    watched.read()
    assert launcher not in watched.members
    assert worker in watched.members
    os.write(order, b"x")
    child = int(os.read(told, 9))
    watched.read()
    for descriptor in (order, told, tell, ends, end):
        os.close(descriptor)
    assert child in watched.members


@pytest.mark.usefixtures("look_each_time")
def test_a_descendant_found_late_brings_its_time_only_if_it_is_younger_than_the_tree(tmp_path, fake):
    fake.write(60, pages=1000)
    watched = Tree(60, tmp_path)
    watched.read()
    fake.write(70, pages=1, parent=60, seconds=100, began=0)
    fake.write(71, pages=1, parent=60, seconds=3, began=10**12)
    assert cpu_seconds(watched) == 3


@pytest.mark.usefixtures("look_each_time")
@pytest.mark.parametrize("waited_for", [number / 10 for number in range(10)])
def test_a_child_that_uses_no_time_leaves_every_row_its_number_however_its_time_is_rounded(
    tmp_path, fake, waited_for
):
    """0.1 + 0.7 - 0.7 is less than 0.1, in floats; what is found late and what ends are such sums."""
    fake.write(70, pages=1000, waited_for=waited_for)
    watched = Tree(70, tmp_path)
    watched.read()
    fake.write(71, pages=900, parent=70, seconds=0.7)
    fake.write(72, pages=900, parent=70, seconds=0.2)
    assert watched.read()[0] == 0
    fake.write(70, pages=1000, waited_for=waited_for + 0.7)
    fake.end(71)
    assert watched.read()[0] == 0


def test_the_own_number_is_the_one_in_proc(tmp_path, fake):
    """``unshare --pid --fork``, bwrap: /proc is still the outer one, where another process has this id."""
    fake.write(os.getpid(), pages=5000)
    fake.write(60, pages=3000, parent=os.getpid())
    (tmp_path / "self").unlink()
    (tmp_path / "self").symlink_to("4242")
    fake.write(4242, pages=1000)
    fake.write(4243, pages=900, parent=4242)
    (tmp_path / "4242" / "task" / "4242").mkdir(parents=True)
    (tmp_path / "4242" / "task" / "4242" / "children").write_text("4243 ")
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


@pytest.mark.usefixtures("look_each_time")
def test_the_files_of_the_first_children_only_stay_open_and_only_while_these_live():
    """Those of hundreds would use up what this process may open."""
    watched = Tree(os.getpid())
    traffic = Traffic(watched)

    def opened() -> int:
        watched.read()
        traffic.read()
        return len(os.listdir("/proc/self/fd"))

    before = opened()
    # A child that an earlier test has left, as multiprocessing does, has a place already.
    places = 16 - len(watched.members)
    for _ in range(2):  # the second children have the places of the first
        with ExitStack() as stack:
            for _ in range(20):
                stack.enter_context(forked())
            assert opened() - before == 2 * places + 20  # a pipe of each is the test's own
        assert opened() == before


@pytest.mark.usefixtures("whatever_it_costs")
def test_reading_a_few_children_opens_no_file(monkeypatch):
    """That would cost twice as much."""
    made = ProcessCollector()
    made.collect()
    others = len(made._tree.members)
    with ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(forked())
        made.collect()
        made.collect()
        opened = []
        open_file = os.open
        monkeypatch.setattr(os, "open", lambda path, *rest: opened.append(path) or open_file(path, *rest))
        made._tree._newcomers.look = lambda members: {}  # those of other programs
        made.collect()
        assert len(made._tree.members) == others + 8
    assert opened == []


def test_reading_many_children_takes_its_share_of_time_and_no_more(monkeypatch):
    """However often a reading is wanted, children are read only as often as their cost allows."""
    reads = []
    read = Tree._read_members
    monkeypatch.setattr(Tree, "_read_members", lambda self, ended: reads.append(1) or read(self, ended))
    with ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(forked())
        watched = Tree(os.getpid())
        watched.read()  # which also finds them
        reads.clear()
        for _ in range(2000):
            watched.read()
    assert len(reads) < 200
