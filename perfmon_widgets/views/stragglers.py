"""Which of several GPUs, workers or the like does much less than the others."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import NamedTuple

from perfmon_widgets.metrics import Metric
from perfmon_widgets.views.evidence import Evidence
from perfmon_widgets.views.text import format_value

# Below this many percent a GPU does nothing that counts: the driver's own work, a display.
IDLE = 5.0

# One lags if it is this much less busy than the others are at the median, and those are busy. With gradients
# that are exchanged in each step, all go as fast as the slowest.
_OTHERS_BUSY, _BEHIND = 70.0, 30.0
# The tasks that a worker has on average, from which on it counts as one that has work.
_HAS_WORK = 0.75
# The quantities that say how busy a GPU is, or a worker.
_BUSY = ("utilization_percent", "cpu_percent")


class Straggler(NamedTuple):
    """The one that lags behind the others."""

    place: str
    """``gpu3``."""
    busy: float
    """How busy it is, in percent."""
    others: float
    """How busy the others are, at the median."""
    number: int
    """How many others work."""

    @property
    def words(self) -> str:
        """How busy it is, and how busy the others are."""
        who = f"the other {self.number} are" if self.number > 1 else "the other is"
        busy, others = (format_value(each, "percent") for each in (self.busy, self.others))
        return f"busy {busy} of the time, {who} {others}"


def straggler(evidence: Evidence, columns: Mapping[str, str]) -> Straggler | None:
    """Return the one of several that is at least 30 points less busy than the others, which are busy.

    ``columns``: for each place, such as ``gpu0`` or ``worker2``, the column that says how busy it is, in
    percent. Those without work do not count: a worker by its column ``tasks_running``, any other one if it is
    idle. Seen with uneven shards: 36 % while seven others are above 90 %.
    """
    means = {place: evidence.mean(column) for place, column in columns.items()}
    tasks = {place: evidence.mean(f"{place}/tasks_running") for place in columns}  # NaN where nobody counts
    working = {
        place: busy
        for place, busy in means.items()
        if (busy >= IDLE and not tasks[place] < _HAS_WORK) or (busy >= 0 and tasks[place] >= _HAS_WORK)
    }
    if len(working) < 2:
        return None
    place = min(working, key=lambda each: working[each])
    others = statistics.median(busy for other, busy in working.items() if other != place)
    if others < _OTHERS_BUSY or working[place] > others - _BEHIND:
        return None
    return Straggler(place, working[place], others, len(working) - 1)


def busy_columns(many: Mapping[str, Mapping[str, Metric]]) -> dict[str, str]:
    """Return for each place of ``columns.alike()`` the column that says how busy it is, where it has one."""
    return {
        place: metric.name
        for place, quantities in many.items()
        for metric in quantities.values()
        if metric.what in _BUSY
    }
