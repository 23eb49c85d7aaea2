"""Memory of a tree of real processes that fork, copy, share and let go: every page counts once."""

from __future__ import annotations

import gc
import math
import mmap
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from fakes.trees import MIB, PAGE, SLACK, forked, resident
from tree_jobs import memory

from perfmon_widgets.collectors import allowance
from perfmon_widgets.collectors.linux import holding, memory_of_tree, survey
from perfmon_widgets.collectors.linux.tree import Tree

NO_RESERVE = 0x4000  # MAP_NORESERVE, which the module mmap does not have


@pytest.fixture(autouse=True)
def whatever_it_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Children are read, and surveyed where there is a reason to, each time."""
    monkeypatch.setattr(allowance, "_SHARE", math.inf)


@pytest.fixture(autouse=True)
def no_garbage_collection() -> Iterator[None]:
    """It writes to each object, and so copies their pages, of which this process and its forks share many."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def no_survey(monkeypatch: pytest.MonkeyPatch) -> None:
    """An OS kernel without pagemap."""

    def fail(folder: Path, level: int) -> None:
        raise FileNotFoundError(folder / "pagemap")

    monkeypatch.setattr(holding, "survey", fail)


def private(mib: int) -> mmap.mmap:
    """Private memory whose pages are all there."""
    memory = mmap.mmap(-1, mib * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    touch(memory)
    return memory


def shared_memory(mib: int) -> mmap.mmap:
    """Shared memory whose pages are all there."""
    memory = mmap.mmap(-1, mib * MIB)
    touch(memory)
    return memory


def touch(memory: mmap.mmap, start: int = 0, end: int | None = None, step: int = PAGE) -> None:
    """Write to a byte of each page."""
    for at in range(start, len(memory) if end is None else end, step):
        memory[at] = 1


@contextmanager
def worker(*steps: Callable[[], object]) -> Iterator[Callable[[], None]]:
    """A forked child that does the next of these steps when it is called; gone at the end."""
    go, going = os.pipe()
    done, doing = os.pipe()
    kept: list[object] = []

    def work(*_: object) -> None:
        for step in steps:
            os.read(go, 1)
            kept.append(step())
            os.write(doing, b"x")

    def next_step() -> None:
        os.write(going, b"x")
        assert os.read(done, 1) == b"x"

    try:
        with forked(lambda: signal.signal(signal.SIGUSR1, work)) as number:
            os.kill(number, signal.SIGUSR1)
            yield next_step
    finally:
        for descriptor in (go, going, done, doing):
            os.close(descriptor)


def grown(watched: Tree, before: float) -> float:
    """Return by how many MiB the tree has grown."""
    return (watched.read()[1] - before) / MIB


def check_rows(watched: Tree, rows: int) -> None:
    """Fail unless the next rows are near what all processes have, each page once."""
    for _ in range(rows):
        assert watched.read()[1] / MIB == pytest.approx(memory() / MIB, abs=doubt(70))


def doubt(least: float) -> float:
    """Return by how many MiB that may be off: ``least``, and more in a large process.

    Interpreters copy some pages, here and there, when they go on after a fork. A survey looks at 512 pages,
    so that in a large process each of those that it meets counts as megabytes.
    """
    return max(least, 0.06 * resident(os.getpid()) / MIB)


# -- anonymous pages ---------------------------------------------------------------------------------------


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


def test_the_memory_of_a_child_that_has_ended_is_gone_at_once_and_the_rest_stays():
    """Also what the two shared: it is still there."""
    block = b"x" * (200 * MIB)
    watched = Tree(os.getpid())
    watched.read()
    with forked():
        _, both = watched.read()
    _, alone = watched.read()
    assert both == pytest.approx(alone, abs=SLACK)
    assert alone == pytest.approx(resident(os.getpid()), abs=SLACK)
    del block


def test_what_a_child_has_allocated_counts_also_in_the_row_in_which_another_has_ended():
    """All are read again then, in which nothing is different."""
    kept: list[mmap.mmap] = []
    watched = Tree(os.getpid())
    with worker(lambda: kept.append(private(200))) as allocate:
        with forked():
            before = watched.read()[1]
            allocate()
        for _ in range(2):
            assert grown(watched, before) == pytest.approx(200, abs=doubt(25))


@pytest.mark.parametrize("how", [signal.SIGUSR1, signal.SIGKILL], ids=["lets go", "ends"])
def test_what_a_child_no_longer_holds_of_its_parents_memory_is_not_taken_from_the_parent(how):
    """Also where it has ended and was not yet waited for."""
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


@pytest.mark.parametrize("copied", ["all", "every second page", "half"])
def test_pages_that_forks_copy_count_in_the_next_row(copied):
    """The size of a fork does not show that it has copied pages of its parent."""
    inherited = private(160)
    arguments = {"all": {}, "every second page": {"step": 2 * PAGE}, "half": {"end": 80 * MIB}}[copied]
    watched = Tree(os.getpid())
    watched.read()
    with ExitStack() as stack:
        workers = [stack.enter_context(worker(lambda: touch(inherited, **arguments))) for _ in range(3)]
        before = watched.read()[1]
        for number, copy in enumerate(workers, 1):
            copy()
            expected = number * (160 if copied == "all" else 80)
            assert grown(watched, before) == pytest.approx(expected, rel=0.05, abs=doubt(20))
    inherited.close()


@pytest.mark.parametrize("gib", [10, 200])
def test_address_space_that_is_reserved_and_not_filled_does_not_hide_copied_pages(gib):
    """As a JVM, an allocator or many threads reserve it; the size of a process in memory does not show it."""
    reserved = mmap.mmap(-1, gib * 1024 * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NO_RESERVE)
    test_pages_that_forks_copy_count_in_the_next_row("every second page")
    reserved.close()


@pytest.mark.parametrize("workers", [1, 3])
def test_pages_that_the_parent_copies_are_still_its_forks(workers):
    inherited = private(200)
    watched = Tree(os.getpid())
    watched.read()
    with ExitStack() as stack:
        for _ in range(workers):
            stack.enter_context(forked())
        before = watched.read()[1]
        touch(inherited, end=120 * MIB)
        assert grown(watched, before) == pytest.approx(120, rel=0.05, abs=doubt(20))
        inherited.close()  # the forks have all of it
        assert grown(watched, before) == pytest.approx(0, abs=doubt(25))


def test_a_fork_that_allocates_and_frees_all_the_time_has_copied_nothing():
    """It has as many page faults as one that copies."""
    inherited = private(200)

    def churn() -> None:
        for _ in range(10):
            private(30).close()

    watched = Tree(os.getpid())
    watched.read()
    with worker(*[churn] * 3) as work:
        before = watched.read()[1]
        for _ in range(3):
            work()
            assert grown(watched, before) == pytest.approx(0, abs=doubt(20))
    inherited.close()


def test_a_fork_that_copies_nothing_is_surveyed_less_and_less_often(monkeypatch):
    surveyed: list[Path] = []
    survey_of = holding.survey
    monkeypatch.setattr(
        holding, "survey", lambda folder, level: surveyed.append(folder) or survey_of(folder, level)
    )
    inherited = private(100)
    watched = Tree(os.getpid())
    watched.read()
    with worker(*[lambda: private(40).close()] * 30) as work:
        watched.read()
        for _ in range(30):
            work()
            watched.read()
    assert 2 <= len(surveyed) <= 8
    inherited.close()


@pytest.mark.parametrize(("what", "more"), [("allocates", 200), ("frees", -200), ("copies", 150)])
def test_what_a_fork_does_between_its_size_and_a_survey_counts_once(what, more, monkeypatch):
    """Where there are many workers, tenths of a second may lie between."""
    inherited = private(300)
    own: list[mmap.mmap] = []

    def allocate() -> None:
        own.append(private(200))

    steps = {
        "allocates": (gc.collect, allocate),
        "frees": (allocate, lambda: own[0].close()),
        "copies": (gc.collect, lambda: touch(inherited, 0, 150 * MIB)),
    }
    watched = Tree(os.getpid())
    watched.read()
    with worker(*steps[what]) as next_step:
        watched.read()
        next_step()
        before = watched.read()[1]
        surveyed: list[Path] = []

        def survey_after_step(folder: Path, level: int) -> survey.Survey:
            if not surveyed and folder != Path("/proc/self"):
                surveyed.append(folder)
                next_step()
            return survey.survey(folder, level)

        monkeypatch.setattr(holding, "survey", survey_after_step)
        for each in watched.memory._holdings.values():
            each.doubt()
        watched.memory._unfinished = True
        for _ in range(3):
            assert grown(watched, before) == pytest.approx(more, abs=doubt(25))
        assert surveyed
    inherited.close()


def test_what_forks_of_forks_have_in_common_counts_once():
    def family() -> None:
        globals()["kept"] = private(150)
        for _ in range(3):
            if os.fork() == 0:
                time.sleep(60)
                os._exit(0)

    watched = Tree(os.getpid())
    before = watched.read()[1]
    with ExitStack() as stack:
        groups = [stack.enter_context(forked(lambda: (os.setpgrp(), family()))) for _ in range(2)]
        try:
            assert grown(watched, before) == pytest.approx(300, abs=50)  # and not 1200
            assert grown(watched, before) == pytest.approx(300, abs=50)
        finally:
            for group in groups:
                os.killpg(group, 9)


@pytest.mark.parametrize("row_between", [True, False])
@pytest.mark.parametrize("idle", [0, 1, 3])
def test_what_a_fork_has_copied_and_passed_on_counts_beside_those_that_copied_nothing(idle, row_between):
    """That pages are shared does not say with whom: also its parent shares them, with these others."""
    inherited = private(300)
    waiting, ending = os.pipe()

    def fork() -> None:
        ready, done = os.pipe()
        if os.fork() == 0:
            try:
                os.write(done, b"x")
                os.close(ending)
                os.read(waiting, 1)
            finally:
                os._exit(0)
        os.read(ready, 1)

    watched = Tree(os.getpid())
    watched.read()
    try:
        with ExitStack() as stack:
            steps = (lambda: touch(inherited, 0, 150 * MIB), fork)
            ranks = [stack.enter_context(worker(*steps)) for _ in range(2)]
            for _ in range(idle):
                stack.enter_context(forked())
            before = watched.read()[1]
            for number, rank in enumerate(ranks, 1):
                rank()
                if row_between:
                    assert grown(watched, before) == pytest.approx(number * 150, abs=doubt(25))
                rank()
                for _ in range(2):
                    assert grown(watched, before) == pytest.approx(number * 150, abs=doubt(35))
    finally:
        os.close(ending)
        os.close(waiting)
        inherited.close()


def test_a_new_version_in_the_parent_is_not_that_of_earlier_forks():
    """A data set that is replaced in place: later workers have the new one, earlier ones still the old."""
    data = private(200)
    watched = Tree(os.getpid())
    watched.read()
    with forked(), forked():
        before = watched.read()[1]
        touch(data)
        assert grown(watched, before) == pytest.approx(200, abs=doubt(25))
        with forked(), forked():
            for _ in range(2):
                assert grown(watched, before) == pytest.approx(200, abs=doubt(25))
    data.close()


@pytest.mark.parametrize("mib", [6, 12])
def test_a_little_that_each_of_many_forks_copies_counts_in_the_next_row(mib):
    """As workers of a pool do when they use objects: too little of each to be surveyed."""
    inherited = private(100)
    watched = Tree(os.getpid())
    watched.read()
    with ExitStack() as stack:
        workers = [stack.enter_context(worker(lambda: touch(inherited, 0, mib * MIB))) for _ in range(24)]
        watched.read()
        for copy in workers:
            copy()
        check_rows(watched, 2)
    inherited.close()


@pytest.mark.parametrize("mib", [0, 4])
def test_forks_that_allocate_and_free_a_little_have_not_copied_it(mib):
    """Some of them are looked at, and speak for the others. What they copy as they start says little."""
    inherited = private(100)
    watched = Tree(os.getpid())
    watched.read()
    with ExitStack() as stack:
        steps = (lambda: touch(inherited, 0, mib * MIB), lambda: private(12).close())
        workers = [stack.enter_context(worker(*steps)) for _ in range(24)]
        for start in workers:
            start()
        for _ in range(3):  # in each, some are surveyed
            for holding in watched.memory._holdings.values():
                holding.doubt()
            watched.read()
        for churn in workers:
            churn()
        check_rows(watched, 2)
    inherited.close()


def test_what_one_pool_does_is_not_expected_of_the_next():
    """The first allocates and frees, the second copies."""
    inherited = private(100)
    watched = Tree(os.getpid())
    watched.read()
    for step in (lambda: private(12).close(), lambda: touch(inherited, 0, 12 * MIB)):
        with ExitStack() as stack:
            workers = [stack.enter_context(worker(step)) for _ in range(24)]
            watched.read()
            for work in workers:
                work()
            check_rows(watched, 2)
        watched.read()
    inherited.close()


@pytest.mark.parametrize("surveyed", [True, False])
def test_what_forks_have_after_their_parent_has_freed_it_counts_once(surveyed, request):
    if not surveyed:
        request.getfixturevalue("no_survey")
    inherited = private(200)
    watched = Tree(os.getpid())
    watched.read()
    with forked(), forked():
        before = watched.read()[1]
        inherited.close()
        for _ in range(2):
            assert grown(watched, before) == pytest.approx(0, abs=doubt(25))


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_what_the_parent_overwrites_before_its_forks_are_seen_counts_twice(workers):
    data = private(200)
    watched = Tree(os.getpid())
    before = watched.read()[1]
    with ExitStack() as stack:
        for _ in range(workers):
            stack.enter_context(forked())
        touch(data)
        for _ in range(3):
            assert grown(watched, before) == pytest.approx(200, abs=doubt(30))
    data.close()


@pytest.mark.parametrize("how", ["ends", "frees it"])
@pytest.mark.parametrize("surveyed", [True, False])
def test_what_a_fork_has_allocated_is_still_that_of_its_forks(how, surveyed, request):
    """It ends, or gives back the memory, after it has forked others."""
    if not surveyed:
        request.getfixturevalue("no_survey")
    waiting, ending = os.pipe()
    kept: list[mmap.mmap] = []

    def fork_two() -> None:
        kept.append(private(200))
        ready, done = os.pipe()
        for _ in range(2):
            if os.fork() == 0:
                os.write(done, b"x")
                os.close(ending)
                os.read(waiting, 1)
                os._exit(0)
            os.read(ready, 1)

    watched = Tree(os.getpid())
    watched.read()
    before = watched.read()[1]
    try:
        with ExitStack() as stack:
            step = stack.enter_context(worker(fork_two, lambda: kept[0].close()))
            step()
            assert grown(watched, before) == pytest.approx(200, abs=doubt(25))
            if how == "ends":
                stack.close()
            else:
                step()
            for _ in range(2):
                assert grown(watched, before) == pytest.approx(200, abs=doubt(30))
    finally:
        os.close(ending)
        os.close(waiting)


def test_of_a_chain_of_forks_only_the_living_are_kept():
    """Each forks the next and ends, as a server that restarts itself."""

    forking, fork = os.pipe()
    ending, end = os.pipe()

    def relay() -> None:
        os.setpgrp()
        if os.fork():
            return
        while os.read(forking, 1):
            if os.fork():
                os.read(ending, 1)
                os._exit(0)

    def read_until(how_many: int) -> None:
        deadline = time.monotonic() + 10
        while sum(holding.anonymous > 0 for holding in holdings.values()) != how_many:
            assert time.monotonic() < deadline
            watched.read()

    watched = Tree(os.getpid())
    watched.read()
    holdings = watched.memory._holdings
    with forked(relay) as group:
        try:
            read_until(2)
            for _ in range(4):
                os.write(fork, b"x")
                read_until(3)
                os.write(end, b"x")
                read_until(2)
            last = list(holdings.values())[-1]
            assert last.parent is not None
            assert last.parent.parent is None
        finally:
            os.killpg(group, signal.SIGKILL)
            for descriptor in (forking, fork, ending, end):
                os.close(descriptor)


@pytest.mark.usefixtures("no_survey")
def test_without_a_survey_forks_count_with_what_they_allocate():
    inherited = private(100)
    watched = Tree(os.getpid())
    before = watched.read()[1]
    with forked(), forked(lambda: globals().update(kept=private(150))):
        assert grown(watched, before) == pytest.approx(150, abs=doubt(30))
    inherited.close()


# -- files and shared memory -------------------------------------------------------------------------------


@pytest.mark.parametrize("surveyed", [True, False])
def test_shared_memory_that_workers_read_counts_once_at_every_moment(surveyed, request):
    if not surveyed:
        request.getfixturevalue("no_survey")
    shared = mmap.mmap(-1, 150 * MIB)
    touch(shared)
    watched = Tree(os.getpid())
    watched.read()

    def part(start: int, end: int) -> int:
        return sum(shared[at] for at in range(start, end, PAGE))

    half, end = len(shared) // 2, len(shared)
    steps = (lambda: part(0, PAGE), lambda: part(0, half), lambda: part(half, end))
    with ExitStack() as stack:
        workers = [stack.enter_context(worker(*steps)) for _ in range(4)]
        # The first step copies those pages of the interpreter that reading writes to.
        for read in workers:
            read()
        before = watched.read()[1]
        for read in workers * 2:
            read()
            assert grown(watched, before) == pytest.approx(0, abs=doubt(25))
    shared.close()


def test_workers_with_shared_memory_of_their_own_count_with_all_of_it():
    """The largest is not all that there is."""

    watched = Tree(os.getpid())
    watched.read()
    with ExitStack() as stack:
        workers = [stack.enter_context(worker(lambda: shared_memory(120))) for _ in range(3)]
        before = watched.read()[1]
        for number, allocate in enumerate(workers, 1):
            allocate()
            assert grown(watched, before) == pytest.approx(120 * number, rel=0.05, abs=doubt(25))


def test_a_little_shared_memory_of_each_of_many_workers_counts():
    """As batches that the workers of a DataLoader prepare: less than libraries take in each of them."""

    watched = Tree(os.getpid())
    watched.read()
    with ExitStack() as stack:
        workers = [stack.enter_context(worker(lambda: shared_memory(12))) for _ in range(24)]
        watched.read()
        for allocate in workers:
            allocate()
        check_rows(watched, 3)


def test_workers_without_shared_memory_are_not_like_those_that_have_some():
    """They have libraries in common, which must not count once for each of them."""

    watched = Tree(os.getpid())
    watched.read()
    with ExitStack() as stack:
        for _ in range(12):
            stack.enter_context(forked())
        workers = [stack.enter_context(worker(lambda: shared_memory(80))) for _ in range(3)]
        watched.read()
        for allocate in workers:
            allocate()
        check_rows(watched, 2)


def test_a_little_shared_memory_that_many_workers_have_in_common_counts_once():
    shared = mmap.mmap(-1, 40 * MIB)
    watched = Tree(os.getpid())
    watched.read()
    with ExitStack() as stack:
        workers = [stack.enter_context(worker(lambda: touch(shared))) for _ in range(12)]
        watched.read()
        for write in workers:
            write()
        check_rows(watched, 3)
    shared.close()


def test_workers_with_different_parts_of_shared_memory_count_with_their_parts():
    shared = mmap.mmap(-1, 360 * MIB)
    watched = Tree(os.getpid())
    watched.read()

    def part(number: int) -> Callable[[], None]:
        return lambda: touch(shared, number * 120 * MIB, (number + 1) * 120 * MIB)

    with ExitStack() as stack:
        workers = [stack.enter_context(worker(part(number))) for number in range(3)]
        before = watched.read()[1]
        for number, write in enumerate(workers, 1):
            write()
            assert grown(watched, before) == pytest.approx(120 * number, rel=0.05, abs=doubt(25))
    shared.close()


def test_shared_memory_that_workers_unmap_just_before_a_survey_is_not_counted_twice(monkeypatch):
    """As workers of a DataLoader do when they end: their sizes are read, but their pages are gone."""
    shared = mmap.mmap(-1, 150 * MIB)
    touch(shared)
    watched = Tree(os.getpid())
    watched.read()
    with ExitStack() as stack:
        steps = (gc.collect, lambda: sum(shared[at] for at in range(0, len(shared), PAGE)), shared.close)
        workers = [stack.enter_context(worker(*steps)) for _ in range(2)]
        for start in workers:
            start()
        before = watched.read()[1]
        for read in workers:
            read()

        def unmapped_first(folder: Path, level: int) -> survey.Survey:
            while workers:
                workers.pop()()
            return survey.survey(folder, level)

        monkeypatch.setattr(holding, "survey", unmapped_first)
        assert grown(watched, before) == pytest.approx(0, abs=doubt(25))
        assert not workers
        assert grown(watched, before) == pytest.approx(0, abs=doubt(25))
    shared.close()


# -- cost --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [0, 3, 2**34 + 12345])
def test_of_two_samples_the_smaller_is_a_part_of_the_larger(start):
    end = start + 2**15 + 77
    larger = set(range(start, end))
    for level in range(1, 15):
        smaller = list(survey._spots(start, end, level))
        assert larger.issuperset(smaller)
        assert abs(len(smaller) - (end - start) / 2**level) < 2
        assert [page for page in sorted(larger) if survey.is_sampled(page, level)] == smaller
        larger = set(smaller)


def test_a_survey_reads_as_many_pages_however_much_memory_there_is(monkeypatch):
    read: list[int] = []
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda *arguments: read.append(1) or pread(*arguments))
    counts = []
    for mib in (10, 1000):
        read.clear()
        with mmap.mmap(-1, mib * MIB):
            assert survey.survey(Path("/proc/self")).private > 0
        counts.append(len(read))
    # How many it reads depends on the number of mappings, which differs between runs of the tests; and it
    # takes one page of a power of two.
    assert counts[0] > 300
    assert counts[0] / 2 < counts[1] < counts[0] * 2


