"""Which processes are found to be new, in canned files and among real ones."""

from __future__ import annotations

import math
import os
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from fakes.trees import forked

from perfmon_widgets.collectors import allowance
from perfmon_widgets.collectors.linux import newcomers
from perfmon_widgets.collectors.linux.newcomers import Newcomer, Newcomers


@pytest.fixture(autouse=True)
def whatever_it_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allowance, "_SHARE", math.inf)


class FakeProcesses:
    """A /proc with canned processes, and the newest id in loadavg."""

    def __init__(self, proc: Path) -> None:
        self.proc = proc
        self.sessions: dict[int, int] = {}
        (proc / "self").symlink_to(str(os.getpid()))

    def start(self, number: int, parent: int = 1, exit_signal: int = 17, session: int = 6) -> None:
        (self.proc / str(number)).mkdir()
        self.sessions[number] = session
        fields = f"S {parent} 5 {session} " + "0 " * 31 + f"{exit_signal} 0 0"
        (self.proc / str(number) / "stat").write_text(f"{number} (x y) {fields}\n")

    def session(self, number: int) -> int:
        """Stands for ``os.getsid``."""
        if number not in self.sessions:
            raise ProcessLookupError(number)
        return self.sessions[number]

    def give(self, number: int) -> None:
        """Make this the newest id."""
        (self.proc / "loadavg").write_text(f"0.1 0.2 0.3 1/99 {number}\n")


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeProcesses:
    made = FakeProcesses(tmp_path)
    monkeypatch.setattr(os, "getsid", made.session)
    made.start(1, parent=0)
    made.give(1)
    return made


def test_only_what_has_started_since_the_last_look_is_new(fake):
    seen = Newcomers(1, fake.proc)
    assert seen.look({}) == {1: Newcomer(parent=0, session=6)}
    assert seen.look({}) == {}
    fake.start(12)
    fake.give(12)
    assert seen.look({}) == {12: Newcomer(parent=1, session=6)}
    assert seen.look({}) == {}


def test_all_processes_are_listed_only_where_ids_do_not_do(fake, monkeypatch):
    listed: list[object] = []
    listdir = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: listed.append(path) or listdir(path))
    seen = Newcomers(1, fake.proc)
    for number in range(20, 60, 2):
        fake.start(number)
        fake.give(number)
        seen.look({})
    assert len(listed) == 1
    for number in range(100, 300):  # many at once
        fake.start(number)
    fake.give(299)
    assert seen.look({}).keys() == set(range(100, 300))
    assert len(listed) == 2
    fake.start(7)  # the ids have begun again at low numbers
    fake.give(7)
    assert 7 in seen.look({})
    assert len(listed) == 3


def test_a_thread_is_not_a_process(fake):
    seen = Newcomers(1, fake.proc)
    seen.look({})
    fake.start(11, exit_signal=-1)
    fake.start(12)
    fake.give(12)
    assert seen.look({}).keys() == {12}


def test_only_processes_that_can_be_descendants_are_read(fake, monkeypatch):
    """Others of a busy machine have the sessions of others."""
    read: list[str] = []
    read_once = newcomers.read_once
    monkeypatch.setattr(newcomers, "read_once", lambda path: read.append(path) or read_once(path))
    seen = Newcomers(1, fake.proc)
    members = {50: SimpleNamespace(session=6), 51: SimpleNamespace(session=40)}  # the leader 40 has ended
    seen.look(members)
    read.clear()
    sessions = {2: 99, 3: 3, 4: 3, 5: 98, 6: 50, 7: 6, 8: 40}
    for number, session in sessions.items():
        fake.start(number, session=session)
    fake.give(8)
    assert seen.look(members).keys() == {3, 4, 6, 7, 8}
    assert len(read) == 5


def test_an_id_that_was_given_and_is_not_visible_yet_is_read_once_more(fake):
    seen = Newcomers(1, fake.proc)
    seen.look({})
    fake.give(12)
    assert seen.look({}) == {}
    fake.start(12)
    assert seen.look({}).keys() == {12}
    assert seen.look({}) == {}


def test_a_number_that_was_forgotten_is_another_process(fake):
    seen = Newcomers(1, fake.proc)
    seen.look({})
    seen.forget(1)
    assert seen.look({}).keys() == {1}
    assert seen.look({}) == {}


def test_a_child_that_was_listed_without_its_parent_is_found_again_with_it(fake):
    seen = Newcomers(1, fake.proc)
    fake.start(30, parent=29)
    assert seen.look({}).keys() == {1, 30}
    fake.start(29)
    fake.give(30)
    assert seen.look({}).keys() == {29, 30}


@pytest.mark.parametrize("loadavg", ["0.00 0.00 0.00 0/0 0\n", None], ids=["gVisor", "hidden"])
def test_without_a_newest_id_the_processes_are_listed(fake, loadavg):
    (fake.proc / "loadavg").unlink()
    if loadavg is not None:
        (fake.proc / "loadavg").write_text(loadavg)
    seen = Newcomers(1, fake.proc)
    seen.look({})
    fake.start(12)
    assert seen.look({}).keys() == {12}


def test_a_loadavg_that_is_not_of_this_proc_is_not_believed(fake):
    """LXC, Incus and Proxmox mount a file of LXCFS over it: it has the newest id of the whole machine."""
    (fake.proc / "loadavg").unlink()
    (fake.proc / "loadavg").symlink_to("/proc/loadavg")  # of another file system than the rest
    seen = Newcomers(1, fake.proc)
    seen.look({})
    for number in (12, 13):  # the real one may change, or stay
        fake.start(number)
        assert seen.look({}).keys() == {number}


def test_a_loadavg_that_never_changes_delays_newcomers_and_does_not_hide_them(fake, monkeypatch):
    monkeypatch.setattr(newcomers, "_EVERY", 0.0)
    seen = Newcomers(1, fake.proc)
    seen.look({})
    fake.start(8)
    assert seen.look({}).keys() == {8}


def test_where_proc_shows_other_numbers_than_ours_all_are_listed(fake):
    """``unshare --pid --fork`` without a /proc of its own: loadavg has the ids of the namespace inside."""
    (fake.proc / "self").unlink()
    (fake.proc / "self").symlink_to("4242")
    seen = Newcomers(1, fake.proc)
    seen.look({})
    fake.start(5000)
    fake.give(11)
    assert seen.look({}).keys() == {5000}


def test_real_children_are_found_and_real_threads_are_not():
    seen = Newcomers(os.getpid())
    seen.look({})
    ready, done = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: (ready.set(), done.wait(60)))
    thread.start()
    ready.wait(60)
    try:
        with forked() as child:
            found = seen.look({})
        assert found[child].parent == os.getpid()
        assert thread.native_id not in found
    finally:
        done.set()
        thread.join()
