"""The headline: the columns that come first in every user interface, by ``Metric.role`` and not by name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from perfmon_widgets.metrics import Metric, place_label

# What comes before and after the columns of the machine.
_ORDER = {"process": -1, "gpu": 1}


def headline(metrics: Sequence[Metric]) -> list[Metric]:
    """Return the columns that come first: the process's, then the machine's, then those of each GPU.

    These are the columns with the role ``headline``. A history that was read from a CSV file has none. Then
    they are the columns without a role that are about the whole machine, the process or a GPU, and are not
    the limit of another column.
    """
    limits = {metric.limit for metric in metrics}
    chosen = [metric for metric in metrics if metric.role == "headline"] or [
        metric
        for metric in metrics
        if not metric.role and metric.name not in limits and (not metric.where or metric.group == "gpu")
    ]
    return _ordered(chosen)


def headline_of_cells(metrics: Sequence[Metric]) -> list[Metric]:
    """Return the part of the headline that shows what a cell used: the columns of the process and the GPUs.

    GPUs are counted as a whole, since what this process alone uses of them is not measured.
    """
    return [metric for metric in headline(metrics) if metric.group in _ORDER]


def headline_of_command(metrics: Sequence[Metric]) -> list[Metric]:
    """Return the headline, the other columns of the process, and the power of each GPU."""
    chosen = {metric.name for metric in headline(metrics)}
    return _ordered(
        metric
        for metric in metrics
        if metric.name in chosen
        or (
            not metric.role and (metric.group == "process" or (metric.group, metric.unit) == ("gpu", "watts"))
        )
    )


class Gpu(NamedTuple):
    """The headline columns of one GPU."""

    label: str
    """``GPU 0``."""
    busy: str
    """The column that says how busy it is, in percent."""
    memory: str
    """The column that says how much of its memory is in use, in bytes."""


def gpus(metrics: Sequence[Metric]) -> list[Gpu]:
    """Return the headline columns of each GPU that has both, in the order in which they are declared."""
    columns: dict[str, dict[str, str]] = {}
    for metric in headline(metrics):
        if metric.group == "gpu":
            columns.setdefault(metric.where, {}).setdefault(metric.unit, metric.name)
    return [
        Gpu(place_label(where), of_unit["percent"], of_unit["bytes"])
        for where, of_unit in columns.items()
        if {"percent", "bytes"} <= of_unit.keys()
    ]


def _ordered(metrics: Iterable[Metric]) -> list[Metric]:
    """Return the metrics by group, and within a group in the order in which they are declared."""
    return sorted(metrics, key=lambda metric: _ORDER.get(metric.group, 0))
