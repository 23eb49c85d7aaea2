"""``python -m perfmon_widgets run``: sample from outside what a command and its children use."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import shlex
import signal
import sys
import textwrap
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from perfmon_widgets.clocks import time

if TYPE_CHECKING:
    from perfmon_widgets.cluster.rank_processes import RankLogs
    from perfmon_widgets.command import Command, Result
    from perfmon_widgets.core.monitor import PerformanceMonitor
    from perfmon_widgets.metrics import Metric
    from perfmon_widgets.views.statistics import Totals
    from perfmon_widgets.web.server import PerformanceServer

_DESCRIPTION = """\
Run a command and sample from outside what it and its children use: the columns process_* are theirs, and the
GPUs are those that they use. A summary is printed to standard error at the end. Signals are forwarded to the
command, and its exit code is passed on (128 plus the number of the signal that ended it)."""

# The exit codes of failures that are not the command's own, the same as those of env(1) and timeout(1).
_OWN_FAILURE, _CANNOT_RUN, _NOT_FOUND = 125, 126, 127
# Seconds to wait for the first sample before the command is started without it: a source may hang.
_TIMEOUT = 15.0
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
# Seconds between the last two samples at least: a rate over less time says little.
_TOO_SOON = 0.1


def main(arguments: Sequence[str] | None = None) -> int:
    """Execute the command line, by default that of this process, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m perfmon_widgets", description="Watch what a program uses."
    )
    actions = parser.add_subparsers(dest="action")
    run = actions.add_parser(
        "run",
        help="run a command and sample what it and its children use",
        description=_DESCRIPTION,
        usage="python -m perfmon_widgets run [--csv FILE | --ranks FOLDER] [--interval SECONDS] [--serve] "
        "[--serve-after TIME] -- COMMAND …",
    )
    files = run.add_mutually_exclusive_group()
    files.add_argument(
        "--csv",
        metavar="FILE",
        help="write each sample to this file; a file that exists is never overwritten",
    )
    files.add_argument(
        "--ranks",
        metavar="FOLDER",
        help="write a file for each rank of a distributed job to this folder: of the command, if it was "
        "started as a rank (srun, mpirun), or of those that it starts (torchrun, accelerate)",
    )
    run.add_argument(
        "--interval", metavar="SECONDS", type=_seconds, default=5.0, help="time between samples (default: 5)"
    )
    run.add_argument(
        "--serve", action="store_true", help="print the address of a live page, which ends with the command"
    )
    run.add_argument(
        "--serve-after",
        metavar="TIME",
        type=_duration,
        help="serve the page, and keep its last state for this long after the command ends: 30s, 10m, 2h",
    )
    run.add_argument(
        "command", metavar="COMMAND", nargs=argparse.REMAINDER, help="the command and its arguments"
    )
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
    serving = options.serve_after or (0.0 if options.serve else None)
    return _run(words, options.csv, options.ranks, interval=options.interval, serving=serving)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= threading.TIMEOUT_MAX:
        raise argparse.ArgumentTypeError(f"must be a number of seconds greater than 0, not {text!r}")
    return seconds


def _duration(text: str) -> float:
    number, unit = (text[:-1], text[-1]) if text[-1:] in _UNITS else (text, "s")
    try:
        return _seconds(str(_seconds(number) * _UNITS[unit]))
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"must be a time such as 30s, 10m or 2h, not {text!r}") from None


def _run(
    words: Sequence[str], csv: str | None, folder: str | None, *, interval: float, serving: float | None
) -> int:
    from perfmon_widgets.command import Command  # noqa: PLC0415 - Linux only

    # Before the other imports, since some of them start threads: a process with threads must not fork.
    command = Command(words)
    from perfmon_widgets.collectors import default_collectors  # noqa: PLC0415
    from perfmon_widgets.collectors.linux.oom_kills import OomKills  # noqa: PLC0415
    from perfmon_widgets.core.monitor import PerformanceMonitor  # noqa: PLC0415
    from perfmon_widgets.views.statistics import Totals  # noqa: PLC0415

    kills = OomKills()
    kills_before = kills.read()
    monitor = PerformanceMonitor(default_collectors(root=command.pid), interval=interval)
    totals = Totals()
    monitor.on_sample(totals.add)
    try:
        if csv is not None:
            monitor.log.start(csv)
        ranks = None if folder is None else _log_ranks(monitor, command.pid, folder)
        server = None if serving is None else _serve(monitor)
    except (OSError, ValueError) as error:
        command.abandon()
        _say(getattr(error, "strerror", None) or error)
        return _OWN_FAILURE
    monitor.start()
    totals.begun.wait(_TIMEOUT)
    started = time.monotonic()
    try:
        command.start()
    except OSError as error:
        monitor.stop()
        if ranks is not None:
            ranks.close()
        if monitor.log.path is not None:
            monitor.log.path.unlink(missing_ok=True)
        if monitor.log.path is not None and folder is not None:  # what log_to() says about the rank
            monitor.log.path.with_suffix(".json").unlink(missing_ok=True)
        _say(error.strerror)
        return _NOT_FOUND if isinstance(error, FileNotFoundError) else _CANNOT_RUN
    command.wait()
    ended, took = time.time(), time.monotonic() - started
    if totals.count < 2 or time.monotonic() - totals.newest > _TOO_SOON:
        monitor.sample()
    monitor.stop()
    if ranks is not None:
        ranks.close()
    result = command.result()
    rise = kills.read() - kills_before
    why = _why_killed(result, monitor, ended, rise, of_machine=kills.of_machine)
    lines = [_first_line(words, took, result), *why, *_table(totals, monitor.metrics)]
    lines += _about_log(monitor) if ranks is None or ranks.of_command else ranks.words
    _say("\n".join(lines))
    if server is not None:
        _end(server, command, serving or 0.0)
    return result.exit_code


