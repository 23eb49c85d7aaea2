"""What happens to notebooks, done to a real monitor: nothing breaks it, and nothing recorded is lost."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from fakes import hung_disk
from fakes.collectors import FakeCollector, OtherCollector, Samples
from fakes.interrupt import Interrupt

from perfmon_widgets import PerformanceMonitor, read_csv, read_spans
from perfmon_widgets.collectors.linux import disk
from perfmon_widgets.collectors.linux.host import HostCollector
from perfmon_widgets.core import monitor as monitor_module
from perfmon_widgets.core import sources
from perfmon_widgets.core.sampler import Sampler

FAST = 0.02
TESTS = Path(__file__).parents[1]


@pytest.fixture
def counting(folder: Path) -> Iterator[tuple[PerformanceMonitor, Samples, Path]]:
    """A running monitor whose rows are 0, 1, 2 …, a subscriber, and the file that it logs to."""
    monitor = PerformanceMonitor([FakeCollector("row_count")], interval=FAST)
    samples = Samples()
    monitor.on_sample(samples)
    path = monitor.log.start("run.csv")
    monitor.start()
    samples.next()
    yield monitor, samples, path
    monitor.stop()


def counted(frame) -> list[float]:
    return frame["row_count"].tolist()


def program(code: str, *arguments: object, **options) -> subprocess.Popen[str]:
    """A Python program that finds the fakes and prints what it has to say line by line."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", f"import sys\nsys.path.insert(0, {str(TESTS)!r})\n{code}"]
        + [str(argument) for argument in arguments],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


def ended(child: subprocess.Popen[str]) -> str:
    """What a program has printed when it has ended well; fails the test if it did not."""
    output, errors = child.communicate(timeout=60)
    assert child.returncode == 0, errors
    assert errors == ""
    return output


# -- sources that do not answer ----------------------------------------------------------------------------


def test_a_source_that_hangs_costs_its_own_columns_until_it_comes_back(monkeypatch):
    monkeypatch.setattr(sources, "TIMEOUT", 0.1)
    answers = threading.Event()
    answers.set()

    def hang() -> dict[str, float]:
        assert answers.wait(30)
        return {"far_percent": 1.0}

    far = FakeCollector("far_percent", read=hang)
    monitor = PerformanceMonitor([far, OtherCollector("near_percent")], interval=FAST)
    samples = Samples()
    monitor.on_sample(samples)
    with monitor:
        assert samples.next().values["far_percent"] == 1.0
        answers.clear()
        while not math.isnan((sample := samples.next()).values["far_percent"]):
            pass
        assert "a reading has not come back" in monitor.errors["FakeCollector"]
        following = [samples.next() for _ in range(5)]
        near = [each.values["near_percent"] for each in [sample, *following]]
        assert near == list(itertools.accumulate([near[0], *[1.0] * 5]))
        assert following[-1].time - following[0].time < 30 * FAST  # it is waited for only once
        answers.set()
        while math.isnan(samples.next().values["far_percent"]):
            pass
        assert monitor.errors == {}


def test_a_monitor_with_a_source_that_hangs_can_be_stopped_and_started(monkeypatch):
    monkeypatch.setattr(sources, "TIMEOUT", 0.1)
    answers = threading.Event()
    far = FakeCollector("far_percent", read=lambda: {"far_percent": float(answers.wait(30))})
    monitor = PerformanceMonitor([far, OtherCollector("near_percent")], interval=FAST)
    samples = Samples()
    monitor.on_sample(samples)
    for _ in range(3):
        monitor.start()
        assert math.isnan(samples.next().values["far_percent"])
        monitor.stop()
    assert far.readings == 1  # it was not asked again while it hung
    answers.set()


