"""What only a real Jupyter kernel can show: panels heard while a cell runs, and cells that are run again."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from fakes.threads import wait_until
from real_kernel import Kernel

from perfmon_widgets import read_csv
from perfmon_widgets.jupyter.kernel import running_cell

PANEL = """
from perfmon_widgets import PerformancePanel
panel = PerformancePanel()
panel.monitor.interval = 0.1
panel
"""


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """A kernel for the whole file, since each takes a second to start."""
    kernel = Kernel(tmp_path_factory.mktemp("kernel"))
    yield kernel
    kernel.shut_down()


@pytest.fixture(autouse=True)
def no_former_files(request: pytest.FixtureRequest) -> None:
    if "kernel" in request.fixturenames:
        for path in request.getfixturevalue("kernel").folder.glob("*.csv"):
            path.unlink()


def rows(folder: Path) -> int:
    """How many rows the one log in the folder has; 0 before there is one."""
    paths = [path for path in folder.glob("perfmon-*.csv") if ".spans" not in path.suffixes]
    assert len(paths) <= 1
    return paths[0].read_bytes().count(b"\n") - 1 if paths else 0


# -- no kernel ---------------------------------------------------------------------------------------------


def test_outside_a_jupyter_kernel_there_is_no_cell():
    assert running_cell() is None


# -- heard while a cell runs -------------------------------------------------------------------------------


@pytest.fixture
def controls(kernel: Kernel) -> dict[str, str]:
    """The comm_ids of a panel's controls, after a first cell as in a notebook."""
    kernel.execute(PANEL, "panel")
    found = kernel.run("""
choices = {each.description: each for each in panel.children[1].children if hasattr(each, "options")}
ids = {"log": panel.log_to_csv, "export": panel.export_csv, "sections": panel.advanced}
ids |= {"every": choices["Sample every"]}
{name: widget.comm.comm_id for name, widget in ids.items()}
""")
    assert isinstance(found, dict)
    return found


@pytest.fixture
def busy(kernel: Kernel, controls: dict[str, str]) -> Iterator[str]:
    """A cell that runs Python code without end."""
    request = kernel.start_busy()
    yield request
    assert not kernel.has_answered(), "the cell had ended already"
    kernel.interrupt()
    assert kernel.finish(request)["ename"] == "KeyboardInterrupt"
    kernel.execute("panel.monitor.log.stop()")


def test_the_checkbox_is_heard_while_a_cell_runs(kernel, controls, busy):
    kernel.change("control", controls["log"], value=True)
    first = wait_until(lambda: rows(kernel.folder), "writing the log")
    wait_until(lambda: rows(kernel.folder) > first + 2, "writing more rows")
    assert not kernel.has_answered()
    kernel.change("control", controls["log"], value=False)
    shown = kernel.published(
        lambda message: "closed" in str(message["content"].get("data", {}).get("state", {}).get("value", "")),
        "the closed log",
    )
    assert shown["msg_type"] == "comm_msg"
    ended = rows(kernel.folder)
    time.sleep(0.3)
    assert rows(kernel.folder) == ended
    assert not kernel.has_answered()


def test_the_export_is_heard_while_a_cell_runs(kernel, controls, busy):
    kernel.tell("control", controls["export"], method="custom", content={"export": "view 1"})
    answer = kernel.published(
        lambda message: message["content"].get("data", {}).get("content", {}).get("export") == "view 1",
        "the file",
    )
    assert bytes(answer["buffers"][0]).startswith(b"time,cpu_percent,")
    assert not kernel.has_answered()


def test_a_section_that_is_opened_while_a_cell_runs_is_drawn(kernel, controls, busy):
    kernel.change("control", controls["sections"], selected_index=0)
    drawn = kernel.published(
        lambda message: "y" in message["content"].get("data", {}).get("state", {}), "the lines of the section"
    )
    assert drawn["buffers"]
    assert not kernel.has_answered()


def test_the_interval_is_heard_while_a_cell_runs(kernel, controls):
    kernel.execute("""
import threading, time
from pathlib import Path

def watch():
    while panel.monitor.interval != 6.0:
        time.sleep(0.01)
    Path("heard.txt").touch()

threading.Thread(target=watch, daemon=True).start()
""")
    options = kernel.run("[value for _, value in choices['Sample every'].options]")
    request = kernel.start_busy()
    kernel.change("control", controls["every"], index=options.index(6.0))
    wait_until((kernel.folder / "heard.txt").exists, "changing the interval")
    assert not kernel.has_answered()
    kernel.interrupt()
    kernel.finish(request)


def test_the_shell_channel_still_works_while_no_cell_runs(kernel, controls):
    kernel.change("shell", controls["log"], value=True)
    wait_until(lambda: rows(kernel.folder), "writing the log")
    assert kernel.run("panel.log_to_csv.value, panel.monitor.log.running") == (True, True)
    kernel.execute("panel.monitor.log.stop()")


def test_the_control_channel_is_still_free_for_what_it_is_for(kernel, controls, busy):
    """The fixture ends the cell by an interrupt."""
    for value in (True, False) * 5:
        kernel.change("control", controls["log"], value=value)
    wait_until(lambda: list(kernel.folder.glob("*.csv")), "hearing the clicks")
    # Or the next test deletes the file of a running log, which then says so in the output of a cell.
    process = psutil.Process(kernel.process)

    def has_stopped_for_good() -> bool:
        before = set(kernel.folder.glob("*.csv"))
        time.sleep(0.5)
        opened = {Path(file.path) for file in process.open_files()}
        return set(kernel.folder.glob("*.csv")) == before and before.isdisjoint(opened)

    wait_until(has_stopped_for_good, "stopping the last log")


