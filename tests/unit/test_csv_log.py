"""The rows of the history on disk: one line, one write, whatever happens to the file or to the process."""

from __future__ import annotations

import csv
import errno
import io
import math
import os
import re
import resource
import stat
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fakes.collectors import FakeCollector
from fakes.logs import START, Logged
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from perfmon_widgets import CsvLog, PerformanceMonitor, read_csv
from perfmon_widgets.core.history import microseconds


@pytest.fixture
def logged(folder: Path) -> Iterator[Logged]:
    made = Logged()
    yield made
    made.log.stop()


# -- what is written ---------------------------------------------------------------------------------------


def test_a_log_begins_with_the_rows_of_the_window_and_goes_on_with_each_new_one(logged):
    logged.add(1.5, 10)
    logged.add(2.5, 20)
    path = logged.log.start("run.csv")
    logged.add(3.5, 30)
    assert path.read_text() == (
        "time,a_percent,b_bytes\n"
        "2023-11-14T22:13:21.000000Z,1.5,10.0\n"
        "2023-11-14T22:13:22.000000Z,2.5,20.0\n"
        "2023-11-14T22:13:23.000000Z,3.5,30.0\n"
    )
    assert logged.log.rows == 3


def test_each_row_is_in_the_file_as_soon_as_it_is_there(logged):
    path = logged.log.start("run.csv")
    for number in range(1, 4):
        logged.add(number, number)
        assert path.read_bytes().count(b"\n") == 1 + number
        assert path.read_bytes().endswith(b"\n")


def test_a_missing_number_is_an_empty_field_and_every_other_has_all_its_digits(logged):
    path = logged.log.start("run.csv")
    logged.add(math.nan, 0.1 + 0.2)
    logged.add(math.inf, -math.inf)
    logged.add(3.141592653589793e300, 5e-324)
    lines = path.read_text().splitlines()[1:]
    assert [line.split(",")[1:] for line in lines] == [
        ["", "0.30000000000000004"],
        ["inf", "-inf"],
        ["3.141592653589793e+300", "5e-324"],
    ]