def test_a_source_that_has_not_come_back_is_neither_called_a_second_time_nor_closed(monkeypatch):
    """Not by a sample that is taken by hand either, nor as the monitor stops: nobody else has to be safe."""
    monkeypatch.setattr(sources, "TIMEOUT", 0.1)
    answers = threading.Event()
    closed: list[bool] = []
    far = FakeCollector("far_percent", read=lambda: {"far_percent": float(answers.wait(30))})
    far.close = lambda: closed.append(True)
    monitor = PerformanceMonitor([far], interval=FAST)
    samples = Samples()
    monitor.on_sample(samples)
    monitor.start()
    samples.next()
    assert math.isnan(monitor.sample().values["far_percent"])
    assert "a reading has not come back" in monitor.errors["FakeCollector"]
    monitor.stop()
    assert (far.readings, closed) == (1, [])
    answers.set()
    monitor.start()
    while math.isnan(samples.next().values["far_percent"]):
        pass
    monitor.stop()
    assert closed == [True]


class UntoldError(Exception):
    """One whose text fails in its turn."""

    def __str__(self) -> str:
        return self.args[0]


@pytest.mark.parametrize("error", [asyncio.CancelledError, SystemExit, KeyboardInterrupt, UntoldError])
def test_whatever_is_raised_costs_the_columns_of_its_source(error):
    def fail() -> dict[str, float]:
        raise error

    monitor = PerformanceMonitor([FakeCollector("a_percent", read=fail), OtherCollector("b_percent")])
    samples = Samples()
    monitor.on_sample(samples)
    monitor.interval = FAST
    with monitor:
        samples.next()
        assert math.isnan(samples.next().values["a_percent"])
        assert error.__name__ in monitor.errors["FakeCollector"]


def test_a_thread_that_cannot_be_started_is_tried_again(monkeypatch):
    """No more threads (pids.max, ulimit -u) for a moment: neither a source nor the disk is lost for good."""
    start = threading.Thread.start
    refused: list[str] = []

    def refuse(thread: threading.Thread) -> None:
        if thread.name in ("perfmon-FakeCollector", "perfmon-disk") and thread.name not in refused:
            refused.append(thread.name)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    monitor = PerformanceMonitor([FakeCollector("a_percent"), HostCollector()], interval=FAST)
    samples = Samples()
    monitor.on_sample(samples)
    with monitor:
        first, second = samples.next().values, samples.next().values
    assert len(refused) == 2
    assert math.isnan(first["a_percent"])
    assert math.isnan(first["disk_percent"])
    assert first["ram_percent"] > 0
    assert second["a_percent"] == 0
    assert second["disk_percent"] > 0
    assert not {"FakeCollector", "HostCollector", "disk_percent"} & monitor.errors.keys()


def test_starts_and_stops_leave_nothing_behind_for_the_exit():
    monitor = PerformanceMonitor([FakeCollector("a_percent")], interval=FAST)
    samples = Samples()
    monitor.on_sample(samples)
    before = len(weakref.finalize._registry)
    for _ in range(5):
        with monitor:
            samples.next()
    assert len(weakref.finalize._registry) <= before


def test_a_file_server_that_is_away_costs_the_numbers_of_the_disk_only(tmp_path, monkeypatch):
    if os.getuid() != 0 or not Path("/dev/fuse").exists():
        pytest.skip("mounting a file system takes root and /dev/fuse")
    monkeypatch.setattr(disk, "_TIMEOUT", 0.2)
    point = tmp_path / "far"
    point.mkdir()
    with hung_disk.mounted(point) as away, monkeypatch.context() as patch:
        patch.chdir(point)
        monitor = PerformanceMonitor([HostCollector()])
        before = monitor.sample().values
        assert before["disk_limit_bytes"] == 1000 * 4096
        assert before["disk_percent"] == 60.0
        away.set()
        for _ in range(3):
            values = monitor.sample().values
            assert math.isnan(values["disk_percent"])
            assert values["ram_percent"] > 0
        assert "does not answer" in monitor.errors["disk_percent"]
        monitor.stop()
    assert math.isnan(before["disk_read_bytes_per_second"])  # a server's disk is not counted here


# -- the log -----------------------------------------------------------------------------------------------


def test_a_log_directory_that_is_deleted_ends_the_log_only(folder):
    monitor = PerformanceMonitor([FakeCollector("row_count")], interval=FAST)
    samples = Samples()
    monitor.on_sample(samples)
    (folder / "logs").mkdir()
    monitor.log.start("logs/run.csv")
    with monitor:
        samples.next()
        shutil.rmtree(folder / "logs")
        while monitor.log.running:
            samples.next()
        assert f"the directory {folder / 'logs'} does not exist" in monitor.log.error
        samples.next()
        path = monitor.log.start("again.csv")
        samples.next()
    assert counted(read_csv(path)) == counted(monitor.history) == list(range(len(monitor.history)))


