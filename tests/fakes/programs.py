"""Programs that run next to a test, and what the OS kernel counts of them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@contextmanager
def program(code: str) -> Iterator[subprocess.Popen[bytes]]:
    """A Python program that prints a line when it is ready; killed at the end.

    To be waited for, since Popen returns while the new program is still being set up: for a moment it has
    neither an environment nor memory.
    """
    with subprocess.Popen(
        [sys.executable, "-S", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as running:
        assert running.stdout.readline() == b"ready\n"
        try:
            yield running
        finally:
            running.kill()


@contextmanager
def stranger(code: str) -> Iterator[int]:
    """A Python program that is no descendant of this process, and prints a line when it is ready."""
    command = [sys.executable, "-S", "-c", code]
    with subprocess.Popen(["sh", "-c", '"$@" & echo $!', "sh", *command], stdout=subprocess.PIPE) as shell:
        number = int(shell.stdout.readline())
        try:
            assert shell.stdout.readline() == b"ready\n"
            yield number
        finally:
            os.kill(number, 9)


def work_of(process: int) -> float:
    """The CPU seconds that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def let_work(process: int, seconds: float = 0.2) -> None:
    """Wait until a process has used so much more CPU time, however busy the machine is."""
    enough = work_of(process) + seconds
    deadline = time.monotonic() + 60
    while work_of(process) < enough:
        assert time.monotonic() < deadline
        time.sleep(0.02)
