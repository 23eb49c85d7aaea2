"""What "the devices the model runs on" means: affinity, and the tightest limit of the control groups."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import pytest
from fakes.collectors import FakeMachine, group
from hypothesis import example, given, settings
from hypothesis import strategies as st

from perfmon_widgets.collectors.affinity import allowed_cpus
from perfmon_widgets.collectors.linux import limits
from perfmon_widgets.collectors.linux.limits import allowed

GIB = 2**30
NO_LIMIT_V1 = 9223372036854771712


# -- CPUs --------------------------------------------------------------------------------------------------


def test_the_cpus_are_those_of_the_affinity_ascending(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {7, 2, 5})
    assert allowed_cpus() == (2, 5, 7)


def test_the_cpus_are_those_of_the_process_whatever_thread_asks():
    answers = []

    def ask() -> None:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # of this thread alone
        answers.append(allowed_cpus())

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert answers == [tuple(sorted(os.sched_getaffinity(os.getpid())))]


def test_the_cpus_are_all_of_them_where_there_is_no_affinity(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    assert allowed_cpus() == (0, 1, 2, 3)


# -- no limit ----------------------------------------------------------------------------------------------


def test_without_control_groups_there_is_no_limit(tmp_path):
    assert allowed(tmp_path).memory is None
    assert allowed(tmp_path).quota is None


def test_on_a_machine_without_limits_there_is_none(machine):
    mount = machine.version_2("/user.slice/session.scope")
    group(mount / "user.slice", memory_max="max", cpu_max="max 100000")
    group(mount / "user.slice/session.scope", memory_max="max", cpu_max="max 100000")
    assert allowed(machine.proc).memory is None
    assert allowed(machine.proc).quota is None


def test_the_number_by_which_version_1_says_no_limit_is_none(machine):
    memory, cpu, _ = machine.version_1()
    group(memory, memory_limit_in_bytes=NO_LIMIT_V1)
    group(cpu, cpu_cfs_quota_us=-1, cpu_cfs_period_us=100000)
    assert allowed(machine.proc).memory is None
    assert allowed(machine.proc).quota is None


# -- version 2 ---------------------------------------------------------------------------------------------


def test_version_2_limits_are_found_with_the_files_they_come_from(machine):
    mount = machine.version_2("/job")
    job = group(mount / "job", memory_max=GIB, cpu_max="150000 100000", cpu_stat="usage_usec 5000")
    limit, quota = allowed(machine.proc)[1:3]
    assert (limit.limit, limit.source) == (GIB, str(job / "memory.max"))
    assert (quota.cpus, quota.source, quota.usage) == (1.5, str(job / "cpu.max"), job / "cpu.stat")


@pytest.mark.parametrize(
    ("inner", "middle", "outer", "tightest"),
    [
        (1, 2, 3, "pod/container/step"),
        (3, 1, 2, "pod/container"),
        (3, 2, 1, "pod"),
        ("max", 2, "max", "pod/container"),
        (2, 2, "max", "pod/container/step"),  # equal: the one that holds nobody else
    ],
)
def test_the_tightest_of_nested_limits_wins(machine, inner, middle, outer, tightest):
    mount = machine.version_2("/pod/container/step")
    for path, number in (("pod/container/step", inner), ("pod/container", middle), ("pod", outer)):
        memory, cpu = (number * GIB, number * 100_000) if number != "max" else ("max", "max")
        group(mount / path, memory_max=memory, cpu_max=f"{cpu} 100000")
    limit, quota = allowed(machine.proc)[1:3]
    assert limit.directory == mount / tightest
    assert quota.source == str(mount / tightest / "cpu.max")
    assert quota.usage == mount / tightest / "cpu.stat"


def test_memory_and_cpu_may_be_limited_by_different_groups(machine):
    mount = machine.version_2("/pod/container")
    group(mount / "pod", memory_max="max", cpu_max="50000 100000")
    group(mount / "pod/container", memory_max=GIB, cpu_max="max 100000")
    assert allowed(machine.proc).memory.directory == mount / "pod/container"
    assert allowed(machine.proc).quota.cpus == 0.5


def test_siblings_do_not_count(machine):
    mount = machine.version_2("/mine")
    group(mount / "mine", memory_max=2 * GIB, cpu_max="max 100000")
    group(mount / "other", memory_max=GIB, cpu_max="1000 100000")
    assert allowed(machine.proc).memory.limit == 2 * GIB
    assert allowed(machine.proc).quota is None


def test_a_control_group_namespace_shows_the_limit_at_the_mount_point(machine):
    mount = machine.version_2("/")
    group(mount, memory_max=GIB, cpu_max="200000 100000")
    assert allowed(machine.proc).memory.directory == mount
    assert allowed(machine.proc).quota.cpus == 2.0


def test_a_mount_that_starts_further_down_is_cut_off_the_path(machine):
    """A container without a control group namespace: the path is the host's, the mount is the container's."""
    mount = machine.version_2("/kubepods/pod7/c1/step", root="/kubepods/pod7/c1")
    group(mount, memory_max=2 * GIB, cpu_max="max 100000")
    group(mount / "step", memory_max=GIB, cpu_max="max 100000")
    assert allowed(machine.proc).memory.directory == mount / "step"


def test_the_path_of_the_mount_itself_is_the_mount_point(machine):
    mount = machine.version_2("/docker/abc", root="/docker/abc")
    group(mount, memory_max=GIB)
    assert allowed(machine.proc).memory.directory == mount


def test_a_mount_whose_root_only_begins_alike_is_not_cut_off(machine):
    mount = machine.version_2("/docker/abcdef", root="/docker/abc")
    group(mount, memory_max=GIB)
    group(mount / "def", memory_max=1)
    assert allowed(machine.proc).memory.directory == mount


@pytest.mark.parametrize("path", ["/../..", "/../other/job", "/gone"])
def test_a_path_that_leads_out_of_the_namespace_or_to_nothing_leaves_the_mount_point(machine, path):
    mount = machine.version_2(path)
    group(mount, memory_max=GIB, cpu_max="100000 100000")
    group(mount.parent / "other/job", memory_max=1)
    assert allowed(machine.proc).memory.directory == mount
    assert allowed(machine.proc).quota.cpus == 1.0


def test_nothing_above_the_mount_point_is_read(machine):
    mount = machine.version_2("/job")
    group(mount.parent, memory_max=1, cpu_max="1 100000")
    group(mount / "job", memory_max=GIB)
    assert allowed(machine.proc).memory.limit == GIB
    assert allowed(machine.proc).quota is None


def test_a_mount_point_with_white_space_in_its_name_is_found(machine):
    machine.groups = machine.groups.parent / "control groups"
    mount = machine.version_2("/job")
    group(mount / "job", memory_max=GIB)
    assert allowed(machine.proc).memory.directory == mount / "job"


# -- version 1 and hybrid ----------------------------------------------------------------------------------


@pytest.mark.parametrize("hybrid", [False, True])
def test_version_1_limits_are_found_with_the_files_they_come_from(machine, hybrid):
    memory, cpu, cpuacct = machine.version_1("/docker/abc", hybrid=hybrid)
    group(memory / "docker", memory_limit_in_bytes=NO_LIMIT_V1)
    group(memory / "docker/abc", memory_limit_in_bytes=GIB)
    group(cpu / "docker", cpu_cfs_quota_us=-1, cpu_cfs_period_us=100000)
    group(cpu / "docker/abc", cpu_cfs_quota_us=25000, cpu_cfs_period_us=50000)
    group(cpuacct / "docker/abc", cpuacct_usage=0)
    limit, quota = allowed(machine.proc)[1:3]
    assert (limit.limit, limit.source) == (GIB, str(memory / "docker/abc/memory.limit_in_bytes"))
    assert (quota.cpus, quota.source) == (0.5, str(cpu / "docker/abc/cpu.cfs_quota_us"))
    assert quota.usage == cpuacct / "docker/abc/cpuacct.usage"


def test_a_hybrid_machine_is_not_taken_for_version_2(machine):
    """It lists 0::/ although all limits live in version 1."""
    memory, _, _ = machine.version_1("/job", hybrid=True)
    group(machine.groups / "unified", memory_max=1, cpu_max="1 100000")
    group(memory / "job", memory_limit_in_bytes=GIB)
    assert allowed(machine.proc).memory.version == 1
    assert allowed(machine.proc).memory.limit == GIB
    assert allowed(machine.proc).quota is None


def test_a_version_1_container_finds_its_own_group_at_the_mount_point(machine):
    memory, cpu, cpuacct = machine.version_1("/docker/abc", root="/docker/abc")
    group(memory, memory_limit_in_bytes=GIB)
    group(cpu, cpu_cfs_quota_us=300000, cpu_cfs_period_us=100000)
    assert allowed(machine.proc).memory.directory == memory
    assert allowed(machine.proc).quota.cpus == 3.0
    assert allowed(machine.proc).quota.usage == cpuacct / "cpuacct.usage"


def test_the_quota_of_an_ancestor_is_counted_on_the_ancestor_in_version_1(machine):
    _, cpu, cpuacct = machine.version_1("/pod/container")
    group(cpu / "pod", cpu_cfs_quota_us=100000, cpu_cfs_period_us=100000)
    group(cpu / "pod/container", cpu_cfs_quota_us=200000, cpu_cfs_period_us=100000)
    (cpuacct / "pod/container").mkdir(parents=True)
    assert allowed(machine.proc).quota.usage == cpuacct / "pod/cpuacct.usage"


def test_controllers_mounted_together_are_found_by_each_name(machine):
    machine.write("proc/self/cgroup", "5:cpu,cpuacct:/job\n4:memory:/\n")
    mount = machine.mount("cgroup", machine.groups / "cpu,cpuacct", options="rw,cpu,cpuacct")
    group(mount / "job", cpu_cfs_quota_us=50000, cpu_cfs_period_us=100000)
    quota = allowed(machine.proc).quota
    assert (quota.cpus, quota.usage) == (0.5, mount / "job/cpuacct.usage")


def test_accounting_that_is_laid_out_differently_leaves_the_quota_without_a_counter(machine):
    machine.write("proc/self/cgroup", "5:cpu:/a/b\n4:cpuacct:/\n")
    cpu = machine.mount("cgroup", machine.groups / "cpu", options="rw,cpu")
    machine.mount("cgroup", machine.groups / "cpuacct", options="rw,cpuacct")
    group(cpu / "a/b", cpu_cfs_quota_us=50000, cpu_cfs_period_us=100000)
    quota = allowed(machine.proc).quota
    assert (quota.cpus, quota.usage) == (0.5, None)


# -- working set -------------------------------------------------------------------------------------------


def test_the_working_set_is_the_use_less_the_inactive_file_cache_in_version_2(machine):
    mount = machine.version_2("/job")
    statistics = "anon 100\nfile 9000\nactive_file 1000\ninactive_file 2500\nslab 5"
    group(mount / "job", memory_max=GIB, memory_current=10_000, memory_stat=statistics)
    assert allowed(machine.proc).memory.usage().read() == 7_500.0


def test_the_working_set_counts_the_groups_below_in_version_1(machine):
    memory, _, _ = machine.version_1("/job")
    statistics = "inactive_file 1\nhierarchical_memory_limit 1073741824\ntotal_inactive_file 2500"
    group(memory / "job", memory_limit_in_bytes=GIB, memory_usage_in_bytes=10_000, memory_stat=statistics)
    assert allowed(machine.proc).memory.usage().read() == 7_500.0


@pytest.mark.parametrize(
    ("version", "statistics", "unreclaimable"),
    [
        (2, "anon 1\nactive_file 1000\ninactive_file 2500\nslab_reclaimable 500", 6_000.0),
        (1, "active_file 9\ntotal_active_file 1000\ntotal_inactive_file 2500", 6_500.0),
        (2, "anon 1", 10_000.0),
        (2, "active_file 9000\ninactive_file 2500\nslab_reclaimable 500", 0.0),
    ],
)
def test_file_cache_of_either_kind_can_be_given_back(machine, version, statistics, unreclaimable):
    """Shared memory cannot: it is counted among the anonymous pages."""
    if version == 2:
        job = group(machine.version_2("/job") / "job", memory_max=GIB, memory_current=10_000)
    else:
        job = machine.version_1("/job")[0] / "job"
        group(job, memory_limit_in_bytes=GIB, memory_usage_in_bytes=10_000)
    group(job, memory_stat=statistics)
    usage = allowed(machine.proc).memory.usage()
    assert usage.read() >= usage.unreclaimable == unreclaimable


def test_the_working_set_is_never_below_nothing(machine):
    mount = machine.version_2("/job")
    group(mount / "job", memory_max=GIB, memory_current=100, memory_stat="inactive_file 2500")
    assert allowed(machine.proc).memory.usage().read() == 0.0


def test_the_working_set_is_read_anew_each_time(machine):
    mount = machine.version_2("/job")
    job = group(mount / "job", memory_max=GIB, memory_current=100, memory_stat="inactive_file 0")
    usage = allowed(machine.proc).memory.usage()
    assert usage.read() == 100.0
    group(job, memory_current=123_456_789)
    assert usage.read() == 123_456_789.0


def test_use_that_cannot_be_read_is_an_os_error(machine):
    mount = machine.version_2("/job")
    group(mount / "job", memory_max=GIB)
    with pytest.raises(OSError, match=r"memory\.current"):
        allowed(machine.proc).memory.usage()


# -- looked up again now and then --------------------------------------------------------------------------


def test_limits_stay_what_they_were_for_ten_seconds_and_the_same_object_until_they_change(
    machine, monkeypatch
):
    now = [0.0]
    monkeypatch.setattr(limits, "time", SimpleNamespace(monotonic=lambda: now[0]))
    job = group(machine.version_2("/job") / "job", memory_max=GIB)
    looked_up = limits.Limits(machine.proc)
    first = looked_up.now()
    now[0] = 10.0
    assert looked_up.now() is first
    group(job, memory_max=2 * GIB)
    now[0] = 19.9
    assert looked_up.now() is first
    now[0] = 20.0
    assert looked_up.now().memory.limit == 2 * GIB


def test_limits_that_have_expired_are_looked_up_at_once(machine):
    job = group(machine.version_2("/job") / "job", memory_max=GIB)
    looked_up = limits.Limits(machine.proc)
    assert looked_up.now().memory.limit == GIB
    group(job, memory_max=2 * GIB)
    looked_up.expire()
    assert looked_up.now().memory.limit == 2 * GIB


def test_whatever_changes_the_limits_is_noticed(machine, monkeypatch):
    monkeypatch.setattr(limits, "_EVERY", 0.0)
    mount = machine.version_2("/pod/job")
    pod, job = mount / "pod", mount / "pod/job"
    group(job, memory_max="max", cpu_max="max 100000")
    group(mount / "other", memory_max=1)
    looked_up = limits.Limits(machine.proc)
    assert looked_up.now()[1:3] == (None, None)
    group(job, memory_max=5)  # a limit is set
    assert looked_up.now().memory.limit == 5
    group(pod, memory_max=4)  # a file comes
    assert looked_up.now().memory.limit == 4
    (pod / "memory.max").unlink()  # and goes
    assert looked_up.now().memory.limit == 5
    group(pod, cpu_max="50000 100000")
    assert looked_up.now().quota.cpus == 0.5
    machine.write("proc/self/cgroup", "0::/other\n")  # this process is moved
    assert looked_up.now()[1:3] == (limits.MemoryLimit(1, mount / "other", 2), None)
    machine.write("proc/self/mountinfo", "")  # they are mounted no more
    assert looked_up.now()[1:3] == (None, None)
    monkeypatch.setattr(limits, "allowed_cpus", lambda: (7,))
    assert looked_up.now().cpus == (7,)


def test_while_the_files_say_the_same_they_are_only_read(machine, monkeypatch):
    monkeypatch.setattr(limits, "_EVERY", 0.0)
    mount = machine.version_2("/job")
    group(mount / "job", memory_max=5)
    looked_up = limits.Limits(machine.proc)
    found = looked_up.now()
    monkeypatch.setattr(limits, "allowed", lambda *_: pytest.fail("looked up anew"))
    assert looked_up.now() is found


# -- this machine ------------------------------------------------------------------------------------------


def test_the_limits_of_this_machine_can_be_read():
    cpus, limit, quota = allowed()[:3]
    assert limit is None or limit.usage().read() <= limit.limit
    assert quota is None or quota.cpus > 0
    assert set(cpus) <= set(range(os.cpu_count() or 1))


# -- any text ----------------------------------------------------------------------------------------------

# Parts that mean something, and any bytes.
WORDS = ["0::/", "2:memory:/", "3:cpu,cpuacct:/a", "/..", "30 1 0:30 / ", " - cgroup2 x rw", "\\040", "\f"]
MORE = ["\n", ":", " ", " - ", " - cgroup cgroup rw,memory", "max", "max 100000", "-1", "0", "7" * 400]
PARTS = st.sampled_from([word.encode() for word in WORDS + MORE])
CONTENT = st.lists(st.one_of(PARTS, st.binary(max_size=8)), max_size=12).map(b"".join)


@given(CONTENT, CONTENT, CONTENT)
@example(b"0::/" + b"a" * 300, b"", b"1 0")
@example(b"0::/\n", b"", b"100000 0")
@example(b"0::/\n", b"", b"7" * 5000)
def test_whatever_the_files_say_there_is_a_limit_above_0_or_none(groups, mounted, limits):
    with TemporaryDirectory() as folder:
        proc, hierarchy = Path(folder, "proc"), Path(folder, "groups")
        (proc / "self").mkdir(parents=True)
        (proc / "self" / "cgroup").write_bytes(groups)
        line = b"29 1 0:29 / %s rw - cgroup%s rw,memory,cpu\n"
        lines = [mounted, line % (bytes(hierarchy), b"2 cgroup2"), line % (bytes(hierarchy), b" cgroup")]
        (proc / "self" / "mountinfo").write_bytes(b"\n".join(lines))
        hierarchy.mkdir()
        for name in ("memory.max", "cpu.max", "memory.limit_in_bytes", "cpu.cfs_quota_us"):
            (hierarchy / name).write_bytes(limits)
        (hierarchy / "cpu.cfs_period_us").write_bytes(b"100000\n")
        limit, quota = allowed(proc)[1:3]
    assert limit is None or limit.limit > 0
    assert quota is None or quota.cpus > 0


# What the name of a directory may be made of; the OS kernel refuses a line's end in that of a control group.
NAMES = (
    st.binary(min_size=1, max_size=20)
    .map(lambda name: os.fsdecode(name.translate(None, b"\0/\n")))
    .filter(lambda name: name not in ("", ".", ".."))
)


@settings(max_examples=60)
@given(
    st.lists(NAMES, min_size=1, max_size=3),
    NAMES,
    st.integers(1, 2**53),  # bytes; a float cannot hold every integer above
    st.integers(1000, 10**9),
    st.integers(1000, 10**6),
    st.sampled_from([1, 2]),
)
@example([" a\\040#", "b\x0c\u2028"], "\t\\\x85", GIB, 150_000, 100_000, 2)
def test_limits_are_found_whatever_the_names_are(names, mount, memory, quota, period, version):
    with TemporaryDirectory() as folder:
        machine = FakeMachine(Path(folder))
        machine.groups = Path(folder, mount, "sub")
        path = "/" + "/".join(names)
        if version == 2:
            inner = group(machine.version_2(path) / path[1:], memory_max=memory, cpu_max=f"{quota} {period}")
        else:
            by_memory, by_cpu, _ = machine.version_1(path)
            inner = group(by_memory / path[1:], memory_limit_in_bytes=memory)
            group(by_cpu / path[1:], cpu_cfs_quota_us=quota, cpu_cfs_period_us=period)
        limit, found = allowed(machine.proc)[1:3]
    assert (limit.limit, limit.directory, limit.version) == (memory, inner, version)
    assert found.cpus == quota / period


def test_a_control_group_that_may_not_be_entered_limits_by_what_can_be_seen(machine):
    mount = machine.version_2("/" + "a" * 300)  # nor can it be looked for, but as another error
    group(mount, memory_max=GIB)
    assert allowed(machine.proc).memory.directory == mount
