"""What the gauges say of a sample: which gauges there are, and for each the number and the words."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from typing import NamedTuple

from perfmon_widgets.metrics import Metric, Sample
from perfmon_widgets.views.text import MISSING, format_used, format_value


class Reading(NamedTuple):
    """One gauge's share of a sample."""

    percent: float
    """0–100, NaN where it is missing."""
    detail: str
    """The amount in words, or why the number is missing."""
    level: str = "normal"
    """``normal``, ``warning`` or ``critical``."""
    column: str = ""
    """Where ``percent`` comes from, if it has a column."""


def readings(
    metrics: Sequence[Metric], sample: Sample | None, errors: Mapping[str, str]
) -> dict[str, Reading]:
    """The reading of each gauge by its label: the GPUs in use, then CPU, RAM and disk where measured.

    Where no GPU has a number there is one gauge for it that says why.
    """
    values = sample.values if sample is not None else {}
    known = {metric.name: metric for metric in metrics}

    def number(name: str) -> float:
        return values.get(name, math.nan)

    shown = _gpus(metrics, number, errors)
    if "cpu_percent" in known:
        percent = number("cpu_percent")
        own = number("process_cpu_percent")
        detail = f"this kernel {format_value(own, 'percent')}" if math.isfinite(own) else ""
        shown["CPU"] = Reading(percent, detail, _level(percent, warning=95), "cpu_percent")
    for label, name in (("RAM", "ram"), ("Disk", "disk")):
        if f"{name}_percent" in known:
            percent = number(f"{name}_percent")
            detail = format_used(number(f"{name}_used_bytes"), number(f"{name}_limit_bytes"), "bytes")
            limit = known.get(f"{name}_limit_bytes")
            if limit is not None and detail != MISSING:
                detail += _whose(limit.source)
            level = _level(percent, warning=75, critical=90)
            shown[label] = Reading(percent, detail, level, f"{name}_percent")
    return {label: _explained(reading, label, errors) for label, reading in shown.items()}


def _whose(source: str) -> str:
    """Whose limit it is that was read there, where it is not the machine's."""
    if source == "MEM_LIMIT":
        return " (JupyterHub)"
    return " (container)" if PurePath(source).name.startswith("memory.") else ""


def _gpus(
    metrics: Sequence[Metric], number: Callable[[str], float], errors: Mapping[str, str]
) -> dict[str, Reading]:
    """A gauge for each GPU with a number: how busy it is, how full its memory, coloured by the latter."""
    names: dict[str, list[str]] = {}
    for metric in metrics:
        if metric.group == "gpu":
            names.setdefault(metric.where, []).append(metric.name)
    shown = {}
    for where, columns in names.items():
        if any(math.isfinite(number(column)) for column in columns):
            label = "GPU" if len(names) == 1 else f"GPU {where.removeprefix('gpu')}"
            detail = format_used(
                number(f"{where}/memory_used_bytes"), number(f"{where}/memory_limit_bytes"), "bytes"
            )
            level = _level(number(f"{where}/memory_percent"), warning=90, critical=97)
            column = f"{where}/utilization_percent"
            shown[label] = Reading(number(column), detail, level, column if column in columns else "")
    if shown:
        return shown
    reasons = [errors[column] for columns in names.values() for column in columns if column in errors]
    reasons += [errors[name] for name in ("gpu", "NvidiaCollector", "AmdCollector") if name in errors]
    reasons.append("none in use yet" if names else "none found on this machine")
    return {"GPU": Reading(math.nan, reasons[0])}


def _explained(reading: Reading, label: str, errors: Mapping[str, str]) -> Reading:
    """The reading, with the reason for its detail if there is neither number nor amount."""
    if math.isfinite(reading.percent) or reading.detail not in ("", MISSING):
        return reading
    reason = errors.get(f"{label.lower()}_percent") or errors.get(
        "HostCollector", "waiting for a second sample"
    )
    return reading._replace(detail=reason)


def _level(percent: float, warning: float, critical: float = math.inf) -> str:
    if percent >= critical:
        return "critical"
    return "warning" if percent >= warning else "normal"
