"""What the panel costs a network and a browser: messages and bytes per tick, and the processor's time."""

from __future__ import annotations

import time
from dataclasses import dataclass

from frames import Frame
from lab import Notebook
from panel_page import lines, section, wait_until

# Beside this machine's own sources, two GPUs that vary as GPUs do: their section has five charts. The history
# is full: a row for each second of ten minutes.
PANEL = """
import math
import random
import time
from dataclasses import replace

from perfmon_widgets import PerformanceMonitor, PerformancePanel, default_collectors
from perfmon_widgets.collectors.nvidia.collector import METRICS

class Gpus:
    metrics = [
        replace(each, name=f"gpu{number}/{each.name}", limit=each.limit and f"gpu{number}/{each.limit}")
        for number in range(2)
        for each in METRICS
    ]

    def collect(self):
        most = {"percent": 100, "watts": 300}
        tops = {each.name: most.get(each.unit, 1e9) for each in self.metrics}
        return {
            name: top if name.endswith("limit_bytes") else random.random() * top for name, top in tops.items()
        }

monitor = PerformanceMonitor([*default_collectors(), Gpus()])
for ago in range(600, 0, -1):
    values = dict.fromkeys(monitor._columns, math.nan)
    monitor._sources.read_into(values, with_timeout=True)
    monitor._history.append(time.time() - ago, tuple(values.values()))
monitor.interval = 1.0
monitor.start()
panel = PerformancePanel(monitor)
panel
"""
# As many bare figures of bqplot, drawn every second: what drawing costs on a machine.
FIGURES = """
import threading
import time

import bqplot
import ipywidgets
import numpy as np

x, y = np.linspace(-600, 0, 120, dtype="f4"), np.random.rand(2, 120).astype("f4")
scales = {"x": bqplot.LinearScale(min=-600, max=0), "y": bqplot.LinearScale(min=0, max=1)}
axes = [bqplot.Axis(scale=scales["x"]), bqplot.Axis(scale=scales["y"], orientation="vertical")]
lines = [bqplot.Lines(x=x, y=y, scales=scales) for _ in range(5)]
layout = {"height": "165px", "width": "auto", "flex": "1 1 230px", "min_width": "0"}


def draw():
    while True:
        time.sleep(1)
        for each in lines:
            each.y = np.random.rand(2, 120).astype("f4")


threading.Thread(target=draw, daemon=True).start()
ipywidgets.HBox(
    [bqplot.Figure(marks=[each], axes=axes, animation_duration=0, layout=layout) for each in lines],
    layout={"flex_flow": "row wrap"},
)
"""
CHARTS = {"CPU": 1, "Memory": 2, "Disk": 2, "Network": 1, "This process": 3, "GPU": 5}


@dataclass(frozen=True)
class Load:
    """What one tick costs, on average; not in each tick do the charts move."""

    messages: float
    bytes: float
    most_messages: int  # in any tick
    most_bytes: int
    processor: float  # share of a core that the page's process took, in percent


def measure(notebook: Notebook, ticks: int) -> Load:
    """What the next ticks cost, of one second each."""
    first = len(notebook.websocket_frames)
    processor = measure_processor(notebook, ticks)
    found = [frame for frame in notebook.websocket_frames[first:] if not frame.sent]
    # The gauges are the last message of a tick.
    drawn: list[list[Frame]] = [[]]
    for frame in found:
        drawn[-1].append(frame)
        if "readings" in frame.content.get("data", {}).get("state", {}):
            drawn.append([])
    whole = drawn[1:-1]  # the first may have begun before
    assert len(whole) >= ticks / 2
    return Load(
        messages=sum(map(len, whole)) / len(whole),
        bytes=sum(frame.size for tick in whole for frame in tick) / len(whole),
        most_messages=max(map(len, whole)),
        most_bytes=max(sum(frame.size for frame in tick) for tick in whole),
        processor=processor,
    )


def measure_processor(notebook: Notebook, seconds: float) -> float:
    """The share of a core that the page's process takes in the next seconds, in percent."""
    before, begun = _processor_seconds(notebook), time.monotonic()
    notebook.page.wait_for_timeout(seconds * 1000)
    return 100 * (_processor_seconds(notebook) - before) / (time.monotonic() - begun)


def _processor_seconds(notebook: Notebook) -> float:
    """What the processes that draw pages have used since they were started."""
    browser = notebook.context.browser
    assert browser is not None
    protocol = browser.new_browser_cdp_session()
    processes = protocol.send("SystemInfo.getProcessInfo")["processInfo"]
    protocol.detach()
    return sum(float(each["cpuTime"]) for each in processes if each["type"] == "renderer")


def open_section(notebook: Notebook, title: str) -> None:
    """Open a section and wait until its lines are drawn."""
    place = notebook.page.locator(".perfmon-panel")
    section(place, title).click()
    wait_until(notebook, lambda: any(len(line) >= 2 for line in lines(place)), "lines")
