"""The panel over a monitor: what it sends when, what its controls do, and that nothing of it is left."""

from __future__ import annotations

import errno
import gc
import importlib
import os
import re
import sys
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import ipywidgets
import numpy as np
import pytest
import traitlets
from fakes.collectors import FakeCollector, Samples
from fakes.comm import Message, Wire
from fakes.threads import join_threads, wait_until
from ipywidgets.widgets.widget import _instances

from perfmon_widgets import Metric, PerformanceMonitor, PerformancePanel, clocks, read_csv
from perfmon_widgets.collectors.linux.host import METRICS as HOST
from perfmon_widgets.core.csv_log import CsvLog
from perfmon_widgets.core.registry import registry
from perfmon_widgets.jupyter import kernel
from perfmon_widgets.jupyter.kernel import Cell
from perfmon_widgets.jupyter.measurement import Measurement
from perfmon_widgets.metrics import Sample, unit_of
from perfmon_widgets.panel import displayed, former
from perfmon_widgets.panel import panel as panel_module
from perfmon_widgets.panel.gauge import Gauge
from perfmon_widgets.panel.link import Page, script
from perfmon_widgets.panel.parts import parts_of
from perfmon_widgets.panel.section import Section
from perfmon_widgets.panel.snapshot import charts
from perfmon_widgets.panel.verdict import Verdict
from perfmon_widgets.views.evidence import Finding
from perfmon_widgets.views.rules.cpu import NOTHING_RUNS

GIBIBYTE = 2.0**30
FAST = 0.01
NEVER = 3600.0
PROCESS = (
    Metric("process_cpu_percent", "percent", "process", "This kernel's share."),
    Metric("process_ram_bytes", "bytes", "process", "This kernel's memory."),
)
CORES = tuple(Metric(f"core{number}/cpu_percent", "percent", "cpu", "One core.") for number in range(4))
SECTIONS = ["CPU", "Memory", "Disk", "Network", "This process"]


class Machine(FakeCollector):
    """A host whose numbers change a little with each reading, but for the disk, which stays as it is."""

    def __init__(self, *more: Metric) -> None:
        super().__init__(metrics=(*HOST, *CORES, *PROCESS, *more), read=self._read)
        self.values: dict[str, float] = {}
        """Numbers to be read instead."""
        self.errors: dict[str, str] = {}

    def _read(self) -> Mapping[str, float]:
        number = self.readings
        read = {metric.name: 10.0 + number for metric in self.metrics if metric.unit == "percent"}
        read |= {metric.name: (20 + number) * 1e6 for metric in self.metrics if metric.group == "process"}
        read |= {
            "process_cpu_percent": 5.0 + number,
            "ram_used_bytes": (5 + number / 10) * GIBIBYTE,
            "ram_limit_bytes": 16 * GIBIBYTE,
            "swap_used_bytes": 0.0,
            "swap_limit_bytes": 0.0,
            "disk_percent": 50.0,
            "disk_used_bytes": 50 * GIBIBYTE,
            "disk_limit_bytes": 100 * GIBIBYTE,
            "disk_read_bytes_per_second": 6e6 + number * 1e5,
            "disk_write_bytes_per_second": 7e6,
        }
        return read | self.values


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    return Wire(monkeypatch)


class Outputs:
    """What a cell of a Jupyter kernel would get for an output beside the panel."""

    def __init__(self) -> None:
        self.shown: list[tuple[str, str, bool]] = []
        self.after_cell: list[Callable[..., object]] = []
        self.on_shown: list[Callable[[str, kernel.Shown], object]] = []

    def display(self, widget: ipywidgets.Widget, how: kernel.Shown = kernel.Shown.DISPLAYED) -> None:
        """Show a widget as an output, as a cell does."""
        widget._repr_mimebundle_()
        for callback in self.on_shown:
            callback(widget.model_id, how)

    def end_cell(self) -> None:
        """End a cell without a value."""
        for callback in self.on_shown:
            callback("", kernel.Shown.RESULT)

    def add_callback(self, callback: Callable[[str, kernel.Shown], object]) -> None:
        if callback not in self.on_shown:
            self.on_shown.append(callback)

    def show_html(self, text: str, name: str, *, again: bool) -> None:
        self.shown.append((text, name, again))

    def after_each_cell(self, callback: Callable[..., object], remove: bool = False) -> None:
        self.after_cell.remove(callback) if remove else self.after_cell.append(callback)


@pytest.fixture
def in_kernel(monkeypatch: pytest.MonkeyPatch) -> Outputs:
    """The panel's cell runs in a Jupyter kernel."""
    outputs = Outputs()
    monkeypatch.setattr(panel_module.kernel, "is_jupyter_kernel", lambda: True)
    monkeypatch.setattr(panel_module.kernel, "show_html", outputs.show_html)
    monkeypatch.setattr(panel_module.kernel, "after_each_cell", outputs.after_each_cell)
    monkeypatch.setattr(panel_module.kernel, "on_shown", outputs.add_callback)
    return outputs


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def monitor(machine: Machine, wire: Wire) -> Iterator[PerformanceMonitor]:
    """A monitor that is driven by hand, unless a test starts it."""
    monitor = PerformanceMonitor([machine], interval=NEVER)
    yield monitor
    monitor.stop()


@pytest.fixture
def show(wire: Wire) -> Iterator[Callable[..., PerformancePanel]]:
    """Makes panels that are closed when the test ends."""
    panels: list[PerformancePanel] = []

    def make(*arguments: PerformanceMonitor) -> PerformancePanel:
        panels.append(PerformancePanel(*arguments))
        look_at(wire, panels[-1])
        return panels[-1]

    yield make
    while panels:  # not kept: pytest holds on to this list for longer than to the test
        panels.pop().close()


@pytest.fixture
def panel(show: Callable[..., PerformancePanel], monitor: PerformanceMonitor) -> PerformancePanel:
    """A panel over the monitor, which has taken three samples by hand."""
    panel = show(monitor)
    for _ in range(3):
        monitor.sample()
    return panel


def look_at(wire: Wire, panel: PerformancePanel, *, page: str = "page", views: int = 1) -> None:
    """What a browser says of the views that it has."""
    wire.ask(panel._link, page=page, views=views, whileBusy=True)


