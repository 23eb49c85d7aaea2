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

    None of its functions decides on a thread or takes a lock: actions.py does both for all of them.
    """

    name: str
    """What a person calls it. An error of ``act`` stands under this name in ``monitor.errors``."""
    widget: ipywidgets.Widget
    trait: str
    """The trait of ``widget`` that changes when it is used."""
    act: Callable[[Any], object] = _nothing
    """Do what was asked for, given the new value of the trait. The panel redraws what changed afterwards."""
    show: Callable[[], object] = _nothing
    """Make ``widget`` show the present state of the monitor, whoever changed it."""
    note: ipywidgets.Widget | None = None
    """Words about it, shown after the last control."""
