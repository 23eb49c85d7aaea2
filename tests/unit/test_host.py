"""CPU, RAM, swap and disk that the model may use: exact numbers from canned files, and this machine."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.collectors import FakeMachine, group, read

from perfmon_widgets import PerformanceMonitor
from perfmon_widgets.collectors import Collector, default_collectors
from perfmon_widgets.collectors.linux import cpu, disk, limits, memory, pressure
from perfmon_widgets.collectors.linux.host import HostCollector

KIB = 1024
#        user nice system idle iowait irq softirq steal guest guest_nice
BEFORE = (100, 0, 50, 800, 50, 0, 0, 0, 40, 0)
BUSY_70 = (130, 10, 60, 820, 60, 5, 5, 10, 60, 5)  # of 100 ticks 30+10+10+5+5+10 were busy
BUSY_10 = (110, 0, 50, 880, 60, 0, 0, 0, 45, 0)  # of 100 ticks 10 were busy


@pytest.fixture(autouse=True)
def two_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "allowed_cpus", lambda: (0, 1))


@pytest.fixture
def shm(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory on a file system whose device number stands for no block device."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        assert os.major(Path(name).stat().st_dev) == 0
        with monkeypatch.context() as patch:
            patch.chdir(name)
            yield Path(name)


def collector(machine: FakeMachine) -> HostCollector:
    return HostCollector(machine.proc, machine.sys)


def sources(of: HostCollector) -> dict[str, str]:
    return {metric.name: metric.source for metric in of.metrics}


# -- columns -----------------------------------------------------------------------------------------------


def test_it_is_a_collector_with_a_column_for_each_cpu(machine):
    made = collector(machine)
    assert isinstance(made, Collector)
    assert [metric.name for metric in made.metrics] == [
        "cpu_percent",
        "ram_percent",
        "ram_used_bytes",
        "ram_limit_bytes",
        "swap_percent",
        "swap_used_bytes",
        "swap_limit_bytes",
        "disk_percent",
        "disk_used_bytes",
        "disk_limit_bytes",
        "disk_read_bytes_per_second",
        "disk_write_bytes_per_second",
        "network_received_bytes_per_second",
        "network_sent_bytes_per_second",
        "core0/cpu_percent",
        "core1/cpu_percent",
    ]


def test_every_reading_is_declared_and_every_limit_is_a_column(machine):
    made = collector(machine)
    names = {metric.name for metric in made.metrics}
    read(made)
    assert {metric.limit for metric in made.metrics if isinstance(metric.limit, str)} <= names


def test_where_proc_shows_processes_only_the_disk_has_numbers_and_the_rest_a_reason(tmp_path):
    """``mount -o subset=pid``, systemd's ProcSubset=pid: there is no /proc/stat and no /proc/meminfo."""
    made = HostCollector(tmp_path)
    values = made.collect()
    assert values["disk_limit_bytes"] > 0
    for column, file in (("cpu_percent", "stat"), ("ram_percent", "meminfo")):
        assert column not in values
        assert f"No such file or directory: '{tmp_path / file}'" in made.errors[column]


def test_the_default_collectors_of_linux_are_the_host_and_this_process():
    names = [type(made).__name__ for made in default_collectors()]
    assert names[:2] == ["HostCollector", "ProcessCollector"]


# -- CPU ---------------------------------------------------------------------------------------------------


def test_the_first_reading_of_a_share_is_missing(machine):
    values = collector(machine).collect()
    assert math.isnan(values["cpu_percent"])
    assert math.isnan(values["core0/cpu_percent"])


def test_the_busy_share_of_each_cpu_and_of_all(machine):
    """Guest time is contained in user time; waiting for a disk is not busy, time that was stolen is."""
    machine.write_processors({0: BEFORE, 1: BEFORE})
    made = collector(machine)
    made.collect()
    machine.write_processors({0: BUSY_70, 1: BUSY_10})
    values = made.collect()
    assert values["core0/cpu_percent"] == pytest.approx(70.0)
    assert values["core1/cpu_percent"] == pytest.approx(10.0)
    assert values["cpu_percent"] == pytest.approx(40.0)
    assert sources(made)["cpu_percent"] == f"{machine.proc}/stat, 2 CPUs"


