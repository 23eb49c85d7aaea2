"""Training: what a callback of any framework reports to a monitor about its training loop.

Spans, the rate of steps, the wait for data, and values. Nothing here reads a number from a GPU, or raises.
"""

from __future__ import annotations

import math
import re
import sys
import threading
from collections.abc import Mapping
from functools import partial
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from perfmon_widgets.core.recorded import LONGEST_NAME
from perfmon_widgets.core.shared import started_monitor
from perfmon_widgets.core.spans import SPAN, Span
from perfmon_widgets.core.steps import Loop
from perfmon_widgets.forks import renew_after_fork

if TYPE_CHECKING:
    from perfmon_widgets.core.monitor import PerformanceMonitor
    from perfmon_widgets.metrics import Sample


class Training:
    """The spans, steps and values of one training loop at a time, in one monitor.

    Args:
        monitor: where to record; by default the usual one, chosen and started whenever a span begins while
            none is open.
        library: the package whose function runs the loop and has no hook for exceptions. When that function
            has ended, the next sample ends the spans that are still open. In a loop of the user's own they
            stay open until the next training.
    """

    def __init__(self, monitor: PerformanceMonitor | None = None, library: str = "") -> None:
        self._given = monitor
        self._library = library
        self._monitor = monitor
        self._refused: set[str] = set()  # what could not be recorded; each is reported once
        self.renew_after_fork()
        renew_after_fork(self)

    def renew_after_fork(self) -> None:
        """In a forked child: a new lock, and no spans, since those that are open are the parent's."""
        self._lock = threading.Lock()  # Keras ends a step on another thread than it begins one
        self._spans: list[tuple[Span, bool]] = []  # and whether steps are measured in it
        self._call: _Call | None = None
        self._loop: Loop | None = None
        self._step: float = -math.inf

    def __reduce__(self) -> tuple[Any, ...]:
        # Some launchers pickle the callbacks. Another process has a monitor of its own.
        return type(self), (None, self._library)

    def __deepcopy__(self, _: object) -> Training:
        return Training(self._given, self._library)

    @property
    def innermost(self) -> str:
        """The name of the innermost open span; empty if none is open."""
        spans = self._spans
        return spans[-1][0].name if spans else ""

    def enter(self, name: str, *, steps: bool = False) -> None:
        """Begin a span, inside those that are open. In an epoch, ``steps``, steps are measured."""
        if not self._spans:
            self._spans = []  # a new list: the sampling thread may be about to end those in the old one
            self._call = _Call.of(self._library)
            self._monitor = started_monitor(self._given)
            self._monitor.on_sample(self._end_if_left)
        self.pause()
        self._spans.append((self._monitor_now().begin(SPAN, name), steps))
        if steps:
            self._begin_loop()

    def leave(self) -> None:
        """End the innermost span, and go on with the one around it; does nothing if none is open."""
        self.pause()
        spans, monitor = self._spans, self._monitor_now()
        _end(monitor, spans[-1:])
        del spans[-1:]
        if not spans:
            monitor.on_sample(self._end_if_left, remove=True)
        elif spans[-1][1]:
            self._begin_loop()

    def end(self, *, raised: bool = False) -> None:
        """End all spans; ``raised`` says that an exception ended them."""
        self.pause()
        if self._spans:
            spans, self._spans = self._spans, []
            _end(self._monitor_now(), spans, raised=raised)
            self._monitor_now().on_sample(self._end_if_left, remove=True)

    def _end_if_left(self, _: Sample) -> None:
        """End the spans if the function that runs the loop has ended without a word: it has raised."""
        spans, call, loop = self._spans, self._call, self._loop
        if spans and call is not None and not call.goes_on():
            if loop is not None:
                loop.end()
            _end(self._monitor_now(), spans, raised=True)
            spans.clear()

    # -- steps -----------------------------------------------------------------------------------------

    def step(self, samples: float = math.nan, number: float = math.inf) -> None:
        """Note that a step begins, since its batch is here, and how many samples are in that."""
        loop = self._loop_now()
        if loop is not None:
            with self._lock:
                self._step = number
                loop.take(samples)

    def wait(self, number: float = math.inf) -> None:
        """Note that a step has ended, and that the loop waits for the next batch from now on.

        Does nothing if a step with a higher number has begun.
        """
        loop = self._loop_now()
        if loop is not None:
            with self._lock:
                self._wait(loop, number)

    def _wait(self, loop: Loop, number: float) -> None:
        if number >= self._step:
            loop.wait()

    def pause(self) -> None:
        """Do not measure what the loop does from now until the next step() or wait()."""
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.end()

    def _loop_now(self) -> Loop | None:
        """Return the loop of this epoch, a new one after a pause; None outside epochs."""
        loop = self._loop
        if loop is None and self._spans and self._spans[-1][1]:
            loop = self._begin_loop()
        return loop

    def _begin_loop(self) -> Loop | None:
        monitor = self._monitor_now()
        try:
            self._loop = monitor.begin_steps()
            self._step = -math.inf
        except ValueError as error:  # the user records series of these names
            self._report("steps", error)
        return self._loop

    # -- values ----------------------------------------------------------------------------------------

    def record(self, values: Mapping[str, Any]) -> None:
        """Record what the framework has logged. What cannot be recorded is named in the monitor's errors."""
        monitor = self._monitor_now()
        for name, value in values.items():
            try:
                monitor.record(**{column(name): value})
            except Exception as error:  # noqa: BLE001 - code of the value's class
                self._report(f"record {name}", error)

    def _monitor_now(self) -> PerformanceMonitor:
        if self._monitor is None:
            self._monitor = started_monitor(self._given)
        return self._monitor

    def _report(self, name: str, error: Exception) -> None:
        if name not in self._refused:
            self._refused.add(name)
            self._monitor_now().call_soon(partial(_raise, error), name)


def _end(monitor: PerformanceMonitor, spans: list[tuple[Span, bool]], *, raised: bool = False) -> None:
    for span, _ in reversed(spans):
        monitor.end(span, raised=raised)


def _raise(error: Exception) -> NoReturn:
    raise error


def column(name: str) -> str:
    """Return a column for what a framework calls ``name``: ``top_5/val_acc`` for ``top-5/val acc``."""
    parts = [re.sub(r"\W", "_", part) for part in name.split("/") if part]
    parts = [part if part.isidentifier() else f"_{part}" for part in parts]
    return "/".join(parts)[:LONGEST_NAME].rstrip("/") or "_"


class _Call(NamedTuple):
    """A call of a function that is being executed by a thread. It keeps no reference to the frame."""

    thread: int
    frame: int
    code: CodeType

    @classmethod
    def of(cls, library: str) -> _Call | None:
        """Return the outermost call into this package on this thread; None if that does not run the loop.

        A user's own loop may call the package for each event, which then only passes it on to the callbacks,
        as ``CallbackList.on_epoch_begin`` of Keras does. Such functions are named after events.
        """
        frame: FrameType | None = sys._getframe()
        found = None
        while frame is not None:
            if library and str(frame.f_globals.get("__name__", "")).partition(".")[0] == library:
                found = frame
            frame = frame.f_back
        if found is None or found.f_code.co_name.startswith("on_"):
            return None
        return cls(threading.get_ident(), id(found), found.f_code)

    def goes_on(self) -> bool:
        """Whether it is still being executed."""
        frame = sys._current_frames().get(self.thread)
        while frame is not None:
            if id(frame) == self.frame and frame.f_code is self.code:
                return True
            frame = frame.f_back
        return False
