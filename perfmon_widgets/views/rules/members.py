"""Workers or nodes of a cluster, or ranks of a job, that differ from the rest: ``worker3/…``, ``rank3/…``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from statistics import median

from perfmon_widgets.metrics import place_label
from perfmon_widgets.views.evidence import Evidence, Rule
from perfmon_widgets.views.stragglers import straggler
from perfmon_widgets.views.text import format_duration, format_value

# Below this share of its CPUs a member is idle. One with twice the memory of the others at the median is much
# fuller. Nobody minds it of memory below 60 %, where Dask begins to move data to the disk
# (distributed.worker.memory.target).
_IDLE, _TIMES, _FILLED = 10.0, 2.0, 60.0
# The share of workers that must be idle, before more even work would make a difference.
_MANY = 0.25
# Of fewer members none stands out.
_LEAST = 3
# The most that are named.
_NAMED = 3
# A process with a shorter uptime than the row before is a restart if it is at most this many seconds old, and
# its row comes at most this long after that one. Otherwise another process has got the number.
_RESTART = 60.0
# No process has run for longer, in seconds.
_LONGEST = 1e9


def _members(evidence: Evidence, what: str) -> dict[str, float]:
    """The mean of a column of each member that has one now, by its place."""
    means = {place: evidence.mean(name) for place, name in evidence.members(what).items()}
    return {place: mean for place, mean in means.items() if math.isfinite(mean)}


def _fuller(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """One has twice the memory of the others at the median, and fills 60 % of its limit or more."""
    for place, share, usual in _outstanding(_members(evidence, "ram_percent")):
        if share >= max(_FILLED, _TIMES * usual):
            yield (
                f"{_name(place)} has much more in memory than the rest",
                f"{format_value(share, 'percent')} of its limit, the others {format_value(usual, 'percent')} "
                "at the median",
            )


def _slower(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """One lags behind, as stragglers.py decides it for the tables, too."""
    places = _members(evidence, "cpu_percent")
    found = straggler(evidence, {place: f"{place}/cpu_percent" for place in places})
    if found is not None and len(places) >= _LEAST:
        yield (
            f"{_name(found.place)} does much less than the rest",
            f"it uses {format_value(found.busy, 'percent')} of its CPUs, the others "
            f"{format_value(found.others, 'percent')} at the median",
        )


def _skewed(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """A quarter of the workers or more have no task, while others nearly always have one."""
    shares = _members(evidence, "cpu_percent")
    running = {place: evidence.mean(f"{place}/tasks_running") for place in shares}
    busy = [place for place, tasks in running.items() if tasks > 1 - _MANY]
    idle = [place for place, tasks in running.items() if tasks < _MANY and shares[place] < _IDLE]
    if busy and idle and len(idle) >= _MANY * len(shares):
        have = "has" if len(idle) == 1 else "have"
        yield (
            f"{len(idle)} of {len(shares)} workers {have} nothing to do while others are busy",
            f"{_names(busy)} nearly always {'has' if len(busy) == 1 else 'have'} a task, "
            f"{_names(idle)} {have} none",
        )


def _restarted(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """The time for which the process has run begins anew, in the rows of the last ten minutes."""
    longest = max(_RESTART, evidence.now)
    for place, name in evidence.members("uptime_seconds").items():
        times, running = (values.tolist() for values in evidence.series(name))
        again = [
            (at, before)
            for (then, at), (before, after) in zip(pairwise(times), pairwise(running), strict=True)
            if after < before and at - then <= longest and after <= longest
        ]
        if again:
            at, before = again[-1]
            often = "" if len(again) == 1 else f"{len(again)} times, last "
            ago = format_duration(float(evidence.times[-1]) - at)
            yield (
                f"{_name(place)} was restarted",
                f"{often}{ago} ago, after it had run for {format_duration(min(before, _LONGEST))}",
            )


def _outstanding(shares: Mapping[str, float]) -> Iterator[tuple[str, float, float]]:
    """Place and value of each member, with the median of the others; none where there are too few."""
    if len(shares) >= _LEAST:
        for place, share in shares.items():
            yield place, share, median(value for other, value in shares.items() if other != place)


def _name(place: str) -> str:
    return place_label(place).capitalize()


def _names(places: Sequence[str]) -> str:
    """Return a few places in words: ``worker 1, worker 2 and 5 more``."""
    words = [place_label(place) for place in places[:_NAMED]]
    more = len(places) - _NAMED
    return ", ".join(words) + (f" and {more} more" if more > 0 else "")


FULLER = Rule(
    "warning",
    "split its data into smaller partitions, or spread them again (in Dask: client.rebalance(), in Ray: "
    'scheduling_strategy="SPREAD")',
    _fuller,
)
SLOWER = Rule(
    "warning",
    "look at what it waits for: its disk, the network, other programs on its machine",
    _slower,
)
SKEWED = Rule("warning", "split the work into more and smaller parts, so that all have some", _skewed)
RESTARTED = Rule(
    "warning",
    "look into its log; Dask restarts a worker that uses 95 % of its memory limit",
    _restarted,
)
