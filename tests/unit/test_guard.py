"""The memory guard, step by step: which limit it sets when, and when it interrupts."""

from __future__ import annotations

import math
import resource
import threading
import time
from collections.abc import Iterator

import pytest

from perfmon_widgets import PerformanceMonitor
from perfmon_widgets.collectors.linux.limits import Limits
from perfmon_widgets.collectors.linux.occupied import OccupiedMemory
from perfmon_widgets.core.data_limit import DataLimit
from perfmon_widgets.core.guard import Guard, Parts, guard
from perfmon_widgets.interrupts import Event
from perfmon_widgets.views.death import Cell

MB = 1e6
CELL = Cell(3, "train()", 0.0)


class Memory:
    """1000 MB of memory; how much is occupied is written by the test."""

    occupied, size = 100 * MB, 1000 * MB

    def read(self) -> tuple[float, float]:
        return self.occupied, self.size


class Limit:
    """A limit that is only noted, and a process whose data the test writes."""

    size, in_force = 150 * MB, math.inf

    def data(self) -> float:
        return self.size

    def now(self) -> float:
        return self.in_force

    def set(self, size: float) -> None:
        self.in_force = size

    def lift(self) -> None:
        self.in_force = math.inf

    give_back = lift

    def give_back_to_children(self) -> None:
        pass


class NoHeap:
    given_back = 0
    plugged = False

    def give_back(self) -> None:
        self.given_back += 1
        self.plugged = False

    def plug(self) -> None:
        self.plugged = True

    def unplug(self) -> None:
        self.plugged = False


class Stepped(Guard):
    """A guard whose thread takes no steps: the test does."""

    def _step_until_stopped(self, over: Event) -> None:
        pass


@pytest.fixture
def parts() -> Parts:
    return Parts(Memory(), Limit(), NoHeap())


@pytest.fixture
def stepped(parts) -> Stepped:
    guard = Stepped(lambda: parts)
    guard.start()
    yield guard
    guard.stop()


def test_without_cells_the_share_is_kept(stepped, parts):
    assert parts.limit.in_force == 150 * MB + 820 * MB
    stepped.share = 0.5
    stepped._room._raise_at = 0.0
    stepped.step()
    assert parts.limit.in_force == 150 * MB + 400 * MB


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("size", [300 * MB, -100 * MB])
def test_memory_that_changes_while_it_is_read_gives_no_room(stepped, parts, monkeypatch, moment, size):
    """Another thread may take or free memory between the reading of the data and of what is occupied."""
    read = parts.memory.read

    def change() -> tuple[float, float]:
        found = read()
        parts.limit.size += size
        parts.memory.occupied += size
        return read() if moment == "before" else found

    monkeypatch.setattr(parts.memory, "read", change)
    stepped._room._raise_at = 0.0
    stepped.step()
    room = parts.limit.in_force - parts.limit.size
    assert room <= 920 * MB - parts.memory.occupied


def test_the_reserve_is_open_while_no_cell_runs(stepped, parts):
    stepped.know_cells()
    parts.limit.in_force = 0
    stepped.step()
    assert parts.limit.in_force == 150 * MB + 885 * MB
    stepped.cell_began(CELL, None)
    assert parts.limit.in_force == 150 * MB + 820 * MB
    stepped.cell_ended()
    assert parts.limit.in_force == 150 * MB + 885 * MB


def test_the_reserve_opens_for_an_error_until_the_cell_ends(stepped, parts):
    stepped.know_cells()
    stepped.cell_began(CELL, None)
    parts.memory.occupied, parts.limit.size = 915 * MB, 965 * MB
    stepped.open_reserve()
    assert parts.limit.in_force == math.inf
    error = MemoryError()
    stepped.refused(error)
    assert parts.limit.in_force == 965 * MB + 70 * MB
    stepped.cell_ended()
    stepped.cell_began(CELL, None)
    assert parts.limit.in_force == 965 * MB + 24 * MB  # the floor: not much, but `del frames` needs some
    (intervention,) = stepped.interventions
    assert intervention.kind == "refused"
    assert intervention[2:] == (CELL, 915 * MB, 1000 * MB)
    assert str(intervention) == ("memory guard refused an allocation in cell [3] train(): RAM 873 of 954 MiB")
    if hasattr(error, "__notes__"):
        assert "of which 92% may be filled" in error.__notes__[0]


def test_what_was_freed_on_the_way_to_the_handler_is_in_the_report(stepped, parts):
    stepped.know_cells()
    stepped.cell_began(CELL, None)
    parts.memory.occupied = 910 * MB
    stepped.step()
    parts.memory.occupied = 100 * MB
    stepped.open_reserve()
    stepped.refused(MemoryError())
    assert stepped.interventions[0].occupied == 910 * MB


