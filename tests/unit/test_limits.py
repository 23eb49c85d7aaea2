"""What a limit brings: host values beside the scoped ones, throttling, pressure, JupyterHub, lxcfs."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
from fakes.collectors import FakeMachine, group

from perfmon_widgets import PerformanceMonitor
from perfmon_widgets.collectors.linux import cpu, host, jupyterhub, limits, pressure
from perfmon_widgets.collectors.linux.host import HostCollector

KIB, MIB, GIB = 2**10, 2**20, 2**30
IDLE = (0, 0, 0, 1000, 0, 0, 0, 0)
BUSY_30 = (30, 0, 0, 1070, 0, 0, 0, 0)
BUSY_90 = (90, 0, 0, 1010, 0, 0, 0, 0)


@pytest.fixture(autouse=True)
def four_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "allowed_cpus", lambda: (0, 1, 2, 3))


@pytest.fixture
def machine(machine: FakeMachine) -> FakeMachine:
    machine.write_processors(dict.fromkeys(range(4), IDLE))
    return machine


class Clock:
    """Stands in for the module ``time``, cranked by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    for module in (limits, cpu, pressure):
        monkeypatch.setattr(module, "time", made)
    return made


def collector(machine: FakeMachine, **environment: str) -> HostCollector:
    return HostCollector(machine.proc, machine.sys, environment=environment)


def names(made: HostCollector) -> set[str]:
    return {metric.name for metric in made.metrics}


def sources(made: HostCollector) -> dict[str, str]:
    return {metric.name: metric.source for metric in made.metrics}


def memory_group(directory: Path, *, limit: object, used: int) -> Path:
    return group(directory, memory_max=limit, memory_current=used, memory_stat="anon 1\ninactive_file 0")


# -- the whole machine beside the container ----------------------------------------------------------------


def test_without_limits_there_are_no_columns_of_the_host(machine):
    assert not any(name.startswith("host_") for name in names(collector(machine)))


def test_more_than_a_limit_that_was_lowered_meanwhile_is_all_of_it(machine):
    """The use is read each time, the limit every ten seconds; and it takes its time to be enforced."""
    mount = machine.version_2("/")
    memory_group(mount, limit=4 * MIB, used=6 * MIB)
    values = collector(machine).collect()
    assert values["ram_percent"] == 100
    assert values["ram_used_bytes"] == 6 * MIB


def test_under_a_memory_limit_the_machine_stays_visible(machine):
    """A healthy container dies on a full host."""
    mount = machine.version_2("/job")
    memory_group(mount / "job", limit=4_000 * KIB, used=1_000 * KIB)
    made = collector(machine)
    values = made.collect()
    assert values["ram_percent"] == 25.0
    assert values["host_ram_percent"] == 37.5
    assert values["host_ram_used_bytes"] == 6_000 * KIB
    assert values["host_ram_limit_bytes"] == 16_000 * KIB
    assert sources(made)["host_ram_percent"] == f"{machine.proc}/meminfo"
    assert "host_cpu_percent" not in names(made)


def test_what_of_the_working_set_is_not_file_cache_has_a_column_of_its_own(machine, clock):
    mount = machine.version_2("/job")
    job = memory_group(mount / "job", limit=4_000 * KIB, used=3_000 * KIB)
    statistics = f"anon 1\ninactive_file {500 * KIB}\nactive_file {2_000 * KIB}"
    group(job, memory_stat=statistics)
    made = collector(machine)
    values = made.collect()
    assert values["ram_used_bytes"] == 2_500 * KIB
    assert values["ram_unreclaimable_bytes"] == 500 * KIB
    assert sources(made)["ram_unreclaimable_bytes"] == (
        f"{job / 'memory.current'} less inactive_file, active_file, slab_reclaimable in memory.stat"
    )
    group(job, memory_max="max")  # the limit is lifted
    clock.now += 10
    values = made.collect()
    assert values["ram_unreclaimable_bytes"] == values["ram_used_bytes"] == 6_000 * KIB
    assert "ram_unreclaimable_bytes" not in names(HostCollector(FakeMachine(job).proc, machine.sys))