def _log_ranks(monitor: PerformanceMonitor, pid: int, folder: str) -> RankLogs:
    """Log the ranks that the command starts, each to a file of its own."""
    from perfmon_widgets.cluster.rank_processes import RankLogs  # noqa: PLC0415 - not before the fork

    return RankLogs(monitor, pid, folder)


def _end(server: PerformanceServer, command: Command, seconds: float) -> None:
    """Stop the live page; first keep it for this many seconds, or until Ctrl+C."""
    from perfmon_widgets.views.text import format_duration  # noqa: PLC0415 - not before the fork

    if seconds:
        _say(f"the live page stays for {format_duration(seconds)}; Ctrl+C ends it: {server.page_url}")
        command.linger(seconds)
    server.stop()


def _serve(monitor: PerformanceMonitor) -> PerformanceServer:
    """Serve the live page and print its address."""
    from perfmon_widgets.web.server import serve  # noqa: PLC0415 - not before the fork

    server = serve(monitor)
    _say(f"live page: {server.page_url}")
    return server


def _first_line(words: Sequence[str], took: float, result: Result) -> str:
    """Return how the command ended, after what time, and what it used in all."""
    from perfmon_widgets.views.text import format_duration, format_value  # noqa: PLC0415 - not before the fork

    name = textwrap.shorten(shlex.join(words), 60, placeholder=" …")
    ram = ""
    if math.isfinite(result.ram_bytes):
        ram = f", at most {format_value(result.ram_bytes, 'bytes')} of RAM in one process"
    return (
        f"{name} ended with exit code {result.exit_code} after {format_duration(took)}: "
        f"{format_duration(result.cpu_seconds)} of CPU time{ram}"
    )


def _why_killed(
    result: Result, monitor: PerformanceMonitor, ended: float, rise: float, *, of_machine: bool
) -> list[str]:
    """Return a line that says what killed the command; nothing if it ended by itself, or by Ctrl+C.

    ``ended`` is when it did, in Unix seconds: later samples do not show its memory. ``rise``: by how much the
    count of OOM kills has risen meanwhile. A shell that runs the command for us ends by itself, with the exit
    code 137, when the command is killed.
    """
    from perfmon_widgets.views.death import Evidence, judge  # noqa: PLC0415 - not before the fork

    killed = result.exit_code == 128 + signal.SIGKILL
    if result.signal == signal.SIGINT or not (result.signal or (killed and rise > 0)):
        return []
    moments, values = monitor.rows
    times = [microseconds / 1e6 for microseconds in moments.astype(int).tolist()]
    times = [at for at in times if at < ended] or times
    columns = [column.tolist()[: len(times)] for column in values.T]
    series = {metric.name: column for metric, column in zip(monitor.metrics, columns, strict=False)}
    count = _until_fullest(times, series.get("ram_used_bytes", ()))
    times, series = times[:count], {name: column[:count] for name, column in series.items()}
    status = -(result.signal or signal.SIGKILL)
    evidence = Evidence.of(times, series, rise, of_machine=of_machine, exit_status=status)
    return [f"why: {judge(evidence, None, (), times, series).evidence}"]


def _until_fullest(times: Sequence[float], used: Sequence[float]) -> int:
    """Return how many rows there are up to the one with the most memory of the last second.

    A command is killed some time before that is noticed. A sample in between shows memory that is free again.
    """
    recent = [number for number, value in enumerate(used) if times[-1] - times[number] <= 1.0 and value >= 0]
    return max(recent, key=used.__getitem__, default=len(times) - 1) + 1


def _table(totals: Totals, metrics: Sequence[Metric]) -> list[str]:
    """Return the lines of a table: name, mean over time and peak of each headline column that has values."""
    from perfmon_widgets.views.headline import headline_of_command  # noqa: PLC0415 - not before the fork
    from perfmon_widgets.views.text import format_value  # noqa: PLC0415

    rows = [("", "mean", "peak")]
    for metric in headline_of_command(metrics):
        mean, peak = totals.mean(metric.name), totals.peak(metric.name)
        if math.isfinite(peak):
            rows.append((metric.name, format_value(mean, metric.unit), format_value(peak, metric.unit)))
    width = max(len(name) for name, _, _ in rows)
    return [f"  {name:<{width}} {mean:>10} {peak:>10}" for name, mean, peak in rows]


def _about_log(monitor: PerformanceMonitor) -> list[str]:
    """Return where the rows are, and what is wrong with the log if anything is; nothing without a log."""
    log = monitor.log
    lines = [f"{log.rows} rows in {log.path}"] if log.path is not None else []
    if log.error is not None:
        lines.append(f"the log is not complete: {log.error}")
    return lines


def _say(text: object) -> None:
    """Print to standard error; if that is closed, the exit code stays that of the command."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(f"perfmon_widgets: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
