"""What real child programs read from and write to disks."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from perfmon_widgets.collectors import allowance
from perfmon_widgets.collectors.linux import newcomers
from perfmon_widgets.collectors.linux.traffic import Traffic
from perfmon_widgets.collectors.linux.tree import Tree

MB = 1_000_000
# Writes as many megabytes as each line of its input says.
WRITING = f"""
import sys
print("ready", flush=True)
for line in sys.stdin:
    with open(sys.argv[1], "ab") as file:
        file.write(b"x" * int(line) * {MB})
    print("written", flush=True)
"""


@pytest.fixture(autouse=True)
def look_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Children are looked for and read at every reading, whatever that costs."""
    monkeypatch.setattr(newcomers, "_EVERY", 0.0)
    monkeypatch.setattr(allowance, "_SHARE", math.inf)


class Watched:
    """This process's tree, asked how many megabytes were written since the last time."""

    def __init__(self) -> None:
        self._tree = Tree(os.getpid())
        self._traffic = Traffic(self._tree)
        self._at = math.nan
        self.written()

    def written(self) -> float:
        self._tree.read()
        _, rate = self._traffic.read()
        before, self._at = self._at, time.monotonic()
        return rate * (self._at - before) / MB


@contextmanager
def writer(folder: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-S", "-c", WRITING, str(folder / "written")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            assert child.stdout.readline() == "ready\n"
            yield child
        finally:
            child.kill()


def write(child: subprocess.Popen[str], megabytes: int) -> None:
    child.stdin.write(f"{megabytes}\n")
    child.stdin.flush()
    assert child.stdout.readline() == "written\n"


@pytest.fixture
def folder(tmp_path: Path, pytestconfig: pytest.Config) -> Iterator[Path]:
    """A folder on a disk: what is written to a file system in memory is not counted."""
    for folder in (tmp_path, Path(pytestconfig.cache.mkdir("traffic"))):
        before = _counted()
        (folder / "written").write_bytes(b"x" * MB)
        if _counted() > before:
            yield folder
            (folder / "written").unlink()
            return
    pytest.skip("there is no disk to write to")


def _counted() -> int:
    return int(Path("/proc/self/io").read_text().split("\nwrite_bytes: ")[1].split()[0])


def test_what_a_child_writes_counts_while_it_runs_and_once(folder):
    watched = Watched()
    with writer(folder) as child:
        assert watched.written() == pytest.approx(0, abs=0.5)
        write(child, 20)
        assert watched.written() == pytest.approx(20, rel=0.1)
        assert watched.written() == pytest.approx(0, abs=0.5)
        write(child, 10)
        child.stdin.close()
        child.wait()  # what it wrote is this process's now
        assert watched.written() == pytest.approx(10, rel=0.1)
    assert watched.written() == pytest.approx(0, abs=0.5)
    assert watched.written() == pytest.approx(0, abs=0.5)


def test_what_a_child_wrote_before_it_was_seen_does_not_count(folder, monkeypatch):
    with writer(folder) as child:
        write(child, 20)
        watched = Watched()
        assert watched.written() == pytest.approx(0, abs=0.5)
        write(child, 5)
        assert watched.written() == pytest.approx(5, rel=0.1)
        child.stdin.close()
        child.wait()
        assert watched.written() == pytest.approx(0, abs=0.5)


def test_what_a_child_writes_that_lives_between_two_readings_counts(folder):
    watched = Watched()
    with writer(folder) as child:
        write(child, 15)
        child.stdin.close()
        child.wait()
    assert watched.written() == pytest.approx(15, rel=0.1)


def test_where_it_is_dear_the_last_numbers_stand(folder, monkeypatch):
    watched = Watched()
    with writer(folder) as child:
        write(child, 20)
        first = watched.written()
        monkeypatch.setattr(allowance, "_SHARE", 1e-9)
        watched.written()
        rates = watched._traffic.read()
        write(child, 50)
        assert watched._traffic.read() == rates
    assert first == pytest.approx(20, rel=0.1)