def test_under_a_quota_the_machine_stays_visible(machine, clock):
    mount = machine.version_2("/job")
    job = group(mount / "job", cpu_max="100000 100000", cpu_stat="usage_usec 0\nnr_periods 0\nnr_throttled 0")
    made = collector(machine)
    made.collect()
    clock.now += 1
    group(job, cpu_stat="usage_usec 500000\nnr_periods 10\nnr_throttled 0")
    machine.write_processors({0: BUSY_30, 1: BUSY_90, 2: BUSY_90, 3: BUSY_30})
    values = made.collect()
    assert values["cpu_percent"] == pytest.approx(50.0)
    assert values["host_cpu_percent"] == pytest.approx(60.0)
    assert "host_ram_percent" not in names(made)


def test_with_some_of_the_cpus_the_machine_stays_visible(machine, monkeypatch):
    monkeypatch.setattr(limits, "allowed_cpus", lambda: (1, 2))
    made = collector(machine)
    made.collect()
    machine.write_processors({0: BUSY_30, 1: BUSY_90, 2: BUSY_90, 3: BUSY_30})
    values = made.collect()
    assert values["cpu_percent"] == pytest.approx(90.0)
    assert values["host_cpu_percent"] == pytest.approx(60.0)


def test_columns_stay_put_when_limits_come_and_go(machine, clock):
    mount = machine.version_2("/job")
    job = memory_group(mount / "job", limit=4_000 * KIB, used=1_000 * KIB)
    group(job, cpu_max="100000 100000", cpu_stat="usage_usec 0\nnr_periods 5\nnr_throttled 0")
    made = collector(machine)
    before = [metric.name for metric in made.metrics]
    assert {"host_ram_percent", "host_cpu_percent", "cpu_throttled_percent"} <= set(before)
    group(job, memory_max="max", cpu_max="max 100000")
    clock.now += 10
    values = made.collect()
    assert [metric.name for metric in made.metrics] == before
    assert values["ram_percent"] == values["host_ram_percent"] == 37.5
    assert "lifted" in made.errors["cpu_throttled_percent"]
    group(job, memory_max=2_000 * KIB, cpu_max="100000 100000")
    clock.now += 10
    assert made.collect()["ram_percent"] == 50.0
    assert [metric.name for metric in made.metrics] == before


def test_every_column_there_can_be_is_in_the_table(machine):
    mount = machine.version_2("/job")
    job = memory_group(mount / "job", limit=4_000 * KIB, used=1_000 * KIB)
    group(job, cpu_max="100000 100000", cpu_stat="usage_usec 0\nnr_periods 5\nnr_throttled 0")
    none = PRESSURE.format(0)
    group(job, memory_pressure=none, cpu_pressure=none, io_pressure=none)
    made = names(collector(machine))
    assert {name for name in made if "/" not in name} == {
        metric.name for metric in (*host.METRICS, *host.OPTIONAL_METRICS)
    }


def test_in_a_monitor_the_columns_and_their_sources_are_all_there(machine):
    mount = machine.version_2("/job")
    job = memory_group(mount / "job", limit=4_000 * KIB, used=1_000 * KIB)
    monitor = PerformanceMonitor([collector(machine)])
    monitor.sample()
    frame = monitor.history
    assert frame["host_ram_percent"].iloc[0] == 37.5
    assert frame.attrs["ram_limit_bytes"]["source"] == str(job / "memory.max")


