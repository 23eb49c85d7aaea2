"""In a real control group with limits, beside the group's own files: the numbers a container shows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.real_group import RealGroup, real_group

MIB = 2**20
LIMIT = 768 * MIB
CPUS = 0.5

# Reads the collectors and, right before and after, the files of the group; one command a line.
PROGRAM = """
import json, os, subprocess, sys, threading, time
from pathlib import Path
from perfmon_widgets import PerformanceMonitor
from perfmon_widgets.collectors.linux import limits
from perfmon_widgets.collectors.linux.host import HostCollector
from perfmon_widgets.collectors.linux.process import ProcessCollector

limits._EVERY = 0.5
version, memory, cpu, accounting = int(sys.argv[1]), *map(Path, sys.argv[2:5])
file = Path(sys.argv[5])

def number(text, name):
    return int(text.split(name + " ", 1)[1].split()[0])

def group():
    statistics = "\\n" + (memory / "memory.stat").read_text()
    used = int((memory / ("memory.current" if version == 2 else "memory.usage_in_bytes")).read_text())
    inactive = number(statistics, "\\ninactive_file" if version == 2 else "\\ntotal_inactive_file")
    periods = (cpu / "cpu.stat").read_text()
    if version == 2:
        seconds = number(periods, "usage_usec") / 1e6
    else:
        seconds = int((accounting / "cpuacct.usage").read_text()) / 1e9
    return {"used": used, "inactive": inactive, "seconds": seconds, "clock": time.monotonic(),
            "periods": number(periods, "nr_periods"), "throttled": number(periods, "nr_throttled")}

monitor = PerformanceMonitor([HostCollector(), ProcessCollector()])
kept, children = [], []
for line in sys.stdin:
    what = line.strip()
    if what == "memory":
        kept.append(b"x" * (200 << 20))
    elif what == "cache":
        file.write_bytes(bytes(150 << 20))
        os.sync()
        for _ in range(2):
            file.read_bytes()
    elif what == "work":
        code = "import time\\nend = time.monotonic() + 30\\nwhile time.monotonic() < end: pass"
        children.append(subprocess.Popen([sys.executable, "-S", "-c", code]))
    elif what == "rest":
        while children:
            child = children.pop()
            child.kill()
            child.wait()
    earlier = group()
    monitor.sample()
    first = group()
    time.sleep(1.5)
    before = group()
    sample = monitor.sample()
    after = group()
    sources = {metric.name: metric.source for metric in monitor.metrics}
    print(json.dumps({"earlier": earlier, "first": first, "before": before, "after": after,
                      "values": dict(sample.values), "sources": sources}), flush=True)
"""


@pytest.fixture
def made() -> Iterator[RealGroup]:
    with real_group() as group:
        group.limit_memory(LIMIT)
        group.limit_cpu(CPUS)
        yield group


class Inside:
    """The program that runs inside the group."""

    def __init__(self, program) -> None:
        self._program = program

    def do(self, what: str) -> dict:
        self._program.stdin.write(what + "\n")
        self._program.stdin.flush()
        line = self._program.stdout.readline()
        assert line, "the program has ended"
        return json.loads(line)


def arguments(group: RealGroup, tmp_path: Path) -> list[object]:
    return [group.version, group.memory, group.cpu, group.accounting, tmp_path / "data"]


def working_set(reading: dict) -> int:
    return reading["used"] - reading["inactive"]


def assert_agrees(found: dict) -> None:
    """The numbers are those of the group's own files, read at nearly the same moment."""
    values, before, after = (found[name] for name in ("values", "before", "after"))
    sets = working_set(before), working_set(after)
    assert min(sets) - 8 * MIB <= values["ram_used_bytes"] <= max(sets) + 8 * MIB
    assert values["ram_percent"] == pytest.approx(100 * values["ram_used_bytes"] / values["ram_limit_bytes"])
    assert_between(values["cpu_percent"], found, "seconds", "clock", 100 / CPUS)
    if before["periods"] > found["first"]["periods"]:
        assert_between(values["cpu_throttled_percent"], found, "throttled", "periods", 100)


def assert_between(percent: float, found: dict, part: str, whole: str, times: float) -> None:
    """What was counted between two samples, each taken between two readings of the group's files.

    These readings are far apart where the group had used up its quota in between.
    """
    earlier, first, before, after = (found[name] for name in ("earlier", "first", "before", "after"))
    least = times * (before[part] - first[part]) / (after[whole] - earlier[whole])
    most = times * (after[part] - earlier[part]) / (before[whole] - first[whole])
    assert min(least, 100) - 1 <= percent <= min(most, 100) + 1


