"""The tab beside the notebook: when it is opened and closed, and what is said where it cannot be opened."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import ipywidgets
import pytest
from fakes.collectors import FakeCollector
from fakes.comm import Wire
from IPython.core.interactiveshell import InteractiveShell
from sidecar import Sidecar

from perfmon_widgets import PerformanceMonitor, PerformancePanel
from perfmon_widgets.jupyter import kernel
from perfmon_widgets.jupyter.kernel import Cell
from perfmon_widgets.panel import former


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    return Wire(monkeypatch)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """What the cell of a Jupyter kernel gets as its outputs."""
    shown: list[object] = []
    # IPython, which ipywidgets asks how to show an object, warns of an environment that is not its own.
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    monkeypatch.setattr(kernel, "is_jupyter_kernel", lambda: True)
    monkeypatch.setattr(kernel, "show", shown.append)
    for name in ("on_shown", "after_each_cell", "show_html"):
        monkeypatch.setattr(kernel, name, lambda *arguments, **options: None)
    yield shown
    InteractiveShell.clear_instance()  # ipywidgets makes one


@pytest.fixture
def monitor() -> PerformanceMonitor:
    return PerformanceMonitor([FakeCollector("cpu_percent")])


@pytest.fixture
def panel(wire: Wire, monitor: PerformanceMonitor) -> Iterator[PerformancePanel]:
    panel = PerformancePanel(monitor)
    yield panel
    panel.close()


def tabs(wire: Wire) -> list[str]:
    """The panels in the tabs that a browser has, by the names of their models."""
    opened = {each.comm_id: each for each in wire.sent("comm_open") if "anchor" in each.state}
    for each in wire.sent("comm_close"):
        opened.pop(each.comm_id, None)
    found = []
    for name in opened:
        [message] = [each for each in wire.sent("comm_msg") if each.comm_id == name]
        [output] = message.state["outputs"]
        found.append(kernel.view_of(output["data"]))
    return found


def test_a_panel_is_shown_in_a_tab_and_by_the_cell(panel, wire, shown):
    panel.dock()
    assert tabs(wire) == [panel.model_id]
    assert shown == [panel]


def test_a_panel_that_a_page_shows_becomes_no_second_output(panel, wire, shown):
    wire.ask(panel._link, page="page", views=1, whileBusy=True)
    panel.dock()
    assert tabs(wire) == [panel.model_id]
    assert shown == []


def test_docking_a_panel_again_opens_its_tab_anew(panel, wire, shown):
    panel.dock()
    parts = panel.children
    panel.dock()
    assert tabs(wire) == [panel.model_id]
    assert panel.children == parts


def test_running_the_cell_again_leaves_one_tab(monitor, wire, shown, monkeypatch):
    monkeypatch.setattr(former, "_newest", {})
    for execution in range(3):
        monkeypatch.setattr(kernel, "running_cell", lambda execution=execution: Cell("a", str(execution)))
        panel = PerformancePanel(monitor)
        panel.dock()
        assert tabs(wire) == [panel.model_id]
    panel.close()


def test_closing_the_panel_closes_the_tab_and_leaves_no_widget(monitor, wire, shown):
    panel = PerformancePanel(monitor)
    panel.dock()
    opened = {message.comm_id for message in wire.sent("comm_open")}
    panel.close()
    assert tabs(wire) == []
    closed = {message.comm_id for message in wire.sent("comm_close")}
    assert closed == opened


def test_each_panel_hides_its_own_output_only(monitor, wire, shown):
    panels = [PerformancePanel(monitor) for _ in range(2)]
    for panel in panels:
        panel.dock()
    [own, other] = [panel._dom_classes[-1] for panel in panels]
    [note] = [each for each in panels[0].children if "perfmon-docking" in each._dom_classes]
    assert own in note.value
    assert other not in note.value
    for panel in panels:
        panel.close()


def test_without_the_package_one_sentence_says_what_to_do(panel, wire, shown, monkeypatch):
    monkeypatch.setitem(sys.modules, "sidecar", None)
    parts = panel.children
    with pytest.raises(ModuleNotFoundError, match="pip install sidecar") as refused:
        panel.dock()
    assert "\n" not in str(refused.value)
    assert panel.children == parts
    assert shown == []


def test_outside_a_jupyter_kernel_it_is_refused(panel):
    with pytest.raises(RuntimeError, match="this process is not a Jupyter kernel"):
        panel.dock()


def test_the_tab_is_an_ordinary_widget_of_the_package():
    """Its names are what the style sheet and JupyterLab rely on."""
    assert issubclass(Sidecar, ipywidgets.Output)
    assert "right" in Sidecar.anchor.values


def test_a_panel_that_is_closed_is_not_docked(shown, wire, monitor):
    panel = PerformancePanel(monitor)
    panel.close()
    with pytest.raises(RuntimeError, match="this panel is closed"):
        panel.dock()
    assert shown == []
