"""The panel's controls: the log switch, export, window and interval; heard while the kernel is busy."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any

import anywidget
import ipywidgets
import traitlets

from perfmon_widgets.panel.link import Link, script

if TYPE_CHECKING:
    from perfmon_widgets.core.csv_log import CsvLog

_INTERVALS = (5.0, 6.0, 7.0)
_WINDOWS = (300.0, 600.0)


class ExportButton(anywidget.AnyWidget):
    """A button that saves the history as a file of the browser's, with a hint beside it.

    The hint says when changes wait for the running cell to end, because nothing else reaches the kernel.
    """

    _esm = script("shared.js", "controls.js")
    _css = script("panel.css")  # of the whole panel, which has this button

    link = traitlets.Instance(Link, help="The link of the panel that it belongs to.").tag(
        sync=True, **ipywidgets.widget_serialization
    )

    def on_export(self, callback: Callable[[Callable[[bytes], None]], object]) -> None:
        """Call back when a browser asks for the file, with the function that sends it there."""

        def asked(_: ExportButton, content: dict[str, Any], __: object) -> None:
            if "export" in content:
                callback(lambda data: self._send_file(content["export"], data))

        self.on_msg(asked)

    def _send_file(self, request: str, data: bytes) -> None:
        name = f"perfmon-{datetime.now():%Y%m%d-%H%M%S}.csv"
        self.send({"export": request, "name": name}, buffers=[data])

    def __repr__(self) -> str:
        return "<ExportButton>"


def log_checkbox() -> ipywidgets.Checkbox:
    """The switch that mirrors the history to a CSV file."""
    return ipywidgets.Checkbox(
        description="Log to CSV",
        indent=False,
        tooltip="Write each sample to a file in the working directory",
        layout={"width": "auto"},
    )


def interval_choice(interval: float) -> ipywidgets.Dropdown:
    """Seconds between samples: 5 to 7, and what the monitor has now."""
    return ipywidgets.Dropdown(
        description="every",
        tooltip="How often a sample is taken",
        options=_intervals(sorted({*_INTERVALS, interval})),
        value=interval,
        style={"description_width": "auto"},
        layout={"width": "auto", "margin": "2px 6px"},
    )


def offer_interval(choice: ipywidgets.Dropdown, interval: float) -> None:
    """Show an interval as the chosen one, as one more option if it is none of those."""
    known = [each for _, each in choice.options]
    if interval in known:
        choice.value = interval
    else:
        # New options choose the first: any other order would choose twice, and set the monitor to the first.
        choice.options = _intervals([interval, *known])


def _intervals(seconds: Iterable[float]) -> list[tuple[str, float]]:
    return [(f"{each:g} s", each) for each in seconds]


def window_choice(longest: float) -> ipywidgets.Dropdown:
    """How much of the history the charts show: 5 or 10 minutes, as far as it is kept."""
    windows = sorted({min(each, longest) for each in _WINDOWS})
    return ipywidgets.Dropdown(
        description="last",
        tooltip="How much of the history the charts show",
        options=[(f"{each / 60:g} min" if each >= 60 else f"{each:g} s", each) for each in windows],
        value=windows[-1],
        style={"description_width": "auto"},
        layout={"width": "auto", "margin": "2px 6px"},
    )


def log_state(log: CsvLog) -> str:
    """What the log is doing, as HTML: the file and its rows, or what went wrong."""
    if log.error:
        return problem(log.error)
    if log.path is None:
        return ""
    rows = f"{log.rows} row{'' if log.rows == 1 else 's'}"
    name, full = html.escape(log.path.name), html.escape(str(log.path), quote=True)
    ended = "" if log.running else ", closed"
    return f'<span class="perfmon-log" title="{full}">{name}: {rows}{ended}</span>'


def problem(sentence: str) -> str:
    """What went wrong, as HTML."""
    return f'<span class="perfmon-error" role="alert">{html.escape(sentence)}</span>'


def fallback() -> ipywidgets.HTML:
    """What is seen, because nothing hides it, where the Jupyter server lacks what the panel is drawn with."""
    text = ipywidgets.HTML(
        "The gauges need the extensions of anywidget and bqplot in the environment of the <b>Jupyter "
        "server</b>, which may be another one than that of this kernel. Run <code>pip install anywidget "
        "bqplot</code> there and load this page again.",
        layout={"order": "-1"},  # seen above the rest
    )
    text.add_class("perfmon-fallback")
    return text
