"""Forked children to be timed and weighed."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

MIB = 2**20
PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")
# What an interpreter takes and gives back by itself between two readings.
SLACK = 30 * MIB


@contextmanager
def forked(work: Callable[[], object] = lambda: None) -> Iterator[int]:
    """A forked child that does the work, says so and then waits; gone at the end."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from Python 3.12, where threads are running
        number = os.fork()
    if number == 0:
        try:
            os.close(reader)
            # Each signal writes a byte. A sleep would not notice one that comes just before it begins.
            signals, noted = os.pipe()
            os.set_blocking(noted, False)
            signal.set_wakeup_fd(noted)
            work()
            os.write(writer, b"x")
            while True:
                os.read(signals, 1)
        finally:
            os._exit(1)
    os.close(writer)
    try:
        assert os.read(reader, 1) == b"x"
        yield number
    finally:
        os.kill(number, 9)
        os.waitpid(number, 0)
        os.close(reader)


def resident(process: int) -> int:
    """The bytes of memory that a process has, those that it shares included."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * PAGE
