"""The memory guard in a real Jupyter kernel in a real control group: no pattern of allocation kills it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest
from fakes.allocations import GIVE_BACK, LATE, PATTERNS
from fakes.real_group import RealGroup, real_group
from ipykernels import OLDER, install_kernelspecs
from real_kernel import Kernel

from perfmon_widgets.collectors.linux.oom_kills import count_in

LIMIT = 500_000_000

START = f"""
import asyncio, gc, json, resource, subprocess, sys, threading, time
import numpy as np, pandas as pd, perfmon_widgets
LIMIT = {LIMIT}
monitor = perfmon_widgets.PerformanceMonitor(interval=0.5)
monitor.start()
monitor.guard.start()
while monitor.latest is None: pass
"""


@pytest.fixture(autouse=True)
def long_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Millions of objects take long to make on a machine that is busy."""
    monkeypatch.setattr("real_kernel.DEADLINE", 120.0)


@pytest.fixture(scope="module")
def group() -> Iterator[RealGroup]:
    with real_group() as group:
        group.limit_memory(LIMIT)
        yield group


@pytest.fixture(scope="module")
def kernel(group, tmp_path_factory) -> Iterator[Kernel]:
    """A kernel whose memory is guarded."""
    kernel = Kernel(tmp_path_factory.mktemp("kernel"))
    (group.memory / "cgroup.procs").write_text(str(kernel.process))
    try:
        kernel.execute(START)
        yield kernel
    finally:
        kernel.shut_down()


def cell(kernel: Kernel, code: str) -> tuple[dict, str]:
    """The reply to a cell, and what it has printed."""
    request = kernel.start(code)
    printed = [
        message["content"]["text"]
        for message in kernel.messages(request)
        if message["msg_type"] == "stream" and message["parent_header"].get("msg_id") == request
    ]
    return kernel.finish(request), "".join(printed)


def kills(group: RealGroup) -> int | None:
    return count_in(group.memory / ("memory.events" if group.version == 2 else "memory.oom_control"))


@pytest.mark.parametrize("pattern", [*PATTERNS.values(), LATE], ids=[*PATTERNS, "reserved before"])
def test_the_cell_fails_and_the_kernel_goes_on(kernel, group, pattern):
    before = kernel.run("len(monitor.guard.interventions)")
    killed = kills(group)
    reply, _ = cell(kernel, pattern)
    assert reply["ename"] == "MemoryError"
    assert any("Error" in line for line in reply["traceback"])
    # The next cell runs, and deleting gives the memory back.
    assert cell(kernel, "print('alive')")[1] == "alive\n"
    kernel.execute(GIVE_BACK)
    assert kernel.run("monitor.sample().values['ram_used_bytes']") < 0.4 * LIMIT
    assert kernel.run("len(monitor.guard.interventions)") == before + 1
    kind, where = kernel.run("(lambda last: (last.kind, last.cell.source))(monitor.guard.interventions[-1])")
    assert where == pattern.strip().partition("\n")[0]
    # On a busy machine small objects may come between two steps of the guard, and are noticed afterwards.
    assert kind in (("interrupted",) if pattern == LATE else ("refused", "interrupted"))
    assert kernel.run("monitor.marks.label.iloc[-1] == str(monitor.guard.interventions[-1])")
    assert kills(group) == killed


# More than there is, little by little, since other tests leave something behind.
RESERVE = """
kept = []
for _ in range(3):
    kept += [np.zeros(LIMIT // 40) for _ in range(2)]
    time.sleep(2.2)
"""

ASYNC = {
    "a thread that the cell awaits": """
def fill():
    for array in kept:
        for start in range(0, len(array), 32768):
            if ended: return
            array[start : start + 32768] = 1
            time.sleep(0.001)
ended = False
try: await asyncio.to_thread(fill)
finally: ended = True
""",
    "a task that the cell awaits": """
async def fill():
    for array in kept:
        for start in range(0, len(array), 32768):
            array[start : start + 32768] = 1
            await asyncio.sleep(0.001)
await asyncio.create_task(fill())
""",
    "the cell itself, between two awaits": "await asyncio.sleep(0)\n" + LATE[LATE.index("for array") :],
}


@pytest.mark.parametrize("pattern", ASYNC.values(), ids=ASYNC)
def test_a_cell_that_awaits_is_stopped_and_the_kernel_goes_on(kernel, group, pattern):
    _stop_a_cell_that_awaits(kernel, group, pattern)


@pytest.mark.parametrize("version", OLDER[:1])
def test_a_cell_that_awaits_is_stopped_in_an_older_ipykernel(tmp_path, pytestconfig, version):
    name = install_kernelspecs(tmp_path, pytestconfig.cache)[version]
    with real_group("older") as group:
        group.limit_memory(LIMIT)
        kernel = Kernel(tmp_path, name, tmp_path / "kernels")
        try:
            (group.memory / "cgroup.procs").write_text(str(kernel.process))
            kernel.execute(START)
            assert kernel.run("__import__('ipykernel').__version__") == version
            for pattern in ASYNC.values():
                _stop_a_cell_that_awaits(kernel, group, pattern)
        finally:
            kernel.shut_down()


def _stop_a_cell_that_awaits(kernel: Kernel, group: RealGroup, pattern: str) -> None:
    killed = kills(group)
    kernel.execute(RESERVE)
    reply, _ = cell(kernel, pattern)
    assert reply["ename"] == "MemoryError"
    assert reply["evalue"].startswith("the memory guard of perfmon_widgets stopped this cell")
    assert cell(kernel, "print(len(kept))")[1] == "6\n"
    kernel.execute(GIVE_BACK)
    shown = re.sub(r"\x1b\[[\d;]*m", "", "".join(reply["traceback"]))
    assert any(line.strip() in shown for line in pattern.strip().splitlines()), shown
    assert kernel.run("monitor.guard.interventions[-1].kind") == "interrupted"
    assert kills(group) == killed


