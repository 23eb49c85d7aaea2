"""NodeActors: an actor on each node of a Ray cluster, and the thread that asks each for its next row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, TypeAlias

import ray
from ray.exceptions import RayError, RayTaskError, RuntimeEnvSetupError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from perfmon_widgets.clocks import time
from perfmon_widgets.cluster import ray_actor
from perfmon_widgets.cluster.members import Members
from perfmon_widgets.cluster.rows import Row
from perfmon_widgets.core.errors import text_of
from perfmon_widgets.interrupts import Event, start_thread

# Seconds after which the list of nodes is read again.
_LOOK_EVERY = 2.0
# Seconds for which a node gets no second new actor.
_START_EVERY = 10.0
# Seconds for which an actor waits for a row before it answers that there is none.
_WAIT = 10.0
_INSTALL = "install it on all nodes, or have Ray do it: ray.init(runtime_env={'pip': ['perfmon_widgets']})"

# By value, so that a node without this package can say so: see ray_actor.py.
ray.cloudpickle.register_pickle_by_value(ray_actor)
# It ends with the connection of this process, also where actors are detached by default. It does not restart
# by itself: a lost one is replaced here, whatever it was lost by.
_Actor = ray.remote(num_cpus=0, lifetime="non_detached")(ray_actor.PerfmonNode)

_Answer: TypeAlias = "tuple[str, Any, Future[Any]]"
"""The id of a node, its actor, and the message that the actor has sent, or the error."""


class NodeActors:
    """Hands the rows of all nodes to ``members``, also those of nodes that join later, until end().

    All calls to Ray are made on a thread of its own: they may wait for the network. Most of them would start
    a cluster in a process that is not connected, so none is made then.
    """

    def __init__(self, members: Members, interval: float) -> None:
        self.error = ""
        """Why the nodes cannot be listed, or an actor cannot be started; empty if they can."""
        self.answered = Event()
        """Set when each node of the first look has answered, or cannot."""
        self._members, self._interval = members, interval
        self._job = ""  # that of this process; empty while it is not connected
        self._names: dict[str, str] = {}  # of the nodes, by id
        self._actors: dict[str, Any] = {}
        self._started: dict[str, float] = {}  # when an actor was started last, in monotonic seconds
        self._refused: set[str] = set()  # the nodes that cannot be watched
        self._unheard: set[str] = set()  # the nodes that have not answered yet
        self._answers: SimpleQueue[_Answer | None] = SimpleQueue()  # None ends the thread
        self._look_at = 0.0  # when to look for nodes again
        self._thread = Thread(target=self._run, name="perfmon-ray", daemon=True)
        start_thread(self._thread)

    def end(self) -> None:
        """Have the actors and the thread end soon; does not wait for that."""
        self._answers.put(None)

    def join(self, seconds: float) -> None:
        """Wait for the end of the thread, up to ``seconds``."""
        self._thread.join(seconds)

    # -- on the thread -------------------------------------------------------------------------------------

    def _run(self) -> None:
        going = True
        while going:
            try:
                going = self.step()
            except Exception as error:  # noqa: BLE001 - of any kind that Ray may have; the next step may succeed
                self.error = text_of(error)
        try:
            for actor in self._actors.values():
                self._kill(actor)
        except Exception as error:  # noqa: BLE001 - as above: the connection has ended meanwhile
            self.error = text_of(error)
        self._forget("is watched no longer")

    def step(self) -> bool:
        """Look for nodes if it is due, and wait for an answer until it is again; return whether to go on."""
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + _LOOK_EVERY
            self.look()
        try:
            answer = self._answers.get(timeout=max(0.0, self._look_at - time.monotonic()))
        except Empty:
            return True
        if answer is not None:
            self.take(*answer)
        return answer is not None

    def look(self) -> None:
        """Start an actor on each node that has none, and forget the nodes that have left."""
        connected = ray.is_initialized()
        job = ray.get_runtime_context().get_job_id() if connected else ""
        if job != self._job:  # then the actors have ended
            self._forget("is watched no longer: this process is not connected to Ray")
            self._job = job
        if connected:
            self._update(ray.nodes())
        self.error = ""
        self._tell_if_answered()

    def take(self, node: str, actor: Any, answer: Future[Any]) -> None:
        """Take the answer of an actor, and ask it for the next one."""
        if self._actors.get(node) is not actor:  # it was replaced
            return
        try:
            message = answer.result()
        except ImportError as error:  # also a RayTaskError: it was raised there
            cause = text_of(getattr(error, "cause", error))
            self._refuse(node, f"perfmon_widgets cannot be imported there ({cause}); {_INSTALL}")
        except (RayTaskError, RuntimeEnvSetupError) as error:
            self._refuse(node, f"cannot be watched: {text_of(getattr(error, 'cause', error))}")
        except RayError as error:
            self._drop(node, f"has lost its monitor, and gets a new one: {text_of(error).splitlines()[0]}")
            self._look_at = 0.0  # perhaps the node has left
        else:
            self._ask(node, actor)
            if message is not None:
                self._put(node, message)
        self._unheard.discard(node)
        self._tell_if_answered()

    def _put(self, node: str, message: Mapping[str, Any]) -> None:
        try:
            row = Row.from_message(message)
        except (KeyError, TypeError):
            reason = "its rows lack a field; install the same version of perfmon_widgets on all nodes as here"
            self._members.fail(self._names[node], reason)
        else:
            self._members.put(row)

    def _update(self, listed: Sequence[Mapping[str, Any]]) -> None:
        alive = {each["NodeID"]: each for each in listed if each["Alive"]}
        dead = {each["NodeID"]: each for each in listed if not each["Alive"]}
        for node in self._names.keys() - alive.keys():
            why = dead.get(node, {}).get("DeathReasonMessage", "")
            self._drop(node, f"has left the cluster{': ' if why else ''}{why}")
            self._refused.discard(node)
            self._started.pop(node, None)
            del self._names[node]
        for node in sorted(alive.keys() - self._names.keys(), key=lambda node: _order(alive[node])):
            self._names[node] = _name(alive[node])
            self._members.expect(node, self._names[node])
        now = time.monotonic()
        for node in self._names.keys() - self._actors.keys() - self._refused:
            if now - self._started.get(node, -_START_EVERY) >= _START_EVERY:
                self._started[node] = now
                self._start(node, float(alive[node]["Resources"].get("CPU", 0)))

    def _start(self, node: str, cpus: float) -> None:
        there = NodeAffinitySchedulingStrategy(node, soft=False)
        actor = _Actor.options(scheduling_strategy=there).remote(
            self._interval, cpus, node, self._names[node]
        )
        self._actors[node] = actor
        self._unheard.add(node)
        self._ask(node, actor)

    def _ask(self, node: str, actor: Any) -> None:
        if ray.is_initialized():
            future = actor.next_row.remote(_WAIT).future()
            future.add_done_callback(partial(_hand_over, self._answers, node, actor))

    def _refuse(self, node: str, reason: str) -> None:
        self._drop(node, reason)
        self._members.fail(self._names[node], reason)
        self._refused.add(node)

    def _drop(self, node: str, reason: str) -> None:
        """Have the numbers of a node missing for this reason, and end its actor."""
        self._members.leave(node, reason)
        self._unheard.discard(node)
        actor = self._actors.pop(node, None)
        if actor is not None:
            self._kill(actor)

    def _kill(self, actor: Any) -> None:
        if ray.is_initialized():
            ray.kill(actor)

    def _forget(self, reason: str) -> None:
        for node in self._names:
            self._members.leave(node, reason)
        for known in (self._names, self._actors, self._started, self._refused, self._unheard):
            known.clear()

    def _tell_if_answered(self) -> None:
        if not self._unheard:
            self.answered.set()


def _hand_over(answers: SimpleQueue[_Answer | None], node: str, actor: Any, answer: Future[Any]) -> None:
    answers.put((node, actor, answer))


def _name(node: Mapping[str, Any]) -> str:
    """Return what people know a node by: its address, and how its id in ``ray list nodes`` begins."""
    return f"{node['NodeManagerAddress']}, {node['NodeID'][:8]}{', head' if _is_head(node) else ''}"


def _is_head(node: Mapping[str, Any]) -> bool:
    return "node:__internal_head__" in node["Resources"]


def _order(node: Mapping[str, Any]) -> tuple[bool, str, str]:
    """Where a new node comes among the others: the head first, then by address."""
    return not _is_head(node), node["NodeManagerAddress"], node["NodeID"]