def test_the_time_is_utc_to_the_microsecond_wherever_the_computer_stands(logged, monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    logged.time = START + 0.123456
    path = logged.log.start("run.csv")
    logged.add(1, 1)
    assert path.read_text().splitlines()[1].startswith("2023-11-14T22:13:21.123456Z,")


def test_a_log_that_is_off_writes_nothing(logged, folder):
    logged.add(1, 1)
    assert not logged.log.running
    assert (logged.log.path, logged.log.rows, logged.log.error) == (None, 0, None)
    assert list(folder.iterdir()) == []


def test_a_stop_closes_the_file_and_keeps_what_it_holds(logged):
    logged.log.start("run.csv")
    logged.add(1, 1)
    logged.log.stop()
    logged.log.stop()
    logged.add(2, 2)
    assert not logged.log.running
    assert logged.log.rows == 1
    assert read_csv(logged.log.path)["a_percent"].tolist() == [1.0]


def test_a_log_says_what_it_does(logged, folder, monkeypatch):
    assert repr(logged.log) == "<CsvLog off: start() begins one>"
    path = logged.log.start("run.csv")
    logged.add(1, 10)
    assert repr(logged.log) == f"<CsvLog on: 1 rows in {path}>"
    path.unlink()
    logged.add(2, 20)
    assert repr(logged.log) == f"<CsvLog off: 1 rows in {path}; {logged.log.error}>"
    assert "deleted" in logged.log.error


def test_units_are_read_back(folder):
    logged = Logged("a_percent", "gpu0/memory_used_bytes", "tokens_per_second", "loss")
    logged.add(1, 2, 3, 4)
    frame = read_csv(logged.log.start("run.csv"))
    assert {name: about["unit"] for name, about in frame.attrs.items()} == {
        "a_percent": "percent",
        "gpu0/memory_used_bytes": "bytes",
        "tokens_per_second": "tokens_per_second",
        "loss": "",
    }
    logged.log.stop()


def test_each_row_is_one_write(logged):
    """So that a kill tears at most one line; counted by the OS kernel."""
    logged.log.start("run.csv")
    writes = lambda: int(re.search(r"syscw: (\d+)", Path("/proc/thread-self/io").read_text())[1])  # noqa: E731
    for number in range(5):
        before = writes()
        logged.add(number + 0.123456789, 1e15 + number)
        assert writes() - before == 1


# -- which file --------------------------------------------------------------------------------------------


def test_the_file_name_nobody_has_to_think_of_is_the_time_in_the_working_directory(logged, folder):
    before = datetime.now().replace(microsecond=0)
    path = logged.log.start()
    assert path.parent == folder
    written = re.fullmatch(r"perfmon-(\d{8}-\d{6})\.csv", path.name)
    assert written
    assert before <= datetime.strptime(written[1], "%Y%m%d-%H%M%S") <= datetime.now()
    assert logged.log.path == path


def test_an_empty_path_is_no_path(logged, folder):
    """As it comes from a field that nobody has filled in."""
    path = logged.log.start("")
    assert path.parent == folder
    assert path.name.startswith("perfmon-")
    assert logged.log.start("") == path


def test_a_log_started_twice_in_one_second_has_two_files(logged, folder):
    paths = set()
    for _ in range(3):
        paths.add(logged.log.start())
        logged.log.stop()
    assert len(paths) == 3
    assert sorted(folder.iterdir()) == sorted(paths)


def test_a_file_that_exists_is_never_touched(logged, folder):
    (folder / "run.csv").write_text("precious")
    (folder / "run-2.csv").write_text("precious too")
    assert logged.log.start("run.csv") == folder / "run-3.csv"
    assert (folder / "run.csv").read_text() == "precious"
    assert (folder / "run-2.csv").read_text() == "precious too"


def test_a_link_to_nothing_is_not_followed(logged, folder):
    (folder / "run.csv").symlink_to(folder / "elsewhere")
    assert logged.log.start("run.csv") == folder / "run-2.csv"
    assert not (folder / "elsewhere").exists()


def test_starting_the_log_that_is_running_does_nothing(logged, folder):
    (folder / "run.csv").touch()
    path = logged.log.start("run.csv")
    assert logged.log.start("run.csv") == path  # as it was asked for
    assert logged.log.start(path) == path  # as it is called
    assert logged.log.start() == path
    assert sorted(file.name for file in folder.iterdir()) == ["run-2.csv", "run.csv"]


def test_starting_another_file_while_a_log_is_running_is_refused_and_changes_nothing(logged, folder):
    path = logged.log.start("run.csv")
    with pytest.raises(RuntimeError, match=re.escape(str(path))):
        logged.log.start("other.csv")
    logged.add(1, 1)
    assert logged.log.running
    assert logged.log.path == path
    assert len(read_csv(path)) == 1
    assert [file.name for file in folder.iterdir()] == ["run.csv"]


def test_a_path_may_begin_with_the_home_directory(logged, folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    assert logged.log.start(Path("~/run.csv")) == folder / "run.csv"


def test_the_path_stays_the_same_when_the_working_directory_changes(logged, folder, monkeypatch):
    path = logged.log.start("run.csv")
    (folder / "below").mkdir()
    monkeypatch.chdir(folder / "below")
    logged.add(1, 1)
    assert path.is_absolute()
    assert len(read_csv(path)) == 1


# -- columns that are added --------------------------------------------------------------------------------


def test_a_column_that_is_added_begins_the_next_part_and_read_csv_joins_them(logged, folder):
    logged.add(1, 2)
    path = logged.log.start("run.csv")
    path.chmod(0o640)
    logged.add(3, 4)
    logged.add_columns("loss", "train/loss")
    before = path.read_bytes()
    logged.add(5, 6, 0.5, 7)
    logged.add_columns("third")
    logged.add(7, 8, 0.25, 8, 9)
    assert path.read_bytes() == before
    assert (folder / "run.part2.csv").read_text() == (
        "time,a_percent,b_bytes,loss,train/loss\n2023-11-14T22:13:23.000000Z,5.0,6.0,0.5,7.0\n"
    )
    assert (folder / "run.part3.csv").read_text().startswith("time,a_percent,b_bytes,loss,train/loss,third\n")
    pd.testing.assert_frame_equal(read_csv(path), logged.history.frame())
    assert {stat.S_IMODE(each.stat().st_mode) for each in folder.iterdir()} == {0o640}
    assert (logged.log.path, logged.log.rows) == (path, 4)
    assert logged.log.columns_error is None


def test_columns_that_are_added_together_or_twice_begin_one_part(logged, folder):
    path = logged.log.start("run.csv")
    logged.add_columns("loss")
    logged.add_columns("epoch", "loss")
    logged.add(1, 2, 3, 4)
    logged.log.add_columns(["epoch"])
    logged.add(1, 2, 3, 4)
    assert sorted(each.name for each in folder.iterdir()) == ["run.csv", "run.part2.csv"]
    assert read_csv(path).columns.tolist() == ["a_percent", "b_bytes", "loss", "epoch"]


def test_a_new_part_copies_nothing_however_long_the_log_is(logged, folder, monkeypatch):
    """Copying 521 MiB took 4.3 s, in which no sample was taken."""
    logged.log.start("run.csv")
    for number in range(20_000):
        logged.add(number / 7, number)
    written: list[int] = []
    write = os.write
    monkeypatch.setattr(
        os, "write", lambda file, content: written.append(len(content)) or write(file, content)
    )
    logged.add_columns("loss")
    logged.add(1, 2, 3)
    assert sum(written) < 200
    assert (folder / "run.part2.csv").stat().st_size == sum(written)


def test_a_log_that_is_started_after_a_column_was_added_has_it_from_the_start(logged):
    logged.add(1, 2)
    logged.add_columns("loss")
    logged.add(3, 4, 5)
    assert logged.log.export().splitlines()[0] == b"time,a_percent,b_bytes,loss"
    frame = read_csv(logged.log.start("run.csv"))
    assert frame["loss"].tolist() == pytest.approx([np.nan, 5], nan_ok=True)


def test_a_row_that_is_older_than_a_column_is_written_with_an_empty_field(logged):
    """A log may be started after it knows of the column, and before the history does."""
    logged.add(1, 2)
    logged.log.add_columns(["loss"])
    frame = read_csv(logged.log.start("run.csv"))
    assert frame.iloc[0].tolist() == pytest.approx([1, 2, np.nan], nan_ok=True)


def test_a_shortage_of_descriptors_has_the_rows_go_on_without_the_new_columns(logged, folder):
    path = logged.log.start("run.csv")
    logged.add_columns("loss")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 1, hard))
    try:
        taken = [os.dup(0) for _ in range(free_descriptors())]
        logged.add(1, 2, 3)
        for each in taken:
            os.close(each)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert "Too many open files" in logged.log.columns_error
    logged.add(4, 5, 6)
    assert logged.log.columns_error is None
    assert read_csv(path)["a_percent"].tolist() == [1, 4]