@pytest.mark.parametrize("store", ["log", "history", "room", "recorded", "all"])
def test_an_interrupt_while_a_series_becomes_a_column_costs_nothing_but_that_sample(
    folder, monkeypatch, store
):
    """Of a sample by hand, on the main thread: a cell is interrupted."""
    monitor = PerformanceMonitor([FakeCollector("row_count")])
    path = monitor.log.start("run.csv")
    monitor.sample()
    monitor.record(loss=1.0)

    adopt = monitor._recorded.adopt

    def interrupted(*names: object) -> None:
        if store == "all":
            adopt(*names)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        where, name = {
            "log": (monitor._log, "add_columns"),
            "history": (monitor._history, "add_columns"),
            "room": (monitor._history, "_begin"),
            "recorded": (monitor._recorded, "adopt"),
            "all": (monitor._recorded, "adopt"),
        }[store]
        patch.setattr(where, name, interrupted)
        with pytest.raises(KeyboardInterrupt):
            monitor.sample()
    assert monitor.sample().values == {"row_count": 1.0, "loss": 1.0}
    assert math.isnan(monitor.sample().values["loss"])
    monitor.record(loss=0.5, accuracy=0.5)
    assert monitor.sample().values == {"row_count": 3.0, "loss": 0.5, "accuracy": 0.5}
    assert monitor.errors == {}
    assert [metric.name for metric in monitor.metrics] == list(monitor.history.columns)
    monitor.stop()
    pd.testing.assert_frame_equal(read_csv(path), monitor.history)
    assert sorted(os.listdir()) == ["run.csv", "run.part2.csv", "run.part3.csv"]


def test_a_file_made_read_only_is_written_on_since_it_is_open(counting):
    monitor, samples, path = counting
    path.chmod(0o444)
    for _ in range(3):
        samples.next()
    monitor.stop()
    assert counted(read_csv(path)) == counted(monitor.history)


LOGS = """
from fakes.collectors import FakeCollector
from perfmon_widgets import PerformanceMonitor
import threading
monitor = PerformanceMonitor([FakeCollector("row_count")], interval=0.01)
print(monitor.log.start("run.csv").name, flush=True)
with monitor:
    sys.stdin.read()
print(len(monitor.history))
"""


def test_programs_that_log_to_one_name_write_files_of_their_own(folder):
    children = [program(LOGS, cwd=folder, stdin=subprocess.PIPE) for _ in range(3)]
    names = {child.stdout.readline().strip(): child for child in children}
    assert sorted(names) == ["run-2.csv", "run-3.csv", "run.csv"]
    for name, child in names.items():
        rows = int(ended(child))
        assert counted(read_csv(folder / name)) == list(range(rows))