def elsewhere(function: Callable[[], object]) -> None:
    """Do it on another thread, as what a busy kernel hears from the browser is done, and wait for it."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, name="control")
    thread.start()
    thread.join(10)
    assert not thread.is_alive(), "it has not ended within 10 s"
    if failed:
        raise failed[0]


def parts(widget: ipywidgets.Widget) -> Iterator[ipywidgets.Widget]:
    """The widget and all that it shows."""
    yield widget
    for child in getattr(widget, "children", ()):
        yield from parts(child)


def control(panel: PerformancePanel, description: str) -> ipywidgets.Dropdown:
    [found] = [each for each in parts(panel.children[1]) if getattr(each, "description", "") == description]
    return found


def choose(wire: Wire, choice: ipywidgets.Dropdown, value: float) -> None:
    """What a browser sends when a person picks an option."""
    wire.set(choice, index=[each for _, each in choice.options].index(value))


def words(panel: PerformancePanel) -> str:
    """What stands beside the controls."""
    state, _ = [each for each in panel.children[1].children if isinstance(each, ipywidgets.HTML)]
    return str(state.value)


def gauges(panel: PerformancePanel) -> dict[str, dict[str, Any]]:
    """What each gauge was sent, by its label."""
    return {gauge.label: gauge.reading for gauge in panel.gauges.children}


def once(*widgets: ipywidgets.Widget) -> Counter[str]:
    """One message to each of these."""
    return Counter(widget.comm.comm_id for widget in widgets)


def drawn_by(section: ipywidgets.VBox) -> list[ipywidgets.Widget]:
    """What a section sends in a tick: the marks of its charts, and its table."""
    return [*(chart.marks[0] for chart in section.charts), section.table]


def sent_in_a_tick(wire: Wire, section: ipywidgets.VBox) -> Counter[str]:
    """The messages of a tick by widget, without those that move the time axis, which it seldom needs."""
    count = wire.count()
    assert count.pop(section._time.moving.comm.comm_id, 0) <= 1
    for axis in section._time.axes:
        assert count.pop(axis.comm.comm_id, 0) in (0, 2)  # its labels, then its ticks
    return count


def csv_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.csv"))


# -- what a person finds -----------------------------------------------------------------------------------


def test_the_parts_are_ordinary_widgets(panel):
    assert isinstance(panel, ipywidgets.VBox)
    assert isinstance(panel.gauges, ipywidgets.HBox)
    assert all(isinstance(gauge, Gauge) for gauge in panel.gauges.children)
    assert isinstance(panel.advanced, ipywidgets.Accordion)
    assert isinstance(panel.log_to_csv, ipywidgets.Checkbox)
    shown = list(parts(panel))
    assert all(part in shown for part in (panel.gauges, panel.advanced, panel.log_to_csv, panel.export_csv))


def test_the_basic_view_is_four_gauges_and_a_closed_accordion(panel):
    assert [gauge.label for gauge in panel.gauges.children] == ["CPU", "RAM", "Disk", "GPU"]
    assert panel.advanced.selected_index is None


def test_there_is_a_section_for_each_group(panel):
    assert list(panel.advanced.titles) == SECTIONS
    assert len(panel.advanced.children) == len(SECTIONS)


def test_the_gpu_section_comes_first_and_ones_own_last(show):
    machine = Machine(
        Metric("loss", "", "model", "Loss."), Metric("gpu0/power_watts", "watts", "gpu", "Power.")
    )
    assert list(show(PerformanceMonitor([machine])).advanced.titles) == ["GPU", *SECTIONS, "model"]


def test_a_gauge_says_number_detail_and_level(panel, machine, monitor):
    machine.values = {
        "ram_percent": 80.0,
        "ram_used_bytes": 5.2 * GIBIBYTE,
        "cpu_percent": 12.5,
        "process_cpu_percent": 8.0,
    }
    sample = monitor.sample()
    shown = gauges(panel)
    assert shown["RAM"] == {
        "value": 80.0,
        "detail": "5.2 of 16 GiB",
        "level": "warning",
    }
    assert panel._link.readings["time"] == sample.time
    assert panel._link.readings["interval"] == NEVER
    assert shown["CPU"]["value"] == 12.5
    assert shown["CPU"]["detail"] == "this kernel 8%"
    assert shown["Disk"]["detail"] == "50 of 100 GiB"


@pytest.mark.parametrize("name", ["cpu_percent", "ram_percent", "disk_percent"])
def test_a_missing_number_is_shown_as_missing_and_never_as_zero(panel, machine, monitor, name):
    machine.values = {name: float("nan")}
    monitor.sample()
    reading = gauges(panel)[{"cpu": "CPU", "ram": "RAM", "disk": "Disk"}[name.partition("_")[0]]]
    assert "value" not in reading


def test_the_reason_for_a_single_number_is_shown_where_it_is_missing(panel, machine, monitor):
    machine.read = dict
    machine.errors = {"cpu_percent": "the counters are gone"}
    monitor.sample()
    assert gauges(panel)["CPU"].get("value") is None
    assert gauges(panel)["CPU"]["detail"] == "the counters are gone"


@pytest.mark.parametrize("missing", ["cpu_percent", "ram_percent", "disk_percent"])
def test_any_source_that_fails_is_the_reason_in_the_gauge_of_its_column(show, missing):
    """Whatever its class is called."""

    class Sensor(FakeCollector):
        def collect(self) -> dict[str, float]:
            raise RuntimeError("sensor unplugged")

    metric = Metric(missing, "percent", "own", "Read by a sensor.")
    monitor = PerformanceMonitor([Sensor(metrics=[metric])])
    panel = show(monitor)
    monitor.sample()
    monitor.sample()
    label = {"cpu": "CPU", "ram": "RAM", "disk": "Disk"}[missing.partition("_")[0]]
    assert gauges(panel)[label] == {"detail": "sensor unplugged"}


def test_the_representation_is_one_line_of_values(panel, machine, monitor):
    machine.values = {"cpu_percent": 9.0, "ram_percent": 22.0, "disk_percent": 50.0}
    monitor.sample()
    assert repr(panel) == "<PerformancePanel: CPU 9%, RAM 22%, Disk 50%, GPU –>"


def test_the_representation_before_the_first_sample_is_one_line_too(show, monitor):
    assert repr(show(monitor)) == "<PerformancePanel: CPU –, RAM –, Disk –, GPU –>"


def test_what_a_notebook_stores_is_the_same_each_time(show, monitor, in_kernel):
    """Notebooks are compared, and their outputs are kept in git."""
    panel = show(monitor)
    bundles = [panel._repr_mimebundle_()]
    for _ in range(3):
        monitor.sample()
        bundles.append(panel._repr_mimebundle_())
    assert {bundle["text/plain"] for bundle in bundles} == {"PerformancePanel"}
    view = bundles[0]["application/vnd.jupyter.widget-view+json"]
    assert view["model_id"] == panel.comm.comm_id


# -- which monitor -----------------------------------------------------------------------------------------


def test_a_panel_does_not_start_the_monitor_that_it_is_given(show, monitor):
    panel = show(monitor)
    assert panel.monitor is monitor
    assert not monitor.running


def test_what_is_no_monitor_is_refused_and_leaves_nothing():
    before = set(_instances)
    with pytest.raises(
        TypeError, match="monitor must be a PerformanceMonitor, not str, which has no 'call_soon'"
    ):
        PerformancePanel("gpu")
    gc.collect()  # an error in its end would be one of this test
    assert set(_instances) == before


def test_without_an_argument_it_is_the_shared_monitor_and_it_runs(show, monkeypatch):
    shared = PerformanceMonitor([Machine()], interval=NEVER)
    monkeypatch.setattr(registry, "shared", shared)
    first, second = show(), show()
    assert first.monitor is second.monitor is shared
    assert shared.running
    shared.stop()


def test_without_an_argument_it_is_a_monitor_of_ones_own_if_only_that_runs(show, monitor, monkeypatch):
    """As for %perfmon, %%perfmon, serve() and HTTP: one question has one answer."""
    monkeypatch.setattr(registry, "shared", None)
    monitor.start()
    assert show().monitor is monitor
    assert registry.shared is None


def test_a_module_that_is_executed_again_brings_no_second_shared_monitor(show, monkeypatch):
    """As by %autoreload after a change of that file."""
    monkeypatch.setattr(registry, "shared", PerformanceMonitor([Machine()], interval=NEVER))
    first = show()
    names = [f"perfmon_widgets.core.{name}" for name in ("registry", "monitor", "shared")]
    contents = {name: dict(vars(sys.modules[name])) for name in names}
    try:
        for name in names:
            importlib.reload(sys.modules[name])
        monkeypatch.setattr(panel_module, "default_monitor", sys.modules[names[-1]].default_monitor)
        assert show().monitor is first.monitor
    finally:
        for name, content in contents.items():  # the other tests go on with the classes they have imported
            vars(sys.modules[name]).update(content)
        first.monitor.stop()


class Replay:
    """A monitor of no base class and without a thread: what a CSV says, one row after the other."""

    interval = 1.0
    window = 600.0
    running = False

    def __init__(self, path: Path) -> None:
        self._all = read_csv(path)
        self.metrics = [Metric(name, unit_of(name), "cpu", "Replayed.") for name in self._all.columns]
        self.errors: dict[str, str] = {}
        self.latest: Sample | None = None
        self.history = self._all.iloc[:0]
        self.log = CsvLog(list(self._all.columns), lambda: (0, [], []))
        self._subscribers: list[Callable[[Sample], object]] = []

    @property
    def rows(self) -> Any:
        return self.history.index.tz_localize(None).to_numpy(), self.history.to_numpy()

    def replay(self) -> None:
        for number, (moment, row) in enumerate(self._all.iterrows(), 1):
            self.history = self._all.iloc[:number]
            self.history.attrs["gaps"] = []
            self.latest = Sample(moment.timestamp(), row.to_dict())
            for callback in self._subscribers:
                callback(self.latest)

    def start(self) -> None:
        raise AssertionError("a monitor that is given is not started")

    def stop(self) -> None:
        raise AssertionError("nor stopped")

    def on_sample(self, callback: Callable[[Sample], object], remove: bool = False) -> None:
        self._subscribers.remove(callback) if remove else self._subscribers.append(callback)

    def on_state(self, callback: Callable[[bool], object], remove: bool = False) -> None:
        pass

    def call_soon(self, action: Callable[[], object], name: str = "") -> None:
        action()

    def newest_spans(self, most: int) -> list[Any]:
        return []


def test_anything_with_the_members_of_a_monitor_can_be_shown(show, monitor, wire, folder):
    path = monitor.log.start("run.csv")
    for _ in range(4):
        monitor.sample()
    monitor.log.stop()
    replay = Replay(path)
    panel = show(replay)
    assert panel.monitor is replay
    elsewhere(lambda: wire.set(panel.advanced, selected_index=0))
    elsewhere(lambda: choose(wire, control(panel, "Sample every"), 6.0))
    assert replay.interval == panel._link.readings["interval"] == 6.0
    replay.replay()
    assert gauges(panel)["CPU"]["value"] == monitor.latest.values["cpu_percent"]
    assert panel.advanced.children[0].charts[0].marks[0].y.shape[-1] == 4
    panel.close()
    assert replay._subscribers == []


def test_the_shared_monitor_is_made_where_there_is_none(show, monkeypatch):
    monkeypatch.setattr(registry, "shared", None)
    panel = show()
    try:
        assert panel.monitor is registry.shared
        assert panel.monitor.running
        wait_until(lambda: gauges(panel)["RAM"].get("value"), "a first reading of this machine")
    finally:
        panel.monitor.stop()


def test_two_panels_over_one_monitor_show_the_same(show, monitor):
    first, second = show(monitor), show(monitor)
    monitor.sample()
    assert gauges(first) == gauges(second)


# -- before the first sample and after the last ------------------------------------------------------------


def test_a_monitor_that_is_not_running_says_so(show, monitor):
    panel = show(monitor)
    assert states(panel) == "stopped"
    assert all(reading == {"detail": ""} for reading in gauges(panel).values())
    monitor.sample()
    assert gauges(panel)["CPU"]["value"] is not None


def test_a_monitor_that_has_no_sample_yet_is_starting(show, monitor, machine):
    reading, go_on = threading.Event(), threading.Event()

    def wait() -> dict[str, float]:
        reading.set()
        go_on.wait(10)
        return {"cpu_percent": 7.0}

    machine.read = wait
    monitor.start()
    try:
        assert reading.wait(10)
        panel = show(monitor)
        assert all(each == {"detail": "starting…"} for each in gauges(panel).values())
    finally:
        go_on.set()
    wait_until(lambda: gauges(panel)["CPU"].get("value") == 7.0, "the first reading")


def test_a_panel_made_later_shows_the_newest_sample_at_once(show, monitor):
    monitor.sample()
    sample = monitor.sample()
    assert gauges(show(monitor))["CPU"]["value"] == sample.values["cpu_percent"]


def test_a_sample_taken_while_the_panel_is_made_is_not_missed(show, monitor, monkeypatch):
    """The first sample of the shared monitor comes while its panel is made; the second only 5 s later."""
    subscribe = monitor.on_sample

    def late(callback: Callable[[Any], object], remove: bool = False) -> None:
        if not remove:
            elsewhere(monitor.sample)
        subscribe(callback, remove)

    monkeypatch.setattr(monitor, "on_sample", late)
    assert gauges(show(monitor))["CPU"].get("value") is not None


def states(panel: PerformancePanel) -> str:
    return str(panel._link.readings["state"])


@pytest.mark.parametrize("thread", ["main", "other"])
def test_a_monitor_that_is_stopped_says_so_at_once_and_keeps_the_numbers(panel, monitor, wire, thread):
    monitor.start()
    wait_until(lambda: len(monitor.history) == 4 and monitor.latest.time == panel._link.readings["time"])
    before = gauges(panel)
    wire.clear()
    monitor.stop() if thread == "main" else elsewhere(monitor.stop)
    assert states(panel) == "stopped"
    assert gauges(panel) == before
    [message] = wire.to(panel._link)
    assert message.state["readings"]["state"] == "stopped"


def test_a_monitor_that_is_started_again_is_live_again(panel, monitor, wire):
    monitor.start()
    monitor.stop()
    samples = Samples()
    monitor.on_sample(samples)
    monitor.start()
    sample = samples.next()
    assert states(panel) == "live"
    assert panel._link.readings["time"] == sample.time


@pytest.mark.parametrize("thread", ["main", "other"])
def test_a_stopped_monitor_offers_to_start_it(panel, monitor, wire, thread):
    start = control(panel, "Start")
    assert start.layout.display is None
    for _ in range(2):
        click = partial(wire.set, start, value=True)
        click() if thread == "main" else elsewhere(click)
        assert monitor.running
        assert states(panel) == "live"
        assert (start.value, start.layout.display) == (False, "none")
        monitor.stop()
        assert start.layout.display is None


def test_a_monitor_driven_by_hand_is_not_called_stopped(panel, monitor):
    monitor.start()
    monitor.stop()
    monitor.sample()
    assert states(panel) == "live"


def test_a_stopped_monitor_with_numbers_is_shown_as_stopped(show, monitor):
    monitor.sample()
    panel = show(monitor)
    panel._show_state(running=False)
    assert states(panel) == "stopped"
    assert gauges(panel)["CPU"]["value"] is not None


def test_a_closed_panel_hears_of_no_stop(panel, monitor, wire):
    panel.close()
    wire.clear()
    with monitor:
        pass
    assert wire.messages == []


# -- who looks ---------------------------------------------------------------------------------------------


def test_a_panel_that_nobody_looks_at_is_sent_nothing(monitor, wire):
    panel = PerformancePanel(monitor)
    wire.set(panel.advanced, selected_index=0)
    wire.clear()
    for _ in range(3):
        monitor.sample()
    assert wire.messages == []
    panel.close()


@pytest.mark.parametrize("busy", [False, True])
def test_who_comes_is_sent_the_present_state_at_once(monitor, wire, busy):
    panel = PerformancePanel(monitor)
    wire.set(panel.advanced, selected_index=0)
    for _ in range(3):
        monitor.sample()
    wire.clear()

    def come() -> None:
        look_at(wire, panel)

    elsewhere(come) if busy else come()
    assert gauges(panel)["CPU"]["value"] == monitor.latest.values["cpu_percent"]
    assert panel.advanced.children[0].charts[0].marks[0].y.shape[-1] == 3
    wire.clear()
    monitor.sample()
    section = panel.advanced.children[0]
    assert sent_in_a_tick(wire, section) == once(panel._link, *drawn_by(section))
    panel.close()


def test_who_says_again_that_he_is_there_is_sent_nothing_for_it(panel, wire):
    wire.clear()
    look_at(wire, panel)
    assert wire.messages == []


def test_a_panel_whose_output_was_cleared_is_sent_nothing(panel, monitor, wire):
    look_at(wire, panel, views=0)
    wire.clear()
    monitor.sample()
    assert wire.messages == []
    look_at(wire, panel)
    assert gauges(panel)["CPU"]["value"] == monitor.latest.values["cpu_percent"]


def test_a_panel_is_shown_while_one_of_two_pages_shows_it(panel, monitor, wire):
    look_at(wire, panel, page="other")
    look_at(wire, panel, views=0)
    wire.clear()
    monitor.sample()
    assert wire.count() == once(panel._link)


def test_a_browser_that_is_silent_for_two_heartbeats_is_sent_nothing_until_it_speaks(panel, monitor, wire):
    """A closed laptop: the Jupyter server would keep every message in its memory."""
    wire.set(panel.advanced, selected_index=0)
    now = [time.monotonic()]
    panel._viewers._clock = lambda: now[0]
    look_at(wire, panel)
    tick = once(panel._link, *drawn_by(panel.advanced.children[0]))
    now[0] += 2 * panel._link.heartbeat - 1
    wire.clear()
    monitor.sample()
    assert sent_in_a_tick(wire, panel.advanced.children[0]) == tick
    now[0] += 2
    wire.clear()
    for _ in range(3):
        monitor.sample()
    assert wire.messages == []
    look_at(wire, panel)
    assert sent_in_a_tick(wire, panel.advanced.children[0]) == tick
    assert gauges(panel)["CPU"]["value"] == monitor.latest.values["cpu_percent"]
    wire.clear()
    monitor.sample()
    assert sent_in_a_tick(wire, panel.advanced.children[0]) == tick


def test_a_browser_that_only_an_idle_kernel_hears_stays_until_it_says_goodbye(panel, monitor, wire):
    """Where there is no control channel, the heartbeats of a page wait for the end of a training of hours."""
    now = [time.monotonic()]
    panel._viewers._clock = lambda: now[0]
    look_at(wire, panel, views=0)
    wire.ask(panel._link, page="page", views=1, whileBusy=False)
    now[0] += 8 * 3600
    wire.clear()
    monitor.sample()
    assert wire.count() == once(panel._link)
    wire.ask(panel._link, page="page", views=0, whileBusy=False)
    wire.clear()
    monitor.sample()
    assert wire.messages == []


def test_a_panel_that_is_an_output_is_sent_before_a_browser_was_heard(monitor, wire, in_kernel):
    """Where there is only the shell channel, the browser is heard when the cell has ended."""
    panel = PerformancePanel(monitor)
    in_kernel.display(panel)
    wire.clear()
    monitor.sample()
    assert wire.count() == once(panel._link)
    panel.close()


# -- what is stored beside it ------------------------------------------------------------------------------


def test_a_table_of_the_last_values_is_an_output_beside_the_panel(show, monitor, in_kernel):
    panel = show(monitor)
    monitor.sample()
    in_kernel.display(panel)
    [(text, name, again)] = in_kernel.shown
    assert not again
    assert name.endswith(panel._link.model_id)
    assert f'<div class="perfmon-snapshot {name} perfmon-before"><table>' in text
    assert f"<td>{monitor.latest.values['cpu_percent']:.0f}%</td>" in text


def test_the_table_is_made_anew_when_a_cell_has_ended(show, monitor, in_kernel):
    panel = show(monitor)
    in_kernel.display(panel)
    monitor.sample()
    monitor.sample()
    [after_cell] = in_kernel.after_cell
    after_cell()
    after_cell()  # with nothing new
    assert [again for _, _, again in in_kernel.shown] == [False, True]
    assert f"<td>{monitor.latest.values['cpu_percent']:.0f}%</td>" in in_kernel.shown[-1][0]


def test_the_charts_are_beside_it_with_those_that_are_open_unfolded(show, monitor, in_kernel):
    panel = show(monitor)
    panel.advanced.selected_index = [*panel.advanced.titles].index("Memory")
    for _ in range(2):
        monitor.sample()
    in_kernel.display(panel)
    [(text, _, _)] = in_kernel.shown
    assert re.findall("<details open><summary>(.*?)<", text) == ["Memory"]
    assert "<details><summary>CPU<" in text


def test_the_charts_do_not_slow_down_a_notebook_of_quick_cells(show, monitor, in_kernel, monkeypatch):
    """At most a twentieth of the time is spent on them."""
    costs = []

    def draw(*arguments: Any) -> str:
        began = time.thread_time()
        text = charts(*arguments)
        costs.append(time.thread_time() - began)
        return text

    monkeypatch.setattr("perfmon_widgets.panel.snapshot.charts", draw)
    panel = show(monitor)
    in_kernel.display(panel)
    [after_cell] = in_kernel.after_cell
    began, cells = time.monotonic(), 0
    costs.clear()
    while time.monotonic() - began < 0.5:
        monitor.sample()
        after_cell()
        cells += 1
    assert 1 <= len(costs) < cells
    assert sum(costs[:-1]) <= (time.monotonic() - began) / 20  # the last was perhaps a moment ago
    assert len(in_kernel.shown) == 1 + cells  # the table is that of the moment
    panel.close()
    assert charts(monitor.metrics, monitor.history) in in_kernel.shown[-1][0]


def test_the_table_is_made_anew_when_the_monitor_stops_and_when_the_panel_closes(show, monitor, in_kernel):
    panel = show(monitor)
    in_kernel.display(panel)
    with monitor:
        wait_until(lambda: monitor.latest is not None)
    assert [again for _, _, again in in_kernel.shown] == [False, True]
    monitor.sample()
    panel.close()
    assert [again for _, _, again in in_kernel.shown] == [False, True, True]
    assert in_kernel.after_cell == []


def test_the_table_is_made_anew_though_the_clock_was_set_back(show, monitor, in_kernel, monkeypatch):
    panel = show(monitor)
    monitor.sample()
    in_kernel.display(panel)
    time_of_day = time.time
    monkeypatch.setattr(clocks.time, "time", lambda: time_of_day() - 3600)
    monitor.sample()
    panel.close()
    assert [again for _, _, again in in_kernel.shown] == [False, True]


def test_a_panel_shown_twice_has_one_table_that_is_kept(show, monitor, in_kernel):
    panel = show(monitor)
    in_kernel.display(panel)
    in_kernel.display(panel)
    assert len(in_kernel.after_cell) == 1
    assert len({name for _, name, _ in in_kernel.shown}) == 1


def test_a_panel_that_was_never_an_output_leaves_none(show, monitor, in_kernel):
    panel = show(monitor)
    monitor.sample()
    panel.close()
    assert in_kernel.shown == []


def test_what_only_formats_a_panel_changes_nothing(monitor, wire, in_kernel):
    """Issue 17: `out.append_display_data(panel)` left a table in the cell that called it."""
    panel = PerformancePanel(monitor)
    out = ipywidgets.Output()
    monitor.sample()
    wire.clear()
    panel._repr_mimebundle_()
    data = panel._repr_mimebundle_()
    assert in_kernel.shown == in_kernel.after_cell == wire.messages == []
    out.outputs = ({"output_type": "display_data", "data": data, "metadata": {}},)
    in_kernel.display(out)
    assert len(in_kernel.shown) == 1  # next to the output that shows it
    panel.close()
    out.close()


def test_an_output_that_is_updated_gets_no_further_table(show, monitor, in_kernel):
    """Issue 17: 50 times `handle.update(panel)` left 50 tables, of 1.16 MB."""
    panel = show(monitor)
    in_kernel.display(panel)
    for _ in range(50):
        in_kernel.display(panel, kernel.Shown.UPDATED)
    assert len(in_kernel.shown) == 1
    assert len(in_kernel.after_cell) == 1


@pytest.mark.parametrize("how", [kernel.Shown.DISPLAYED, kernel.Shown.RESULT])
@pytest.mark.parametrize(
    "arrange",
    [
        lambda panel: ipywidgets.VBox([ipywidgets.HTML("mine"), panel]),
        lambda panel: ipywidgets.Tab([panel]),
        lambda panel: ipywidgets.HBox([ipywidgets.VBox([panel])]),
        lambda panel: ipywidgets.VBox([panel.advanced, panel.gauges]),
        lambda panel: panel.gauges,
        lambda panel: panel.gauges.children[1],
    ],
    ids=["VBox", "Tab", "nested", "its parts", "the gauges", "a gauge"],
)
def test_what_is_stored_follows_the_widgets_wherever_they_stand(monitor, in_kernel, arrange, how):
    panel = PerformancePanel(monitor)
    monitor.sample()
    box = arrange(panel)
    in_kernel.display(box, how)
    assert len(in_kernel.shown) == 1
    monitor.sample()
    assert gauges(panel)["CPU"]["value"] == monitor.latest.values["cpu_percent"]
    in_kernel.after_cell[0]()
    assert [again for _, _, again in in_kernel.shown] == [False, True]
    # Its rules are not for the outputs of the user's own widgets.
    assert not re.search(r'class="[^"]*perfmon-(before|after)', in_kernel.shown[-1][0])
    panel.close()
    box.close()


@pytest.mark.parametrize(
    ("how", "place"), [(kernel.Shown.DISPLAYED, "before"), (kernel.Shown.RESULT, "after")]
)
def test_the_table_knows_where_the_output_of_its_panel_is(show, monitor, in_kernel, how, place):
    panel = show(monitor)
    in_kernel.display(panel, how)
    monitor.sample()
    in_kernel.after_cell[0]()
    for text, name, _ in in_kernel.shown:
        assert f'<div class="perfmon-snapshot {name} perfmon-{place}">' in text


def test_a_panel_that_is_put_into_a_box_later_is_stored_too(monitor, in_kernel):
    panel, box, other = PerformancePanel(monitor), ipywidgets.VBox(), ipywidgets.VBox([ipywidgets.Label()])
    in_kernel.display(other)
    in_kernel.display(box)
    in_kernel.end_cell()
    assert in_kernel.shown == []
    box.children = [panel]
    in_kernel.end_cell()
    in_kernel.end_cell()
    assert len(in_kernel.shown) == 1
    for widget in (panel, box, other):
        widget.close()


class Popup(ipywidgets.DOMWidget):
    """As that of a map of ipyleaflet."""

    child = traitlets.Instance(ipywidgets.Widget, allow_none=True).tag(
        sync=True, **ipywidgets.widget_serialization
    )


@pytest.mark.parametrize("before", ["a panel", "a closed panel"])
@pytest.mark.parametrize(
    "place", ["a box in the box", "an Output in the box", "a box of a former cell", "a trait of its own"]
)
def test_a_panel_that_is_put_somewhere_later_is_stored_wherever_that_is(monitor, in_kernel, before, place):
    PerformancePanel(monitor).close()
    panel = PerformancePanel(monitor) if before == "a panel" else None
    inner, output, popup = ipywidgets.VBox(), ipywidgets.Output(), Popup()
    box = ipywidgets.VBox([inner, output, popup])
    in_kernel.display(box)
    in_kernel.end_cell()
    panel = panel or PerformancePanel(monitor)
    in_kernel.end_cell()
    if place == "a box of a former cell":
        inner = ipywidgets.HBox()
        box.children = [inner]
        in_kernel.end_cell()
    assert in_kernel.shown == []
    if place == "an Output in the box":
        data = panel._repr_mimebundle_()
        output.outputs = ({"output_type": "display_data", "data": data, "metadata": {}},)
    elif place == "a trait of its own":
        popup.child = panel
    else:
        inner.children = [panel]
    in_kernel.end_cell()
    assert len(in_kernel.shown) == 1
    for widget in (panel, inner, output, popup, box):
        widget.close()


def test_a_cell_is_not_delayed_by_widgets_that_stay_as_they_are(show, monitor, in_kernel, monkeypatch):
    """1,000 progress bars, and a panel made for its monitor alone, were 0.8 s after each cell."""
    show(monitor)
    bars = [ipywidgets.HBox([ipywidgets.HTML(), ipywidgets.FloatProgress()]) for _ in range(3)]
    for bar in bars:
        in_kernel.display(bar)
    in_kernel.end_cell()
    looked_at: list[ipywidgets.Widget] = []

    def look(widget: ipywidgets.Widget) -> set[ipywidgets.Widget]:
        looked_at.append(widget)
        return parts_of(widget)

    monkeypatch.setattr(displayed, "parts_of", look)
    bars[0].children[1].value = 1.0
    in_kernel.end_cell()
    assert looked_at == []
    bars[1].children = bars[1].children[:1]
    for _ in range(2):
        in_kernel.end_cell()
    assert looked_at == [bars[1]]
    for bar in bars:
        bar.close()


def test_a_closed_panel_is_looked_for_no_more(monitor, in_kernel, monkeypatch):
    panel = PerformancePanel(monitor)
    panel.close()
    monkeypatch.setattr(panel, "is_shown_by", lambda _: pytest.fail("it is closed"))
    box = ipywidgets.VBox()
    in_kernel.display(box)
    box.children = [ipywidgets.Label()]
    in_kernel.end_cell()
    assert panel not in displayed._panels
    assert panel not in displayed._unseen
    box.close()


def test_other_widgets_of_the_user_bring_no_table(show, monitor, in_kernel):
    show(monitor)
    in_kernel.display(ipywidgets.VBox([ipywidgets.Label("mine")]))
    in_kernel.display(ipywidgets.Output())
    assert in_kernel.shown == []


def test_widgets_that_are_stored_without_a_browser_have_the_last_values(monitor, wire, in_kernel):
    """As by nbconvert --execute, whose browser never comes."""
    panel = PerformancePanel(monitor)
    in_kernel.display(panel)
    panel._viewers.heard("a", 1)
    panel._viewers.heard("a", 0)
    monitor.sample()
    assert gauges(panel)["CPU"].get("value") is None
    [after_cell] = in_kernel.after_cell
    after_cell()
    assert gauges(panel)["CPU"]["value"] == monitor.latest.values["cpu_percent"]
    panel.close()


def test_a_panel_that_becomes_an_output_has_the_newest_values(monitor, wire, in_kernel):
    panel = PerformancePanel(monitor)
    monitor.sample()
    assert gauges(panel)["CPU"].get("value") is None
    in_kernel.display(panel)
    assert gauges(panel)["CPU"]["value"] == monitor.latest.values["cpu_percent"]
    panel.close()


def test_a_notebook_stores_the_scripts_of_the_panel_once(show, monitor, wire):
    """Issue 17: of 200 kB of a notebook with one panel, 109 kB were scripts stored ten times over."""
    panel = show(monitor)
    monitor.sample()
    stored = [widget.get_state() for widget in parts(panel)] + [panel._link.get_state()]
    scripts = [state[name] for state in stored for name in ("_esm", "_css", "gauge") if name in state]
    assert sum(map(len, scripts)) < 36_000
    long = [line for script in scripts for line in script.splitlines() if len(line) > 60]
    assert len(long) - len(set(long)) < 30  # the few lines that find the link


def test_scripts_are_sent_without_comments_and_indentation():
    text = script("shared.js", "gauge.js") + script("panel.css", "gauge.css")
    assert not re.search(r"/\*|\*/|^\s*//|^\s|^$", text.rstrip("\n"), re.MULTILINE)
    assert "export default { render };" in text
    assert "http://www.w3.org/2000/svg" in script("table.js")


def test_a_section_that_was_never_opened_is_stored_as_nothing(panel, monitor, wire):
    monitor.sample()
    assert [len(section.children) for section in panel.advanced.children] == [0] * len(SECTIONS)
    wire.set(panel.advanced, selected_index=1)
    assert sorted(len(section.children) for section in panel.advanced.children) == [0, 0, 0, 0, 3]


def test_in_a_terminal_the_panel_is_aligned_lines_of_values(panel, monitor, machine):
    machine.values = {"cpu_percent": 9.0, "ram_percent": 22.0, "disk_percent": 50.0}
    monitor.sample()
    lines = panel._repr_mimebundle_()["text/plain"].splitlines()
    assert [line.split()[:2] for line in lines[:4]] == [
        ["CPU", "9%"],
        ["RAM", "22%"],
        ["Disk", "50%"],
        ["GPU", "–"],
    ]
    assert re.fullmatch(r"at \d\d:\d\d:\d\d, the monitor is stopped", lines[-1])


# -- how many messages -------------------------------------------------------------------------------------


def test_a_tick_of_the_basic_view_is_one_message_for_all_gauges_and_nothing_else(panel, monitor, wire):
    for _ in range(5):
        wire.clear()
        monitor.sample()
        assert wire.count() == once(panel._link)
        assert all(set(message.state) == {"readings"} for message in wire.messages)


def test_a_reading_that_did_not_change_is_sent_all_the_same(panel, machine, monitor, wire):
    """The browser takes silence for a kernel that does not answer."""
    numbers = machine.read()
    machine.read = lambda: numbers
    monitor.sample()
    for _ in range(3):
        wire.clear()
        monitor.sample()
        assert wire.count() == once(panel._link)


def test_a_reading_that_is_missing_is_sent_all_the_same(panel, machine, monitor, wire):
    machine.read = dict
    monitor.sample()
    wire.clear()
    monitor.sample()
    assert wire.count() == once(panel._link)


@pytest.mark.parametrize("number", range(len(SECTIONS)), ids=SECTIONS)
def test_a_tick_with_an_open_section_is_one_more_per_chart_and_one_for_the_table(
    panel, monitor, wire, number
):
    wire.set(panel.advanced, selected_index=number)
    monitor.sample()
    for _ in range(3):
        wire.clear()
        monitor.sample()
        section = panel.advanced.children[number]
        assert sent_in_a_tick(wire, section) == once(panel._link, *drawn_by(section))


def test_a_section_that_was_closed_is_sent_no_more(panel, monitor, wire):
    wire.set(panel.advanced, selected_index=0)
    wire.set(panel.advanced, selected_index=None)
    wire.clear()
    monitor.sample()
    assert wire.count() == once(panel._link)


def test_only_the_section_that_is_open_now_is_sent(panel, monitor, wire):
    wire.set(panel.advanced, selected_index=0)
    wire.set(panel.advanced, selected_index=1)
    monitor.sample()
    wire.clear()
    monitor.sample()
    section = panel.advanced.children[1]
    assert sent_in_a_tick(wire, section) == once(panel._link, *drawn_by(section))


def test_the_log_is_one_message_more_only_while_it_runs(panel, monitor, wire, folder):
    monitor.log.start()
    monitor.sample()
    beside = [each for each in panel.children[1].children if isinstance(each, ipywidgets.HTML)][:1]
    for _ in range(3):
        wire.clear()
        monitor.sample()
        assert wire.count() == once(panel._link, *beside)
    monitor.log.stop()
    monitor.sample()
    wire.clear()
    monitor.sample()
    assert wire.count() == once(panel._link)


def test_a_tick_of_the_gauges_is_small(panel, monitor, wire):
    wire.clear()
    monitor.sample()
    assert sum(len(str(dict(message.state))) for message in wire.messages) < 1_000


@pytest.mark.parametrize("panels", [2, 5])
def test_each_panel_sends_its_own(show, monitor, wire, panels):
    shown = [show(monitor) for _ in range(panels)]
    monitor.sample()
    wire.clear()
    monitor.sample()
    assert wire.count() == once(*(panel._link for panel in shown))


def test_a_closed_panel_sends_nothing(panel, monitor, wire, folder):
    wire.set(panel.advanced, selected_index=0)
    panel.close()
    wire.clear()
    monitor.log.start()
    monitor.sample()
    monitor.log.stop()
    monitor.interval = 9.0
    monitor.sample()
    assert wire.messages == []


# -- sections ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(len(SECTIONS)), ids=SECTIONS)
def test_an_open_section_has_the_whole_window_at_once(panel, monitor, wire, number):
    wire.clear()
    wire.set(panel.advanced, selected_index=number)
    section = panel.advanced.children[number]
    rows = len(monitor.history)
    for chart in section.charts:
        assert np.sum(chart.marks[0].x > -1e8) == rows  # without a point far outside, see chart.py
        assert "y" in wire.to(chart.marks[0])[-1].state
    assert len(section.table.values["cells"]) > 1


def test_an_open_section_has_the_whole_window_at_once_while_the_kernel_is_busy(panel, monitor, wire):
    monitor.start()
    wait_until(lambda: len(monitor.history) == 4)
    elsewhere(lambda: wire.set(panel.advanced, selected_index=0))
    section = panel.advanced.children[0]

    def drawn() -> bool:
        return bool(section.charts) and np.isfinite(section.charts[0].marks[0].y[-1]).sum() == 4

    wait_until(drawn, "drawing before the next sample")
    assert len(monitor.history) == 4


def test_a_section_opened_before_the_first_sample_is_no_error(show, monitor, wire):
    panel = show(monitor)
    wire.set(panel.advanced, selected_index=0)
    monitor.sample()
    monitor.sample()
    assert panel.advanced.children[0].charts[0].marks[0].y.shape[-1] == 2
    assert monitor.errors == {}


def test_a_section_opened_by_a_program_is_drawn_too(panel):
    panel.advanced.selected_index = 1
    assert panel.advanced.children[1].charts[0].marks[0].y.shape[-1] == 3


def test_the_last_value_of_a_line_is_the_newest_reading(panel, monitor, wire):
    wire.set(panel.advanced, selected_index=0)
    sample = monitor.sample()
    [chart] = panel.advanced.children[0].charts
    at = [line.name for line in chart.drawn.lines].index("cpu_percent")
    assert chart.marks[0].y[at, -1] == sample.values["cpu_percent"]
    assert chart.marks[0].x[-1] == 0


def test_a_gap_in_the_samples_is_a_gap_in_the_line(panel, monitor, wire):
    wire.set(panel.advanced, selected_index=0)
    monitor.start()  # after a while without
    wait_until(lambda: len(monitor.history) == 4)
    monitor.stop()
    monitor.sample()
    y = panel.advanced.children[0].charts[0].marks[0].y
    assert np.isnan(y).all(axis=0).tolist() == [False, False, False, True, False, False]


@pytest.mark.parametrize("back", [30, 3600])
def test_a_clock_that_was_set_back_stops_no_part_of_the_panel(show, wire, folder, monkeypatch, back):
    cores = [Metric(f"core{number}/cpu_percent", "percent", "cpu", "One core.") for number in range(4, 12)]
    monitor = PerformanceMonitor([Machine(*cores)], interval=NEVER)
    panel = show(monitor)
    wire.set(panel.advanced, selected_index=0)
    for _ in range(3):
        monitor.sample()
    time_of_day = time.time
    monkeypatch.setattr(clocks.time, "time", lambda: time_of_day() - back)
    monitor.log.start(folder / "log.csv")
    monitor.sample()
    monitor.sample()
    monitor.log.stop()
    assert monitor.errors == {}
    assert panel.log_to_csv.value is True
    assert panel.advanced.children[0].table.values["time"] == pytest.approx(monitor.latest.time)


def test_sixty_four_cores_are_one_message(show, wire):
    cores = [Metric(f"core{number}/cpu_percent", "percent", "cpu", "One core.") for number in range(4, 64)]
    monitor = PerformanceMonitor([Machine(*cores)])
    panel = show(monitor)
    wire.set(panel.advanced, selected_index=0)
    for _ in range(3):
        monitor.sample()
    wire.clear()
    monitor.sample()
    section = panel.advanced.children[0]
    assert sent_in_a_tick(wire, section) == once(panel._link, *drawn_by(section))
    assert section.charts[1].marks[0].color.shape[0] == 64


# -- many samples a second ---------------------------------------------------------------------------------


def open_running(panel: PerformancePanel) -> Any:
    """Open the first section, start the monitor, and wait for the section's table, which comes back."""
    panel.advanced.selected_index = 0
    table = panel.advanced.children[0].table
    panel.monitor.start()
    wait_until(lambda: table.values, "a table")
    return table


