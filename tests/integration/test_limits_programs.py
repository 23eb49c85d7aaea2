"""Limits of real control groups that a namespace hides in part, and those of a command that limits itself."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.real_group import RealGroup, real_group

from perfmon_widgets import read_csv
from perfmon_widgets.collectors.linux.cgroups import groups

MIB = 2**20
LIMIT = 300 * MIB

SHOW = """
from perfmon_widgets.collectors.linux.limits import allowed
found = allowed()
print(found.memory.limit if found.memory else found.memory, found.memory_unseen, sep="|")
"""
# Moves itself into the groups, then computes for some seconds of CPU time.
WORK = """
import sys, time
from pathlib import Path
for folder in sys.argv[1:]:
    Path(folder, "cgroup.procs").write_text("0")
while time.process_time() < 2: pass
"""


@pytest.fixture
def made() -> Iterator[RealGroup]:
    with real_group("limits") as group:
        yield group


def shown(group: RealGroup, script: str, folder: Path) -> list[str]:
    """What SHOW prints when a shell script, run in this group, starts it in namespaces of its own."""
    enter = f'echo $$ > "{folder}/cgroup.procs" && '
    command = ["sh", "-c", enter + script, "sh", sys.executable, "-W", "error", "-c", SHOW]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if "unshare failed" in done.stderr:
        pytest.skip(f"no namespaces here ({done.stderr.strip()})")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().split("|")


def test_a_namespace_with_the_mount_of_the_machine_finds_its_own_group(made):
    made.limit_memory(LIMIT)
    assert shown(made, 'exec unshare --cgroup "$@"', made.memory) == [str(LIMIT), ""]


def test_a_namespace_that_sees_the_innermost_group_only_knows_the_limit_above_or_says_that_it_is_hidden(made):
    """As Slurm with Pyxis mounts it. Version 1 gives the limit of the parent, version 2 does not."""
    made.limit_memory(LIMIT)
    leaf = made.below("leaf")[0]
    texts = [Path("/proc/self", name).read_text() for name in ("cgroup", "mountinfo")]
    point = groups("memory", *texts).folders[-1]
    script = f'exec unshare --mount --cgroup sh -c \'mount --bind "{leaf}" "{point}" && exec "$@"\' sh "$@"'
    limit, unseen = shown(made, script, leaf)
    if made.version == 1:
        assert (limit, unseen) == (str(LIMIT), "")
    else:
        assert limit == "None"
        assert "cannot be seen" in unseen


@pytest.mark.parametrize("how", ["affinity", "quota"])
def test_a_command_that_limits_itself_is_measured_by_its_own_limits(made, tmp_path, how):
    """``taskset``, ``cgexec``, ``systemd-run --scope``: the runner itself is not limited."""
    cpus = 1.0
    command = [sys.executable, "-S", "-c", WORK]
    if how == "affinity":
        command = ["taskset", "-c", str(min(os.sched_getaffinity(0))), *command]
    else:
        cpus = 0.5
        made.limit_cpu(cpus)
        command += list(map(str, dict.fromkeys((made.cpu, made.accounting))))
    log = tmp_path / "run.csv"
    runner = [sys.executable, "-W", "error", "-m", "perfmon_widgets", "run", "--interval", "0.3"]
    done = subprocess.run(
        [*runner, "--csv", str(log), "--", *command], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    rows = read_csv(log)["process_cpu_percent"]
    seconds = rows.index.to_series().diff().dt.total_seconds()
    # Of the CPUs that the command may use; of those of the machine it would be much less.
    used = (rows / 100 * seconds).sum() * cpus
    assert used == pytest.approx(2, rel=0.25)
