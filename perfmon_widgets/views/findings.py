"""Findings: what holds the work up, in sentences with evidence and advice. A rule each, in ``rules/``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from perfmon_widgets.metrics import Metric
from perfmon_widgets.views.evidence import SEVERITIES, Evidence, Finding
from perfmon_widgets.views.rules import cpu, data, disk, gpu, members, memory
from perfmon_widgets.views.statistics import row_seconds

if TYPE_CHECKING:
    from numpy.typing import NDArray

LOOKS_BACK = 600.0
"""Seconds of history that the rules look at."""
LEAST = 10.0
"""Seconds that a mean must be about; with less, a busy import would be a finding."""

RULES = (
    memory.RAM_FULL_SOON,
    memory.RAM_FULL,
    memory.MACHINE_FULL,
    disk.FULL_SOON,
    memory.MEMORY_SHORT,
    data.WAITS_FOR_BUSY_CPUS,
    data.WAITS_FOR_BATCHES,
    data.WAITS_FOR_CPU,
    disk.WAITS_FOR_DISK,
    disk.WAITS_TO_WRITE,
    disk.WAITS_FOR_NETWORK,
    gpu.LAGS,
    cpu.THROTTLED,
    cpu.BUSY_BY_OTHERS,
    cpu.LATE,
    members.RESTARTED,
    members.FULLER,
    members.SLOWER,
    members.SKEWED,
    gpu.MEMORY_FULL,
    disk.FULL,
    data.WAITS_A_LITTLE,
    cpu.MORE_THAN_CPUS,
    cpu.BUSY_BY_THIS_KERNEL,
    cpu.ONE_OF_MANY,
    gpu.HELD_BACK,
    gpu.HELD_IDLE,
    cpu.IDLE,
)
"""All rules; among those of one severity, the more pressing first."""


def findings(
    metrics: Sequence[Metric],
    times: NDArray[np.float64],
    after_gap: NDArray[np.bool_],
    values: NDArray[np.float64],
    *,
    least: float = LEAST,
    over: float | None = None,
) -> list[Finding]:
    """Return what the rows show of what holds the work up, the most pressing first; never raises.

    ``times`` are seconds on any one clock, ``values`` has the shape (rows, metrics), ``after_gap`` says where
    samples are missing before a row. Means need values of at least ``least`` seconds, and
    are over the last ``over`` seconds; by default 30, or five samples.
    """
    if not len(times):
        return []
    seconds = row_seconds(times, after_gap)
    evidence = Evidence(metrics, times, seconds, after_gap, values, least=least, over=over)
    with np.errstate(all="ignore"):  # numbers near 1e308 may overflow, and infinite ones be subtracted
        found = [
            Finding(rule.severity, what, reason, rule.advice)
            for rule in RULES
            for what, reason in rule.find(evidence)
        ]
    return sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))


def pressing(found: Sequence[Finding]) -> Finding | None:
    """Return the first finding; None if there is none, or only that nothing runs."""
    return next((finding for finding in found if finding.what != cpu.NOTHING_RUNS), None)
