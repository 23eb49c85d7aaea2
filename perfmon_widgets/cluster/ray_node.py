"""The side of a Ray node: a monitor of its machine and of all processes that Ray has started there."""

from __future__ import annotations

import logging
import math
import os
import threading
from collections import deque
from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any

from perfmon_widgets.cluster.rows import row_of, share_of
from perfmon_widgets.collectors import Collector, capacity, default_collectors
from perfmon_widgets.collectors.linux.processes import PROC, environment_of, own_number
from perfmon_widgets.core.monitor import PerformanceMonitor
from perfmon_widgets.metrics import Sample

# Those that Ray sets for an actor that asks for no GPU, so that it sees none.
_HIDING_GPUS = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")


class Reporter:
    """Samples a node every ``interval`` seconds, and keeps the newest row until it is asked for.

    Args:
        interval: seconds between samples.
        cpus: how many CPUs Ray may use on the node; 0 if it gives it no tasks that need one.
        key: the id of the node.
        name: what people know the node by.
        collectors: the sources of readings; by default those of the node that this process runs on.

    Raises OSError where no raylet, which is Ray's process on each node, is found above this process.
    """

    def __init__(
        self,
        interval: float,
        cpus: float,
        key: str,
        name: str,
        collectors: Sequence[Collector] | None = None,
    ) -> None:
        # Ray prints what a process of it prints below the driver's cell. The reasons travel with the rows.
        logging.getLogger("perfmon_widgets").addHandler(logging.NullHandler())
        self._cpus, self._key, self._name = cpus, key, name
        self._capacity = capacity()
        self._newest: deque[dict[str, Any]] = deque(maxlen=1)
        self._there = threading.Event()
        sources = node_collectors() if collectors is None else collectors
        self._monitor = PerformanceMonitor(sources, interval=interval, window=interval)
        self._monitor.on_sample(self._report)
        self._monitor.start()

    def next_row(self, seconds: float) -> dict[str, Any] | None:
        """Return the row that has not been asked for yet, or the next one; None after ``seconds``."""
        self._there.wait(seconds)
        self._there.clear()  # before the row is taken, so that one that comes in between is not missed
        return self._newest.pop() if self._newest else None

    def close(self) -> None:
        """Stop sampling. Ray ends the process of an actor without it."""
        self._monitor.stop()

    def _report(self, sample: Sample) -> None:
        row = row_of(self._monitor, sample, self._key, self._name)
        cpu = row.own.get("cpu_percent", math.nan)
        own = {**row.own, "cpu_percent": share_of(cpu, self._capacity, self._cpus or self._capacity)}
        self._newest.append(row._replace(own=own)._asdict())
        self._there.set()


def node_collectors() -> list[Collector]:
    """Return the collectors of this machine, and of the raylet above this process and its descendants.

    Raises OSError if there is none: outside Ray, and on macOS and Windows.
    """
    raylet = raylet_above(own_number())
    show_gpus(os.environ, environment_of(raylet))
    return default_collectors(root=raylet)


def raylet_above(number: int, proc: Path = PROC) -> int:
    """Return the number of the nearest ancestor of a process that is a raylet; raises OSError without one."""
    while number > 1:
        try:
            text = (proc / str(number) / "stat").read_text(errors="replace")
        except OSError:
            break
        name, _, fields = text.partition("(")[2].rpartition(")")
        if name == "raylet":
            return number
        number = int(fields.split()[1])
    raise OSError("the processes of a Ray node can be watched on Linux only, as children of a raylet")


def show_gpus(environment: MutableMapping[str, str], node: Mapping[str, str]) -> None:
    """Have this process see the GPUs that the node has: Ray hides them from an actor that asks for none."""
    for variable in _HIDING_GPUS:
        environment.pop(variable, None)
        if variable in node:
            environment[variable] = node[variable]
