"""Prints perfmon_widgets/COLUMNS.md, from the metrics that the collectors declare.

After a change of a metric: ``python tests/columns.py > perfmon_widgets/COLUMNS.md``. A test fails until then.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from perfmon_widgets.collectors import portable
from perfmon_widgets.collectors.amd.metrics import METRICS as AMD
from perfmon_widgets.collectors.linux import cpu, disk, memory, network, pressure, process
from perfmon_widgets.collectors.nvidia.metrics import METRICS as NVIDIA
from perfmon_widgets.metrics import Metric

FILE = Path(__file__).parents[1] / "perfmon_widgets" / "COLUMNS.md"

HEAD = """\
# Columns

<!-- Written by tests/columns.py from the metrics that the collectors declare. Change those, then run
     python tests/columns.py > perfmon_widgets/COLUMNS.md -->

The same name is the column of `monitor.history`, the header in the CSV file and the key in JSON:
`[where/]what_unit`. The part after the last slash says what is measured, and ends in the unit. The part
before it says where: `core3`, `gpu0`; the whole machine has no such part. In Prometheus `gpu0/power_watts`
becomes `perfmon_power_watts{gpu="0"}`.

- **Units** are base units. A percentage goes from 0 to 100.
- **A missing number** is NaN, never 0, and `monitor.errors[column]` says why. A number that cannot be true,
  such as 65535 % or less than 0 bytes, is missing. The first sample has no rates and no shares of time,
  because these need two readings.
- **The index** `time` is the true time of the reading in UTC. Late samples are skipped and never invented.
- **On this machine**: `monitor.metrics` has the columns with the source of each, and so has
  `history.attrs[column]`. The tables below list all columns there can be.
- There are no temperatures and no lists of processes: other tools do that well.

## What the numbers are about

**Containers and batch jobs.** The numbers are about what the model may use. `cpu_percent` is the share of
the CPUs in the process's affinity, or of the CPU quota if that is less. `ram_percent` is the share of the
tightest memory limit of all its control groups, and the memory in use is the working set of the very group
that carries that limit, as `docker stats` and `kubectl top` print it. That includes file cache that was read
more than once; `ram_unreclaimable_bytes` is what stays without it. Limits are read again every ten seconds.
The command of `python -m perfmon_widgets run` is measured by its own limits. A group with `memory.high` and
no other limit is slowed down above that point, so that counts as its limit. Where a namespace may hide a
limit, the source of `ram_limit_bytes` says so. The columns `host_…` exist where such a limit is in force when
the monitor is made: a container within its limits can still be killed when the host runs out of memory.

**JupyterHub.** Where no control group shows a limit, those in the environment variables `MEM_LIMIT` and
`CPU_LIMIT` are used. They are compared with the usage of all processes of the notebook server.

**Disk.** The file system of the working directory, with space as `df` counts it, and the traffic of the
disk beneath it, or of all its disks if it has several (btrfs, bcachefs, the log of an XFS). The source of the
column names them. File systems without a disk (network, overlay, memory) have no traffic, and
`monitor.errors` says so.

**Network.** The traffic of this network namespace: of the machine, or of the container. On a machine its
network cards are added up: what passes a bridge, a bond, a VLAN, a tunnel or a container passes a card, too.
In a container it is the traffic of its own interfaces. The loopback never counts.

**This process** is the Jupyter kernel or the script, with all its descendants, or the command of `python -m
perfmon_widgets run`. Memory that they share counts once.

**GPUs.** Every visible GPU has its columns from the start. They are NaN until this process or a descendant
uses the GPU. The search for GPUs in use opens none of them and wakes none. The numbers of a GPU are then
about the whole GPU, with all processes that use it; if a MIG slice is in use, they are about that slice.
Only `process_memory_bytes` and `torch_…` are about this process alone.
NVIDIA GPUs have the same indices as in `nvidia-smi`. AMD GPUs follow, in the order of their PCI addresses.
`CUDA_VISIBLE_DEVICES`, `ROCR_VISIBLE_DEVICES` and `HIP_VISIBLE_DEVICES` hide GPUs here as they do for the
frameworks.

**Workers, nodes and ranks.** The columns of a member of a cluster have its place: `worker3/…` for a worker of
Dask, `node3/…` for a node of Ray, `rank3/…` for a rank of a job. `cpu_percent`, `ram_used_bytes`,
`read_bytes_per_second` are then about that process and its children, or about all processes that Ray has
started on the node: its workers, its object store and Ray's own. `ram_percent` is the share of its memory
limit, or of its machine's. 100 % of a worker's `cpu_percent` are the CPUs that its threads can use, of a
node's those that Ray may use there. `tasks_running` and `tasks_ready` count Dask's tasks, `uptime_seconds` is
the age of the process, and begins anew after a restart. Workers that are threads of one process are one here,
with their threads, limits and tasks together. What is about a whole machine has the place of the host, once
for all members there: `host0/cpu_percent`. The tables below do not have these columns.

**macOS and Windows.** psutil is read instead of /proc. It has no disk traffic for a single file system and
none for a process, no memory of descendants and no pressure; its network counters count some bytes twice.
So these columns do not exist, and `process_…` is about this process alone.

`python tests/accuracy.py` prints these numbers next to those of `free`, `df`, `vmstat`, `mpstat`, `top`,
`iostat`, `sar` and `nvidia-smi`, at rest and under load, with the differences.
"""

SECTIONS = (
    (
        "CPU",
        (
            *cpu.METRICS,
            *cpu.OPTIONAL_METRICS,
            pressure.CPU,
            replace(cpu.core_metric(0), name="coreN/cpu_percent", label="core N"),
        ),
    ),
    ("Memory", (*memory.METRICS, *memory.OPTIONAL_METRICS, pressure.MEMORY)),
    ("Disk", (*disk.METRICS, pressure.IO)),
    ("Network", network.METRICS),
    ("This process", process.METRICS),
)


def of_gpu(metrics: Sequence[Metric]) -> list[Metric]:
    """The columns of one GPU, as its device makes them."""
    return [replace(metric, name=f"gpuN/{metric.name}", label=f"GPU N {metric.label}") for metric in metrics]


def source_of(metric: Metric) -> str:
    """Where the column is read, on Linux and elsewhere."""
    elsewhere = portable.EACH_CPU if metric.role == "part" else portable.SOURCES.get(metric.name, "")
    return f"{metric.source}; macOS, Windows: {elsewhere}" if elsewhere else metric.source


def table(metrics: Sequence[Metric]) -> Iterator[str]:
    """The lines of one table."""
    yield "| column | label | unit | what it is | where it is read |"
    yield "|---|---|---|---|---|"
    for metric in metrics:
        cells = (
            f"`{metric.name}`",
            metric.label,
            metric.unit.replace("_", " "),
            metric.help,
            source_of(metric),
        )
        yield f"| {' | '.join(cells)} |".replace("<", "&lt;")


def document() -> str:
    """The whole file."""
    lines = [HEAD]
    for title, metrics in (*SECTIONS, ("NVIDIA GPUs", of_gpu(NVIDIA)), ("AMD GPUs", of_gpu(AMD))):
        lines += [f"## {title}", "", *table(metrics), ""]
    return "\n".join(lines)


if __name__ == "__main__":
    print(document(), end="")