def test_time_of_waiting_that_the_os_kernel_takes_back_makes_no_share_above_100(machine):
    """proc(5): the value of iowait may decrease."""
    machine.write_processors({0: (100, 0, 0, 900, 50), 1: (100, 0, 0, 900, 50)})
    made = collector(machine)
    made.collect()
    machine.write_processors({0: (120, 0, 0, 900, 45), 1: (120, 0, 0, 900, 45)})
    values = made.collect()
    assert [values[name] for name in ("cpu_percent", "core0/cpu_percent", "core1/cpu_percent")] == [100.0] * 3


def test_cpus_that_are_not_allowed_do_not_count(machine, monkeypatch):
    monkeypatch.setattr(limits, "allowed_cpus", lambda: (1,))
    machine.write_processors({0: BEFORE, 1: BEFORE, 2: BEFORE})
    made = collector(machine)
    made.collect()
    machine.write_processors({0: BUSY_70, 1: BUSY_10, 2: BUSY_70})
    values = made.collect()
    assert values["cpu_percent"] == pytest.approx(10.0)
    assert values["core1/cpu_percent"] == pytest.approx(10.0)
    assert "core0/cpu_percent" not in values
    assert "core2/cpu_percent" not in values


def test_no_time_passed_between_two_readings_is_missing_and_not_zero(machine):
    made = collector(machine)
    made.collect()
    assert math.isnan(made.collect()["cpu_percent"])


def test_cpu_time_that_is_never_counted_is_missing_for_a_reason(machine):
    """gVisor: every number in /proc/stat is 0 for ever."""
    machine.write_processors({0: (), 1: ()})
    made = collector(machine)
    made.collect()
    assert made.errors.keys() & {"cpu_percent", "core0/cpu_percent"} == set()  # a first reading has no rates
    made.collect()
    for column in ("cpu_percent", "core0/cpu_percent", "core1/cpu_percent"):
        assert made.errors[column] == f"{machine.proc}/stat counts no CPU time here: every number is 0"
    machine.write_processors({0: BUSY_70, 1: BUSY_10})
    made.collect()
    assert not made.errors.keys() & {"cpu_percent", "core0/cpu_percent", "core1/cpu_percent"}


def test_a_clock_that_stands_still_is_a_reason(machine):
    made = collector(machine)
    made.collect()
    made.collect()
    assert "no CPU time was counted" in made.errors["core1/cpu_percent"]
    machine.write_processors({0: BUSY_70, 1: BUSY_10})
    assert made.collect()["core1/cpu_percent"] >= 0
    assert "core1/cpu_percent" not in made.errors


def test_each_cpu_that_is_missing_has_a_reason_of_its_own(machine):
    made = collector(machine)
    machine.write_processors({0: BEFORE, 1: BEFORE})
    made.collect()
    machine.write_processors({0: BUSY_70})
    made.collect()
    assert made.errors["core1/cpu_percent"] == "this CPU is switched off"
    assert "began anew" in made.errors["cpu_percent"]
    assert "core0/cpu_percent" not in made.errors


def test_a_stat_without_cpus_is_a_reason(machine):
    machine.write("proc/stat", "intr 5\nctxt 9\n")
    assert "lists no CPU" in collector(machine).errors["cpu_percent"]


def test_a_counter_that_went_backwards_is_missing_once(machine):
    machine.write_processors({0: BUSY_70, 1: BUSY_70})
    made = collector(machine)
    made.collect()
    machine.write_processors({0: BEFORE, 1: BEFORE})
    assert math.isnan(made.collect()["cpu_percent"])
    machine.write_processors({0: BUSY_70, 1: BUSY_10})
    assert made.collect()["cpu_percent"] == pytest.approx(40.0)


def test_a_cpu_that_is_switched_on_later_moves_the_others_and_they_are_still_read(machine, monkeypatch):
    """/proc/stat lists those that are online, in the order of their numbers, and then other counters."""
    monkeypatch.setattr(limits, "allowed_cpus", lambda: (0, 2))
    monkeypatch.setattr(cpu.os, "sysconf", {"SC_NPROCESSORS_CONF": 3}.__getitem__)
    machine.write_processors({0: BEFORE, 2: BEFORE})
    made = collector(machine)
    made.collect()
    machine.write_processors({0: BUSY_70, 1: BUSY_10, 2: BUSY_10})
    values = read(made)
    assert values["core2/cpu_percent"] == pytest.approx(10.0)
    assert values["cpu_percent"] == pytest.approx(40.0)


