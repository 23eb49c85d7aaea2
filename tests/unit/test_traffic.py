"""Disk traffic of a process tree: real children that write, end and are waited for."""

from __future__ import annotations

import math
import shutil
import subprocess

import pytest

from perfmon_widgets.collectors import allowance
from perfmon_widgets.collectors.linux import newcomers, tree
from perfmon_widgets.collectors.linux.traffic import Traffic
from perfmon_widgets.collectors.linux.tree import Tree


@pytest.fixture(autouse=True)
def look_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Children are looked for and read at every reading, whatever that costs."""
    monkeypatch.setattr(newcomers, "_EVERY", 0.0)
    monkeypatch.setattr(allowance, "_SHARE", math.inf)


def write(child: subprocess.Popen[str], megabytes: int) -> None:
    child.stdin.write(f"{megabytes}\n")
    child.stdin.flush()
    assert child.stdout.readline() == "written\n"


def test_an_os_kernel_that_does_not_count_is_an_error(tmp_path):
    process = tmp_path / "4242"
    process.mkdir()
    (process / "statm").write_text("1 1 1 0 0 0 0")
    (process / "stat").write_text("4242 (x) " + "0 " * 40)
    (process / "io").write_text("rchar: 0\n")
    with pytest.raises(OSError, match="no write_bytes in"):
        Traffic(Tree(4242, tmp_path))


def test_the_count_of_one_that_nobody_in_the_tree_waits_for_is_not_lost(tmp_path, monkeypatch):
    """An orphan, or a child of a process that ignores SIGCHLD: the row was missing, without a reason."""
    monkeypatch.setattr(tree, "_KEPT_OPEN", 0)  # the files are replaced here

    def process(number: int, parent: int, written: int) -> None:
        folder = tmp_path / str(number)
        folder.mkdir(exist_ok=True)
        numbers = "0 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 5 9000 1 1"
        (folder / "stat").write_text(f"{number} (x) S {parent} 1 1 {numbers}\n")
        (folder / "statm").write_text("5000 1 1 1 0 0 0\n")
        (folder / "io").write_text(
            "rchar: 0\nwchar: 0\nsyscr: 0\nsyscw: 0\nread_bytes: 0\n"
            f"write_bytes: {written}\ncancelled_write_bytes: 0\n"
        )

    process(1, 0, 0)
    process(60, 1, 1000)
    process(70, 60, 5000)
    process(80, 70, 7000)
    watched = Tree(60, tmp_path)
    traffic = Traffic(watched)

    def read() -> float:
        watched.read()
        return traffic.read()[1]

    assert math.isnan(read())
    process(80, 1, 7000)  # its parent has ended, and the root has waited for that
    shutil.rmtree(tmp_path / "70")
    process(60, 1, 6000)
    assert read() == 0
    shutil.rmtree(tmp_path / "80")
    assert read() == 0
    process(60, 1, 6500)
    assert read() > 0
    process(90, 60, 0)
    assert read() == 0
    process(90, 60, 300)
    assert read() > 0
    shutil.rmtree(tmp_path / "90")  # the root ignores SIGCHLD
    assert read() == 0