def free_descriptors() -> int:
    """How many more files this process may open."""
    opened = []
    while True:
        try:
            opened.append(os.dup(0))
        except OSError:
            break
    for each in opened:
        os.close(each)
    return len(opened)


def test_a_file_that_was_moved_gets_no_part_in_its_old_place(logged, folder):
    path = logged.log.start("run.csv")
    logged.add(1, 2)
    path.rename(folder / "old.csv")
    path.write_text("somebody else's")
    logged.add_columns("loss")
    logged.add(3, 4, 5)
    assert logged.log.running
    assert f"{path} was moved; stop the log and start another" in logged.log.columns_error
    assert path.read_text() == "somebody else's"
    assert read_csv(folder / "old.csv")["a_percent"].tolist() == [1, 3]
    assert sorted(each.name for each in folder.iterdir()) == ["old.csv", "run.csv"]


def test_a_file_that_was_emptied_goes_on_with_a_header(logged):
    path = logged.log.start("run.csv")
    logged.add(1, 2)
    os.truncate(path, 0)
    logged.add(3, 4)
    assert read_csv(path)["a_percent"].tolist() == [3]
    logged.add_columns("loss")
    logged.add(5, 6, 7)
    assert read_csv(path)["a_percent"].tolist() == [3, 5]


def test_a_reader_misses_no_row_at_any_moment_while_parts_are_begun(logged):
    path = logged.log.start("run.csv")
    done = threading.Event()
    seen: set[int] = set()

    def read() -> None:
        while not done.is_set():
            frame = read_csv(path)
            assert frame["a_percent"].tolist() == list(range(len(frame)))
            seen.add(len(frame))

    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(read)
        for number in range(90):
            for row in range(10):
                logged.add(10 * number + row, 0, *[0] * number)
            logged.add_columns(f"more{number}")
        done.set()
        reader.result(timeout=30)
    assert len(seen) > 1


@pytest.mark.parametrize("content", ["", "time,a_perc"])
def test_a_part_that_a_kill_left_without_a_header_is_passed_over(logged, folder, content):
    path = logged.log.start("run.csv")
    logged.add(1, 2)
    (folder / "run.part2.csv").write_text(content)
    assert read_csv(path)["a_percent"].tolist() == [1]
    logged.add_columns("loss")  # and by the log, if it was an interrupt
    logged.add(3, 4, 5)
    assert (folder / "run.part2.csv").read_text() == content
    assert read_csv(path)["loss"].tolist() == pytest.approx([np.nan, 5], nan_ok=True)


