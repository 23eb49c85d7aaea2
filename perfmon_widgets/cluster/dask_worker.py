"""The side of a Dask worker: one monitor per process, whose rows are logged as events of a topic."""

from __future__ import annotations

import math
import socket
from typing import Any

from distributed import Worker

from perfmon_widgets.clocks import time
from perfmon_widgets.cluster.dask_plugin import TOPIC
from perfmon_widgets.cluster.rows import own_name, split
from perfmon_widgets.collectors import capacity
from perfmon_widgets.core.monitor import PerformanceMonitor
from perfmon_widgets.metrics import Sample

# By the address of the scheduler. Several workers of one cluster may be threads of this process.
_reporters: dict[str, Reporter] = {}
# Seconds after which a worker that has not joined its cluster is looked at again.
_JOINING = 0.1
# The plugin may begin several times in the life of the process, for one client after the other.
_imported = time.monotonic()


def begin(worker: Worker, interval: float) -> None:
    """Report for this worker, unless the process reports for another one of the same cluster already."""
    reporter = _reporters.get(worker.scheduler.address)
    if reporter is None:
        _reporters[worker.scheduler.address] = Reporter(worker, interval)
    else:
        reporter.workers.append(worker)


def end(worker: Worker) -> None:
    """Report for this worker no longer; the process's last one ends the monitor."""
    reporter = _reporters.get(worker.scheduler.address)
    if reporter is None or worker not in reporter.workers:
        return
    if worker is reporter.workers[0]:
        leaves = worker.status.name != "running"
        reason = "has left the cluster" if leaves else "is watched no longer: its plugin was removed"
        worker.log_event(TOPIC, {"key": _key(worker), "left": reason})
    reporter.workers.remove(worker)
    if not reporter.workers:
        del _reporters[worker.scheduler.address]
        reporter.close()


class Reporter:
    """Samples this process every ``interval`` seconds, and logs each row in the name of its first worker."""

    def __init__(self, worker: Worker, interval: float) -> None:
        self.workers: list[Worker] = [worker]
        self._capacity = capacity()
        self._monitor = PerformanceMonitor(interval=interval, window=interval)
        self._monitor.on_sample(self._report)
        self._monitor.start()

    def close(self) -> None:
        """Stop sampling."""
        self._monitor.on_sample(self._report, remove=True)
        self._monitor.stop()

    def _report(self, sample: Sample) -> None:
        """On the sampling thread: leave the rest to the worker's event loop, and do not wait for it."""
        if self.workers:
            worker = self.workers[0]
            worker.loop.add_callback(self._log, worker, sample)

    def _log(self, worker: Worker, sample: Sample) -> None:
        if worker.status.name in ("init", "starting"):  # its first sample comes before it has joined
            worker.loop.call_later(_JOINING, self._log, worker, sample)
        elif worker.status.name == "running":
            worker.log_event(TOPIC, self._row(worker, sample))

    def _row(self, worker: Worker, sample: Sample) -> dict[str, Any]:
        own, machine = split({**sample.values, **_limit(worker)})
        # Of the CPUs that its threads can use: a worker with one thread on 32 CPUs is full at 100 %, too.
        threads = min(worker.state.nthreads, self._capacity)
        own["cpu_percent"] = min(100.0, own.get("cpu_percent", math.nan) * self._capacity / threads)
        own["uptime_seconds"] = time.monotonic() - _imported
        own["tasks_running"] = float(worker.state.executing_count)
        own["tasks_ready"] = float(len(worker.state.ready))
        metrics, errors = self._monitor.metrics, {}
        if any(math.isnan(value) for value in (*own.values(), *machine.values())):
            errors = {own_name(name): text for name, text in self._monitor.errors.items()}
        return {
            "key": _key(worker),
            "name": str(worker.name),
            "host": socket.gethostname(),
            "interval": self._monitor.interval,
            "own": own,
            "machine": machine,
            "devices": {metric.where: metric.device for metric in metrics if metric.device},
            "reasons": errors,
        }


def _limit(worker: Worker) -> dict[str, float]:
    limit = worker.memory_manager.memory_limit
    return {"process_ram_limit_bytes": float(limit)} if limit else {}


def _key(worker: Worker) -> str:
    """Return what stays the same when a worker is restarted: its name, or else the address of its nanny."""
    return str(worker.name) if worker.name != worker.address else str(worker.nanny or worker.address)