# -- cells -------------------------------------------------------------------------------------------------

CELL = """
from perfmon_widgets.jupyter.kernel import running_cell
cell = running_cell()
tuple(cell)
"""


def test_a_cell_is_known_by_the_id_that_the_front_end_gives_it(kernel):
    first, second, other = kernel.run(CELL, "a"), kernel.run(CELL, "a"), kernel.run(CELL, "b")
    assert [first[0], second[0], other[0]] == ["a", "a", "b"]
    assert len({first[1], second[1], other[1]}) == 3


def test_a_cell_without_id_is_known_by_its_source(kernel):
    first, second, other = kernel.run(CELL), kernel.run(CELL), kernel.run("# another\n" + CELL)
    assert "running_cell()" in first[0]
    assert first[0] == second[0] != other[0]
    assert len({first[1], second[1], other[1]}) == 3


def test_a_widget_event_is_no_cell(kernel):
    widget = kernel.run("""
import ipywidgets
from perfmon_widgets.jupyter.kernel import running_cell
seen = []
box = ipywidgets.Checkbox()
box.observe(lambda change: seen.append(running_cell()), "value")
box.comm.comm_id
""")
    kernel.change("shell", widget, value=True)
    assert kernel.run("seen") == [None]


@pytest.fixture
def no_panels(kernel: Kernel) -> None:
    """Those of the tests before are closed."""
    kernel.execute("""
from ipywidgets.widgets.widget import _instances
from perfmon_widgets import PerformancePanel
for each in list(_instances.values()):
    if isinstance(each, PerformancePanel):
        each.close()
""")


@pytest.mark.parametrize("cell", ["panel cell", None])
@pytest.mark.usefixtures("no_panels")
def test_running_a_cell_again_leaves_one_live_panel_and_one_thread(kernel, cell):
    for _ in range(5):
        kernel.execute(PANEL, cell)
    gauges = kernel.run("[panel.gauges.children[0].link.comm.comm_id]")
    kernel.forget_messages()
    time.sleep(0.35)
    request = kernel.start("pass")
    updates: Counter[str] = Counter(
        message["content"]["comm_id"]
        for message in kernel.messages(request)
        if message["msg_type"] == "comm_msg" and "readings" in message["content"]["data"].get("state", {})
    )
    kernel.finish(request)
    assert set(updates) == set(gauges)
    assert max(updates.values()) - min(updates.values()) <= 1  # the last tick may be cut off
    assert kernel.run("""
import threading
[thread.name for thread in threading.enumerate() if thread.name.startswith("perfmon")]
""") == ["perfmon-sampler"]


def test_running_a_cell_again_keeps_the_number_of_widgets(kernel):
    counts = []
    for _ in range(5):
        kernel.execute(PANEL, "counted")
        counts.append(kernel.run("from ipywidgets.widgets.widget import _instances\nlen(_instances)"))
    assert len(set(counts)) == 1


def test_panels_of_two_cells_both_live_over_one_thread(kernel):
    kernel.execute(PANEL.replace("panel", "first"), "x")
    kernel.execute(PANEL, "y")
    assert kernel.run("""
import threading
names = [thread.name for thread in threading.enumerate() if thread.name.startswith("perfmon")]
first.monitor is panel.monitor, first.comm is not None, len(names)
""") == (True, True, 1)


# -- the end -----------------------------------------------------------------------------------------------


def test_a_kernel_with_a_running_monitor_ends_cleanly(tmp_path):
    kernel = Kernel(tmp_path)
    kernel.execute(PANEL, "panel")
    kernel.execute("path = panel.monitor.log.start('run.csv')\npanel.advanced.selected_index = 0")
    wait_until(lambda: (tmp_path / "run.csv").read_bytes().count(b"\n") > 3, "writing the log")
    assert kernel.shut_down() == 0
    said = kernel.errors.read_text()
    assert "Traceback" not in said
    assert "Exception" not in said
    assert len(read_csv(tmp_path / "run.csv")) >= 3
    assert (tmp_path / "run.csv").read_bytes().endswith(b"\n")


# -- what a notebook stores --------------------------------------------------------------------------------


def outputs(messages: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """The kinds of the outputs with HTML, and their captions."""
    return [
        (message["msg_type"], message["content"]["data"]["text/html"].partition("<caption>")[2][:11])
        for message in messages
        if "text/html" in message["content"].get("data", {})
    ]


@pytest.mark.usefixtures("no_panels")
def test_a_table_of_last_values_is_an_output_that_each_cell_makes_anew(kernel):
    kernel.execute("from perfmon_widgets import PerformanceMonitor, PerformancePanel")
    show = """
monitor = PerformanceMonitor()
monitor.sample()
panel = PerformancePanel(monitor)
panel
"""
    kernel.forget_messages()
    request = kernel.start(show)
    assert outputs(list(kernel.messages(request))) == [("display_data", "Last values")]
    request = kernel.start("monitor.sample()")
    assert outputs(list(kernel.messages(request))) == [("update_display_data", "Last values")]
    request = kernel.start("1 / 0  # a cell that fails has ended too")
    assert outputs(list(kernel.messages(request))) == []  # nothing is new
    request = kernel.start("panel.close(); monitor.sample()")
    assert outputs(list(kernel.messages(request))) == []
