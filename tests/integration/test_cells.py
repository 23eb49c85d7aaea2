"""Which cells are noted and what each cost, in real Jupyter kernels and in IPython in a terminal."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ipykernels import NEWEST, OLDER, install_kernelspecs
from real_kernel import DEADLINE, Kernel

MONITOR = "from perfmon_widgets import PerformanceMonitor\nmonitor = PerformanceMonitor(interval=60)\n"
START = MONITOR + "monitor.start()"
CELLS = "monitor.cells[['raised', 'source']].reset_index().values.tolist()"
HOOKS = "{event: len(hooks) for event, hooks in get_ipython().events.callbacks.items()}"


@pytest.fixture(scope="module", params=[*OLDER, NEWEST])
def version(request: pytest.FixtureRequest) -> str:
    """Each version of ipykernel."""
    return str(request.param)


@pytest.fixture(scope="module")
def shared(
    version: str, tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Iterator[Kernel]:
    """A kernel of that version for the whole file, since each takes a second to start."""
    data = tmp_path_factory.mktemp("data")
    name = install_kernelspecs(data, pytestconfig.cache)[version]
    kernel = Kernel(tmp_path_factory.mktemp("kernel"), name, data / "kernels")
    # The first panel of a kernel leaves one hook, which notices where panels are shown.
    kernel.execute("from perfmon_widgets import PerformanceMonitor, PerformancePanel")
    kernel.execute("PerformancePanel(PerformanceMonitor([])).close()")
    yield kernel
    kernel.shut_down()


@pytest.fixture
def kernel(shared: Kernel) -> Iterator[Kernel]:
    """A kernel in which a monitor runs, and after which no hook of it is left."""
    before = shared.run(HOOKS)
    shared.execute(START)
    yield shared
    shared.execute("monitor.stop()")
    after = shared.run(HOOKS)
    assert {event: count for event, count in after.items() if count > before[event]} == {}


def cells(kernel: Kernel) -> list[tuple[bool, str]]:
    """Whether each cell raised, and its first line, without the one in which the monitor was started."""
    found = kernel.run(CELLS)
    numbers = [number for number, _, _ in found]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    return [(raised, source) for _, raised, source in found][1:-1]  # and the one in which this is asked


# -- which cells -------------------------------------------------------------------------------------------


def test_each_cell_is_noted_with_its_number_its_time_and_the_line_that_names_it(kernel):
    number = kernel.run("int(monitor.cells.index[-1])") + 1
    before = time.time()
    kernel.execute("\n  # wait a little\nimport time\ntime.sleep(0.2)")
    after = time.time()
    noted = kernel.run("""
