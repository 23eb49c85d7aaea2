"""The programs that are compared: each is started, samples at an interval, and is stopped.

Every peer is used by its public names and as its documentation shows it, in the process that trains; none
needs an IPython shell for that. Those that leave the clock to their host (dask runs its own on an event loop,
glances answers when asked, jupyter-resource-usage when its page polls) are called by one thread, ``Ticker``.
"""

from __future__ import annotations

import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from jumper import JumperNative, JumperProcess, JumperThread


class Watcher(Protocol):
    """What is compared: made once, then started and stopped as often as one likes."""

    ticks: int
    """How many samples have been taken since the start."""
    numbers: int
    """How many numbers one sample gives; known once it has been stopped."""

    def start(self, interval: float) -> None: ...
    def stop(self) -> None: ...


class Ticker:
    """Calls a function at an interval on a thread, on a grid: what a host does for a passive sampler."""

    def __init__(self, take: Callable[[], object]) -> None:
        self.ticks = 0
        self._take = take
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, interval: float) -> None:
        self.ticks = 0
        self._ended.clear()
        self._thread = threading.Thread(target=self._run, args=(interval,), daemon=True)
        self._thread.start()

    def _run(self, interval: float) -> None:
        due = time.monotonic()
        while not self._ended.wait(max(0.0, due - time.monotonic())):
            self._take()
            self.ticks += 1
            due = max(due + interval, time.monotonic())

    def stop(self) -> None:
        if self._thread is not None:
            self._ended.set()
            self._thread.join()


class Nothing:
    """No watcher at all: how far two measurements of the same thing differ."""

    numbers = 0
    ticks = 1

    def start(self, interval: float) -> None:
        pass

    def stop(self) -> None:
        pass


class EmptyThread(Ticker):
    """A thread that wakes up and does nothing: what the machine and Python take of any sampler."""

    numbers = 0

    def __init__(self) -> None:
        super().__init__(lambda: None)


class Psutil(Ticker):
    """psutil's own functions for what this package samples of a machine without a GPU or a limit."""

    numbers = 0

    def __init__(self) -> None:
        import psutil

        process = psutil.Process()

        def collect() -> None:
            found = (
                psutil.cpu_percent(percpu=True),
                psutil.virtual_memory()._asdict(),
                psutil.swap_memory()._asdict(),
                psutil.disk_usage(".")._asdict(),
                psutil.disk_io_counters()._asdict(),
                process.cpu_times()._asdict(),
                process.memory_info()._asdict(),
                process.io_counters()._asdict(),
            )
            self.numbers = sum(map(_numbers_in, found))

        super().__init__(collect)


class PerfmonWidgets:
    """This package: its monitor with the default collectors."""

    def __init__(self) -> None:
        from perfmon_widgets import PerformanceMonitor

        self._monitor = PerformanceMonitor()
        self.numbers = len(self._monitor.metrics)
        self._before = 0

    @property
    def ticks(self) -> int:
        return len(self._monitor.rows[0]) - self._before

    def start(self, interval: float) -> None:
        self._before = len(self._monitor.rows[0])
        self._monitor.interval = interval
        self._monitor.start()

    @property
    def times(self) -> list[float]:
        """When each sample was taken, in seconds."""
        return (self._monitor.rows[0].astype(float) / 1e6).tolist()

    def stop(self) -> None:
        self._monitor.stop()


class Nvitop:
    """nvitop's ResourceMetricCollector with its own thread; without GPUs it samples the host alone."""

    numbers = 0

    def __init__(self) -> None:
        from nvitop import Device, ResourceMetricCollector

        class Counted(ResourceMetricCollector):
            ticks = 0

            def take_snapshots(self) -> Any:
                self.ticks += 1
                return super().take_snapshots()

        try:
            devices = Device.all()
        except Exception:  # there is no driver
            devices = []
        self._make = lambda interval: Counted(devices, interval=interval)

    def start(self, interval: float) -> None:
        self._collector = self._make(interval)
        self._collector.activate("train")

    @property
    def ticks(self) -> int:
        return self._collector.ticks

    def stop(self) -> None:
        # Without the statistics over them: each is there as mean, min, max and last.
        self.numbers = sum(name.endswith("/last") for name in self._collector.collect())
        self._collector.deactivate()
        self._collector._daemon.join()  # nothing else says that it has ended


