"""Exporter to TensorBoard: each row becomes one event of a file in a folder of its own."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from perfmon_widgets.integrations.exporter import Exporter, present

if TYPE_CHECKING:
    from perfmon_widgets.core.monitor import PerformanceMonitor
    from perfmon_widgets.metrics import Sample


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
    folder = str(Path(logdir).absolute() / "perfmon")
    writers: list[EventFileWriter] = []
    first: list[float] = []

    def write(sample: Sample) -> bool:
        if not writers:
            writers.append(EventFileWriter(folder))
            first.append(sample.time)
        scalars = [
            Summary.Value(tag=tag, simple_value=value) for tag, value in present(sample.values).items()
        ]
        step = max(0, int(sample.time - first[0]))
        writers[0].add_event(Event(wall_time=sample.time, step=step, summary=Summary(value=scalars)))
        writers[0].flush()
        return True

    def finish() -> None:
        for writer in writers:
            writer.close()

    return Exporter("TensorBoard", folder, write, finish=finish, monitor=monitor)
