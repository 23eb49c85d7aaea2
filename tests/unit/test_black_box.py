"""The black box: what is written is read back, whatever cut it off; and the verdict that follows from it."""

from __future__ import annotations

import errno
import math
import os
import signal
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from perfmon_widgets.collectors.linux.oom_kills import OomKills, count_in
from perfmon_widgets.core.black_box import SIZE, BlackBox, read_death, writer_of
from perfmon_widgets.metrics import Metric, Sample
from perfmon_widgets.views.death import CERTAIN, LIKELY, UNLIKELY, Cell, Evidence, verdict_of

GIB = 2.0**30
METRICS = (
    Metric("cpu_percent", "percent", "cpu", "CPU."),
    Metric("core0/cpu_percent", "percent", "cpu", "One of them.", role="part"),
    Metric("ram_percent", "percent", "memory", "RAM."),
    Metric("ram_used_bytes", "bytes", "memory", "RAM.", label="RAM in use"),
    Metric("ram_limit_bytes", "bytes", "memory", "RAM."),
    Metric("loss", "", "recorded", "A series."),
)


def sample(at: float, used: float = GIB, limit: float = 16 * GIB, **more: float) -> Sample:
    values = {
        "cpu_percent": 50.0,
        "core0/cpu_percent": 1.0,
        "ram_percent": 100 * used / limit,
        "ram_used_bytes": used,
        "ram_limit_bytes": limit,
        "loss": 0.5,
    }
    return Sample(at, values | more)


@pytest.fixture
def box(tmp_path, machine) -> BlackBox:
    """A black box in the control group of a made-up machine; its process counts as dead."""
    group = machine.version_2("/job")
    machine.write("cgroup/job/memory.events", "low 0\nmax 3\noom 1\noom_kill 1\noom_group_kill 0\n")
    assert (group / "job").is_dir()
    return BlackBox(tmp_path / "kernel-1.perfmon", METRICS, OomKills(machine.proc))


def test_samples_are_read_back_without_single_cpus_and_recorded_series(box):
    for number in range(5):
        box.write(sample(1000.0 + number, used=number * GIB, cpu_percent=math.nan if number == 2 else 10.0))
    history = read_death(box.path).history
    assert sorted(history.columns) == ["cpu_percent", "ram_limit_bytes", "ram_percent", "ram_used_bytes"]
    assert history.ram_used_bytes.tolist() == [number * GIB for number in range(5)]
    assert [math.isnan(value) for value in history.cpu_percent] == [False, False, True, False, False]
    assert history.index[0].timestamp() == 1000.0
    assert str(history.index.tz) == "UTC"
    assert history.index.name == "time"
    assert history.attrs["ram_used_bytes"] == {"unit": "bytes", "label": "RAM in use"}


def test_the_file_is_private_and_bounded_and_keeps_the_newest_rows(box):
    assert stat.S_IMODE(box.path.stat().st_mode) == 0o600
    for number in range(20_000):
        box.write(sample(float(number)))
    assert box.path.stat().st_size <= SIZE
    death = read_death(box.path)
    assert death.time == 19_999
    assert list(death.times) == list(map(float, range(20_000 - len(death.times), 20_000)))
    assert len(death.times) > 1000


def test_many_columns_leave_room_for_rows(tmp_path, machine):
    metrics = [Metric(f"x{number}_percent", "percent", "gpu", "One of many.") for number in range(5000)]
    box = BlackBox(tmp_path / "kernel-1.perfmon", [*metrics, *METRICS], OomKills(machine.proc))
    values = {metric.name: 1.0 for metric in metrics}
    for number in range(1000):
        box.write(sample(float(number), **values))
    death = read_death(box.path)
    assert box.path.stat().st_size <= SIZE
    assert len(death.times) >= 180
    assert death.history.ram_used_bytes.iloc[-1] == GIB  # what the verdict needs is among those kept


def test_a_row_that_was_being_written_is_left_out(box):
    box.write(sample(1.0))
    box.write(sample(2.0))
    size = box.path.stat().st_size
    with box.path.open("r+b") as file:
        file.truncate(size - 1)
        file.seek(0, os.SEEK_END)
        file.write(b"\x7f")
    assert list(read_death(box.path).times) == [1.0]


def test_what_is_no_box_is_no_death(tmp_path, box):
    path = tmp_path / "other.perfmon"
    assert read_death(path) is None
    for content in (b"", b"{}\0", b'{"form": 99}\0', os.urandom(4000), b"\0" * SIZE):
        path.write_bytes(content)
        assert read_death(path) is None
        assert writer_of(path) is None
    assert writer_of(box.path) == os.getpid()
    assert read_death(box.path) is None  # no sample yet


