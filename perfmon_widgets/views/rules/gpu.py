"""What holds GPUs up."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator

from perfmon_widgets.views.evidence import Evidence, Rule
from perfmon_widgets.views.gauges import GPU_MEMORY_CRITICAL
from perfmon_widgets.views.text import format_used, format_value

# Below this many percent a GPU does nothing that counts: the driver's own work, a display.
IDLE = 5.0
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


def _waits_for_batches(evidence: Evidence) -> Iterator[tuple[str, str]]:
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


def _waits_for_cpu(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """A GPU works less than half of the time, and this kernel keeps a CPU or all of its CPUs busy."""
    if is_measured(evidence):
        return
    busy_cpus, share = evidence.cpus_busy, evidence.mean("process_cpu_percent")
    if not (busy_cpus >= ONE_CPU or share >= 100 * ONE_CPU):
        return
    used = f"{busy_cpus:.1f} of {evidence.cpus:.0f} CPUs" if math.isfinite(busy_cpus) else "its CPUs"
    for place, busy in pauses(evidence):
        yield (
            f"{evidence.gpus[place]} waits for the CPU",
            f"it is busy {format_value(busy, 'percent')} of the time, while this kernel keeps {used} busy",
        )


# One GPU lags if it is this much less busy than the others are at the median, and those are busy. With
# gradients that are exchanged in each step, all go as fast as the slowest.
_OTHERS_BUSY, _BEHIND = 70.0, 30.0


def _lags(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """One of several GPUs is at least 30 points less busy than the others, which are busy.

    Seen with uneven shards: 36 % while seven others are above 90 %.
    """
    means = {place: evidence.mean(f"{place}/utilization_percent") for place in evidence.gpus}
    working = {place: busy for place, busy in means.items() if busy >= IDLE}
    if len(working) < 2:
        return
    place = min(working, key=lambda each: working[each])
    others = statistics.median(busy for other, busy in working.items() if other != place)
    if others >= _OTHERS_BUSY and working[place] <= others - _BEHIND:
        who = f"the other {len(working) - 1} are" if len(working) > 2 else "the other is"
        yield (
            f"{evidence.gpus[place]} lags behind",
            f"it is busy {format_value(working[place], 'percent')} of the time, "
            f"{who} {format_value(others, 'percent')}",
        )


def _memory_full(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """At most 3 % of a GPU's memory is free, from where on the gauge is red.

    Allocators that reserve memory ahead stop below: JAX takes 75 %, vLLM 90 %.
    """
    for place, label in evidence.gpus.items():
        if evidence.newest(f"{place}/memory_percent") >= GPU_MEMORY_CRITICAL:
            yield f"{label} memory is nearly full", _memory(evidence, place)


# Long enough that nobody waits for a step: the usual timeouts of notebooks' kernels begin at some minutes.
_HELD_FOR = 300.0
# Less is what a CUDA context alone takes, of a small GPU.
_HELD = 10.0


def _held_idle(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """A GPU has computed nothing for five minutes, and a tenth of its memory or more is taken."""
    for place, label in evidence.gpus.items():
        idle = evidence.peak(f"{place}/utilization_percent", _HELD_FOR) < 1
        if idle and evidence.newest(f"{place}/memory_percent") >= _HELD:
            yield (
                f"{label} is idle but its memory is held",
                f"{_memory(evidence, place)}, and nothing was computed for {_HELD_FOR / 60:.0f} min",
            )


def _memory(evidence: Evidence, place: str) -> str:
    used = evidence.newest(f"{place}/memory_used_bytes")
    limit = evidence.newest(f"{place}/memory_limit_bytes")
    if not (math.isfinite(used) and math.isfinite(limit)):
        return f"{format_value(evidence.newest(f'{place}/memory_percent'), 'percent')} in use"
    return f"{format_used(used, limit, 'bytes')} in use"


WAITS_FOR_BATCHES = Rule(
    "warning",
    "use more workers in the loader, prepare the data once and store it, or do less per sample",
    _waits_for_batches,
)
WAITS_A_LITTLE = Rule("info", "a few more workers in the loader may help", _waits_a_little)
WAITS_FOR_CPU = Rule(
    "warning",
    "load data in more workers, prepare it once and store it, or use larger batches; "
    "monitor.steps(loader) measures whether it is the data",
    _waits_for_cpu,
)
LAGS = Rule("warning", "give each GPU as much work as the others, and look for another program on it", _lags)
MEMORY_FULL = Rule("warning", "use smaller batches, or free what is not needed", _memory_full)
HELD_IDLE = Rule(
    "info", "delete the tensors and the model, or shut the kernel down, if others need it", _held_idle
)