def test_samples_that_would_move_no_line_are_shown_by_the_gauges_alone(show, machine, wire):
    monitor = PerformanceMonitor([machine], interval=FAST)
    panel = show(monitor)
    table = open_running(panel)
    wire.clear()
    wait_until(lambda: wire.count()[panel._link.comm.comm_id] >= 30, "samples")
    assert wire.count()[table.comm.comm_id] <= 2  # a pixel is two seconds
    monitor.stop()
    assert table.values["time"] == pytest.approx(monitor.latest.time, abs=1e-3)  # no other would show it


def test_a_series_that_was_recorded_between_two_drawings_is_drawn_at_once(show, machine, wire):
    monitor = PerformanceMonitor([machine], interval=FAST)
    panel = show(monitor)
    with monitor:
        monitor.record(loss=1.0)
        wait_until(lambda: "Recorded values" in panel.advanced.titles, "a section")
    panel.advanced.selected_index = [*panel.advanced.titles].index("Recorded values")
    wait_until(lambda: panel.advanced.children[-1].charts, "a chart")
    monitor.record(accuracy=0.5)
    monitor.sample()  # the only one, and it moves the lines by less than a pixel
    wait_until(lambda: len(panel.advanced.children[-1].charts) == 2, "another chart")


def test_a_longer_interval_shows_what_was_left_out_before(show, machine, wire):
    monitor = PerformanceMonitor([machine], interval=FAST)
    panel = show(monitor)
    table = open_running(panel)
    wait_until(lambda: monitor.latest.time > table.values["time"] + 0.1, "samples that are left out")
    before = table.values["time"]
    choose(wire, control(panel, "Sample every"), 7.0)
    wait_until(lambda: table.values["time"] > before, "the rest")
    newest = monitor.latest.time
    assert newest < before + 5  # it did not have to wait for the next sample
    monitor.stop()
    assert table.values["time"] == pytest.approx(newest, abs=1)


