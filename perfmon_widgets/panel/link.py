"""Link: what passes between a panel and its browsers without being seen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets
import traitlets

_FOLDER = Path(__file__).parent


def script(*names: str) -> str:
    """The text of a widget's module, put together from files of this folder.

    As text: for a path anywidget keeps every instance alive, to reload it when the file changes.
    """
    return "\n".join((_FOLDER / name).read_text(encoding="utf-8") for name in names)


class Link(anywidget.AnyWidget):
    """A model without a view: the readings of all gauges, so that a tick is one message to the browser.

    In the browser it puts the messages of the ``controls`` on the kernel's control channel, where the front
    end has one, and says from there that somebody is looking.
    """

    _esm = script("shared.js", "link.js")

    own = traitlets.Unicode(help="The name of this model, by which it finds itself in the browser.").tag(
        sync=True
    )
    readings = traitlets.Dict(help="What all gauges show.").tag(sync=True)
    controls = traitlets.List(
        traitlets.Instance(ipywidgets.Widget), help="The widgets to be heard while a cell runs."
    ).tag(sync=True, **ipywidgets.widget_serialization)
    heartbeat = traitlets.Float(300.0, help="Seconds between the words of a browser that is there.").tag(
        sync=True
    )

    def __init__(self, **traits: Any) -> None:
        super().__init__(**traits)
        self.own = self.model_id

    def on_audience(self, callback: Callable[[str, int], object]) -> None:
        """Call back when a page says how many views it has, with the page's name and that number."""

        def said(_: Link, content: dict[str, Any], __: object) -> None:
            if "page" in content:
                callback(str(content["page"]), int(content["views"]))

        self.on_msg(said)

    def __repr__(self) -> str:
        return "<Link>"
