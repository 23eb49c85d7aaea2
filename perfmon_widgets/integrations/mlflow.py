"""Exporter to MLflow: each row becomes system metrics of a run, which its page shows under that heading."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mlflow
from mlflow.entities import Metric

from perfmon_widgets.integrations.exporter import Exporter, present

if TYPE_CHECKING:
    from perfmon_widgets.core.monitor import PerformanceMonitor
    from perfmon_widgets.metrics import Sample

_IN_A_BATCH = 1000  # MLflow's own limit


def export_to_mlflow(run_id: str | None = None, *, monitor: PerformanceMonitor | None = None) -> Exporter:
    """Log each row of a monitor as metrics ``system/…`` of a run, until the run ends or ``close()``.

    The step of a row is the number of whole seconds since the start of the run; missing numbers are left out.

    Args:
        run_id: by default that of the active run; it is logged where the tracking URI of this moment says.
        monitor: by default the shared monitor or the one that runs, which is started.

    Raises ValueError if no run is active and none is given. An error of the server is in ``monitor.errors``.
    """
    active = mlflow.active_run()
    if run_id is None and active is None:
        raise ValueError("no MLflow run is active; call mlflow.start_run() before, or pass run_id=")
    run_id = active.info.run_id if run_id is None else run_id
    client = mlflow.MlflowClient()

    def write(sample: Sample) -> bool:
        info = client.get_run(run_id).info
        if info.status != "RUNNING":
            return False
        at = round(sample.time * 1000)
        step = max(0, at - info.start_time) // 1000
        metrics = [Metric(name, value, at, step) for name, value in present(sample.values).items()]
        for first in range(0, len(metrics), _IN_A_BATCH):
            client.log_batch(run_id, metrics[first : first + _IN_A_BATCH])
        return True

    return Exporter("MLflow", (client.tracking_uri, run_id), write, monitor=monitor)