def test_what_a_fork_has_copied_before_it_forks_itself_counts_once():
    """Ranks with loaders of their own, all forked: each rank has copied other pages than its loader."""
    inherited = private(160)
    waiting, ending = os.pipe()

    def copy_and_fork() -> None:
        touch(inherited, 40 * MIB, 80 * MIB)
        ready, done = os.pipe()
        if os.fork() == 0:
            try:
                touch(inherited, 80 * MIB)
                os.write(done, b"x")
                os.close(ending)
                os.read(waiting, 1)
            finally:
                os._exit(0)
        os.read(ready, 1)

    watched = Tree(os.getpid())
    watched.read()
    try:
        with ExitStack() as stack:
            copy = [lambda: touch(inherited, 0, 40 * MIB), copy_and_fork]
            ranks = [stack.enter_context(worker(*copy)) for _ in range(2)]
            before = watched.read()[1]
            for number, rank in enumerate(ranks, 1):
                rank()
                assert grown(watched, before) == pytest.approx(number * 40, abs=SLACK / MIB)
            for number, rank in enumerate(ranks, 1):
                rank()
                assert grown(watched, before) == pytest.approx(80 + number * 120, abs=2 * SLACK / MIB)
                assert grown(watched, before) == pytest.approx(80 + number * 120, abs=2 * SLACK / MIB)
    finally:
        os.close(ending)
        os.close(waiting)
        inherited.close()


