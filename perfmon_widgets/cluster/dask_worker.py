"""The side of a Dask worker: one monitor per process, whose rows are logged as events of a topic."""

from __future__ import annotations

import math
from typing import Any

from distributed import Worker

from perfmon_widgets.clocks import time
from perfmon_widgets.cluster.dask_plugin import TOPIC
from perfmon_widgets.cluster.rows import row_of, share_of
from perfmon_widgets.collectors import capacity
from perfmon_widgets.core.monitor import PerformanceMonitor
from perfmon_widgets.metrics import Sample

# By the address of the scheduler. Several workers of one cluster may be threads of this process.
_reporters: dict[str, Reporter] = {}
# Seconds after which a worker that has not joined its cluster is looked at again.
_JOINING = 0.1
# The states in which a worker belongs to its cluster. Dask pauses one that uses 80 % of its memory limit.
_PRESENT = ("running", "paused")


def begin(worker: Worker, interval: float) -> None:
    """Report for this worker, together with those of the same cluster that are threads of this process.

    The interval of the last call counts.
    """
    cluster = worker.scheduler.address
    reporter = _reporters.get(cluster)
    if reporter is None:
        _reporters[cluster] = Reporter([worker], interval)
        return
    reporter.workers.append(worker)
    if reporter.interval != interval:
        reporter.close()
        _reporters[cluster] = Reporter(reporter.workers, interval)


def end(worker: Worker) -> None:
    """Report for this worker no longer; the process's last one ends the monitor."""
    reporter = _reporters.get(worker.scheduler.address)
    if reporter is None or worker not in reporter.workers:
        return
    if worker is reporter.workers[0]:
        leaves = worker.status.name not in _PRESENT
        reason = "has left the cluster" if leaves else "is watched no longer: its plugin was removed"
        worker.log_event(TOPIC, {"key": _key(worker), "left": reason})
    reporter.workers.remove(worker)
    if not reporter.workers:
        del _reporters[worker.scheduler.address]
        reporter.close()


class Reporter:
    """Samples this process every ``interval`` seconds, and logs each row in the name of its first worker.

    CPU and memory are those of the whole process, so threads, limits and tasks are those of all its workers.
    """

    def __init__(self, workers: list[Worker], interval: float) -> None:
        self.workers = workers
        self.interval = interval
        self._capacity = capacity()
        age = max(0.0, time.time() - workers[0].monitor.proc.create_time())
        self._started = time.monotonic() - age  # that of the process
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
        elif worker.status.name in _PRESENT:
            worker.log_event(TOPIC, self._row(worker, sample))

    def _row(self, worker: Worker, sample: Sample) -> dict[str, Any]:
        workers = self.workers or [worker]
        row = row_of(self._monitor, sample, _key(worker), str(worker.name), _limit(workers))
        threads = sum(each.state.nthreads for each in workers)
        own = {
            **row.own,
            "cpu_percent": share_of(row.own.get("cpu_percent", math.nan), self._capacity, threads),
            "uptime_seconds": time.monotonic() - self._started,
            "tasks_running": float(sum(each.state.executing_count for each in workers)),
            "tasks_ready": float(sum(len(each.state.ready) for each in workers)),
        }
        return row._replace(own=own)._asdict()


def _limit(workers: list[Worker]) -> dict[str, float]:
    """Return the memory limit of the process; nothing if one of its workers has none."""
    limits = [worker.memory_manager.memory_limit for worker in workers]
    return {"process_ram_limit_bytes": float(sum(limits))} if all(limits) else {}


def _key(worker: Worker) -> str:
    """Return what stays the same when a worker is restarted: its name, or else the address of its nanny."""
    return str(worker.name) if worker.name != worker.address else str(worker.nanny or worker.address)
