"""The switch that mirrors the history to a CSV file."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

import ipywidgets

from perfmon_widgets.panel.controls import Control
from perfmon_widgets.panel.layout import Layout

if TYPE_CHECKING:
    from perfmon_widgets.core.csv_log import CsvLog
    from perfmon_widgets.core.protocol import Monitor


def log_to_csv(monitor: Monitor) -> Control:
    """Return a checkbox that starts and stops the log, with the file and its rows as a note."""
    box = ipywidgets.Checkbox(
        description="Log to CSV",
        indent=False,
        tooltip="Write each sample to a file in the working directory",
        layout=Layout(width="auto"),
    )
    note = ipywidgets.HTML(layout=Layout(min_width="0"))

    def act(wanted: bool) -> None:
        log = monitor.log
        if wanted == log.running:
            return
        try:
            log.start() if wanted else log.stop()
        except OSError:  # the log keeps the reason, and the note shows it
            box.value = False
            box.send_state("value")  # the browser has ticked its own box

    def show() -> None:
        box.value = monitor.log.running
        note.value = state_of(monitor.log)

    return Control("Log to CSV", box, "value", act, show, note)


def state_of(log: CsvLog) -> str:
    """Return what the log does as HTML: the name of the file and its rows, or what went wrong."""
    if log.error:
        return f'<span class="perfmon-error" role="alert">{html.escape(log.error)}</span>'
    if log.path is None:
        return ""
    rows = f"{log.rows} row{'' if log.rows == 1 else 's'}"
    name, full = html.escape(log.path.name), html.escape(str(log.path), quote=True)
    ended = "" if log.running else ", closed"
    return f'<span class="perfmon-log" title="{full}">{name}: {rows}{ended}</span>'
