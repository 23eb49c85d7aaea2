"""Exporter to Weights & Biases: each row becomes system metrics of a run, which its page shows as System."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import wandb

from perfmon_widgets.integrations.exporter import Exporter

if TYPE_CHECKING:
    from perfmon_widgets.core.monitor import PerformanceMonitor
    from perfmon_widgets.metrics import Sample


def export_to_wandb(run: Any = None, *, monitor: PerformanceMonitor | None = None) -> Exporter:
    """Log each row of a monitor as system metrics of a run, until the run is finished or ``close()``.

    Missing numbers are left out. The steps of the run do not change.

    Args:
        run: what ``wandb.init()`` returned; by default the current run.
        monitor: by default the shared monitor or the one that runs, which is started.

    Raises ValueError if there is no run, and RuntimeError for a version of wandb that takes no system
    metrics.
    """
    run = wandb.run if run is None else run
    if run is None:
        raise ValueError("there is no run of Weights & Biases; call wandb.init() before, or pass run=")
    # Not run.log(): that would advance the step of the run, and W&B drops what the user then logs with a step
    # of their own. There is no public function for system metrics; in wandb 0.24 it is below _backend.
    interface = getattr(run, "_interface", None) or getattr(getattr(run, "_backend", None), "interface", None)
    publish: Any = getattr(interface, "publish_stats", None)
    if publish is None and not run.disabled:
        raise RuntimeError(f"wandb {wandb.__version__} takes no system metrics; use 0.24 to 0.31")

    def write(sample: Sample) -> bool:
        if run.disabled or run._is_finished:
            return False
        publish({name: value for name, value in sample.values.items() if not math.isnan(value)})
        return True

    return Exporter("Weights & Biases", run.id, write, monitor=monitor)
