"""The newest sample in Prometheus' text format. The only file of web/ that knows prometheus_client.

That library takes 30 ms to load. The imports are inside the functions, so that only a scraper pays for it.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prometheus_client import Metric as Family

    from perfmon_widgets.core.protocol import Monitor

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_logger = logging.getLogger(__name__)

# Labels such as ``core3``. Excluded are names that begin with two underscores, which Prometheus reserves,
# and the two labels that have a meaning of their own here.
_NUMBERED = re.compile(r"(?!__|(?:where|kernel_id)\d)([A-Za-z_]+)(\d+)")
_TIME = "perfmon_sample_time_seconds"


def exposition(monitor: Monitor) -> bytes:
    """Return the newest sample as text: ``gpu0/power_watts`` becomes ``perfmon_power_watts{gpu="0"}``.

    A missing number is left out, which ends the line in a graph; NaN would make every average over it NaN.
    Two columns may become the same series, for example if they differ only in a character that Prometheus
    does not allow. Then all but the first get their whole name as the label ``column``.
    """
    from prometheus_client import Metric as Family  # noqa: PLC0415

    sample = monitor.latest
    families: dict[str, Family] = {}
    seen: set[tuple[object, ...]] = {(_TIME,)}  # Prometheus rejects a scrape in which a series comes twice
    for metric in monitor.metrics:
        what = metric.name.rpartition("/")[2]
        name = f"perfmon_{re.sub('[^A-Za-z0-9_]', '_', what)}"
        family = families.setdefault(name, Family(name, metric.help, "gauge"))
        labels = _labels(metric.where)
        value = sample.values.get(metric.name, math.nan) if sample else math.nan
        series = (name, *sorted(labels.items()))
        if series in seen:
            labels["column"] = metric.name
        seen.add(series)  # also while its number is missing: no column takes over the series of another
        if math.isfinite(value):
            family.add_sample(name, labels, value)
    if sample:
        family = Family(_TIME, "When these numbers were read, as Unix time.", "gauge")
        families.setdefault(_TIME, family).add_sample(_TIME, {}, sample.time)
    return _text(families.values())


def joined(expositions: Mapping[str, bytes]) -> bytes:
    """Join the expositions of several Jupyter kernels; each series gets the label ``kernel_id``.

    An exposition that cannot be parsed is logged and left out, and the others stay.
    """
    from prometheus_client.parser import text_string_to_metric_families  # noqa: PLC0415

    families: dict[str, Family] = {}
    for kernel_id, text in expositions.items():
        try:
            parsed = list(text_string_to_metric_families(text.decode()))
        except Exception as error:  # noqa: BLE001 - any error costs the series of this kernel only
            _logger.warning("cannot parse the metrics of kernel %s: %s", kernel_id, error)
            continue
        for family in parsed:
            samples, family.samples = family.samples, []
            known = families.setdefault(family.name, family)
            for sample in samples:
                known.add_sample(sample.name, {**sample.labels, "kernel_id": kernel_id}, sample.value)
    return _text(families.values())


def _labels(where: str) -> dict[str, str]:
    """Return the labels for the part of a name before the last slash.

    ``core3`` becomes ``core="3"``; a part without a number becomes ``where``.
    """
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

    collector: Any = Stored()  # generate_latest() only calls collect(), but asks for a registry
    return generate_latest(collector)
