"""How columns are related: groups, limits and parts, from declared metrics or from names alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from perfmon_widgets.metrics import RECORDED, Metric, unit_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The sections in the order of the panel. Other groups follow under their own names, in declared order.
_TITLES = {
    "gpu": "GPU",
    "cpu": "CPU",
    "memory": "Memory",
    "disk": "Disk",
    "network": "Network",
    "process": "This process",
    "workers": "Workers",
    "ranks": "Ranks",
    "hosts": "Hosts",
    RECORDED: "Recorded values",
}
# The group that a name belongs to: by what precedes the slash, or else by how the rest begins.
_GROUPS_OF_PLACES = {
    **{f"{kind}s": re.compile(rf"^{kind}\d+(/|$)") for kind in ("worker", "rank", "host")},
    "gpu": re.compile(r"(^|/)gpu\d*$"),
    "cpu": re.compile(r"(^|/)core\d*$"),
}
_GROUPS_OF_WORDS = {
    "cpu": ("cpu_", "host_cpu_"),
    "memory": ("ram_", "host_ram_", "swap_", "memory_"),
    "disk": ("disk_", "io_pressure_"),
    "network": ("network_",),
    "process": ("process_",),
}
# The sources of what the user records: see core/recorded.py and core/steps.py.
_RECORDING = ("record()", "steps()")
_PART = re.compile(r"(^|/)core\d+$")


def groups(metrics: Sequence[Metric]) -> dict[str, list[Metric]]:
    """The metrics by group; the known groups come first and in their order, the recorded ones last."""
    found: dict[str, list[Metric]] = {name: [] for name in _TITLES if name != RECORDED}
    for metric in sorted(metrics, key=lambda metric: metric.group == RECORDED):
        found.setdefault(metric.group, []).append(metric)
    return {name: members for name, members in found.items() if members}


def title_of(group: str) -> str:
    """The title of a group's section."""
    return _TITLES.get(group, group)


def group_of(name: str) -> str:
    """The group that a column's name belongs to: ``gpu`` for ``gpu0/power_watts``; empty if to none."""
    where, _, what = name.rpartition("/")
    for group, pattern in _GROUPS_OF_PLACES.items():
        if pattern.search(where):
            return group
    return next((group for group, words in _GROUPS_OF_WORDS.items() if what.startswith(words)), "")


def is_part(metric: Metric) -> bool:
    """Whether the column is one of many that another column sums up, such as a single CPU."""
    return metric.role == "part" or (not metric.role and _PART.search(metric.where) is not None)


def without_limits(metrics: Sequence[Metric]) -> list[Metric]:
    """The metrics that may be drawn as lines: a limit is so large that the other lines would look flat."""
    limits = {metric.limit for metric in metrics}
    return [metric for metric in metrics if metric.role != "limit" and metric.name not in limits]


def metrics_of(names: Sequence[str], values: NDArray[np.float64], attrs: Mapping[Any, Any]) -> list[Metric]:
    """A Metric for each column of a history, from its ``attrs`` or, as for a log read back, from its name.

    ``values``: of shape (rows, names). A column of which at most the unit is known counts as recorded if it
    has values only now and then. Raises ValueError for a name that no column can have.
    """
    metrics = []
    for name, column in zip(names, values.T, strict=True):
        declared = attrs.get(name, {})
        group, source = group_of(name), declared.get("source", "")
        if source in _RECORDING or ("help" not in declared and not group and _is_sparse(column)):
            group = RECORDED
        unit = declared["unit"] if declared else unit_of(name)
        role = "limit" if "limit_" in name else ""
        metrics.append(Metric(name, unit, group, declared.get("help", ""), source=source, role=role))
    return metrics


def _is_sparse(values: NDArray[np.float64]) -> bool:
    """Whether most values have a row without a value before and after them."""
    known = np.isfinite(values)
    runs = np.count_nonzero(np.diff(known.astype(int), prepend=0) == 1)
    return bool(not known.all() and np.count_nonzero(known) < 2 * runs)