def test_a_cpu_that_is_switched_off_is_missing_and_the_others_go_on(machine):
    made = collector(machine)
    machine.write_processors({0: BEFORE, 1: BEFORE})
    made.collect()
    machine.write_processors({0: BUSY_70})
    values = made.collect()
    assert values["core0/cpu_percent"] == pytest.approx(70.0)
    assert "core1/cpu_percent" not in values


def test_a_cpu_that_is_switched_off_and_on_again_does_not_bring_all_that_it_has_ever_done(machine):
    made = collector(machine)
    machine.write_processors({0: (0, 0, 0, 0), 1: (1000, 0, 0, 9000)})
    made.collect()
    machine.write_processors({0: (0, 0, 0, 100)})
    assert math.isnan(made.collect()["cpu_percent"])
    machine.write_processors({0: (0, 0, 0, 200), 1: (1050, 0, 0, 9050)})
    assert math.isnan(made.collect()["cpu_percent"])
    machine.write_processors({0: (0, 0, 0, 300), 1: (1150, 0, 0, 9050)})
    assert made.collect()["cpu_percent"] == pytest.approx(50.0)


def test_cpus_that_the_machine_gets_later_count_as_soon_as_the_limits_are_looked_up(machine, monkeypatch):
    """Virtual machines get more. Columns stay as they are; how many may come is not always known (musl)."""
    monkeypatch.setattr(cpu.os, "sysconf", {"SC_NPROCESSORS_CONF": 2}.__getitem__)
    monkeypatch.setattr(limits, "allowed_cpus", lambda: (0, 1))
    machine.write_processors({0: BEFORE, 1: BEFORE})
    looked_up = limits.Limits(machine.proc)
    made = HostCollector(machine.proc, machine.sys, limits=looked_up)
    made.collect()
    monkeypatch.setattr(limits, "allowed_cpus", lambda: (0, 1, 2, 3))
    looked_up.expire()
    machine.write_processors(dict.fromkeys(range(4), BEFORE))
    made.collect()
    machine.write_processors({0: BUSY_10, 1: BUSY_10, 2: BUSY_70, 3: BUSY_70})
    values = read(made)
    assert values["cpu_percent"] == pytest.approx(40.0)
    assert values["core1/cpu_percent"] == pytest.approx(10.0)
    assert sources(made)["cpu_percent"] == f"{machine.proc}/stat, 4 CPUs"


def test_where_the_lines_of_the_cpus_begin_is_found_again(machine):
    """A program that writes /proc/stat for a container may be replaced by another."""
    machine.write("proc/stat", "cpu  2 0 0 18 0 0 0 0\ncpu0 1 0 0 9 0 0 0 0\ncpu1 1 0 0 9 0 0 0 0\n")
    made = collector(machine)
    for idle in (12, 16, 20):
        core = f"2 0 0 {idle} 0 0 0 0 0 0"
        machine.write("proc/stat", f"cpu  4 0 0 {idle} 0 0 0 0 0 0\ncpu0 {core}\ncpu1 {core}\n")
        values = made.collect()
    assert values["cpu_percent"] == values["core1/cpu_percent"] == 0.0


def test_an_old_os_kernel_that_counts_no_guests_is_read(machine):
    machine.write("proc/stat", "cpu  1 0 0 9 0 0 0 0\ncpu0 1 0 0 9 0 0 0 0\nintr 5\n")
    made = collector(machine)
    made.collect()
    machine.write("proc/stat", "cpu  2 0 0 12 0 0 0 0\ncpu0 2 0 0 12 0 0 0 0\nintr 5\n")
    assert made.collect()["cpu_percent"] == pytest.approx(25.0)


def test_the_line_of_all_cpus_may_have_fewer_fields_than_that_of_each(machine):
    """A program that writes /proc/stat anew for a container (lxcfs) may write only the first so."""
    machine.write(
        "proc/stat", "cpu  2 0 0 18 0 0 0 0 0\n" + "".join(f"cpu{n} 1 0 0 9 0 0 0 0 0 0\n" for n in (0, 1))
    )
    made = collector(machine)
    made.collect()
    each = "cpu0 2 0 0 12 0 0 0 0 0 0\ncpu1 3 0 0 13 0 0 0 0 0 0\n"
    machine.write("proc/stat", "cpu  5 0 0 25 0 0 0 0 0\n" + each)
    values = made.collect()
    assert values["core0/cpu_percent"] == pytest.approx(25.0)
    assert values["core1/cpu_percent"] == pytest.approx(100 / 3)


