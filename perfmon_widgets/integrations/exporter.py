"""Exporter: hands each row of a monitor on to another program, on a thread of its own."""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, ClassVar

from perfmon_widgets.clocks import time
from perfmon_widgets.core.sampler import TIMEOUT
from perfmon_widgets.core.shared import started_monitor
from perfmon_widgets.forks import renew_after_fork
from perfmon_widgets.interrupts import Event, start_thread
from perfmon_widgets.metrics import Sample

if TYPE_CHECKING:
    from typing_extensions import Self

    from perfmon_widgets.core.monitor import PerformanceMonitor

MAX_ROWS = 1000
"""How many rows may wait: more than an hour at the default interval. Those that come then are left out."""


class Exporter:
    """Hands each new row of a monitor on, until ``close()``; ``with`` closes it.

    Neither a slow nor a dead server delays a sample or raises: rows wait in a queue, and
    ``monitor.errors[name]`` says what is wrong. ``monitor.stop()`` waits until the rows are handed on, up to
    5 s. A later exporter of the same monitor to the same place replaces this one.

    Args:
        name: the other program, as people call it.
        place: where the rows go: the same for two exporters only if they would do the same.
        write: hands a row on; called on the exporter's thread. Returns whether the other side takes more.
        monitor: by default the shared one if it runs, else the newest that runs, else the shared one, which
            is started.
    """

    _open: ClassVar[weakref.WeakSet[Exporter]] = weakref.WeakSet()

    def __init__(
        self,
        name: str,
        place: object,
        write: Callable[[Sample], bool],
        *,
        monitor: PerformanceMonitor | None = None,
    ) -> None:
        self.missing = 0
        """How many rows could not be handed on."""
        self._name = name
        self._write = write
        self._monitor = started_monitor(monitor)
        self._key = name, place, id(self._monitor)
        self._queue: SimpleQueue[Sample | None] = SimpleQueue()  # None wakes the thread
        self._thread: threading.Thread | None = None
        self._over = Event()
        self._over.set()
        self._ending = self._closed = self._failed = False
        self._asked = math.nan  # since when the other side owes an answer, in monotonic seconds
        for other in tuple(self._open):
            if other._key == self._key:
                other.close()
        self._open.add(self)
        renew_after_fork(self)
        self._monitor.on_sample(self._put)
        self._monitor.on_state(self._flush_if_stopped)

    def renew_after_fork(self) -> None:
        """In a forked child: hand nothing on, since the run belongs to the parent."""
        self._closed = True

    def _put(self, sample: Sample) -> None:
        # On the sampling thread, so this never waits.
        if self._closed:
            return
        if self._queue.qsize() < MAX_ROWS:
            self._queue.put(sample)
        else:
            self.missing += 1
            self._report("rows come faster than they are taken")
        self._report_if_late()
        if self._over.is_set():
            self._ending = False
            self._over = over = Event()
            self._thread = threading.Thread(
                target=self._run, args=(over,), name=f"perfmon-{self._name}", daemon=True
            )
            try:
                start_thread(self._thread)
            except RuntimeError:  # no thread could be made: the next row tries again
                over.set()

    def _run(self, over: Event) -> None:
        try:
            while not self._closed:
                sample = self._queue.get()
                if sample is not None:
                    self._hand_on(sample)
                if self._ending and self._queue.empty():
                    return
        finally:
            over.set()

    def _hand_on(self, sample: Sample) -> None:
        self._asked = time.monotonic()
        try:
            takes_more = self._write(sample)
        except Exception as error:  # noqa: BLE001 - of any kind that a client of the other program may raise
            self.missing += 1
            self._report(f"a row was not handed on: {type(error).__name__}: {error}")
        else:
            if self._failed:
                self._failed = False
                self._monitor.call_soon(bool, self._name)  # which raises nothing, and so clears the error
            if not takes_more:
                self.close()
        finally:
            self._asked = math.nan

    def _report_if_late(self) -> None:
        late = time.monotonic() - self._asked
        if late > TIMEOUT:  # not if it is NaN
            self._report(f"no answer for {late:.0f} s; {self._queue.qsize()} rows are waiting")

    def _report(self, problem: str) -> None:
        self._failed = True
        missing = f" ({self.missing} rows are missing there)" if self.missing else ""
        self._monitor.call_soon(partial(_raise, f"{problem}{missing}"), self._name)

    def _flush_if_stopped(self, running: bool) -> None:
        if not running:
            self._flush()

    def _flush(self) -> None:
        """Hand the waiting rows on and end the thread; waits up to TIMEOUT seconds for that."""
        if not self._over.is_set():
            self._ending = True
            self._queue.put(None)
            if threading.current_thread() is not self._thread and not self._over.wait(TIMEOUT):
                self._report_if_late()

    def close(self) -> None:
        """Hand the waiting rows on and end; waits up to 5 s for that. Does nothing the second time."""
        self._open.discard(self)
        self._monitor.on_sample(self._put, remove=True)
        self._monitor.on_state(self._flush_if_stopped, remove=True)
        if self._closed:
            return
        self._flush()
        self._closed = True
        if not self._over.is_set() and threading.current_thread() is not self._thread:
            self.missing += self._queue.qsize()
            self._report("closed before all rows were handed on")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _raise(text: str) -> None:
    raise RuntimeError(text)


def present(values: Mapping[str, float]) -> dict[str, float]:
    """Return the numbers that are not missing, as ``system/cpu_percent``: so MLflow names system metrics."""
    return {f"system/{name}": value for name, value in values.items() if not math.isnan(value)}
