"""The CSV log on real disks that fill up, are read-only or out of reach, and in processes that are killed."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fakes.logs import Logged

from perfmon_widgets import read_csv


@pytest.fixture
def logged(folder: Path) -> Iterator[Logged]:
    made = Logged()
    yield made
    made.log.stop()


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 64 KiB."""
    if os.getuid() != 0:
        pytest.skip("mounting a tiny disk takes root")
    mount = tmp_path / "tiny"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", mount], check=True)
    yield mount
    subprocess.run(["umount", "-l", mount], check=True)


# -- columns that are added --------------------------------------------------------------------------------


PARTS_KILLED = """
import sys
from perfmon_widgets import CsvLog
from perfmon_widgets.core.history import microseconds
log = CsvLog(["a"], lambda: (0, [], []))
log.start("run.csv")
for number in range(1, 10_000):
    if number % 5 == 0 and number < 5 * 100:
        log.add_columns([f"more{number}"])
    log.append(number, microseconds(number), [number] * (1 + min(number, 499) // 5))
    print(number, flush=True)
"""


@pytest.mark.parametrize("rows", [1, 4, 5, 6, 23, 24, 25, 250])
def test_a_kill_while_parts_are_begun_loses_at_most_the_row_being_written(folder, rows):
    process = subprocess.Popen([sys.executable, "-c", PARTS_KILLED], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for _ in range(rows):
        last = int(process.stdout.readline())
    process.kill()
    process.stdout.close()
    process.wait()
    numbers = read_csv(folder / "run.csv")["a"].tolist()
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) >= last == rows


# -- what can go wrong -------------------------------------------------------------------------------------


def nothing_has_changed(logged: Logged, folder: Path) -> None:
    assert not logged.log.running
    assert logged.log.path is None
    assert logged.log.rows == 0
    logged.add(1, 1)  # the sampling goes on
    path = logged.log.start(folder / "good.csv")
    assert len(read_csv(path)) == 1


def test_a_directory_without_permission_is_an_error_that_says_so(run_python, tmp_path):
    """As an ordinary user, since root may write everywhere."""
    code = (
        "import os, sys\n"
        "from perfmon_widgets.core.csv_log import CsvLog\n"
        "import numpy\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "log = CsvLog(['a_percent'], lambda: (0, [], []))\n"
        "try:\n"
        "    log.start(sys.argv[1])\n"
        "except PermissionError as error:\n"
        "    print(error)\n"
        "print(log.running)\n"
    )
    if os.getuid() != 0:
        code = code.replace("os.setgid(65534); os.setuid(65534)\n", "")
    locked = tmp_path / "locked"
    locked.mkdir()
    for parent in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        parent.chmod(0o755)
    locked.chmod(0o555)
    ended = run_python(code, locked / "run.csv")
    assert ended.stderr == ""
    assert f"no permission to write in {locked}" in ended.stdout
    assert ended.stdout.endswith("False\n")


def test_a_directory_that_nobody_may_enter_is_an_error_that_says_so(run_python, tmp_path):
    code = (
        "import os, sys\n"
        "from perfmon_widgets.core.csv_log import CsvLog\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "try:\n"
        "    CsvLog(['a_percent'], lambda: (0, [], [])).start(sys.argv[1])\n"
        "except PermissionError as error:\n"
        "    print(error)\n"
    )
    if os.getuid() != 0:
        code = code.replace("os.setgid(65534); os.setuid(65534)\n", "")
    locked = tmp_path / "locked"
    locked.mkdir()
    for parent in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        parent.chmod(0o755)
    locked.chmod(0o000)
    ended = run_python(code, locked / "run.csv")
    locked.chmod(0o755)
    assert ended.stderr == ""
    assert f"no permission to write in {locked}" in ended.stdout


def test_a_read_only_disk_is_an_error_that_says_so(logged, folder, tiny_disk):
    subprocess.run(["mount", "-o", "remount,ro", tiny_disk], check=True)
    with pytest.raises(OSError, match=r"tiny is read-only; name a directory that you may write in"):
        logged.log.start(tiny_disk / "run.csv")
    nothing_has_changed(logged, folder)


def test_a_disk_that_fills_up_keeps_what_was_written_and_gets_the_rest_when_there_is_room(logged, tiny_disk):
    ballast = tiny_disk / "ballast"
    path = logged.log.start(tiny_disk / "run.csv")
    ballast.write_bytes(bytes(40 * 1024))
    for number in range(800):
        logged.add(number, number + 0.5)
    assert logged.log.running
    assert "the disk is full" in logged.log.error
    assert str(path) in logged.log.error
    frame = read_csv(path)
    assert 100 < len(frame) == logged.log.rows < 800
    assert frame["a_percent"].tolist() == list(range(len(frame)))
    assert path.read_bytes().endswith(b"\n")
    ballast.unlink()
    for number in range(800, 804):
        logged.add(number, number + 0.5)
    assert read_csv(path)["a_percent"].tolist() == list(range(804))
    assert logged.log.error is None


