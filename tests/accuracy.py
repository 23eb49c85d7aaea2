"""Prints this package's numbers next to those of the system's own tools, at rest and under load.

``python tests/accuracy.py`` asks free, df, vmstat, mpstat, top, iostat, sar and, where there is a GPU,
nvidia-smi, as far as they are installed. Trees of processes (tree_jobs.py) are compared with what psutil
finds in a walk over all of them. Ends with status 1 if a difference is larger than what the tool's own
rounding and the moments between the two readings explain.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import tree_jobs

from perfmon_widgets import PerformanceMonitor
from perfmon_widgets.collectors import default_collectors
from perfmon_widgets.collectors.linux import limits
from perfmon_widgets.views.text import format_value

MIB = 2**20
SECONDS = 3
"""For how long the tools that measure CPU look."""
CPUS = os.cpu_count() or 1
LOADS = (("at rest", 0), ("one process", 1), (f"{CPUS} processes", CPUS))


@dataclass(frozen=True)
class Row:
    """One number of ours and the same number of a tool."""

    load: str
    column: str
    tool: str
    unit: str
    ours: float
    theirs: float
    tolerance: float

    @property
    def difference(self) -> float:
        return self.ours - self.theirs

    @property
    def agrees(self) -> bool:
        return abs(self.difference) <= self.tolerance


def output(*command: str) -> str:
    """What a tool prints, in plain English; nothing if it is not installed."""
    if shutil.which(command[0]) is None:
        return ""
    environment = os.environ | {"LC_ALL": "C"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment).stdout


@contextmanager
def load(processes: int) -> Iterator[None]:
    """So many processes that compute, and half a gigabyte of memory; gone at the end, or after a minute."""
    code = "import time\nend = time.monotonic() + 60\nwhile time.monotonic() < end: pass"
    running = [subprocess.Popen([sys.executable, "-S", "-c", code]) for _ in range(processes)]
    block = bytearray(b"x") * (512 * MIB if processes else 0)
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()
        del block


def free() -> dict[str, float]:
    """Bytes that ``free`` shows as total and used; before procps 4.0 "used" meant something else."""
    head, memory = output("free", "-b").splitlines()[:2] or ("", "")
    fields = dict(zip(head.split(), map(float, memory.split()[1:]), strict=True))
    return {"total": fields["total"], "used": fields["total"] - fields["available"]}


def df() -> dict[str, float]:
    """What ``df`` shows of the working directory: bytes, and percent, which it rounds up."""
    line = output("df", "-B1", "--output=used,avail,pcent", ".").splitlines()[1]
    used, available, percent = (float(field) for field in line.replace("%", "").split())
    return {"used": used, "limit": used + available, "percent": percent}


def parse_vmstat(text: str) -> dict[str, float]:
    """Busy percent of all CPUs: the second line is the average over the time asked for."""
    lines = text.splitlines()
    row = dict(zip(lines[1].split(), map(float, lines[-1].split()), strict=True))
    return {"cpu_percent": 100 - row["id"] - row["wa"]}


def parse_mpstat(text: str) -> dict[str, float]:
    """Busy percent of all CPUs and of each."""
    rows = [line.split()[1:] for line in text.splitlines() if line.startswith("Average:")]
    found = {}
    for row in rows[1:]:
        fields = dict(zip(rows[0], row, strict=True))
        column = "cpu_percent" if fields["CPU"] == "all" else f"core{fields['CPU']}/cpu_percent"
        found[column] = 100 - float(fields["%idle"]) - float(fields["%iowait"])
    return found


def parse_top(text: str) -> dict[str, float]:
    """Busy percent of all CPUs, of the second picture; the first is since the start of the machine."""
    line = [line for line in text.splitlines() if "Cpu(s)" in line][-1]
    fields = {name: float(number) for number, name in re.findall(r"([\d.]+)\s*(\w\w)", line)}
    return {"cpu_percent": 100 - fields["id"] - fields["wa"]}


@dataclass(frozen=True)
class Tool:
    """A tool that looks at CPUs for some seconds."""

    command: tuple[str, ...]
    read: Callable[[str], Mapping[str, float]]
    tolerance: float
    """In percent: its rounding, and what the ends of the two intervals may differ by."""


def tools() -> tuple[Tool, ...]:
    """Those that look at CPUs."""
    return (
        Tool(("vmstat", "-n", str(SECONDS), "2"), parse_vmstat, 4.0),
        Tool(("mpstat", "-P", "ALL", str(SECONDS), "1"), parse_mpstat, 5.0),
        Tool(("top", "-b", "-d", str(SECONDS), "-n", "2"), parse_top, 4.0),
    )


def cpu_rows(name: str) -> Iterator[Row]:
    """CPU, over the same seconds as each tool: one after the other, each with a monitor of its own."""
    for tool in tools():
        if shutil.which(tool.command[0]) is None:
            continue
        monitor = PerformanceMonitor()
        monitor.sample()
        text = output(*tool.command)
        ours = monitor.sample().values
        for column, theirs in tool.read(text).items():
            # One CPU is more at the mercy of what runs at the ends of the interval than all of them are.
            tolerance = tool.tolerance * (1 if column == "cpu_percent" else 2)
            yield Row(name, column, tool.command[0], "percent", ours[column], theirs, tolerance)


def space_rows(name: str) -> Iterator[Row]:
    """Memory and disk, compared with the mean of the tool's readings before and after ours."""
    monitor = PerformanceMonitor()
    looks = [(free(), df())]
    values = monitor.sample().values
    looks.append((free(), df()))

    for column, tool, key, tolerance in (
        ("ram_used_bytes", "free", "used", 30 * MIB),
        ("ram_limit_bytes", "free", "total", 0),
        ("disk_used_bytes", "df", "used", 4 * MIB),
        ("disk_limit_bytes", "df", "limit", 4 * MIB),
        ("disk_percent", "df", "percent", 1.1),
    ):
        before, after = (look[0 if tool == "free" else 1][key] for look in looks)
        moved = abs(after - before) / 2  # by whatever else runs on this machine
        unit = column.rpartition("_")[2]
        yield Row(name, column, tool, unit, values[column], (before + after) / 2, tolerance + moved)


