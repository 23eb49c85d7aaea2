"""The button that starts a stopped monitor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ipywidgets

from perfmon_widgets.panel.controls import Control
from perfmon_widgets.panel.layout import Layout

if TYPE_CHECKING:
    from perfmon_widgets.core.protocol import Monitor


def start(monitor: Monitor) -> Control:
    """Return a button that starts the monitor; it is there only while the monitor is stopped."""
    button = ipywidgets.ToggleButton(
        description="Start",
        tooltip="Take samples from now on: the monitor is stopped",
        layout=Layout(width="auto"),
    )

    def act(wanted: bool) -> None:
        if wanted:
            monitor.start()
            button.value = False
            button.send_state("value")  # the browser shows it pressed

    def show() -> None:
        button.layout.display = "none" if monitor.running else None

    return Control("Start", button, "value", act, show)
