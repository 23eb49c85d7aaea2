"""Unit tests start no program and no server: a test that does belongs in tests/integration."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import timezone
from types import SimpleNamespace

import numpy.testing  # noqa: F401 - loaded on first use by hypothesis; NumPy 1 then starts lscpu
import pytest

FORBIDDEN = {"subprocess.Popen", "os.posix_spawn", "os.system", "os.exec", "socket.bind"}
"""Audit events of the interpreter. A fork is allowed: it is quick, and the package has to survive one."""

now = SimpleNamespace(in_a_unit_test=False)


def _refuse(event: str, arguments: tuple[object, ...]) -> None:
    if now.in_a_unit_test and event in FORBIDDEN:
        raise AssertionError(
            f"{event} of {arguments[0]!r} in a unit test: move the test to tests/integration"
        )


sys.addaudithook(_refuse)  # which cannot be removed again


@pytest.fixture(autouse=True)
def no_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let times be those of UTC, wherever the tests run, and of no browser that another test made up."""
    monkeypatch.setattr("perfmon_widgets.views.local_time._zone", timezone.utc)


@pytest.fixture(autouse=True)
def no_program_and_no_server() -> Iterator[None]:
    """Fail the test that starts a program or a server."""
    now.in_a_unit_test = True
    yield
    now.in_a_unit_test = False
