"""Guard: keeps this process below its memory limit, so that an allocation fails instead of the process.

Each second, and up to fifty times a second when little memory is left, the guard sets a limit on the data of
this process: what it has now plus what is left. An allocation beyond that fails at once. Python, NumPy and
pandas then raise MemoryError in the very line, and all variables live.

A Jupyter kernel must be able to go on afterwards. So there is a reserve between the share that cells may fill
and the end of memory: it is open while no cell runs, and from a MemoryError to the end of its cell. Without
it IPython cannot print the traceback, and ipykernel cannot read the next request (measured: the Jupyter
kernel lives, but does not answer).
"""

from __future__ import annotations

import atexit
import math
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from perfmon_widgets.clocks import time
from perfmon_widgets.core.errors import text_of
from perfmon_widgets.core.intervention import INTERRUPTED, REFUSED, STOPPED, Intervention
from perfmon_widgets.core.registry import registry
from perfmon_widgets.core.room import END, Room, Use
from perfmon_widgets.forks import renew_after_fork
from perfmon_widgets.interrupts import Event, start_thread
from perfmon_widgets.views.death import Cell
from perfmon_widgets.views.text import format_used, format_value

if TYPE_CHECKING:
    from perfmon_widgets.collectors.linux.occupied import OccupiedMemory
    from perfmon_widgets.core.data_limit import DataLimit
    from perfmon_widgets.core.heap import Heap

SHARE = 0.92
"""The share of the memory limit that cells may fill, unless another one is given."""

# Memory is touched at this many bytes a second at most, so that what is left lasts this long at least.
_SPEED = 8e9
# After an intervention, and a cell that had nearly filled the memory, free memory is given back after each
# cell until this share is occupied at most.
_NEARLY_FULL, _HALF = 0.8, 0.5
_SHORTEST, _LONGEST = 0.02, 1.0
_TIMEOUT = 5.0


class Parts(NamedTuple):
    """What the guard works with."""

    memory: OccupiedMemory
    limit: DataLimit
    heap: Heap


def _open_parts() -> Parts:
    from perfmon_widgets.collectors.linux.occupied import OccupiedMemory  # noqa: PLC0415 - on Linux only
    from perfmon_widgets.core.data_limit import DataLimit  # noqa: PLC0415
    from perfmon_widgets.core.heap import Heap  # noqa: PLC0415

    limit = DataLimit()
    return Parts(OccupiedMemory(), limit, Heap(limit))


watchers: list[Callable[[Guard, bool], object]] = []
"""Called with the guard when it has started (True) and before it stops (False). In this way
jupyter/guarded_cells.py finds out when a cell runs, although the core does not import IPython."""