@contextmanager
def writing(file: Path) -> Iterator[None]:
    """Write a megabyte some thirty times a second, each time as far as the disk."""
    ended = threading.Event()

    def write() -> None:
        with file.open("wb") as disk:
            while not ended.wait(0.03):
                disk.seek(0)
                disk.write(os.urandom(MIB))
                disk.flush()
                os.fsync(disk.fileno())

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        file.unlink()


def parse_iostat(text: str) -> dict[str, dict[str, float]]:
    """Bytes read and written per second of each device."""
    lines = [line.split() for line in text.splitlines() if line.strip()]
    head = next(line for line in lines if line[0] == "Device")
    rows = (dict(zip(head, line, strict=True)) for line in lines if len(line) == len(head) and line != head)
    return {
        row["Device"]: {"read": float(row["kB_read/s"]) * 1024, "write": float(row["kB_wrtn/s"]) * 1024}
        for row in rows
    }


def parse_sar(text: str) -> dict[str, dict[str, float]]:
    """Bytes received and sent per second of each interface."""
    rows = [line.split()[1:] for line in text.splitlines() if line.startswith("Average:")]
    fields = (dict(zip(rows[0], row, strict=True)) for row in rows[1:])
    return {
        row["IFACE"]: {"received": float(row["rxkB/s"]) * 1024, "sent": float(row["txkB/s"]) * 1024}
        for row in fields
    }


def traffic_rows(name: str) -> Iterator[Row]:
    """Disk and network, over the same seconds as each tool, while something is written."""
    iostat = "iostat", "-d", "-k", "-y", "-p", "ALL", str(SECONDS), "1"
    yield from rate_rows(name, iostat, parse_iostat, "disk", "/dev/block/([^/]+)", MIB / 5)
    sar = "sar", "-n", "DEV", str(SECONDS), "1"
    yield from rate_rows(name, sar, parse_sar, "network", "/net/([^/]+)/statistics", MIB / 50)


def rate_rows(
    name: str,
    command: tuple[str, ...],
    read: Callable[[str], Mapping[str, Mapping[str, float]]],
    group: str,
    pattern: str,
    at_the_ends: float,
) -> Iterator[Row]:
    """The rates of a group beside those of a tool, for the devices that the pattern finds in their source."""
    if shutil.which(command[0]) is None:
        return
    monitor = PerformanceMonitor()
    with writing(Path(f"accuracy-{os.getpid()}.tmp")):
        monitor.sample()
        theirs = read(output(*command))
        ours = monitor.sample().values
    for metric in monitor.metrics:
        found = re.findall(pattern, metric.source)
        if metric.group == group and metric.unit == "bytes_per_second" and found:
            devices = [Path("/sys/dev/block", device).resolve().name for device in found]
            what = metric.name.removeprefix(f"{group}_").removesuffix("_bytes_per_second")
            expected = sum(theirs[device][what] for device in devices)
            tolerance = 0.15 * expected + at_the_ends  # of the two intervals
            yield Row(name, metric.name, command[0], metric.unit, ours[metric.name], expected, tolerance)


