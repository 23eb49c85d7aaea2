"""Limits that are not in the usual place: above what is visible, in memory.high, or of another process."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.collectors import FakeMachine, group

from perfmon_widgets.collectors.linux import limits
from perfmon_widgets.collectors.linux.host import HostCollector
from perfmon_widgets.collectors.linux.limits import allowed

GIB = 2**30
NO_LIMIT_V1 = 9223372036854771712


# -- limits that are set above what is visible -------------------------------------------------------------


def in_group(directory: Path, *processes: int, **files: object) -> Path:
    """A control group with these processes."""
    return group(directory, cgroup_procs="\n".join(map(str, processes)), **files)


@pytest.mark.parametrize(("path", "root"), [("/", "/"), ("/slurm/job/step", "/slurm/job/step")])
def test_version_1_shows_the_limit_of_a_parent_that_is_not_visible(machine, path, root):
    """Slurm with Pyxis: the container has the mount of the innermost group, the job has the limit."""
    memory, _, _ = machine.version_1(path, root=root)
    statistics = f"inactive_file 7\nhierarchical_memory_limit {GIB}\ntotal_inactive_file 300"
    group(memory, memory_limit_in_bytes=NO_LIMIT_V1, memory_usage_in_bytes=1000, memory_stat=statistics)
    limit = allowed(machine.proc).memory
    assert (limit.limit, limit.directory, limit.set_by) == (GIB, memory, "container")
    assert limit.source.startswith(f"{memory / 'memory.stat'}, hierarchical_memory_limit")
    assert "cannot be seen" in limit.source
    assert limit.usage().read() == 700.0


def test_a_visible_limit_is_not_taken_for_one_of_a_hidden_parent(machine):
    memory, _, _ = machine.version_1("/job/step")
    statistics = f"hierarchical_memory_limit {GIB}\ntotal_inactive_file 0"
    group(memory, memory_limit_in_bytes=NO_LIMIT_V1)
    group(memory / "job", memory_limit_in_bytes=GIB)
    group(memory / "job/step", memory_limit_in_bytes=3 * GIB, memory_stat=statistics)
    limit = allowed(machine.proc).memory
    assert (limit.directory, limit.source) == (
        memory / "job",
        str(memory / "job/memory.limit_in_bytes"),
    )


def test_a_hidden_limit_that_is_changed_is_noticed_and_changed_counters_are_not(machine, monkeypatch):
    monkeypatch.setattr(limits, "_EVERY", 0.0)
    memory, _, _ = machine.version_1("/", root="/")
    statistics = "total_inactive_file {}\nhierarchical_memory_limit {}"
    group(memory, memory_limit_in_bytes=NO_LIMIT_V1, memory_stat=statistics.format(1, GIB))
    looked_up = limits.Limits(machine.proc)
    first = looked_up.now()
    group(memory, memory_stat=statistics.format(2, GIB))
    with monkeypatch.context() as patch:
        patch.setattr(limits, "allowed", lambda *_: pytest.fail("looked up anew"))
        assert looked_up.now() is first
    group(memory, memory_stat=statistics.format(2, 2 * GIB))
    assert looked_up.now().memory.limit == 2 * GIB


@pytest.mark.parametrize("above", [1, 2])
@pytest.mark.parametrize("inside", ["", "/step"])
def test_a_mount_that_begins_above_the_namespace_shows_the_group_that_has_this_process(
    machine, above, inside
):
    """A namespace with the mount of the machine: the path begins at the namespace, the mount above it."""
    mount = machine.version_2(inside or "/", root="/.." * above)
    names = ["pod7", "own"][-above:]
    own = mount.joinpath(*names)
    for other in ("aaa", "zzz"):
        folder = own.parent / other
        in_group(Path(f"{folder}{inside}"), 1, 2, os.getpid() + 1, memory_max=5, cpu_max="1 100000")
    in_group(Path(f"{own}{inside}"), 1, os.getpid(), memory_max="max", cpu_max="50000 100000")
    group(own, memory_max=GIB)
    group(mount, memory_max=2 * GIB)
    found = allowed(machine.proc)
    assert found.memory.directory == own
    assert found.quota.source == f"{own}{inside}/cpu.max"
    assert found.memory_unseen == found.quota_unseen == ""


def test_a_process_that_was_moved_out_of_its_namespace_is_found_by_the_path_alone(machine):
    mount = machine.version_2("/../sibling/job", root="/..")
    group(mount / "sibling", memory_max=GIB)
    group(mount / "sibling/job", memory_max="max")
    assert allowed(machine.proc).memory.directory == mount / "sibling"


def test_where_the_group_of_this_process_is_not_found_that_is_said(machine):
    mount = machine.version_2("/", root="/..")
    in_group(mount / "other", os.getpid() + 1, memory_max=5, cpu_max="1 100000")
    found = allowed(machine.proc)
    assert found.memory is found.quota is None
    assert found.memory_unseen == f"the control group of this process is not below {mount}"
    assert found.quota_unseen == found.memory_unseen


def test_where_groups_are_not_mounted_but_this_process_is_in_one_that_is_said(machine):
    machine.write("proc/self/cgroup", "0::/docker/abc\n")
    assert allowed(machine.proc).memory_unseen == "the control groups are not mounted here"
    machine.write("proc/self/cgroup", "0::/\n")
    assert allowed(machine.proc).memory_unseen == ""
    (machine.proc / "self/ns").mkdir()
    (machine.proc / "self/ns/cgroup").symlink_to("cgroup:[4026531835]")  # that of the machine
    assert allowed(machine.proc).memory_unseen == ""
    (machine.proc / "self/ns/cgroup").unlink()
    (machine.proc / "self/ns/cgroup").symlink_to("cgroup:[4026532222]")
    assert allowed(machine.proc).memory_unseen == "the control groups are not mounted here"


def test_where_a_namespace_hides_the_groups_above_and_no_limit_is_visible_that_is_said(machine):
    mount = machine.version_2("/job")
    group(mount, memory_max="max", cpu_max="max 100000", cgroup_events="populated 1")
    group(mount / "job", memory_max="max")
    found = allowed(machine.proc)
    assert found.memory_unseen == found.quota_unseen == f"limits of the groups above {mount} cannot be seen"
    group(mount / "job", memory_max=GIB)
    group(mount / "job", cpu_max="50000 100000")
    found = allowed(machine.proc)
    assert found.memory_unseen == found.quota_unseen == ""


def test_in_version_1_only_quotas_may_be_hidden(machine):
    memory, cpu, _ = machine.version_1("/job", root="/job")
    group(memory, memory_stat=f"hierarchical_memory_limit {NO_LIMIT_V1}")
    found = allowed(machine.proc)
    assert (found.memory, found.memory_unseen) == (None, "")
    assert found.quota_unseen == f"limits of the groups above {cpu} cannot be seen"
    group(cpu, release_agent="")
    (cpu / "release.agent").rename(cpu / "release_agent")  # the root of the hierarchy has this file
    assert allowed(machine.proc).quota_unseen == ""


# -- the point from which everything slows down ------------------------------------------------------------


def test_memory_high_alone_is_a_limit_and_says_what_it_does(machine):
    mount = machine.version_2("/user/me")
    group(mount / "user", memory_max="max", memory_high="max")
    me = group(mount / "user/me", memory_max="max", memory_high=2 * GIB)
    group(me, memory_current=1000, memory_stat="inactive_file 100")
    limit = allowed(machine.proc).memory
    assert (limit.limit, limit.source) == (2 * GIB, str(me / "memory.high"))
    assert limit.set_by == "slows down from here"
    assert limit.usage().read() == 900.0


def test_a_group_with_both_is_limited_by_memory_max(machine):
    """Kubernetes sets memory.high a little below the limit that people know."""
    mount = machine.version_2("/pod")
    group(mount / "pod", memory_max=4 * GIB, memory_high=3 * GIB)
    limit = allowed(machine.proc).memory
    assert (limit.limit, limit.set_by) == (4 * GIB, "container")


@pytest.mark.parametrize(("high", "most", "tightest"), [(2, 8, "slice"), (8, 2, "slice/job")])
def test_the_tightest_of_both_kinds_in_different_groups_wins(machine, high, most, tightest):
    mount = machine.version_2("/slice/job")
    group(mount / "slice", memory_max="max", memory_high=high * GIB)
    group(mount / "slice/job", memory_max=most * GIB, memory_high="max")
    assert allowed(machine.proc).memory.directory == mount / tightest


# -- another process ---------------------------------------------------------------------------------------


@pytest.fixture
def child() -> Iterator[int]:
    """A process that waits until it is killed."""
    gate, of_child = os.pipe()
    number = os.fork()
    if number == 0:
        os.close(of_child)
        os.read(gate, 1)
        os._exit(0)
    os.close(gate)
    yield number
    os.close(of_child)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(number, 0)


@pytest.mark.parametrize("ended", ["Z 1 1 1 0 -1 0", "R 1 1 1 0 -1 4194564"], ids=["zombie", "ending"])
def test_another_process_has_the_limits_of_its_own_group_and_cpus(machine, child, ended):
    (machine.proc / "self/cgroup").unlink()
    (machine.proc / "self").joinpath("mountinfo").rename(machine.proc / "mountinfo")
    (machine.proc / "self").rmdir()
    (machine.proc / "self").symlink_to(str(os.getpid()))
    machine.write(f"proc/{os.getpid()}/cgroup", "0::/ours\n")
    (machine.proc / str(child)).mkdir()
    machine.write(f"proc/{child}/cgroup", "0::/ours\n")
    machine.write(f"proc/{child}/stat", f"{child} (x) S 1 1 1 0 -1 4194560 0")
    mount = machine.mount("cgroup2", machine.groups)
    group(mount / "theirs", memory_max=GIB, cpu_max="50000 100000")
    looked_up = limits.Limits(machine.proc, child)
    before = looked_up.now()
    assert before.memory is None
    machine.write(f"proc/{child}/cgroup", "0::/theirs\n")  # as systemd-run moves itself
    found = looked_up.now()
    assert (found.memory.directory, found.quota.cpus) == (mount / "theirs", 0.5)
    assert looked_up.now() is found
    os.sched_setaffinity(child, {min(os.sched_getaffinity(0))})  # as taskset does
    assert looked_up.now().cpus == (min(os.sched_getaffinity(0)),)
    assert looked_up.now().memory == found.memory
    last = looked_up.now()
    machine.write(f"proc/{child}/stat", f"{child} (x) {ended} 0")  # version 1 shows it at the top
    machine.write(f"proc/{child}/cgroup", "0::/\n")
    assert looked_up.now() is last


def test_a_process_that_has_gone_keeps_what_it_had(child):
    looked_up = limits.Limits(root=child)
    last = looked_up.now()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    looked_up.expire()
    assert looked_up.now() is last
    with pytest.raises(ProcessLookupError):
        limits.Limits(root=child).now()


# -- what people see ---------------------------------------------------------------------------------------


def described(machine: FakeMachine) -> tuple[str, str]:
    """The source of the memory limit, and what set it."""
    metrics = {metric.name: metric for metric in HostCollector(machine.proc, machine.sys).metrics}
    return metrics["ram_limit_bytes"].source, metrics["ram_limit_bytes"].set_by


def test_a_machine_that_may_be_no_more_than_the_view_from_a_container_is_called_so(machine):
    mount = machine.version_2("/")
    group(mount, memory_max="max", cgroup_events="populated 1")
    source, set_by = described(machine)
    assert source == f"{machine.proc}/meminfo; limits of the groups above {mount} cannot be seen"
    assert set_by == "machine; own limit hidden"
    sources = {metric.name: metric.source for metric in HostCollector(machine.proc, machine.sys).metrics}
    assert sources["cpu_percent"].endswith(f"hidden: limits of the groups above {mount} cannot be seen")


def test_a_machine_without_containers_is_not(machine):
    machine.version_2("/")
    assert described(machine) == (f"{machine.proc}/meminfo", "")


def test_memory_high_is_described_by_what_it_does(machine):
    mount = machine.version_2("/")
    group(mount, memory_max="max", memory_high=4 * 2**20, memory_current=2**20, memory_stat="anon 1")
    assert described(machine) == (str(mount / "memory.high"), "slows down from here")
