"""The panel's controls, a file for each.

To add one, write a file here with a function that returns its `Control`, and add a line to the table in
panel.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ipywidgets


def _nothing(*_: object) -> None:
    pass


@dataclass(frozen=True)
class Control:
    """A widget that a person uses, and what using it does.

    Its functions neither choose a thread nor take a lock: actions.py does both for all controls.
    """

    name: str
    """Its name for people. An error of ``act`` is listed under this name in ``monitor.errors``."""
    widget: ipywidgets.Widget
    trait: str
    """The trait of ``widget`` that changes when it is used."""
    act: Callable[[Any], object] = _nothing
    """Called with the new value of the trait: applies it. Afterwards the panel redraws what has changed."""
    show: Callable[[], object] = _nothing
    """Makes ``widget`` show the present state of the monitor, which a program may also have changed."""
    note: ipywidgets.Widget | None = None
    """Words about it, shown after the last control."""
