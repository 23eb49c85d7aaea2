"""Side by side with the tools that people trust, at rest and under a real load."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import accuracy
import pytest
import tree_jobs
from accuracy import Row, load, parse_iostat, parse_mpstat, parse_sar, parse_vmstat, table

from perfmon_widgets import PerformanceMonitor, Sample
from perfmon_widgets.collectors.linux import limits
from perfmon_widgets.collectors.linux.host import HostCollector
from perfmon_widgets.collectors.linux.process import ProcessCollector

MIB = 2**20
# The tool is asked before and after our reading, and what we read lies between its answers, or beyond them by
# as much as the tool itself and a page cache that is written out take and give back meanwhile.
SLACK = 30 * MIB
# vmstat prints whole percent, so 0.5; both are read at slightly different moments of a second, on a machine
# whose load is not ours alone: the ends differ by up to some 50 ms of 1 s.
CPU_SLACK = 6.0


@pytest.fixture(autouse=True)
def the_whole_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tools look at the whole machine, not at what a container leaves of it."""
    cpus = tuple(range(os.cpu_count() or 1))
    monkeypatch.setattr(limits, "allowed", lambda *_: limits.Allowed(cpus, None, None))


def require(tool: str | Path) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed; it comes with procps or sysstat")


def output(*command: str | Path) -> str:
    """What a tool prints, in plain English."""
    require(command[0])
    return subprocess.run(
        command, capture_output=True, text=True, check=True, env=os.environ | {"LC_ALL": "C"}
    ).stdout


def host() -> Sample:
    return PerformanceMonitor([HostCollector()]).sample()


# -- memory ------------------------------------------------------------------------------------------------


def free() -> tuple[dict[str, int], dict[str, int]]:
    """The lines Mem and Swap of ``free -b`` by the names of their columns."""
    head, memory, swap = output("free", "-b").splitlines()[:3]
    names = head.split()
    return (
        dict(zip(names, map(int, memory.split()[1:]), strict=True)),
        dict(zip(names, map(int, swap.split()[1:]), strict=False)),
    )


def assert_between(value: float, before: float, after: float, slack: float = SLACK) -> None:
    assert min(before, after) - slack <= value <= max(before, after) + slack


def test_memory_is_what_free_prints():
    before, swap_before = free()
    values = host().values
    after, swap_after = free()
    assert values["ram_limit_bytes"] == before["total"]
    used = [now["total"] - now["available"] for now in (before, after)]
    assert_between(values["ram_used_bytes"], *used)
    version = re.search(r"(\d+)\.\d+", output("free", "--version"))
    if int(version[1]) >= 4:  # its column "used" is this; older ones print another
        assert_between(values["ram_used_bytes"], before["used"], after["used"])
    assert values["swap_limit_bytes"] == swap_before["total"]
    assert_between(values["swap_used_bytes"], swap_before["used"], swap_after["used"])


def test_memory_that_is_taken_is_seen_as_free_sees_it():
    at_rest = host().values["ram_used_bytes"]
    block = bytearray(b"x") * (1024 * MIB)
    before, value, after = free()[0], host().values["ram_used_bytes"], free()[0]
    assert_between(value, *(now["total"] - now["available"] for now in (before, after)))
    # Whatever other processes do at the same time, most of it is seen.
    assert value - at_rest > 100 * MIB
    del block


def test_the_share_of_memory_is_that_of_proc():
    lines = dict(re.findall(r"(\w+): +(\d+) kB", Path("/proc/meminfo").read_text()))
    expected = 100 * (1 - int(lines["MemAvailable"]) / int(lines["MemTotal"]))
    assert host().values["ram_percent"] == pytest.approx(expected, abs=1.0)


# -- disk --------------------------------------------------------------------------------------------------


def df(path: Path) -> list[int]:
    """Bytes used, bytes available and percent used."""
    line = output("df", "-B1", "--output=used,avail,pcent", path).splitlines()[1]
    return [int(field) for field in line.replace("%", "").split()]


@pytest.mark.parametrize("where", ["tmp", "/", "/dev/shm"])
def test_space_is_what_df_prints(where, tmp_path, monkeypatch):
    path = tmp_path if where == "tmp" else Path(where)
    monkeypatch.chdir(path)
    before, values, after = df(path), host().values, df(path)
    assert_between(values["disk_used_bytes"], before[0], after[0])
    assert_between(values["disk_limit_bytes"], before[0] + before[1], after[0] + after[1])
    # df rounds up to whole percent.
    assert min(before[2], after[2]) - 1.2 <= values["disk_percent"] <= max(before[2], after[2]) + 0.2


def test_what_is_written_to_disk_is_what_the_os_kernel_counted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    device = tmp_path.stat().st_dev
    counters = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat")
    monitor = PerformanceMonitor([HostCollector()])
    if not counters.exists():  # an overlay or a memory file system: there is nothing to compare with
        assert "disk_write_bytes_per_second" in monitor.errors or monitor.sample()
        return
    before, clock = int(counters.read_text().split()[6]), time.monotonic()
    monitor.sample()
    with (tmp_path / "data").open("wb") as file:
        file.write(os.urandom(20 * MIB))
        file.flush()
        os.fsync(file.fileno())
    value = monitor.sample().values["disk_write_bytes_per_second"]
    passed = time.monotonic() - clock
    written = (int(counters.read_text().split()[6]) - before) * 512
    assert written >= 20 * MIB
    assert value * passed == pytest.approx(written, rel=0.15)


# -- CPU ---------------------------------------------------------------------------------------------------


def ticks() -> tuple[int, int]:
    """Busy and all ticks of /proc/stat since the start of the machine."""
    fields = list(map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]))
    return sum(fields) - fields[3] - fields[4], sum(fields)