def test_where_nothing_may_be_written_all_but_the_log_works(tmp_path):
    if os.getuid() != 0:
        pytest.skip("mounting takes root")
    home = tmp_path / "home"
    home.mkdir()
    code = """
import time
import weakref
from perfmon_widgets import PerformanceMonitor, PerformancePanel
with PerformanceMonitor(interval=0.05) as monitor:
    panel = PerformancePanel(monitor)
    try:
        monitor.log.start()
    except OSError as error:
        print(error.strerror)
    panel.log_to_csv.value = True
    while monitor.latest is None:
        time.sleep(0.01)
    print(panel.log_to_csv.value, monitor.running)
    panel.close()
"""
    mounted = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o ro tmpfs "$0" && cd "$0" && exec "$@"']
    ran = subprocess.run(
        [*mounted, home, sys.executable, "-c", code],
        env=os.environ | {"HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.stderr == ""
    reason, state = ran.stdout.splitlines()
    assert reason.endswith(f"{home} is read-only; name a directory that you may write in")
    assert state == "False True"


# -- killed ------------------------------------------------------------------------------------------------

# Each child is forked from a program that has everything loaded, logs as fast as it can, and is killed.
KILLED = """
import os, random, signal, time
from fakes.collectors import FakeCollector
from perfmon_widgets import PerformanceMonitor, read_csv
PerformanceMonitor([FakeCollector("row_count")]).history

def child(pipe, path):
    names = [f"core{n}/row_count" for n in range(100)]
    monitor = PerformanceMonitor([FakeCollector("row_count", *names)], interval=1e-4)
    monitor.on_sample(lambda sample: os.write(pipe, b"."))
    monitor.log.start(path)
    with monitor:
        time.sleep(60)

generator = random.Random(int(sys.argv[2]))
for number in range(int(sys.argv[1])):
    reader, writer = os.pipe()
    path = f"run{number}.csv"
    process = os.fork()
    if process == 0:
        os.close(reader)
        child(writer, path)
        os._exit(1)
    os.close(writer)
    reported = len(os.read(reader, 1))  # it runs
    time.sleep(generator.uniform(0, 0.02))
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    while more := os.read(reader, 65536):
        reported += len(more)
    os.close(reader)
    frame = read_csv(path)
    rows = frame["row_count"].tolist()
    assert rows == list(range(len(rows))), rows
    assert frame["core99/row_count"].tolist() == rows
    # A row is on disk before it is reported; the one that was being written may be there too, or be torn.
    assert reported <= len(rows) <= reported + 1, (reported, len(rows))
    os.unlink(path)
print("all", reported)
"""


def test_a_program_that_ends_itself_at_once_has_its_rows_on_disk(folder):
    code = """
import os
from fakes.collectors import FakeCollector, Samples
from perfmon_widgets import PerformanceMonitor
monitor = PerformanceMonitor([FakeCollector("row_count")], interval=0.01)
samples = Samples()
monitor.on_sample(samples)
monitor.log.start("run.csv")
monitor.start()
for _ in range(10):
    samples.next()
os._exit(0)
"""
    ended(program(code, cwd=folder))
    rows = counted(read_csv(folder / "run.csv"))
    assert rows == list(range(len(rows)))
    assert len(rows) >= 10


# -- clocks ------------------------------------------------------------------------------------------------

STOPPED = """
import json
from fakes.collectors import FakeCollector
from perfmon_widgets import PerformanceMonitor
monitor = PerformanceMonitor([FakeCollector("row_count")], interval=0.05)
monitor.log.start("run.csv")
with monitor:
    print("running", flush=True)
    sys.stdin.readline()
frame = monitor.history
print(json.dumps({"missed": monitor.missed, "gaps": frame.attrs["gaps"],
                  "times": [time.timestamp() for time in frame.index]}))
"""


def test_a_program_that_was_stopped_goes_on_with_a_gap_and_without_a_burst(folder):
    child = program(STOPPED, cwd=folder, stdin=subprocess.PIPE)
    assert child.stdout.readline() == "running\n"
    time.sleep(0.4)
    child.send_signal(signal.SIGSTOP)
    stopped = time.time()
    time.sleep(1.5)
    continued = time.time()
    child.send_signal(signal.SIGCONT)
    time.sleep(0.6)
    child.stdin.write("end\n")
    found = json.loads(ended(child))
    times = found["times"]
    before = [at for at in times if at <= stopped + 0.02]
    after = [at for at in times if at >= continued]
    assert len(before) + len(after) == len(times)  # nothing was invented
    assert after[0] in found["gaps"]
    assert found["missed"] >= 0.5 * (continued - stopped) / 0.05
    assert len(after) <= 0.6 / 0.05 * 2  # what was missed is not made up for
    assert counted(read_csv(folder / "run.csv")) == list(range(len(times)))


@pytest.mark.parametrize("step", [-3600.0, 3600.0], ids=["back", "forwards"])
def test_a_change_of_the_computers_time_loses_nothing_and_is_a_gap(counting, monkeypatch, step):
    """Forwards is also what is seen after the machine was suspended: the monotonic clock stood still."""
    monitor, samples, path = counting
    monkeypatch.setattr(
        monitor_module, "time", SimpleNamespace(time=lambda: time.time() + step, monotonic=time.monotonic)
    )
    now = time.time()
    while abs((sample := samples.next()).time - now) < 1800:
        pass
    for _ in range(3):
        samples.next()
    missed = monitor.missed
    monitor.stop()
    assert missed <= 5  # it is no lateness of the thread
    frame = monitor.history
    assert counted(read_csv(path)) == counted(frame) == list(range(len(frame)))
    assert any(abs(gap - sample.time) < 1e-5 for gap in frame.attrs["gaps"])


# -- forks -------------------------------------------------------------------------------------------------


WORK = """
import json, multiprocessing, sys
sys.path.insert(0, {tests!r})
from fakes.collectors import FakeCollector, Samples
from perfmon_widgets import PerformanceMonitor

def some_rows(monitor):
    samples = Samples()
    monitor.on_sample(samples)
    samples.next()
    samples.next()

def work(number):
    with PerformanceMonitor([FakeCollector("row_count")], interval=0.01) as monitor:
        some_rows(monitor)
    return monitor.history["row_count"].tolist()

if __name__ == "__main__":
    with PerformanceMonitor([FakeCollector("row_count")], interval=0.01) as monitor:
        monitor.log.start("run.csv")
        some_rows(monitor)
        with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
            results = pool.map(work, range(4))
        some_rows(monitor)
    json.dump([*results, monitor.history["row_count"].tolist()], sys.stdout)
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_the_children_of_multiprocessing_leave_monitor_and_log_alone(folder, method):
    script = folder / "work.py"  # a file, since spawned children import it
    script.write_text(WORK.format(tests=str(TESTS)))
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", script, method],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.stderr == ""
    *of_children, of_parent = json.loads(ran.stdout)
    assert len(of_children) == 4
    for rows in (*of_children, of_parent, counted(read_csv(folder / "run.csv"))):
        assert rows == list(range(len(rows)))
        assert len(rows) >= 2
    assert len(read_csv(folder / "run.csv")) == len(of_parent)


def test_forks_at_any_moment_cost_neither_parent_nor_child_a_row(counting, forked):
    """Whatever a lock was held for as the fork happened: the child reads, samples and logs on its own."""
    monitor, _, path = counting
    monitor.interval = 1e-4
    len(monitor.history)  # pandas is imported: in a child forked meanwhile nobody would ever end that
    stop = threading.Event()

    def busy() -> None:
        while not stop.is_set():
            with monitor.span("work"):
                monitor.record(loss=0.5)
            len(monitor.history)

    def child() -> tuple[bool, list[float], int]:
        before = counted(monitor.history)
        own = monitor.log.start("child.csv")
        with monitor:
            monitor.mark("forked")
            monitor.sample()
        rows = counted(read_csv(own))
        for each in own.parent.glob("child.*"):
            each.unlink()
        return monitor.running, rows, len(before)

    users = [threading.Thread(target=busy) for _ in range(2)]
    for user in users:
        user.start()
    try:
        for _ in range(25):
            running, rows, before = forked(child)
            assert not running
            assert rows[:before] == list(range(int(rows[0]), int(rows[0]) + before))
            assert len(rows) > before
    finally:
        stop.set()
        for user in users:
            user.join()
    monitor.stop()
    rows = counted(read_csv(path))
    assert rows == list(range(len(rows)))
    assert rows[-1] == counted(monitor.history)[-1]
    assert sorted(one.name for one in path.parent.iterdir()) == ["run.csv", "run.part2.csv", "run.spans.csv"]


ENDS = """
import time
import weakref
from perfmon_widgets import PerformanceMonitor, PerformancePanel, serve
monitor = PerformanceMonitor(interval=0.01)
panel = PerformancePanel(monitor)
panel._viewers.heard("page", 1)
panel.advanced.selected_index = 0
server = serve(monitor)
monitor.start()
print(monitor.log.start("run.csv").name)
deadline = time.monotonic() + 30
while monitor.log.rows < 20 and time.monotonic() < deadline:
    time.sleep(0.001)
span = monitor.span("to the end")
span.__enter__()
"""


@pytest.mark.parametrize("end", ["", "raise SystemExit(3)", "raise KeyboardInterrupt"])
def test_an_interpreter_that_ends_while_everything_runs_ends_cleanly(folder, end):
    ran = subprocess.run(
        [sys.executable, "-c", ENDS + end],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.stdout == "run.csv\n"
    assert ran.stderr.count("Traceback") == ("Interrupt" in end)  # that of the program itself
    assert "perfmon" not in ran.stderr
    assert ran.returncode == {"": 0, "raise SystemExit(3)": 3}.get(end, -signal.SIGINT)
    assert (folder / "run.csv").read_bytes().endswith(b"\n")
    assert len(read_csv(folder / "run.csv")) >= 20
    assert read_spans(folder / "run.csv")["name"].tolist() == ["to the end"]


# -- too many ----------------------------------------------------------------------------------------------

EXHAUSTED = """
import math, os, resource
from fakes.collectors import Samples
from perfmon_widgets import PerformanceMonitor
monitor = PerformanceMonitor(interval=0.02)
samples = Samples()
monitor.on_sample(samples)
monitor.log.start("run.csv")
with monitor:
    samples.next(), samples.next()
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 5, 4096))
    taken = []
    try:
        while True:
            taken.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
    while len(samples):
        samples.next()
    values = [samples.next().values for _ in range(10)][-1]
    print(*(math.isfinite(values[name]) for name in ("cpu_percent", "ram_percent", "disk_percent")))
    try:
        PerformanceMonitor([]).log.start("other.csv")
    except OSError as error:
        print(error.strerror)
    for one in taken:
        os.close(one)
    while len(samples):
        samples.next()
    samples.next(), samples.next()
    print(sorted(set(monitor.errors) & {"HostCollector", "ProcessCollector"}))