def test_a_person_can_interrupt_a_cell_that_awaits_as_ever(kernel):
    before = kernel.run("len(monitor.guard.interventions)")
    # ipykernel cancels it when its loop does something anyway.
    code = "print('runs')\nfor _ in range(600): await asyncio.sleep(0.1)"
    request = kernel.start(code, stop_on_error=False)
    kernel.published(lambda message: message["msg_type"] == "stream", "that the cell runs")
    kernel.interrupt()
    assert kernel.finish(request)["ename"] == "CancelledError"
    assert kernel.run("len(monitor.guard.interventions)") == before


def test_an_error_that_the_cell_handles_is_its_own(kernel):
    before = kernel.run("len(monitor.guard.interventions)")
    code = "kept = []\ntry:\n    while True: kept.append(np.ones(300_000))\nexcept MemoryError: kept = None"
    reply, _ = cell(kernel, code)
    assert reply["status"] == "ok"
    # On a busy machine the guard may have to interrupt the loop, which handles that, too.
    kinds = kernel.run(f"[each.kind for each in monitor.guard.interventions[{before}:]]")
    assert kinds in ([], ["interrupted"])


def test_other_errors_look_as_ever(kernel):
    before = kernel.run("len(monitor.guard.interventions)")
    for code, name in (("1 / 0", "ZeroDivisionError"), ("open('none')", "FileNotFoundError")):
        reply, _ = cell(kernel, code)
        assert reply["ename"] == name
    reply, _ = cell(kernel, "def fails():\n    raise RuntimeError('mine')\nfails()")
    assert (reply["ename"], reply["evalue"]) == ("RuntimeError", "mine")
    assert "fails()" in re.sub(r"\x1b\[[\d;]*m", "", "".join(reply["traceback"]))
    assert kernel.run("len(monitor.guard.interventions)") == before


def test_a_person_can_interrupt_as_ever(kernel):
    before = kernel.run("len(monitor.guard.interventions)")
    request = kernel.start_busy()
    kernel.interrupt()
    assert kernel.finish(request)["ename"] == "KeyboardInterrupt"
    kernel.execute("pass")
    assert kernel.run("len(monitor.guard.interventions)") == before


def test_thread_pools_start_and_run(kernel):
    kernel.execute(
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(24) as pool: list(pool.map(time.sleep, [0.2] * 24))"
    )


def test_reading_files_is_no_lack_of_memory(kernel, group, tmp_path):
    file = tmp_path / "large"
    file.write_bytes(bytes(2 * LIMIT))
    before = kernel.run("len(monitor.guard.interventions)")
    kernel.execute(
        f"for _ in range(3):\n    with open({str(file)!r}, 'rb') as file:\n"
        "        while file.read(1_000_000): pass\nkept = np.ones(LIMIT // 20)"
    )
    kernel.execute(GIVE_BACK)
    assert kernel.run("len(monitor.guard.interventions)") == before


def test_children_are_not_limited(kernel):
    """Also those that other programs start: their limit is given back within a second or two."""
    code = (
        "import resource, time\nfor _ in range(200):\n"
        "    if resource.getrlimit(resource.RLIMIT_DATA)[0] == resource.RLIM_INFINITY: print('free'); break\n"
        "    time.sleep(0.05)"
    )
    kernel.execute(f"code = {code!r}")
    for command in (
        "[sys.executable, '-c', code]",
        "['sh', '-c', sys.executable + ' -c \"$0\"; true', code]",
    ):
        assert kernel.run(f"subprocess.run({command}, capture_output=True, text=True).stdout") == "free\n"
    assert kernel.run("resource.getrlimit(resource.RLIMIT_DATA)[0] != resource.RLIM_INFINITY")


def test_stop_gives_back_what_was_there(kernel):
    kernel.execute("monitor.guard.stop()")
    assert kernel.run("resource.getrlimit(resource.RLIMIT_DATA)[0] == resource.RLIM_INFINITY")
    assert kernel.run("get_ipython().custom_exceptions") == ()
    assert not kernel.run("[each.name for each in threading.enumerate() if each.name == 'perfmon-guard']")
    kernel.execute("monitor.guard.start()")
    assert kernel.run("monitor.guard.running")


def test_the_magic_switches_it(kernel):
    kernel.execute("%load_ext perfmon_widgets")
    _, printed = cell(kernel, "%perfmon guard --off")
    assert printed == "memory is not guarded any more\n"
    assert not kernel.run("monitor.guard.running")
    _, printed = cell(kernel, "%perfmon guard -o guard")
    assert printed == "allocations beyond 92% of 477 MiB of RAM fail, and the kernel lives\n"
    assert kernel.run("guard is monitor.guard and guard.running")


SCRIPT = """
import sys, time
from perfmon_widgets import PerformanceMonitor
guard = PerformanceMonitor().guard
guard.start(0.8)
print(guard.running, flush=True)
try:
    kept = []
    while True: kept.append(bytes(1_000_000))
except MemoryError:
    print(len(kept), flush=True)
kept = None
guard.stop()
"""


def test_a_script_gets_the_error_too():
    """Without IPython nobody says when a cell runs: the share always holds."""
    with real_group("script") as group:
        group.limit_memory(LIMIT)
        _run_script(group)


def _run_script(group: RealGroup) -> None:
    with group.running(SCRIPT) as program:
        lines = [program.stdout.readline().strip() for _ in range(2)]
        assert lines[0] == "True"
        assert 0.5 * LIMIT < int(lines[1] or 0) * 1e6 < 0.8 * LIMIT
        deadline = time.monotonic() + 20
        while program.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert program.returncode == 0
