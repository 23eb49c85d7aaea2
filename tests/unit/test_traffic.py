"""Disk traffic of a process tree: real children that write, end and are waited for."""

from __future__ import annotations

import math
import subprocess

import pytest

from perfmon_widgets.collectors import allowance
from perfmon_widgets.collectors.linux import tree
from perfmon_widgets.collectors.linux.traffic import Traffic
from perfmon_widgets.collectors.linux.tree import Tree


@pytest.fixture(autouse=True)
def look_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Children are looked for and read at every reading, whatever that costs."""
    monkeypatch.setattr(tree, "_EVERY", 0.0)
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
        Traffic(Tree(4242, tmp_path), tmp_path)
