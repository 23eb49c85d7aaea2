"""The button that downloads the history as a CSV file."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import anywidget
import ipywidgets
import traitlets

from perfmon_widgets.core.parts import Flow, paced
from perfmon_widgets.panel.controls import Control
from perfmon_widgets.panel.layout import Layout
from perfmon_widgets.panel.link import Link, script

if TYPE_CHECKING:
    from perfmon_widgets.core.protocol import Monitor


class ExportButton(anywidget.AnyWidget):
    """A button that makes the browser download the history as a file, with a hint next to it.

    The hint says when changes of the controls wait for the running cell to end, because the front end has no
    other way to the kernel.
    """

    _esm = script("shared.js", "controls/export_csv.js")
    _css = script("panel.css")  # of the whole panel, which always has this button

    link = traitlets.Instance(Link, help="The link of the panel that it belongs to.").tag(
        sync=True, **ipywidgets.widget_serialization
    )
    request = traitlets.Unicode(help="The newest request for the file: a name that the browser made up.")

    def __init__(self, **traits: Any) -> None:
        super().__init__(layout=Layout(), **traits)
        self._flows: dict[str, Flow] = {}
        """Of the requests whose view sends receipts, by the name of the request."""
        self.on_msg(self._receive)

    def _receive(self, _: ExportButton, content: dict[str, Any], __: object) -> None:
        if "export" in content:
            request = str(content["export"])
            if content.get("receipts"):
                self._flows[request] = Flow()
            self.request = request
        elif content.get("received") in self._flows:
            self._flows[content["received"]].received(more=content.get("more", True))

    def send_file(self, request: str, parts: Iterable[bytes]) -> None:
        """Send the parts of the file to the browser, where the view that made the request saves it.

        Returns when the last one is sent, or when the view wants no more of them, because it has asked for
        another file or was removed, or sends no receipts any more, because its page was lost. To a view that
        cannot send them while a cell runs, all parts are sent in one message.
        """
        name = f"perfmon-{datetime.now():%Y%m%d-%H%M%S}.csv"
        flow = self._flows.get(request)
        try:
            if flow is None:
                self.send({"export": request, "name": name}, buffers=[*parts])
                return
            before = None
            for part in parts:
                if before is not None:
                    if not flow.wait():
                        return
                    self.send({"export": request}, buffers=[before])
                before = part
            self.send({"export": request, "name": name}, buffers=[before or b""])
        finally:
            self._flows.pop(request, None)

    def __repr__(self) -> str:
        return "<ExportButton>"


def export_csv(monitor: Monitor, link: Link) -> Control:
    """Return a button that sends the rows of the window, as a log would hold them."""
    button = ExportButton(link=link)
    name = "Export CSV"
    one_at_a_time = threading.Lock()

    def export(request: str) -> None:
        """Make and send the file on a thread of its own: a long window takes seconds."""

        def work() -> None:
            try:
                with one_at_a_time:
                    button.send_file(request, paced(monitor.log.export_parts()))
            except Exception as error:  # noqa: BLE001 - listed in ``monitor.errors``
                monitor.call_soon(partial(_raise, error), name)

        threading.Thread(target=work, name="perfmon-export", daemon=True).start()

    return Control(name, button, "request", export)


def _raise(error: Exception) -> None:
    raise error
