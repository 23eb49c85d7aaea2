"""``python -m perfmon_widgets run``: real commands, real signals, a real terminal."""

from __future__ import annotations

import json
import math
import os
import pty
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from fakes.clocks import Clocks
from fakes.real_group import real_group

from perfmon_widgets import read_csv
from perfmon_widgets.__main__ import _table, _until_fullest
from perfmon_widgets.collectors.linux import jupyterhub, limits
from perfmon_widgets.command import Command
from perfmon_widgets.metrics import Metric, Sample
from perfmon_widgets.views.statistics import Totals

MIB = 2**20
RUN = (sys.executable, "-W", "error", "-m", "perfmon_widgets", "run")
SUMMARY = re.compile(
    r"^perfmon_widgets: (.*) ended with exit code (\d+) after (.*): (.*?) m?s of CPU time(, at most .*)?\n"
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a command can be watched on Linux only")

# Counts the signals it gets, for a while longer than it takes for the first to come twice, and prints how
# many of which.
COUNTING = """
import collections, json, signal, sys, time
counts = collections.Counter()
def count(number, frame): counts[signal.Signals(number).name] += 1
for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGCONT"):
    signal.signal(signal.Signals[name], count)
print("ready", flush=True)
end = time.monotonic() + 60
while not counts and time.monotonic() < end:
    time.sleep(0.01)
time.sleep(0.3)
print(json.dumps(counts), flush=True)
sys.exit(7)
"""


def run(*words: object, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*RUN, *map(str, words)], capture_output=True, text=True, timeout=60, check=False, **options
    )


def python(code: str, *arguments: object) -> list[str]:
    """A command: a small Python program."""
    return [sys.executable, "-S", "-c", code, *map(str, arguments)]


def running(*words: object) -> AbstractContextManager[subprocess.Popen[str]]:
    """The runner over a command that prints a line when it is ready."""
    return running_words([*RUN, *map(str, words)])