print(len(monitor.history))
"""


def test_a_program_that_may_open_no_more_files_is_sampled_and_logged_on(folder):
    finite, reason, errors, rows = ended(program(EXHAUSTED, cwd=folder)).splitlines()
    assert finite == "True True True"
    assert "Too many open files" in reason
    assert errors == "[]"
    assert len(read_csv(folder / "run.csv")) == int(rows)


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_thousand_starts_and_stops_leave_nothing_behind(folder):
    monitor = PerformanceMonitor(interval=10)

    def cycle(count: int) -> None:
        for _ in range(count):
            monitor.start()
            monitor.stop()

    cycle(50)
    threads, files = threading.active_count(), open_files()
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cycle(950)
    assert threading.active_count() == threads
    assert open_files() == files
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used < 4096  # KiB


# -- interrupts --------------------------------------------------------------------------------------------


# Python itself drops an interrupt that falls into a callback of its own.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_in_a_start_or_a_stop_leaves_a_monitor_that_can_be_started_and_stopped():
    hits = 0
    with Interrupt() as interrupt:
        for number in range(600):
            monitor = PerformanceMonitor([FakeCollector("row_count")], interval=10)
            after = 2e-6 + (number % 100) * 4e-6
            hits += interrupt.ends(monitor.start, after)
            hits += interrupt.ends(monitor.stop, after)
            monitor.start()
            assert monitor.running
            monitor.stop()
            assert not monitor.running
            deadline = time.monotonic() + 5
            while any(thread.is_alive() for thread in threading.enumerate() if isinstance(thread, Sampler)):
                assert time.monotonic() < deadline, f"a thread goes on after round {number}"
                time.sleep(0.001)
    assert hits > 30


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_after_interrupts_anywhere_one_start_makes_one_thread_and_one_stop_leaves_none(folder):
    """An interrupt inside Thread.is_alive() makes Python believe that the thread has ended."""
    monitor = PerformanceMonitor([OtherCollector("row_count")], interval=0.05)
    monitor.start()
    path = monitor.log.start("run.csv")

    def work() -> None:
        monitor.mark("step")
        monitor.record(loss=1)
        with monitor.span("s"):
            pass

    def samplers() -> int:
        return sum(isinstance(thread, Sampler) for thread in threading.enumerate())

    with Interrupt() as interrupt:
        hits = sum(interrupt.ends_loop(work, 0.001 + 7e-6 * number) for number in range(300))
    assert hits > 100
    assert monitor.running
    monitor.start()
    assert samplers() == 1
    monitor.mark("last")
    monitor.stop()
    count = len(monitor.history)
    time.sleep(0.2)
    assert len(monitor.history) == count
    assert samplers() == 0
    assert not monitor._span_log._lock.locked()
    assert "last" in set(read_spans(path)["name"])
    assert monitor.spans["end"].notna().all()
    assert len(read_csv(path)) == monitor.log.rows
    assert read_csv(path)["row_count"].diff().dropna().eq(1).all()


HANDLED = """
import faulthandler, signal, time
from perfmon_widgets import PerformanceMonitor
faulthandler.dump_traceback_later(30, exit=True)
monitor = PerformanceMonitor([], window=0.05)
monitor.history  # so that pandas is there
handled = 0
def preempted(*_):
    global handled
    handled += 1
    monitor.mark("preempted")
    monitor.record(handled=handled)
    monitor.history
    signal.setitimer(signal.ITIMER_REAL, 0.0003)  # only now: else it would do nothing else
