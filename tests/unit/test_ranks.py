"""Logs of ranks in a folder: read by their new bytes, whatever becomes of the processes that write them."""

from __future__ import annotations

import json
import os
import time
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from perfmon_widgets import PerformanceMonitor
from perfmon_widgets.cluster import ranks
from perfmon_widgets.cluster.rank_files import Tail, describe, described, spaced_lines
from perfmon_widgets.cluster.ranks import Ranks, rank_of


def line(second: float, *numbers: float, day: str = "2026-01-01") -> str:
    at = datetime.fromisoformat(f"{day}T00:00:00") + timedelta(seconds=second)
    return f"{at.isoformat(timespec='microseconds')}Z,{','.join(map(str, numbers))}\n"


HEADER = "time,cpu_percent,process_cpu_percent\n"


def write(folder: Path, name: str, text: str, host: str = "a", **said: float) -> Path:
    path = folder / f"{name}.csv"
    path.write_text(text)
    if ".part" not in name:
        more = {"interval": 5.0, "started": 0.0, "clock_ahead": 0.0, **said}
        path.with_suffix(".json").write_text(json.dumps({"host": host, **more}))
    return path


@pytest.fixture
def watched(folder):
    """What watches the folder; its thread is ended."""
    made = []

    def watch() -> Ranks:
        made.append(Ranks(folder))
        return made[-1]

    yield watch
    for each in made:
        each.close()


# -- which rank ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "rank"),
    [
        ({"RANK": "3"}, 3),
        ({"SLURM_PROCID": "4"}, 4),
        ({"OMPI_COMM_WORLD_RANK": "5"}, 5),
        ({"PMI_RANK": "6"}, 6),
        ({"SLURM_PROCID": "0", "RANK": "7"}, 7),
        ({}, 0),
    ],
)
def test_the_launcher_says_the_rank(environment, rank):
    assert rank_of(environment) == rank


def test_a_rank_that_is_no_number_is_refused_by_the_name_of_the_variable():
    with pytest.raises(ValueError, match="RANK must be a rank, not 'first'"):
        rank_of({"RANK": "first"})


def test_a_rank_logs_with_the_log_of_its_monitor(folder, monkeypatch):
    monkeypatch.setenv("RANK", "2")
    for name in ("rank0002.csv", "rank0002-2.csv"):  # the second after an elastic restart
        monitor = ranks.log(folder / "run", interval=60)
        assert monitor.running
        assert monitor.log.path == folder / "run" / name
        monitor.stop()
        process = described(monitor.log.path, 2)
        assert (process.rank, process.interval) == (2, 60.0)
        assert abs(process.started - time.time()) < 60


def test_a_folder_that_cannot_be_made_is_named(folder):
    (folder / "file").write_text("")
    with pytest.raises(OSError, match=r"file/run cannot be made: .*; name another"):
        ranks.log(folder / "file" / "run")


def test_the_clock_of_a_rank_is_compared_with_that_of_the_files(folder, monkeypatch):
    """Every rank sees the time of the file server."""
    path = folder / "rank0000.csv"
    real = time.time
    for ahead in (0.0, 90.0):
        monkeypatch.setattr(
            "perfmon_widgets.cluster.rank_files.time.time", lambda ahead=ahead: real() + ahead
        )
        describe(path, 0, "a", 5.0, 0.0)
        assert described(path, 0).clock_ahead == pytest.approx(ahead, abs=0.5)
    assert os.listdir(folder) == ["rank0000.json"]


# -- the tail of a log ---------------------------------------------------------------------------------------


def test_a_torn_line_is_read_when_its_end_is_there(folder):
    path = write(folder, "rank0000", HEADER + line(0, 1.0, 2.0))
    tail = Tail(path)
    at, values = tail.read()
    assert (at, values) == (1767225600.0, {"cpu_percent": 1.0, "process_cpu_percent": 2.0})
    assert tail.read() is None
    with path.open("a") as file:
        file.write(line(5, 3.0, 4.0)[:-4])
        file.flush()
        assert tail.read() is None
        file.write(line(5, 3.0, 4.0)[-4:] + line(10, 5.0, 6.0)[:7])
    assert tail.read() == (1767225605.0, {"cpu_percent": 3.0, "process_cpu_percent": 4.0})


