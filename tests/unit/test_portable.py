"""The same columns asked of psutil, beside those of Linux's own counters."""

from __future__ import annotations

import math
import time
from collections import namedtuple
from types import SimpleNamespace

import psutil
import pytest
from fakes.collectors import read

from perfmon_widgets import PerformanceMonitor, clocks
from perfmon_widgets.collectors import Collector, portable
from perfmon_widgets.collectors.linux import host, limits, process
from perfmon_widgets.collectors.linux.host import HostCollector
from perfmon_widgets.collectors.linux.process import ProcessCollector
from perfmon_widgets.collectors.portable import PortableCollector

# Other processes use and give back memory between the two readings.
MEMORY_SLACK = 100 * 2**20


def test_it_is_a_collector_whose_columns_are_those_of_linux():
    made = PortableCollector()
    assert isinstance(made, Collector)
    names = [metric.name for metric in made.metrics]
    linux = [metric.name for metric in (*host.METRICS, *process.METRICS)]
    assert set(names) - {f"core{n}/cpu_percent" for n in range(len(names))} <= set(linux)
    assert set(read(made)) == set(names)
    assert all(metric.source for metric in made.metrics)
    assert all("without its children" in metric.help for metric in made.metrics if metric.group == "process")


def test_every_limit_is_a_column():
    made = PortableCollector()
    names = {metric.name for metric in made.metrics}
    assert {metric.limit for metric in made.metrics if isinstance(metric.limit, str)} <= names


def test_the_first_reading_of_a_share_is_missing():
    values = PortableCollector().collect()
    assert math.isnan(values["cpu_percent"])
    assert math.isnan(values["core0/cpu_percent"])
    assert math.isnan(values["process_cpu_percent"])


def test_its_numbers_are_those_of_linuxs_own_counters(monkeypatch):
    """On a machine without limits both measure the same thing."""
    cpus = tuple(range(psutil.cpu_count()))
    monkeypatch.setattr(portable, "allowed_cpus", lambda: cpus)
    monkeypatch.setattr(limits, "allowed", lambda *_: limits.Allowed(cpus, None, None))
    psutils = PerformanceMonitor([PortableCollector()])
    linux = PerformanceMonitor([HostCollector(), ProcessCollector()])
    for monitor in (psutils, linux):
        monitor.sample()
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        sum(range(1000))
    ours, theirs = linux.sample().values, psutils.sample().values
    assert theirs.keys() <= ours.keys()
    for name in ("ram_limit_bytes", "swap_limit_bytes", "swap_used_bytes"):
        assert theirs[name] == ours[name]
    for name in ("ram_used_bytes", "process_ram_bytes", "disk_used_bytes"):
        assert theirs[name] == pytest.approx(ours[name], abs=MEMORY_SLACK)
    for name in ("ram_percent", "disk_percent"):
        assert theirs[name] == pytest.approx(ours[name], abs=1.0)
    # Ticks of a hundredth of a second in half a second, and the two are not read at the same moment.
    for name in ("cpu_percent", "process_cpu_percent", "core0/cpu_percent"):
        assert theirs[name] == pytest.approx(ours[name], abs=10.0)


def test_guest_time_is_not_counted_twice_and_waiting_is_not_busy(monkeypatch):
    times = namedtuple("scputimes", "user nice system idle iowait irq softirq steal guest guest_nice")
    readings = iter(
        [
            times(1.0, 0, 0.5, 8.0, 0.5, 0, 0, 0, 0.4, 0),
            times(1.3, 0.1, 0.6, 8.2, 0.6, 0.05, 0.05, 0.1, 0.6, 0.05),
        ]
    )
    now = next(readings)
    monkeypatch.setattr(psutil, "cpu_times", lambda percpu=False: [now] if percpu else now)
    made = PortableCollector()
    made.collect()
    now = next(readings)
    values = made.collect()
    assert values["cpu_percent"] == pytest.approx(70.0)
    assert values["core0/cpu_percent"] == pytest.approx(70.0)


def test_a_cpu_that_was_idle_was_not_busy(monkeypatch):
    times = namedtuple("scputimes", "user nice system idle iowait irq softirq")
    # Numbers with which what idle time leaves of all, as floats, gets smaller.
    now = times(4671.66, 8450.5, 235.27, 3026.49, 7481.39, 7968.21, 3957.95)
    monkeypatch.setattr(psutil, "cpu_times", lambda percpu=False: [now] if percpu else now)
    made = PortableCollector()
    made.collect()
    now = now._replace(idle=3026.99)
    assert made.collect()["core0/cpu_percent"] == 0.0


