"""What the gauges show of a sample: which gauges there are, and for each the number and the words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from perfmon_widgets.metrics import Metric, Sample, place_label
from perfmon_widgets.views.text import MISSING, align, format_used, format_value

# From how many percent on a gauge has another level. The findings use the same numbers.
WARNING, CRITICAL = 75.0, 90.0
"""Of memory and disk."""
CPU_WARNING = 95.0
GPU_MEMORY_WARNING, GPU_MEMORY_CRITICAL = 90.0, 97.0

_NO_GPU = "none found on this machine"
# The gauge of a group of processes of one kind.
_MEMBERS = {"workers": "Workers", "ranks": "Ranks", "nodes": "Nodes"}


class Bar(NamedTuple):
    """A second share, which a gauge shows as a thin bar below its ring's words: the memory of a GPU."""

    label: str
    """What it is a share of, in a word."""
    percent: float
    """0–100."""
    level: str = "normal"
    """``normal``, ``warning`` or ``critical``."""


class Reading(NamedTuple):
    """What one gauge shows of a sample."""

    percent: float
    """0–100, NaN where it is missing."""
    detail: str
    """The amount in words, or why the number is missing."""
    level: str = "normal"
    """``normal``, ``warning`` or ``critical``."""
    column: str = ""
    """The column that ``percent`` comes from; empty if there is none."""
    bar: Bar | None = None
    """The share that ``detail`` is about, where that is not ``percent``; None if it is missing."""

    @property
    def words(self) -> str:
        """The detail, and in front of it the share that it is about: ``memory 89%, 71 of 80 GiB``."""
        if self.bar is None:
            return self.detail
        share = f"{self.bar.label} {format_value(self.bar.percent, 'percent')}"
        return share if self.detail in ("", MISSING) else f"{share}, {self.detail}"


class _Row:
    """A sample with what is known about its columns."""

    def __init__(self, metrics: Sequence[Metric], sample: Sample | None, errors: Mapping[str, str]) -> None:
        self.metrics = {metric.name: metric for metric in metrics}
        self._values = sample.values if sample is not None else {}
        self._errors = errors

    def number(self, column: str) -> float:
        """Return the value of a column; NaN where it is missing."""
        return self._values.get(column, math.nan)

    def used(self, prefix: str) -> str:
        """Return how much of how many bytes is used, and who set the limit if it is not the machine's."""
        limit = f"{prefix}_limit_bytes"
        words = format_used(self.number(f"{prefix}_used_bytes"), self.number(limit), "bytes")
        set_by = self.metrics[limit].set_by if limit in self.metrics else ""
        return f"{words} ({set_by})" if set_by and words != MISSING else words

    def reason(self, columns: Sequence[str], group: str, otherwise: str) -> str:
        """Return why the numbers of these columns are missing.

        A source that is broken as a whole may have no columns; it gives its reason for the group.
        """
        reasons = [self._errors[column] for column in columns if column in self._errors]
        return reasons[0] if reasons else self._errors.get(group, otherwise)


def readings(
    metrics: Sequence[Metric], sample: Sample | None, errors: Mapping[str, str]
) -> dict[str, Reading]:
    """Return the reading of each gauge by its label: workers, the GPUs in use, CPU, RAM and disk if measured.

    Where no GPU has a number there is one gauge for it that says why; where the machine has none, it is the
    last. ``errors`` gives, by column or by group, the reason why a number is missing, as ``monitor.errors``
    does.
    """
    row = _Row(metrics, sample, errors)
    shown = {**_members(row), **_gpus(row)}
    if "cpu_percent" in row.metrics:
        own = row.number("process_cpu_percent")
        detail = f"this kernel {format_value(own, 'percent')}" if math.isfinite(own) else ""
        # Busy CPUs are what training wants, unless it is others that keep them busy.
        is_ours = own >= row.number("cpu_percent") / 2
        shown["CPU"] = _reading(row, "cpu_percent", detail, math.inf if is_ours else CPU_WARNING)
    for label, name in (("RAM", "ram"), ("Disk", "disk")):
        if f"{name}_percent" in row.metrics:
            shown[label] = _space(row, name, WARNING, CRITICAL)
    if "GPU" in shown and shown["GPU"].detail == _NO_GPU:
        shown["GPU"] = shown.pop("GPU")
    return shown


def _space(row: _Row, name: str, warning: float, critical: float) -> Reading:
    """Return the reading of memory or disk.

    In a container, memory in use may be file cache that goes at once. Then the level depends on the rest, and
    the words say so.
    """
    reading = _reading(row, f"{name}_percent", row.used(name), warning, critical)
    used, unreclaimable = row.number(f"{name}_used_bytes"), row.number(f"{name}_unreclaimable_bytes")
    level = _level(share_held(reading.percent, used, unreclaimable), warning, critical)
    if level == reading.level:
        return reading
    detail = f"{reading.detail}, {format_value(used - unreclaimable, 'bytes')} of it cache"
    return reading._replace(level=level, detail=detail)