def test_of_a_long_log_only_the_end_is_read(folder, monkeypatch):
    path = write(folder, "rank0000", HEADER + "".join(line(second, 1.0, second) for second in range(9999)))
    with path.open("a") as file:
        file.write(line(9999, 1.0, 9999.0)[:9])
    tail = Tail(path)
    assert tail.read()[1]["process_cpu_percent"] == 9998.0
    before = path.stat().st_size
    with path.open("a") as file:
        file.write(line(9999, 1.0, 9999.0)[9:])
    assert tail._offset == before
    assert tail.read()[1]["process_cpu_percent"] == 9999.0
    assert tail._offset == path.stat().st_size


def test_a_header_that_is_not_whole_is_waited_for(folder):
    path = write(folder, "rank0000", HEADER[:9])
    tail = Tail(path)
    assert tail.read() is None
    path.write_text(HEADER)
    assert tail.read() is None
    path.write_text(HEADER + line(0, 1.0, 2.0))
    assert tail.read() is not None


def test_a_log_that_was_emptied_is_read_from_its_beginning(folder):
    path = write(folder, "rank0000", HEADER + line(0, 1.0, 2.0) * 9)
    tail = Tail(path)
    tail.read()
    path.write_text("time,loss\n" + line(0, 0.5))
    assert tail.read()[1] == {"loss": 0.5}


NO_LOGS = [
    "loss,time\n",
    "time," + "x" * 200_000 + "\n",  # longer than the csv module takes
    HEADER + "yesterday,1,2\n",
    HEADER + "0001-01-01T00:00:00,1,2\n",
    HEADER + line(0, 1.0),
]


@pytest.mark.parametrize("text", NO_LOGS, ids=range(len(NO_LOGS)))
def test_what_is_no_log_is_named(folder, text):
    path = write(folder, "rank0000", text)
    with pytest.raises(ValueError, match=r"rank0000\.csv"):
        Tail(path).read()


@pytest.mark.parametrize("said", ["{torn", "[" * 100_000, '{"interval": 1' + "0" * 400 + "}"])
def test_a_description_that_cannot_be_read_is_none(folder, said):
    path = write(folder, "rank0000", HEADER)
    path.with_suffix(".json").write_text(said)
    assert described(path, 0) is None


def test_lines_with_a_distance_are_found_without_those_between(folder):
    rows = [line(5 * number, number * 1.0, 100.0 + number) for number in range(3000)]
    path = write(folder, "rank0000", HEADER + "".join(rows) + rows[0][:8])
    header, *found = [each.decode() for each in spaced_lines(path, 60)]
    assert header == HEADER
    assert found[0] == rows[0]
    assert set(found) <= set(rows)
    places = [rows.index(each) for each in found]
    distances = np.diff(places)
    assert 240 <= len(found) <= 260
    assert 10 <= min(distances) <= max(distances) <= 14


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_a_log_with_hardly_any_rows_has_these(folder, rows):
    text = HEADER + "".join(line(5 * number, 1.0, 2.0) for number in range(rows))
    path = write(folder, "rank0000", text)
    found = list(spaced_lines(path, 5))
    assert b"".join(found).decode() == text


# -- the newest rows -----------------------------------------------------------------------------------------


def test_each_rank_has_its_columns_and_a_host_once(folder, watched):
    write(folder, "rank0000", HEADER + line(0, 80.0, 1.0))
    write(folder, "rank0001", HEADER + line(0, 80.0, 2.0))
    write(folder, "rank0010", HEADER + line(0, 30.0, 3.0), host="b")
    (folder / "notes.csv").write_text("anything")
    reading = watched().collect()
    assert {name: value for name, value in reading.items() if "uptime" not in name} == {
        "rank0/cpu_percent": 1.0,
        "rank1/cpu_percent": 2.0,
        "rank10/cpu_percent": 3.0,
        "host0/cpu_percent": 80.0,
        "host1/cpu_percent": 30.0,
    }
    assert reading["rank0/uptime_seconds"] == 1767225600.0