def span():
    with monitor.span("step"):
        pass
def record():
    monitor.record(loss=1.0)
def read():
    monitor.newest_spans(10), monitor.marks, monitor.spans
def mark():
    monitor.mark("epoch")
signal.signal(signal.SIGALRM, preempted)
monitor.log.start("run.csv")
for running in (False, True):
    for work in (mark, span, read, record, monitor.sample if not running else read):
        signal.setitimer(signal.ITIMER_REAL, 0.0003)
        before, until = handled, time.monotonic() + 0.2
        while time.monotonic() < until or handled - before <= 20:
            work()
        signal.setitimer(signal.ITIMER_REAL, 0)
    monitor.start()
signal.signal(signal.SIGALRM, signal.SIG_IGN)  # a handler that ran late has set the timer once more
monitor.stop()
assert monitor.errors == {}, monitor.errors
"""


def test_a_signal_handler_may_mark_record_and_read_whatever_it_interrupts(folder):
    assert ended(program(HANDLED, cwd=folder)) == ""
    assert "preempted" in set(read_spans(folder / "run.csv")["name"])


# -- machines that hide things -----------------------------------------------------------------------------

HIDDEN = """
import json, math, time
from perfmon_widgets import PerformanceMonitor
monitor = PerformanceMonitor()
monitor.sample()
time.sleep(0.2)  # several of the ticks in which CPU time is counted
values = monitor.sample().values
json.dump({"missing": [name for name, value in values.items() if math.isnan(value)],
           "errors": monitor.errors}, sys.stdout)