# -- throttling --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [1, 2])
def test_the_share_of_periods_in_which_the_quota_was_used_up(machine, clock, version):
    if version == 2:
        job = group(machine.version_2("/job") / "job", cpu_max="100000 100000")
        lines = "usage_usec 0\nnr_periods {}\nnr_throttled {}\nthrottled_usec 99"
    else:
        _, mount, accounting = machine.version_1("/job")
        job = group(mount / "job", cpu_cfs_quota_us=100_000, cpu_cfs_period_us=100_000)
        group(accounting / "job", cpuacct_usage=0)
        lines = "nr_periods {}\nnr_throttled {}\nthrottled_time 99"
    group(job, cpu_stat=lines.format(1000, 10))
    made = collector(machine)
    assert math.isnan(made.collect()["cpu_throttled_percent"])
    group(job, cpu_stat=lines.format(1050, 30))
    clock.now += 5
    assert made.collect()["cpu_throttled_percent"] == pytest.approx(40.0)
    assert sources(made)["cpu_throttled_percent"] == str(job / "cpu.stat")
    assert "cpu_throttled_percent" not in made.errors


def test_without_a_period_there_is_no_share_and_the_reason_is_said(machine, clock):
    job = group(machine.version_2("/job") / "job", cpu_max="100000 100000")
    group(job, cpu_stat="usage_usec 0\nnr_periods 7\nnr_throttled 3")
    made = collector(machine)
    made.collect()
    clock.now += 1
    assert math.isnan(made.collect()["cpu_throttled_percent"])
    assert "no period" in made.errors["cpu_throttled_percent"]


@pytest.mark.parametrize("statistics", ["usage_usec 0", ""])
def test_an_os_kernel_that_does_not_count_periods_has_no_such_column(machine, statistics):
    job = group(machine.version_2("/job") / "job", cpu_max="100000 100000", cpu_stat=statistics)
    assert (job / "cpu.stat").exists()
    assert "cpu_throttled_percent" not in names(collector(machine))


def test_without_a_quota_nothing_is_throttled(machine):
    job = group(machine.version_2("/job") / "job", cpu_max="max 100000")
    group(job, cpu_stat="usage_usec 0\nnr_periods 0\nnr_throttled 0")
    assert "cpu_throttled_percent" not in names(collector(machine))


def test_a_quota_with_the_accounting_mounted_apart_and_laid_out_otherwise_is_not_counted_on_another_group(
    machine, clock
):
    """Two groups at the same depth are not the same group: here one holds other people's work."""
    machine.write("proc/self/cgroup", "2:cpu:/mine/a\n3:cpuacct:/theirs/b\n")
    mount = machine.mount("cgroup", machine.groups / "cpu", options="rw,cpu")
    accounting = machine.mount("cgroup", machine.groups / "cpuacct", options="rw,cpuacct")
    group(mount / "mine/a", cpu_cfs_quota_us=100_000, cpu_cfs_period_us=100_000)
    group(accounting / "theirs/b", cpuacct_usage=0)
    assert limits.allowed(machine.proc).quota.usage is None
    made = collector(machine)
    made.collect()
    clock.now += 1
    machine.write_processors({0: BUSY_30, 1: BUSY_90, 2: BUSY_90, 3: BUSY_30})
    assert made.collect()["cpu_percent"] == pytest.approx(60.0)
    assert sources(made)["cpu_percent"] == f"{machine.proc}/stat, 4 CPUs"


# -- pressure ----------------------------------------------------------------------------------------------

PRESSURE = (
    "some avg10=1.00 avg60=2.00 avg300=3.00 total={}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=77\n"
)


def test_pressure_is_the_share_of_time_that_some_program_waited(machine, clock):
    machine.write("proc/pressure/memory", PRESSURE.format(1_000_000))
    made = collector(machine)
    assert math.isnan(made.collect()["memory_pressure_percent"])
    machine.write("proc/pressure/memory", PRESSURE.format(1_500_000))
    clock.now += 5
    assert made.collect()["memory_pressure_percent"] == pytest.approx(10.0)
    assert sources(made)["memory_pressure_percent"] == f"{machine.proc}/pressure/memory, some"


