"""Cells, spans and marks on disk beside the log of the rows."""

from __future__ import annotations

import errno
import math
import os
import stat
import threading
import time
from pathlib import Path

import pandas as pd
import pytest
from fakes.collectors import FakeCollector, Samples

from perfmon_widgets import PerformanceMonitor, clocks, read_csv, read_spans
from perfmon_widgets.core.spans import CELL, NEWS
from perfmon_widgets.views.report import by_span


@pytest.fixture
def monitor(folder: Path) -> PerformanceMonitor:
    return PerformanceMonitor([FakeCollector("a_percent")])


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def test_what_was_there_and_what_comes_stand_beside_the_log(monitor, folder):
    monitor.mark("before")
    with monitor.span('epoch "1", a'):
        path = monitor.log.start("run.csv")
        cell = monitor.begin(CELL, "train()", 7)
        monitor.mark("two\nlines ü")
        monitor.end(cell, raised=True)
    monitor.log.stop()
    monitor.stop()
    rows_read = read_spans(path)
    assert rows_read["kind"].tolist() == ["mark", "span", "cell", "mark"]
    assert rows_read["name"].tolist() == ["before", 'epoch "1", a', "train()", "two lines ü"]
    assert rows_read["raised"].tolist() == [False, False, True, False]
    assert rows_read["execution_count"].tolist() == [pd.NA, pd.NA, 7, pd.NA]
    spans, marks = rows_read[rows_read["kind"] == "span"], rows_read[rows_read["kind"] == "mark"]
    assert spans["start"].tolist() == monitor.spans["start"].tolist()
    assert spans["end"].tolist() == monitor.spans["end"].tolist()
    assert marks["start"].tolist() == monitor.marks.index.tolist()
    assert spans["duration_seconds"].tolist() == pytest.approx(
        monitor.spans["duration_seconds"].tolist(), abs=1e-6
    )
    assert spans["cpu_seconds"].tolist() == pytest.approx(monitor.spans["cpu_seconds"].tolist(), abs=1e-6)
    assert marks["duration_seconds"].tolist() == [0, 0]
    assert names(folder) == ["run.csv", "run.spans.csv"]


def test_each_line_is_written_at_once(monitor, folder):
    monitor.log.start("run.csv")
    assert names(folder) == ["run.csv"]  # nothing to write yet
    monitor.mark("a")
    assert read_spans("run.csv")["name"].tolist() == ["a"]
    with monitor.span("b"):
        assert read_spans("run.csv")["end"].isna().tolist() == [False, True]
    assert read_spans("run.csv")["end"].isna().tolist() == [False, False]
    monitor.stop()


def test_a_monitor_that_runs_writes_on_its_own_thread(folder):
    with PerformanceMonitor([FakeCollector("a_percent")], interval=60) as monitor:
        path = monitor.log.start("run.csv")
        monitor.mark("a")
        deadline = time.monotonic() + 10
        while not len(read_spans(path)):
            assert time.monotonic() < deadline
            time.sleep(0.005)
        with monitor.span("last"):
            pass
        monitor.log.stop()  # at once, before the thread has looked
    assert read_spans(path)["name"].tolist() == ["a", "last"]
    assert read_spans(path)["end"].notna().all()


def test_what_comes_after_the_log_was_stopped_is_not_written(monitor, folder):
    path = monitor.log.start("run.csv")
    monitor.mark("a")
    monitor.log.stop()
    monitor.mark("b")
    monitor.sample()
    assert read_spans(path)["name"].tolist() == ["a"]