def test_the_running_cell_is_the_one_shown_last(box):
    box.write(sample(1.0))
    box.show_cell(Cell(13, "a much longer line than that of the next cell", 0.5))
    box.show_cell(Cell(14, "df = pd.concat(frames)", 0.75))
    assert read_death(box.path).cell == (14, "df = pd.concat(frames)", 0.75)
    box.show_cell(None)
    assert read_death(box.path).cell is None


def test_a_cell_that_cannot_be_written_is_written_with_the_next_sample(box, monkeypatch):
    """A hook of IPython must not raise; what write() raises is among the errors of the monitor."""
    box.write(sample(1.0))
    cell = Cell(13, "df = load()", 0.5)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        box.show_cell(cell)
        with pytest.raises(OSError, match="No space left"):
            box.write(sample(2.0))
    assert read_death(box.path).cell is None
    box.write(sample(3.0))
    death = read_death(box.path)
    assert (death.cell, death.time) == (cell, 3.0)


def test_a_cell_that_another_thread_writes_late_does_not_replace_the_next_one(box, monkeypatch):
    first, second = Cell(13, "a = 1", 0.5), Cell(14, "b = 2", 0.75)
    write = os.pwrite

    def slow(*arguments: Any) -> int:
        if b"a = 1" in arguments[1]:  # meanwhile the next cell begins
            monkeypatch.setattr(os, "pwrite", write)
            box.show_cell(second)
        return write(*arguments)

    monkeypatch.setattr(os, "pwrite", slow)
    box.show_cell(first)
    box.write(sample(1.0))
    assert read_death(box.path).cell == second


def test_the_count_is_compared_with_that_before_the_end(box, machine):
    """Also if the last sample was taken between the count and the end."""
    box.write(sample(1.0, used=8 * GIB))
    box.write(sample(8.0, used=15 * GIB))
    assert read_death(box.path).verdict == LIKELY
    machine.write("cgroup/job/memory.events", "oom 2\noom_kill 2\n")
    assert read_death(box.path).verdict == CERTAIN
    box.write(sample(9.0, used=15.9 * GIB))
    assert read_death(box.path).verdict == CERTAIN
    box.write(sample(12.0, used=2 * GIB))  # that kill was another program's: this one lived on
    assert read_death(box.path).verdict == LIKELY
    box.write(sample(30.0, used=2 * GIB))
    assert read_death(box.path).verdict == UNLIKELY


def test_the_sentence_has_time_cell_memory_growth_and_verdict(box, machine):
    now = time.time()
    box.show_cell(Cell(14, "df = pd.concat(frames) # <big>", now - 9))
    for number in range(9):
        box.write(sample(now - 8 + number, used=(6.5 if number == 0 else 6.5 + 1.15 * number) * GIB))
    machine.write("cgroup/job/memory.events", "oom_kill 2\n")
    death = read_death(box.path)
    at = time.strftime("%H:%M:%S", time.localtime(now))
    assert str(death) == (
        f"The previous kernel died at {at} in cell [14] `df = pd.concat(frames) # <big>`: RAM 16 of 16 GiB, "
        "+9.2 GiB in 8 s; the OS kernel's count of OOM kills rose: killed for want of memory."
    )
    assert "<code>df = pd.concat(frames) # &lt;big&gt;</code>" in death._repr_html_()
    assert str(cell := death.cell) == f"cell [14] {cell.source}"


def test_memory_that_filled_up_since_the_last_sample_is_said_to(box, machine):
    box.write(sample(1.0, used=2 * GIB))
    machine.write("cgroup/job/memory.events", "oom_kill 2\n")
    assert read_death(box.path).evidence == (
        "RAM 2 of 16 GiB in the last sample, and full before the next one; the OS kernel's count of OOM "
        "kills rose: killed for want of memory"
    )
    box.write(sample(3.0, used=4 * GIB))
    machine.write("cgroup/job/memory.events", "oom_kill 3\n")
    assert read_death(box.path).evidence.startswith(
        "RAM 4 of 16 GiB in the last sample (+2 GiB in 2 s), and full before the next one; "
    )


def test_a_death_of_another_day_has_its_date(box):
    box.write(sample(1_000_000_000.0))
    day = time.strftime("%Y-%m-%d", time.localtime(1_000_000_000))
    assert str(read_death(box.path)).startswith(f"The previous kernel died at {day} ")


def test_growth_counts_from_where_it_began(box):
    for number in range(60):
        box.write(sample(float(number), used=2 * GIB if number < 50 else (2 + 1.0 * (number - 49)) * GIB))
    assert "RAM 12 of 16 GiB, +10 GiB in 10 s" in str(read_death(box.path))


def evidence(percent: float = 30.0, rise: float = 0.0, *, of_machine: bool = False, status=None) -> Evidence:
    return Evidence(percent * GIB, 100 * GIB, percent, 0.0, 0.0, rise, of_machine, status)


