"""Where memory is short, and when it will be full."""

from __future__ import annotations

import math
from collections.abc import Iterator

from perfmon_widgets.views.evidence import Evidence, Rule
from perfmon_widgets.views.forecast import forecast
from perfmon_widgets.views.gauges import CRITICAL, share_held
from perfmon_widgets.views.text import format_change, format_used, format_value


def full_soon(evidence: Evidence, used_name: str, limit_name: str, label: str) -> Iterator[tuple[str, str]]:
    """The amount in use grows steadily, and will reach its limit within 15 minutes; see forecast.py."""
    limit = evidence.newest(limit_name)
    times, used = evidence.series(used_name)
    found = forecast(times, used, limit)
    if found is None:
        return
    pace = f"{format_change(60 * found.per_second, 'bytes')}/min"
    minutes = math.floor(found.seconds / 60 + 0.5)
    when = f"{minutes} min" if minutes else "less than a minute"
    yield (
        f"{label} full in about {when}" if minutes else f"{label} full in {when}",
        f"{format_used(float(used[-1]), limit, 'bytes')} in use, {pace} at this pace",
    )


def _held(evidence: Evidence) -> str:
    """The column of memory that cannot be given back: in a container, part of what is in use may be cache."""
    known = math.isfinite(evidence.newest("ram_unreclaimable_bytes"))
    return "ram_unreclaimable_bytes" if known else "ram_used_bytes"


def _share_held(evidence: Evidence) -> float:
    """How much of its limit that is now, in percent, as the gauge's colour says it."""
    return share_held(*map(evidence.newest, ("ram_percent", "ram_used_bytes", "ram_unreclaimable_bytes")))


def _ram_full_soon(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Memory that is held grows steadily, and will reach its limit within 15 minutes; see forecast.py."""
    return full_soon(evidence, _held(evidence), "ram_limit_bytes", "RAM")


def _ram_full(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Memory that is held is where the gauge is red: 90 % of the limit."""
    if _share_held(evidence) >= CRITICAL and not any(_ram_full_soon(evidence)):
        used, limit = evidence.newest(_held(evidence)), evidence.newest("ram_limit_bytes")
        own = evidence.newest("process_ram_bytes")
        share = f", this kernel has {format_value(own, 'bytes')}" if math.isfinite(own) else ""
        yield "RAM is nearly full", f"{format_used(used, limit, 'bytes')} in use{share}"


# From this share of the machine's memory on, the OS kernel is about to look for a program to kill.
_HOST_FULL = 95.0


def _machine_full(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """The machine has at most 5 % of its memory free, while the container is below its own limit."""
    host, own = evidence.newest("host_ram_percent"), _share_held(evidence)
    if host >= _HOST_FULL and own < CRITICAL:
        used, limit = evidence.newest("host_ram_used_bytes"), evidence.newest("host_ram_limit_bytes")
        yield (
            "The machine's memory is nearly full, although the container's is not",
            f"{format_used(used, limit, 'bytes')} in use on the machine, "
            f"{format_value(own, 'percent')} of the container's limit",
        )


# A tenth of the time is lost. systemd-oomd kills from 60 % on, by its default DefaultMemoryPressureLimit.
_PRESSURE = 10.0
# Memory that is moved to the swap space between the oldest and the newest row of a minute.
_SWAPPED_IN, _SWAPPED = 60.0, 64 * 2**20


def _memory_short(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Programs wait for memory a tenth of the time (PSI), or 64 MiB went to the swap space in a minute."""
    pressure = evidence.mean("memory_pressure_percent")
    times, swapped = evidence.series("swap_used_bytes")
    recent = swapped[times > times[-1] - _SWAPPED_IN] if len(times) else swapped
    grown = float(recent[-1] - recent.min()) if len(recent) else 0.0
    reasons = []
    if pressure >= _PRESSURE:
        reasons.append(f"programs wait for it for {format_value(pressure, 'percent')} of the time")
    if grown >= _SWAPPED:
        reasons.append(f"{format_value(grown, 'bytes')} went to the swap space within a minute")
    if reasons:
        yield "Memory is short", " and ".join(reasons)


_FREE = "free what is not needed, or work on less at once"
RAM_FULL_SOON = Rule("critical", f"{_FREE}, before the OS kernel kills this process", _ram_full_soon)
RAM_FULL = Rule("critical", f"{_FREE}: at the limit the OS kernel kills a process", _ram_full)
MACHINE_FULL = Rule(
    "critical",
    "save what matters: the OS kernel may kill any process, also within its own limit",
    _machine_full,
)
MEMORY_SHORT = Rule("warning", _FREE, _memory_short)