def test_what_is_not_written_yet_is_in_the_log_in_which_it_was(folder):
    """Although another log is started before the thread has looked."""
    busy, go_on = threading.Event(), threading.Event()
    with PerformanceMonitor([FakeCollector("a_percent")], interval=60) as monitor:
        monitor.call_soon(lambda: (busy.set(), go_on.wait(30)))
        assert busy.wait(30)
        first = monitor.log.start("first.csv")
        with monitor.span("a"):
            monitor.mark("b")
        monitor.log.stop()
        monitor.mark("between")
        second = monitor.log.start("second.csv")
        monitor.mark("c")
        go_on.set()
    assert read_spans(first)["name"].tolist() == ["a", "b"]
    assert read_spans(first)["end"].notna().all()
    assert read_spans(second)["name"].tolist() == ["a", "b", "between", "c"]


def test_a_log_that_fails_has_what_was_before_it_did(monitor, folder):
    path = monitor.log.start("run.csv")
    monitor._spans.mark("a")  # as if the thread that writes it had not come to it
    path.unlink()
    monitor.sample()
    assert not monitor.log.running
    monitor.log.start("other.csv")
    monitor.stop()
    path.touch()
    assert read_spans(path)["name"].tolist() == ["a"]


def test_a_second_log_has_a_file_of_its_own(monitor, folder):
    first = monitor.log.start("run.csv")
    monitor.mark("a")
    monitor.log.stop()
    second = monitor.log.start("run.csv")
    monitor.mark("b")
    monitor.stop()
    assert read_spans(first)["name"].tolist() == ["a"]
    assert read_spans(second)["name"].tolist() == ["a", "b"]  # both lie in its window
    assert names(folder) == ["run-2.csv", "run-2.spans.csv", "run.csv", "run.spans.csv"]


def test_a_log_of_the_same_name_has_its_spans_too_if_the_files_were_removed(monitor, folder):
    for label in ("a", "b"):
        path = monitor.log.start("run.csv")
        monitor.mark(label)
        monitor.log.stop()
        rows_read = read_spans(path)
        for name in names(folder):
            (folder / name).unlink()
    assert path.name == "run.csv"
    assert rows_read["name"].tolist() == ["a", "b"]
    assert monitor.errors == {}


def test_a_file_that_is_there_already_is_never_touched(monitor, folder):
    (folder / "run.spans.csv").write_text("mine")
    path = monitor.log.start("run.csv")
    monitor.mark("a")
    monitor.stop()
    assert path.name == "run-2.csv"
    assert (folder / "run.spans.csv").read_text() == "mine"
    assert read_spans(path)["name"].tolist() == ["a"]


def test_a_failure_is_reported_and_costs_only_the_spans(monitor, folder):
    path = monitor.log.start("run.csv")
    (folder / "run.spans.csv").mkdir()
    monitor.mark("a")
    assert monitor.errors["span log"].startswith(f"cannot log to {folder}/run.spans.csv: ")
    monitor.mark("b")
    monitor.sample()
    assert monitor.log.running
    assert len(read_csv(path)) == 1
    assert list(monitor.marks["label"]) == ["a", "b"]
    monitor.log.stop()
    monitor.log.start("other.csv")  # the next log has another chance
    monitor.mark("c")
    assert "span log" not in monitor.errors
    assert len(read_spans("other.csv")) == 3
    monitor.stop()


def test_a_name_that_leaves_no_room_for_that_of_the_spans_costs_only_them(monitor, folder):
    path = monitor.log.start("x" * 251 + ".csv")
    monitor.mark("a")
    monitor.sample()
    assert "too long" in monitor.errors["span log"]
    assert monitor.log.running
    monitor.stop()
    assert len(read_csv(path)) == 1
    assert len(read_spans(path)) == 0
    assert names(folder) == [path.name]


@pytest.mark.parametrize(
    "name", ["<b>&\"'", "a,b;c", "\udcff", "\0\x1b", "é\u202e🙂", "line\nline\r\nline", "'=1+1"]
)
def test_whatever_a_name_is_the_file_can_be_read_back(monitor, name):
    path = monitor.log.start("run.csv")
    monitor.mark(name)
    monitor.mark("next")
    monitor.stop()
    assert monitor.errors == {}
    assert read_spans(path)["name"].tolist() == [
        " ".join(monitor.marks["label"].iloc[0].splitlines()),
        "next",
    ]


