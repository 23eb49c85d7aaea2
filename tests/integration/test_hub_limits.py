"""The limits that JupyterHub sets, in a tree of real programs: hub, notebook server and kernel."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from fakes.collectors import FakeMachine

from perfmon_widgets.collectors.linux import cpu, limits, memory

KIB, MIB, GIB = 2**10, 2**20, 2**30
IDLE = (0, 0, 0, 1000, 0, 0, 0, 0)


@pytest.fixture(autouse=True)
def four_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "allowed_cpus", lambda: (0, 1, 2, 3))


@pytest.fixture
def machine(machine: FakeMachine) -> FakeMachine:
    machine.write_processors(dict.fromkeys(range(4), IDLE))
    return machine


class Clock:
    """Stands in for the module ``time``, cranked by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    for module in (limits, cpu, memory):
        monkeypatch.setattr(module, "time", made)
    return made


# -- JupyterHub --------------------------------------------------------------------------------------------


def test_the_hubs_limit_is_compared_with_the_notebook_server_and_all_it_started(run_python):
    """A server with 300 MB of its own and this kernel below it; the hub above has no such limit."""
    kernel = """
import os, time
from perfmon_widgets.collectors.linux import limits, processes
limits.allowed = lambda *_: limits.Allowed(limits.allowed_cpus(), None, None)  # whatever this machine has
from perfmon_widgets.collectors.linux.host import HostCollector
sibling = next(child for child in processes.children(os.getppid()) if child != os.getpid())
def work():
    return sum(map(int, open(f"/proc/{sibling}/stat").read().rpartition(")")[2].split()[11:13])) / 100
made = HostCollector()
made.collect()
clock, enough = time.monotonic(), work() + 0.3
while work() < enough:
    time.sleep(0.02)
values = made.collect()
print(25 / (time.monotonic() - clock))  # 0.25 s of one CPU in percent
print(values["ram_limit_bytes"], values["ram_used_bytes"], values["ram_percent"], values["cpu_percent"],
      values["host_ram_limit_bytes"] > values["ram_limit_bytes"], sep="\\n")
limit = {metric.name: metric for metric in made.metrics}["ram_limit_bytes"]
print(limit.source, limit.set_by, sep="\\n")
"""
    server = """
import subprocess, sys
block = b"x" * 300_000_000
busy = subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"])
subprocess.run([sys.executable, "-c", sys.argv[1]], check=True)
busy.kill()
busy.wait()
"""
    hub_itself = """
import os, subprocess, sys
block = b"x" * 500_000_000
limits = {"MEM_LIMIT": "1000000000", "CPU_LIMIT": "1.0"}
subprocess.run([sys.executable, "-c", *sys.argv[1:]], check=True, env=os.environ | limits)
"""
    result = run_python(hub_itself, server, kernel)
    assert result.returncode == 0, result.stderr
    expected, limit, used, percent, busy, host_is_more, source, set_by = result.stdout.splitlines()
    assert (float(limit), source, set_by, host_is_more) == (1e9, "MEM_LIMIT", "JupyterHub", "True")
    assert 300e6 < float(used) < 480e6  # the server and the kernel, and not the hub's 500 MB
    assert float(percent) == pytest.approx(float(used) / 1e7)
    assert float(busy) > float(expected)  # the server's other child works


def test_the_server_is_the_topmost_process_with_the_same_limit():
    code = (
        "import os; from perfmon_widgets.collectors.linux import jupyterhub; "
        "print(jupyterhub.server('MEM_LIMIT'), os.getppid())"
    )
    environment = os.environ | {"MEM_LIMIT": "12345"}
    lines = subprocess.run(
        [sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}])"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert lines[0] == lines[1]
