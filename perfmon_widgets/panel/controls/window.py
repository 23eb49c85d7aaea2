"""The choice of how much of the history the charts show."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import ipywidgets

from perfmon_widgets.panel.controls import Control
from perfmon_widgets.panel.layout import Layout

if TYPE_CHECKING:
    from perfmon_widgets.core.protocol import Monitor

_SECONDS = (60.0, 300.0, 600.0)


def window(monitor: Monitor, set_window: Callable[[float], object]) -> Control:
    """Return a choice of 1, 5 or 10 minutes, as far as the monitor keeps them; it calls ``set_window``."""
    choice = ipywidgets.Dropdown(
        description="Show last",
        tooltip="How much of the history the charts show",
        options=[(f"{each / 60:g} min" if each >= 60 else f"{each:g} s", each) for each in _offered(monitor)],
        value=widest(monitor),
        style={"description_width": "auto"},
        layout=Layout(width="auto"),
    )
    return Control("chart window", choice, "value", set_window)


def widest(monitor: Monitor) -> float:
    """Return the longest window that is offered, in seconds: the charts show it at first."""
    return _offered(monitor)[-1]


def _offered(monitor: Monitor) -> list[float]:
    return sorted({min(each, monitor.window) for each in _SECONDS})