def test_without_descendants_nothing_is_surveyed(monkeypatch):
    monkeypatch.setattr(holding, "survey", lambda folder, level: pytest.fail("there is nothing to compare"))
    watched = Tree(os.getpid())
    for _ in range(2):
        block = private(100)
        assert watched.read()[1] == pytest.approx(resident(os.getpid()), abs=SLACK)
        block.close()


# -- huge pages --------------------------------------------------------------------------------------------


def test_explicit_huge_pages_of_the_root_count(tmp_path, monkeypatch):
    """They are in none of the sizes of a process."""
    monkeypatch.setattr(memory_of_tree, "_HUGE", tmp_path / "hugepages")
    reserved = tmp_path / "hugepages" / "hugepages-2048kB" / "nr_hugepages"
    reserved.parent.mkdir(parents=True)
    reserved.write_text("0\n")
    root = tmp_path / "60"
    root.mkdir()
    (root / "statm").write_text("9999 1000 1 1 0 1 0\n")
    (root / "status").write_text("Name:\tjava\nHugetlbPages:\t  262144 kB\nThreads:\t1\n")
    memory = memory_of_tree.MemoryOfTree(60, root)
    assert memory.read({}) == 1000 * PAGE  # no page of that kind exists
    reserved.write_text("160\n")
    (root / "statm").write_text("19999 1000 1 1 0 1 0\n")  # now they are mapped
    assert memory.read({}) == 1000 * PAGE + 256 * MIB
    (root / "status").write_text("Name:\tjava\n")  # before Linux 4.4
    assert memory.read({}) == 1000 * PAGE
