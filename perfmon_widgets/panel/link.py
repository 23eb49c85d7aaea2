"""Link: the invisible model that carries messages between a panel and its browsers."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import anywidget
import ipywidgets
import traitlets

from perfmon_widgets.panel.layout import Layout

_FOLDER = Path(__file__).parent
# /* … */, and // … on a line of its own.
_COMMENT = re.compile(r"/\*.*?\*/|^[ \t]*//.*?$", re.DOTALL | re.MULTILINE)


def script(*names: str) -> str:
    """Return the text of a widget's JavaScript module or style sheet, put together from files of this folder.

    Without comments and indentation: a saved notebook holds the text of each widget.
    It is text, not a path: anywidget keeps every instance alive that it has a path for, to reload the file
    when it changes.
    """
    text = "\n".join((_FOLDER / name).read_text(encoding="utf-8") for name in names)
    lines = _COMMENT.sub("", text).splitlines()
    return "\n".join(line.strip() for line in lines if line.strip())


class Page(NamedTuple):
    """What a page reports."""

    name: str
    views: int
    """How many views of the panel it has."""
    while_busy: bool
    """Whether its messages reach a kernel that runs a cell."""
    zone: str
    """The name of its time zone: ``Europe/Berlin``; empty if the page does not say."""
    minutes: float
    """The present difference of its clock to UTC."""


class Link(anywidget.AnyWidget):
    """A model without a view. It holds the readings of all gauges, so that a sample is one message.

    In the browser it sends the changes of the ``controls`` on the kernel's control channel, if the front end
    has one. It also reports how many views of the panel the page has.
    """

    _esm = script("shared.js", "link.js")
    _css = script("gauge.css")

    own = traitlets.Unicode(help="The name of this model, by which it finds itself in the browser.").tag(
        sync=True
    )
    readings = traitlets.Dict(help="What all gauges show.").tag(sync=True)
    controls = traitlets.List(
        traitlets.Instance(ipywidgets.Widget), help="The widgets to be heard while a cell runs."
    ).tag(sync=True, **ipywidgets.widget_serialization)
    gauge = traitlets.Unicode(
        script("shared.js", "gauge.js"), help="The module of all gauges, which a notebook then stores once."
    ).tag(sync=True)
    heartbeat = traitlets.Float(help="Seconds after which a page says again that it shows the panel.").tag(
        sync=True
    )

    def __init__(self, **traits: Any) -> None:
        super().__init__(layout=Layout(), **traits)
        self.own = self.model_id

    def on_viewers(self, callback: Callable[[Page], object]) -> None:
        """Call ``callback(page)`` when a page reports how many views of the panel it has."""

        def receive(_: Link, content: dict[str, Any], __: object) -> None:
            if "page" in content:
                callback(
                    Page(
                        str(content["page"]),
                        int(content["views"]),
                        bool(content.get("whileBusy")),
                        str(content.get("zone", "")),
                        float(content.get("minutes", 0)),
                    )
                )

        self.on_msg(receive)

    def __repr__(self) -> str:
        return "<Link>"