"""


def hidden(*commands: str, user: str = "root") -> tuple[set[str], dict[str, str]]:
    """What is missing, and the reasons, in a program for which some of the machine was hidden first."""
    if os.getuid() != 0:
        pytest.skip("hiding parts of the machine takes root")
    become = ["setpriv", "--reuid", user, "--regid", "nogroup", "--clear-groups"] if user != "root" else []
    script = " && ".join([*commands, 'exec "$@"'])
    ran = subprocess.run(
        [
            "unshare",
            "--mount",
            "sh",
            "-c",
            script,
            "sh",
            *become,
            sys.executable,
            "-c",
            f"import sys{HIDDEN}",
        ],
        cwd="/",
        env=os.environ | {"PYTHONPATH": str(TESTS.parent), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    return set(found["missing"]), found["errors"]


@pytest.fixture(scope="module")
def usually_missing() -> set[str]:
    """What is missing on this machine anyway."""
    return hidden("true")[0]


def unexplained(missing: set[str], errors: dict[str, str]) -> set[str]:
    collectors = {
        "HostCollector": ("cpu", "ram", "swap", "disk", "network", "core"),
        "ProcessCollector": ("process",),
    }
    excused = tuple(prefix for name in errors for prefix in collectors.get(name, ()))
    return {name for name in missing if name not in errors and not name.startswith(excused)}


def test_without_sys_only_the_traffic_of_the_disk_is_missing(usually_missing):
    missing, errors = hidden("mount -t tmpfs tmpfs /sys")
    assert missing - usually_missing <= {"disk_read_bytes_per_second", "disk_write_bytes_per_second"}
    assert unexplained(missing - usually_missing, errors) == set()


@pytest.mark.other_user
def test_where_the_processes_of_others_are_hidden_nothing_is_missing(usually_missing, other_python):
    missing, _ = hidden("mount -t proc -o hidepid=2 proc /proc", user="nobody")
    assert missing - usually_missing == set()


@pytest.fixture
def other_python() -> None:
    """The interpreter must be one that other users may run, with all that a monitor needs."""
    user = (
        ["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups"] if os.getuid() == 0 else []
    )
    able = subprocess.run(
        # A virtual environment that may not be entered is passed over for the Python that it was made of.
        [*user, sys.executable, "-c", "import numpy, perfmon_widgets.core.monitor"],
        cwd="/",
        env=os.environ | {"PYTHONPATH": str(TESTS.parent), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        check=False,
    )
    if able.returncode:
        pytest.skip(f"other users cannot run {sys.executable}: {able.stderr.decode()[-200:]}")


costs = pytest.mark.parametrize(
    ("file", "prefixes"),
    [
        ("stat", ("cpu", "core", "host_cpu")),
        ("meminfo", ("ram", "swap", "host_ram")),
        ("self/io", ("process_read", "process_write")),
        ("pressure/memory", ("memory_pressure",)),
        ("pressure/cpu", ("cpu_pressure",)),
        ("pressure/io", ("io_pressure",)),
        ("self/mountinfo", ("disk_read", "disk_write")),
        ("self/net/dev", ("network",)),
        ("self/cgroup", ()),
        ("self/status", ("process_ram_peak",)),
    ],
)


@costs
def test_a_file_of_proc_that_is_empty_costs_what_is_read_from_it(usually_missing, file, prefixes):
    if not Path("/proc", file).exists():
        pytest.skip(f"this OS kernel has no /proc/{file}")
    # self is another process in each program: the file of this very one must be covered.
    covered = file.replace("self", "$$")
    missing, errors = hidden(f"mount --bind /dev/null /proc/{covered}")
    news = missing - usually_missing
    assert all(name.startswith(prefixes or ("nothing",)) for name in news)
    assert unexplained(news, errors) == set()


@costs
@pytest.mark.other_user
def test_a_file_of_proc_that_may_not_be_read_costs_what_is_read_from_it(
    usually_missing, other_python, file, prefixes
):
    if not Path("/proc", file).exists():
        pytest.skip(f"this OS kernel has no /proc/{file}")
    missing, errors = hidden(
        "mount -t tmpfs tmpfs /mnt",
        "touch /mnt/closed",
        "chmod 000 /mnt/closed",
        f"mount --bind /mnt/closed /proc/{file.replace('self', '$$')}",
        user="nobody",
    )
    news = missing - usually_missing
    assert all(name.startswith(prefixes or ("nothing",)) for name in news)
    assert unexplained(news, errors) == set()


def test_a_kill_at_any_of_many_moments_never_loses_a_row(folder):
    assert ended(program(KILLED, 60, random.randrange(10**9), cwd=folder)).startswith("all")


KILLED_IN_A_SPAN = """
import os, signal, sys
from perfmon_widgets import PerformanceMonitor
monitor = PerformanceMonitor()
monitor.log.start("run.csv")
monitor.mark("begun")
with monitor.span("what killed it"):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_file_says_in_which_span_a_process_was_killed(folder):
    done = subprocess.run([sys.executable, "-c", KILLED_IN_A_SPAN], cwd=folder, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    reported = read_spans(folder / "run.csv")
    assert reported["name"].tolist() == ["begun", "what killed it"]
    assert reported["end"].isna().tolist() == [False, True]


def test_an_interpreter_that_ends_while_the_thread_runs_ends_cleanly(run_python):
    ended = run_python(
        "from perfmon_widgets import PerformanceMonitor\n"
        "import threading, pathlib\n"
        "monitor = PerformanceMonitor(interval=0.001)\n"
        "sampled = threading.Event()\n"
        "monitor.on_sample(lambda sample: sampled.set())\n"
        "monitor.start()\n"
        "monitor.log.start('run.csv')\n"
        "sampled.wait(10)\n"
        "print(monitor.running)\n"
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "True\n", "")
