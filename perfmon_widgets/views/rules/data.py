"""A loop, or the GPU that it works with, waits for its data."""

from __future__ import annotations

import math
from collections.abc import Iterator

from perfmon_widgets.views.evidence import Evidence, Rule
from perfmon_widgets.views.gauges import CPU_WARNING
from perfmon_widgets.views.stragglers import IDLE
from perfmon_widgets.views.text import format_value

# PyTorch's profiler calls a GPU lowly utilized below this (kineto, tb_plugin, low_util_gpus).
_LOW = 50.0
# Above this many percent a GPU is busy, and waits for nothing that matters.
_BUSY = 85.0
# TensorFlow's profiler calls a program moderately input-bound that waits for more than 5 % of its steps'
# time, and highly above 20 % (op_stats_to_input_pipeline_analysis.cc). PyTorch's advises from 5 % on.
_SOME_WAITING, _MUCH_WAITING = 5.0, 20.0
# From this share of one CPU on, a thread is busy and does not wait for anything else.
ONE_CPU = 0.8


def pauses(evidence: Evidence) -> Iterator[tuple[str, float]]:
    """Place and utilization of each GPU that works, but less than half of the time.

    None if steps() has measured that the loop does not wait for data.
    """
    if evidence.mean("waiting_percent") < _SOME_WAITING:
        return
    for place in evidence.gpus:
        busy = evidence.mean(f"{place}/utilization_percent")
        if IDLE <= busy < _LOW:
            yield place, busy


def is_measured(evidence: Evidence) -> bool:
    """Whether steps() has measured that the loop waits for data, so that no other rule need guess."""
    return evidence.mean("waiting_percent") >= _MUCH_WAITING


def _batches(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """``steps()`` measured that the loop waits for its batches for at least a fifth of the time.

    The share is TensorFlow's for "highly input-bound". With a GPU that is nevertheless busy nothing is lost.
    """
    if not is_measured(evidence):
        return
    waiting = format_value(evidence.mean("waiting_percent"), "percent")
    busy = {place: evidence.mean(f"{place}/utilization_percent") for place in evidence.gpus}
    known = {place: share for place, share in busy.items() if math.isfinite(share)}
    if not known:
        yield "The loop waits for data", f"{waiting} of its time it waits for the next batch"
    for place, share in known.items():
        if share < _BUSY:
            yield (
                f"{evidence.gpus[place]} waits for data",
                f"{waiting} of its time the loop waits for the next batch, and the GPU is busy "
                f"{format_value(share, 'percent')} of the time",
            )


def _waits_a_little(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """``steps()`` measured that the loop waits for 5 to 20 % of the time: TensorFlow's "moderately"."""
    waiting = evidence.mean("waiting_percent")
    if _SOME_WAITING <= waiting < _MUCH_WAITING:
        share = format_value(waiting, "percent")
        yield "The loop waits for data now and then", f"{share} of its time it waits for the next batch"


def _cpu(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """A GPU works less than half of the time, and this kernel keeps a CPU or all of its CPUs busy."""
    if is_measured(evidence):
        return
    busy_cpus, share = evidence.cpus_busy, evidence.mean("process_cpu_percent")
    if not (busy_cpus >= ONE_CPU or share >= 100 * ONE_CPU):
        return
    used = f"{busy_cpus:.1f} of {evidence.cpus:g} CPUs" if math.isfinite(busy_cpus) else "its CPUs"
    for place, busy in pauses(evidence):
        yield (
            f"{evidence.gpus[place]} waits for the CPU",
            f"it is busy {format_value(busy, 'percent')} of the time, while this kernel keeps {used} busy",
        )


def _all_busy(evidence: Evidence) -> bool:
    """Whether this kernel alone keeps its CPUs as busy as the gauge's warning says."""
    return evidence.mean("process_cpu_percent") >= CPU_WARNING


def _waits_for_batches(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """``steps()`` measured much waiting, and there are CPUs left for more workers."""
    if not _all_busy(evidence):
        yield from _batches(evidence)


def _waits_for_cpu(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """A GPU waits for a thread of this kernel, and there are CPUs left for others."""
    if not _all_busy(evidence):
        yield from _cpu(evidence)


def _waits_for_busy_cpus(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """The loop or a GPU waits, and this kernel uses 95 % of its CPUs: more workers cannot help."""
    if _all_busy(evidence):
        for what, reason in (*_batches(evidence), *_cpu(evidence)):
            yield what, f"{reason}; no CPU is free"


WAITS_FOR_BATCHES = Rule(
    "warning",
    "use more workers in the loader, prepare the data once and store it, or do less per sample",
    _waits_for_batches,
)
WAITS_A_LITTLE = Rule("info", "a few more workers in the loader may help", _waits_a_little)
WAITS_FOR_BUSY_CPUS = Rule(
    "warning",
    "use no more workers than CPUs, with one thread each (OMP_NUM_THREADS=1), prepare the data once and "
    "store it, or do less per sample",
    _waits_for_busy_cpus,
)
WAITS_FOR_CPU = Rule(
    "warning",
    "load data in more workers, prepare it once and store it, or use larger batches; "
    "monitor.steps(loader) measures whether it is the data",
    _waits_for_cpu,
)