def test_a_file_that_is_no_part_of_the_log_is_refused_by_name(logged, folder):
    path = logged.log.start("run.csv")
    logged.add(1, 2)
    (folder / "run.part2.csv").write_text("time,other\n2023-11-14T22:13:23Z,1\n")
    with pytest.raises(ValueError, match=r"run.part2.csv is not a log .*do not continue those of run.csv"):
        read_csv(path)


def test_a_log_takes_no_name_whose_parts_would_be_those_of_another(logged, folder):
    (folder / "run.part2.csv").touch()
    assert logged.log.start("run.csv").name == "run-2.csv"
    logged.log.stop()
    assert logged.log.start("run-2.part2.csv").name == "run-2.part2-2.csv"
    logged.log.stop()
    assert logged.log.start("other.part2.csv").name == "other.part2.csv"  # there is no other.csv


def test_an_interrupt_in_a_new_part_leaves_the_one_before_going_on(logged, folder, monkeypatch):
    path = logged.log.start("run.csv")
    logged.add_columns("loss")

    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            logged.add(1, 2, 3)
    assert [each.name for each in folder.iterdir()] == ["run.csv"]
    logged.add(4, 5, 6)
    assert read_csv(path).to_numpy().tolist() == [[1, 2, 3], [4, 5, 6]]


# -- no row twice, none lost -------------------------------------------------------------------------------


def test_no_row_is_written_twice_or_lost_when_the_log_is_switched_on_and_off_under_fire(folder):
    monitor = PerformanceMonitor([FakeCollector("a_tokens")])
    done = threading.Event()

    def fire() -> None:
        while not done.is_set():
            monitor.sample()

    threads = [threading.Thread(target=fire) for _ in range(2)]
    for thread in threads:
        thread.start()
    paths, counts = [], []
    for _ in range(10):
        paths.append(monitor.log.start("run.csv"))
        enough = monitor.latest
        while monitor.latest is enough:
            pass
        monitor.log.stop()
        counts.append(monitor.log.rows)
    done.set()
    for thread in threads:
        thread.join()
    for path, count in zip(paths, counts, strict=True):
        numbers = read_csv(path)["a_tokens"].tolist()
        assert numbers == list(range(len(numbers)))
        assert len(numbers) == count


# -- what can go wrong -------------------------------------------------------------------------------------


def nothing_has_changed(logged: Logged, folder: Path) -> None:
    assert not logged.log.running
    assert logged.log.path is None
    assert logged.log.rows == 0
    logged.add(1, 1)  # the sampling goes on
    path = logged.log.start(folder / "good.csv")
    assert len(read_csv(path)) == 1


def test_a_directory_that_is_missing_is_an_error_that_says_so(logged, folder):
    with pytest.raises(FileNotFoundError, match=r"missing.*does not exist.*create it"):
        logged.log.start("missing/run.csv")
    nothing_has_changed(logged, folder)


def test_a_path_through_a_file_is_an_error_that_says_so(logged, folder):
    (folder / "file").touch()
    with pytest.raises(NotADirectoryError, match=r"file is not a directory"):
        logged.log.start("file/run.csv")
    nothing_has_changed(logged, folder)


@pytest.mark.parametrize("path", [".", "below", Path()])
def test_a_path_that_is_a_directory_is_an_error_that_says_so(logged, folder, path):
    (folder / "below").mkdir()
    with pytest.raises(IsADirectoryError, match=r"it is a directory; name a file in it"):
        logged.log.start(path)
    nothing_has_changed(logged, folder)


def test_a_name_that_is_too_long_is_an_error_that_names_it(logged, folder):
    with pytest.raises(OSError, match=r"cannot log to .*x{300}.*too long"):
        logged.log.start("x" * 300 + ".csv")
    nothing_has_changed(logged, folder)


def test_the_longest_name_that_a_file_can_have_can_be_logged_to(logged, folder):
    """Beside it there is no room for another name: neither for one of the spans nor for a longer one."""
    path = logged.log.start("x" * 251 + ".csv")
    logged.add(1, 1)
    logged.add_columns("loss")
    logged.add(2, 2, 3)
    assert logged.log.error is None
    assert read_csv(path)["loss"].tolist() == pytest.approx([np.nan, 3], nan_ok=True)
    assert sorted(folder.iterdir())[0].name == "x" * 245 + ".part2.csv"


def test_a_link_in_the_place_of_the_spans_has_the_log_take_another_name(logged, folder):
    (folder / "run.spans.csv").symlink_to(folder / "elsewhere")
    assert logged.log.start("run.csv") == folder / "run-2.csv"