def test_the_floor_is_not_given_again_while_the_cell_runs(stepped, parts):
    stepped.know_cells()
    parts.memory.occupied, parts.limit.size = 930 * MB, 980 * MB
    stepped.cell_began(CELL, None)
    assert parts.limit.in_force == 1004 * MB
    parts.memory.occupied, parts.limit.size = 950 * MB, 1000 * MB
    for _ in range(5):
        stepped.step()
    assert parts.limit.in_force == 1004 * MB


def test_at_the_very_end_there_is_no_floor(stepped, parts):
    stepped.know_cells()
    parts.memory.occupied, parts.limit.size = 990 * MB, 1040 * MB
    stepped.cell_began(CELL, None)
    assert parts.limit.in_force == 1040 * MB


def test_the_limit_is_lowered_at_once_and_raised_rarely(stepped, parts):
    stepped.know_cells()
    stepped.cell_began(CELL, None)
    parts.limit.size = 650 * MB  # reserved, not touched
    stepped.step()
    assert parts.limit.in_force == (150 + 820) * MB  # or more could be reserved than there is
    stepped._room._raise_at = 0.0
    stepped.step()
    raised = parts.limit.in_force
    assert raised == (650 + 820) * MB
    parts.limit.size = 1150 * MB
    stepped.step()
    assert parts.limit.in_force == raised
    parts.memory.occupied = 600 * MB  # another process
    stepped.step()
    assert parts.limit.in_force == (1150 + 320) * MB
    stepped._room._raise_at = 0.0
    parts.memory.occupied = 300 * MB
    stepped.step()
    assert parts.limit.in_force == (1150 + 620) * MB


def test_with_little_left_it_is_not_raised_before_the_cell_ends(stepped, parts):
    stepped.know_cells()
    stepped.cell_began(CELL, None)
    in_force = parts.limit.in_force
    parts.memory.occupied, parts.limit.size = 905 * MB, 1100 * MB
    stepped._room._raise_at = 0.0
    stepped.step()
    assert parts.limit.in_force == in_force


def test_a_cell_that_fills_memory_in_spite_of_it_is_interrupted_once(stepped, parts):
    sent = []
    stepped.know_cells()
    stepped.cell_began(CELL, lambda: sent.append(stepped.pending))
    for occupied in (919, 940, 960, 970, 975, 919, 970):
        parts.memory.occupied = occupied * MB
        stepped.step()
    (message,) = sent
    assert message.startswith("the memory guard of perfmon_widgets stopped this cell: RAM 916 of 954 MiB")
    assert [each.kind for each in stepped.interventions] == ["interrupted"]
    stepped.cell_ended()
    assert stepped.pending == ""
    for _ in range(3):
        stepped.step()
    assert len(sent) == 1  # no cell runs


def test_a_cell_that_begins_with_memory_full_is_interrupted_only_if_it_takes_more(stepped, parts):
    sent = []
    stepped.know_cells()
    parts.memory.occupied = 955 * MB
    stepped.cell_began(CELL, lambda: sent.append(1))
    stepped.step()
    parts.memory.occupied = 970 * MB
    stepped.step()
    assert not sent
    parts.memory.occupied = 992 * MB
    stepped.step()
    assert sent


def test_a_cell_that_cannot_be_interrupted_is_not_reported_as_interrupted(stepped, parts):
    stepped.know_cells()
    stepped.cell_began(CELL, None)
    parts.memory.occupied = 980 * MB
    stepped.step()
    assert not stepped.interventions


def test_while_an_error_is_printed_nothing_is_interrupted(stepped, parts):
    sent = []
    stepped.know_cells()
    stepped.cell_began(CELL, lambda: sent.append(1))
    stepped.open_reserve()
    parts.memory.occupied = 980 * MB
    stepped.step()
    assert not sent


def test_freed_memory_is_given_back_after_an_intervention_until_half_is_free(stepped, parts):
    stepped.know_cells()

    def cell(occupied: float) -> int:
        stepped.cell_began(CELL, None)
        parts.memory.occupied = occupied * MB
        stepped.cell_ended()
        return parts.heap.given_back

    assert cell(900) == 0
    stepped.cell_began(CELL, None)
    stepped.open_reserve()
    stepped.refused(MemoryError())
    stepped.cell_ended()
    assert [cell(900), cell(900), cell(100), cell(100)] == [2, 3, 4, 4]


def test_freed_memory_is_given_back_after_a_cell_that_handled_its_error_itself(stepped, parts):
    stepped.know_cells()
    stepped.cell_began(CELL, None)
    parts.memory.occupied = 850 * MB
    stepped.step()
    parts.memory.occupied = 100 * MB
    stepped.cell_ended()
    assert parts.heap.given_back == 1
    assert parts.heap.plugged
    stepped.cell_began(CELL, None)
    stepped.cell_ended()
    assert parts.heap.given_back == 1


