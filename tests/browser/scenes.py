"""Makes pictures of the panel in eleven states: `python tests/browser/scenes.py FOLDER`, some five minutes.

They are what README.md beside this file compares with other monitors. The machines in them are made up where
this one has no GPU and few CPUs; drawing, cells and browser are real.
"""

from __future__ import annotations

import argparse
import html
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from conftest import launch
from lab import Notebook, write_notebook
from playwright.sync_api import Browser, expect, sync_playwright
from servers import Server, start_server

# A monitor gets a history of `past` seconds, and a panel.
SHOWN = """
for ago in range({past}, 0, -1):
    values = dict.fromkeys(monitor._columns, math.nan)
    monitor._sources.read_into(values, with_timeout=True)
    monitor._history.append(time.time() - ago, tuple(values.values()), False, time.monotonic() - ago)
monitor.start()
panel = PerformancePanel(monitor)
panel
"""
# A machine with GPUs, one of which lags behind.
MACHINE = """
import math, random, time
from dataclasses import replace
from perfmon_widgets import Metric, PerformanceMonitor, PerformancePanel
from perfmon_widgets.collectors.nvidia.collector import METRICS

GIB = 2**30

class Machine:
    def __init__(self, cpus, gpus):
        self.cpus, self.gpus, self.time = cpus, gpus, 0
        self.metrics = [
            Metric("cpu_percent", "percent", "cpu", "Busy.", role="headline", label="CPU"),
            *(Metric(f"core{{n}}/cpu_percent", "percent", "cpu", "Busy.", role="part", label=f"core {{n}}")
              for n in range(cpus)),
            Metric("ram_percent", "percent", "memory", "In use.", role="headline", label="RAM"),
            Metric("ram_used_bytes", "bytes", "memory", "In use.", limit="ram_limit_bytes",
                   label="RAM in use"),
            Metric("ram_limit_bytes", "bytes", "memory", "Limit.", role="limit"),
            Metric("process_cpu_percent", "percent", "process", "Own.", role="headline",
                   label="CPU of this process"),
            Metric("process_ram_bytes", "bytes", "process", "Own.", role="headline",
                   label="RAM of this process"),
            *(replace(each, name=f"gpu{{n}}/{{each.name}}", limit=each.limit and f"gpu{{n}}/{{each.limit}}",
                      label=f"GPU {{n}} {{each.label}}")
              for n in range(gpus) for each in METRICS),
        ]

    def collect(self):
        self.time += 1
        step = self.time % 40 / 40
        busy = 88 + 8 * math.sin(self.time / 3) if step < 0.93 else 15
        values = {{"cpu_percent": 45 + 30 * math.sin(self.time / 7) ** 2, "ram_percent": 55 + self.time / 100,
                  "ram_used_bytes": (0.55 + self.time / 1e4) * 96 * GIB, "ram_limit_bytes": 96 * GIB,
                  "process_cpu_percent": 40 + 25 * math.sin(self.time / 7) ** 2,
                  "process_ram_bytes": (20 + self.time / 50) * GIB}}
        for n in range(self.cpus):
            wave = 0.5 + 0.5 * math.sin(self.time / 9 + n / 5)
            values[f"core{{n}}/cpu_percent"] = 100 * wave * (n % 8 < 6)
        for n in range(self.gpus):
            own = 36 if n == 5 else max(0, min(100, busy + random.uniform(-3, 3)))
            for name, value in {{
                "utilization_percent": own, "memory_percent": 72 + n % 3,
                "memory_used_bytes": (57 + n % 3) * GIB,
                "memory_limit_bytes": 80 * GIB, "power_watts": 120 + 5.5 * own, "sm_clock_hertz": 1.7e9,
            }}.items():
                if any(metric.name == f"gpu{{n}}/{{name}}" for metric in self.metrics):
                    values[f"gpu{{n}}/{{name}}"] = value
        return values

machine = Machine({cpus}, {gpus})
monitor = PerformanceMonitor([machine], interval=1)
"""
# A cluster of workers of which one lags behind, on hosts with eight each.
WORKERS = """
import math, random, time
from perfmon_widgets import PerformanceMonitor, PerformancePanel, default_collectors
from perfmon_widgets.cluster.members import Members
from perfmon_widgets.cluster.rows import Row

GIB = 2**30

class Workers(Members):
    time = 0

    def collect(self):
        self.time += 1
        for n in range({workers}):
            busy = 25 if n == 5 else 80 + 12 * math.sin(self.time / 5 + n / 3) + random.uniform(-4, 4)
            used = (2 + 1.2 * (n % 4) + self.time / 400) * GIB
            own = {{"cpu_percent": busy, "ram_used_bytes": used, "ram_limit_bytes": 8 * GIB,
                   "ram_percent": 12.5 * used / GIB, "tasks_running": 1, "tasks_ready": n % 3}}
            host = n // 8
            self.put(Row(f"tcp://{{n}}", f"tcp://10.0.0.{{host}}:{{40000 + n}}", f"node-{{host}}", 1.0, own,
                         {{"cpu_percent": min(100, busy + 5), "ram_percent": 60 + n / 8}}))
        return super().collect()

workers = Workers("worker", "a made-up cluster", "it was killed")
workers.collect()
monitor = PerformanceMonitor([*default_collectors(), workers], interval=1)
"""
OWN = """
import time
from perfmon_widgets import PerformanceMonitor, PerformancePanel
monitor = PerformanceMonitor(interval=1)
monitor.start()
panel = PerformancePanel(monitor)
panel
"""
TRAIN = """
import numpy as np
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier
images, digits = load_digits(return_X_y=True)
model = MLPClassifier(hidden_layer_sizes=(512, 512), random_state=0)
for epoch in range(1000):
    for _ in range(10):
        model.partial_fit(images / 16, digits, classes=np.unique(digits))
    time.sleep(epoch % 3)
"""
CELLS = [
    "import numpy as np\ndata = np.ones(60_000_000); time.sleep(4)",
    "total = sum(i * i for i in range(30_000_000))",
    """for epoch in range(3):
    monitor.mark(f"epoch {epoch}")
    with monitor.span("train"):
        time.sleep(3)
        with monitor.span("validate"):
            time.sleep(2)""",
    "del data\nfor _ in range(10**9): pass",
]
TERMINAL = """%load_ext perfmon_widgets
%perfmon
import time; time.sleep(6)
%perfmon
%perfmon cells
%perfmon why
"""


