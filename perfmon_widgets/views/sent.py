"""The readings of all gauges as they are sent to a browser, where gauge.js draws them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from perfmon_widgets.metrics import Sample
from perfmon_widgets.views.gauges import Reading


def sent(
    found: Mapping[str, Reading], sample: Sample | None, interval: float, *, running: bool
) -> dict[str, Any]:
    """Return the readings of a sample by label, with the state of the monitor, as what JSON can hold.

    ``state`` is ``live`` or ``stopped``: whether newer readings are to be expected.
    ``time`` is in Unix seconds, None before the first sample; ``interval`` is in seconds: readings that are
    older than three of them are shown as stale.
    """
    if sample is None:
        why = "starting…" if running else ""  # the browser says it once, next to the controls
        gauges: dict[str, Any] = {label: {"detail": why} for label in found}
    else:
        gauges = {label: in_json(reading) for label, reading in found.items()}
    return {
        "state": "live" if running else "stopped",
        "time": sample.time if sample is not None else None,
        "interval": interval,
        "gauges": gauges,
    }


def in_json(reading: Reading) -> dict[str, Any]:
    """Return a reading as it is sent with each sample, without missing and default values."""
    shown = {"detail": reading.detail, **_share(reading.percent, reading.level)}
    if reading.bar is not None:
        shown["bar"] = {"label": reading.bar.label, **_share(reading.bar.percent, reading.bar.level)}
    return shown


def _share(percent: float, level: str) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    if math.isfinite(percent):
        shown["value"] = round(percent, 1)
    if level != "normal":
        shown["level"] = level
    return shown
