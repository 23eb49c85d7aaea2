"""The choice of how much of the history the charts show."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import ipywidgets

from perfmon_widgets.panel.controls import Control
from perfmon_widgets.panel.layout import Layout
from perfmon_widgets.views.windows import window_in_words, windows

if TYPE_CHECKING:
    from perfmon_widgets.core.protocol import Monitor


def window(monitor: Monitor, set_window: Callable[[float], object]) -> Control:
    """Return a choice of 1, 5 or 10 minutes, as far as the monitor keeps them; it calls ``set_window``."""
    choice = ipywidgets.Dropdown(
        description="Show last",
        tooltip="How much of the history the charts show",
        options=[(window_in_words(each), each) for each in windows(monitor.window)],
        value=widest(monitor),
        style={"description_width": "auto"},
        layout=Layout(width="auto"),
    )
    return Control("chart window", choice, "value", set_window)


def widest(monitor: Monitor) -> float:
    """Return the longest window that is offered, in seconds: the charts show it at first."""
    return windows(monitor.window)[-1]