def test_two_hundred_cpus_are_read(machine, monkeypatch):
    monkeypatch.setattr(limits, "allowed_cpus", lambda: tuple(range(200)))
    machine.write_processors(dict.fromkeys(range(200), BEFORE))
    made = collector(machine)
    made.collect()
    machine.write_processors({number: BUSY_70 if number < 50 else BUSY_10 for number in range(200)})
    values = made.collect()
    assert values["cpu_percent"] == pytest.approx(25.0)
    assert values["core199/cpu_percent"] == pytest.approx(10.0)


def test_when_the_allowed_cpus_change_the_share_is_that_of_the_time_since_and_not_of_the_uptime(
    machine, monkeypatch
):
    monkeypatch.setattr(limits, "_EVERY", 0.0)
    idle = (0, 0, 0, 1_000_000, 0, 0, 0, 0)
    machine.write_processors({0: idle, 1: (900_000, 0, 0, 100_000, 0, 0, 0, 0)})
    made = collector(machine)
    made.collect()
    monkeypatch.setattr(limits, "allowed_cpus", lambda: (0,))
    made.collect()
    monkeypatch.setattr(limits, "allowed_cpus", lambda: (0, 1))
    machine.write_processors({0: (0, 0, 0, 1_000_100, 0, 0, 0, 0), 1: (900_000, 0, 0, 100_100, 0, 0, 0, 0)})
    share = made.collect()["cpu_percent"]  # nobody did anything meanwhile
    assert math.isnan(share) or share == pytest.approx(0.0)


def test_a_process_that_is_moved_to_other_cpus_is_measured_there(machine, monkeypatch):
    monkeypatch.setattr(limits, "_EVERY", 0.0)
    monkeypatch.setattr(limits, "allowed_cpus", lambda: (0,))
    machine.write_processors({0: BEFORE, 1: BEFORE})
    made = collector(machine)
    made.collect()
    monkeypatch.setattr(limits, "allowed_cpus", lambda: (1,))
    made.collect()
    machine.write_processors({0: BUSY_70, 1: BUSY_10})
    assert made.collect()["cpu_percent"] == pytest.approx(10.0)


# -- CPU quota ---------------------------------------------------------------------------------------------


