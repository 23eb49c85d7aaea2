"""What a widget is made of."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import ipywidgets
import traitlets

# The kinds of traits that refer to no other widget.
_SCALARS = (traitlets.Bool, traitlets.Int, traitlets.Float, traitlets.Unicode, traitlets.Enum)


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


@lru_cache(maxsize=256)
def holding_traits(kind: Any) -> tuple[str, ...]:
    """Return the names of the traits by which a widget of this class may refer to others."""
    traits = kind.class_traits(sync=True)
    return tuple(name for name, trait in traits.items() if not isinstance(trait, _SCALARS))


def _widgets_in(value: object) -> list[ipywidgets.Widget]:
    values = value.values() if isinstance(value, dict) else value
    several = isinstance(value, (dict, list, tuple))
    return [each for each in (values if several else (value,)) if isinstance(each, ipywidgets.Widget)]  # type: ignore[attr-defined]
