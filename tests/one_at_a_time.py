"""What tests in several processes (`pytest -n 2`) must not do at the same time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows, where tests run one after the other
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Keep other processes from making the same folder meanwhile."""
    with folder.with_name(f"{folder.name}.lock").open("w") as taken:
        if fcntl is not None:
            fcntl.flock(taken, fcntl.LOCK_EX)
        yield