class Clock:
    """Stands in for the module ``time``, cranked by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    for module in (limits, cpu, pressure, disk):
        monkeypatch.setattr(module, "time", made)
    return made


def test_a_quota_in_version_2_is_what_the_share_is_of(machine, clock):
    mount = machine.version_2("/job")
    job = group(
        mount / "job", cpu_max="50000 100000", cpu_stat="usage_usec 1000000\nuser_usec 1\nnr_throttled 0"
    )
    made = collector(machine)
    assert math.isnan(made.collect()["cpu_percent"])
    clock.now += 2
    group(job, cpu_stat="usage_usec 1250000\nuser_usec 1\nnr_throttled 0")
    # 0.25 s of CPU in 2 s is an eighth of a CPU, and a quarter of the half CPU that is allowed.
    assert made.collect()["cpu_percent"] == pytest.approx(25.0)
    assert sources(made)["cpu_percent"] == f"{job / 'cpu.stat'} against {job / 'cpu.max'}"


def test_a_quota_in_version_1_is_what_the_share_is_of(machine, clock):
    _, cpu, cpuacct = machine.version_1("/job")
    group(cpu / "job", cpu_cfs_quota_us=150_000, cpu_cfs_period_us=100_000)
    group(cpuacct / "job", cpuacct_usage=5_000_000_000)
    made = collector(machine)
    made.collect()
    clock.now += 4
    group(cpuacct / "job", cpuacct_usage=8_000_000_000)
    # 3 s of CPU in 4 s of one and a half CPUs
    assert made.collect()["cpu_percent"] == pytest.approx(50.0)


def test_each_cpu_keeps_its_own_share_under_a_quota(machine, clock):
    mount = machine.version_2("/job")
    group(mount / "job", cpu_max="50000 100000", cpu_stat="usage_usec 0")
    machine.write_processors({0: BEFORE, 1: BEFORE})
    made = collector(machine)
    made.collect()
    clock.now += 1
    machine.write_processors({0: BUSY_70, 1: BUSY_10})
    assert made.collect()["core0/cpu_percent"] == pytest.approx(70.0)


@pytest.mark.parametrize("quota", ["200000 100000", "400000 100000", "max 100000"])
def test_a_quota_that_is_no_tighter_than_the_cpus_changes_nothing(machine, quota):
    mount = machine.version_2("/job")
    group(mount / "job", cpu_max=quota, cpu_stat="usage_usec 0")
    machine.write_processors({0: BEFORE, 1: BEFORE})
    made = collector(machine)
    made.collect()
    machine.write_processors({0: BUSY_70, 1: BUSY_10})
    assert made.collect()["cpu_percent"] == pytest.approx(40.0)


def test_a_quota_that_comes_while_running_is_found_and_begins_with_a_missing_share(machine, clock):
    mount = machine.version_2("/job")
    job = group(mount / "job", cpu_max="max 100000", cpu_stat="usage_usec 7000000")
    made = collector(machine)
    made.collect()
    group(job, cpu_max="100000 100000")
    clock.now += 5
    machine.write_processors({0: BUSY_70, 1: BUSY_10})
    assert made.collect()["cpu_percent"] == pytest.approx(40.0)  # not looked yet
    clock.now += 5
    assert math.isnan(made.collect()["cpu_percent"])
    clock.now += 2
    group(job, cpu_stat="usage_usec 8000000")
    assert made.collect()["cpu_percent"] == pytest.approx(50.0)


def test_a_quota_whose_counter_cannot_be_read_leaves_the_cpus_themselves(machine):
    mount = machine.version_2("/job")
    group(mount / "job", cpu_max="50000 100000")  # no cpu.stat
    machine.write_processors({0: BEFORE, 1: BEFORE})
    made = collector(machine)
    made.collect()
    machine.write_processors({0: BUSY_70, 1: BUSY_10})
    assert made.collect()["cpu_percent"] == pytest.approx(40.0)


def test_a_quota_whose_counter_cannot_be_read_does_not_make_the_share_begin_anew_each_time(
    machine, monkeypatch
):
    monkeypatch.setattr(limits, "_EVERY", 0.0)
    mount = machine.version_2("/job")
    group(mount / "job", cpu_max="50000 100000")  # no cpu.stat
    machine.write_processors({0: BEFORE, 1: BEFORE})
    made = collector(machine)
    made.collect()
    machine.write_processors({0: BUSY_70, 1: BUSY_10})
    assert made.collect()["cpu_percent"] == pytest.approx(40.0)


# -- memory ------------------------------------------------------------------------------------------------


def test_memory_in_use_is_what_free_prints(machine):
    made = collector(machine)
    values = made.collect()
    assert values["ram_limit_bytes"] == 16_000 * KIB
    assert values["ram_used_bytes"] == 6_000 * KIB
    assert values["ram_percent"] == 37.5
    assert sources(made)["ram_percent"] == f"{machine.proc}/meminfo"


def test_memory_under_a_limit_is_the_working_set_of_the_group_that_carries_it(machine):
    mount = machine.version_2("/pod/container")
    group(mount / "pod/container", memory_max="max", memory_current=1, memory_stat="inactive_file 0")
    pod = group(
        mount / "pod",
        memory_max=8_000 * KIB,
        memory_current=3_000 * KIB,
        memory_stat=f"anon 5\ninactive_file {1_000 * KIB}",
    )
    made = collector(machine)
    values = made.collect()
    assert values["ram_limit_bytes"] == 8_000 * KIB
    assert values["ram_used_bytes"] == 2_000 * KIB
    assert values["ram_percent"] == 25.0
    used = f"{pod / 'memory.current'} less inactive_file in memory.stat"
    assert sources(made)["ram_limit_bytes"] == str(pod / "memory.max")
    assert {each.name: each.set_by for each in made.metrics if each.set_by} == {
        "ram_limit_bytes": "container"
    }
    assert sources(made)["ram_used_bytes"] == used
    assert sources(made)["ram_percent"] == f"{used} against {pod / 'memory.max'}"


def test_memory_under_a_limit_of_version_1(machine):
    memory, _, _ = machine.version_1("/job", hybrid=True)
    group(
        memory / "job",
        memory_limit_in_bytes=4_000 * KIB,
        memory_usage_in_bytes=3_500 * KIB,
        memory_stat=f"inactive_file 1\ntotal_inactive_file {500 * KIB}",
    )
    assert collector(machine).collect()["ram_percent"] == 75.0


@pytest.mark.parametrize("limit", [16_000 * KIB, 64_000 * KIB])
def test_a_limit_that_is_no_tighter_than_the_machine_changes_nothing(machine, limit):
    """Also what lxcfs shows: /proc/meminfo already holds the container's limit."""
    mount = machine.version_2("/job")
    group(mount / "job", memory_max=limit, memory_current=5, memory_stat="inactive_file 0")
    values = collector(machine).collect()
    assert values["ram_limit_bytes"] == 16_000 * KIB
    assert values["ram_used_bytes"] == 6_000 * KIB