last = monitor.cells.iloc[-2]
start, end = last.start.timestamp(), last.end.timestamp()
int(last.name), start, end, float(last.duration_seconds), last.source, str(last.start.tz)
""")
    assert noted[0] == number
    assert before <= noted[1] <= noted[2] <= after
    # Another clock, read a moment later: a busy machine may do something else between the two.
    assert noted[3] == pytest.approx(noted[2] - noted[1], abs=0.15)
    assert 0.2 <= noted[3] < 0.2 + DEADLINE
    assert noted[4:] == ("time.sleep(0.2)", "UTC")


def test_the_cell_that_runs_has_no_end_yet(kernel):
    assert kernel.run("monitor.cells.iloc[-1].isna()[['end', 'duration_seconds', 'source']].tolist()") == [
        True,
        True,
        False,
    ]


def test_the_cell_that_starts_the_monitor_counts_from_then_on(kernel):
    kernel.execute("monitor.stop()")
    kernel.execute("import time\ntime.sleep(0.3)\nbefore_start = time.monotonic()\n" + START)
    number, seconds, source, since_start = kernel.run(
        "first = monitor.cells.iloc[0]\n"
        "(int(first.name), float(first.duration_seconds), first.source, time.monotonic() - before_start)"
    )
    assert source == "time.sleep(0.3)"
    assert 0 <= seconds <= since_start
    assert kernel.run("get_ipython().execution_count") - number >= 1


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("1 / 0", "1 / 0"),
        ("x x", "x x"),  # before it is executed
        ("raise KeyboardInterrupt", "raise KeyboardInterrupt"),
        ("raise SystemExit(3)", "raise SystemExit(3)"),
        ("import asyncio\nawait asyncio.sleep(0)\n1 / 0", "await asyncio.sleep(0)"),
        ("%no_such_magic", "%no_such_magic"),
        ("!exit 3\n1 / 0", "!exit 3"),
    ],
)
def test_a_cell_that_raises_is_noted_as_raised(kernel, code, line):
    reply = kernel.finish(kernel.start(code, stop_on_error=False))
    assert cells(kernel) == [(reply["status"] == "error", line)]


def test_a_cell_that_fails_before_it_is_executed_has_raised(kernel):
    kernel.finish(kernel.start("x x", stop_on_error=False))
    assert cells(kernel) == [(True, "x x")]


def test_an_interrupted_cell_ends_and_has_raised(kernel):
    request = kernel.start_busy()
    kernel.interrupt()
    kernel.finish(request)
    assert cells(kernel) == [(True, 'print("running")')]


def test_an_interrupted_asynchronous_cell_ends_and_has_raised(kernel):
    request = kernel.start("import asyncio\nprint('running')\nawait asyncio.sleep(60)", stop_on_error=False)
    kernel.published(lambda message: message["msg_type"] == "stream", "that the cell runs")
    kernel.interrupt()
    kernel.start("woken = True", stop_on_error=False)  # the loop of older ones does not wake by itself
    kernel.finish(request)
    assert cells(kernel) == [(True, "print('running')"), (False, "woken = True")]
    assert kernel.run("int(monitor.cells['end'].isna().sum())") == 1  # the one that asks


def test_an_asynchronous_cell_is_one_cell(kernel):
    kernel.execute("import asyncio\nawait asyncio.sleep(0.2)\nawait asyncio.sleep(0.1)")
    assert cells(kernel) == [(False, "await asyncio.sleep(0.2)")]
    assert kernel.run("bool(monitor.cells['duration_seconds'].iloc[-3] >= 0.3)")


def test_what_runs_in_a_cell_is_no_cell_unless_it_has_a_number(kernel):
    kernel.execute("get_ipython().run_cell('1 + 1')")
    kernel.execute("get_ipython().run_cell('1 / 0', silent=True)")
    kernel.execute("get_ipython().run_line_magic('time', '1 + 1')")
    kernel.execute("from pathlib import Path\nPath('script.py').write_text('a = 1')\n%run script.py")
    kernel.execute("%%capture\n1 + 1")
    assert [line for _, line in cells(kernel)] == [
        "get_ipython().run_cell('1 + 1')",
        "get_ipython().run_cell('1 / 0', silent=True)",
        "get_ipython().run_line_magic('time', '1 + 1')",
        "Path('script.py').write_text('a = 1')",
        "1 + 1",
    ]


def test_a_nested_cell_with_a_number_lies_in_the_outer_one(kernel):
    kernel.execute("done = get_ipython().run_cell('nested = 1\\n1 / 0', store_history=True)")
    noted = kernel.run("""
both = monitor.cells.iloc[:-1].iloc[-2:]
ended = bool(both.end.iloc[0] >= both.end.iloc[1]), bool(both.end.notna().all())
both.source.tolist(), both.raised.tolist(), *ended
""")
    assert noted[0] == [
        "done = get_ipython().run_cell('nested = 1\\n1 / 0', store_history=True)",
        "nested = 1",
    ]
    assert noted[1] == [False, True]
    assert noted[2:] == (True, True)


def test_silent_and_empty_requests_and_widgets_are_no_cells(kernel):
    kernel.execute("""
import ipywidgets
seen = []
box = ipywidgets.Checkbox()
box.observe(lambda change: seen.append(change["new"]), "value")
""")
    before = len(cells(kernel))
    kernel.execute("   \n")
    kernel.finish(kernel.start("silent = 1", silent=True))
    kernel.finish(kernel.start("unnumbered = 1", store_history=False))
    kernel.change("shell", kernel.run("box.comm.comm_id"), value=True)
    assert kernel.run("seen, silent, unnumbered") == ([True], 1, 1)
    assert len(cells(kernel)) == before + 3  # those in which this test asked


# -- others, and the end -----------------------------------------------------------------------------------


def test_hooks_of_others_that_fail_cost_no_cell(kernel):
    kernel.execute("""
def fail(*_):
    raise RuntimeError("somebody else's hook")
events = get_ipython().events
for event in ("pre_run_cell", "post_run_cell"):
    events.register(event, fail)
    events.callbacks[event].insert(0, events.callbacks[event].pop())
""")
    kernel.execute("2 + 2")
    kernel.execute("for event in ('pre_run_cell', 'post_run_cell'):\n    events.unregister(event, fail)")
    assert [line for _, line in cells(kernel)] == [
        "def fail(*_):",
        "2 + 2",
        "for event in ('pre_run_cell', 'post_run_cell'):",
    ]


def test_what_fails_in_our_hooks_is_not_shown_in_the_cell(kernel):
    kernel.execute("begin, monitor.begin = monitor.begin, None")
    request = kernel.start("3 + 3")
    shown = [m for m in kernel.messages(request) if m["msg_type"] in ("stream", "error")]
    assert kernel.finish(request)["status"] == "ok"
    assert [
        m["content"]
        for m in shown
        if "Traceback" in str(m["content"]) and "may not be recorded" not in str(m)
    ] == []
    kernel.execute("monitor.begin = begin")


def test_an_interrupt_that_hits_a_hook_is_shown_and_costs_no_other_cell(kernel):
    """IPython prints it as an error of the hook and executes the cell."""
    kernel.execute("""
