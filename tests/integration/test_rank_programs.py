"""Ranks of real jobs: processes that log to one folder, are killed and start again, and a launcher's."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from perfmon_widgets import PerformanceMonitor
from perfmon_widgets.cluster import rank_processes
from perfmon_widgets.cluster.rank_processes import RankLogs
from perfmon_widgets.cluster.ranks import Ranks

RANK = """
import time
from perfmon_widgets.cluster import ranks
monitor = ranks.log("run", interval=0.2)
end = time.monotonic() + 60
step = 0
while time.monotonic() < end:
    step += 1
    monitor.record(loss=1 / step)
    if {busy}:
        sum(range(100_000))
    else:
        time.sleep(0.01)
"""
# What torchrun does: it starts the workers of a node with RANK and more in their environment.
LAUNCHER = """
import os, subprocess, sys
ranks = [
    subprocess.Popen(
        [sys.executable, "-c", "import time; x = bytearray(50_000_000); time.sleep(3)"],
        env={**os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"},
    )
    for rank in range(2)
]
sys.exit(max(rank.wait() for rank in ranks))
"""


def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it has not happened"
        time.sleep(0.02)


@pytest.fixture
def start(folder):
    """Starts a rank; all are ended."""
    started = []

    def start(rank: int, variable: str = "RANK", busy: bool = False) -> subprocess.Popen[bytes]:
        code = RANK.format(busy=busy)
        started.append(
            subprocess.Popen([sys.executable, "-c", code], env={**os.environ, variable: str(rank)})
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_ranks_are_seen_live_and_afterwards(folder, start):
    """One is busy, one is killed, one begins later and again."""
    start(0, busy=True)
    victim = start(1, "SLURM_PROCID")
    with PerformanceMonitor([Ranks("run")], interval=0.2) as monitor:

        def values(what: str) -> dict[str, float]:
            row = monitor.latest.values if monitor.latest else {}
            return {name: v for name, v in row.items() if name.endswith(what) and v == v}  # noqa: PLR0124

        until(
            lambda: (
                {"rank0/cpu_percent", "rank1/cpu_percent", "host0/cpu_percent"}
                <= values("cpu_percent").keys()
            )
        )
        until(
            lambda: (
                values("cpu_percent")["rank0/cpu_percent"] > 3 * values("cpu_percent")["rank1/cpu_percent"]
            )
        )
        until(lambda: {"rank0/loss", "rank1/loss"} <= values("loss").keys())

        victim.send_signal(signal.SIGKILL)
        until(lambda: "rank1/ram_used_bytes" not in values("ram_used_bytes"))
        assert "no row from rank 1" in monitor.errors["rank1/ram_used_bytes"]
        assert "rank0/ram_used_bytes" in values("ram_used_bytes")

        start(2, "OMPI_COMM_WORLD_RANK")
        until(lambda: "rank2/ram_used_bytes" in values("ram_used_bytes"))
        start(1)
        until(lambda: "rank1/ram_used_bytes" in values("ram_used_bytes"))
        columns = list(monitor.history.columns)
        assert len(columns) == len(set(columns))
        assert not [name for name in columns if name.startswith("host1")]
    table = Ranks("run").read()
    assert sorted(set(table.index.get_level_values("rank"))) == [0, 1, 2]
    assert table.attrs["errors"] == {}
    assert (Path("run") / "rank0001-2.csv").exists()
    assert table.loc[1].index.is_monotonic_increasing
    assert table.loc[0, "loss"].dropna().is_monotonic_decreasing


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "perfmon_widgets", "run", *words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_a_command_that_is_a_rank_is_logged_as_one(folder):
    for _ in range(2):
        ended = run(
            "--ranks", "run", "--", sys.executable, "-c", "import time; time.sleep(1)", SLURM_PROCID="3"
        )
        assert ended.returncode == 0, ended.stderr
    assert {path.name for path in Path("run").glob("*.csv")} == {"rank0003.csv", "rank0003-2.csv"}
    assert set(Ranks("run").read().index.get_level_values("rank")) == {3}


def test_the_ranks_that_a_launcher_starts_are_logged_each(folder):
    ended = run("--ranks", "run", "--interval", "0.2", "--", sys.executable, "-c", LAUNCHER)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.splitlines()[-1] == "logs of 2 ranks in run"
    table = Ranks("run").read()
    for rank in (0, 1):
        used = table.loc[rank, "process_ram_bytes"].max()
        assert 50e6 < used < 100e6
        assert len(table.loc[rank]) >= 5


def test_a_launcher_in_the_script_of_a_slurm_job_is_no_rank(folder):
    """SLURM sets SLURM_PROCID=0 there, too, and all that the launcher starts inherits it."""
    words = ("--ranks", "run", "--interval", "0.2", "--", sys.executable, "-c", LAUNCHER)
    ended = run(*words, SLURM_PROCID="0")
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.splitlines()[-1] == "logs of 2 ranks in run"
    assert "rows in" not in ended.stderr
    files = {f"rank000{rank}.{ending}" for rank in (0, 1) for ending in ("csv", "json")}
    assert {path.name for path in Path("run").iterdir()} == files
    assert set(Ranks("run").read().index.get_level_values("rank")) == {0, 1}


@pytest.mark.parametrize("through_shell", [False, True])
def test_a_launcher_with_the_number_of_its_pod_is_no_rank(folder, through_shell):
    """Kubeflow's operators set RANK for torchrun. Its ranks end one after the other."""
    code = LAUNCHER.replace("time.sleep(3)", "time.sleep(5 if os.environ['RANK'] == '0' else 2)")
    code = code.replace('"import time;', '"import os, time;')
    Path("launch.py").write_text(code)
    script = f"{sys.executable} launch.py; true"  # a shell executes its last command in its own place
    words = ("sh", "-c", script) if through_shell else (sys.executable, "launch.py")
    ended = run("--ranks", "run", "--interval", "0.2", "--", *words, RANK="0")
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.splitlines()[-1] == "logs of 2 ranks in run"
    assert {path.name for path in Path("run").glob("*.csv")} == {"rank0000.csv", "rank0001.csv"}
    table = Ranks("run").read()
    assert len(table.loc[0]) > len(table.loc[1]) + 5
    assert table.loc[0, "process_ram_bytes"].max() < 100e6  # without the launcher


def test_the_log_of_a_rank_that_starts_a_launcher_later_goes_on(folder, monkeypatch):
    """As an evaluation after ten hours of training."""
    monkeypatch.setattr(rank_processes, "_KEPT_AFTER", 0.0)
    monitor = PerformanceMonitor(interval=0.2)
    launcher = subprocess.Popen([sys.executable, "-c", LAUNCHER])
    with monitor:
        logs = RankLogs(monitor, launcher.pid, "run", {"RANK": "7"})
        until(lambda: len(list(Path("run").glob("rank000[01].csv"))) == 2)
        launcher.wait()
        rows = monitor.log.rows
        until(lambda: monitor.log.rows > rows)
        logs.close()
        assert logs.of_command
    assert set(Ranks("run").read().index.get_level_values("rank")) == {0, 1, 7}


def test_a_log_that_cannot_be_deleted_costs_no_rank(folder, monkeypatch):
    """As on a file server that has forgotten it."""

    def fail(path: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(Path, "unlink", fail)
    monitor = PerformanceMonitor(interval=0.2)
    launcher = subprocess.Popen([sys.executable, "-c", LAUNCHER])
    logs = RankLogs(monitor, launcher.pid, "run", {"RANK": "7"})
    until(lambda: len(list(Path("run").glob("rank000[01].csv"))) == 2)
    launcher.wait()
    logs.close()
    assert logs.words[0] == "logs of 2 ranks in run"


def test_a_rank_whose_children_have_its_number_is_one(folder):
    """As where a program of srun sets RANK for PyTorch, and then starts processes that load data."""
    code = LAUNCHER.replace("range(2)", "range(1)")
    words = ("--ranks", "run", "--interval", "0.2", "--", sys.executable, "-c", code)
    ended = run(*words, SLURM_PROCID="0")
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.splitlines()[-1].endswith("/run/rank0000.csv")
    assert {path.name for path in Path("run").glob("*.csv")} == {"rank0000.csv"}


def test_a_rank_that_cannot_be_logged_costs_no_other_rank(folder):
    """Here the disk is full once the first one has begun its log; this is not tried again for a minute."""
    monitor = PerformanceMonitor(interval=0.2)
    launcher = subprocess.Popen([sys.executable, "-c", LAUNCHER])
    log_to = rank_processes.log_to
    begun = []

    def log(monitor: PerformanceMonitor, folder: Path, rank: int) -> None:
        begun.append(monitor)
        log_to(monitor, folder, rank)
        if rank == 0:
            raise OSError(errno.ENOSPC, "the disk is full")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rank_processes, "log_to", log)
        logs = RankLogs(monitor, launcher.pid, "run", {})
        until(lambda: len(begun) >= 2)
        launcher.wait()
        logs.close()
    assert len(begun) == 2
    assert not any(each.running or each.log.running for each in begun)
    assert logs.words == ["rank 0 was not logged: the disk is full", "logs of 1 rank in run"]


def test_a_rank_that_could_not_be_logged_is_tried_again(folder, monkeypatch):
    monkeypatch.setattr(rank_processes, "_RETRY", 0.3)
    launcher = subprocess.Popen([sys.executable, "-c", LAUNCHER])
    log_to, failed = rank_processes.log_to, []

    def log(monitor: PerformanceMonitor, folder: Path, rank: int) -> None:
        if rank == 0 and not failed:
            failed.append(rank)
            raise OSError(errno.ENOSPC, "the disk is full")
        log_to(monitor, folder, rank)

    monkeypatch.setattr(rank_processes, "log_to", log)
    logs = RankLogs(PerformanceMonitor(interval=0.2), launcher.pid, "run", {})
    launcher.wait()
    logs.close()
    assert failed == [0]
    assert logs.words == ["logs of 2 ranks in run"]


def test_a_slow_file_server_does_not_delay_the_samples_of_the_command(folder, monkeypatch):
    asked = threading.Event()
    monkeypatch.setattr(rank_processes, "log_to", lambda *_: (asked.set(), time.sleep(2)))
    launcher = subprocess.Popen([sys.executable, "-c", LAUNCHER])
    with PerformanceMonitor([], interval=0.05) as monitor:
        logs = RankLogs(monitor, launcher.pid, "run", {})
        assert asked.wait(30)
        rows = monitor.history.index.size
        until(lambda: monitor.history.index.size > rows + 5)
        assert launcher.poll() is None
        logs.close()
    launcher.wait()


def test_a_command_without_ranks_says_so(folder):
    ended = run("--ranks", "run", "--", "true")
    assert "no rank was found" in ended.stderr.splitlines()[-1]
    assert list(Path("run").iterdir()) == []


@pytest.mark.parametrize("words", [("--ranks", "run", "--csv", "x.csv"), ("--ranks",)])
def test_words_that_make_no_sense_are_refused(folder, words):
    ended = run(*words, "--", "true")
    assert ended.returncode == 2
    assert "--ranks" in ended.stderr


def test_a_folder_or_rank_that_cannot_be_used_ends_the_command_before_it_runs(folder):
    Path("file").write_text("")
    ended = run("--ranks", "file/run", "--", "touch", "ran")
    assert (ended.returncode, Path("ran").exists()) == (125, False)
    assert "the folder file/run cannot be made: Not a directory; name another" in ended.stderr
    ended = run("--ranks", "run", "--", "touch", "ran", RANK="first")
    assert (ended.returncode, Path("ran").exists()) == (125, False)
    assert "RANK must be a rank, not 'first'" in ended.stderr


def test_a_command_that_does_not_exist_leaves_no_log(folder):
    assert run("--ranks", "run", "--", "no-such-program", RANK="0").returncode == 127
    assert list(Path("run").iterdir()) == []
