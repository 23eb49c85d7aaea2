"""Exporter to MLflow: each row becomes system metrics of a run, which its page shows under that heading."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import mlflow
from mlflow.entities import Metric
from mlflow.tracking import fluent

from perfmon_widgets.clocks import time
from perfmon_widgets.integrations.exporter import Exporter, present

if TYPE_CHECKING:
    from perfmon_widgets.core.monitor import PerformanceMonitor
    from perfmon_widgets.metrics import Sample

_IN_A_BATCH = 1000  # MLflow's own limit
# Seconds between two questions whether a run goes on, and the share of the time that these may take: with a
# store of files an answer takes seconds, since MLflow then reads every value that the run has ever logged.
_EVERY, _SHARE = 60.0, 0.01


def export_to_mlflow(run_id: str | None = None, *, monitor: PerformanceMonitor | None = None) -> Exporter:
    """Log each row of a monitor as metrics ``system/…`` of a run, until the run ends or ``close()``.

    The step of a row is the number of whole seconds since the start of the run; missing numbers are left out.
    The end of a run is noticed at once if the run was active in this process, else as a rule in a minute.

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
    run = _Run(client, run_id)

    def write(sample: Sample) -> bool:
        if not run.goes_on():
            return False
        at = round(sample.time * 1000)
        step = int(max(0, at - run.start)) // 1000
        metrics = [Metric(name, value, at, step) for name, value in present(sample.values).items()]
        for first in range(0, len(metrics), _IN_A_BATCH):
            client.log_batch(run_id, metrics[first : first + _IN_A_BATCH])
        return True

    return Exporter("MLflow", (client.tracking_uri, run_id), write, monitor=monitor)


class _Run:
    """A run: when it started, and whether it goes on, which the store is asked as rarely as possible."""

    def __init__(self, client: Any, run_id: str) -> None:
        active = _active_runs().get(run_id)
        self.start: float = math.nan if active is None else active.info.start_time
        """In milliseconds since 1970; NaN until the store has said so."""
        self._client = client
        self._id = run_id
        self._was_active = active is not None
        self._left = False  # whether it was active in this process, and is no more
        self._ask_at = time.monotonic() + _EVERY

    def goes_on(self) -> bool:
        """Whether the run goes on, as far as is known; raises the store's error if ``start`` is not known."""
        active = self._id in _active_runs()
        self._was_active |= active
        left, before = self._was_active and not active, self._left
        self._left = left
        began = time.monotonic()
        if left == before and began < self._ask_at and not math.isnan(self.start):
            return True
        try:
            info = self._client.get_run(self._id).info
        except Exception:
            # It costs no row: MLflow cannot read a metric whose file another thread is just creating, and if
            # the store is away, the row itself says so.
            if math.isnan(self.start):
                raise
        else:
            self.start = info.start_time
            if info.status != "RUNNING":
                return False
        ended = time.monotonic()
        # A run leaves the active ones a moment before the store knows of its end.
        self._ask_at = ended + max(0.0 if left else _EVERY, (ended - began) / _SHARE)
        return True


def _active_runs() -> dict[str, Any]:
    """Return the runs that are active on any thread of this process, by their ids.

    MLflow has no public function for that. If a version lacks the private one, only the store is asked.
    """
    stacks: Any = getattr(fluent, "_active_run_stack", None)
    threads = stacks.get_all_thread_values() if hasattr(stacks, "get_all_thread_values") else {}
    return {run.info.run_id: run for stack in threads.values() for run in tuple(stack)}