@pytest.mark.parametrize("path", ["a\0b.csv", "~nobody-of-this-name/run.csv"])
def test_a_path_that_no_file_can_have_is_an_error_that_names_it(logged, folder, path):
    with pytest.raises(OSError, match="cannot log to "):
        logged.log.start(path)
    nothing_has_changed(logged, folder)


def test_a_working_directory_that_was_removed_is_an_error_that_says_so(logged, folder, monkeypatch):
    gone = folder / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(FileNotFoundError, match="cannot log to "):
        logged.log.start("run.csv")
    monkeypatch.chdir(folder)
    nothing_has_changed(logged, folder)


def test_a_file_that_is_deleted_switches_the_log_off(logged, folder):
    path = logged.log.start("run.csv")
    path.unlink()
    logged.add(1, 1)
    assert not logged.log.running
    assert "the file was deleted" in logged.log.error
    logged.add(2, 2)
    assert logged.log.start("run.csv") == path
    assert logged.log.error is None
    assert len(read_csv(path)) == 2


class Disk:
    """os.write of a disk that can be made to fail."""

    def __init__(self) -> None:
        self.fails: int | None = None
        self.tries = 0
        self._write = os.write

    def write(self, descriptor: int, content: bytes) -> int:
        self.tries += 1
        if self.fails:
            raise OSError(self.fails, os.strerror(self.fails))
        return self._write(descriptor, content)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    made = Disk()
    monkeypatch.setattr(os, "write", made.write)
    return made


@pytest.mark.parametrize("name", ["ENOSPC", "EDQUOT", "EIO", "EMFILE", "ENFILE", "ESTALE", "ETIMEDOUT"])
def test_a_shortage_shorter_than_the_window_loses_nothing(logged, disk, caplog, name):
    path = logged.log.start("run.csv")
    logged.add(0, 0)
    disk.fails = getattr(errno, name)
    for number in range(1, 21):
        logged.add(number, number)
        assert logged.log.running
        assert f"cannot log to {path}: " in logged.log.error
        assert "tried again" in logged.log.error
        assert logged.log.reason == os.strerror(disk.fails)
    disk.fails = None
    for number in range(21, 25):
        logged.add(number, number)
    assert (logged.log.error, logged.log.reason) == (None, None)
    assert read_csv(path)["a_percent"].tolist() == list(range(25))
    assert logged.log.rows == 25
    (warning,) = caplog.messages
    assert warning.startswith(f"log: cannot log to {path}: ")


def test_a_shortage_is_tried_again_ever_less_often(logged, disk):
    logged.log.start("run.csv")
    disk.fails, disk.tries = errno.ENOSPC, 0
    for _ in range(100):
        logged.add(1, 1)
    assert 40 < disk.tries <= 55  # every 2 s, after 0.1 to 1.6 s


def test_a_second_shortage_begins_with_a_short_wait_and_a_warning_of_its_own(logged, disk, caplog):
    logged.log.start("run.csv")
    for _ in range(2):
        disk.fails = errno.ENOSPC
        logged.add(1, 1)
        disk.fails = None
        logged.add(2, 2)
        assert logged.log.error is None
    assert len(caplog.messages) == 2
    assert read_csv("run.csv")["a_percent"].tolist() == [1, 2, 1, 2]


def test_rows_that_left_the_window_during_a_shortage_are_a_gap_that_is_said(logged, disk, caplog):
    path = logged.log.start("run.csv")
    logged.add(0, 0)
    disk.fails = errno.ENOSPC
    for number in range(1, 100):
        logged.add(number, number)
    kept = logged.history.read()
    logged.history.read = lambda: (kept[0], *(array[-30:] for array in kept[1:]))
    disk.fails = None
    logged.now += 10
    logged.log.append(99, microseconds(logged.time), (99, 99))
    assert read_csv(path)["a_percent"].tolist() == [0, *range(70, 100)]
    assert logged.log.running
    assert logged.log.error == (
        f"69 rows are missing: they left the window before they could be written to {path}"
    )
    assert logged.log.reason == "69 rows are missing: they left the window before they could be written"
    assert caplog.messages[1:] == [f"log: {logged.log.error}"]
    logged.log.stop()
    assert "69 rows are missing" in logged.log.error
    logged.log.start("other.csv")
    assert logged.log.error is None