def test_a_file_that_is_deleted_is_reported_and_not_made_anew(monitor, folder):
    monitor.log.start("run.csv")
    monitor.mark("a")
    (folder / "run.spans.csv").unlink()
    monitor.mark("b")
    assert "span log" in monitor.errors
    assert names(folder) == ["run.csv"]
    monitor.stop()


def test_a_full_disk_leaves_whole_lines(monitor, folder, monkeypatch):
    monitor.log.start("run.csv")
    monitor.mark("a")
    written = os.write

    def half(descriptor: int, content: bytes) -> int:
        return written(descriptor, content[: len(content) // 2])

    monkeypatch.setattr("perfmon_widgets.core.span_log.os.write", half)
    monitor.mark("b")
    monkeypatch.undo()
    assert "the disk is full" in monitor.errors["span log"]
    assert (folder / "run.spans.csv").read_bytes().endswith(b"\n")
    assert read_spans(folder / "run.csv")["name"].tolist() == ["a"]
    monitor.stop()


def test_a_stop_does_not_wait_for_a_write_that_hangs(folder, far_disk):
    monitor = PerformanceMonitor([FakeCollector("a_percent")], interval=60)
    samples = Samples()
    monitor.on_sample(samples)
    path = monitor.log.start("run.csv")
    monitor.start()
    sampler = monitor._sampler
    samples.next()
    far_disk.away.set()
    monitor.mark("a")
    assert far_disk.asked.wait(30)
    monitor.mark("b")
    monitor.stop()
    assert sampler.is_alive()
    assert not monitor.log.running
    far_disk.there.set()
    sampler.join(30)
    monitor.mark("c")
    assert read_spans(path)["name"].tolist() == ["a"]
    assert len(read_csv(path)) == 1


def test_a_last_line_that_was_torn_is_left_out(monitor, folder):
    path = monitor.log.start("run.csv")
    monitor.mark("a, b")
    with monitor.span("c"):
        pass
    monitor.stop()
    file = folder / "run.spans.csv"
    content = file.read_bytes()
    for cut in range(content.index(b"\n") + 1, len(content)):
        file.write_bytes(content[:cut])
        whole = content[:cut].count(b"\n") - 1
        assert read_spans(path)["name"].tolist() == ["a, b", "c", "c"][: min(whole, 2)]


def test_a_log_without_spans_reads_as_none(monitor, folder):
    path = monitor.log.start("run.csv")
    monitor.stop()
    rows_read = read_spans(path)
    assert len(rows_read) == 0
    assert list(rows_read.columns) == [
        "kind",
        "name",
        "start",
        "end",
        "duration_seconds",
        "cpu_seconds",
        "execution_count",
        "raised",
    ]


def test_a_file_of_an_older_version_is_read_too(folder):
    """It has no durations: they are differences of times of day."""
    (folder / "run.csv").write_text("time\n")
    (folder / "run.spans.csv").write_text(
        "number,kind,name,start,end,execution_count,raised\n"
        "1,cell,train(),2030-01-31T12:00:00.000000Z,,7,False\n"
        "2,span,on,2030-01-31T12:00:01.000000Z,,,False\n"
        "1,cell,train(),2030-01-31T12:00:00.000000Z,2030-01-31T12:00:02.500000Z,7,True\n"
    )
    rows_read = read_spans("run.csv")
    assert rows_read["name"].tolist() == ["train()", "on"]
    assert rows_read["duration_seconds"].tolist() == pytest.approx([2.5, math.nan], nan_ok=True)
    assert rows_read["cpu_seconds"].isna().all()
    assert rows_read["raised"].tolist() == [True, False]


def test_the_duration_of_a_span_is_kept_though_the_clock_was_set_meanwhile(monitor, folder, monkeypatch):
    path = monitor.log.start("run.csv")
    time_of_day = time.time
    with monitor.span("a"):
        monkeypatch.setattr(clocks.time, "time", lambda: time_of_day() - 3600)
    monitor.stop()
    rows_read = read_spans(path)
    assert rows_read["start"].tolist() == rows_read["end"].tolist()
    assert 0 < rows_read["duration_seconds"][0] < 60


def test_a_log_that_is_not_there_is_an_error_that_names_it(folder):
    with pytest.raises(FileNotFoundError, match=r"run\.csv"):
        read_spans("run.csv")


@pytest.mark.parametrize(
    "content",
    [
        "a,b\n1,2\n",
        "\n",
        "number,kind,name,start,end,execution_count,raised\n1,mark\n",
        "number,kind,name,start,end,execution_count,raised,mood\n",
        "number,kind,name,start,end,execution_count,raised\nx,mark,a,2020-01-01T00:00:00Z,,,False\n",
    ],
)
def test_another_file_is_refused(folder, content):
    (folder / "run.csv").write_text("time\n")
    (folder / "run.spans.csv").write_text(content)
    with pytest.raises(ValueError, match=r"run\.spans\.csv has no spans of perfmon_widgets"):
        read_spans("run.csv")


def test_costs_can_be_distinguished_from_the_files_alone(folder):
    with PerformanceMonitor(interval=60) as monitor:
        path = monitor.log.start("run.csv")
        with monitor.span("work"):
            time.sleep(0.12)
    rows_read = by_span(read_csv(path), read_spans(path))
    assert rows_read["process_ram_bytes"]["mean"].notna().all()
    live = monitor.by_span()["process_ram_bytes"]
    assert rows_read["process_ram_bytes"]["max"].tolist() == live["max"].tolist()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_leaves_the_file_to_its_parent(monitor, folder, forked):
    monitor.log.start("run.csv")
    monitor.mark("parent's")
    before = (folder / "run.spans.csv").read_bytes()

    def child() -> str | None:
        monitor.mark("child's")
        monitor.sample()
        monitor.stop()
        return monitor.errors.get("span log")

    assert forked(child) is None
    assert (folder / "run.spans.csv").read_bytes() == before
    monitor.stop()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_leaves_a_file_that_is_not_there_yet_to_its_parent(monitor, folder, forked):
    monitor.log.start("run.csv")

    def child() -> list[str]:
        monitor.mark("child's")
        own = monitor.log.start("child.csv")
        monitor.stop()
        return read_spans(own)["name"].tolist()

    assert forked(child) == ["child's"]
    assert names(folder) == ["child.csv", "child.spans.csv", "run.csv"]
    monitor.mark("parent's")
    monitor.stop()
    assert monitor.errors == {}
    assert read_spans("run.csv")["name"].tolist() == ["parent's"]


# -- what can go wrong -------------------------------------------------------------------------------------


class Full:
    """os.write of a disk that can be full."""

    def __init__(self) -> None:
        self.full = False
        self._write = os.write

    def write(self, descriptor: int, content: bytes) -> int:
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self._write(descriptor, content)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Full:
    made = Full()
    monkeypatch.setattr(os, "write", made.write)
    return made


def test_a_shortage_loses_no_line_once_there_is_room_again(monitor, disk, caplog):
    now = [0.0]
    monitor._span_log._clock = lambda: now[0]
    path = monitor.log.start("run.csv")
    monitor.mark("a")
    disk.full = True
    with monitor.span("b"):
        monitor.mark("c")
    assert "the disk is full; free some space" in monitor.errors["span log"]
    disk.full = False
    now[0] += 10
    monitor.mark("d")
    assert monitor.errors == {}
    assert read_spans(path)["name"].tolist() == ["a", "b", "c", "d"]
    assert read_spans(path)["end"].notna().all()
    assert [message for message in caplog.messages if message.startswith("span log: ")] == [
        caplog.messages[0]
    ]
    monitor.stop()


def test_a_shortage_that_is_over_is_noticed_without_another_mark(folder, disk):
    with PerformanceMonitor([FakeCollector("a_percent")], interval=0.02) as monitor:
        path = monitor.log.start("run.csv")
        disk.full = True
        monitor.mark("a")
        deadline = time.monotonic() + 10
        while "span log" not in monitor.errors:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        disk.full = False
        while not len(read_spans(path)):
            assert time.monotonic() < deadline
            time.sleep(0.005)
    assert monitor.errors == {}


def test_a_shortage_at_the_end_says_how_much_is_missing(monitor, disk):
    monitor.log.start("run.csv")
    disk.full = True
    monitor.mark("a")
    monitor.mark("b")
    monitor.stop()
    assert monitor.errors["span log"].startswith("2 starts, ends and marks are missing: cannot log to ")


def test_what_comes_faster_than_it_can_be_written_is_dropped_and_counted(folder):
    busy, go_on = threading.Event(), threading.Event()
    marks = NEWS + 5000
    with PerformanceMonitor([FakeCollector("a_percent")], interval=60) as monitor:
        path = monitor.log.start("run.csv")
        monitor.mark("first")
        deadline = time.monotonic() + 10
        while not len(read_spans(path)):
            assert time.monotonic() < deadline
            time.sleep(0.005)
        monitor.call_soon(lambda: (busy.set(), go_on.wait(30)))
        assert busy.wait(30)
        for number in range(marks):
            monitor.mark(str(number))
        go_on.set()
    spans = read_spans(path)
    assert len(spans) + spans.attrs["dropped"] == 1 + marks
    assert spans["name"].iloc[-1] == str(marks - 1)
    assert spans.attrs["dropped"] == marks - NEWS
    assert set(spans["kind"]) == {"mark"}
    assert monitor.errors == {
        "span log": f"{marks - NEWS} starts, ends and marks are missing in {folder}/run.spans.csv: "
        "more came than could be written"
    }


def test_a_link_or_a_pipe_that_is_put_in_the_place_of_the_file_is_left_alone(monitor, folder):
    path = monitor.log.start("run.csv")
    monitor.mark("a")
    file, victim = folder / "run.spans.csv", folder / "victim"
    victim.write_text("precious")
    file.rename(folder / "kept.csv")
    file.symlink_to(victim)
    monitor.mark("b")
    file.unlink()
    os.mkfifo(file)
    monitor.mark("c")  # opening it would wait for a reader for ever
    monitor.stop()
    file.unlink()
    (folder / "kept.csv").rename(file)
    assert victim.read_text() == "precious"
    assert read_spans(path)["name"].tolist() == ["a", "b", "c"]


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("victim"), Path.touch])
def test_what_is_there_before_the_file_is_made_is_never_written_to(monitor, folder, make):
    monitor.log.start("run.csv")
    make(folder / "run.spans.csv")
    monitor.mark("a")
    assert "something else has this name; move it" in monitor.errors["span log"]
    assert not (folder / "victim").exists()
    monitor.stop()


def test_a_file_that_was_emptied_goes_on_with_a_header(monitor, folder):
    path = monitor.log.start("run.csv")
    monitor.mark("a")
    os.truncate(folder / "run.spans.csv", 0)
    monitor.mark("b")
    monitor.stop()
    assert read_spans(path)["name"].tolist() == ["b"]


def test_the_file_has_the_permissions_of_the_log(monitor, folder):
    path = monitor.log.start("run.csv")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    monitor.mark("a")
    monitor.stop()
    assert stat.S_IMODE((folder / "run.spans.csv").stat().st_mode) == 0o644


def test_a_log_is_for_its_owner_only(monitor, folder):
    monitor.log.start("run.csv")
    monitor.mark("a")
    monitor.record(loss=1)
    monitor.sample()
    monitor.stop()
    assert names(folder) == ["run.csv", "run.part2.csv", "run.spans.csv"]
    assert {stat.S_IMODE(each.stat().st_mode) for each in folder.iterdir()} == {0o600}
