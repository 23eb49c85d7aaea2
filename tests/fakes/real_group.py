"""A real control group with limits, made where the OS kernel and the rights of this user permit it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from perfmon_widgets.collectors.linux.cgroups import groups
from perfmon_widgets.collectors.linux.processes import PROC
from perfmon_widgets.collectors.linux.system_file import text_if_there


@contextmanager
def real_group(name: str = "test") -> Iterator[RealGroup]:
    """A group for a test, which is skipped where this user may make none; gone at the end."""
    try:
        group = RealGroup(f"perfmon-{name}-{os.getpid()}")
    except OSError as error:
        pytest.skip(f"this user may not make control groups here ({error})")
    try:
        yield group
    finally:
        group.remove()


class RealGroup:
    """A new group below this process's own, in each hierarchy needed; raises OSError where it may not."""

    def __init__(self, name: str) -> None:
        self._made: list[Path] = []
        texts = [text_if_there(PROC / "self" / name) for name in ("cgroup", "mountinfo")]
        self.version, ancestors = groups("memory", *texts)[:2]
        if not ancestors:
            raise FileNotFoundError("no control groups are mounted here")
        try:
            self.memory = self._make(ancestors[0] / name)
            self.cpu = self.accounting = self.memory
            if self.version == 1:
                self.cpu = self._make(groups("cpu", *texts)[1][0] / name)
                self.accounting = self._make(groups("cpuacct", *texts)[1][0] / name)
            elif not {"memory", "cpu"} <= set((ancestors[0] / "cgroup.subtree_control").read_text().split()):
                raise PermissionError("the controllers are not handed down to groups below this one")
        except OSError:
            self.remove()
            raise

    def _make(self, path: Path) -> Path:
        path.mkdir()
        self._made.append(path)
        return path

    def below(self, name: str) -> list[Path]:
        """Make a group without limits of its own below this one; returns its directories."""
        return [self._make(path / name) for path in dict.fromkeys((self.memory, self.cpu, self.accounting))]

    def limit_memory(self, size: int) -> None:
        """Set the memory limit, in bytes."""
        (self.memory / ("memory.max" if self.version == 2 else "memory.limit_in_bytes")).write_text(str(size))

    def limit_cpu(self, cpus: float) -> None:
        """Set the CPU quota, in CPUs."""
        quota = round(cpus * 100_000)
        if self.version == 2:
            (self.cpu / "cpu.max").write_text(f"{quota} 100000")
        else:
            (self.cpu / "cpu.cfs_period_us").write_text("100000")
            (self.cpu / "cpu.cfs_quota_us").write_text(str(quota))

    @contextmanager
    def running(
        self, code: str, *arguments: object, below: Sequence[Path] = ()
    ) -> Iterator[subprocess.Popen[str]]:
        """A Python program inside this group, or inside the one below it."""
        entered = below or [self.memory, self.cpu, self.accounting]
        enter = "".join(f"echo $$ > '{path}/cgroup.procs' && " for path in dict.fromkeys(entered))
        command = ["sh", "-c", enter + 'exec "$@"', "sh", sys.executable, "-W", "error", "-c", code]
        with subprocess.Popen(
            [*command, *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as program:
            try:
                yield program
            finally:
                self._kill(entered)

    def _kill(self, directories: Sequence[Path]) -> None:
        """End the program and what it has started: nobody else is in there."""
        for number in map(int, (directories[0] / "cgroup.procs").read_text().split()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)

    def remove(self) -> None:
        """Take all groups away again, as soon as the last process has left them."""
        for path in reversed(self._made):
            for _ in range(100):
                with contextlib.suppress(FileNotFoundError):
                    try:
                        os.rmdir(path)
                    except OSError:
                        time.sleep(0.05)
                        continue
                break
        self._made.clear()