def test_pressure_is_that_of_the_group_with_the_limit(machine, clock):
    machine.write("proc/pressure/memory", PRESSURE.format(0))
    mount = machine.version_2("/pod/job")
    pod = memory_group(mount / "pod", limit=4_000 * KIB, used=1_000 * KIB)
    memory_group(mount / "pod/job", limit="max", used=5)
    group(pod, memory_pressure=PRESSURE.format(0))
    made = collector(machine)
    made.collect()
    group(pod, memory_pressure=PRESSURE.format(2_000_000))
    clock.now += 4
    assert made.collect()["memory_pressure_percent"] == pytest.approx(50.0)
    assert sources(made)["memory_pressure_percent"] == f"{pod / 'memory.pressure'}, some"


def test_pressure_of_a_limit_of_version_1_is_the_machines_and_says_so(machine):
    machine.write("proc/pressure/memory", PRESSURE.format(0))
    mount, _, _ = machine.version_1("/job", hybrid=True)
    group(
        mount / "job",
        memory_limit_in_bytes=4_000 * KIB,
        memory_usage_in_bytes=1_000 * KIB,
        memory_stat="total_inactive_file 0",
    )
    assert sources(collector(machine))["memory_pressure_percent"] == f"{machine.proc}/pressure/memory, some"


def test_a_limit_that_comes_later_brings_its_own_pressure(machine, clock):
    machine.write("proc/pressure/memory", PRESSURE.format(9_000_000))
    mount = machine.version_2("/job")
    job = memory_group(mount / "job", limit="max", used=1_000 * KIB)
    group(job, memory_pressure=PRESSURE.format(1))
    made = collector(machine)
    made.collect()
    group(job, memory_max=4_000 * KIB)
    clock.now += 10
    assert math.isnan(made.collect()["memory_pressure_percent"])  # another counter
    assert sources(made)["memory_pressure_percent"] == f"{job / 'memory.pressure'}, some"


def test_where_pressure_is_not_counted_there_is_no_such_column(machine):
    for kind in ("cpu", "io", "memory"):  # reading these fails, as where it is switched off
        (machine.proc / "pressure" / kind).mkdir(parents=True)
    assert [name for name in names(collector(machine)) if "pressure" in name] == []


@pytest.mark.parametrize("kind", ["cpu", "io"])
def test_waiting_for_a_cpu_or_a_disk_is_pressure_too(machine, clock, kind):
    machine.write(f"proc/pressure/{kind}", PRESSURE.format(1_000_000))
    made = collector(machine)
    column = f"{kind}_pressure_percent"
    assert math.isnan(made.collect()[column])
    machine.write(f"proc/pressure/{kind}", PRESSURE.format(3_000_000))
    clock.now += 5
    assert made.collect()[column] == pytest.approx(40.0)
    assert sources(made)[column] == f"{machine.proc}/pressure/{kind}, some"


# -- which mount, which group ------------------------------------------------------------------------------


def test_a_part_of_the_hierarchy_that_is_mounted_again_elsewhere_does_not_hide_the_way_up(machine):
    """``docker run -v /sys/fs/cgroup/memory/x:/mnt``: of several mounts the one that shows most counts."""
    machine.write("proc/self/cgroup", "0::/pod/job\n")
    machine.mount("cgroup2", machine.groups / "other", root="/elsewhere")
    machine.mount("cgroup2", machine.groups / "part", root="/pod/job")
    whole = machine.mount("cgroup2", machine.groups / "whole")
    for mount in (machine.groups / "other", machine.groups / "part"):
        memory_group(mount, limit=1, used=1)
    memory_group(whole / "pod", limit=2 * GIB, used=5)
    memory_group(whole / "pod/job", limit=3 * GIB, used=5)
    assert limits.allowed(machine.proc).memory.directory == whole / "pod"


def test_in_a_namespace_a_mount_of_the_hosts_whole_hierarchy_is_not_taken_for_the_containers(machine):
    machine.write("proc/self/cgroup", "0::/\n")
    outside = machine.mount("cgroup2", machine.groups / "host", root="/../..")
    inside = machine.mount("cgroup2", machine.groups / "own")
    memory_group(outside, limit=5 * GIB, used=5)
    memory_group(inside, limit=GIB, used=5)
    assert limits.allowed(machine.proc).memory.directory == inside