def test_each_sample_that_is_taken_by_hand_is_drawn(show, machine, wire):
    monitor = PerformanceMonitor([machine], interval=FAST)
    panel = show(monitor)
    for _ in range(2):
        monitor.sample()
    panel.advanced.selected_index = 0
    section = panel.advanced.children[0]
    for _ in range(3):
        wire.clear()
        monitor.sample()
        assert sent_in_a_tick(wire, section) == once(panel._link, *drawn_by(section))


# -- the window and the interval ---------------------------------------------------------------------------


def test_the_window_is_chosen_for_every_section(panel, monitor, wire):
    wire.set(panel.advanced, selected_index=0)
    choose(wire, control(panel, "Show last"), 300.0)
    assert {section._window for section in panel.advanced.children} == {300.0}
    choose(wire, control(panel, "Show last"), 600.0)
    assert {section._window for section in panel.advanced.children} == {600.0}


def test_a_chosen_window_is_drawn_at_once(panel, wire, monkeypatch):
    wire.set(panel.advanced, selected_index=1)
    windows: list[float] = []
    monkeypatch.setattr(Section, "show", lambda self, *_, **__: windows.append(self._window))
    choose(wire, control(panel, "Show last"), 300.0)
    assert windows == [300.0]


def test_the_window_of_the_charts_leaves_the_history_alone(panel, monitor, wire):
    choose(wire, control(panel, "Show last"), 300.0)
    assert monitor.window == 600.0


