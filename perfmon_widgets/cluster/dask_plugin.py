"""Plugin: what Dask sends to each worker, present and future. It starts a monitor there.

Dask pickles this module by value (see dask.py): a worker that cannot import this package could not even
unpickle a class of it, and Dask would not let such a worker join the cluster.
"""

from __future__ import annotations

from distributed import Worker
from distributed.diagnostics.plugin import WorkerPlugin

NAME = TOPIC = "perfmon"
"""The name of the plugin, and of the topic that its rows are logged to."""


class Plugin(WorkerPlugin):
    """Has each worker take a sample every ``interval`` seconds, and log it as an event of the topic."""

    name = NAME

    def __init__(self, interval: float) -> None:
        self.interval = interval

    def setup(self, worker: Worker) -> None:
        """Begin on this worker; never raises, since then Dask would not let the worker join."""
        try:
            from perfmon_widgets.cluster.dask_worker import begin  # noqa: PLC0415 - it may not be there

            begin(worker, self.interval)
        except Exception as error:  # noqa: BLE001 - it is reported as an event
            text = f"{type(error).__name__}: {error}"
            if isinstance(error, ImportError):
                text = f"perfmon_widgets cannot be imported there ({error}); install it on the workers, too"
            worker.loop.add_callback(worker.log_event, TOPIC, {"name": str(worker.name), "error": text})

    def teardown(self, worker: Worker) -> None:
        """End on this worker."""
        import sys  # noqa: PLC0415 - pickled by value

        module = sys.modules.get("perfmon_widgets.cluster.dask_worker")
        if module is not None:
            module.end(worker)