def test_a_guard_that_stops_while_memory_is_given_back_leaves_nothing_plugged(stepped, parts, monkeypatch):
    stepped.know_cells()
    stepped.cell_began(CELL, None)
    parts.memory.occupied = 850 * MB
    monkeypatch.setattr(parts.heap, "give_back", stepped.stop, raising=True)
    stepped.cell_ended()
    assert not parts.heap.plugged


def test_the_less_is_left_the_sooner_the_next_step(stepped, parts):
    pauses = []
    for occupied in (0, 600, 900, 919):
        parts.memory.occupied = occupied * MB
        pauses.append(stepped.step())
    assert pauses == sorted(pauses, reverse=True)
    assert pauses[-1] == 0.02
    parts.memory.size = 1e12
    assert stepped.step() == 1.0


def test_an_intervention_is_a_mark_in_each_running_monitor(stepped):
    with PerformanceMonitor([], interval=60) as monitor:
        stepped.cell_began(CELL, None)
        stepped.refused(MemoryError())
        assert monitor.marks.label.tolist() == [str(stepped.interventions[0])]


@pytest.mark.parametrize("share", [0, 1, 0.98, -1, math.nan, "much", None])
def test_a_share_out_of_range_is_named_and_changes_nothing(share):
    with pytest.raises(ValueError, match="share must be a number from 0.1 to 0.97, not "):
        Guard().start(share)


def test_elsewhere_it_says_that_it_works_on_linux_only(monkeypatch):
    monkeypatch.setattr("sys.platform", "darwin")
    with pytest.raises(RuntimeError, match="the memory guard works on Linux only"):
        Guard().start()
    monkeypatch.undo()


def test_where_memory_cannot_be_read_it_says_so():
    def fails() -> Parts:
        raise FileNotFoundError(2, "No such file or directory", "/proc/meminfo")

    with pytest.raises(RuntimeError, match="memory cannot be guarded here: .*meminfo"):
        Guard(fails).start()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError("no file"), "memory cannot be guarded here: no file"),
        (MemoryError("no step"), "no step"),
        (KeyboardInterrupt("no step"), "no step"),
    ],
)
def test_a_start_that_fails_leaves_no_limit(parts, monkeypatch, error, told):
    def fails() -> None:
        raise error

    monkeypatch.setattr(parts.limit, "give_back_to_children", fails)
    guard = Stepped(lambda: parts)
    with pytest.raises((RuntimeError, MemoryError, KeyboardInterrupt), match=told):
        guard.start()
    assert parts.limit.in_force == math.inf
    assert not guard.running


def test_a_start_without_a_thread_leaves_no_limit(parts, monkeypatch):
    def fails(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fails)
    guard = Stepped(lambda: parts)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        guard.start()
    assert parts.limit.in_force == math.inf
    assert not guard.running
    assert guard.occupied() == pytest.approx((math.nan, math.nan), nan_ok=True)


def test_a_thread_that_python_takes_for_dead_after_an_interrupt_guards_and_ends(parts, monkeypatch):
    guard = Guard(lambda: parts)
    guard.start()
    thread = guard._thread
    monkeypatch.setattr(threading.Thread, "is_alive", lambda _: False)
    try:
        assert guard.running
        guard.start(0.5)
        assert guard._thread is thread
    finally:
        over = guard._over
        guard.stop()
    assert not guard.running
    assert over.is_set()


