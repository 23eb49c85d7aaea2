"""GPUs of which one lags, whose memory is full, or that are held without need."""

from __future__ import annotations

import math
from collections.abc import Iterator

from perfmon_widgets.views.evidence import Evidence, Rule
from perfmon_widgets.views.gauges import GPU_MEMORY_CRITICAL
from perfmon_widgets.views.stragglers import straggler
from perfmon_widgets.views.text import format_used, format_value


def _lags(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """One of several GPUs is much less busy than the others."""
    found = straggler(evidence, {place: f"{place}/utilization_percent" for place in evidence.gpus})
    if found is not None:
        yield f"{evidence.gpus[found.place]} lags behind", f"it is {found.words}"


def _memory_full(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """At most 3 % of a GPU's memory is free, from where on the gauge is red.

    Allocators that reserve memory ahead stop below: JAX takes 75 %, vLLM 90 %.
    """
    for place, label in evidence.gpus.items():
        if evidence.newest(f"{place}/memory_percent") >= GPU_MEMORY_CRITICAL:
            yield f"{label} memory is nearly full", _memory(evidence, place)


# Longer than one step of a training takes: the usual timeouts of notebooks' kernels begin at some minutes.
_HELD_FOR = 300.0
# A CUDA context alone takes up to this share of a small GPU.
_HELD = 10.0


def _held_idle(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """A GPU has computed nothing for five minutes, and a tenth of its memory or more is taken."""
    for place, label in evidence.gpus.items():
        idle = evidence.peak(f"{place}/utilization_percent", _HELD_FOR) < 1
        if (
            idle
            and evidence.newest(f"{place}/memory_percent") >= _HELD
            and not _is_held_by_others(evidence, place)
        ):
            yield (
                f"{label} is idle but its memory is held",
                f"{_memory(evidence, place)}, and nothing was computed for {_HELD_FOR / 60:.0f} min",
            )


def _is_held_by_others(evidence: Evidence, place: str) -> bool:
    """Whether this kernel is known to have less than half of what is in use."""
    own, used = (evidence.newest(f"{place}/{what}") for what in ("process_memory_bytes", "memory_used_bytes"))
    return own < used / 2


# Under full load many GPUs run at their power limit now and then; half of the time is worth a look.
_HELD_BACK = 50.0


def _held_back(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """The power limit, heat or a hardware slowdown holds a GPU's clock back half of the time or more."""
    for place, label in evidence.gpus.items():
        share = evidence.mean(f"{place}/throttled_percent")
        if share >= _HELD_BACK:
            yield (
                f"{label} runs at a lower clock than it could",
                f"{format_value(share, 'percent')} of the time the power limit or heat holds it back",
            )


def _memory(evidence: Evidence, place: str) -> str:
    used = evidence.newest(f"{place}/memory_used_bytes")
    limit = evidence.newest(f"{place}/memory_limit_bytes")
    if not (math.isfinite(used) and math.isfinite(limit)):
        return f"{format_value(evidence.newest(f'{place}/memory_percent'), 'percent')} in use"
    return f"{format_used(used, limit, 'bytes')} in use"


LAGS = Rule("warning", "give each GPU as much work as the others, and look for another program on it", _lags)
MEMORY_FULL = Rule("warning", "use smaller batches, or free what is not needed", _memory_full)
HELD_IDLE = Rule(
    "info", "delete the tensors and the model, or shut the kernel down, if others need it", _held_idle
)
HELD_BACK = Rule(
    "info", "a higher power limit or better cooling makes it faster; the code cannot", _held_back
)