begin = monitor.begin
def interrupted(*_, **__):
    monitor.begin = begin
    raise KeyboardInterrupt
monitor.begin = interrupted
""")
    request = kernel.start("executed = True")
    printed = "".join(
        str(message["content"]) for message in kernel.messages(request) if message["msg_type"] != "status"
    )
    assert "Error in callback" in printed
    assert kernel.finish(request)["status"] == "ok"
    kernel.execute("'the next cell'")
    assert kernel.run("executed") is True
    noted = kernel.run("list(zip(monitor.cells['source'], monitor.cells['end'].notna().tolist()))")
    assert noted[1:3] == [("begin = monitor.begin", True), ("'the next cell'", True)]


def test_hooks_that_another_program_cleared_do_no_harm(kernel):
    kernel.execute("""
saved = {event: list(hooks) for event, hooks in get_ipython().events.callbacks.items()}
get_ipython().events.callbacks["pre_run_cell"].clear()
get_ipython().events.callbacks["post_run_cell"].clear()
monitor.stop()
monitor.running
""")


def test_hooks_stay_until_the_last_monitor_stops(kernel):
    kernel.execute(START.replace("monitor", "other"))
    kernel.execute("monitor.stop()")
    kernel.execute("'noted by other'")
    assert kernel.run("other.cells.source.tolist()")[1:3] == ["monitor.stop()", "'noted by other'"]
    assert "'noted by other'" not in kernel.run("monitor.cells.source.tolist()")
    kernel.execute("other.stop()")


def test_a_cell_in_which_the_monitor_stops_ends_there(kernel):
    kernel.execute("import time\nmonitor.stop()\nstopped = time.time()\ntime.sleep(0.2)")
    assert kernel.run("0 <= stopped - monitor.cells['end'].iloc[-1].timestamp() < 0.2")


def test_a_monitor_started_below_a_cell_without_number_notes_the_outer_one(kernel):
    kernel.execute("monitor.stop()")
    kernel.execute("%%capture\n" + START)
    assert kernel.run("monitor.cells.source.tolist()")[0] == "monitor = PerformanceMonitor(interval=60)"
    assert kernel.run("int(monitor.cells['end'].isna().sum())") == 1


def test_the_monitor_of_a_panel_notes_cells_too(kernel):
    kernel.execute("from perfmon_widgets import PerformancePanel\npanel = PerformancePanel()")
    kernel.execute("'after the panel'")
    assert "'after the panel'" in kernel.run("panel.monitor.cells.source.tolist()")
    kernel.execute("panel.close()\npanel.monitor.stop()")


# -- what they cost ----------------------------------------------------------------------------------------

SIZE = 200_000_000  # bytes
WAIT_LONGER = """
from perfmon_widgets.core import monitor as module
from perfmon_widgets.views import statistics
usual = module._FOR_A_SAMPLE, statistics.RIGHT_AFTER
module._FOR_A_SAMPLE, statistics.RIGHT_AFTER = 5.0, 1.0
"""
WAIT_AS_USUAL = "module._FOR_A_SAMPLE, statistics.RIGHT_AFTER = usual"


@pytest.fixture
def patient(kernel: Kernel) -> Iterator[Kernel]:
    """A kernel whose cells wait longer than 5 ms for a sample: on a busy machine it may come later.

    A sample that a cell has waited for is about that cell, however late it is.
    """
    kernel.execute(WAIT_LONGER)
    yield kernel
    kernel.execute(WAIT_AS_USUAL)


def test_memory_counts_for_the_cell_that_took_it_and_for_the_one_that_gave_it_back(patient):
    """Quick cells, one right after the other, as with Run All."""
    kernel = patient
    kernel.execute("import numpy as np, time")
    time.sleep(0.5)  # so that as many samples are allowed as after a pause
    sources = ["a = 1", f"x = np.ones({SIZE // 8})", "b = 2", "time.sleep(0.2)", "del x", "time.sleep(0.3)"]
    kernel.execute_all(sources)
    noted = dict(
        kernel.run("""
