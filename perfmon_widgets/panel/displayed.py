"""Which panels a cell shows: alone, in a container of the user's, by their parts, or in an Output widget."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator
from typing import Any, Protocol

import ipywidgets

from perfmon_widgets.jupyter import kernel
from perfmon_widgets.panel.parts import holding_traits, parts_of


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
# Of those widgets and their parts, the ones that may hold other widgets than when they were looked at.
_changed: weakref.WeakSet[ipywidgets.Widget] = weakref.WeakSet()


def notify_displayed(panel: Displayed, remove: bool = False) -> None:
    """Call ``displayed()`` of the panel, as long as it exists, when a cell shows it; or do so no more."""
    if remove:
        _panels.discard(panel)
        _unseen.discard(panel)
        return
    _panels.add(panel)
    _unseen.add(panel)
    kernel.on_shown(_shown)


def _shown(model: str, how: kernel.Shown) -> None:
    """Notify the panels that are seen in a widget that has become an output."""
    widget = _widget(model)
    if widget is not None:
        _widgets.add(widget)
        if _panels:
            _notify(list(_panels), widget, how)
        else:
            _changed.add(widget)
    if how is kernel.Shown.RESULT and _unseen and any(map(_holds_unseen, _take_changed())):
        for earlier in list(_widgets):
            _notify(list(_unseen), earlier, how)


def _take_changed() -> Iterator[ipywidgets.Widget]:
    """Yield the widgets that have changed, each once. Other threads may change more of them meanwhile."""
    with contextlib.suppress(KeyError):  # there are no more
        while True:
            yield _changed.pop()


def _holds_unseen(widget: ipywidgets.Widget) -> bool:
    parts = _look_at(widget)
    return any(panel.is_shown_by(parts) for panel in list(_unseen))


def _notify(panels: list[Displayed], widget: ipywidgets.Widget, how: kernel.Shown) -> None:
    parts = _look_at(widget)
    for panel in panels:
        if panel.is_shown_by(parts):
            _unseen.discard(panel)
            panel.displayed(how, alone=panel is widget)


def _look_at(widget: ipywidgets.Widget) -> set[ipywidgets.Widget]:
    """Return what is seen in a widget, and note from now on when that changes.

    So the end of a cell costs nothing for widgets that stay as they are, such as many progress bars.
    """
    parts = set(_seen(widget))
    own = {part for panel in _panels & parts for part in parts_of(panel)}
    for part in parts - own:  # what a panel consists of holds no other panel
        kind: Any = type(part)
        if names := holding_traits(kind):  # else observe() would take all
            part.observe(_note_change, names)  # at most once, however often this is called
    return parts


def _note_change(change: dict[str, Any]) -> None:
    _changed.add(change["owner"])


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
