"""The choice of how often a sample is taken."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import ipywidgets

from perfmon_widgets.panel.controls import Control

if TYPE_CHECKING:
    from perfmon_widgets.core.protocol import Monitor

_SECONDS = (5.0, 6.0, 7.0)


def interval(monitor: Monitor) -> Control:
    """Return a choice of 5, 6 or 7 seconds, and of what the monitor has if that is another interval."""
    choice = ipywidgets.Dropdown(
        description="every",
        tooltip="How often a sample is taken",
        options=_options(sorted({*_SECONDS, monitor.interval})),
        value=monitor.interval,
        style={"description_width": "auto"},
        layout={"width": "auto", "margin": "2px 6px"},
    )

    def act(seconds: float) -> None:
        if seconds != monitor.interval:
            monitor.interval = seconds

    return Control("interval", choice, "value", act, lambda: offer(choice, monitor.interval))


def offer(choice: ipywidgets.Dropdown, seconds: float) -> None:
    """Choose an interval, and add it to the options if it is not among them."""
    known = [each for _, each in choice.options]
    if seconds in known:
        choice.value = seconds
    else:
        # ipywidgets selects the first of the new options, so the interval must come first. In any other order
        # the choice would change twice, and the first change would set a wrong interval.
        choice.options = _options([seconds, *known])


def _options(seconds: Iterable[float]) -> list[tuple[str, float]]:
    return [(f"{each:g} s", each) for each in seconds]