def test_the_numbers_are_those_of_the_groups_own_files(made, tmp_path):
    total = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    with made.running(PROGRAM, *arguments(made, tmp_path)) as program:
        inside = Inside(program)
        for what in ("rest", "memory", "cache", "work", "work", "rest"):
            found = inside.do(what)
            assert_agrees(found)
            values = found["values"]
            assert values["ram_limit_bytes"] == LIMIT
            assert values["host_ram_limit_bytes"] == total
            assert 0 < values["host_ram_percent"] < 100
            assert 0 <= values["host_cpu_percent"] <= 100


def test_at_rest_and_at_work(made, tmp_path):
    with made.running(PROGRAM, *arguments(made, tmp_path)) as program:
        inside = Inside(program)
        at_rest = inside.do("rest")["values"]
        inside.do("work")
        working = inside.do("work")
        at_work = working["values"]
    assert_agrees(working)  # on a busy machine the two programs do not get the half CPU that they may use
    assert at_work["cpu_percent"] > at_rest["cpu_percent"] + 10
    # The group holds nothing but this tree.
    assert at_work["process_cpu_percent"] == pytest.approx(at_work["cpu_percent"], abs=12)


def test_memory_that_is_taken_counts_and_file_cache_that_nobody_uses_does_not(made, tmp_path):
    with made.running(PROGRAM, *arguments(made, tmp_path)) as program:
        inside = Inside(program)
        before = inside.do("rest")["values"]["ram_used_bytes"]
        taken = inside.do("memory")["values"]
        cached = inside.do("cache")
    assert taken["ram_used_bytes"] - before == pytest.approx(200 * MIB, abs=16 * MIB)
    # The file was read twice, so that a part of it may be in the working set as active cache.
    grown = cached["values"]["ram_unreclaimable_bytes"] - taken["ram_unreclaimable_bytes"]
    assert grown == pytest.approx(0, abs=16 * MIB)
    if cached["after"]["inactive"] > 16 * MIB:  # not where the file lies in memory itself
        assert cached["values"]["ram_used_bytes"] < cached["after"]["used"] - 8 * MIB


def test_every_limit_names_its_file(made, tmp_path):
    with made.running(PROGRAM, *arguments(made, tmp_path)) as program:
        sources = Inside(program).do("rest")["sources"]
    memory = "memory.max" if made.version == 2 else "memory.limit_in_bytes"
    cpu = "cpu.max" if made.version == 2 else "cpu.cfs_quota_us"
    assert sources["ram_limit_bytes"] == str(made.memory / memory)
    assert sources["cpu_percent"].endswith(f"against {made.cpu / cpu}")
    assert sources["cpu_throttled_percent"] == str(made.cpu / "cpu.stat")


def test_the_limits_of_the_group_above_hold_below_it(made, tmp_path):
    """As in Kubernetes: the pod has the limits, the container in it none."""
    with made.running(PROGRAM, *arguments(made, tmp_path), below=made.below("container")) as program:
        inside = Inside(program)
        for what in ("memory", "work"):
            found = inside.do(what)
            assert_agrees(found)
            assert found["values"]["ram_limit_bytes"] == LIMIT


def test_a_limit_that_is_changed_is_found_without_a_restart(made, tmp_path):
    with made.running(PROGRAM, *arguments(made, tmp_path)) as program:
        inside = Inside(program)
        assert inside.do("rest")["values"]["ram_limit_bytes"] == LIMIT
        made.limit_memory(LIMIT // 2)
        made.limit_cpu(0.1)
        inside.do("work")
        found = inside.do("work")
    assert found["values"]["ram_limit_bytes"] == LIMIT // 2
    assert found["values"]["cpu_percent"] > 50
    seconds = found["after"]["seconds"] - found["first"]["seconds"]
    assert seconds / (found["after"]["clock"] - found["first"]["clock"]) < 0.2
    assert found["values"]["cpu_throttled_percent"] > 20  # so little is used up even on a busy machine


FINDINGS = """
import os, signal, time
from perfmon_widgets import PerformanceMonitor
monitor = PerformanceMonitor(interval=0.5)
monitor.start()
children = []
for _ in range(3):
    child = os.fork()
    if not child:
        while True:
            pass
    children.append(child)
time.sleep(16)
print([finding.what for finding in monitor.findings()], flush=True)
print(monitor.history["cpu_throttled_percent"].tail(20).mean(), flush=True)
for child in children:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
monitor.stop()
"""


def test_a_quota_that_slows_the_work_down_is_said(made):
    made.limit_cpu(0.2)  # so little is used up even on a busy machine
    code = f"import warnings; warnings.simplefilter('ignore', DeprecationWarning)\n{FINDINGS}"
    with made.running(code) as program:
        said, throttled = program.stdout.readline(), float(program.stdout.readline())
        assert program.wait(30) == 0
    assert throttled > 25
    assert "The container's CPU quota slows the work down" in said
    assert "All CPUs are busy" not in said