class Guard:
    """The memory guard of this process: ``start()``, ``stop()``; all monitors have the same one.

    Linux only. It cannot refuse memory that was reserved before and is only now touched, that other processes
    take, or that programs share (/dev/shm). If such memory fills half of what lies between the share and
    98.5 % of the limit, the running cell is interrupted, once, with a MemoryError that says so. With the
    usual share that is at 95 % of the limit; a cell that began with memory nearly full may fill more. The
    guard looks every 20 ms then. What fills the rest of the memory sooner than that still ends the process.
    """

    def __init__(self, open_parts: Callable[[], Parts] = _open_parts) -> None:
        self._open_parts = open_parts
        self.share = SHARE
        """The share of the memory limit that cells may fill."""
        self.interventions: list[Intervention] = []
        """What the guard has done, the newest last."""
        self.error = ""
        """Why the last step failed; empty if it did not."""
        self._parts: Parts | None = None
        self.renew_after_fork()
        renew_after_fork(self)

    def renew_after_fork(self) -> None:
        """In a forked child: give back the limit, which the child has inherited; nothing is guarded there."""
        self._lock = threading.RLock()  # reentrant: a signal handler may come while a step is made
        self._thread: threading.Thread | None = None
        self._over: Event | None = None  # set when that thread has ended; another one, or None: it is to end
        self._wake_up = threading.Lock()
        self.cell: Cell | None = None
        """The running cell; None if none is running."""
        self._knows_cells = False
        self._open = False  # whether the reserve is
        self._peak = self._children_at = 0.0
        self._room = Room()
        self._tight = False  # whether memory has not been half empty since the last intervention
        self._interrupt: Callable[[], object] | None = None
        self.pending = ""
        """The message of an interrupt that was sent and has not arrived yet."""
        self._give_back_limit()

    @property
    def unavailable(self) -> str:
        """Why this system cannot be guarded; empty if it can."""
        return "" if sys.platform == "linux" else "the memory guard works on Linux only"

    @property
    def running(self) -> bool:
        """Whether this process is guarded."""
        over = self._over
        return over is not None and not over.is_set()

    @property
    def state(self) -> str:
        """What the guard does, or why it cannot, in words; empty if it is off."""
        if self.unavailable or not self.running:
            return self.unavailable
        if self.error:
            return f"memory is guarded by the last known numbers: {self.error}"
        try:
            size = self.occupied()[1]
        except OSError as error:
            return f"memory is guarded by the last known numbers: {error}"
        share = format_value(100 * self.share, "percent")
        return (
            f"allocations beyond {share} of {format_value(size, 'bytes')} of RAM fail, and the kernel lives"
        )

    def start(self, share: float = SHARE) -> None:
        """Keep this process below ``share`` of its memory limit from now on; may be called again.

        Raises ValueError for a share that is not between 0.1 and 0.97, RuntimeError where it does not work.
        """
        if not isinstance(share, (int, float)) or not 0.1 <= share <= 0.97:
            raise ValueError(f"share must be a number from 0.1 to 0.97, not {share!r}")
        if self.unavailable:
            raise RuntimeError(self.unavailable)
        with self._lock:
            self.share = float(share)
            if self.running:
                self._wake()  # the thread sets the limit for this share
                return
            try:
                self._give_back_limit()  # of a thread that has ended without stop()
                self._parts = self._open_parts()
                self.step()
                self._wake_up = threading.Lock()
                self._wake_up.acquire()
                over = self._over = Event()
                thread = threading.Thread(target=self._run, args=(over,), name="perfmon-guard", daemon=True)
                self._thread = thread
                start_thread(thread)
            except BaseException as error:
                self._thread = self._over = None
                self._give_back_limit()  # no thread would ever raise the limit that the step has set
                if not isinstance(error, OSError):
                    raise
                raise RuntimeError(f"memory cannot be guarded here: {error}") from None
        for watcher in watchers:
            watcher(self, True)

    def stop(self) -> None:
        """Give back the limit that was there before; does nothing if not running."""
        thread, over = self._thread, self._over
        if thread is None:
            return
        for watcher in watchers:
            watcher(self, False)
        with self._lock:
            if self._parts is not None:
                self._parts.limit.give_back()
                self._parts.limit.give_back_to_children()
                self._parts.heap.unplug()
            # Last: after an interrupt before this, stop() can be called again.
            self._thread = self._over = self._parts = None
            self._knows_cells, self.cell, self._open = False, None, False
            self._wake()
        if over is not None and thread is not threading.current_thread() and over.wait(_TIMEOUT):
            thread.join(_TIMEOUT)  # it has nothing left to do

    def _give_back_limit(self) -> None:
        if self._parts is not None:
            self._parts.limit.give_back()
            self._parts = None

    def _wake(self) -> None:
        """Make the thread take its next step at once; call it with the lock held."""
        if self._wake_up.locked():
            self._wake_up.release()

    # -- the thread ------------------------------------------------------------------------------------

    def _run(self, over: Event) -> None:
        try:
            self._step_until_stopped(over)
        finally:
            over.set()

    def _step_until_stopped(self, over: Event) -> None:
        while self._over is over:
            # Memory may be missing for this thread, too. Then the limit in force stays.
            try:
                pause = self.step()
                self.error = ""
            except MemoryError:
                pause = _SHORTEST
            except Exception as error:  # noqa: BLE001 - the control group has gone, or its files are odd
                pause, self.error = _LONGEST, text_of(error)
            try:
                self._wake_up.acquire(timeout=pause)
            except MemoryError:
                continue

    def step(self) -> float:
        """Set the limit for what is left now; returns the seconds until the next step is due."""
        with self._lock:
            parts = self._parts
            if parts is None:
                return _LONGEST
            limit = parts.limit
            use = _read(parts)
            self._peak = max(self._peak, use.occupied)
            now = time.monotonic()
            guarded = not self._knows_cells or (self.cell is not None and not self._open)
            share = self.share if guarded else END
            limit.set(self._room.next(use, share, limit.now(), now) if guarded else use.limit(share))
            if self.cell is not None and not self._open and use.occupied >= self._room.trip:
                self._interrupt_cell(use)
        if now >= self._children_at:
            self._children_at = now + _LONGEST
            limit.give_back_to_children()
        return min(max(use.left(share) / _SPEED, _SHORTEST), _LONGEST)

    def occupied(self) -> tuple[float, float]:
        """Return the memory that cannot be given back, and its limit, in bytes; NaN while not running.

        Raises OSError if they cannot be read.
        """
        parts = self._parts
        return (math.nan, math.nan) if parts is None else parts.memory.read()

    def _interrupt_cell(self, use: Use) -> None:
        self._room.trip = math.inf  # once a cell
        if self._interrupt is None:
            return
        self.pending = (
            f"{STOPPED}: RAM {format_used(use.occupied, use.size, 'bytes')} in use, of which "
            f"{format_value(100 * self.share, 'percent')} may be filled. The memory was reserved before, or "
            "another process took it, so that no allocation could be refused"
        )
        self._record(INTERRUPTED, use.occupied, use.size)
        self._interrupt()

    # -- cells: called by jupyter/guarded_cells.py -----------------------------------------------------

    def know_cells(self) -> None:
        """From now on cell_began() and cell_ended() are called: while no cell runs the reserve is open."""
        self._knows_cells = True

    def cell_began(self, cell: Cell, interrupt: Callable[[], object] | None) -> None:
        """Close the reserve; ``interrupt`` interrupts the cell, None if that is not possible."""
        with self._lock:
            parts = self._parts
            if parts is None:
                return
            use = _read(parts)
            self._peak = use.occupied
            self.cell, self._open, self.pending, self._interrupt = cell, False, "", interrupt
            parts.limit.set(self._room.begin(use, self.share, time.monotonic()))

    def open_reserve(self) -> None:
        """Open the reserve until the cell ends. First lifts the limit, which needs no memory."""
        parts = self._parts
        if parts is not None:
            parts.limit.lift()
            self._open = True

    def refused(self, error: BaseException) -> None:
        """Record that an allocation failed with this error, and add a note to the error that says why.

        Python 3.10 has no notes (PEP 678).
        """
        if self._parts is None:
            return
        self.step()
        _, size = self.occupied()
        # What the cell had taken may have been freed on the way here.
        intervention = self._record(REFUSED, self._peak, size)
        if hasattr(error, "add_note"):
            share = format_value(100 * self.share, "percent")
            error.add_note(
                f"perfmon_widgets: {intervention}, of which {share} may be filled. Delete what you do not "
                "need, and run the cell again."
            )

    def cell_ended(self) -> None:
        """Open the reserve until the next cell. First lifts the limit, which needs no memory."""
        parts = self._parts
        if parts is None:
            return
        parts.limit.lift()
        size = parts.memory.read()[1]
        tight, self._tight = self._tight or self._peak > _NEARLY_FULL * size, False
        self.cell, self._open, self.pending, self._interrupt = None, False, "", None
        self._room = Room()
        if tight:
            # What was deleted lies in the allocator's heap, which would keep it for small objects.
            parts.heap.give_back()
            self._plug(parts)
            occupied, size = self.occupied()
            self._tight = occupied > _HALF * size
        self.step()

    def _plug(self, parts: Parts) -> None:
        with self._lock:  # step() sets limits, too
            if self._parts is parts:  # else stop() has unplugged the heap meanwhile
                parts.heap.plug()

    def _record(self, kind: str, occupied: float, size: float) -> Intervention:
        intervention = Intervention(time.time(), kind, self.cell, occupied, size)
        self.interventions.append(intervention)
        self._tight = True
        for monitor in tuple(registry.monitors):
            if monitor.running:
                monitor.mark(str(intervention))
        return intervention


def _read(parts: Parts) -> Use:
    """Return what the memory is used for now.

    The data is read before and after the occupied memory, and the smaller of the two counts. Other threads
    allocate meanwhile: on a busy machine they filled 100 MB between two of these lines. The larger data has
    these 100 MB, but the occupied memory does not, so that the limit would let the threads fill them again.
    """
    before = parts.limit.data()
    occupied, size = parts.memory.read()
    return Use(min(before, parts.limit.data()), occupied, size)


guard = Guard()
"""The memory guard of this process."""
atexit.register(guard.stop)
