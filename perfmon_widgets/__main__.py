"""``python -m perfmon_widgets run``: what a command run from a terminal uses, sampled from outside."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import shlex
import sys
import textwrap
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perfmon_widgets.command import Result
    from perfmon_widgets.core.monitor import PerformanceMonitor
    from perfmon_widgets.metrics import Metric
    from perfmon_widgets.views.totals import Totals

_DESCRIPTION = """\
Run a command and sample, from outside, what it and its children use: the columns process_* are theirs, the
GPUs those that they work on. A summary is printed to standard error at its end. Signals and the exit code are
passed on (128 and its number for a signal that ended it)."""

# What the summary tells, where it was measured; of a GPU what follows its slash.
_SUMMARY = (
    "process_cpu_percent",
    "process_ram_bytes",
    "process_read_bytes_per_second",
    "process_write_bytes_per_second",
    "cpu_percent",
    "ram_used_bytes",
    "utilization_percent",
    "memory_used_bytes",
    "power_watts",
)

# Exit codes of what is not the command's own, as of env(1) and timeout(1).
_OWN_FAILURE, _CANNOT_RUN, _NOT_FOUND = 125, 126, 127
# How long a source that hangs may keep the command from being started, in seconds.
_TIMEOUT = 15.0
# A rate over less time than this says little: no last sample so soon after another, in seconds.
_TOO_SOON = 0.1


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m perfmon_widgets", description="Watch what a program uses."
    )
    actions = parser.add_subparsers(dest="action")
    run = actions.add_parser(
        "run",
        help="run a command and sample what it and its children use",
        description=_DESCRIPTION,
        usage="python -m perfmon_widgets run [--csv FILE] [--interval SECONDS] -- COMMAND …",
    )
    run.add_argument("--csv", metavar="FILE", help="write each sample to this file; one that exists is kept")
    run.add_argument(
        "--interval", metavar="SECONDS", type=_seconds, default=5.0, help="between samples (default: 5)"
    )
    run.add_argument("command", metavar="COMMAND", nargs=argparse.REMAINDER, help="with its arguments")
    options = parser.parse_args(arguments)
    if options.action is None:
        parser.print_help(sys.stderr)
        return 2
    words = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not words:
        run.error("which command? put it behind --")
    if not hasattr(os, "waitid") or sys.platform != "linux":
        _say("a command can be watched on Linux only")
        return _OWN_FAILURE
    return _run(words, options.csv, options.interval)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= threading.TIMEOUT_MAX:
        raise argparse.ArgumentTypeError(f"must be a number of seconds greater than 0, not {text!r}")
    return seconds


def _run(words: Sequence[str], csv: str | None, interval: float) -> int:
    from perfmon_widgets.command import Command  # noqa: PLC0415 - not for other systems than Linux

    # Before anything else is imported: some of that starts threads, and with threads one should not fork.
    command = Command(words)
    from perfmon_widgets.collectors import default_collectors  # noqa: PLC0415
    from perfmon_widgets.core.monitor import PerformanceMonitor  # noqa: PLC0415
    from perfmon_widgets.views.totals import Totals  # noqa: PLC0415

    monitor = PerformanceMonitor(default_collectors(root=command.pid), interval=interval)
    totals = Totals()
    monitor.on_sample(totals.add)
    try:
        if csv is not None:
            monitor.log.start(csv)
    except OSError as error:
        command.abandon()
        _say(error.strerror)
        return _OWN_FAILURE
    monitor.start()
    totals.begun.wait(_TIMEOUT)
    started = time.monotonic()
    try:
        command.let_go()
    except OSError as error:
        monitor.stop()
        if monitor.log.path is not None:
            monitor.log.path.unlink(missing_ok=True)
        _say(error.strerror)
        return _NOT_FOUND if isinstance(error, FileNotFoundError) else _CANNOT_RUN
    command.wait()
    took = time.monotonic() - started
    if totals.count < 2 or time.monotonic() - totals.newest > _TOO_SOON:
        monitor.sample()
    monitor.stop()
    result = command.result()
    _say("\n".join([*_headline(words, took, result), *_table(totals, monitor.metrics), *_about(monitor)]))
    return result.exit_code


def _headline(words: Sequence[str], took: float, result: Result) -> list[str]:
    from perfmon_widgets.views.text import format_duration, format_value  # noqa: PLC0415 - not before the fork

    name = textwrap.shorten(shlex.join(words), 60, placeholder=" …")
    most = ""
    if math.isfinite(result.ram_bytes):
        most = f", at most {format_value(result.ram_bytes, 'bytes')} of RAM in one process"
    return [
        f"{name} ended with exit code {result.exit_code} after {format_duration(took)}: "
        f"{format_duration(result.cpu_seconds)} of CPU time{most}"
    ]


def _table(totals: Totals, metrics: Sequence[Metric]) -> list[str]:
    """The lines of a table: name, mean over time and peak of each column that the summary tells."""
    from perfmon_widgets.views.text import format_value  # noqa: PLC0415 - not before the fork

    rows = [("", "mean", "peak")]
    for name in _SUMMARY:
        for metric in metrics:
            what = metric.name.removeprefix(f"{metric.where}/")
            peak = totals.peak(metric.name)
            if what == name and math.isfinite(peak) and (not metric.where or metric.group == "gpu"):
                mean = totals.mean(metric.name)
                rows.append((metric.name, format_value(mean, metric.unit), format_value(peak, metric.unit)))
    width = max(len(name) for name, _, _ in rows)
    return [f"  {name:<{width}} {mean:>10} {peak:>10}" for name, mean, peak in rows]


def _about(monitor: PerformanceMonitor) -> list[str]:
    """Where the rows are, and what went wrong."""
    log = monitor.log
    lines = [f"{log.rows} rows in {log.path}"] if log.path is not None else []
    if log.error is not None:
        lines.append(f"the log has ended early: {log.error}")
    return lines


def _say(text: object) -> None:
    """Print to standard error; a reader who has gone must not change the exit code."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(f"perfmon_widgets: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
