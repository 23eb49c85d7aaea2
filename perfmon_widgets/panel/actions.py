"""Actions: the path from a click to what it does, read from top to bottom.

1. A person uses a control. The browser sends the change to this Jupyter kernel: on the control channel where
   there is one (link.js), so that it does not wait for the running cell.
2. ipywidgets sets the trait of the control and calls `Actions._used` here: on the main thread while no cell
   runs, else on the control channel's thread.
3. `Actions.run` decides on the thread of the action.
4. `Actions._run` takes the lock, does what was asked for, and redraws the panel.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from perfmon_widgets.forks import renew_after_fork
from perfmon_widgets.panel.controls import Control

if TYPE_CHECKING:
    from perfmon_widgets.core.protocol import Monitor


class Actions:
    """Does what the controls of one panel ask for, one thing at a time.

    Args:
        monitor: actions that must not run on the thread of the request run on this monitor's thread.
        controls: the controls to watch.
        redraw: shows what an action has changed; called after each, by the same thread.
    """

    def __init__(self, monitor: Monitor, controls: Sequence[Control], redraw: Callable[[], object]) -> None:
        self._monitor = monitor
        self._redraw = redraw
        self.renew_after_fork()
        renew_after_fork(self)
        for control in controls:
            control.widget.observe(partial(self._used, control), control.trait)

    def renew_after_fork(self) -> None:
        """In a forked child: make a new lock, since a thread of the parent may have held the old one."""
        self._lock = threading.RLock()
        self._writer: int | None = None
        self._waiting: deque[str] = deque()  # the names of the actions that the sampling thread is to run

    def _used(self, control: Control, change: dict[str, Any]) -> None:
        if self._writer != threading.get_ident():  # else the panel itself shows the state of the monitor
            self.run(control.name, partial(control.act, change["new"]))

    def run(self, name: str, action: Callable[[], object]) -> None:
        """Run an action and redraw: on the main thread at once, from others soon on the sampling thread.

        On the main thread the action is done when this returns, and its exceptions are raised here. The
        thread of the control channel also handles interrupts, so it must not wait for a disk or a reading:
        the action then runs on the sampling thread, and an error is listed in ``monitor.errors`` under
        ``name``.
        """
        if threading.current_thread() is threading.main_thread():
            self._run(action)
        else:
            self._waiting.append(name)
            self._monitor.call_soon(partial(self._run_waiting, action), name)

    @property
    def waiting(self) -> bool:
        """Whether another action is to come. Until then, controls must keep what the person has chosen.

        If they showed the present state, a click that brings them back to it would be no change.
        """
        return bool(self._waiting)

    def _run_waiting(self, action: Callable[[], object]) -> None:
        self._waiting.popleft()
        self._run(action)

    def _run(self, action: Callable[[], object]) -> None:
        with self.writing():
            action()
            self._redraw()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the lock under which widgets are written; a change made inside is not taken for a click.

        A widget may have one writing thread at a time: ipywidgets guards what it is about to send by plain
        attributes.
        """
        with self._lock:
            before, self._writer = self._writer, threading.get_ident()
            try:
                yield
            finally:
                self._writer = before