def test_memory_in_use_is_never_below_nothing(machine):
    """Some containers show more as available than there is in all; free memory is right there."""
    machine.write_memory(MemTotal=16_000, MemFree=4_000, MemAvailable=60_000, SwapTotal=0, SwapFree=0)
    values = collector(machine).collect()
    assert values["ram_used_bytes"] == 12_000 * KIB
    assert values["ram_percent"] == 75.0


def test_a_memory_limit_that_changes_while_running_is_found(machine, clock):
    mount = machine.version_2("/job")
    job = group(mount / "job", memory_max="max", memory_current=1_000 * KIB, memory_stat="inactive_file 0")
    made = collector(machine)
    assert made.collect()["ram_limit_bytes"] == 16_000 * KIB
    group(job, memory_max=2_000 * KIB)
    clock.now += 10
    assert made.collect()["ram_percent"] == 50.0
    group(job, memory_max="max")
    clock.now += 10
    assert made.collect()["ram_percent"] == 37.5


def test_a_machine_that_shrinks_below_its_memory_limit_is_what_limits(machine):
    mount = machine.version_2("/job")
    group(mount / "job", memory_max=8_000 * KIB, memory_current=1_000 * KIB, memory_stat="inactive_file 0")
    made = collector(machine)
    assert made.collect()["ram_limit_bytes"] == 8_000 * KIB
    machine.write_memory(MemTotal=4_000, MemFree=1, MemAvailable=1_000, SwapTotal=0, SwapFree=0)
    values = made.collect()
    assert values["ram_limit_bytes"] == 4_000 * KIB
    assert values["ram_percent"] == 75.0


def test_a_memory_limit_whose_use_cannot_be_read_leaves_the_machine(machine):
    mount = machine.version_2("/job")
    group(mount / "job", memory_max=4_000 * KIB)  # no memory.current
    values = collector(machine).collect()
    assert values["ram_limit_bytes"] == 16_000 * KIB
    assert values["ram_percent"] == 37.5


def test_swap_in_use(machine):
    values = collector(machine).collect()
    assert values["swap_limit_bytes"] == 2_000 * KIB
    assert values["swap_used_bytes"] == 500 * KIB
    assert values["swap_percent"] == 25.0


def test_the_share_of_swap_is_missing_with_a_reason_where_there_is_none(machine):
    machine.write_memory(MemTotal=16_000, MemFree=1, MemAvailable=10_000, SwapTotal=0, SwapFree=0)
    made = collector(machine)
    values = made.collect()
    assert "swap_percent" not in values
    assert values["swap_limit_bytes"] == 0.0
    assert made.errors["swap_percent"] == "this machine has no swap space"
    machine.write_memory(MemTotal=16_000, MemFree=1, MemAvailable=10_000, SwapTotal=10, SwapFree=5)
    assert made.collect()["swap_percent"] == 50.0
    assert "swap_percent" not in made.errors


# -- disk --------------------------------------------------------------------------------------------------


def device_of(path: Path) -> str:
    number = path.stat().st_dev
    return f"{os.major(number)}:{os.minor(number)}"


def traffic(machine: FakeMachine, device: str, read: int, written: int) -> None:
    machine.write(
        f"sys/dev/block/{device}/stat",
        f"    10     0 {read:8} 5 20 0 {written:8} 7 0 9 9 0 0 0 0 0 0\n",
    )