def test_a_system_that_does_not_count_waiting_is_read(monkeypatch):
    times = namedtuple("scputimes", "user nice system idle")  # as on macOS
    now = times(10.0, 0.0, 5.0, 85.0)
    monkeypatch.setattr(psutil, "cpu_times", lambda percpu=False: [now] if percpu else now)
    made = PortableCollector()
    made.collect()
    now = times(10.5, 0.0, 5.0, 85.5)
    assert made.collect()["cpu_percent"] == pytest.approx(50.0)


def test_a_process_at_full_load_is_at_100_percent_whatever_ticks_its_time_comes_in(monkeypatch):
    """Windows: a second has 64 ticks of 15.625 ms, and some samples catch a 65th."""
    seconds, passed = 0.0, 0.0
    monkeypatch.setattr(portable, "allowed_cpus", lambda: (0,))
    clock = SimpleNamespace(process_time=lambda: seconds, monotonic=lambda: passed)
    monkeypatch.setattr(portable, "time", clock)
    made = PortableCollector()
    made.collect()
    shares = []
    for ticks in (65, 64, 63, 32):
        seconds, passed = seconds + ticks / 64, passed + 1.0
        shares.append(made.collect()["process_cpu_percent"])
        assert not made.errors
    assert shares == [100.0, 100.0, 100.0, 50.0]


def test_the_share_of_swap_is_missing_where_there_is_none(monkeypatch):
    none = psutil.swap_memory()._replace(total=0, used=0, free=0, percent=0.0)
    monkeypatch.setattr(psutil, "swap_memory", lambda: none)
    values = PortableCollector().collect()
    assert math.isnan(values["swap_percent"])
    assert values["swap_limit_bytes"] == 0


@pytest.mark.parametrize(
    ("call", "columns"),
    [
        ("virtual_memory", {"ram_percent", "ram_used_bytes", "ram_limit_bytes"}),
        ("swap_memory", {"swap_percent", "swap_used_bytes", "swap_limit_bytes"}),
        ("disk_usage", {"disk_percent", "disk_used_bytes", "disk_limit_bytes"}),
        ("Process.memory_info", {"process_ram_bytes"}),
    ],
)
@pytest.mark.parametrize("error", [OSError(53, "no network path"), psutil.AccessDenied(), RuntimeError()])
def test_a_call_that_fails_costs_its_own_columns_and_says_why(monkeypatch, call, columns, error):
    def fail(*_):
        raise error

    made = PortableCollector()
    names = {metric.name for metric in made.metrics}
    with monkeypatch.context() as broken:
        broken.setattr(f"psutil.{call}", fail)
        assert made.collect().keys() == names - columns
    assert made.errors == dict.fromkeys(columns, str(error) or type(error).__name__)
    assert made.collect().keys() == names
    assert made.errors == {}


def test_a_cpu_that_is_switched_off_costs_the_columns_of_the_cpus_until_it_is_back(monkeypatch):
    """psutil does not say which one it is."""
    times = namedtuple("scputimes", "user nice system idle")
    online = [times(1.0, 0.0, 0.0, 9.0), times(1.0, 0.0, 0.0, 9.0)]
    monkeypatch.setattr(psutil, "cpu_times", lambda percpu=False: online if percpu else online[0])
    made = PortableCollector()
    cores = {"core0/cpu_percent", "core1/cpu_percent"}
    made.collect()
    online = [times(2.0, 0.0, 0.0, 9.0)]
    values = made.collect()
    assert values["cpu_percent"] == 100.0
    assert not cores & values.keys()
    assert made.errors == dict.fromkeys(cores, "1 of 2 CPUs are online, and psutil does not say which")
    online = [times(2.0, 0.0, 0.0, 9.0), times(1.0, 0.0, 0.0, 11.0)]
    values = made.collect()
    assert (values["core0/cpu_percent"], values["core1/cpu_percent"]) == (100.0, 0.0)


def test_where_nothing_can_be_read_it_fails_as_a_whole(monkeypatch):
    def fail(*_, **__):
        raise OSError(5, "no access")

    made = PortableCollector()
    for call in ("virtual_memory", "swap_memory", "disk_usage", "cpu_times", "Process.memory_info"):
        monkeypatch.setattr(f"psutil.{call}", fail)
    monkeypatch.setattr(clocks.time, "process_time", fail)
    with pytest.raises(OSError, match=r"nothing can be read: .*no access"):
        made.collect()


def test_it_is_what_a_system_without_proc_gets(monkeypatch, tmp_path):
    from perfmon_widgets import collectors

    monkeypatch.setattr(collectors, "Path", lambda path: tmp_path / path.lstrip("/"))
    assert type(collectors.default_collectors()[0]).__name__ == "PortableCollector"