@pytest.mark.parametrize(
    ("facts", "verdict", "words"),
    [
        (evidence(99, 1), CERTAIN, "the OS kernel's count of OOM kills rose: killed for want of memory"),
        (evidence(30, 1), CERTAIN, "the OS kernel's count"),  # it grew faster than samples were taken
        (evidence(97, 1, of_machine=True), CERTAIN, "the OS kernel's count"),
        (evidence(30, 1, of_machine=True), LIKELY, "the machine's count"),
        (evidence(95, 0), LIKELY, "memory was nearly full"),  # killed by a program: earlyoom, a kubelet
        (evidence(95, math.nan), LIKELY, "memory was nearly full"),
        (evidence(30, 0), UNLIKELY, "no OOM kill was counted: a signal or a crash in compiled code"),
        (evidence(30, math.nan), UNLIKELY, "memory was not nearly full: a signal or a crash"),
        (evidence(99, 1, status=-signal.SIGKILL), CERTAIN, "killed for want of memory"),
        (evidence(30, 0, status=-signal.SIGKILL), UNLIKELY, "somebody killed it (SIGKILL, signal 9)"),
        (evidence(99, 1, status=-signal.SIGSEGV), UNLIKELY, "compiled code crashed (SIGSEGV, signal 11)"),
        (evidence(99, 0, status=-signal.SIGTERM), UNLIKELY, "somebody killed it (SIGTERM, signal 15)"),
        (evidence(30, 0, status=3), UNLIKELY, "it ended by itself with exit code 3"),
    ],
)
def test_the_verdict(facts, verdict, words):
    found, reason = verdict_of(facts)
    assert found == verdict
    assert words in reason


def test_file_cache_is_no_full_memory(tmp_path, machine):
    """Before a kill by hand, in a container that has read much: 97 % in use, and 90 % of it cache."""
    held = Metric("ram_unreclaimable_bytes", "bytes", "memory", "RAM.")
    box = BlackBox(tmp_path / "kernel-1.perfmon", (*METRICS, held), OomKills(machine.proc))
    for number in range(3):
        more = {"ram_percent": 97.0, "ram_unreclaimable_bytes": GIB}
        box.write(sample(float(number), used=15.5 * GIB, limit=16 * GIB, **more))
    assert read_death(box.path).verdict == UNLIKELY


def test_a_box_without_a_count_or_a_limit_still_says_what_it_can(tmp_path, machine):
    box = BlackBox(tmp_path / "kernel-1.perfmon", METRICS[:4:3], OomKills(machine.proc / "none"))
    box.write(sample(1.0, used=3 * GIB))
    death = read_death(box.path)
    assert death.verdict == UNLIKELY
    assert "RAM 3 GiB; memory was not nearly full" in death.evidence


def test_a_forked_child_leaves_the_box_alone(box, forked):
    box.write(sample(1.0))

    def child() -> None:
        box.write(sample(2.0))
        box.show_cell(Cell(1, "the child's", 2.0))
        box.remove()

    forked(child)
    death = read_death(box.path)
    assert (death.time, death.cell) == (1.0, None)


def test_a_removed_box_does_not_come_back(box):
    box.write(sample(1.0))
    box.remove()
    box.write(sample(2.0))
    box.remove()
    assert not box.path.exists()


def test_a_new_box_replaces_the_old_one_for_its_readers_too(tmp_path, machine):
    path = tmp_path / "kernel-1.perfmon"
    path.write_bytes(b"old")
    with path.open("rb") as reader:
        BlackBox(path, METRICS, OomKills(machine.proc))
        assert reader.read() == b"old"


# -- the count of OOM kills --------------------------------------------------------------------------------


def test_the_count_is_that_of_the_own_group(machine):
    machine.version_2("/job")
    machine.write("cgroup/job/memory.events", "oom 9\noom_kill 4\noom_group_kill 0\n")
    machine.write("cgroup/memory.events", "oom_kill 77\n")
    machine.write("proc/vmstat", "oom_kill 99\n")
    kills = OomKills(machine.proc)
    assert (kills.read(), kills.of_machine, kills.path.name) == (4.0, False, "memory.events")
    machine.write("cgroup/job/memory.events", "oom 9\noom_kill 5\noom_group_kill 0\n")
    assert kills.read() == 5.0


def test_version_1_has_another_file(machine):
    memory, _, _ = machine.version_1("/job")
    (memory / "job").mkdir()
    (memory / "job" / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n")
    kills = OomKills(machine.proc)
    assert (kills.read(), kills.of_machine) == (3.0, False)


def test_without_one_of_its_group_it_is_the_machines_count(machine):
    machine.version_2()
    machine.write("proc/vmstat", "nr_free_pages 5\noom_kill 12\nnuma_hit 1\n")
    kills = OomKills(machine.proc)
    assert (kills.read(), kills.of_machine) == (12.0, True)


def test_without_any_count_it_is_missing(machine):
    kills = OomKills(machine.proc)
    assert math.isnan(kills.read())
    assert count_in(Path(kills.path)) is None