def test_space_is_that_of_the_working_directory_counted_as_df_does(machine, folder):
    values = collector(machine).collect()
    space = os.statvfs(folder)
    used = (space.f_blocks - space.f_bfree) * space.f_frsize
    free = space.f_bavail * space.f_frsize
    assert values["disk_used_bytes"] == pytest.approx(used, rel=0.01)
    assert values["disk_limit_bytes"] == pytest.approx(used + free, rel=0.01)
    assert values["disk_percent"] == pytest.approx(100 * used / (used + free), abs=0.5)


def test_disk_traffic_is_counted_in_sectors_of_512_bytes_per_measured_second(machine, folder, clock):
    device = device_of(folder)
    traffic(machine, device, 1_000, 5_000)
    made = collector(machine)
    first = made.collect()
    assert math.isnan(first["disk_read_bytes_per_second"])
    assert math.isnan(first["disk_write_bytes_per_second"])
    traffic(machine, device, 1_100, 5_400)
    clock.now += 4
    values = made.collect()
    assert values["disk_read_bytes_per_second"] == 100 * 512 / 4
    assert values["disk_write_bytes_per_second"] == 400 * 512 / 4


def test_another_working_directory_is_another_disk(machine, folder, shm, clock, monkeypatch):
    monkeypatch.chdir(folder)
    traffic(machine, device_of(folder), 1_000, 5_000)
    made = collector(machine)
    made.collect()
    monkeypatch.chdir(shm)
    clock.now += 1
    values = made.collect()
    assert values["disk_limit_bytes"] == pytest.approx(
        os.statvfs(shm).f_blocks * os.statvfs(shm).f_frsize, rel=0.01
    )
    assert "disk_read_bytes_per_second" not in values
    assert "disk_read_bytes_per_second" in made.errors
    monkeypatch.chdir(folder)
    clock.now += 1
    assert math.isnan(made.collect()["disk_read_bytes_per_second"])  # another counter: it has no past
    assert "disk_read_bytes_per_second" not in made.errors


def test_a_disk_that_looks_like_the_one_before_is_noticed_within_ten_seconds(
    machine, folder, clock, monkeypatch
):
    """As an overlay and a folder of the disk below it, whose space is the same."""
    monkeypatch.chdir(folder)
    traffic(machine, device_of(folder), 1_000, 5_000)
    made = collector(machine)
    made.collect()
    made.collect()
    traffic(machine, "8:77", 0, 0)
    monkeypatch.setattr(disk, "_device", lambda: os.makedev(8, 77))
    clock.now += 9
    assert made.collect()["disk_read_bytes_per_second"] == 0.0
    clock.now += 1
    assert math.isnan(made.collect()["disk_read_bytes_per_second"])  # another counter: it has no past


def test_a_disk_that_could_not_be_found_is_searched_again_in_the_next_reading(
    machine, folder, shm, clock, monkeypatch
):
    monkeypatch.chdir(folder)
    traffic(machine, device_of(folder), 1_000, 5_000)
    made = collector(machine)
    made.collect()
    made.collect()
    monkeypatch.chdir(shm)
    with monkeypatch.context() as patch:
        patch.setattr(disk, "_device", lambda: os.stat(shm / "gone").st_dev)
        assert "disk_used_bytes" not in made.collect()
    clock.now += 1
    values = made.collect()
    assert "disk_used_bytes" in values
    assert "disk_read_bytes_per_second" not in values  # which are those of the other disk


@pytest.mark.parametrize("kind", ["overlay", "nfs4", "tmpfs", "zfs"])
def test_a_file_system_without_a_block_device_has_space_but_no_traffic_and_says_why(machine, shm, kind):
    machine.mount(kind, shm, device=device_of(shm), source="pool/home")
    made = collector(machine)
    values = made.collect()
    assert values["disk_limit_bytes"] > 0
    assert "disk_read_bytes_per_second" not in values
    assert f"{kind} has no block device" in made.errors["disk_read_bytes_per_second"]
    assert f"{kind} has no block device" in made.errors["disk_write_bytes_per_second"]


@pytest.mark.parametrize("name", [os.fsdecode(b"caf\xe9"), "a\fb", "a\u2028b", "a\\ b"])
def test_the_names_of_other_mounts_may_be_of_any_bytes(machine, shm, name):
    machine.mount("overlay", shm, device=device_of(shm))
    machine.mount("ext4", machine.proc.parent / name, device="8:1")
    made = collector(machine)
    assert made.collect()["disk_percent"] >= 0
    assert "overlay has no block device" in made.errors["disk_read_bytes_per_second"]


