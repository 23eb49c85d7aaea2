"""What holds for every test: nothing is left running, and on CI nothing is skipped."""

from __future__ import annotations

import gc
import os
import pickle
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.nvidia import (  # noqa: F401
    cuda_library,
    cuda_program,
    load_cuda,
    nvidia_collector,
    nvidia_machine,
    nvml_library,
)
from hypothesis import settings
from IPython.core.interactiveshell import InteractiveShell

# A busy machine must not fail a property: how long one example takes says nothing here.
settings.register_profile("perfmon_widgets", deadline=None)
settings.load_profile("perfmon_widgets")

OPEN_FILES = Path("/proc/self/fd")


def _perfmon_threads() -> list[threading.Thread]:
    # Of a start that was interrupted Python may list a thread that never began.
    threads = [thread for thread in threading.enumerate() if thread.is_alive()]
    return [thread for thread in threads if thread.name.startswith("perfmon")]


def _perfmon_files() -> list[str]:
    """The kinds of files that this package keeps open: counters of the OS kernel and CSV logs."""
    targets = []
    for descriptor in os.listdir(OPEN_FILES) if OPEN_FILES.is_dir() else ():
        try:
            target = os.readlink(OPEN_FILES / descriptor)
        except OSError:  # the one that listed them
            continue
        ours = target.startswith(("/proc/", "/sys/")) or target.removesuffix(" (deleted)").endswith(".csv")
        if ours and target != f"/proc/{os.getpid()}/fd":
            targets.append(target)
    return targets


def _running_monitors() -> list[Any]:
    module = sys.modules.get("perfmon_widgets.core.registry")
    return [monitor for monitor in tuple(module.registry.monitors) if monitor.running] if module else []


def _more_files(before: list[str]) -> list[str]:
    """The files that are open now and were not before.

    Not those that are open for a moment only: a Dask cluster, which several tests share, reads some in
    threads of its own.
    """
    for _ in range(20):
        now = sorted(_perfmon_files())
        if len(now) <= len(before):
            return []
        gc.collect()  # a monitor and its log refer to each other
        time.sleep(0.05)
    return [target for target in now if now.count(target) > before.count(target)]


@pytest.fixture(autouse=True)
def nothing_is_left_running(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails the test that leaves a monitor, a thread of this package or one of its files behind."""
    if not isinstance(request.node, pytest.Function):  # a notebook cell: its kernel outlives it
        yield
        return
    files = sorted(_perfmon_files())
    before = set(_perfmon_threads())
    yield
    left = [repr(monitor) for monitor in _running_monitors()]
    for monitor in _running_monitors():
        monitor.stop()  # so that only this test fails
    threads = [thread for thread in _perfmon_threads() if thread not in before]
    if threads:
        gc.collect()  # a source that is dropped ends its thread
    for thread in threads:
        thread.join(1.0)  # it may have been asked to end this moment
    left += [thread.name for thread in threads if thread.is_alive()]
    left += [f"open file {target}" for target in _more_files(files)]
    if InteractiveShell.initialized():
        left.append("a shell of IPython, in which later tests would seem to run")
    if left:
        pytest.fail("left behind: " + ", ".join(left))


def pytest_collection_finish() -> None:
    """Leave what exists before the first test out of every garbage collection: otherwise each takes 0.2 s."""
    gc.freeze()


def pytest_unconfigure() -> None:
    """Give it back: libraries that are not collected at the end warn of leaks."""
    gc.unfreeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where CI is set, a test that did not run has not passed, unless the OS kernel cannot run it."""
    report = yield
    excused = hasattr(report, "wasxfail") or item.get_closest_marker("kernel_may_lack") is not None
    if os.environ.get("CI") and report.skipped and not excused:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} must not be skipped on CI ({reason})"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a whole file that skips itself (importorskip)."""
    report = yield
    if os.environ.get("CI") and report.outcome == "skipped":
        report.outcome = "failed"
        report.longrepr = f"{collector.nodeid} must not be skipped on CI ({report.longrepr})"
    return report


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory that is the working directory of this test."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run_python(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a program in an interpreter of its own, with warnings as errors; returns what it printed."""

    def run(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


@pytest.fixture
def forked() -> Callable[[Callable[[], object]], Any]:
    """Calls a function in a forked child of this process; returns what it returned, raises if it raised."""

    def run(function: Callable[[], object]) -> Any:
        reader, writer = os.pipe()
        with warnings.catch_warnings():
            # From Python 3.12 a fork with threads running warns; that is what is being tested.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            answer: tuple[bool, object] = (False, "the child did not answer")
            try:
                answer = (True, function())
            except BaseException:
                answer = (False, traceback.format_exc())
            finally:
                os.write(writer, pickle.dumps(answer))
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader, "rb") as answers:
            well, value = pickle.loads(answers.read())
        os.waitpid(child, 0)
        assert well, f"in the child:\n{value}"
        return value

    return run


class FarDisk:
    """From when it is away, what is written does not come back before it is there again."""

    def __init__(self) -> None:
        self.away, self.asked, self.there = threading.Event(), threading.Event(), threading.Event()
        self._written = os.write

    def write(self, descriptor: int, content: bytes) -> int:
        if self.away.is_set():
            self.asked.set()
            assert self.there.wait(60)
        return self._written(descriptor, content)


@pytest.fixture
def far_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[FarDisk]:
    """A disk that can be away; writers wait 0.05 s for it."""
    disk = FarDisk()
    monkeypatch.setattr("os.write", disk.write)
    for module in ("sampler", "csv_log", "span_log"):
        monkeypatch.setattr(f"perfmon_widgets.core.{module}.TIMEOUT", 0.05)
    yield disk
    disk.there.set()


@pytest.fixture
def machine(tmp_path: Path) -> Any:
    """Canned /proc, /sys and control groups of a machine with two CPUs, without limits."""
    from fakes.collectors import FakeMachine

    return FakeMachine(tmp_path / "machine")