def test_a_log_on_a_full_disk_can_be_started_on_another(logged, folder, tiny_disk):
    ballast = tiny_disk / "ballast"
    path = logged.log.start(tiny_disk / "run.csv")
    ballast.write_bytes(bytes(60 * 1024))
    for number in range(1000):
        logged.add(number, number)
    logged.log.stop()
    assert "rows are missing in the file" in logged.log.error
    again = logged.log.start(folder / "run.csv")
    assert logged.log.error is None
    logged.add(-1, -1)
    assert read_csv(again)["a_percent"].tolist() == [*range(1000), -1]
    assert len(read_csv(path)) < 1000


def test_a_start_on_a_full_disk_raises_and_leaves_no_file(logged, folder, tiny_disk):
    (tiny_disk / "ballast").write_bytes(bytes(64 * 1024 - 1))
    for number in range(100):
        logged.add(number, number)
    with pytest.raises(OSError, match=r"the disk is full; free some space"):
        logged.log.start(tiny_disk / "run.csv")
    assert not logged.log.running
    assert [file.name for file in tiny_disk.iterdir()] == ["ballast"]


def test_rows_that_somebody_else_added_survive_a_full_disk(logged, tiny_disk):
    path = logged.log.start(tiny_disk / "run.csv")
    logged.add(1, 1)
    with path.open("a") as file:
        file.write("2023-11-14T22:13:21.500000Z,77.0,77.0\n" * 3)
    for number in range(3000):
        logged.add(number, number + 0.5)
    assert logged.log.running
    assert "the disk is full" in logged.log.error
    content = path.read_text()
    assert content.count(",77.0,77.0\n") == 3
    assert content.endswith("\n")
    assert content.count("\n") == 1 + 3 + logged.log.rows


def test_a_file_that_is_emptied_while_it_is_written_holds_no_zeros_after_a_full_disk(logged, tiny_disk):
    path = logged.log.start(tiny_disk / "run.csv")
    for number in range(200):
        logged.add(number, number)
    os.truncate(path, 0)
    for number in range(3000):
        logged.add(number, number)
    assert logged.log.running
    assert "the disk is full" in logged.log.error
    assert b"\0" not in path.read_bytes()


KILLED = """
import sys, threading
from perfmon_widgets import PerformanceMonitor
sys.path.insert(0, sys.argv[2])
from fakes.collectors import FakeCollector
monitor = PerformanceMonitor([FakeCollector(*[f"core{n}/cpu_percent" for n in range(400)])], interval=0.005)
path = monitor.log.start(sys.argv[1])
monitor.start()
enough = threading.Event()
monitor.on_sample(lambda sample: print(int(sample.values["core0/cpu_percent"]), flush=True))
enough.wait()
"""


@pytest.mark.parametrize("rows", [1, 30, 61])
def test_a_kill_at_any_moment_loses_at_most_the_row_being_written(folder, rows):
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, folder / "run.csv", Path(__file__).parents[1]], stdout=subprocess.PIPE
    ) as child:
        reported = 0
        while reported < rows:
            assert select.select([child.stdout], [], [], 30)[0], "the child does not sample"
            reported = int(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
        reported = max([reported, *map(int, child.stdout.read().split(b"\n")[:-1])])
    numbers = read_csv(folder / "run.csv")["core0/cpu_percent"].tolist()
    assert numbers == list(range(len(numbers)))
    assert len(numbers) >= reported + 1  # every row that was reported is on disk


# -- fork --------------------------------------------------------------------------------------------------


def test_a_forked_child_leaves_the_file_alone(logged, forked):
    path = logged.log.start("run.csv")

    def child() -> bool:
        logged.add(99, 99)
        logged.log.stop()
        return logged.log.running

    assert forked(child) is False
    logged.add(1, 1)
    assert logged.log.running
    assert read_csv(path)["a_percent"].tolist() == [1.0]


def test_a_program_started_meanwhile_does_not_inherit_the_file(logged):
    logged.log.start("run.csv")
    listed = subprocess.run(
        ["ls", "-l", "/proc/self/fd"], capture_output=True, text=True, check=True, close_fds=False
    )
    assert "run.csv" not in listed.stdout


# -- reading back ------------------------------------------------------------------------------------------


def test_a_disk_without_room_for_a_part_has_the_rows_go_on_without_the_new_columns(tiny_disk):
    logged = Logged()
    path = logged.log.start(tiny_disk / "run.csv")
    filler = tiny_disk / "filler"
    filler.write_bytes(bytes(60 * 1024))  # of 64 KiB; the last page is the log's
    logged.add_columns("loss")
    logged.add(1, 2, 3)
    assert logged.log.running
    assert logged.log.error is None
    assert logged.log.columns_error == (
        f"cannot begin another part of {path}: No space left on device; until that succeeds, rows are "
        "written without loss"
    )
    assert sorted(each.name for each in tiny_disk.iterdir()) == ["filler", "run.csv"]
    filler.unlink()
    logged.add(4, 5, 6)
    assert logged.log.columns_error is None
    assert read_csv(path).to_numpy().tolist() == [[1, 2, pytest.approx(np.nan, nan_ok=True)], [4, 5, 6]]
    logged.log.stop()