@dataclass(frozen=True)
class Scene:
    """What a picture shows."""

    panel: str
    section: str
    cells: tuple[str, ...] = ()
    seconds: float = 4.0
    """How long the last cell has been running."""
    theme: str = "light"
    width: int = 1100
    point_at: float | None = None
    """Where the mouse points, as a share of the first chart's width."""


def machine(cpus: int = 8, gpus: int = 2, past: int = 600) -> str:
    """The cell that shows a made-up machine."""
    return (MACHINE + SHOWN).format(cpus=cpus, gpus=gpus, past=past)


def cluster(workers: int) -> str:
    """The cell that shows a made-up cluster."""
    return (WORKERS + SHOWN).format(workers=workers, past=600)


SCENES = {
    "first-20-seconds": Scene(OWN, "CPU", (TRAIN,), seconds=20),
    "ten-minutes": Scene(machine(), "GPU", ("while True: time.sleep(1)",)),
    "eight-gpus": Scene(machine(gpus=8), "GPU"),
    "64-cpus": Scene(machine(cpus=64, gpus=0), "CPU"),
    "cells": Scene(OWN, "Memory", tuple(CELLS), seconds=12, point_at=0.3),
    "stopped": Scene(machine(past=120), "GPU", ("monitor.stop()",)),
    "dark": Scene(machine(), "GPU", ("while True: time.sleep(1)",), theme="dark"),
    "640-pixels": Scene(machine(gpus=2), "GPU", width=640),
    "32-workers": Scene(cluster(32), "Workers", ("for _ in range(10**9): pass",)),
    "128-workers": Scene(cluster(128), "Workers"),
}


def take(browser: Browser, server: Server, scene: Scene, path: Path) -> None:
    """Run the cells of a scene and take the picture."""
    server.set_theme(scene.theme)
    size = {"width": scene.width + 40, "height": 900}
    notebook = Notebook(
        browser.new_context(viewport=size, timezone_id="Europe/Berlin", device_scale_factor=1.5),
        server,
        write_notebook([scene.panel, *scene.cells], server.root),
    )
    notebook.open()
    for bar in ("Left", "Right"):
        notebook.page.evaluate(f"window.jupyterapp.shell.collapse{bar}()")
    notebook.run_cell(0)
    place = notebook.cell(0)
    expect(place.get_by_role("meter").first).to_be_visible(timeout=60_000)
    notebook.wait_idle()
    place.locator(".jupyter-widget-Collapse-header").get_by_text(scene.section, exact=True).click()
    for at in range(1, len(scene.cells) + 1):
        notebook.run_cell(at)
        if at < len(scene.cells):
            notebook.wait_idle()
    notebook.page.wait_for_timeout(scene.seconds * 1000)
    panel = place.locator(".perfmon-panel")
    panel.scroll_into_view_if_needed()
    if scene.point_at is not None:
        area = place.locator(".perfmon-section rect.plotarea_events").first.bounding_box()
        assert area is not None
        notebook.page.mouse.move(area["x"] + scene.point_at * area["width"], area["y"] + 40)
        notebook.page.wait_for_timeout(500)
    # Not the part of the panel alone, which Playwright would scroll to and so point elsewhere.
    box = panel.bounding_box()
    assert box is not None
    notebook.page.screenshot(path=path, clip={**box, "height": min(box["height"], 900 - box["y"])})
    print(path, f"{box['width']:.0f} x {box['height']:.0f}", flush=True)
    notebook.context.close()


def take_terminal(browser: Browser, path: Path) -> None:
    """What IPython prints in a terminal."""
    command = [sys.executable, "-m", "IPython", "--no-banner", "--simple-prompt", "--no-confirm-exit"]
    text = subprocess.run(command, input=TERMINAL, capture_output=True, text=True, timeout=120, check=True)
    page = browser.new_page(viewport={"width": 900, "height": 500}, device_scale_factor=1.5)
    page.set_content(f"<pre style='font: 13px monospace'>{html.escape(text.stdout)}</pre>")
    page.screenshot(path=path, full_page=True)
    print(path, flush=True)


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("scenes", nargs="*", default=[*SCENES, "terminal"])
    wanted = parser.parse_args()
    wanted.folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        start_server(Path(folder)) as server,
        sync_playwright() as playwright,
    ):
        browser = launch(playwright)
        for name in wanted.scenes:
            path = wanted.folder / f"{name}.png"
            if name == "terminal":
                take_terminal(browser, path)
            else:
                take(browser, server, SCENES[name], path)
        browser.close()


if __name__ == "__main__":
    main()
