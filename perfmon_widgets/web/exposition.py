"""The newest sample as Prometheus reads it. The only file that knows prometheus_client.

That takes 30 ms to load, which only a scraper needs to pay; hence the imports inside.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prometheus_client import Metric as Family

    from perfmon_widgets.core.monitor import PerformanceMonitor

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_logger = logging.getLogger(__name__)

# A name with two underscores in front is Prometheus' own; one of these two is given a meaning below.
_NUMBERED = re.compile(r"(?!__|(?:where|kernel_id)\d)([A-Za-z_]+)(\d+)")
_TIME = "perfmon_sample_time_seconds"


def exposition(monitor: PerformanceMonitor) -> bytes:
    """The newest sample in Prometheus' text format: ``gpu0/power_watts`` is ``perfmon_power_watts{gpu="0"}``.

    A missing number is left out, which ends the line in a graph; NaN would spoil every average over it. Of
    columns that would be one series, such as those that differ in a letter that Prometheus does not know, all
    but the first have their whole name as the label ``column``.
    """
    from prometheus_client import Metric as Family  # noqa: PLC0415

    sample = monitor.latest
    families: dict[str, Family] = {}
    seen: set[tuple[object, ...]] = {(_TIME,)}  # one series told twice would cost the whole scrape
    for metric in monitor.metrics:
        what = metric.name.rpartition("/")[2]
        name = f"perfmon_{re.sub('[^A-Za-z0-9_]', '_', what)}"
        family = families.setdefault(name, Family(name, metric.help, "gauge"))
        labels = _labels(metric.where)
        value = sample.values.get(metric.name, math.nan) if sample else math.nan
        series = (name, *sorted(labels.items()))
        if series in seen:
            labels["column"] = metric.name
        seen.add(series)  # also while it is missing: no column takes the series of another
        if math.isfinite(value):
            family.add_sample(name, labels, value)
    if sample:
        family = Family(_TIME, "When these numbers were read, as Unix time.", "gauge")
        families.setdefault(_TIME, family).add_sample(_TIME, {}, sample.time)
    return _text(families.values())


def joined(expositions: Mapping[str, bytes]) -> bytes:
    """The expositions of several Jupyter kernels, by their ids, as one; ``kernel_id`` labels each series.

    One that cannot be understood is left out, and told to the log: the others are not to suffer for it.
    """
    from prometheus_client.parser import text_string_to_metric_families  # noqa: PLC0415

    families: dict[str, Family] = {}
    for kernel_id, text in expositions.items():
        try:
            told = list(text_string_to_metric_families(text.decode()))
        except Exception as error:  # noqa: BLE001 - whatever it is, it costs this kernel's series only
            _logger.warning("what kernel %s tells of itself cannot be understood: %s", kernel_id, error)
            continue
        for family in told:
            samples, family.samples = family.samples, []
            known = families.setdefault(family.name, family)
            for sample in samples:
                known.add_sample(sample.name, {**sample.labels, "kernel_id": kernel_id}, sample.value)
    return _text(families.values())


def _labels(where: str) -> dict[str, str]:
    """What stands before the slash: ``core3`` is ``core="3"``; what is not numbered is a ``where``."""
    labels: dict[str, str] = {}
    for part in where.split("/") if where else ():
        numbered = _NUMBERED.findall(part)
        if numbered and "".join(map("".join, numbered)) == part:
            labels.update(numbered)
        else:
            labels["where"] = f"{labels['where']}/{part}" if "where" in labels else part
    return labels


def _text(families: Iterable[Family]) -> bytes:
    from prometheus_client import generate_latest  # noqa: PLC0415

    class Stored:
        def collect(self) -> Iterable[Family]:
            return families

    collector: Any = Stored()  # anything with collect() will do, whatever the annotation says
    return generate_latest(collector)
