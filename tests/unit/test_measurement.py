"""What a measured stretch cost, with readings that are known, and what is given back afterwards."""

from __future__ import annotations

import itertools
import math
import re
import threading
import time
from xml.etree import ElementTree

import pytest
from fakes.collectors import FakeCollector, Samples
from fakes.threads import wait_until

from perfmon_widgets import PerformanceMonitor, Sample, clocks
from perfmon_widgets.collectors import capacity
from perfmon_widgets.core.sampler import TIMEOUT
from perfmon_widgets.jupyter import measurement
from perfmon_widgets.jupyter.measurement import Measurement, have_row
from perfmon_widgets.metrics import Metric, unit_of
from perfmon_widgets.views.statistics import Totals
from perfmon_widgets.views.text import format_change, format_value

NEVER = 3600.0
MIB = 2**20
COLUMNS = (
    "process_cpu_percent",
    "process_ram_bytes",
    "process_read_bytes_per_second",
    "process_write_bytes_per_second",
    "gpu0/utilization_percent",
    "gpu0/memory_used_bytes",
    "gpu1/utilization_percent",
    "gpu1/memory_used_bytes",
)


@pytest.fixture(autouse=True)
def late_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine takes more time from the row at the start to the cell than a measurement allows."""
    monkeypatch.setattr(measurement, "_MAX_AGE", 60.0)


def monitor_of(*rows: dict[str, float]) -> PerformanceMonitor:
    """A monitor whose samples are these rows, and then the last one again and again."""
    metrics = [
        Metric(name, unit_of(name), "gpu" if name.startswith("gpu") else "process", "") for name in COLUMNS
    ]
    endless = itertools.chain(rows, itertools.repeat(rows[-1]))
    return PerformanceMonitor([FakeCollector(metrics=metrics, read=lambda: next(endless))], interval=NEVER)


def row(ram: float, cpu: float, gpu: float, gpu_memory: float) -> dict[str, float]:
    return {
        "process_cpu_percent": cpu,
        "process_ram_bytes": ram * MIB,
        "process_read_bytes_per_second": 1e9,
        "process_write_bytes_per_second": 0,
        "gpu0/utilization_percent": gpu,
        "gpu0/memory_used_bytes": gpu_memory * MIB,
    }


def test_the_line_says_what_the_samples_say():
    rows = [row(100, 0, 99, 1), row(900, 50, 100, 8), row(300, 50, 0, 4)]
    with monitor_of(*rows) as monitor:
        have_row(monitor, since=0)
        made = Measurement(monitor, NEVER)
        time.sleep(0.2)
        monitor.sample()
        made.end()
    words = made.summary().split(" · ")
    assert re.fullmatch(r"0\.\d+ s", words[0])
    share = format_value(100 * made.cpu_seconds / capacity() / made.seconds, "percent")
    assert re.fullmatch(rf"CPU [\d.]+ .?s \({share} of what it may use\)", words[1])
    assert words[2] == "RAM peak 900 MiB (+200 MiB)"
    # The second GPU has no numbers: it is not in use. Nearly all of the time passed before the first sample.
    gpu = re.fullmatch(r"GPU 0 mean (\d+)%, peak 100%, memory peak 8 MiB \(\+3 MiB\)", words[3])
    assert int(gpu[1]) > 50
    assert re.fullmatch(r"read \d+ MiB", words[4])
    times = monitor.history.index
    assert int(words[4].split()[1]) == pytest.approx(
        1e9 * (times[-1] - times[0]).total_seconds() / MIB, abs=1
    )
    assert words[5:] == ["wrote 0 B"]
    assert made.rows["process_ram_bytes"].tolist()[:2] == [900 * MIB, 300 * MIB]


@pytest.mark.parametrize(
    ("cpu", "gpu", "clause"),
    [(90, 40, ["GPU 0 waits for the CPU"]), (90, 90, []), (3, 40, [])],
    ids=["waiting GPU", "busy GPU", "busy neither"],
)
def test_the_line_ends_with_what_held_the_cell_up(monkeypatch, cpu, gpu, clause):
    monkeypatch.setattr(measurement, "_LEAST", 0.1)
    with monitor_of(row(100, cpu, gpu, 1)) as monitor:
        have_row(monitor, since=0)
        made = Measurement(monitor, NEVER)
        for _ in range(4):
            time.sleep(0.05)
            monitor.sample()
        made.end()
    assert made.summary().split(" · ")[6:] == clause


def test_the_cpu_seconds_are_those_of_the_share_whoever_used_them():
    """A worker that lives on was in the share only, and its time was charged to the cell that ended it."""
    with monitor_of(row(100, 0, 99, 1), row(900, 50, 100, 8), row(300, 50, 0, 4)) as monitor:
        have_row(monitor, since=0)
        made = Measurement(monitor, NEVER)
        time.sleep(0.5)  # this process uses nothing
        monitor.sample()
        made.end()
    times = monitor.history.index
    covered = (times[-1] - times[0]).total_seconds()
    assert covered >= made.seconds
    assert made.cpu_seconds == pytest.approx(covered * capacity() / 2, rel=0.01)


def test_a_last_row_that_comes_late_takes_no_cpu_seconds_away(monkeypatch):
    """It is about all that was used until then, so its share is less of a longer time."""
    with monitor_of(row(100, 0, 99, 1), row(900, 20, 100, 8)) as monitor:
        have_row(monitor, since=0)
        made = Measurement(monitor, NEVER)
        time.sleep(0.1)

        def late(*_: object, **__: object) -> None:
            time.sleep(0.4)
            monitor.sample()

        monkeypatch.setattr(measurement, "have_row", late)
        made.end()
    assert made.seconds < 0.4
    assert made.cpu_seconds >= 0.5 * capacity() * 0.2


def test_cpu_time_that_the_last_row_cannot_hold_comes_with_the_next():
    """A child that has ended brings all its time at once, more than the CPUs can use in a short row."""
    with monitor_of(row(100, 0, 99, 1), *(row(100, cpu, 99, 1) for cpu in (100, 100, 40))) as monitor:
        have_row(monitor, since=0)
        made = Measurement(monitor, NEVER)
        made.end()
    shares = monitor.history["process_cpu_percent"]
    assert shares.tolist() == [0, 100, 100, 40]
    seconds = shares.index.to_series().diff().dt.total_seconds()
    assert made.cpu_seconds == pytest.approx(capacity() * (shares / 100 * seconds).sum(), rel=0.05)


def test_a_cell_on_all_cpus_is_not_waited_for_long():
    with monitor_of(row(100, 0, 99, 1), row(100, 100, 99, 1)) as monitor:
        have_row(monitor, since=0)
        made = Measurement(monitor, NEVER)
        made.end()
    assert len(monitor.history) == 7
    assert made.summary().split(" · ")[1].endswith("(100% of what it may use)")


def test_where_no_row_has_a_share_the_cpu_seconds_are_those_of_this_process():
    with monitor_of({"process_ram_bytes": 1.0}) as monitor:
        made = Measurement(monitor, NEVER)
        before = time.process_time()
        while time.process_time() - before < 0.1:
            pass
        made.end()
    assert made.cpu_seconds == pytest.approx(0.1, abs=0.05)


def test_the_picture_has_a_line_for_cpu_memory_and_each_gpu_in_use():
    with monitor_of(row(100, 0, 99, 1), row(900, 50, 100, 8), row(300, 20, 0, 4)) as monitor:
        have_row(monitor, since=0)
        made = Measurement(monitor, NEVER)
        assert made.picture() == ""
        monitor.sample()
        made.end()
    drawn = ElementTree.fromstring(made.picture())
    texts = [element.text for element in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert "process cpu" in texts
    assert "GPU 0 utilization" in texts
    assert "GPU 1 utilization" not in texts
    # Issue 17: as the line of text says, not the machine's percentage.
    # Which rows fall into it depends on how busy the machine is.
    own, of_gpu = re.findall(r"(?:RAM|memory) peak ([\d.]+ MiB)", made.summary())
    assert f"process ram, peak {own}" in texts
    assert f"GPU 0 memory used, peak {of_gpu}" in texts
    assert not any(text.startswith("ram") for text in texts)


def test_the_picture_of_a_long_time_keeps_its_peaks_and_is_small():
    values = itertools.chain([0.0] * 700, [77.0], itertools.repeat(0.0))
    busy = Metric("process_cpu_percent", "percent", "process", "")
    monitor = PerformanceMonitor(
        [FakeCollector(metrics=[busy], read=lambda: {busy.name: next(values)})], interval=NEVER
    )
    made = Measurement(monitor, NEVER)
    for _ in range(5000):
        monitor.sample()
    made.end()
    assert len(made.rows) >= 5000
    drawn = made.picture()
    assert len(drawn) < 20_000
    line = re.search(r'<path d="([^"]+)" fill="none"', drawn)[1]
    heights = [float(up) for up in re.findall(r"[ML][\d.]+,([\d.]+)", line)]
    lowest, highest = max(heights), min(heights)
    # The plot begins at 34, and 100 % lies 4 % below that.
    assert 1.04 * (lowest - highest) / (lowest - 34) == pytest.approx(0.77, abs=0.01)


def test_the_monitor_is_given_back_as_it_was():
    monitor = PerformanceMonitor([FakeCollector("process_ram_bytes")], interval=NEVER)  # 0, 1, 2 … bytes
    made = Measurement(monitor)
    assert (monitor.running, monitor.interval) == (True, 0.2)
    made.end()
    assert (monitor.running, monitor.interval) == (False, NEVER)
    found = made.summary()
    monitor.sample()
    assert made.summary() == found


@pytest.mark.parametrize("step", [-3600.0, 3600.0])
def test_a_time_that_is_set_meanwhile_changes_neither_the_line_nor_the_rows(monkeypatch, step):
    samples = Samples()
    monitor = monitor_of(row(100, 0, 99, 1))
    monitor.on_sample(samples)
    with monitor:
        samples.next()
        made = Measurement(monitor, NEVER)
        before = len(monitor.history)
        time_of_day = time.time
        monkeypatch.setattr(clocks.time, "time", lambda: time_of_day() + step)
        monitor.sample()
        monitor.sample()
        made.end()
    assert made.rows.index.tolist() == monitor.history.index[before:].tolist()
    assert len(made.rows) >= 2
    read, prefix = re.search(r"read ([\d.]+) (\w*)B", made.summary()).groups()
    amount = float(read) * {"": 1, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}[prefix]
    assert amount < 1e9 * 600  # far from that of an hour
    ElementTree.fromstring(made.picture())


def test_a_monitor_that_is_started_meanwhile_goes_on():
    with PerformanceMonitor([FakeCollector("process_ram_bytes")], interval=NEVER) as monitor:
        monitor.stop()
        made = Measurement(monitor)
        monitor.start()
        made.end()
        assert (monitor.running, monitor.interval) == (True, NEVER)


@pytest.mark.parametrize("running", [False, True])
@pytest.mark.parametrize("name", ["have_row", "_cpu_seconds"])
def test_an_interrupt_before_it_has_begun_changes_nothing(monkeypatch, running, name):
    monitor = PerformanceMonitor([FakeCollector("process_ram_bytes")], interval=NEVER)
    if running:
        monitor.start()

    def interrupt(*_: object, **__: object) -> None:
        assert (monitor.running, monitor.interval) == (True, 0.2)
        raise KeyboardInterrupt

    monkeypatch.setattr(measurement, name, interrupt)
    added = []
    monkeypatch.setattr(Totals, "add", lambda _, sample: added.append(sample))
    with pytest.raises(KeyboardInterrupt):
        Measurement(monitor)
    assert (monitor.running, monitor.interval) == (running, NEVER)
    added.clear()
    monitor.sample()
    monitor.stop()
    assert added == []


@pytest.mark.parametrize("running", [False, True])
def test_an_interrupt_before_it_has_ended_gives_the_monitor_back_too(monkeypatch, running):
    monitor = PerformanceMonitor([FakeCollector("process_ram_bytes")], interval=NEVER)
    if running:
        monitor.start()
    made = Measurement(monitor)

    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(measurement, "_cpu_seconds", interrupt)
    with pytest.raises(KeyboardInterrupt):
        made.end()
    assert (monitor.running, monitor.interval) == (running, NEVER)
    monitor.stop()


def test_an_interrupt_while_the_monitor_is_started_changes_nothing():
    monitor = PerformanceMonitor([FakeCollector("process_ram_bytes")], interval=NEVER)

    def interrupt(running: bool) -> None:
        if running:
            raise KeyboardInterrupt

    monitor.on_state(interrupt)
    with pytest.raises(KeyboardInterrupt):
        Measurement(monitor)
    assert (monitor.running, monitor.interval) == (False, NEVER)


def test_a_monitor_that_cannot_be_started_is_left_as_it_was(monkeypatch, tmp_path):
    monitor = PerformanceMonitor([FakeCollector("process_ram_bytes")], interval=NEVER)
    monitor.log.start(tmp_path / "log.csv")

    def no_more_threads(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as without_threads:
        without_threads.setattr(threading.Thread, "start", no_more_threads)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            Measurement(monitor)
    assert (monitor.running, monitor.interval, monitor.log.running) == (False, NEVER, True)
    monitor.stop()


def test_an_interval_that_makes_no_sense_changes_nothing():
    monitor = monitor_of({"process_ram_bytes": 1.0})
    with pytest.raises(ValueError, match="interval must be a number of seconds greater than 0, not -1"):
        Measurement(monitor, -1)
    assert (monitor.running, monitor.interval) == (False, NEVER)


def test_what_is_not_measured_on_this_machine_is_left_out_or_a_dash():
    monitor = PerformanceMonitor([FakeCollector("a_percent")], interval=NEVER)
    made = Measurement(monitor)
    made.end()
    assert re.fullmatch(
        r"[\d.]+ .?s · CPU [\d.]+ .?s \(– of what it may use\) · RAM peak – \(–\)", made.summary()
    )


def test_a_row_of_the_sampling_thread_is_waited_for_before_another_is_taken():
    monitor = monitor_of({"process_ram_bytes": 1.0})
    with monitor:
        have_row(monitor, since=0)
        count = len(monitor.history)
        have_row(monitor, since=0)
        assert len(monitor.history) == count
        have_row(monitor, since=time.time())
        assert len(monitor.history) == count + 1


def test_a_callback_that_hangs_holds_no_cell_up_and_is_never_called_here():
    """It took its time on the main thread, too, at the start and at the end of each cell."""
    threads: list[threading.Thread] = []
    called, go_on = threading.Event(), threading.Event()

    def hang(_: Sample) -> None:
        threads.append(threading.current_thread())
        called.set()
        go_on.wait(60)

    monitor = monitor_of(row(100, 0, 99, 1), row(900, 50, 100, 8), row(300, 50, 0, 4))
    monitor.on_sample(hang)
    with monitor:
        assert called.wait(10)  # the sampling thread waits for it
        before = time.monotonic()
        assert have_row(monitor, since=time.time())
        made = Measurement(monitor, NEVER)
        made.end()
        took = time.monotonic() - before
        assert len(threads) == 1
        go_on.set()
        wait_until(lambda: len(threads) == len(monitor.history), "that it has got each row")
        assert monitor.errors == {}
    assert took < TIMEOUT / 2
    assert {thread.name for thread in threads} == {"perfmon-subscriber"}
    assert made.rows["process_ram_bytes"].tolist() == [300 * MIB]


def test_a_disk_that_hangs_holds_no_cell_up(monkeypatch, far_disk, tmp_path):
    monkeypatch.setattr(measurement, "_LONGEST", 0.1)
    with monitor_of(row(100, 100, 99, 1)) as monitor:
        have_row(monitor, since=0)
        monitor.log.start(tmp_path / "run.csv")
        far_disk.away.set()
        before = time.monotonic()
        made = Measurement(monitor, NEVER)
        made.end()
        assert not have_row(monitor, since=time.time())
        took = time.monotonic() - before
        far_disk.there.set()
        wait_until(lambda: monitor.log.rows == len(monitor.history) > 1, "that each row is written")
    assert took < 2
    assert made.summary()


def test_a_collector_that_hangs_holds_no_cell_up(monkeypatch):
    monkeypatch.setattr(measurement, "_LONGEST", 0.1)
    go_on = threading.Event()
    collector = FakeCollector("a_percent")
    with PerformanceMonitor([collector], interval=NEVER) as monitor:
        have_row(monitor, since=0)
        collector.read = lambda: {"a_percent": float(go_on.wait(60))}
        before = time.monotonic()
        assert not have_row(monitor, since=time.time())
        assert time.monotonic() - before < TIMEOUT / 2
        go_on.set()


@pytest.mark.parametrize(
    ("change", "text"), [(512 * MIB, "+512 MiB"), (-1.5 * MIB, "−1.5 MiB"), (math.nan, "–")]
)
def test_a_difference_has_its_sign(change, text):
    assert format_change(change, "bytes") == text
