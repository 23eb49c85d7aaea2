"""Which monitor is used where none is given: one rule for panel, magics and servers."""

from __future__ import annotations

from perfmon_widgets.core.monitor import PerformanceMonitor
from perfmon_widgets.core.registry import registry


def default_monitor() -> PerformanceMonitor:
    """Return the monitor to use where none is given; makes the shared one if there is no other.

    That is the shared monitor if it runs, else the one that was started last of those that run, else the
    shared one.
    """
    return existing_monitor() or shared_monitor()


def started_monitor(monitor: PerformanceMonitor | None = None) -> PerformanceMonitor:
    """Return the monitor that is given, as it is; where none is given, the default one, started."""
    if monitor is None:
        monitor = default_monitor()
        monitor.start()
    return monitor


def existing_monitor() -> PerformanceMonitor | None:
    """Return what ``default_monitor`` would, without making a monitor: None if there is none to choose."""
    shared = registry.shared
    if shared is not None and shared.running:
        return shared
    return running_monitor() or shared


def shared_monitor() -> PerformanceMonitor:
    """Return the one monitor that all panels and magics of this Jupyter kernel share; made on first use."""
    with registry.lock:
        if registry.shared is None:
            registry.shared = PerformanceMonitor()
        return registry.shared


def running_monitor() -> PerformanceMonitor | None:
    """Return the monitor that was started last of those that run; None if none runs."""
    running = [monitor for monitor in tuple(registry.monitors) if monitor.running]
    return max(running, key=lambda monitor: monitor.started, default=None)
