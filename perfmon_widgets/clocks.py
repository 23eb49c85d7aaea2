"""Clocks: the module ``time`` as it was at import.

A user's tests may freeze the time while a monitor runs. For that, freezegun and the like replace
``time.monotonic`` and others, in ``time`` and in every module that has imported them by name. Rates would
then be differences of counters over hardly any time. So this package imports ``time`` from here: a copy,
which is not found.
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import time as time  # noqa: PLC0414 - for the type checker: meant to be imported from here
else:
    import time as _standard

    time = ModuleType("time", _standard.__doc__)
    time.__dict__.update(_standard.__dict__)
