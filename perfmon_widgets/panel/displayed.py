"""Which panels a cell shows: alone, in a container of the user's, by their parts, or in an Output widget."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Protocol

import ipywidgets

from perfmon_widgets.jupyter import kernel
from perfmon_widgets.panel.parts import parts_of


class Displayed(Protocol):
    """What is notified: a panel."""

    def is_shown_by(self, parts: set[ipywidgets.Widget]) -> bool:
        """Return whether the panel is seen where these widgets are seen."""

    def displayed(self, how: kernel.Shown, *, alone: bool) -> None:
        """Note that the panel is seen in an output now; ``alone``: not in a container of the user's."""


_panels: weakref.WeakSet[Displayed] = weakref.WeakSet()
# The widgets that cells have shown, and the panels that were not seen in them: one may be put there later.
_widgets: weakref.WeakSet[ipywidgets.Widget] = weakref.WeakSet()
_unseen: weakref.WeakSet[Displayed] = weakref.WeakSet()


def notify_displayed(panel: Displayed) -> None:
    """Call ``displayed()`` of the panel, as long as it exists, when a cell shows it."""
    _panels.add(panel)
    _unseen.add(panel)
    kernel.on_shown(_shown)


def _shown(model: str, how: kernel.Shown) -> None:
    """Notify the panels that are seen in a widget that has become an output."""
    widget = _widget(model)
    if widget is not None:
        _widgets.add(widget)
        _notify(list(_panels), widget, how)
    if how is kernel.Shown.RESULT and _unseen:
        for earlier in list(_widgets):
            _notify(list(_unseen), earlier, how)


def _notify(panels: list[Displayed], widget: ipywidgets.Widget, how: kernel.Shown) -> None:
    parts = set(_seen(widget)) if panels else set()
    for panel in panels:
        if panel.is_shown_by(parts):
            _unseen.discard(panel)
            panel.displayed(how, alone=panel is widget)


def _seen(widget: ipywidgets.Widget) -> Iterator[ipywidgets.Widget]:
    """The parts of a widget, and of those that stand in its Output widgets."""
    for part in parts_of(widget):
        yield part
        if isinstance(part, ipywidgets.Output):
            for output in part.outputs:
                inner = _widget(kernel.view_of(output.get("data", {})))
                if inner is not None and inner is not widget:
                    yield from parts_of(inner)


def _widget(model: str) -> ipywidgets.Widget | None:
    """The widget of this name; None if there is none."""
    if not model:
        return None
    found = ipywidgets.widget_serialization["from_json"](f"IPY_MODEL_{model}", None)
    return found if isinstance(found, ipywidgets.Widget) else None