@pytest.mark.parametrize("seconds", [5.0, 6.0, 7.0])
@pytest.mark.parametrize("busy", [False, True])
def test_the_interval_is_chosen(panel, monitor, wire, seconds, busy):
    def pick() -> None:
        choose(wire, control(panel, "Sample every"), seconds)

    elsewhere(pick) if busy else pick()
    assert monitor.interval == seconds
    assert control(panel, "Sample every").value == seconds


@pytest.mark.parametrize("seconds", [0.3, 5.0, 6.0, 7.0, 10.0])
def test_the_interval_of_the_monitor_is_shown(show, seconds):
    panel = show(PerformanceMonitor([FakeCollector("a_percent")], interval=seconds))
    assert control(panel, "Sample every").value == seconds
    assert panel.monitor.interval == seconds


class Recording(PerformanceMonitor):
    """A monitor that remembers the intervals that it was set to."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self.intervals: list[float] = []
        super().__init__(*arguments, **named)

    @property
    def interval(self) -> float:
        return super().interval

    @interval.setter
    def interval(self, seconds: float) -> None:
        self.intervals.append(seconds)
        if len(self.intervals) < 20:  # else two writers could go on for ever
            PerformanceMonitor.interval.fset(self, seconds)


@pytest.mark.parametrize("seconds", [0.3, 5.0, 6.0, 7.0, 10.0])
@pytest.mark.parametrize("before", [0.5, 5.0, 6.0, 7.0])
@pytest.mark.parametrize("thread", ["main", "other"])
def test_an_interval_set_by_a_program_is_shown_at_the_next_tick(show, seconds, before, thread):
    monitor = Recording([FakeCollector("a_percent")], interval=before)
    panel = show(monitor)
    monitor.interval = seconds
    monitor.sample() if thread == "main" else elsewhere(monitor.sample)
    assert control(panel, "Sample every").value == seconds
    assert monitor.intervals == [seconds]


def test_an_interval_set_by_a_program_stays(show, machine):
    """Showing it must not be taken for a choice that a person made."""
    monitor = Recording([machine], interval=6.0)
    show(monitor)
    samples = Samples()
    monitor.on_sample(samples)
    monitor.interval = FAST
    monitor.start()
    for _ in range(3):
        samples.next()
    monitor.stop()
    assert monitor.intervals == [FAST]


def test_an_interval_set_by_a_program_is_sent_at_once_and_once(panel, monitor, wire):
    """A browser that had a shorter one took the numbers for old until the next sample."""
    before = gauges(panel)
    wire.clear()
    monitor.interval = 60.0
    assert panel._link.readings["interval"] == control(panel, "Sample every").value == 60.0
    assert gauges(panel) == before
    changed = once(panel._link, control(panel, "Sample every"))
    assert wire.count() == changed
    monitor.interval = 60.0
    assert wire.count() == changed
    look_at(wire, panel, views=0)
    monitor.interval = 70.0
    assert wire.count() == changed
    look_at(wire, panel)
    assert panel._link.readings["interval"] == 70.0
    panel.close()
    wire.clear()
    monitor.interval = 80.0
    assert wire.messages == []


@pytest.mark.parametrize("busy", [False, True])
def test_an_interval_that_is_chosen_is_sent_with_one_message(panel, monitor, wire, busy):
    def pick() -> None:
        choose(wire, control(panel, "Sample every"), 10.0)

    wire.clear()
    elsewhere(pick) if busy else pick()
    assert panel._link.readings["interval"] == 10.0
    assert wire.count()[panel._link.comm.comm_id] == 1


def test_the_interval_is_that_of_the_monitor_again_when_a_measured_cell_has_ended(panel, monitor):
    """Its last sample is sent before: an idle panel was grey until the next, "no update for 1 s"."""
    monitor.start()
    measured = Measurement(monitor)
    wait_until(lambda: panel._link.readings["interval"] == 0.2, "the shorter interval")
    measured.end()
    wait_until(lambda: panel._link.readings["interval"] == NEVER, "the longer interval")
    assert control(panel, "Sample every").value == NEVER


# -- the log -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("busy", [False, True])
def test_the_checkbox_switches_the_log(panel, monitor, wire, folder, busy):
    def tick(on: bool) -> None:
        def send() -> None:
            wire.set(panel.log_to_csv, value=on)

        elsewhere(send) if busy else send()

    tick(True)
    assert monitor.log.running
    assert panel.log_to_csv.value is True
    [path] = csv_files(folder)
    assert f"{path.name}: 3 rows" in words(panel)
    monitor.sample()
    assert f"{path.name}: 4 rows" in words(panel)
    tick(False)
    assert not monitor.log.running
    assert panel.log_to_csv.value is False
    assert f"{path.name}: 4 rows, closed" in words(panel)
    assert len(read_csv(path)) == 4
    assert csv_files(folder) == [path]


def test_the_checkbox_switches_the_log_of_a_running_monitor(panel, monitor, wire, folder):
    monitor.start()
    wait_until(lambda: len(monitor.history) == 4)
    elsewhere(lambda: wire.set(panel.log_to_csv, value=True))
    wait_until(lambda: monitor.log.running, "switching the log on, without waiting for the next sample")
    wait_until(lambda: "4 rows" in words(panel))
    elsewhere(lambda: wire.set(panel.log_to_csv, value=False))
    wait_until(lambda: not monitor.log.running, "switching the log off")
    wait_until(lambda: "closed" in words(panel))
    assert len(csv_files(folder)) == 1


def test_the_thread_that_hears_the_browser_is_not_kept(panel, machine, monitor, wire, folder):
    """It carries interrupts too, so it must come back though a reading hangs."""
    reading, go_on = threading.Event(), threading.Event()

    def hang() -> dict[str, float]:
        reading.set()
        go_on.wait(10)
        return {}

    machine.read = hang
    monitor.start()
    try:
        assert reading.wait(10)
        elsewhere(lambda: wire.set(panel.advanced, selected_index=0))
        elsewhere(lambda: wire.ask(panel.export_csv, export="1"))
        choice = control(panel, "Sample every")
        elsewhere(lambda: choose(wire, choice, 6.0))
        elsewhere(lambda: wire.set(panel.log_to_csv, value=True))
        assert not monitor.log.running
    finally:
        panel_files = csv_files(folder)
        go_on.set()
    assert panel_files == []
    wait_until(lambda: csv_files(folder), "switching the log on")


def test_a_click_during_a_tick_is_done_once(panel, machine, monitor, wire, folder, monkeypatch):
    """The tick ends with the log's old state, and the click comes after it: the click must win."""
    switched: list[str] = []
    start, stop = monitor.log.start, monitor.log.stop

    def note(what: str, switch: Callable[[], object]) -> None:
        switched.append(what)
        if len(switched) < 20:  # else it would go on for ever
            switch()

    monkeypatch.setattr(monitor.log, "start", lambda: note("start", start))
    monkeypatch.setattr(monitor.log, "stop", lambda: note("stop", stop))
    numbers = machine.read()

    def clicked() -> Mapping[str, float]:
        if machine.readings == 5:  # the first that the thread takes
            elsewhere(lambda: wire.set(panel.log_to_csv, value=True))
        return numbers

    machine.readings = 4
    machine.read = clicked
    monitor.start()
    wait_until(lambda: switched)
    time.sleep(0.05)
    seen = (monitor.log.running, panel.log_to_csv.value, len(csv_files(folder)))
    assert switched == ["start"]
    monitor.stop()
    assert seen == (True, True, 1)


