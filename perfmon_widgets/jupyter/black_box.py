"""The black box of this Jupyter kernel: beside its connection file, which the next process of it has, too.

When a kernel dies, the Jupyter server starts another process with the same connection file. That process
finds the box, and reports what its predecessor died of.
"""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import Any

from perfmon_widgets.core import spans
from perfmon_widgets.core.black_box import NEEDED, SUFFIX, BlackBox, box_beside, read_death, writer_of
from perfmon_widgets.core.registry import registry
from perfmon_widgets.forks import renew_after_fork
from perfmon_widgets.jupyter import cells
from perfmon_widgets.jupyter.kernel import connection_file
from perfmon_widgets.views.death import Cell, Death


def last_death() -> Death | None:
    """Return what the previous process of this Jupyter kernel died of; None if it ended as it should.

    None also if no monitor was running when it ended, and outside a Jupyter kernel. The answer comes from its
    black box, a file with its last samples beside the kernel's connection file, and stays the same in this
    process.
    """
    return _boxes.last_death()


class _Boxes:
    """The black box that this process writes, and the one that it has found."""

    def __init__(self) -> None:
        self._looked = False
        self._death: Death | None = None
        self._ended = False
        self._monitor: Any = None
        self._box: BlackBox | None = None
        self.renew_after_fork()
        self._forked = False
        renew_after_fork(self)

    def renew_after_fork(self) -> None:
        """In a forked child: make a new lock, and leave the boxes to the kernel, which is the parent."""
        self._lock = threading.RLock()  # reentrant: a signal handler may stop a monitor
        self._forked = True
        self._monitor = self._box = None

    def last_death(self) -> Death | None:
        """Return what the previous process died of; reads and removes its box in the first call."""
        with self._lock:
            path = _path()
            if not self._looked and path is not None and not self._forked:
                self._looked = True
                self._death = read_death(path)
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)
                _remove_orphans(path.parent)
            return self._death

    def note(self, monitor: Any, running: bool) -> None:
        """Write the box from the samples of one running monitor; another follows when it stops."""
        with self._lock:
            if running:
                self.last_death()
                if self._monitor is None:
                    self._write_from(monitor)
            elif monitor is self._monitor:
                self._stop_writing()
                self._write_from_another(monitor)

    def _write_from_another(self, monitor: Any) -> None:
        for other in tuple(registry.monitors):
            if other is not monitor and other.running and self._monitor is None:
                self._write_from(other)

    def _write_from(self, monitor: Any) -> None:
        path = _path()
        if path is None or self._forked or self._ended:
            return
        if not any(metric.name == NEEDED for metric in monitor.metrics):
            return
        self._box, self._monitor = BlackBox(path, monitor.metrics), monitor
        monitor.on_sample(self._box.write)
        self.show_cell(cells.executed.newest)

    def show_cell(self, cell: cells.RunningCell | None) -> None:
        """Write which cell is running, None if none is."""
        box = self._box
        if box is not None:
            line = "" if cell is None else meaningful_line(str(cell.info.raw_cell))
            box.show_cell(None if cell is None else Cell(cell.number, line, cell.start))

    def _stop_writing(self) -> None:
        if self._box is not None:
            self._monitor.on_sample(self._box.write, remove=True)
            self._box.remove()
        self._monitor = self._box = None

    def end(self) -> None:
        """Remove the box for good."""
        box, self._ended = self._box, True
        if box is not None:  # without the lock: this must not wait
            box.remove()


def meaningful_line(source: str) -> str:
    """Return the first line of a cell that is neither empty nor a comment nor a magic of the whole cell."""
    lines = [line.strip() for line in source.splitlines()]
    found = [line for line in lines if line and not line.startswith(("#", "%%"))]
    line = (found or [line for line in lines if line] or [""])[0]
    return line if len(line) <= spans.LONGEST_NAME else f"{line[: spans.LONGEST_NAME - 1]}…"


def _path() -> Path | None:
    """Return the file of this kernel's black box; None outside a kernel that has a connection file."""
    path = connection_file()
    return box_beside(path) if path else None


def _remove_orphans(folder: Path) -> None:
    """Remove the boxes of killed kernels that no server will start again: their connection file is gone."""
    for path in folder.glob(f"*{SUFFIX}"):
        with contextlib.suppress(OSError):
            if not path.with_suffix(".json").exists() and writer_of(path) is not None:
                path.unlink()


_boxes = _Boxes()


def end() -> None:
    """Remove the black box, since this kernel was asked to end: it may be killed before it has ended."""
    _boxes.end()


def note_black_box(monitor: Any, running: bool) -> None:
    """Begin to write the black box from a monitor, or end that; the core calls this at start and stop."""
    _boxes.note(monitor, running)


spans.watchers.append(note_black_box)
cells.listeners.append(_boxes.show_cell)
