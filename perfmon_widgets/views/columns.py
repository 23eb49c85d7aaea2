"""How columns are related: groups, limits and parts, from declared metrics or from names alone."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from perfmon_widgets.metrics import RECORDED, Metric, label_of, place_label, unit_of

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
    "nodes": "Nodes",
    "hosts": "Hosts",
    RECORDED: "Recorded values",
}
# The group that a name belongs to: by what precedes the slash, or else by how the rest begins.
_GROUPS_OF_PLACES = {
    **{f"{kind}s": re.compile(rf"^{kind}\d+(/|$)") for kind in ("worker", "rank", "node", "host")},
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
# Up to so many things of one kind are drawn as lines that share a figure.
_FEW = 2
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


def amounts(metrics: Sequence[Metric]) -> dict[str, str]:
    """The amount that says the same as a percentage, by the name of the percentage.

    ``ram_percent`` is ``ram_used_bytes`` of ``ram_limit_bytes``. Which limit an amount has is declared.
    """
    units = {metric.name: metric.unit for metric in metrics}
    found = {}
    for metric in metrics:
        stem = metric.name.removesuffix(f"_used_{metric.unit}")
        percent = f"{stem}_percent"
        if metric.limit == f"{stem}_limit_{metric.unit}" and units.get(percent) == "percent":
            found[percent] = metric.name
    return found


def alike(metrics: Sequence[Metric]) -> dict[str, dict[str, Metric]]:
    """The columns of things of one kind, such as GPUs, by place and quantity, where there are many.

    ``{"gpu0": {"power_watts": …}, …}``; ``metrics`` are those of one group. Empty unless more than two places
    have a quantity in common. The lines of two can be told apart in one figure; those of three GPUs are nine
    percentages. Single CPUs and other parts do not count, since another column sums them up, nor do recorded
    series, whose places may be of any kind.
    """
    places: dict[str, dict[str, Metric]] = {}
    for metric in metrics:
        if metric.where and not is_part(metric) and metric.group != RECORDED:
            places.setdefault(metric.where, {})[metric.what] = metric
    count = Counter(what for quantities in places.values() for what in quantities)
    shared = {what for what, number in count.items() if number > _FEW}
    found = {
        where: {what: metric for what, metric in quantities.items() if what in shared}
        for where, quantities in places.items()
    }
    return {where: quantities for where, quantities in found.items() if quantities}


def quantity_label(metric: Metric) -> str:
    """What is measured, in words and without the place: ``power`` of ``gpu0/power_watts``."""
    own = metric.label.removeprefix(place_label(metric.where)).strip()
    return own or label_of(metric.what, metric.unit)


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