@pytest.mark.parametrize("processes", [0, 1, os.cpu_count() or 1])
def test_the_share_of_cpu_is_that_of_proc_over_the_same_time(processes):
    monitor = PerformanceMonitor([HostCollector()])
    with load(processes):
        time.sleep(0.1)
        busy, total = ticks()
        monitor.sample()
        time.sleep(0.5)
        values = monitor.sample().values
        busy, total = (now - before for now, before in zip(ticks(), (busy, total), strict=True))
    # A tick or two of a hundred, between the one reading and the other.
    assert values["cpu_percent"] == pytest.approx(100 * busy / total, abs=3.0)
    assert values["cpu_percent"] >= 0.9 * 100 * processes / (os.cpu_count() or 1) - 3.0


@pytest.mark.parametrize("processes", [0, os.cpu_count() or 1])
def test_the_share_of_cpu_is_what_vmstat_prints(processes):
    require("vmstat")
    with load(processes):
        monitor = PerformanceMonitor([HostCollector()])
        with subprocess.Popen(["vmstat", "-n", "1", "2"], stdout=subprocess.PIPE, text=True) as tool:
            lines = [tool.stdout.readline() for _ in range(3)]  # the third is the average since the start
            monitor.sample()
            lines.append(tool.stdout.readline())
            values = monitor.sample().values
    assert values["cpu_percent"] == pytest.approx(parse_vmstat("".join(lines))["cpu_percent"], abs=CPU_SLACK)


def test_the_share_of_each_cpu_is_what_mpstat_prints():
    with load(1):
        monitor = PerformanceMonitor([HostCollector()])
        monitor.sample()
        text = output("mpstat", "-P", "ALL", "1", "1")
        values = monitor.sample().values
    for column, expected in parse_mpstat(text).items():
        # One core is read 20 ms earlier and later than the tool does, start-up of the tool included.
        assert values[column] == pytest.approx(expected, abs=2 * CPU_SLACK), column


# -- this process ------------------------------------------------------------------------------------------


def test_memory_of_this_process_is_what_ps_prints():
    value = PerformanceMonitor([ProcessCollector()]).sample().values["process_ram_bytes"]
    assert value == pytest.approx(int(output("ps", "-o", "rss=", "-p", str(os.getpid()))) * 1024, rel=0.1)


def test_cpu_of_this_process_is_what_the_os_kernel_counts_for_it():
    monitor = PerformanceMonitor([ProcessCollector()])
    monitor.sample()
    before, clock = sum(os.times()[:2]), time.monotonic()
    while time.monotonic() - clock < 0.4:
        sum(range(1000))
    value = monitor.sample().values["process_cpu_percent"]
    # os.times counts in hundredths of a second.
    expected = 100 * (sum(os.times()[:2]) - before) / (time.monotonic() - clock) / (os.cpu_count() or 1)
    assert value == pytest.approx(expected, abs=4.0)


# -- trees of processes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", tree_jobs.JOBS)
def test_the_cpu_time_and_memory_of_a_tree_are_what_a_full_walk_finds(name):
    """Of the memory, in every row."""
    assert [row for row in accuracy.tree_rows(name) if not row.agrees] == []


# -- the table of the README -------------------------------------------------------------------------------


def test_the_table_shows_what_differs_and_by_how_much():
    good = Row("at rest", "ram_used_bytes", "free", "bytes", 512.0 * MIB, 510.0 * MIB, 30.0 * MIB)
    bad = Row("at rest", "cpu_percent", "top", "percent", 50.0, 40.0, 4.0)
    _, first, second = (line.split() for line in table(iter([good, bad])))
    assert first == [
        "at",
        "rest",
        "ram_used_bytes",
        "free",
        "512.0",
        "MiB",
        "510.0",
        "MiB",
        "2.0",
        "MiB",
        "30.0",
        "MiB",
    ]
    assert second == ["at", "rest", "cpu_percent", "top", "50.0", "40.0", "10.0", "4.0", "DIFFERS"]


def test_traffic_is_read_from_what_the_tools_print():
    disks = """Linux 6.1 (host)  01/02/26  _x86_64_  (2 CPU)

Device             tps    kB_read/s    kB_wrtn/s    kB_dscd/s    kB_read    kB_wrtn    kB_dscd
sda               2.00         1.50        16.00         0.00          0         16          0


"""
    assert parse_iostat(disks) == {"sda": {"read": 1536.0, "write": 16384.0}}
    network = """14:57:19  IFACE   rxpck/s   txpck/s    rxkB/s    txkB/s   rxcmp/s   txcmp/s   %ifutil
14:57:19   eth0      5.00      5.00      9.44      9.44      0.00      0.00      0.00

Average:        IFACE   rxpck/s   txpck/s    rxkB/s    txkB/s   rxcmp/s   txcmp/s   %ifutil
Average:         eth0      5.00      5.00      0.50      0.25      0.00      0.00      0.00
"""
    assert parse_sar(network) == {"eth0": {"received": 512.0, "sent": 256.0}}


def test_the_command_of_the_readme_compares_every_tool_that_is_installed(monkeypatch, capsys):
    """With one load and one second for each tool; the whole of it takes half a minute."""
    monkeypatch.setattr(accuracy, "SECONDS", 1)
    monkeypatch.setattr(accuracy, "LOADS", (("at rest", 0),))
    monkeypatch.setattr(accuracy, "TREES", ())
    accuracy.main()
    lines = capsys.readouterr().out
    tools = ("free", "df", "vmstat", "mpstat", "top", "iostat", "sar")
    installed = {tool for tool in tools if shutil.which(tool)}
    assert {tool for tool in installed if f" {tool} " in lines} == installed
    assert "agree" in lines


pytestmark = pytest.mark.alone
