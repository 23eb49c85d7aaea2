"""The rules of the tests themselves: who runs alone, who may start a program."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]

# Six tests in each of two files, so that each of two processes has one; each notes when it ran.
NOTES_ITS_TIME = """
import json, os, pathlib, time
import pytest

def note(name):
    began = time.monotonic()
    time.sleep(0.05)
    with open(pathlib.Path(__file__).with_name("times"), "a") as times:
        print(json.dumps([name, os.environ["PYTEST_XDIST_WORKER"], began, time.monotonic()]), file=times)

@pytest.mark.parametrize("number", range(6))
def test_with_others(number):
    note("with others")

@pytest.mark.alone
@pytest.mark.parametrize("number", range(2))
def test_alone(number):
    note("alone")
"""


def pytest_in(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run pytest on a folder, with the hooks of tests/parallel.py."""
    shutil.copy(TESTS / "parallel.py", folder)
    if not (folder / "conftest.py").exists():
        (folder / "conftest.py").write_text("from parallel import pytest_runtest_protocol\n")
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = alone\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # quicker
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_test_marked_alone_overlaps_with_no_other(tmp_path):
    for name in ("test_one.py", "test_two.py"):
        (tmp_path / name).write_text(NOTES_ITS_TIME)
    ran = pytest_in(tmp_path, "-p", "xdist", "-n", "2", "--dist", "loadfile")
    assert ran.returncode == 0, ran.stdout
    times = [json.loads(line) for line in (tmp_path / "times").read_text().splitlines()]
    assert len({worker for _, worker, *_ in times}) == 2
    alone = [(began, ended) for name, _, began, ended in times if name == "alone"]
    assert len(alone) == 4
    for began, ended in alone:
        assert [one for one in times if one[2] < ended and began < one[3]] == [
            one for one in times if one[2:] == [began, ended]
        ]


def test_a_unit_test_that_starts_a_program_fails(tmp_path):
    shutil.copy(TESTS / "unit" / "conftest.py", tmp_path)
    (tmp_path / "test_program.py").write_text(
        "import subprocess, sys\n"
        "def test_program():\n    subprocess.run([sys.executable, '-c', ''], check=True)\n"
        "def test_none():\n    pass\n"
    )
    ran = pytest_in(tmp_path)
    assert "1 failed, 1 passed" in ran.stdout
    assert "move the test to tests/integration" in ran.stdout
