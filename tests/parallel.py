"""How tests share the machine when pytest-xdist runs several at once (`pytest -n 2`).

The tests of a file stay in one process (`--dist=loadfile` in pyproject.toml), since they share a kernel, a
server or a browser.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

try:
    import fcntl
except ImportError:  # Windows, where tests run one after the other
    fcntl = None  # type: ignore[assignment]


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Let each test wait for its turn.

    Only tests/conftest.py imports this hook: pytest-xdist calls the hooks of all conftest files for each
    test, and a test that took its turn twice would wait for itself.
    """
    with turn(item):
        return (yield)


@contextlib.contextmanager
def turn(item: pytest.Item) -> Iterator[None]:
    """Wait until a test may run; a test marked `alone` waits for all others, and all others for it.

    This is a readers-writer lock on two files that all processes of a run share. A test that waits to run
    alone keeps the gate closed: otherwise the others could go on without end, one starting as another runs.
    """
    if fcntl is None or "PYTEST_XDIST_WORKER" not in os.environ:
        yield
        return
    # Each run has a temporary folder, with one folder for each process in it.
    folder = Path(item.config._tmp_path_factory.getbasetemp()).parent  # type: ignore[attr-defined]
    kind = fcntl.LOCK_EX if item.get_closest_marker("alone") else fcntl.LOCK_SH
    with (folder / "turn").open("w") as taken:
        with (folder / "gate").open("w") as gate:
            fcntl.flock(gate, fcntl.LOCK_EX)
            fcntl.flock(taken, kind)
            fcntl.flock(gate, fcntl.LOCK_UN)
        try:
            yield
        finally:
            # Closing the file is not enough: a forked child may have it open, too.
            fcntl.flock(taken, fcntl.LOCK_UN)


@contextlib.contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Keep other processes from making the same folder meanwhile."""
    with folder.with_name(f"{folder.name}.lock").open("w") as taken:
        if fcntl is not None:
            fcntl.flock(taken, fcntl.LOCK_EX)
        yield