def test_rows_that_come_and_stop_coming(folder, watched, monkeypatch):
    path = write(folder, "rank0000", HEADER + line(0, 80.0, 1.0), interval=0.2)
    collector = watched()
    assert collector.collect()["rank0/cpu_percent"] == 1.0
    time.sleep(0.5)
    assert collector.collect() == {}
    assert collector.errors["rank0/cpu_percent"].startswith("no row from rank 0 for ")
    with path.open("a") as file:
        file.write(line(5, 80.0, 9.0))
    assert collector.collect()["rank0/cpu_percent"] == 9.0
    assert collector.errors == {}


def test_a_folder_that_is_made_anew_is_another_run(folder, watched):
    """On other machines; its log may have grown longer already than the one before was."""
    write(folder, "rank0000", HEADER + line(7200, 80.0, 1.0), started=1767225600.0, interval=0.1)
    collector = watched()
    assert collector.collect()["rank0/uptime_seconds"] == 7200
    (folder / "rank0000.csv").rename(folder / "old")  # else its inode may be given to the new one
    longer = HEADER.replace("\n", ",loss\n") + line(0, 70.0, 1.0, 0.5) + line(1, 60.0, 2.0, 0.25)
    write(folder, "rank0000", longer, host="b", started=1767225600.0, interval=30.0)
    reading = collector.collect()
    assert (reading["rank0/cpu_percent"], reading["rank0/loss"]) == (2.0, 0.25)
    assert reading["rank0/uptime_seconds"] == 1
    assert reading["host1/cpu_percent"] == 60.0
    assert "host0/cpu_percent" not in reading
    time.sleep(0.3)
    assert collector.collect()["rank0/cpu_percent"] == 2.0


def test_an_interval_that_was_changed_is_seen_by_the_rows(folder, watched):
    path = write(folder, "rank0000", HEADER + line(0, 80.0, 1.0), interval=0.1)
    collector = watched()
    with path.open("a") as file:
        file.write(line(30, 80.0, 2.0))
    assert collector.collect()["rank0/cpu_percent"] == 2.0
    time.sleep(0.5)
    assert collector.collect()["rank0/cpu_percent"] == 2.0
    with path.open("a") as file:
        file.write(line(40, 80.0, 3.0) + line(40.1, 80.0, 4.0))
    assert collector.collect()["rank0/cpu_percent"] == 4.0
    time.sleep(0.5)
    assert collector.collect() == {}


def test_what_came_in_a_pause_of_the_reader_may_be_old(folder, watched):
    path = write(folder, "rank0000", HEADER + line(0, 80.0, 1.0), interval=1.0)
    collector = watched()
    assert collector.collect() != {}
    with path.open("a") as file:
        file.write(line(1, 80.0, 2.0))
    os.utime(path, (time.time() - 3000, time.time() - 3000))
    collector._read_at -= 3600
    collector._members._members["0"].arrived -= 3600
    assert collector.collect() == {}
    assert "for 3000 s" in collector.errors["rank0/cpu_percent"]


def test_a_run_that_is_over_has_no_present(folder, watched):
    path = write(folder, "rank0000", HEADER + line(0, 80.0, 1.0))
    os.utime(path, (1e9, 1e9))
    assert watched().collect() == {}


def test_a_process_that_follows_for_the_same_rank_is_the_one_that_is_read(folder, watched):
    write(folder, "rank0000", HEADER + line(100, 80.0, 1.0), started=1767225600.0)
    collector = watched()
    assert collector.collect()["rank0/uptime_seconds"] == 100.0
    write(folder, "rank0000-2", HEADER + line(130, 80.0, 2.0), started=1767225600.0 + 120)
    reading = collector.collect()
    assert (reading["rank0/cpu_percent"], reading["rank0/uptime_seconds"]) == (2.0, 10.0)
    columns = [metric.name for metric in collector.metrics]
    assert len(columns) == len(set(columns)) == 3


def test_a_log_goes_on_in_its_next_part(folder, watched):
    write(folder, "rank0000", HEADER + line(0, 80.0, 1.0))
    collector = watched()
    write(folder, "rank0000.part2", HEADER.replace("\n", ",loss\n") + line(5, 80.0, 2.0, 0.25))
    reading = collector.collect()
    assert (reading["rank0/cpu_percent"], reading["rank0/loss"]) == (2.0, 0.25)