costs = monitor.by_cell()
list(zip(costs["cell", "source"].tolist(), costs["process_ram_bytes", "change"].fillna(0).tolist()))
""")
    )
    for source in sources:
        expected = SIZE if source.startswith("x") else -SIZE if source == "del x" else 0
        assert noted[source] == pytest.approx(expected, abs=SIZE / 20), source


def test_a_loop_that_computes_uses_one_cpu_and_one_that_sleeps_none(patient):
    kernel = patient
    kernel.execute("import time, os")
    before = kernel.run("time.process_time()")
    # So that a sample is allowed at the start of the cell. The row of a later one begins in an earlier cell.
    time.sleep(0.5)
    kernel.execute("end = time.process_time() + 0.5\nwhile time.process_time() < end: pass")
    between = kernel.run("time.process_time()")
    kernel.execute("time.sleep(0.5)")
    after = kernel.run("time.process_time()")
    busy, asleep = kernel.run("""
costs = monitor.by_cell()
cpus = len(os.sched_getaffinity(0))
seconds = costs["process_cpu_percent", "mean"] / 100 * cpus * costs["cell", "duration_seconds"]
of = costs["cell", "source"].str.startswith
[float(seconds[of(start)].item()) for start in ("end =", "time.sleep")]
""")
    # In seconds of CPU time: what the cell takes, and at most what the whole kernel took around it.
    assert 0.45 < busy < between - before + 0.03
    assert asleep < min(after - between + 0.03, busy / 2)


def test_fifty_quick_cells_take_far_fewer_samples(kernel):
    time.sleep(0.5)
    before = kernel.run("len(monitor.history)")
    began = time.monotonic()
    kernel.execute_all([f"n = {number}" for number in range(50)])
    lasted = time.monotonic() - began
    taken = kernel.run("len(monitor.history)") - before
    assert taken <= 8 + 10 * lasted
    assert kernel.run("monitor.history.attrs['gaps'], monitor.missed") == ([], 0)
    assert [line for _, line in cells(kernel) if line.startswith("n = ")] == [f"n = {n}" for n in range(50)]


def test_the_hooks_cost_little_beside_the_samples(kernel):
    """The goal is 0.2 ms for each cell; a machine on which other things run gets ten times as much."""
    kernel.execute("""
import time
shell = get_ipython()
def run(times=200):
    began = time.thread_time()
    for _ in range(times):
        shell.run_cell("pass", store_history=True)
    return (time.thread_time() - began) / times
run(20)
""")
    noted = kernel.run(
        "with_hooks = run()\nmonitor.stop()\nwithout = run()\nmonitor.start()\n(with_hooks, without)"
    )
    assert noted[0] - noted[1] < 0.002


# -- IPython in a terminal ---------------------------------------------------------------------------------


def terminal(folder: Path, *lines: str) -> str:
    """What IPython prints for lines typed at its prompt."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-m", "IPython", "--simple-prompt", "--no-banner", "--colors=NoColor", "--quick"],
        input="\n".join([*lines, "exit", ""]),
        cwd=folder,
        env=environment | {"IPYTHONDIR": str(folder / "ipython")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_ipython_in_a_terminal_has_cells_too(tmp_path: Path):
    printed = terminal(
        tmp_path,
        *START.split("\n"),
        "import time; time.sleep(0.15)",
        "1 / 0",
        "x x",
        "print(monitor.cells[['raised', 'source']].reset_index().values.tolist())",
        "monitor.stop()",
        "print('after', monitor.cells['end'].isna().sum(), [len(hooks) for hooks in map(get_ipython().events"
        ".callbacks.get, ('pre_run_cell', 'post_run_cell'))])",
    )
    noted = next(line for line in printed.splitlines() if "[[" in line)
    assert noted.endswith(
        "[[3, False, 'monitor.start()'], [4, False, 'import time; time.sleep(0.15)'], [5, True, '1 / 0'], "
        "[6, True, 'x x'], "
        "[7, False, \"print(monitor.cells[['raised', 'source']].reset_index().values.tolist())\"]]"
    )
    assert "after 0 [0, 0]" in printed


def test_a_plain_script_has_no_cells_and_no_hooks(run_python):
    done = run_python(
        "import sys\n"
        "from perfmon_widgets import PerformanceMonitor\n"
        "with PerformanceMonitor() as monitor:\n"
        "    pass\n"
        "assert len(monitor.cells) == 0\n"
        "assert not {name for name in sys.modules if name.startswith('IPython')}\n"
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_script_that_has_loaded_ipython_samples_as_well(run_python):
    done = run_python(
        "import IPython, perfmon_widgets\n"
        "with perfmon_widgets.PerformanceMonitor() as monitor:\n"
        "    pass\n"
        "assert len(monitor.cells) == 0\n"
        "assert monitor.errors.keys() <= {'swap_percent'}, monitor.errors\n"
    )
    assert (done.returncode, done.stderr) == (0, "")