@contextmanager
def running_words(words: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A program that prints a line when it is ready."""

    def begin() -> None:
        # In a group of processes of its own, as a shell starts a command: one whose parents are all outside
        # the session, as below a CI runner, cannot be stopped.
        os.setpgrp()
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # as if nobody had started the tests below nohup

    with subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=begin,  # noqa: PLW1509 - nothing else runs in this process
    ) as started:
        try:
            assert started.stdout.readline() == "ready\n"
            yield started
        finally:
            started.kill()


# -- what goes through -------------------------------------------------------------------------------------


def test_the_exit_code_is_that_of_the_command():
    assert run("--", *python("raise SystemExit(7)")).returncode == 7
    assert run("--", "true").returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV])
def test_a_command_that_a_signal_ended_counts_from_128(number):
    ended = run("--", "sh", "-c", f"ulimit -c 0; kill -{number.value} $$")
    assert ended.returncode == 128 + number
    assert SUMMARY.match(ended.stderr)[2] == str(128 + number)


def test_input_output_and_errors_are_the_command_s_own():
    code = "import sys; print(sys.stdin.read().upper(), end=''); print('oh', file=sys.stderr)"
    ended = run("--", *python(code), input="hello\n")
    assert ended.stdout == "HELLO\n"
    first, _, summary = ended.stderr.partition("\n")
    assert first == "oh"
    assert SUMMARY.match(summary)


def test_the_command_gets_its_arguments_and_its_environment_as_they_are(tmp_path):
    code = "import json, os, sys; print(json.dumps([sys.argv[1:], dict(os.environ), os.getcwd()]))"
    words = ["--csv", "--", "-h", "", "a b", "$HOME"]
    environment = {**os.environ, "PERFMON_TEST": "1"}
    ended = run("--csv", "out.csv", "--", *python(code, *words), cwd=tmp_path, env=environment)
    assert json.loads(ended.stdout) == [words, environment, str(tmp_path)]


def test_the_dashes_may_be_left_out(tmp_path):
    ended = run("--interval", "3", "sh", "-c", "echo $0 $*", "--", "--csv", "x", cwd=tmp_path)
    assert ended.stdout == "-- --csv x\n"
    assert list(tmp_path.iterdir()) == []


def test_signals_that_python_ignores_are_as_they_were():
    # Started by its path, as the interpreter of `run` is: Python 3.13 then uses posix_spawn(), with which the
    # C library makes the program ignore two signals of its own.
    env = [str(shutil.which("env")), "-i"]
    plain = subprocess.run(
        [*env, "sh", "-c", "exec grep Sig /proc/self/status"], capture_output=True, check=True
    )
    watched = run("--", "env", "-i", "grep", "Sig", "/proc/self/status")
    wanted = [line for line in plain.stdout.decode().splitlines() if not line.startswith("SigQ")]
    assert [line for line in watched.stdout.splitlines() if not line.startswith("SigQ")] == wanted


def test_no_open_file_is_handed_on():
    ended = run("--csv", "/dev/fd/none/x", "--", "true")
    assert ended.returncode == 125
    ended = run("--", "sh", "-c", "ls /proc/$$/fd")
    assert ended.stdout.split() == ["0", "1", "2"]


# -- what does not start -----------------------------------------------------------------------------------


def test_a_command_that_is_not_there_is_127_and_one_line(tmp_path):
    ended = run("--csv", "out.csv", "--", "no-such-command", cwd=tmp_path)
    assert ended.returncode == 127
    assert ended.stderr == "perfmon_widgets: cannot run 'no-such-command': command not found\n"
    assert ended.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_a_command_that_is_not_there_costs_no_other_file(tmp_path):
    (tmp_path / "out.json").write_text("mine")
    assert run("--csv", "out.csv", "--", "no-such-command", cwd=tmp_path).returncode == 127
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


@pytest.mark.parametrize(
    ("content", "mode", "code", "reason"),
    [
        ("#!/bin/sh\n", 0o644, 126, "Permission denied"),
        ("echo\n", 0o755, 126, "it is not a program, and its first line does not name an interpreter (#!)"),
        ("#!/no/such\n", 0o755, 127, "the interpreter named in ./program does not exist"),
    ],
)
def test_a_file_that_cannot_be_run_is_one_line(tmp_path, content, mode, code, reason):
    program = tmp_path / "program"
    program.write_text(content)
    program.chmod(mode)
    ended = run("--", "./program", cwd=tmp_path)
    assert ended.returncode == code
    assert ended.stderr == f"perfmon_widgets: cannot run './program': {reason}\n"


def test_a_log_that_cannot_be_written_is_one_line_before_the_command_starts(tmp_path):
    ended = run("--csv", "no/such/out.csv", "--", "touch", "started", cwd=tmp_path)
    assert ended.returncode == 125
    assert re.fullmatch(r"perfmon_widgets: cannot log to .*no/such does not exist; create.*\n", ended.stderr)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("interval", ["0", "-1", "nan", "inf", "soon"])
def test_an_interval_that_makes_no_sense_is_named(interval):
    ended = run("--interval", interval, "--", "true")
    assert ended.returncode == 2
    assert f"--interval: must be a number of seconds greater than 0, not {interval!r}" in ended.stderr


@pytest.mark.parametrize("words", [[], ["--"], ["--csv", "x.csv"]])
def test_without_a_command_it_says_how_to_call_it(words):
    ended = run(*words)
    assert ended.returncode == 2
    assert "usage: python -m perfmon_widgets run" in ended.stderr
    assert "which command? put it behind --" in ended.stderr


def test_the_module_alone_prints_what_it_can_do():
    ended = subprocess.run([*RUN[:-1]], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert "usage: python -m perfmon_widgets" in ended.stderr
    assert "run a command and sample" in ended.stderr


# -- what is measured --------------------------------------------------------------------------------------

# Holds 200 MiB, keeps a CPU busy for a second or longer, and prints the CPU seconds that it took.
WORK = f"""
import time
block = b"x" * {200 * MIB}
end = time.monotonic() + 1.0
while time.monotonic() < end or time.process_time() < 1.0: pass
print(time.process_time(), flush=True)
"""


def cpu_seconds(rows: pd.DataFrame) -> float:
    """The CPU seconds that the rows add up to."""
    capacity, _ = jupyterhub.capacity(limits.Limits().now())
    passed = rows.index.to_series().diff().dt.total_seconds()
    return float((rows["process_cpu_percent"] / 100 * capacity * passed).sum())


def test_the_process_columns_are_those_of_the_command(tmp_path):
    ended = run("--csv", "out.csv", "--interval", "0.1", "--", *python(WORK), cwd=tmp_path)
    assert ended.returncode == 0
    rows = read_csv(tmp_path / "out.csv")
    assert len(rows) >= 4
    used = rows["process_ram_bytes"].max()
    assert 200 * MIB < used < 260 * MIB  # with the interpreter, without the runner's NumPy
    assert cpu_seconds(rows) == pytest.approx(float(ended.stdout), rel=0.1, abs=0.1)
    table = {line.split()[0]: line.split()[1:] for line in ended.stderr.splitlines()[2:-1]}
    peak = max(used, rows["process_ram_peak_bytes"].max())
    assert table["process_ram_bytes"][-2:] == [f"{peak / MIB:.0f}", "MiB"]
    assert ended.stderr.splitlines()[-1] == f"{len(rows)} rows in {tmp_path / 'out.csv'}"


def test_grandchildren_belong_to_the_command(tmp_path):
    inner = "import subprocess, sys; subprocess.run([sys.executable, '-S', '-c', sys.argv[1]], check=True)"
    # Children are read less often than ten times a second, so that it costs little.
    ended = run("--csv", "out.csv", "--interval", "0.5", "--", *python(inner, WORK), cwd=tmp_path)
    assert ended.returncode == 0
    rows = read_csv(tmp_path / "out.csv")
    assert rows["process_ram_bytes"].max() > 200 * MIB
    # With what the outer interpreter itself takes.
    assert cpu_seconds(rows) == pytest.approx(float(ended.stdout) + 0.1, abs=0.3)


def test_a_command_shorter_than_the_interval_has_a_sample_at_its_start_and_at_its_end(tmp_path):
    code = "import time\nwhile time.process_time() < 0.5: pass"
    ended = run("--csv", "out.csv", "--", *python(code), cwd=tmp_path)
    rows = read_csv(tmp_path / "out.csv")
    assert len(rows) == 2
    assert cpu_seconds(rows) == pytest.approx(0.5, abs=0.1)
    assert float(SUMMARY.match(ended.stderr)[4]) == pytest.approx(0.5, abs=0.1)


def test_a_command_that_has_ended_has_no_memory_rather_than_none_in_use(tmp_path):
    run("--csv", "out.csv", "--", "true", cwd=tmp_path)
    rows = read_csv(tmp_path / "out.csv")["process_ram_bytes"]
    assert rows.notna().tolist() == [True, False]


def test_the_most_memory_is_that_of_the_command_and_not_of_what_it_was_before():
    """Linux counts in the Python that became the command, which is larger than such a small one."""
    assert SUMMARY.match(run("--", "true").stderr)[5] is None
    found = SUMMARY.match(run("--", *python(f"block = b'x' * {200 * MIB}")).stderr)[5]
    assert 200 < int(re.fullmatch(r", at most (\d+) MiB of RAM in one process", found)[1]) < 260


def test_a_file_that_exists_is_kept(tmp_path):
    (tmp_path / "out.csv").write_text("mine")
    ended = run("--csv", "out.csv", "--", "true", cwd=tmp_path)
    assert (tmp_path / "out.csv").read_text() == "mine"
    assert ended.stderr.endswith(f"2 rows in {tmp_path / 'out-2.csv'}\n")


def test_without_a_file_none_is_written(tmp_path):
    ended = run("--", "true", cwd=tmp_path)
    assert SUMMARY.match(ended.stderr)[1] == "true"
    assert list(tmp_path.iterdir()) == []


def test_a_log_that_ends_early_is_reported_and_the_command_goes_on(tmp_path):
    code = "import os, time; time.sleep(0.5); os.unlink('out.csv'); time.sleep(0.5); print('done')"
    ended = run("--csv", "out.csv", "--interval", "0.1", "--", *python(code), cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (0, "done\n")
    assert "the log is not complete: cannot log to" in ended.stderr


@pytest.mark.parametrize("closing", ["2>/dev/full", "2>&-"])
def test_a_closed_standard_error_does_not_change_the_exit_code(tmp_path, closing):
    command = f"{sys.executable} -m perfmon_widgets run --csv out.csv -- sh -c 'exit 3' {closing}"
    ended = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (3, b"", b"")
    assert len(read_csv(tmp_path / "out.csv")) == 2


def test_the_runner_needs_no_pandas_and_no_widgets():
    code = "import sys; from perfmon_widgets.__main__ import main; main(['run', 'true']); print(*sys.modules)"
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert not {"pandas", "ipywidgets", "tornado", "IPython"} & set(ended.stdout.split())


def test_the_table_has_the_command_the_machine_and_the_gpus_without_missing_columns(monkeypatch):
    columns = {
        "cpu_percent": ("percent", "cpu", [50, 50]),
        "core0/cpu_percent": ("percent", "cpu", [50, 50]),
        "gpu0/memory_limit_bytes": ("bytes", "gpu", [1e9, 1e9]),
        "gpu0/utilization_percent": ("percent", "gpu", [75, 100]),
        "gpu0/power_watts": ("watts", "gpu", [200, 300]),
        "gpu1/utilization_percent": ("percent", "gpu", [math.nan, math.nan]),
        "process_ram_bytes": ("bytes", "process", [3 * MIB, 5 * MIB]),
    }
    roles = {"core0/cpu_percent": "part", "gpu0/memory_limit_bytes": "limit", "gpu0/power_watts": ""}
    metrics = [
        Metric(name, unit, group, "", role=roles.get(name, "headline"))
        for name, (unit, group, _) in columns.items()
    ]
    totals, clocks = Totals(), Clocks()
    monkeypatch.setattr("perfmon_widgets.views.statistics.time", clocks)
    for clocks.passed, row in enumerate(range(-1, 2)):
        values = {name: float(numbers[row]) for name, (_, _, numbers) in columns.items()}
        totals.add(Sample(clocks.time(), values))
    assert [line.split() for line in _table(totals, metrics)] == [
        ["mean", "peak"],
        ["process_ram_bytes", "4", "MiB", "5", "MiB"],
        ["cpu_percent", "50%", "50%"],
        ["gpu0/utilization_percent", "88%", "100%"],
        ["gpu0/power_watts", "250", "W", "300", "W"],
    ]


# -- the live page -------------------------------------------------------------------------------------------


def opened(line: str) -> str:
    """The address in a line of the runner, once the page behind it has answered."""
    [url] = re.findall(r"http://\S+", line)
    with urllib.request.urlopen(url, timeout=20) as entrance:
        assert entrance.headers["Set-Cookie"]
    return url


def shown_at(url: str) -> Any:
    with urllib.request.urlopen(url.replace("/perfmon?", "/perfmon/view?"), timeout=20) as answered:
        return json.load(answered)


def test_the_page_shows_the_command_and_ends_with_it():
    code = "import sys; print('ready', flush=True); sys.stdin.read(); sys.exit(7)"
    with running("--serve", "--interval", "0.1", "--", *python(code)) as runner:
        url = opened(runner.stderr.readline())
        shown = shown_at(url)
        assert shown["state"] == "live"
        assert "process" in [each["group"] for each in shown["sections"]]
        runner.stdin.close()
        assert runner.wait(60) == 7
        with pytest.raises(urllib.error.URLError):
            opened(url)


def test_the_last_picture_stays_for_a_while_and_until_ctrl_c():
    begun = time.monotonic()
    with running("--serve-after", "1h", "--", *python("print('ready'); raise SystemExit(7)")) as runner:
        first = opened(runner.stderr.readline())
        while "the live page stays for 1:00:00" not in (line := runner.stderr.readline()):
            assert line
        url = opened(line)
        assert url == first
        shown = shown_at(url)
        assert shown["state"] == "stopped"
        assert shown["sections"][0]["figures"][0]["values"]
        runner.send_signal(signal.SIGINT)
        assert runner.wait(60) == 7
    assert time.monotonic() - begun < 60


def test_ctrl_z_stops_it_while_the_last_picture_stays():
    with running("--serve-after", "1h", "--", *python("print('ready'); raise SystemExit(7)")) as runner:
        while "the live page stays for 1:00:00" not in (line := runner.stderr.readline()):
            assert line
        for _ in range(2):
            runner.send_signal(signal.SIGTSTP)
            _wait_for(lambda: _state(runner.pid) == "T")
            runner.send_signal(signal.SIGCONT)
            _wait_for(lambda: _state(runner.pid) != "T")
            assert shown_at(re.findall(r"http://\S+", line)[0])["state"] == "stopped"
        runner.send_signal(signal.SIGINT)
        assert runner.wait(60) == 7


def test_the_time_of_the_last_picture_ends_also_after_ctrl_z():
    code = """
from perfmon_widgets.command import Command
command = Command(["true"])
command.start()
command.wait()
command.result()
print("ready", flush=True)
command.linger(2)
"""
    begun = time.monotonic()
    with running_words([sys.executable, "-c", code]) as started:
        started.send_signal(signal.SIGTSTP)
        _wait_for(lambda: _state(started.pid) == "T")
        started.send_signal(signal.SIGCONT)
        assert started.wait(30) == 0
    assert time.monotonic() - begun >= 2


def test_the_last_picture_goes_after_its_time():
    ended = run("--serve-after", "0.2s", "--", *python("raise SystemExit(7)"))
    assert ended.returncode == 7
    assert "the live page stays for 0.2 s" in ended.stderr


@pytest.mark.parametrize("duration", ["0", "-1m", "x", "", "m", "nan", "inf", "1e308h", "10 minutes"])
def test_a_time_that_makes_no_sense_is_named(duration):
    refused = run(f"--serve-after={duration}", "--", "true")
    assert refused.returncode == 2
    assert f"must be a time such as 30s, 10m or 2h, not {duration!r}" in refused.stderr


def test_without_being_asked_it_serves_nothing():
    assert "http" not in run("--", "true").stderr


# -- signals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGCONT"])
def test_a_signal_to_the_runner_reaches_the_command_once(name):
    with running("--", *python(COUNTING)) as started:
        started.send_signal(signal.Signals[name])
        assert json.loads(started.stdout.readline()) == {name: 1}
        assert started.wait(30) == 7


def test_the_summary_names_the_exit_code_of_a_command_that_sigterm_ended():
    with running("--", *python("import time\nprint('ready', flush=True)\ntime.sleep(60)")) as started:
        started.terminate()
        assert started.wait(30) == 128 + signal.SIGTERM
        assert "exit code 143" in started.stderr.read()


def test_a_signal_that_may_not_be_passed_on_ends_nothing(monkeypatch):
    """As to a command that sudo started: it belongs to another user."""
    watched = Command.__new__(Command)
    watched.pid, watched._watched = os.getpid(), {signal.SIGCHLD, signal.SIGTERM}
    news = [signal.SIGTERM, signal.SIGCHLD]
    found = []

    def refuse(*wish):
        found.append(wish)
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(signal, "sigwaitinfo", lambda _: SimpleNamespace(si_signo=news.pop(0), si_code=0))
    monkeypatch.setattr(os, "waitid", lambda *_: "it has ended")
    monkeypatch.setattr(os, "kill", refuse)
    watched.wait()
    assert found == [(os.getpid(), signal.SIGTERM)]


def test_what_nohup_holds_back_is_held_back_from_both():
    code = (
        "import signal; print('ready', flush=True); print(signal.getsignal(signal.SIGHUP).name, flush=True)"
    )
    code += "\nimport time; time.sleep(0.5)"
    with subprocess.Popen(
        ["nohup", *RUN, "--", *python(code)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as started:
        assert started.stdout.readline() == "ready\n"
        assert started.stdout.readline() == "SIG_IGN\n"
        started.send_signal(signal.SIGHUP)
        assert started.wait(30) == 0


def test_a_caller_that_ignores_its_children_does_not_matter():
    code = "import os, signal as s, sys; s.signal(s.SIGCHLD, s.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    ended = subprocess.run(
        [*python(code), *RUN, "--", "sh", "-c", "exit 5"], capture_output=True, timeout=60, check=False
    )
    assert ended.returncode == 5


def test_stopping_and_continuing_the_runner_does_so_with_the_command():
    with running("--", *python(COUNTING)) as started:
        (child,) = _children(started.pid)
        started.send_signal(signal.SIGTSTP)
        _wait_for(lambda: _state(started.pid) == _state(child) == "T")
        started.send_signal(signal.SIGCONT)
        _wait_for(lambda: "T" not in (_state(started.pid), _state(child)))
        assert json.loads(started.stdout.readline()) == {"SIGCONT": 1}
        assert started.wait(30) == 7


def test_ctrl_z_before_the_command_starts_stops_both_and_they_can_be_continued():
    code = """
import signal, sys
from perfmon_widgets.command import Command
command = Command([sys.executable, "-S", "-c", "print('started')"])
print("ready", flush=True)
while signal.SIGTSTP not in signal.sigpending():
    pass
command.start()
command.wait()
sys.exit(command.result().exit_code)
"""
    with running_words([sys.executable, "-c", code]) as started:
        (child,) = _children(started.pid)
        os.killpg(started.pid, signal.SIGTSTP)  # as a terminal does
        _wait_for(lambda: _state(started.pid) == _state(child) == "T")
        os.killpg(started.pid, signal.SIGCONT)
        assert started.stdout.readline() == "started\n"
        assert started.wait(30) == 0


def test_the_command_that_waits_does_not_outlive_a_runner_that_is_killed_before_it_starts(tmp_path):
    code = (
        "import os, signal; from perfmon_widgets.command import Command; "
        "made = Command(['touch', 'started']); print(made.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, cwd=tmp_path, timeout=60, check=False
    )
    _wait_for(lambda: not Path(f"/proc/{int(ended.stdout)}").exists() or _state(int(ended.stdout)) == "Z")
    assert list(tmp_path.iterdir()) == []


class Terminal:
    """A real terminal with a program as the leader of its session."""

    def __init__(self, words: list[str]) -> None:
        self.pid, self._master = pty.fork()
        if self.pid == 0:
            os.execv(words[0], words)
        self.text = ""

    def press(self, key: bytes) -> None:
        os.write(self._master, key)

    def read_until(self, pattern: str, seconds: float = 30.0) -> re.Match[str]:
        end = time.monotonic() + seconds
        while not (found := re.search(pattern, self.text)):
            assert time.monotonic() < end, self.text
            if select.select([self._master], [], [], 0.1)[0]:
                try:
                    self.text += os.read(self._master, 4096).decode()
                except OSError:  # the other side is closed
                    end = min(end, time.monotonic() + 0.1)
        return found

    def exit_code(self) -> int:
        end = time.monotonic() + 30
        while time.monotonic() < end:
            number, status = os.waitpid(self.pid, os.WNOHANG)
            if number:
                self.pid = 0
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.01)
        raise AssertionError(f"still running: {self.text}")

    def close(self) -> None:
        os.close(self._master)
        if self.pid:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


@pytest.fixture
def terminal() -> Iterator[Callable[[list[str]], Terminal]]:
    opened: list[Terminal] = []

    def open_terminal(words: list[str]) -> Terminal:
        opened.append(Terminal(words))
        return opened[-1]

    yield open_terminal
    for one in opened:
        one.close()


@pytest.mark.parametrize(("key", "name"), [(b"\x03", "SIGINT"), (b"\x1c", "SIGQUIT")])
def test_a_key_of_the_terminal_reaches_the_command_once(terminal, key, name):
    opened = terminal([*RUN, "--", *python(COUNTING)])
    opened.read_until("ready")
    opened.press(key)
    opened.read_until(re.escape(f'{{"{name}": 1}}'))
    opened.read_until("exit code 7")
    assert opened.exit_code() == 7


def test_ctrl_c_ends_both_without_a_traceback_of_the_runner(terminal):
    code = "import signal, time; signal.signal(2, signal.SIG_DFL); print('ready', flush=True); time.sleep(60)"
    opened = terminal([*RUN, "--", *python(code)])
    opened.read_until("ready")
    opened.press(b"\x03")
    opened.read_until("exit code 130")
    assert opened.exit_code() == 130
    assert "Traceback" not in opened.text


def test_the_terminal_is_the_command_s_own(terminal):
    code = "import sys; print(sys.stdin.isatty(), sys.stdout.isatty()); print(input('name? ').upper())"
    opened = terminal([*RUN, "--", *python(code)])
    opened.read_until(r"True True\s+name\? ")
    opened.press(b"ada\n")
    opened.read_until("ADA")
    assert opened.exit_code() == 0


def test_ctrl_z_stops_both_and_the_shell_can_continue_them(terminal):
    code = (
        "import os, time; print('ready', os.getpid(), flush=True); time.sleep(1); print('woke', flush=True)"
    )
    opened = terminal(["/bin/bash", "--norc", "--noprofile", "-i"])
    command = " ".join([*RUN, "--", sys.executable, "-S", "-c", f'"{code}"'])
    opened.press(f"{command}\n".encode())
    child = int(opened.read_until(r"ready (\d+)")[1])
    opened.press(b"\x1a")
    opened.read_until("Stopped")
    runner = int(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[1])
    _wait_for(lambda: _state(runner) == _state(child) == "T")
    opened.press(b"fg\n")
    opened.read_until("woke")
    opened.read_until("exit code 0")
    opened.press(b"exit\n")
    opened.read_until(r"exit\s*$")


def _children(number: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{number}/task/{number}/children").read_text().split()]


def _state(number: int) -> str:
    return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]


def _wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


# -- why it was killed -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("KILL", "no OOM kill was counted: somebody killed it (SIGKILL, signal 9)"),
        ("SEGV", "no OOM kill was counted: compiled code crashed (SIGSEGV, signal 11)"),
        ("TERM", "no OOM kill was counted: somebody killed it (SIGTERM, signal 15)"),
    ],
)
def test_a_command_that_is_killed_is_explained(name, words):
    (line,) = [
        line
        for line in run("--", "sh", "-c", f"kill -{name} $$").stderr.splitlines()
        if line.startswith("why: ")
    ]
    assert line.endswith(words)
    assert line.startswith("why: RAM ")


@pytest.mark.parametrize("code", ["exit 3", "exit 137", "kill -INT $$"])
def test_a_command_that_ends_by_itself_or_by_ctrl_c_needs_no_explanation(code):
    assert "why: " not in run("--", "sh", "-c", code).stderr


# It runs in a control group; what `run` says goes to standard output.
IN_GROUP = """
import os, runpy, sys
os.dup2(1, 2)
sys.argv = ["perfmon_widgets", "run", "--interval", "0.1", "--", *sys.argv[1:]]
runpy.run_module("perfmon_widgets", run_name="__main__")
"""
FILL = "import time\nkept = []\nwhile True: kept.append(b'x' * 4_000_000), time.sleep(0.01)"


@pytest.mark.parametrize(
    ("times", "used", "count"),
    [
        ([0, 1, 2], [1, 2, 3], 3),
        ([0, 1.8, 1.9, 2], [9, 2, 3, 1], 3),  # the last one was taken when the command had been killed
        ([0, 1.9, 2], [1, math.nan, math.nan], 3),
        ([0, 1, 2], [], 3),
    ],
)
def test_what_killed_a_command_is_judged_by_the_fullest_of_the_last_rows(times, used, count):
    assert _until_fullest(times, used) == count


@pytest.mark.parametrize("shell", [False, True])
def test_a_command_that_runs_out_of_memory_is_explained(shell):
    """Also behind a shell, which ends by itself then, with the exit code 137."""
    command = [sys.executable, "-c", FILL]
    if shell:
        command = ["sh", "-c", f"{shlex.join(command)}; exit $?"]
    with real_group() as group:
        group.limit_memory(256 * MIB)
        with group.running(IN_GROUP, *command) as program:
            said = program.stdout.read()
    assert "ended with exit code 137 after" in said
    (line,) = [line for line in said.splitlines() if line.startswith("why: ")]
    assert line.startswith("why: RAM ")
    assert "of 256 MiB, +" in line
    assert line.endswith("the OS kernel's count of OOM kills rose: killed for want of memory")
