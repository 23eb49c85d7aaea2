"""The choice of how often a sample is taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ipywidgets

from perfmon_widgets.panel.controls import Control
from perfmon_widgets.panel.layout import Layout

if TYPE_CHECKING:
    from perfmon_widgets.core.protocol import Monitor

_SECONDS = (1.0, 2.0, 5.0, 6.0, 7.0, 10.0)


def interval(monitor: Monitor) -> Control:
    """Return a choice of usual intervals, and of the one that the monitor has if that is another."""
    choice = ipywidgets.Dropdown(
        description="Sample every",
        tooltip="How often a sample is taken",
        options=_options(monitor.interval),
        value=monitor.interval,
        style={"description_width": "auto"},
        layout=Layout(width="auto"),
    )

    def act(seconds: float) -> None:
        if seconds != monitor.interval:
            monitor.interval = seconds

    return Control("interval", choice, "value", act, lambda: offer(choice, monitor.interval))


def offer(choice: ipywidgets.Dropdown, seconds: float) -> None:
    """Choose an interval; one that is not usual is an option as long as it is chosen."""
    if choice.value == seconds:
        return
    # ipywidgets selects the first of new options. A browser gets only the choice after that.
    with choice.hold_sync():
        choice.options = _options(seconds)
        choice.value = seconds


def _options(chosen: float) -> list[tuple[str, float]]:
    return [(f"{each:g} s", each) for each in sorted({*_SECONDS, chosen})]