def test_a_bad_log_costs_no_other_rank(folder, watched):
    write(folder, "rank0000", HEADER + line(0, 80.0, 1.0))
    write(folder, "rank0001", "anything else\n")
    write(folder, "rank0003", NO_LOGS[1])
    write(folder, "rank0004", NO_LOGS[3])
    write(folder, "rank0002", HEADER + line(0, 80.0, 3.0)).with_suffix(".json").write_text("{torn")
    collector = watched()
    reading = collector.collect()
    assert (reading["rank0/cpu_percent"], reading["rank2/cpu_percent"]) == (1.0, 3.0)
    assert "rank0001.csv is not a log of perfmon_widgets" in collector.errors["rank 1"]


def test_a_folder_that_is_made_later(folder, watched):
    collector = Ranks(folder / "run")
    monitor = PerformanceMonitor([collector])
    monitor.sample()
    assert "cannot be read" in monitor.errors["ranks"]
    (folder / "run").mkdir()
    monitor.sample()
    assert monitor.errors["ranks"].startswith("there is no log of a rank in ")
    write(folder / "run", "rank0000", HEADER + line(0, 80.0, 1.0))
    monitor.sample()
    assert monitor.sample().values["rank0/cpu_percent"] == 1.0
    assert "ranks" not in monitor.errors
    collector.close()


def test_a_file_system_that_hangs_delays_a_sample_once(folder, watched, monkeypatch):
    from threading import Event

    write(folder, "rank0000", HEADER + line(0, 80.0, 1.0))
    collector = watched()
    hangs = Event()
    monkeypatch.setattr(ranks, "_TIMEOUT", 0.1)
    monkeypatch.setattr(ranks, "find", lambda folder: hangs.wait(30) and {})
    before = time.monotonic()
    assert collector.collect()["rank0/cpu_percent"] == 1.0
    first = time.monotonic() - before
    collector.collect()
    assert time.monotonic() - before - first < first
    assert "does not answer" in collector.errors["ranks"]
    hangs.set()


# -- all rows ------------------------------------------------------------------------------------------------


def test_all_rows_have_a_level_rank(folder, watched):
    write(folder, "rank0000", HEADER + line(0, 80.0, 1.0) + line(5, 80.0, 2.0))
    write(folder, "rank0000-2", HEADER + line(60, 80.0, 3.0))
    write(folder, "rank0001", HEADER + line(0, 80.0, 4.0) + "2026-01-01T00")
    write(folder, "rank0001.part2", HEADER.replace("\n", ",loss\n") + line(5, 80.0, 5.0, 0.25))
    table = watched().read()
    assert table.index.names == ["rank", "time"]
    assert table.loc[0, "process_cpu_percent"].tolist() == [1.0, 2.0, 3.0]
    assert table.loc[1, "process_cpu_percent"].tolist() == [4.0, 5.0]
    assert table.loc[1, "loss"].tolist()[1] == 0.25
    assert str(table.index.get_level_values("time").dtype) == "datetime64[us, UTC]"
    assert table.attrs["errors"] == {}
    only = watched().read(columns=["process_cpu_percent", "loss"])
    assert list(only.columns) == ["process_cpu_percent", "loss"]
    assert only.equals(table[list(only.columns)])


def test_a_clock_that_is_ahead_is_set_right(folder, watched):
    write(folder, "rank0000", HEADER + line(90, 80.0, 1.0), clock_ahead=90.0)
    [(rank, at)] = watched().read().index
    assert (rank, at.isoformat()) == (0, "2026-01-01T00:00:00+00:00")


def test_rows_with_a_distance(folder, watched):
    write(folder, "rank0000", HEADER + "".join(line(second, 1.0, 2.0) for second in range(0, 3000, 5)))
    assert 48 <= len(watched().read(every=60)) <= 52


def test_a_log_that_cannot_be_read_is_left_out_and_named(folder, watched):
    with pytest.raises(FileNotFoundError, match="there is no log of a rank"):
        watched().read()
    write(folder, "rank0000", HEADER + line(0, 80.0, 1.0))
    write(folder, "rank0001", "anything else\n")
    table = watched().read()
    assert table.index.get_level_values("rank").tolist() == [0]
    assert "is not a log" in table.attrs["errors"]["rank0001.csv"]
