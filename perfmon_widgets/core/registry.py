"""The registry: every monitor of this process, and which of them is shared.

It survives the re-execution of a file of this package (``%autoreload``, ``importlib.reload``). Otherwise an
edited file would make a second shared monitor while the first goes on sampling.
"""

from __future__ import annotations

import atexit
import sys
import threading
import weakref
from types import ModuleType
from typing import TYPE_CHECKING

from perfmon_widgets.forks import renew_after_fork

if TYPE_CHECKING:
    from perfmon_widgets.core.monitor import PerformanceMonitor

# The name of a module that has no file, so that nothing executes it again. IPython's autoreload empties the
# namespace of a module before it executes it: a variable of this file would be lost.
_KEEPER = f"{__name__}.kept"


class Registry:
    """The monitors of this process: all that still exist, and the shared one."""

    def __init__(self) -> None:
        self.monitors: weakref.WeakSet[PerformanceMonitor] = weakref.WeakSet()
        """All that exist, running or not."""
        self.shared: PerformanceMonitor | None = None
        """The one that panels and magics share; None before its first use."""
        self.renew_after_fork()
        renew_after_fork(self)
        atexit.register(self._stop_all)

    def renew_after_fork(self) -> None:
        """In a forked child: make a new lock, since a thread of the parent may have held the old one."""
        self.lock = threading.Lock()
        """Held while the shared monitor is made."""

    def _stop_all(self) -> None:
        # Joins the threads before the interpreter shuts down: one that runs longer may crash in a driver.
        for monitor in tuple(self.monitors):
            monitor.stop()


def _kept() -> Registry:
    keeper = sys.modules.setdefault(_KEEPER, ModuleType(_KEEPER))
    if not hasattr(keeper, "registry"):
        keeper.registry = Registry()  # type: ignore[attr-defined]
    kept: Registry = keeper.registry
    return kept


registry = _kept()