# -- lxcfs -------------------------------------------------------------------------------------------------


def test_lxcfs_numbers_the_cpus_of_the_container_from_nothing(machine, monkeypatch):
    """The affinity names CPUs 2 and 3 of the machine; the container's own list has them as 0 and 1."""
    monkeypatch.setattr(limits, "allowed_cpus", lambda: (2, 3))
    machine.write_processors({0: IDLE, 1: IDLE})
    made = collector(machine)
    assert {"core0/cpu_percent", "core1/cpu_percent"} <= names(made)
    made.collect()
    machine.write_processors({0: BUSY_30, 1: BUSY_90})
    values = made.collect()
    assert values["cpu_percent"] == pytest.approx(60.0)
    assert values["core1/cpu_percent"] == pytest.approx(90.0)


def test_lxcfs_shows_as_many_cpus_as_the_quota_is_worth(machine, clock):
    mount = machine.version_2("/lxc")
    job = group(mount / "lxc", cpu_max="200000 100000", cpu_stat="usage_usec 0")
    machine.write_processors({0: IDLE, 1: IDLE})  # though the affinity has four
    made = collector(machine)
    made.collect()
    group(job, cpu_stat="usage_usec 1000000")
    clock.now += 1
    assert made.collect()["cpu_percent"] == pytest.approx(50.0)
    assert not any(name.startswith(("core2", "core3")) for name in names(made))


def test_lxcfs_shows_the_limit_as_the_machine_and_that_is_right_as_it_is(machine):
    mount = machine.version_2("/lxc")
    memory_group(mount / "lxc", limit=16_000 * KIB + 100, used=1)
    made = collector(machine)
    assert made.collect()["ram_percent"] == 37.5
    assert "host_ram_percent" not in names(made)  # what the machine has cannot be seen from inside


# -- JupyterHub --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "0", "-5", "None", "2G", "nan"])
def test_what_is_no_number_limits_nothing(text):
    assert jupyterhub.limit(jupyterhub.MEMORY, {jupyterhub.MEMORY: text}) == math.inf
    assert jupyterhub.limit(jupyterhub.MEMORY, {}) == math.inf


def test_a_limit_of_the_hub_is_only_a_fallback(machine):
    mount = machine.version_2("/job")
    job = memory_group(mount / "job", limit=4_000 * KIB, used=1_000 * KIB)
    group(job, cpu_max="100000 100000", cpu_stat="usage_usec 0")
    made = collector(machine, MEM_LIMIT=str(KIB), CPU_LIMIT="0.1")
    assert made.collect()["ram_limit_bytes"] == 4_000 * KIB
    assert "cpu.max" in sources(made)["cpu_percent"]
    assert jupyterhub.capacity(limits.Limits(machine.proc).now(), {jupyterhub.CPU: "0.1"}) == (
        1.0,
        str(job / "cpu.max"),
    )


def test_a_limit_of_the_hub_above_the_machine_changes_nothing(machine):
    made = collector(machine, MEM_LIMIT=str(64 * GIB), CPU_LIMIT="4")
    assert made.collect()["ram_percent"] == 37.5
    assert sources(made)["cpu_percent"] == f"{machine.proc}/stat, 4 CPUs"
    assert jupyterhub.capacity(limits.Limits(machine.proc).now(), {jupyterhub.CPU: "4"}) == (4.0, "affinity")


def test_a_limit_set_in_this_very_process_is_compared_with_this_process(monkeypatch):
    monkeypatch.setenv("MEM_LIMIT", "12345")
    assert jupyterhub.server("MEM_LIMIT") == os.getpid()


# -- this machine ------------------------------------------------------------------------------------------


def test_the_files_of_this_machine_are_understood():
    assert limits.allowed().cpus
