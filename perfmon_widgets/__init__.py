"""Live GPU, CPU, memory and disk gauges for notebooks that run a model.

This file lists the public names. Each is loaded on first use, so that a script that only samples does not
import widgets.
"""

from __future__ import annotations

import importlib
import sys

TYPE_CHECKING = False  # not from typing, whose import costs four times as much as the rest of this file
if TYPE_CHECKING:
    from perfmon_widgets.collectors import Collector as Collector
    from perfmon_widgets.collectors import default_collectors as default_collectors
    from perfmon_widgets.core.csv_log import CsvLog as CsvLog
    from perfmon_widgets.core.csv_read import read_csv as read_csv
    from perfmon_widgets.core.monitor import PerformanceMonitor as PerformanceMonitor
    from perfmon_widgets.core.span_log import read_spans as read_spans
    from perfmon_widgets.jupyter.black_box import last_death as last_death
    from perfmon_widgets.metrics import Metric as Metric
    from perfmon_widgets.metrics import Sample as Sample
    from perfmon_widgets.panel.panel import PerformancePanel as PerformancePanel
    from perfmon_widgets.panel.plot import plot as plot
    from perfmon_widgets.web.server import PerformanceServer as PerformanceServer
    from perfmon_widgets.web.server import serve as serve

_HOMES = {
    "Collector": "collectors",
    "CsvLog": "core.csv_log",
    "Metric": "metrics",
    "PerformanceMonitor": "core.monitor",
    "PerformancePanel": "panel.panel",
    "PerformanceServer": "web.server",
    "Sample": "metrics",
    "default_collectors": "collectors",
    "last_death": "jupyter.black_box",
    "plot": "panel.plot",
    "read_csv": "core.csv_read",
    "read_spans": "core.span_log",
    "serve": "web.server",
}

__all__ = sorted(_HOMES)  # noqa: PLE0605 - a list of strings it is


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415

        return version("perfmon_widgets")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    """Name the module in which a Jupyter server finds the HTTP API for the monitors of its kernels."""
    return [{"module": "perfmon_widgets.jupyter.server_extension"}]


def load_ipython_extension(shell: object) -> None:
    """Add the magics ``%perfmon`` and ``%%perfmon``: called by ``%load_ext perfmon_widgets``."""
    importlib.import_module(f"{__name__}.magics").load(shell)


def unload_ipython_extension(shell: object) -> None:
    """Remove the magics again: called by ``%unload_ext perfmon_widgets``. Monitors go on."""
    importlib.import_module(f"{__name__}.magics").unload(shell)


if "IPython.core.interactiveshell" in sys.modules:
    # This process may be IPython: then the cells that it executes are recorded in each running monitor. If it
    # is a Jupyter kernel, it also answers requests of the Jupyter server from now on. All are loaded here,
    # because the core must not import them.
    importlib.import_module(f"{__name__}.jupyter.cells")
    importlib.import_module(f"{__name__}.jupyter.guarded_cells")
    importlib.import_module(f"{__name__}.jupyter.requests").answer_requests()