def test_an_interrupted_start_leaves_no_limit_and_no_thread(parts, monkeypatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    guard = Guard(lambda: parts)
    monkeypatch.setattr("perfmon_widgets.core.guard.start_thread", interrupted)
    with pytest.raises(KeyboardInterrupt):
        guard.start()
    assert not guard.running
    assert parts.limit.in_force == math.inf
    monkeypatch.undo()
    guard.start()
    assert guard.running
    guard.stop()
    assert parts.limit.in_force == math.inf


def test_all_monitors_have_the_same_guard():
    assert PerformanceMonitor([]).guard is PerformanceMonitor([]).guard is guard
    assert not guard.running


def test_a_step_that_fails_is_reported_and_the_guard_goes_on(parts):
    calls = []

    class Failing(Memory):
        def read(self) -> tuple[float, float]:
            calls.append(1)
            if len(calls) > 2:
                raise OSError("gone")
            return super().read()

    guarded = Guard(lambda: parts._replace(memory=Failing()))
    guarded.start()
    try:
        while not guarded.error:
            guarded.start()  # again: the thread takes a step at once
            time.sleep(0.01)
        assert guarded.error == "gone"
        assert guarded.running
    finally:
        guarded.stop()


# -- the limit of a real process ---------------------------------------------------------------------------

SOFT_AND_HARD = resource.getrlimit(resource.RLIMIT_DATA)


@pytest.fixture
def _unlimited() -> Iterator[None]:
    yield
    resource.setrlimit(resource.RLIMIT_DATA, SOFT_AND_HARD)


@pytest.mark.usefixtures("_unlimited")
def test_a_limit_is_set_and_given_back():
    limit = DataLimit()
    limit.set(limit.data() + 2**30)
    assert limit.data() + 2**29 < limit.now() < limit.data() + 2**31
    limit.give_back()
    assert resource.getrlimit(resource.RLIMIT_DATA) == SOFT_AND_HARD


def test_children_that_cannot_be_found_are_no_error(machine):
    (machine.proc / "self" / "statm").write_text("1 1 1 1 0 1 0\n")
    DataLimit(machine.proc).give_back_to_children()


@pytest.mark.usefixtures("_unlimited")
def test_the_data_is_what_the_process_may_write():
    limit = DataLimit()
    before = limit.data()
    block = bytearray(50_000_000)
    assert limit.data() - before == pytest.approx(len(block), abs=4e6)


@pytest.mark.usefixtures("_unlimited")
def test_a_lower_limit_of_the_user_is_not_raised():
    limit = DataLimit()
    lower = limit.data() + 2**29
    resource.setrlimit(resource.RLIMIT_DATA, (lower, SOFT_AND_HARD[1]))
    limit.set(limit.data() + 2**30)
    assert limit.now() == lower
    limit.set(limit.data() + 2**28)
    assert limit.now() < lower
    limit.give_back()
    assert limit.now() == lower


@pytest.mark.usefixtures("_unlimited")
def test_a_limit_that_the_user_sets_meanwhile_stays():
    limit = DataLimit()
    limit.set(limit.data() + 2**30)
    own = limit.data() + 2**31
    resource.setrlimit(resource.RLIMIT_DATA, (own, SOFT_AND_HARD[1]))
    limit.give_back()
    assert limit.now() == own


def test_a_forked_child_is_not_limited(parts, forked):
    real = Stepped(lambda: parts._replace(limit=DataLimit()))
    real.start()
    try:
        assert resource.getrlimit(resource.RLIMIT_DATA) != SOFT_AND_HARD
        assert forked(lambda: resource.getrlimit(resource.RLIMIT_DATA)) == SOFT_AND_HARD
    finally:
        real.stop()
    assert resource.getrlimit(resource.RLIMIT_DATA) == SOFT_AND_HARD


# -- memory that cannot be given back ----------------------------------------------------------------------


def test_file_caches_do_not_count_in_a_group_of_version_2(machine):
    machine.version_2("/job")
    machine.write("cgroup/job/memory.max", "8000000\n")
    machine.write("cgroup/job/memory.current", "7000000\n")
    statistics = (
        "anon 1\ninactive_anon 5\ninactive_file 2000000\nactive_file 3000000\nslab_reclaimable 500000\n"
    )
    machine.write("cgroup/job/memory.stat", statistics)
    occupied = OccupiedMemory(machine.proc, limits=Limits(machine.proc), environment={})
    assert occupied.read() == (1_500_000.0, 8_000_000.0)
    machine.write("cgroup/job/memory.current", "1000\n")
    assert occupied.read() == (0.0, 8_000_000.0)


def test_file_caches_do_not_count_in_a_group_of_version_1(machine):
    memory, _, _ = machine.version_1("/job")
    (memory / "job").mkdir()
    (memory / "job" / "memory.limit_in_bytes").write_text("8000000\n")
    (memory / "job" / "memory.usage_in_bytes").write_text("7000000\n")
    (memory / "job" / "memory.stat").write_text(
        "inactive_file 1\nactive_file 1\ntotal_inactive_file 2000000\ntotal_active_file 3000000\n"
    )
    occupied = OccupiedMemory(machine.proc, limits=Limits(machine.proc), environment={})
    assert occupied.read() == (2_000_000.0, 8_000_000.0)


def test_without_a_limit_it_is_the_machine(machine):
    occupied = OccupiedMemory(machine.proc, environment={})
    assert occupied.read() == (6_000 * 1024.0, 16_000 * 1024.0)
    machine.write_memory(MemTotal=16_000, MemFree=4_000, MemAvailable=99_000, SwapTotal=0, SwapFree=0)
    assert occupied.read() == (12_000 * 1024.0, 16_000 * 1024.0)


def test_a_limit_of_jupyterhub_counts(machine):
    occupied = OccupiedMemory(environment={"MEM_LIMIT": str(2**30)})
    found, limit = occupied.read()
    if limit == 2**30:  # not where a control group has a limit already
        assert 0 < found < 64 * 2**30