class Mlflow:
    """mlflow's SystemMetricsMonitor over a run in a temporary file store: sampled, averaged and logged.

    It asks the store whether the run still goes on after every sample; ``MlflowCollect`` does without.
    """

    numbers = 0

    def __init__(self) -> None:
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # the skinny package has no other
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
        from mlflow.tracking import MlflowClient

        self._folder = tempfile.TemporaryDirectory()
        self._client = MlflowClient(f"file:{self._folder.name}")
        self._experiment = self._client.create_experiment("peers")
        watcher = self

        class Counted(SystemMetricsMonitor):
            ticks = 0

            def collect_metrics(self) -> Any:
                metrics = super().collect_metrics()
                watcher.numbers = len(metrics)
                self.ticks += 1
                return metrics

        self._make = Counted

    def start(self, interval: float) -> None:
        run = self._client.create_run(self._experiment).info.run_id
        self._monitor = self._make(run, interval, tracking_uri=f"file:{self._folder.name}")
        self._monitor.start()

    @property
    def ticks(self) -> int:
        return self._monitor.ticks

    def stop(self) -> None:
        self._monitor.finish()


class MlflowCollect(Ticker):
    """What mlflow samples, averaged but not logged: no run, no store."""

    numbers = 0

    def __init__(self) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
        from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
        from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

        self._monitors = CPUMonitor(), DiskMonitor(), NetworkMonitor()
        super().__init__(self._collect)

    def _collect(self) -> None:
        metrics = {}
        for monitor in self._monitors:
            monitor.collect_metrics()
            metrics.update(monitor.aggregate_metrics())
            monitor.clear_metrics()
        self.numbers = len(metrics)


class Dask(Ticker):
    """dask's SystemMonitor, as its workers have it."""

    def __init__(self) -> None:
        from distributed.system_monitor import SystemMonitor

        monitor = SystemMonitor()
        self.numbers = len(monitor.quantities) - 1  # one is the time
        super().__init__(monitor.update)


class Glances(Ticker):
    """glances' Python API, asked for the plugins that read what the others sample."""

    numbers = 0
    _PLUGINS = ("cpu", "percpu", "mem", "memswap", "fs", "diskio")

    def __init__(self) -> None:
        from glances.api import GlancesAPI
        from glances.main import GlancesMain

        main = GlancesMain()  # it reads sys.argv
        self._arguments = main.get_args()
        self._api = GlancesAPI(config=main.get_config(), args=self._arguments)
        super().__init__(self._collect)

    def start(self, interval: float) -> None:
        self._arguments.time = interval / 2  # a plugin that was read so lately answers from its memory
        super().start(interval)

    def _collect(self) -> None:
        self.numbers = sum(_numbers_in(getattr(self._api, name).get_raw()) for name in self._PLUGINS)


class JupyterResourceUsage(Ticker):
    """jupyter-resource-usage: what its page at /metrics computes, with memory, CPU and disk switched on."""

    numbers = 0

    def __init__(self) -> None:
        from types import SimpleNamespace

        from jupyter_resource_usage.config import ResourceUseDisplay
        from jupyter_resource_usage.metrics import PSUtilMetricsLoader

        space = [{"name": "disk_usage", "args": ["/"], "attribute": what} for what in ("total", "used")]
        settings = {"jupyter_resource_usage_display_config": ResourceUseDisplay(system_disk_metrics=space)}
        self._loader = PSUtilMetricsLoader(SimpleNamespace(web_app=SimpleNamespace(settings=settings)))
        super().__init__(self._collect)

    def _collect(self) -> None:
        parts = self._loader.memory_metrics(), self._loader.cpu_metrics(), self._loader.disk_metrics()
        self.numbers = sum(len(part) for part in parts if part is not None)


WATCHERS: dict[str, Callable[[], Watcher]] = {
    "nothing": Nothing,
    "an empty thread": EmptyThread,
    "psutil": Psutil,
    "perfmon_widgets": PerfmonWidgets,
    "nvitop": Nvitop,
    "mlflow": Mlflow,
    "mlflow, not logged": MlflowCollect,
    "dask": Dask,
    "glances": Glances,
    "JUmPER thread": JumperThread,
    "JUmPER subprocess": JumperProcess,
    "JUmPER native_c": JumperNative,
    "jupyter-resource-usage": JupyterResourceUsage,
}


def _numbers_in(found: Any) -> int:
    """How many numbers there are in what may be nested dictionaries and lists."""
    if isinstance(found, dict):
        return sum(map(_numbers_in, found.values()))
    if isinstance(found, list):
        return sum(map(_numbers_in, found))
    return int(isinstance(found, (int, float)) and not isinstance(found, bool))