def share_held(percent: float, used: float, unreclaimable: float) -> float:
    """Return how much of a limit is in use without file cache, which goes at once.

    ``percent`` is the share with it; that is returned if one of the two amounts in bytes is missing.
    """
    return percent * unreclaimable / used if used > unreclaimable else percent


def in_lines(metrics: Sequence[Metric], sample: Sample | None, errors: Mapping[str, str]) -> str:
    """Return the readings as aligned lines of text, and below them what this process uses.

    Each line has a label, a number, and the amount in words or the reason why the number is missing.
    """
    rows = [
        (label, format_value(reading.percent, "percent"), reading.words)
        for label, reading in readings(metrics, sample, errors).items()
    ]
    values = sample.values if sample is not None else {}
    for metric in metrics:
        if metric.group == "process" and metric.role != "part":
            value = values.get(metric.name, math.nan)
            reason = "" if math.isfinite(value) else errors.get(metric.name, "waiting for a second sample")
            rows.append((metric.label, format_value(value, metric.unit), reason))
    return align(rows, left=(0, 2))


def _reading(row: _Row, column: str, detail: str, warning: float, critical: float = math.inf) -> Reading:
    """Return the reading of a column; its detail is the reason where neither number nor amount is known."""
    percent = row.number(column)
    if math.isnan(percent) and detail in ("", MISSING):
        detail = row.reason([column], row.metrics[column].group, "waiting for a second sample")
    return Reading(percent, detail, _level(percent, warning, critical), column)


def _gpus(row: _Row) -> dict[str, Reading]:
    """Return the reading of each GPU with a number: how busy it is, and as a bar how full its memory is.

    A busy GPU is what training wants, so only the bar has levels.
    """
    columns: dict[str, list[str]] = {}
    for metric in row.metrics.values():
        if metric.group == "gpu":
            columns.setdefault(metric.where, []).append(metric.name)
    shown = {}
    for where, names in columns.items():
        if any(math.isfinite(row.number(name)) for name in names):
            label = "GPU" if len(columns) == 1 else f"GPU {where.removeprefix('gpu')}"
            busy = f"{where}/utilization_percent"
            shown[label] = Reading(
                row.number(busy),
                row.used(f"{where}/memory"),
                column=busy if busy in names else "",
                bar=_memory(row.number(f"{where}/memory_percent")),
            )
    if shown:
        return shown
    all_names = [name for names in columns.values() for name in names]
    otherwise = "none in use yet" if columns else _NO_GPU
    return {"GPU": Reading(math.nan, row.reason(all_names, "gpu", otherwise))}


def _members(row: _Row) -> dict[str, Reading]:
    """Return a reading of all workers, ranks or nodes: how busy they are, and whose memory is fullest.

    That is the mean of their shares of CPU time. Those without a number, which have left, do not count.
    """
    places: dict[str, list[str]] = {}
    for metric in row.metrics.values():
        if metric.group in _MEMBERS and metric.name == f"{metric.where}/cpu_percent":
            places.setdefault(metric.group, []).append(metric.where)
    shown = {}
    for group, names in places.items():
        busy = {where: row.number(f"{where}/cpu_percent") for where in names}
        known = {where: value for where, value in busy.items() if math.isfinite(value)}
        label = _MEMBERS[group]
        if not known:
            reason = row.reason([f"{where}/cpu_percent" for where in names], group, "none has a number yet")
            shown[label] = Reading(math.nan, reason)
            continue
        mean = sum(known.values()) / len(known)
        memory = {where: row.number(f"{where}/ram_percent") for where in known}
        fullest = max(memory, key=lambda where: (math.isfinite(memory[where]), memory[where]))
        left = len(names) - len(known)
        count = f"{len(known)} of {len(names)}" if left else f"{len(known)}"
        if math.isnan(memory[fullest]):
            shown[label] = Reading(mean, count)
        else:
            place, percent = place_label(fullest), memory[fullest]
            # Without the count if all are there: there is space for some twenty letters.
            some = f"{count}, " if left else ""
            detail = f"{some}fullest {place}: RAM {format_value(percent, 'percent')}"
            bar = Bar(f"RAM of {place}", percent, _level(percent, WARNING, CRITICAL))
            shown[label] = Reading(mean, detail, bar=bar)
    return shown


def _memory(percent: float) -> Bar | None:
    """Return the bar of a GPU's memory."""
    if math.isnan(percent):
        return None
    return Bar("memory", percent, _level(percent, GPU_MEMORY_WARNING, GPU_MEMORY_CRITICAL))


def _level(percent: float, warning: float, critical: float = math.inf) -> str:
    if percent >= critical:
        return "critical"
    return "warning" if percent >= warning else "normal"
