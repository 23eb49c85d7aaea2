"""Programs that run beside a test: other processes, with what the OS kernel tells of them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


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
