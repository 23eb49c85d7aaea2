"""Files of the OS kernel: read whole, however long, and never left open."""

from __future__ import annotations

import os
import time
import warnings
from pathlib import Path

import pytest

from perfmon_widgets.collectors.linux.system_file import SystemFile, read_once


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


def test_a_file_that_is_kept_open_is_read_anew_each_time_however_long_it_has_become(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"short")
    file = SystemFile(path)
    assert file.read() == b"short"
    path.write_bytes(long := os.urandom(100_000))
    assert file.read() == long
    assert file.read() == long
    path.write_bytes(b"")
    assert file.read() == b""


def test_a_process_that_has_ended_says_so():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from Python 3.12, where threads are running
        child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    file = SystemFile(Path(f"/proc/{child}/stat"))
    assert file.read().startswith(b"%d (" % child)
    os.kill(child, 9)
    os.waitpid(child, 0)
    with pytest.raises(ProcessLookupError):
        file.read()
