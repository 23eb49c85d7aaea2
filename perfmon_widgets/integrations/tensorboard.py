"""Exporter to TensorBoard: each row becomes one event of a file in a folder of its own."""

from __future__ import annotations

import io
import itertools
import os
import socket
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from perfmon_widgets.integrations.exporter import Exporter, present

if TYPE_CHECKING:
    from perfmon_widgets.core.monitor import PerformanceMonitor
    from perfmon_widgets.metrics import Sample

_numbers = itertools.count()  # of the files of this process


def export_to_tensorboard(
    logdir: str | PathLike[str], *, monitor: PerformanceMonitor | None = None
) -> Exporter:
    """Write each row of a monitor as scalars ``system/…`` below ``logdir``, until ``close()``.

    The step of a row is the number of whole seconds since the first; missing numbers are left out. The file
    is in ``logdir/perfmon``, since TensorBoard follows one growing file in each folder.

    Args:
        logdir: the folder that TensorBoard shows, or a run below it.
        monitor: by default the shared monitor or the one that runs, which is started.

    An error of the disk is in ``monitor.errors``.
    """
    folder = Path(logdir).absolute() / "perfmon"
    file = _EventFile(folder)
    first: list[float] = []

    def write(sample: Sample) -> bool:
        if not first:
            first.append(sample.time)
        scalars = [
            Summary.Value(tag=tag, simple_value=value) for tag, value in present(sample.values).items()
        ]
        step = max(0, int(sample.time - first[0]))
        file.append(Event(wall_time=sample.time, step=step, summary=Summary(value=scalars)))
        return True

    return Exporter("TensorBoard", str(folder), write, monitor=monitor)


class _EventFile:
    """A file of events in a folder; each event is written as a whole or not at all.

    TensorBoard's own EventFileWriter writes on a thread, which ends with the first error of the disk. From
    then on it only raises that error. It may also leave a part of an event, behind which nothing is read.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path: Path | None = None

    def append(self, event: Event) -> None:
        """Append an event, in a file that is made if there is none. Raises OSError."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path, self._path = self._path or self._new_path(event.wall_time), None  # unless its end is intact
        with path.open("ab", buffering=0) as file:
            size = file.tell()
            version = Event(wall_time=event.wall_time, file_version="brain.Event:2")
            content = _record(event) if size else _record(version) + _record(event)
            try:
                while content:  # a disk that is nearly full takes a part, and then raises
                    content = content[file.write(content) :]
            except OSError:
                file.truncate(size)
                self._path = path
                raise
        self._path = path

    def _new_path(self, at: float) -> Path:
        # TensorBoard reads the files of a folder in the order of their names.
        name = f"{int(at):010d}.{socket.gethostname()}.{os.getpid()}.{next(_numbers)}"
        return self._folder / f"events.out.tfevents.{name}"


def _record(event: Event) -> bytes:
    """Return an event with its length and its checksums, as it stands in the file."""
    content = io.BytesIO()
    RecordWriter(content).write(event.SerializeToString())
    return content.getvalue()