def test_after_a_long_shortage_no_sample_waits_for_all_rows_at_once(logged, disk):
    path = logged.log.start("run.csv")
    disk.fails = errno.ENOSPC
    for number in range(3500):
        logged.add(number, number)
    disk.fails = None
    logged.now += 10
    sizes = []
    for number in range(3500, 3506):
        logged.add(number, number)
        sizes.append(len(read_csv(path)))
    assert sizes == [1000, 2000, 3000, 3504, 3505, 3506]


def test_a_stop_writes_what_waits_if_there_is_room_by_then(logged, disk):
    path = logged.log.start("run.csv")
    disk.fails = errno.ENOSPC
    for number in range(2500):
        logged.add(number, number)
    disk.fails = None
    logged.log.stop()
    assert read_csv(path)["a_percent"].tolist() == list(range(2500))
    assert logged.log.error is None


def test_a_stop_after_a_shortage_writes_also_the_series_that_were_added_in_it(logged, disk):
    path = logged.log.start("run.csv")
    logged.add(0, 0)
    disk.fails = errno.ENOSPC
    logged.add_columns("loss")
    logged.add(1, 1, 0.5)
    disk.fails = None
    logged.log.stop()
    read = read_csv(path)
    assert read["a_percent"].tolist() == [0, 1]
    assert read["loss"].iloc[-1] == 0.5


def test_a_stop_in_a_shortage_says_how_many_rows_are_missing(logged, disk):
    path = logged.log.start("run.csv")
    logged.add(0, 0)
    disk.fails = errno.ENOSPC
    for number in range(1, 8):
        logged.add(number, number)
    logged.log.stop()
    assert not logged.log.running
    assert "the last 7 rows are missing in the file" in logged.log.error
    assert "free some space" in logged.log.error
    assert read_csv(path)["a_percent"].tolist() == [0]


@pytest.mark.parametrize("name", ["EACCES", "EPERM", "EROFS", "EBADF", "EFBIG"])
def test_an_error_that_does_not_pass_ends_the_log_and_says_what_to_do(logged, disk, caplog, name):
    path = logged.log.start("run.csv")
    disk.fails = getattr(errno, name)
    logged.add(1, 1)
    assert not logged.log.running
    assert re.search(r"name a directory|start another log", logged.log.error)
    assert caplog.messages == [f"log: {logged.log.error}"]
    disk.fails = None
    logged.add(2, 2)
    assert len(read_csv(path)) == 0


def test_a_row_that_an_interrupt_kept_from_the_file_is_written_with_the_next(logged):
    path = logged.log.start("run.csv")
    logged.history.append(logged.time, (1, 1))  # and the interrupt came before log.append()
    logged.add(2, 2)
    assert read_csv(path)["a_percent"].tolist() == [1, 2]
    assert logged.log.error is None


def test_a_file_that_is_renamed_is_written_on(logged, folder):
    path = logged.log.start("run.csv")
    path.rename(folder / "kept.csv")
    logged.add(1, 1)
    assert logged.log.running
    assert len(read_csv(folder / "kept.csv")) == 1


def test_a_start_that_fails_says_why_until_one_goes_well(logged, folder):
    with pytest.raises(FileNotFoundError) as raised:
        logged.log.start("missing/run.csv")
    assert logged.log.error == raised.value.strerror
    assert "missing" in logged.log.error
    logged.log.start("run.csv")
    assert logged.log.error is None


def test_a_start_that_fails_keeps_what_the_last_log_was(logged, folder):
    logged.log.start("run.csv")
    logged.add(1, 1)
    logged.log.stop()
    with pytest.raises(FileNotFoundError):
        logged.log.start("missing/run.csv")
    assert (logged.log.path, logged.log.rows) == (folder / "run.csv", 1)


def test_a_stop_does_not_wait_for_a_write_that_hangs_which_ends_the_log_when_it_is_back(logged, far_disk):
    logged.add(1, 1)
    path = logged.log.start("run.csv")
    far_disk.away.set()
    writer = threading.Thread(target=logged.add, args=(2, 2))
    writer.start()
    assert far_disk.asked.wait(30)
    logged.log.stop()
    assert not logged.log.running
    assert writer.is_alive()
    far_disk.there.set()
    writer.join(30)
    assert logged.log._parts is None
    logged.add(3, 3)
    assert read_csv(path)["a_percent"].tolist() == [1, 2]
    assert (logged.log.rows, logged.log.error) == (2, None)
    assert read_csv(logged.log.start("run.csv"))["a_percent"].tolist() == [1, 2, 3]


