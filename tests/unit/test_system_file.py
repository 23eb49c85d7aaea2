"""Files of the OS kernel: read whole, however long, and never left open."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from perfmon_widgets.collectors.linux.system_file import ShortFile, SystemFile, read_once


def test_a_file_that_is_read_once_is_whole_though_a_list_comes_in_parts():
    memory = read_once("/proc/self/maps")
    assert len(memory) > 16384
    assert memory.endswith(b"\n")
    assert b"[stack]" in memory  # one of the last
    assert read_once(Path("/proc/version")) == Path("/proc/version").read_bytes()


def test_a_file_that_is_read_once_is_not_left_open():
    before = os.listdir("/proc/self/fd")
    read_once("/proc/version")
    with pytest.raises(IsADirectoryError):  # it can be opened, but not read
        read_once("/proc/self")
    assert os.listdir("/proc/self/fd") == before


def test_a_file_that_is_not_there_says_so(tmp_path):
    for read in (read_once, SystemFile):
        with pytest.raises(FileNotFoundError, match="nothing"):
            read(tmp_path / "nothing")


def short_file(path: Path) -> ShortFile:
    return ShortFile(path, mount=path.parents[-2])


@pytest.mark.parametrize("kind", [SystemFile, short_file])
def test_a_file_that_is_kept_open_is_read_anew_each_time_however_long_it_has_become(tmp_path, kind):
    path = tmp_path / "file"
    path.write_bytes(b"short")
    file = kind(path)
    assert file.read() == b"short"
    path.write_bytes(long := os.urandom(100_000))
    assert file.read() == long
    assert file.read() == long
    path.write_bytes(b"")
    assert file.read() == b""


@pytest.mark.parametrize("kind", [SystemFile, short_file])
def test_a_process_that_has_ended_says_so(kind):
    child = os.posix_spawn("/bin/sleep", ["sleep", "60"], {})
    file = kind(Path(f"/proc/{child}/stat"))
    assert file.read().startswith(b"%d (" % child)
    os.kill(child, 9)
    os.waitpid(child, 0)
    with pytest.raises(ProcessLookupError):
        file.read()


@contextmanager
def waiting_for_the_gil() -> Iterator[list[bool]]:
    """A thread that gets the GIL only if another lets go of it of its own accord: what it then does."""
    gate, ran = threading.Lock(), []
    gate.acquire()

    def work() -> None:
        with gate:
            ran.append(True)

    thread = threading.Thread(target=work)
    usual = sys.getswitchinterval()
    try:
        sys.setswitchinterval(60)
        thread.start()
        time.sleep(0.1)  # so that it is at the gate: on its way there it would take the GIL by itself
        gate.release()
        yield ran
    finally:
        sys.setswitchinterval(usual)
        thread.join()


def let_go(file: SystemFile, patience: float = 10.0) -> bool:
    """Whether another thread ran while the file was read, again and again for so many seconds."""
    with waiting_for_the_gil() as ran:
        until = time.monotonic() + patience
        while not ran and time.monotonic() < until:
            file.read()
        return bool(ran)


def test_a_short_file_of_the_os_kernel_is_read_without_letting_go_of_the_gil():
    assert not let_go(short_file(Path("/proc/self/statm")), patience=0.3)
    assert not let_go(short_file(Path("/proc/meminfo")), patience=0.3)
    assert let_go(SystemFile(Path("/proc/meminfo")))


@pytest.mark.parametrize(("over", "name"), [("meminfo", "meminfo"), ("self", "self/statm")])
def test_what_is_mounted_over_a_file_or_a_folder_is_read_with_the_gil_let_go_of(tmp_path, over, name):
    """As lxcfs is over /proc/meminfo and /proc/pressure; a link leads to another device just as well."""
    (tmp_path / over).symlink_to(f"/proc/{over}")
    file = ShortFile(tmp_path / name, mount=tmp_path)
    assert file.read()
    assert let_go(file)
