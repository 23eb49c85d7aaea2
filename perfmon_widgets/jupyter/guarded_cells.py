"""The memory guard in IPython: when a cell runs, what becomes of a MemoryError, how a cell is interrupted."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import signal
import threading
import traceback
from functools import partial
from types import FrameType
from typing import Any

from IPython.core.getipython import get_ipython

from perfmon_widgets.clocks import time
from perfmon_widgets.core import guard as core_guard
from perfmon_widgets.core.guard import Guard
from perfmon_widgets.core.intervention import STOPPED
from perfmon_widgets.jupyter.black_box import meaningful_line
from perfmon_widgets.jupyter.cells import executing, execution_number
from perfmon_widgets.jupyter.kernel import log_exceptions
from perfmon_widgets.views.death import Cell

# What is raised where memory is missing: by Python and NumPy, by PyTorch and threads, by system calls. The
# last one ends a cell that waits in an ``await``: see GuardedCells._interrupted().
_ERRORS = (MemoryError, RuntimeError, OSError, asyncio.CancelledError)
# Words of a RuntimeError: of PyTorch's allocator, and of a thread that has no memory for its stack.
_NO_MEMORY = ("can't allocate memory", "can't start new thread")


class GuardedCells:
    """Hooks of IPython that are registered while the guard runs."""

    def __init__(self, guard: Guard, shell: Any) -> None:
        self._guard, self._shell = guard, shell
        self._depth = 0  # cells may be nested
        # While a cell runs on the main thread: our handler of SIGINT, and the one in whose place it is.
        self._handlers: tuple[Any, Any] | None = None
        self._over = False  # whether unregister() was called
        self._cancelled = ""  # the guard's message, if it has cancelled the running cell
        self._custom = shell.custom_exceptions, shell.CustomTB

    def register(self) -> None:
        """Register the hooks, and note the cell that is running."""
        callbacks = self._shell.events.callbacks
        # Before all other hooks: those may need memory.
        callbacks["pre_run_cell"].append(self._before)
        callbacks["post_run_cell"].insert(0, self._after)
        self._shell.set_custom_exc(_ERRORS, self._show)
        self._guard.know_cells()
        result = executing(self._shell)
        if result is not None:
            self._before(result.info)

    def unregister(self) -> None:
        """Remove the hooks; from another thread than the main one, the last of them when the cell ends."""
        self._over = True
        self._remove("pre_run_cell", self._before)
        if self._shell.custom_exceptions == _ERRORS:
            self._shell.custom_exceptions, self._shell.CustomTB = self._custom
        self._leave()

    def _leave(self) -> None:
        # Only the main thread can set a handler of SIGINT. On any other, ours stays until the running cell
        # has ended, and hands on what it gets.
        if threading.current_thread() is threading.main_thread():
            self._restore_signal()
            self._remove("post_run_cell", self._after)

    def _remove(self, event: str, hook: Any) -> None:
        with contextlib.suppress(ValueError):  # another program has cleared all hooks
            self._shell.events.unregister(event, hook)

    def _before(self, info: Any) -> None:
        """The pre_run_cell hook."""
        with log_exceptions():
            self._depth += 1
            if self._depth > 1:
                return
            self._cancelled = ""
            interrupt = None
            if threading.current_thread() is threading.main_thread():
                self._install_handler()
                interrupt = _interrupt
            line = meaningful_line(str(info.raw_cell))
            self._guard.cell_began(Cell(execution_number(self._shell), line, time.time()), interrupt)

    def _after(self, _: Any) -> None:
        """The post_run_cell hook."""
        self._depth -= 1
        if self._depth > 0:
            return
        self._depth = 0
        with log_exceptions():
            if self._over:
                self._leave()
                return
            try:
                self._guard.cell_ended()
            finally:
                self._restore_signal()

    def _install_handler(self) -> None:
        former = signal.getsignal(signal.SIGINT)
        # One for each cell, which always hands on to the same former one: a program may keep ours and call
        # it from its own handler, also after the cell. With one for all, two could call each other forever.
        ours = partial(self._interrupted, former)
        self._handlers = ours, former
        signal.signal(signal.SIGINT, ours)

    def _restore_signal(self) -> None:
        if self._handlers is None or threading.current_thread() is not threading.main_thread():
            return
        ours, former = self._handlers
        if former is not None and signal.getsignal(signal.SIGINT) is ours:
            signal.signal(signal.SIGINT, former)
        self._handlers = None

    def _interrupted(self, former: Any, number: int, frame: FrameType | None) -> None:
        """The handler of SIGINT while a cell runs: raises the guard's error if the guard has sent it.

        While the cell waits in an ``await``, the main thread is in the event loop. An error that is raised
        there would end the loop, and the Jupyter kernel with it. So ipykernel has a handler of its own for
        cells with ``await``: it lets the loop cancel them. That does not stop such a cell while it computes,
        because the loop does not run then; the error that is raised there does.
        """
        message, self._guard.pending = self._guard.pending, ""
        if message:
            self._guard.open_reserve()
            if former is signal.default_int_handler or self._is_in_notebook(frame):
                raise MemoryError(message)
            self._cancelled = message
        if callable(former):
            former(number, frame)
        if message:
            # ipykernel's handler does not wake the loop, which may wait for the network for long.
            with contextlib.suppress(RuntimeError):  # there is no loop
                asyncio.get_running_loop().call_soon_threadsafe(lambda: None)

    def _is_in_notebook(self, frame: FrameType | None) -> bool:
        """Whether the main thread runs code of the notebook, or what that has called."""
        while frame is not None and frame.f_globals is not self._shell.user_global_ns:
            frame = frame.f_back
        return frame is not None

    def _show(self, shell: Any, kind: type, error: BaseException, tb: Any, tb_offset: Any = None) -> None:
        """Handle an error of a cell: what IPython calls for one of _ERRORS."""
        self._guard.open_reserve()  # first: there may be no memory for anything else
        if self._cancelled and issubclass(kind, asyncio.CancelledError):
            kind, error = MemoryError, MemoryError(self._cancelled).with_traceback(tb)
            result = executing(shell)
            if result is not None:
                result.error_in_exec = error  # in the reply to the front end
        is_refusal = _is_refusal(error)
        if is_refusal and not str(error).startswith(STOPPED):
            with log_exceptions():
                self._guard.refused(error)
        former, show = self._custom
        if former and issubclass(kind, former):
            show(kind, error, tb, tb_offset)
        else:
            shell.showtraceback((kind, error, tb), tb_offset=tb_offset, running_compiled_code=True)
        if is_refusal:
            # The frames hold the variables of the functions that ran, as long as the traceback is kept.
            traceback.clear_frames(tb)
            # Python 3.10 keeps a copy of them, which IPython has asked for. To ask again renews it.
            for frame, _ in traceback.walk_tb(tb):
                frame.f_locals  # noqa: B018


def _is_refusal(error: BaseException) -> bool:
    """Whether an error says that there was no memory."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, MemoryError) or any(words in str(error) for words in _NO_MEMORY)


def _interrupt() -> None:
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


_hooks: dict[Guard, GuardedCells] = {}


def note_guard(guard: Guard, running: bool) -> None:
    """Register the hooks when the guard starts, remove them when it stops; the core calls this."""
    if running:
        shell = get_ipython()
        if shell is not None:
            _hooks[guard] = GuardedCells(guard, shell)
            _hooks[guard].register()
    elif guard in _hooks:
        _hooks.pop(guard).unregister()


core_guard.watchers.append(note_guard)
