"""Rules about the CPUs: a quota, other programs, too many threads or too few, the GIL, an idle kernel."""

from __future__ import annotations

import math
from collections.abc import Iterator

from perfmon_widgets.views.evidence import Evidence, Rule
from perfmon_widgets.views.gauges import CPU_WARNING
from perfmon_widgets.views.text import format_duration, format_value

# From this share of the periods on Kubernetes' usual alert CPUThrottlingHigh fires (kubernetes-mixin).
_THROTTLED = 25.0
# One busy thread uses a CPU but for what it waits; above, a second one works a good part of the time.
_ONE_CPU, _MORE_THAN_ONE = 0.8, 1.3
# A GPU that is this busy explains why only one CPU is: the thread that starts its work waits for it.
_GPU_WORKS = 5.0


def _throttled(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """The quota is used up in a quarter of its periods or more, as for Kubernetes' alert."""
    throttled = evidence.mean("cpu_throttled_percent")
    if throttled >= _THROTTLED:
        yield (
            "The container's CPU quota slows the work down",
            f"it is used up in {format_value(throttled, 'percent')} of its periods; for the rest of each "
            "all threads stand still",
        )


def _share_of_this_kernel(evidence: Evidence) -> tuple[float, float]:
    """The busy share of the CPUs, and this kernel's; NaN unless they are all busy, or while throttled."""
    busy, own = evidence.mean("cpu_percent"), evidence.mean("process_cpu_percent")
    throttled = evidence.mean("cpu_throttled_percent") >= _THROTTLED
    return (busy, own) if busy >= CPU_WARNING and not throttled else (math.nan, math.nan)


def _busy_by_others(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """The CPUs are as busy as the gauge's warning says, less than half of it with this kernel."""
    busy, own = _share_of_this_kernel(evidence)
    if own < busy / 2:
        yield (
            "All CPUs are busy with other programs",
            f"{format_value(busy, 'percent')} busy, this kernel uses {format_value(own, 'percent')} of them",
        )


# On two CPUs 2, 3 and 4 busy threads make it 1, 50 and 95 % (measured). Others may wait, too: this kernel
# must use nearly all that is used.
_WAIT_FOR_CPU, _NEARLY_ALL = 80.0, 0.9


def _waiting_for_a_cpu(evidence: Evidence, busy: float, own: float) -> float:
    """The share of the time in which one of this kernel's threads waits for a CPU; NaN if it is not known."""
    # Where this process may not use the whole machine, the pressure may be about other CPUs.
    known = own >= _NEARLY_ALL * busy and "host_cpu_percent" not in evidence.metrics
    return evidence.mean("cpu_pressure_percent") if known else math.nan


def _busy_by_this_kernel(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """The CPUs are as busy as the gauge's warning says, at least half of it with this kernel."""
    busy, own = _share_of_this_kernel(evidence)
    if own >= busy / 2 and not _waiting_for_a_cpu(evidence, busy, own) >= _WAIT_FOR_CPU:
        yield (
            "All CPUs are busy with this kernel",
            f"{format_value(busy, 'percent')} busy, this kernel uses {format_value(own, 'percent')} of them",
        )


def _more_than_cpus(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """This kernel causes nearly all of the CPU load, and a thread nearly always waits for a CPU (PSI)."""
    busy, own = _share_of_this_kernel(evidence)
    waiting = _waiting_for_a_cpu(evidence, busy, own)
    if waiting >= _WAIT_FOR_CPU:
        yield (
            "More threads or workers run than there are CPUs",
            f"one of them waits for a CPU {format_value(waiting, 'percent')} of the time, and this kernel "
            f"uses {format_value(own, 'percent')} of the CPUs",
        )


def _one_of_many(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """This kernel keeps 0.8 to 1.3 CPUs busy, may use two or more that are not all busy, and no GPU works."""
    if evidence.cpus < 2 or evidence.mean("cpu_percent") >= CPU_WARNING:
        return
    if any(evidence.mean(f"{place}/utilization_percent") >= _GPU_WORKS for place in evidence.gpus):
        return
    if _ONE_CPU <= evidence.cpus_busy <= _MORE_THAN_ONE:
        yield (
            f"Only one of {evidence.cpus:g} CPUs works for this kernel",
            f"it keeps {evidence.cpus_busy:.1f} CPUs busy, as a single thread of Python does",
        )


# Within these seconds this share of the time must be missing between samples, in at least two pieces.
_LATE_IN, _LATE_SHARE, _LATE_TIMES = 60.0, 0.2, 2


def _late(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Samples of a fifth of the last minute are missing, while this kernel keeps one CPU busy.

    The thread that takes the samples needs the GIL. Python code releases it every 5 ms
    (sys.setswitchinterval); a call into C that keeps it delays all threads. Where all CPUs are busy, the
    thread may wait for one of these instead.
    """
    if not evidence.cpus_busy >= _ONE_CPU or not evidence.mean("cpu_percent") < CPU_WARNING:
        return
    lost = evidence.missing(_LATE_IN)
    if len(lost) >= _LATE_TIMES and sum(lost) >= _LATE_SHARE * _LATE_IN:
        yield (
            "A call in this kernel holds Python's interpreter lock (GIL)",
            f"samples of {format_duration(sum(lost))} of the last {_LATE_IN:.0f} s are missing, "
            f"those of up to {format_duration(max(lost))} in a row",
        )


# Over these seconds; the panel itself uses up to 4 % of a CPU, and reads nothing.
_IDLE_FOR, _IDLE_CPUS, _IDLE_PERCENT, _IDLE_BYTES = 60.0, 0.1, 2.0, 1e5


def _nothing_runs(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """For a minute this kernel has used hardly any CPU time and disk traffic, and no GPU worked."""
    cpu = evidence.peak("process_cpu_percent", _IDLE_FOR)
    quiet = cpu * evidence.cpus / 100 < _IDLE_CPUS if evidence.cpus > 0 else cpu < _IDLE_PERCENT
    if not quiet:
        return
    moved = [evidence.peak(f"process_{kind}_bytes_per_second", _IDLE_FOR) for kind in ("read", "write")]
    computed = [evidence.peak(f"{place}/utilization_percent", _IDLE_FOR) for place in evidence.gpus]
    if not any(rate > _IDLE_BYTES for rate in moved) and not any(busy >= 1 for busy in computed):
        gpu = " and no GPU" if evidence.gpus else ""
        yield (
            NOTHING_RUNS,
            f"for {_IDLE_FOR:.0f} s this kernel used at most {format_value(cpu, 'percent')} of its CPUs{gpu}",
        )


NOTHING_RUNS = "Nothing runs"
"""What is said of a kernel that is idle."""

THROTTLED = Rule(
    "warning",
    "use as many workers and threads as the quota has CPUs (OMP_NUM_THREADS), or ask for a larger quota",
    _throttled,
)
BUSY_BY_OTHERS = Rule("warning", "wait for them, or move to a machine of your own", _busy_by_others)
BUSY_BY_THIS_KERNEL = Rule("info", "only less work or more CPUs make it faster", _busy_by_this_kernel)
MORE_THAN_CPUS = Rule(
    "info",
    "use as many workers as CPUs, with one thread each (OMP_NUM_THREADS=1): more of them only take turns",
    _more_than_cpus,
)
ONE_OF_MANY = Rule("info", "replace loops by array operations, or spread them over processes", _one_of_many)
LATE = Rule(
    "warning", "make that call in a process of its own, if anything else has to go on meanwhile", _late
)
IDLE = Rule("info", "if a cell is running, it waits for something: input, a lock, the network", _nothing_runs)
