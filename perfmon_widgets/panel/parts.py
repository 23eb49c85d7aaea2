"""What a widget is made of."""

from __future__ import annotations

import ipywidgets


def parts_of(*widgets: ipywidgets.Widget) -> set[ipywidgets.Widget]:
    """Return these widgets with all those that their traits refer to, such as children, marks and scales."""
    found: set[ipywidgets.Widget] = set()
    waiting = list(widgets)
    while waiting:
        widget = waiting.pop()
        if widget not in found:
            found.add(widget)
            for key in widget.keys:
                waiting += _widgets_in(getattr(widget, key))
    return found


def _widgets_in(value: object) -> list[ipywidgets.Widget]:
    values = value.values() if isinstance(value, dict) else value
    several = isinstance(value, (dict, list, tuple))
    return [each for each in (values if several else (value,)) if isinstance(each, ipywidgets.Widget)]  # type: ignore[attr-defined]