def test_btrfs_is_counted_by_the_device_it_lies_on(machine, shm, clock):
    """Its files have a device number that is not the one in mountinfo either [seen with Linux 6.18]."""
    (machine.proc / "self" / "fdinfo").symlink_to("/proc/self/fdinfo")
    machine.mount("ext4", Path("/"), device="254:0", source="/dev/vda")
    machine.mount("tmpfs", shm.parent, device="0:22")
    descriptor = os.open(shm, os.O_RDONLY)
    information = Path(f"/proc/self/fdinfo/{descriptor}").read_text()
    os.close(descriptor)
    mount = information.split("mnt_id:")[1].split()[0]
    with (machine.proc / "self" / "mountinfo").open("a") as file:
        file.write(f"{mount} 1 0:9999 /home {shm} rw shared:1 - btrfs /dev/null rw,subvol=/home\n")
    traffic(machine, "1:3", 10, 20)  # /dev/null stands for the disk
    made = collector(machine)
    made.collect()
    traffic(machine, "1:3", 20, 20)
    clock.now += 2
    values = made.collect()
    assert made.errors.get("disk_read_bytes_per_second") is None
    assert values["disk_read_bytes_per_second"] == 10 * 512 / 2
    assert values["disk_write_bytes_per_second"] == 0.0


def test_a_disk_whose_counters_are_not_visible_has_space_but_no_traffic_and_says_why(machine, folder):
    made = collector(machine)
    values = made.collect()
    assert values["disk_percent"] > 0
    assert "disk_write_bytes_per_second" not in values
    assert "no disk counters" in made.errors["disk_write_bytes_per_second"]


# -- one thing fails, the others go on ---------------------------------------------------------------------


def test_a_file_system_that_does_not_answer_does_not_cost_the_numbers_of_cpu_and_memory(
    machine, folder, monkeypatch
):
    made = collector(machine)
    monkeypatch.setattr(os, "statvfs", lambda path: (_ for _ in ()).throw(OSError(116, "Stale file handle")))
    monitor = PerformanceMonitor([made])
    sample = monitor.sample()
    assert sample.values["ram_percent"] == 37.5
    assert math.isnan(sample.values["disk_percent"])
    assert "Stale file handle" in str(monitor.errors)


def test_a_control_group_that_is_removed_does_not_cost_the_numbers_of_cpu_and_disk(
    machine, folder, monkeypatch
):
    mount = machine.version_2("/job")
    group(mount / "job", memory_max=4_000 * KIB, memory_current=1_000 * KIB, memory_stat="inactive_file 0")
    machine.write_processors({0: BEFORE, 1: BEFORE})
    monitor = PerformanceMonitor([collector(machine)])
    monitor.sample()
    gone = OSError(19, "No such device")
    monkeypatch.setattr(memory.WorkingSet, "read", lambda self: (_ for _ in ()).throw(gone))
    machine.write_processors({0: BUSY_70, 1: BUSY_10})
    values = monitor.sample().values
    assert values["cpu_percent"] == pytest.approx(40.0)
    assert values["disk_percent"] > 0
    assert math.isnan(values["ram_percent"])
    assert "No such device" in str(monitor.errors)


# -- this machine ------------------------------------------------------------------------------------------


def test_this_machine_can_be_read():
    monitor = PerformanceMonitor([HostCollector()])
    monitor.sample()
    sum(range(3_000_000))
    values = monitor.sample().values
    assert 0 <= values["cpu_percent"] <= 100
    assert 0 < values["ram_percent"] <= 100
    assert 0 < values["disk_percent"] <= 100
    assert values["ram_used_bytes"] < values["ram_limit_bytes"]


def test_a_sample_reads_each_file_once(monkeypatch):
    """With the default collectors, in a process without children: what else there was cost as much again."""
    paths = []

    def counted(read):
        def wrapper(descriptor, *arguments):
            paths.append(os.readlink(f"/proc/self/fd/{descriptor}"))
            return read(descriptor, *arguments)

        return wrapper

    monitor = PerformanceMonitor()
    monitor.sample()
    monkeypatch.setattr(os, "pread", counted(os.pread))
    monitor.sample()
    assert "/proc/stat" in paths
    assert "/proc/meminfo" in paths
    assert len(paths) == len(set(paths))
