"""What happens to notebooks, done in a real Jupyter kernel: cells run again and again, and interrupted."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from real_kernel import Kernel

PANEL = """
from perfmon_widgets import PerformancePanel
panel = PerformancePanel()
panel.monitor.interval = 0.1
panel.advanced.selected_index = 0
panel
"""

# What is left once IPython has dropped its outputs: each entry of Out keeps the widget that it showed.
STATE = """
import gc, os, threading, weakref
from ipywidgets.widgets.widget import _instances
kept = sum(type(one).__name__ == "PerformancePanel" for one in gc.get_objects())
get_ipython().displayhook.flush()
gc.collect()
resident = int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
threads = sorted(one.name for one in threading.enumerate())
# Without weak references: pandas keeps those to frames that are gone, and drops them by the hundred.
objects = sum(type(one) is not weakref.ReferenceType for one in gc.get_objects())
counts = {"widgets": len(_instances), "threads": threads, "objects": objects}
counts | {"resident": resident, "kept": kept}
"""


@pytest.fixture
def kernel(tmp_path) -> Iterator[Kernel]:
    kernel = Kernel(tmp_path)
    yield kernel
    kernel.shut_down()


def messages_at_once(kernel: Kernel) -> Counter[str]:
    """How many messages each widget is sent in half a second."""
    kernel.forget_messages()
    first = kernel.run("panel.monitor._history.count")
    time.sleep(0.5)
    request = kernel.start("ticks = panel.monitor._history.count")
    sent: Counter[str] = Counter(
        message["content"]["comm_id"]
        for message in kernel.messages(request)
        if message["msg_type"] == "comm_msg"
    )
    kernel.finish(request)
    assert kernel.run("ticks") > first
    return sent


INTERRUPTED = """
from perfmon_widgets import PerformanceMonitor
print("running", flush=True)
while True:
    monitor.start()
    monitor.stop()
"""

AFTERWARDS = """
import threading, time
def soon(happens):
    deadline = time.monotonic() + 10
    while not happens() and time.monotonic() < deadline:
        time.sleep(0.001)
    return happens()
def samplers():
    return [one for one in threading.enumerate() if one.name == "perfmon-sampler" and one.is_alive()]
monitor.start()
before = monitor._history.count
goes_on = soon(lambda: monitor._history.count > before) and monitor.running
monitor.stop()
goes_on, monitor.running, soon(lambda: not samplers())
"""


def test_a_kernel_interrupted_while_it_starts_and_stops_has_a_monitor_that_still_can(kernel):
    kernel.execute(
        "from perfmon_widgets import PerformanceMonitor\nmonitor = PerformanceMonitor(interval=0.05)"
    )
    for _ in range(8):
        request = kernel.start(INTERRUPTED, stop_on_error=False)
        kernel.published(
            lambda message, request=request: (
                message["msg_type"] == "stream" and message["parent_header"].get("msg_id") == request
            ),
            "that the cell runs",
        )
        time.sleep(random.uniform(0, 0.02))
        while (
            not kernel.has_answered()
        ):  # Python itself drops an interrupt that falls into a callback of its own
            kernel.interrupt()
            give_up = time.monotonic() + 2
            while not kernel.has_answered() and time.monotonic() < give_up:
                time.sleep(0.005)
        assert kernel.finish(request)["status"] == "error"
        assert kernel.run(AFTERWARDS) == (True, False, True)
        kernel.forget_messages()


def test_a_panel_cell_that_is_run_again_sends_and_holds_no_more_than_the_first(kernel):
    states, sent = [], []
    for _ in range(4):
        for _ in range(10):
            kernel.execute(PANEL, "panel")
            kernel.forget_messages()  # else what is not read is thrown away, the end of a cell too
        sent.append(messages_at_once(kernel))
        states.append(kernel.run(STATE))
    first, last = states[1], states[-1]  # what is imported and cached on first use comes before
    assert last["kept"] >= 10  # by IPython: else the rest would show nothing
    assert last["widgets"] == first["widgets"]
    assert [name for name in last["threads"] if name.startswith("perfmon")] == ["perfmon-sampler"]
    assert len(last["threads"]) <= len(first["threads"]) + 2  # IPython and ipykernel have theirs
    assert last["objects"] - first["objects"] < 20 * 20  # a panel is made of more than a thousand
    assert last["resident"] - first["resident"] < 10_000_000  # bytes; a panel that lives has 1,000,000
    # Panels that lived on would be widgets more, and 30 times as many messages.
    assert len(sent[-1]) <= len(sent[0]) + 1  # what lies behind the lines is sent only when a cell has run
    assert max(sent[-1].values()) <= 2 * max(sent[0].values())
