"""Workers: a collector of the workers of a Dask cluster, whose rows come as events of the scheduler.

A plugin starts a monitor in each worker, also in those that join later. A row goes from the worker to the
scheduler, which hands it to this process as soon as it has it, also while a cell runs. Every client of that
scheduler can read the topic, and write to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import weakref
from collections.abc import Awaitable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import cloudpickle
from distributed import Client

from perfmon_widgets.clocks import time
from perfmon_widgets.cluster import dask_plugin
from perfmon_widgets.cluster.dask_plugin import NAME, TOPIC, Plugin
from perfmon_widgets.cluster.members import Members
from perfmon_widgets.cluster.rows import Row
from perfmon_widgets.metrics import Metric

if TYPE_CHECKING:
    import pandas as pd

# Seconds to wait for the scheduler and all workers, and for the first rows of the workers.
_TIMEOUT, _FIRST_ROWS = 5.0, 0.5
_UNANSWERED = "some workers have not answered yet, such as one that is suspended: the others are watched"
_SILENCE = "it is busy, suspended or was killed, or cannot reach the scheduler"

# Those that an event is passed on to, by client: a client has one handler for each topic.
_listeners: weakref.WeakKeyDictionary[Client, weakref.WeakSet[Workers]] = weakref.WeakKeyDictionary()

# By value, so that a worker without this package can report that: see dask_plugin.py.
cloudpickle.register_pickle_by_value(dask_plugin)


class Workers:
    """A collector of the newest row of each worker, as ``worker0/cpu_percent``, ``worker0/ram_used_bytes``.

    ``PerformanceMonitor([*default_collectors(), Workers(client)])``. Workers keep a name that is a number, as
    those of a LocalCluster have; workers that join later add columns. The columns ``host0/…`` are about a
    whole machine. Workers that are threads of one process are one here, under the name of the first: it has
    their threads, limits and tasks together.

    ``cpu_percent`` is the share of the CPUs that the threads of the worker can use, ``ram_percent`` that of
    its memory limit. A row that is older than two intervals is missing, with a reason in ``errors``.

    Args:
        client: a client that is connected; not one that is made with ``asynchronous=True``.
        interval: seconds between the samples of each worker, greater than 0. Where several clients watch one
            cluster, the workers take the interval of the last.

    Raises ValueError for an interval or client that cannot be used, and what the client raises if the plugin
    cannot be sent to the workers.
    """

    grows = True

    def __init__(self, client: Client, interval: float = 5.0) -> None:
        if not interval > 0:
            raise ValueError(f"interval must be a number of seconds greater than 0, not {interval!r}")
        if client.asynchronous:
            raise ValueError("Workers needs a client that was made without asynchronous=True")
        self._client = client
        self._interval = float(interval)
        self._members = Members("worker", f"event of Dask's scheduler, topic {TOPIC}", _SILENCE)
        self._watching = True
        self._connection: object = None  # the one to the scheduler that was subscribed on
        self._changing = asyncio.Lock()
        self._error = ""
        self._asked = 0.0  # the time of day at which the scheduler's clock was asked for
        self._ahead: asyncio.Future[float] | None = None  # how far its clock is ahead of ours, in seconds
        client.sync(self._begin)

    @property
    def metrics(self) -> Sequence[Metric]:
        """The columns of all workers and hosts that there have been."""
        return self._members.metrics

    @property
    def errors(self) -> Mapping[str, str]:
        """Why numbers are missing, by column; and what is wrong with workers that have no columns."""
        return {**self._members.errors, **({"dask": self._error} if self._error else {})}

    def collect(self) -> Mapping[str, float]:
        """Return the newest row of each worker. They lie ready: this does not wait for the network."""
        connected = self._client.status == "running"
        is_new = connected and self._client.scheduler_comm is not self._connection
        if is_new or not self._watching:  # the scheduler was started anew, or the monitor
            self._watching, self._connection = True, self._client.scheduler_comm
            self._client.loop.add_callback(self._begin_again)
        self._members.silence = _SILENCE if connected else f"the Dask client is {self._client.status}"
        return self._members.collect()

    def close(self) -> None:
        """Stop the sampling on the workers, unless somebody else in this process watches them.

        Called when the monitor stops. A notebook that was restarted, or that never stopped its monitor,
        leaves the workers sampling.
        """
        was_watching, self._watching = self._watching, False
        if was_watching and self._client.status == "running":
            self._client.sync(self._end, callback_timeout=2 * _TIMEOUT)

    def recent(self) -> pd.DataFrame:
        """Return the rows that the scheduler has kept, which are the last 1000 of all workers by default.

        For a client that comes later, as after a restart of the Jupyter kernel. Index ``worker`` (its name)
        and ``time`` (UTC, when the scheduler received the row); the columns are those of a worker without
        their first part: ``cpu_percent``, ``gpu0/utilization_percent``.

        Raises what the client raises if the scheduler does not answer.
        """
        import pandas as pd  # noqa: PLC0415 - a program that only samples never pays for it

        events = self._client.sync(self._events)
        rows = [(message["name"], stamp, message["own"]) for stamp, message in events if _is_row(message)]
        times = pd.to_datetime([stamp for _, stamp, _ in rows], unit="s", utc=True)
        names = [name for name, _, _ in rows]
        index = pd.MultiIndex.from_arrays([names, times], names=["worker", "time"])
        frame: pd.DataFrame = pd.DataFrame([own for _, _, own in rows], index=index, dtype=float)
        ordered: pd.DataFrame = frame.sort_index(kind="stable")
        return ordered

    # -- on the event loop of the client -----------------------------------------------------------------

    async def _begin(self) -> None:
        """Subscribe, send the plugin to all workers, and take what the scheduler has of them already."""
        async with self._changing:
            if self._watching:  # close() may have come before
                await self._join()

    async def _join(self) -> None:
        listeners = _listeners.setdefault(self._client, weakref.WeakSet())
        listeners.add(self)
        self._connection, self._ahead = self._client.scheduler_comm, None
        try:
            self._client.subscribe_topic(TOPIC, partial(_hear, listeners))
            sending = self._client.register_plugin(Plugin(self._interval))
            answers = await self._answers_of_all(sending, _UNANSWERED)
            await self._first_rows(math.inf if answers is None else len(answers))
            for stamp, message in await self._events():
                self._take(message, max(0.0, time.time() - stamp))
        except BaseException:
            with contextlib.suppress(Exception):  # the first error is the one that says what is wrong
                await self._leave()
            raise

    async def _answers_of_all(self, request: Awaitable[Any], unanswered: str = "") -> Any:
        """Return what all workers answer; None if some do not in time, or end meanwhile.

        The scheduler keeps a plugin before it asks the workers, so one of them costs no other. Until all have
        answered, ``unanswered`` is listed in the errors.
        """
        asking = asyncio.ensure_future(request)
        await asyncio.wait({asking}, timeout=_TIMEOUT)
        if not asking.done():
            self._error = unanswered
            asking.add_done_callback(self._all_have_answered)
            return None
        with contextlib.suppress(OSError):  # of the connection to a worker
            return asking.result()
        return None

    def _all_have_answered(self, asking: asyncio.Future[Any]) -> None:
        if not asking.cancelled():
            asking.exception()  # of a worker that has ended instead; else asyncio prints it
        if self._error == _UNANSWERED:
            self._error = ""

    async def _first_rows(self, workers: float) -> None:
        """Wait until all workers have been heard of, so that the first sample has their columns.

        Not for long: several may be threads of one process, and one may be busy.
        """
        deadline = time.monotonic() + _FIRST_ROWS
        while self._members.count < workers and time.monotonic() < deadline:
            await asyncio.sleep(0.01)

    async def _begin_again(self) -> None:
        self._error = ""
        try:
            await self._begin()
        except Exception as error:  # noqa: BLE001 - of any kind that a comm or a worker may have
            self._error = f"the workers are not watched: {error}; start the monitor again"

    async def _end(self) -> None:
        """Subscribe no longer, and remove the plugin; not while it is still being sent to the workers."""
        async with self._changing:
            await self._leave()

    async def _leave(self) -> None:
        listeners = _listeners.setdefault(self._client, weakref.WeakSet())
        listeners.discard(self)
        if not listeners:
            self._client.unsubscribe_topic(TOPIC)
            await self._answers_of_all(self._client.unregister_worker_plugin(NAME))

    async def _events(self) -> list[tuple[float, Mapping[str, Any]]]:
        """Return the events that the scheduler has kept; the time of each is on our clock."""
        ahead = await self._clock_ahead()
        events = await self._client.get_events(TOPIC)
        return [(stamp - ahead, message) for stamp, message in events if isinstance(message, Mapping)]

    async def _clock_ahead(self) -> float:
        """Return by how many seconds the clock of the scheduler is ahead of ours; measured once.

        The scheduler stamps each event, so one that this client sends and receives shows the difference.
        """
        if self._ahead is None:
            self._ahead = asyncio.get_running_loop().create_future()
            self._asked = time.time()
            await self._client.log_event(TOPIC, {"clock": f"{self._client.id} {id(self)}"})
        return await asyncio.wait_for(asyncio.shield(self._ahead), _TIMEOUT)

    def _hear_clock(self, stamp: float, whose: str) -> None:
        ahead = self._ahead
        if ahead is not None and not ahead.done() and whose == f"{self._client.id} {id(self)}":
            ahead.set_result(stamp - (self._asked + time.time()) / 2)

    def hear(self, stamp: float, message: Any) -> None:
        """Take an event that has just arrived; ``stamp`` is its time on the clock of the scheduler."""
        if isinstance(message, Mapping) and "clock" in message:
            self._hear_clock(stamp, message["clock"])
        else:
            self._take(message, 0.0)

    def _take(self, message: Any, age: float) -> None:
        """Take an event of the topic. Any client may write to it, so it may be anything."""
        try:
            if "error" in message:
                self._members.fail(str(message["name"]), str(message["error"]))
            elif "left" in message:
                self._members.leave(message["key"], str(message["left"]), age)
            elif "clock" not in message:
                self._members.put(Row.from_message(message), age)
        except (TypeError, KeyError):
            self._members.fail("unknown", f"an event of the topic {TOPIC} is no row of this package")


def _is_row(message: Mapping[str, Any]) -> bool:
    """Whether an event of the topic is a row. Any client may write to it, so it may be anything."""
    own = message.get("own")
    return (
        isinstance(message.get("name"), str)
        and isinstance(own, Mapping)
        and all(isinstance(name, str) and isinstance(value, int | float) for name, value in own.items())
    )


def _hear(listeners: weakref.WeakSet[Workers], event: tuple[float, Any]) -> None:
    stamp, message = event
    for listener in tuple(listeners):
        listener.hear(stamp, message)