def gpu_rows(name: str) -> Iterator[Row]:
    """NVIDIA GPUs compared with nvidia-smi, named so that they are read though nothing here uses them."""
    query = "index,memory.used,memory.total,power.draw,utilization.gpu"
    lines = output("nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader,nounits").splitlines()
    if not lines:
        return
    monitor = PerformanceMonitor(default_collectors([int(line.split(",")[0]) for line in lines]))
    monitor.sample()
    time.sleep(1)
    values = monitor.sample().values
    monitor.stop()
    for line in output("nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader,nounits").splitlines():
        index, *numbers = (field.strip() for field in line.split(","))
        for (what, factor, tolerance), text in zip(
            (
                ("memory_used_bytes", MIB, 2 * MIB),
                ("memory_limit_bytes", MIB, MIB),
                ("power_watts", 1, 15),
                ("utilization_percent", 1, 10),
            ),
            numbers,
            strict=True,
        ):
            if re.fullmatch(r"[\d.]+", text):
                column = f"gpu{index}/{what}"
                unit = what.rpartition("_")[2]
                theirs = float(text) * factor
                yield Row(name, column, "nvidia-smi", unit, values[column], theirs, tolerance)


def tree_rows(name: str) -> Iterator[Row]:
    """What a job and its workers use: all CPU seconds, and the memory in the row that is furthest off."""
    command = [sys.executable, tree_jobs.__file__, name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr}")
    found = json.loads(done.stdout)
    ours, theirs = found["cpu"]
    # The OS kernel gives the time of each process in hundredths of a second.
    yield Row(name, "process_cpu_percent", "psutil", "seconds", ours, theirs, 0.02 * theirs + 0.1)
    each = []
    for ours, least, most in found["memory"]:
        # It has changed from one to the other around this row, and may have been somewhat beyond.
        theirs = min(max(ours, least), most)
        tolerance = max(50 * MIB, 0.05 * theirs) + (most - least) / 2
        each.append(Row(name, "process_ram_bytes", "PSS", "bytes", ours, theirs, tolerance))
    yield max(each, key=lambda row: abs(row.difference) - row.tolerance)


def trees() -> Iterator[str]:
    """The jobs that can be done here."""
    yield from tree_jobs.JOBS
    for name in tree_jobs.FRAMEWORKS:
        if find_spec("loky" if name == "loky" else "torch"):
            yield name


TREES = tuple(trees())


def rows() -> Iterator[Row]:
    """Every comparison, at rest and under load."""
    for name in TREES:
        yield from tree_rows(name)
    for name, processes in LOADS:
        with load(processes):
            time.sleep(0.5)
            yield from space_rows(name)
            yield from cpu_rows(name)
            yield from traffic_rows(name)
            yield from gpu_rows(name)


@contextmanager
def whole_machine() -> Iterator[None]:
    """The tools look at the whole machine, not at what a container leaves of it: so do we, here."""
    kept = limits.allowed
    limits.allowed = lambda *_: limits.Allowed(tuple(range(CPUS)), None, None)
    try:
        yield
    finally:
        limits.allowed = kept


def table(compared: Iterator[Row]) -> Iterator[str]:
    """The lines of the table, as they become known."""
    layout = "{:<22} {:<33} {:<10} {:>12} {:>12} {:>12} {:>12}  {}"
    yield layout.format("load", "column", "tool", "ours", "theirs", "difference", "allowed", "")
    for row in compared:
        # In exact figures, since rounding to a prefix would hide differences.
        shown = [f"{number:.1f}" for number in (row.ours, row.theirs, row.difference, row.tolerance)]
        if row.unit.startswith("bytes"):
            unit, size = ("MiB", MIB) if row.unit == "bytes" else ("KiB", 1024)
            numbers = row.ours, row.theirs, row.difference, row.tolerance
            shown = [f"{number / size:.1f} {unit}" for number in numbers]
        yield layout.format(row.load, row.column, row.tool, *shown, "" if row.agrees else "DIFFERS")


def main() -> int:
    """Print the table; the number of rows that differ, as 0 or 1."""
    compared: list[Row] = []

    def kept() -> Iterator[Row]:
        for row in rows():
            compared.append(row)
            yield row

    with whole_machine():
        for line in table(kept()):
            print(line.rstrip(), flush=True)
    differing = [row for row in compared if not row.agrees]
    memory = format_value(float(Path("/proc/meminfo").read_text().split()[1]) * 1024, "bytes")
    print(f"\n{CPUS} CPUs, {memory}: {len(compared) - len(differing)} of {len(compared)} agree")
    return min(len(differing), 1)


if __name__ == "__main__":
    sys.exit(main())