def test_a_start_that_hangs_is_undone_by_a_stop_when_it_is_back(logged, far_disk):
    logged.add(1, 1)
    far_disk.away.set()
    starter = threading.Thread(target=logged.log.start, args=("run.csv",))
    starter.start()
    assert far_disk.asked.wait(30)
    logged.log.stop()
    far_disk.there.set()
    starter.join(30)
    assert not logged.log.running
    assert logged.log._parts is None
    logged.add(2, 2)
    assert read_csv("run.csv")["a_percent"].tolist() == [1]


def test_what_a_stop_has_left_open_is_closed_by_the_next_start(logged):
    """It lost patience with a writer that had just looked whether it has to close the file."""
    path = logged.log.start("run.csv")
    logged.add(1, 1)
    logged.log._stopped = True
    logged.add(2, 2)
    logged.add_columns("loss")
    other = logged.log.start("other.csv")
    logged.add(3, 3, 3)
    assert read_csv(path)["a_percent"].tolist() == [1]
    assert read_csv(other)["a_percent"].tolist() == [1, 2, 3]


# -- reading back ------------------------------------------------------------------------------------------


def test_a_log_reads_back_as_the_history_it_was(folder):
    monitor = PerformanceMonitor([FakeCollector("a_percent", "core0/cpu_percent")])
    for _ in range(5):
        monitor.sample()
    path = monitor.log.start()
    monitor.log.stop()
    pd.testing.assert_frame_equal(read_csv(path), monitor.history)
    pd.testing.assert_frame_equal(read_csv(str(path)), monitor.history)


def test_a_log_without_rows_reads_back_as_an_empty_history(folder):
    monitor = PerformanceMonitor([FakeCollector("a_percent", "b_bytes")])
    path = monitor.log.start()
    monitor.log.stop()
    pd.testing.assert_frame_equal(read_csv(path), monitor.history)


def test_a_log_without_columns_reads_back(folder):
    monitor = PerformanceMonitor([])
    monitor.sample()
    monitor.sample()
    path = monitor.log.start()
    monitor.log.stop()
    pd.testing.assert_frame_equal(read_csv(path), monitor.history)


def test_a_column_in_which_every_number_is_missing_stays_a_column_of_numbers(logged):
    path = logged.log.start("run.csv")
    logged.add(math.nan, 1)
    logged.add(math.nan, 2)
    frame = read_csv(path)
    assert frame.dtypes.tolist() == [np.float64, np.float64]
    assert frame["a_percent"].isna().all()


def test_a_log_can_be_read_while_it_is_written(logged):
    path = logged.log.start("run.csv")
    logged.add(1, 1)
    assert len(read_csv(path)) == 1
    logged.add(2, 2)
    assert len(read_csv(path)) == 2


def test_a_torn_last_line_is_left_out_wherever_it_is_torn(logged, folder):
    path = logged.log.start("run.csv")
    logged.add(1.25, 1)
    logged.add(2.25, 2)
    whole = path.read_bytes()
    header = whole.index(b"\n") + 1
    second = whole.index(b"\n", header) + 1
    for end in range(header, len(whole)):
        (folder / "torn.csv").write_bytes(whole[:end])
        expected = [] if end < second else [1.25]
        assert read_csv(folder / "torn.csv")["a_percent"].tolist() == expected, end


def test_a_file_that_went_through_a_spreadsheet_on_windows_is_read(folder):
    (folder / "run.csv").write_bytes(
        b"time,a_percent\r\n2023-11-14T22:13:21.000000Z,1.5\r\n2023-11-14T22:13:22.000000Z,\r\n"
    )
    frame = read_csv("run.csv")
    assert frame["a_percent"].iloc[0] == 1.5
    assert math.isnan(frame["a_percent"].iloc[1])


def test_times_of_another_zone_or_precision_are_read_as_utc(folder):
    (folder / "run.csv").write_text(
        "time,a_percent\n2023-11-14T22:13:21Z,1\n2023-11-14T23:13:22.5+01:00,2\n2023-11-14T22:13:23,3\n"
    )
    assert [str(time) for time in read_csv("run.csv").index] == [
        "2023-11-14 22:13:21+00:00",
        "2023-11-14 22:13:22.500000+00:00",
        "2023-11-14 22:13:23+00:00",
    ]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"time",  # torn before the end of the header
        b"date,a_percent\n2023-11-14,1\n",
        b"a_percent,time\n1,2023-11-14T22:13:21Z\n",
        b"time,a_percent\nyesterday,1\n",
        b"time,a_percent\n2023-11-14T22:13:21Z,much\n",
        b"time,a_percent\n2023-11-14T22:13:21Z,1,2\n",
        b"time,a_percent\n2023-11-14T22:13:21Z,1\n2023-11-14T22:13:22Z,1,2,3\n",
        b"time,a_percent\n1,2\n",
        b"time\rfirst\n2023-11-14T22:13:21Z\n",
        b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR",
        b'"' + b"x" * 200_000 + b"\n",
        b"time,\xff\xfe\n2023-11-14T22:13:21Z,\xff\n",
        b'{"time": 1}\n',
    ],
    ids=lambda content: repr(content[:40]),
)
def test_what_is_no_log_is_refused_by_name(folder, content):
    (folder / "foreign.csv").write_bytes(content)
    with pytest.raises(ValueError, match=r"^foreign\.csv is not a log of perfmon_widgets"):
        read_csv("foreign.csv")