def test_a_log_switched_on_elsewhere_is_shown_at_the_next_tick(panel, monitor, folder):
    path = monitor.log.start("run.csv")
    monitor.sample()
    assert panel.log_to_csv.value is True
    assert "run.csv: 4 rows" in words(panel)
    monitor.log.stop()
    monitor.sample()
    assert panel.log_to_csv.value is False
    assert monitor.log.path == path
    assert csv_files(folder) == [path]


def test_a_log_switched_off_by_a_program_stays_off(panel, monitor, folder):
    """What the panel shows of a log must not be taken for a click."""
    rows = 5

    def stop(_: object) -> None:
        if monitor.log.rows == rows:
            monitor.log.stop()

    monitor.on_sample(stop)  # after the panel
    monitor.sample()
    samples = Samples()
    monitor.on_sample(samples)
    monitor.log.start("run.csv")
    monitor.start()
    samples.next()
    time.sleep(0.05)
    monitor.interval = 0.02
    samples.next()
    time.sleep(0.05)
    running = monitor.log.running
    monitor.stop()
    assert not running
    assert [path.name for path in csv_files(folder)] == ["run.csv"]


def test_a_log_that_runs_already_is_shown_by_a_new_panel(show, monitor, folder):
    monitor.log.start("run.csv")
    panel = show(monitor)
    assert panel.log_to_csv.value is True
    assert "run.csv: 0 rows" in words(panel)
    monitor.log.stop()


def test_the_state_of_the_log_is_the_same_in_every_panel(show, monitor, wire, folder):
    first, second = show(monitor), show(monitor)
    wire.set(first.log_to_csv, value=True)
    monitor.sample()
    assert first.log_to_csv.value is second.log_to_csv.value is True
    assert words(first) == words(second)
    wire.set(second.log_to_csv, value=False)
    monitor.sample()
    assert first.log_to_csv.value is second.log_to_csv.value is False
    assert len(csv_files(folder)) == 1


