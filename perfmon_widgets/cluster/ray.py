"""Nodes: a collector of the nodes of a Ray cluster, in the driver: the program or notebook that is connected.

An actor on each node, which claims no CPU, runs a monitor there. It hands over each row as soon as there is
one, also while a cell runs. The actors belong to this process and end with it.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence

import ray

from perfmon_widgets.cluster.members import Members
from perfmon_widgets.cluster.ray_actors import NodeActors
from perfmon_widgets.metrics import Metric

# Seconds to wait for the first rows of the nodes, and for the end of the thread.
_FIRST_ROWS, _TIMEOUT = 5.0, 5.0
_SILENCE = "its monitor is about to start, or the node is overloaded, suspended or cannot be reached"


class Nodes:
    """A collector of the newest row of each node, as ``node0/cpu_percent``, ``node0/ram_used_bytes``.

    ``PerformanceMonitor([*default_collectors(), Nodes()])``. The columns of a node are about all processes
    that Ray has started there: workers, object store and its own. ``cpu_percent`` is the share of the CPUs
    that Ray may use there, ``ram_percent`` that of the memory of its machine or container. The columns
    ``host0/…`` are about a whole machine. At first node 0 is the head; nodes that join later add columns. A
    row that is older than two intervals is missing, with a reason in ``errors``.

    Args:
        interval: seconds between the samples of each node, greater than 0.

    Waits up to five seconds for the first rows. Raises ValueError for an interval that cannot be used, and
    RuntimeError if this process is not connected to Ray.
    """

    grows = True

    def __init__(self, interval: float = 5.0) -> None:
        if not interval > 0:
            raise ValueError(f"interval must be a number of seconds greater than 0, not {interval!r}")
        if not ray.is_initialized():
            raise RuntimeError("this process is not connected to Ray; call ray.init() before Nodes()")
        self._interval = float(interval)
        self._members = Members("node", "actor PerfmonNode on the node", _SILENCE)
        self._actors: NodeActors | None = self._begin()
        self._actors.answered.wait(_FIRST_ROWS)

    def _begin(self) -> NodeActors:
        actors = NodeActors(self._members, self._interval)
        # Dropping this object ends the actors, too. At exit Ray does it.
        self._end = weakref.finalize(self, actors.end)
        self._end.atexit = False
        return actors

    @property
    def metrics(self) -> Sequence[Metric]:
        """The columns of all nodes and hosts that there have been."""
        return self._members.metrics

    @property
    def errors(self) -> Mapping[str, str]:
        """Why numbers are missing, by column; and what is wrong with nodes that have no columns."""
        error = self._actors.error if self._actors is not None else ""
        return {**self._members.errors, **({"ray": error} if error else {})}

    def collect(self) -> Mapping[str, float]:
        """Return the newest row of each node. They lie ready: this does not wait for Ray."""
        if self._actors is None:  # the monitor was stopped, and runs again
            self._actors = self._begin()
        return self._members.collect()

    def close(self) -> None:
        """End the actors on the nodes; called when the monitor stops."""
        actors, self._actors = self._actors, None
        if actors is not None:
            self._end()
            actors.join(_TIMEOUT)