def test_a_file_that_is_not_there_is_an_os_error(folder):
    with pytest.raises(FileNotFoundError, match="missing.csv"):
        read_csv("missing.csv")


@st.composite
def tables(draw) -> tuple[list[str], list[float], list[list[float]]]:
    """Column names, times and rows of values."""
    # Python 3.10 can neither write nor read a NUL as CSV.
    excluded = "" if sys.version_info >= (3, 11) else "\0"
    names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=excluded), min_size=1)
    columns = draw(st.lists(names, min_size=1, max_size=5))
    rows = draw(st.lists(st.lists(st.floats(), min_size=len(columns), max_size=len(columns)), max_size=4))
    times = draw(st.lists(st.floats(0, 4e9), min_size=len(rows), max_size=len(rows)))
    return columns, times, rows


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tables())
@example((["a\rb", 'c"d', "e\nf", "g,h", "\r"], [START], [[1.0, math.nan, math.inf, -math.inf, -0.0]]))
@example(([" a", "a ", "#", "time", "\ufeff"], [START], [[0.1, 0.2, 0.3, 1e-308, 5e-324]]))
@example((["a\0b" if sys.version_info >= (3, 11) else "ab"], [START], [[1.0]]))
def test_any_column_names_and_any_numbers_come_back_as_they_were(tmp_path, table):
    columns, seconds, rows = table
    times = [microseconds(time) for time in seconds]
    path = tmp_path / "any.csv"
    path.write_bytes(CsvLog(columns, lambda: (len(rows), times, rows)).export())
    frame = read_csv(path)
    assert list(frame.columns) == columns
    assert frame.dtypes.tolist() == [np.float64] * len(columns)
    assert frame.index.tz_convert(None).to_numpy().tolist() == np.array(times, "datetime64[us]").tolist()
    expected = np.array(rows, float).reshape(len(rows), len(columns))
    np.testing.assert_array_equal(frame.to_numpy(), expected)  # NaN is equal to NaN here


def test_an_export_is_what_a_log_would_hold_without_a_file(logged, folder):
    for number in range(3):
        logged.add(number, math.nan)
    content = logged.log.export()
    assert not logged.log.running
    assert list(folder.iterdir()) == []
    assert logged.log.start("run.csv").read_bytes() == content
    logged.add(3, 3)
    assert logged.log.export() == logged.log.path.read_bytes()


def test_any_reader_of_csv_files_can_read_a_log(logged):
    path = logged.log.start("run.csv")
    logged.add(1, 2)
    assert list(csv.DictReader(io.StringIO(path.read_text()))) == [
        {"time": "2023-11-14T22:13:21.000000Z", "a_percent": "1.0", "b_bytes": "2.0"}
    ]
    assert pd.read_csv(path, index_col="time", parse_dates=True).shape == (1, 2)


def test_neither_a_row_nor_an_export_waits_for_the_other(folder):
    monitor = PerformanceMonitor([FakeCollector("a_percent")])
    monitor.sample()
    path = monitor.log.start("run.csv")
    parts = monitor.log.export_parts()
    header = next(parts)
    with monitor.log._lock:  # as if a write to a file server hung
        assert b"".join([header, *parts]) == path.read_bytes()
    parts = monitor.log.export_parts()
    next(parts)
    monitor.sample()  # while the export goes on
    assert monitor.log.rows == 2
    monitor.stop()


def test_a_series_that_is_added_during_an_export_is_left_out(folder):
    monitor = PerformanceMonitor([FakeCollector("a_percent")])
    monitor.sample()
    parts = monitor.log.export_parts()
    header = next(parts)
    monitor.record(loss=1.0)
    monitor.sample()
    assert header == b"time,a_percent\n"
    assert {line.count(b",") for line in b"".join(parts).splitlines()} == {1}