def no_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be created: root, who may run the tests, is never refused."""
    usual = os.open

    def refuse(path: Any, flags: int, *more: Any, **named: Any) -> int:
        if flags & os.O_CREAT and str(path).endswith(".csv"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return usual(path, flags, *more, **named)

    monkeypatch.setattr(os, "open", refuse)


@pytest.mark.parametrize("busy", [False, True])
def test_without_permission_the_panel_says_so_and_goes_on(panel, monitor, wire, folder, monkeypatch, busy):
    def click() -> None:
        wire.set(panel.log_to_csv, value=True)

    with monkeypatch.context() as patch:
        no_permission(patch)
        wire.clear()
        elsewhere(click) if busy else click()
    assert "no permission to write in" in words(panel)
    assert 'role="alert"' in words(panel)
    assert panel.log_to_csv.value is False
    # The browser has ticked its own box, so it has to hear of it.
    assert [message.state for message in wire.to(panel.log_to_csv) if message.data["method"] == "update"][
        -1
    ] == {"value": False}
    assert not monitor.log.running
    assert (
        gauges(panel)["CPU"]["value"]
        < monitor.sample().values["cpu_percent"]
        == gauges(panel)["CPU"]["value"]
    )


def test_without_a_working_directory_the_panel_says_so_and_goes_on(panel, monitor, wire, folder, monkeypatch):
    gone = folder / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    wire.set(panel.log_to_csv, value=True)
    assert "directory" in words(panel)
    assert panel.log_to_csv.value is False
    monkeypatch.chdir(folder)
    assert monitor.sample() is monitor.latest
    assert not monitor.log.running


def test_why_the_log_did_not_start_stays_until_the_next_try(panel, monitor, wire, folder, monkeypatch):
    with monkeypatch.context() as patch:
        no_permission(patch)
        wire.set(panel.log_to_csv, value=True)
    for _ in range(3):
        monitor.sample()
        assert "no permission" in words(panel)
    wire.set(panel.log_to_csv, value=True)
    assert monitor.log.running
    assert "no permission" not in words(panel)
    assert "rows" in words(panel)
    monitor.log.stop()


def test_a_log_that_fails_later_is_off_and_says_why(panel, monitor, wire, folder):
    wire.set(panel.log_to_csv, value=True)
    [path] = csv_files(folder)
    path.unlink()
    sample = monitor.sample()
    assert panel.log_to_csv.value is False
    assert "deleted" in words(panel)
    assert monitor.latest is sample
    wire.set(panel.log_to_csv, value=True)
    assert monitor.log.running
    assert "deleted" not in words(panel)
    monitor.log.stop()


def test_an_error_of_the_log_is_text_and_not_html(panel, wire, folder, monkeypatch):
    odd = folder / "<img src=x>"
    odd.mkdir()
    monkeypatch.chdir(odd)
    with monkeypatch.context() as patch:
        no_permission(patch)
        wire.set(panel.log_to_csv, value=True)
    assert "<img" not in words(panel)


# -- the export --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("busy", [False, True])
def test_the_export_is_what_a_log_would_hold(panel, monitor, machine, wire, folder, busy):
    machine.values = {"ram_percent": float("nan")}
    monitor.sample()
    path = monitor.log.start("run.csv")
    monitor.log.stop()
    wire.clear()

    def ask() -> None:
        wire.ask(panel.export_csv, export="view 1")

    elsewhere(ask) if busy else ask()
    wait_until(lambda: wire.to(panel.export_csv))
    [message] = wire.to(panel.export_csv)
    assert message.data["content"]["export"] == "view 1"
    [content] = message.buffers
    assert bytes(content) == path.read_bytes()
    assert csv_files(folder) == [path]


def test_the_export_before_the_first_sample_is_the_header(show, monitor, wire):
    panel = show(monitor)
    wire.clear()
    wire.ask(panel.export_csv, export="1")
    join_threads("perfmon-export")
    [message] = wire.to(panel.export_csv)
    assert bytes(message.buffers[0]).startswith(b"time,cpu_percent,")
    assert bytes(message.buffers[0]).count(b"\n") == 1


# -- GPUs --------------------------------------------------------------------------------------------------


def gpu_metrics(count: int) -> list[Metric]:
    return [
        Metric(f"gpu{number}/{what}_{unit}", unit, "gpu", "About it.")
        for number in range(count)
        for what, unit in (
            ("utilization", "percent"),
            ("memory", "percent"),
            ("memory_used", "bytes"),
            ("memory_limit", "bytes"),
        )
    ]


class Gpus(FakeCollector):
    """GPUs that nobody uses, until ``values`` has numbers."""

    def __init__(self, count: int) -> None:
        super().__init__(metrics=gpu_metrics(count), read=lambda: self.values)
        self.values: dict[str, float] = {}
        self.errors = {metric.name: "not used by this kernel yet" for metric in self.metrics}

    def use(self, *numbers: int) -> None:
        """From now on the model runs on these."""
        self.values, self.errors = {}, {}
        for number in numbers:
            self.values |= {
                f"gpu{number}/utilization_percent": 80.0 + number,
                f"gpu{number}/memory_percent": 50.0,
                f"gpu{number}/memory_used_bytes": 8 * GIBIBYTE,
                f"gpu{number}/memory_limit_bytes": 16 * GIBIBYTE,
            }


def test_a_gpu_has_its_gauge_from_the_moment_that_the_model_touches_it(show, wire):
    gpus = Gpus(2)
    monitor = PerformanceMonitor([Machine(), gpus])
    panel = show(monitor)
    monitor.sample()
    assert list(gauges(panel)) == ["GPU", "CPU", "RAM", "Disk"]
    assert gauges(panel)["GPU"]["detail"] == "not used by this kernel yet"
    gpus.use(1)
    monitor.sample()
    assert list(gauges(panel)) == ["GPU 1", "CPU", "RAM", "Disk"]
    gpus.use(0, 1)
    monitor.sample()
    assert list(gauges(panel)) == ["GPU 0", "GPU 1", "CPU", "RAM", "Disk"]
    assert gauges(panel)["GPU 1"]["value"] == 81.0
    assert gauges(panel)["GPU 0"]["detail"] == "8 of 16 GiB"
    wire.clear()
    monitor.sample()
    assert wire.count() == once(panel._link)
    gpus.use()
    monitor.sample()
    assert list(gauges(panel)) == ["GPU", "CPU", "RAM", "Disk"]


def test_a_single_gpu_is_the_gpu(show):
    gpus = Gpus(1)
    monitor = PerformanceMonitor([gpus])
    panel = show(monitor)
    gpus.use(0)
    monitor.sample()
    assert {label: reading["value"] for label, reading in gauges(panel).items()} == {"GPU": 80.0}


def test_a_machine_without_gpu_says_so(panel):
    assert gauges(panel)["GPU"]["detail"] == "none found on this machine"
    assert gauges(panel)["GPU"].get("value") is None


def test_more_than_eight_gauges_are_smaller(show):
    gpus = Gpus(8)
    monitor = PerformanceMonitor([Machine(), gpus])
    panel = show(monitor)
    monitor.sample()
    assert "perfmon-many-gauges" not in panel.gauges._dom_classes
    gpus.use(*range(8))
    monitor.sample()
    assert len(panel.gauges.children) == 11
    assert "perfmon-many-gauges" in panel.gauges._dom_classes
    gpus.use(0)
    monitor.sample()
    assert "perfmon-many-gauges" not in panel.gauges._dom_classes


def test_eight_gpus_are_eight_messages_and_one_per_chart(show, wire):
    gpus = Gpus(8)
    monitor = PerformanceMonitor([gpus])
    panel = show(monitor)
    gpus.use(*range(8))
    wire.set(panel.advanced, selected_index=0)
    for _ in range(3):
        monitor.sample()
    wire.clear()
    gpus.values |= {"gpu0/utilization_percent": 70.0, "gpu0/memory_percent": 60.0}  # else a map is the same
    monitor.sample()
    assert len(panel.gauges.children) == 8
    assert "perfmon-many-gauges" not in panel.gauges._dom_classes
    section = panel.advanced.children[0]
    assert sent_in_a_tick(wire, section) == once(panel._link, *drawn_by(section))


# -- what goes wrong does not spread -----------------------------------------------------------------------


def test_a_message_that_cannot_be_sent_does_not_stop_the_sampling(panel, monitor, wire):
    def fail(message: Message) -> None:
        if message.comm_id == panel._link.comm.comm_id:
            raise OSError("the socket is closed")

    wire.on_send = fail
    sample = monitor.sample()
    assert monitor.latest is sample
    assert len(monitor.history) == 4
    assert "the socket is closed" in monitor.errors.values()
    wire.on_send = None
    wire.clear()
    monitor.sample()
    assert "the socket is closed" not in monitor.errors.values()
    assert wire.count() == once(panel._link)


def test_the_sampling_thread_survives_what_cannot_be_sent(show, machine, wire):
    monitor = PerformanceMonitor([machine], interval=FAST)
    show(monitor)

    def fail(_: Message) -> None:
        raise RuntimeError("broken")

    wire.on_send = fail
    monitor.start()
    wait_until(lambda: len(monitor.history) > 3, "sampling")
    assert monitor.running
    wire.on_send = None
    wire.clear()
    wait_until(lambda: len(wire.messages) > 10, "sending again")
    monitor.stop()


def test_a_click_whose_answer_cannot_be_sent_does_not_stop_the_sampling(panel, monitor, wire, folder):
    monitor.start()
    wait_until(lambda: len(monitor.history) == 4)

    def fail(message: Message) -> None:
        if message.data.get("method") == "custom":
            raise RuntimeError("broken")

    wire.on_send = fail
    elsewhere(lambda: wire.ask(panel.export_csv, export="1"))
    wait_until(lambda: "broken" in monitor.errors.values(), "noting the error")
    assert monitor.errors == {"Export CSV": "broken"}
    assert monitor.running


def test_every_control_has_a_name_for_people(panel):
    names = [each.name for each in panel._controls]
    assert names == [
        *(
            "Start",
            "Log to CSV",
            "Guard memory",
            "chart window",
            "interval",
            "Export CSV",
            "open section",
            "timeline",
        ),
    ]


def test_of_two_clicks_in_a_row_the_last_counts_also_if_a_sample_comes_between(
    panel, monitor, wire, folder, monkeypatch
):
    """The second would be no change if the sample had brought the checkbox back to the state of the log."""
    waiting: list[Callable[[], object]] = []
    monkeypatch.setattr(monitor, "call_soon", lambda action, name="": waiting.append(action))
    elsewhere(lambda: wire.set(panel.log_to_csv, value=True))
    monitor.sample()
    elsewhere(lambda: wire.set(panel.log_to_csv, value=False))
    assert len(waiting) == 2
    for action in waiting:
        action()
    assert not monitor.log.running
    assert panel.log_to_csv.value is False


def test_on_the_main_thread_an_action_raises_where_it_was_asked_for(panel, monitor, wire):
    def fail(_: Message) -> None:
        raise RuntimeError("broken")

    wire.on_send = fail
    with pytest.raises(RuntimeError, match="broken"):
        panel.advanced.selected_index = 0
    wire.on_send = None
    assert monitor.errors == {}


def test_column_names_and_errors_are_text_and_not_html(show, wire):
    evil = '<img src=x onerror="alert(1)">'
    source = FakeCollector(metrics=[Metric(f"{evil}/a_percent", "percent", "odd", f"About {evil}.")])
    source.errors = {f"{evil}/a_percent": evil}
    monitor = PerformanceMonitor([source])
    panel = show(monitor)
    wire.set(panel.advanced, selected_index=0)
    monitor.sample()
    texts = [part.value for part in parts(panel) if isinstance(part, ipywidgets.HTML)]
    assert not any("<img" in text for text in texts)


# -- coming and going --------------------------------------------------------------------------------------


@pytest.fixture
def widgets_before(wire: Wire) -> set[str]:
    gc.collect()
    return set(_instances)


def left_since(before: set[str]) -> list[ipywidgets.Widget]:
    return [widget for name, widget in _instances.items() if name not in before]


def test_close_ends_every_widget_that_the_panel_made(widgets_before, machine, wire):
    monitor = PerformanceMonitor([machine])
    panel = PerformancePanel(monitor)
    opened = {message.comm_id for message in wire.sent("comm_open")}
    for number in range(len(SECTIONS)):
        wire.set(panel.advanced, selected_index=number)
        monitor.sample()
    opened |= {message.comm_id for message in wire.sent("comm_open")}
    panel.close()
    assert left_since(widgets_before) == []
    closed = Counter(message.comm_id for message in wire.sent("comm_close"))
    assert closed == Counter(opened)


def test_close_ends_the_gauges_that_were_shown_before_too(widgets_before):
    gpus = Gpus(2)
    monitor = PerformanceMonitor([gpus])
    panel = PerformancePanel(monitor)
    monitor.sample()
    gpus.use(0, 1)
    monitor.sample()
    gpus.use(0)
    monitor.sample()
    panel.close()
    assert left_since(widgets_before) == []


def test_a_closed_panel_that_is_kept_keeps_no_charts(machine, wire):
    """IPython keeps what a cell has shown, in Out: a cell that is run fifty times, fifty panels."""
    kept = []
    charts: list[weakref.ref[Any]] = []
    for _ in range(3):
        monitor = PerformanceMonitor([machine])
        panel = PerformancePanel(monitor)
        monitor.sample()
        panel.advanced.selected_index = 0
        charts += [weakref.ref(chart) for chart in panel.advanced.children[0].charts]
        panel.close()
        kept.append(panel)
    del panel
    gc.collect()
    assert len(charts) == 3
    assert [chart() for chart in charts] == [None] * 3


def test_a_closed_panel_leaves_the_memory(machine, wire):
    """A cell that is run fifty times must not keep fifty panels, nor the monitors that they show."""
    monitor = PerformanceMonitor([machine])
    panel = PerformancePanel(monitor)
    wire.set(panel.advanced, selected_index=0)
    monitor.sample()
    panel.close()
    references = [weakref.ref(each) for each in (panel, panel.export_csv, *panel.gauges.children, monitor)]
    kinds = [type(reference()).__name__ for reference in references]
    wire.clear()
    del panel, monitor
    gc.collect()
    assert [kind for kind, reference in zip(kinds, references, strict=True) if reference() is not None] == []


def test_close_can_be_repeated(monitor, wire):
    panel = PerformancePanel(monitor)
    panel.close()
    wire.clear()
    panel.close()
    assert wire.messages == []


def test_close_leaves_the_monitor_and_its_log_alone(show, monitor, folder):
    panel = show(monitor)
    monitor.log.start("run.csv")
    monitor.start()
    panel.close()
    assert monitor.running
    assert monitor.log.running
    monitor.stop()


def test_close_while_the_monitor_runs(machine, widgets_before, wire):
    monitor = PerformanceMonitor([machine], interval=FAST)
    monitor.start()
    for _ in range(5):
        panel = PerformancePanel(monitor)
        wire.set(panel.advanced, selected_index=0)
        panel.close()
    wire.clear()
    count = len(monitor.history)
    wait_until(lambda: len(monitor.history) > count + 2)
    monitor.stop()
    assert wire.messages == []
    assert left_since(widgets_before) == []
    assert monitor.errors == {}


@pytest.mark.parametrize("sampled", [True, False])
def test_what_the_monitor_sends_after_close_draws_nothing(monitor, widgets_before, wire, sampled):
    """As a sample does that was taken before, and waited for close() to let it draw."""
    panel = PerformancePanel(monitor)
    look_at(wire, panel)
    sample = monitor.sample() if sampled else Sample(time.time(), {})
    panel.close()
    wire.clear()
    panel._show_sample(sample)
    panel._show_all(sample)
    panel._show_state(running=True)
    panel._show_state(running=False)
    panel._looked_at(Page("another page", 1, True, "UTC", 0))
    assert left_since(widgets_before) == []
    assert wire.messages == []


def test_a_click_that_is_carried_out_after_close_is_no_error(panel, machine, monitor, wire, folder):
    """The reading that holds it up ends after the panel was closed."""
    reading, go_on = threading.Event(), threading.Event()

    def hang() -> dict[str, float]:
        reading.set()
        assert go_on.wait(10)
        return {}

    machine.read = hang
    monitor.start()
    assert reading.wait(10)
    elsewhere(lambda: wire.set(panel.advanced, selected_index=0))
    elsewhere(lambda: choose(wire, control(panel, "Sample every"), 6.0))
    panel.close()
    wire.clear()
    go_on.set()
    wait_until(lambda: monitor.interval == 6.0, "the action")
    monitor.stop()
    assert monitor.errors == {}
    assert wire.messages == []


def test_a_closed_panel_still_has_a_representation(panel):
    panel.close()
    assert repr(panel).startswith("<PerformancePanel")


def test_a_child_that_is_forked_while_the_panel_is_drawn_samples_on_and_draws_nothing(
    panel, monitor, wire, forked
):
    """Its lock is held by a thread that the child does not have, and the browser is the parent's."""
    drawing, drawn = threading.Event(), threading.Event()

    def draw() -> None:
        with panel._actions.writing():
            drawing.set()
            drawn.wait(60)

    def child() -> int:
        before = sum(wire.count().values())
        monitor.start()
        monitor.sample()
        monitor.stop()
        return sum(wire.count().values()) - before

    thread = threading.Thread(target=draw)
    thread.start()
    drawing.wait()
    try:
        assert forked(child) == 0
    finally:
        drawn.set()
        thread.join()


# -- the same cell again -----------------------------------------------------------------------------------


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Says which cell is running, for panels made from then on."""
    monkeypatch.setattr(former, "_newest", {})

    def run(identity: str, execution: str) -> None:
        monkeypatch.setattr(panel_module.kernel, "running_cell", lambda: Cell(identity, execution))

    return run


def test_running_a_cell_again_replaces_its_panel(show, monitor, wire, cell, widgets_before):
    for execution in range(10):
        cell("a", f"run {execution}")
        panel = show(monitor)
    wire.clear()
    monitor.sample()
    assert wire.count() == once(panel._link)


def test_running_a_cell_again_leaves_no_more_widgets_than_running_it_once(
    show, monitor, cell, widgets_before
):
    cell("a", "run 1")
    show(monitor)
    once_run = len(left_since(widgets_before))
    for execution in range(5):
        cell("a", f"run {2 + execution}")
        show(monitor)
    assert len(left_since(widgets_before)) == once_run


def test_two_panels_of_one_execution_both_live(show, monitor, wire, cell):
    cell("a", "run 1")
    show(monitor), show(monitor)
    cell("a", "run 2")
    panels = [show(monitor), show(monitor)]
    monitor.sample()
    wire.clear()
    monitor.sample()
    assert wire.count() == once(*(panel._link for panel in panels))


def test_panels_of_different_cells_both_live(show, monitor, wire, cell):
    cell("a", "run 1")
    first = show(monitor)
    cell("b", "run 2")
    second = show(monitor)
    monitor.sample()
    wire.clear()
    monitor.sample()
    assert wire.count() == once(first._link, second._link)


def test_a_panel_that_its_owner_closed_is_no_trouble_for_the_next_run(show, monitor, cell):
    cell("a", "run 1")
    show(monitor).close()
    cell("a", "run 2")
    panel = show(monitor)
    monitor.sample()
    assert gauges(panel)["CPU"]["value"] is not None


def test_outside_a_jupyter_kernel_nothing_is_replaced(show, monitor, wire):
    panels = [show(monitor), show(monitor)]
    monitor.sample()
    wire.clear()
    monitor.sample()
    assert wire.count() == once(*(panel._link for panel in panels))


def test_a_sample_does_not_wait_for_the_export(panel, monitor, wire, monkeypatch):
    """Making the file of a long window takes seconds; it was done on the sampling thread."""
    making, go_on = threading.Event(), threading.Event()

    def slow(self: object, after: object = None) -> Iterator[bytes]:
        making.set()
        assert go_on.wait(30)
        yield b"time\n"

    monkeypatch.setattr("perfmon_widgets.core.csv_log.CsvLog.export_parts", slow)
    monitor.interval = 0.01
    with monitor:
        elsewhere(lambda: wire.ask(panel.export_csv, export="1"))
        assert making.wait(10)
        count = len(monitor.history)
        wait_until(lambda: len(monitor.history) > count + 2)
        go_on.set()
        wait_until(lambda: wire.to(panel.export_csv))
    join_threads("perfmon-export")


# -- the line of plain words -------------------------------------------------------------------------------


@pytest.fixture
def said(monitor: PerformanceMonitor, monkeypatch: pytest.MonkeyPatch) -> list[Finding]:
    """What the monitor has to say; it looks as if it ran."""
    found: list[Finding] = []
    monkeypatch.setattr(monitor, "findings", lambda: found)
    monkeypatch.setattr(PerformanceMonitor, "running", True)
    return found


def line(panel: PerformancePanel) -> str:
    [widget] = [each for each in panel.children if isinstance(each, Verdict)]
    return re.sub(r"<[^>]*>", "", widget.value)


def test_the_line_is_empty_where_there_is_nothing_to_say(panel, monitor, said):
    monitor.sample()
    assert line(panel) == ""
    said.append(Finding("info", NOTHING_RUNS, "for 60 s", "wait"))
    panel._verdict._due = 0.0
    monitor.sample()
    assert line(panel) == ""


def test_the_line_says_what_is_most_pressing(panel, monitor, said, wire):
    said += [
        Finding("critical", "RAM is nearly full", "15 of 16 GiB in use", "free <some>"),
        Finding("info", "All CPUs are busy", "99% busy", "wait"),
    ]
    panel._verdict._due = 0.0
    monitor.sample()
    assert line(panel) == "RAM is nearly full: 15 of 16 GiB in use"
    assert 'title="free &lt;some&gt;"' in panel._verdict.value
    assert "perfmon-critical" in panel._verdict.value
    panel._verdict._due = 0.0
    wire.clear()
    monitor.sample()
    assert wire.count() == once(panel._link)  # what stays as it is is not sent again


def test_the_history_is_looked_at_every_five_seconds_at_most(panel, monitor, said, monkeypatch):
    looks = []
    monkeypatch.setattr(monitor, "findings", lambda: looks.append(1) or said)
    panel._verdict._due = 0.0
    for _ in range(20):
        monitor.sample()
    assert 1 <= len(looks) < 20


def test_of_a_stopped_monitor_the_line_says_nothing(show, machine, wire, monkeypatch):
    with PerformanceMonitor([machine], interval=NEVER) as monitor:
        monkeypatch.setattr(
            monitor, "findings", lambda: [Finding("warning", "Memory is short", "so", "more")]
        )
        panel = show(monitor)
        wait_until(lambda: line(panel) == "Memory is short: so")
        monitor.stop()
        assert line(panel) == ""


def test_a_monitor_without_findings_has_nothing_to_say(show, monitor, folder):
    path = monitor.log.start("run.csv")
    monitor.sample()
    monitor.log.stop()
    replay = Replay(path)
    replay.running = True
    panel = show(replay)
    replay.replay()
    assert line(panel) == ""
