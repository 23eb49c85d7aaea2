"""Executed cells: forks, stops and interrupts; with real kernels in tests/integration/test_cells.py."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from IPython.core.events import EventManager, available_events
from IPython.core.interactiveshell import ExecutionInfo, ExecutionResult

from perfmon_widgets.jupyter import cells
from perfmon_widgets.jupyter.cells import ExecutedCells, ends


def info(source: str) -> ExecutionInfo:
    return ExecutionInfo(source, True, False, True, None)


@pytest.fixture
def shell(monkeypatch):
    """What ExecutedCells uses of IPython's shell, with IPython's own events."""
    shell = SimpleNamespace(
        execution_count=1,
        displayhook=SimpleNamespace(exec_result=None),
        history_manager=SimpleNamespace(input_hist_raw=["", "a = 1"]),
    )
    shell.events = EventManager(shell, available_events)
    monkeypatch.setattr(cells, "get_ipython", lambda: shell)
    return shell


class FakeMonitor:
    """Keeps the names of the spans that begin and end."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.ended: list[str] = []

    def begin(self, _kind: str, name: str, _number: int) -> str:
        self.begun.append(name)
        return name

    def end(self, span: str, **_: object) -> None:
        self.ended.append(span)


def execute(shell: SimpleNamespace, source: str) -> None:
    described = info(source)
    shell.events.trigger("pre_run_cell", described)
    shell.events.trigger("post_run_cell", ExecutionResult(described))


def test_a_forked_child_notes_the_cells_of_its_own_monitor_once(shell, forked):
    executed, parents, own = ExecutedCells(), FakeMonitor(), FakeMonitor()
    executed.add(parents)

    def child() -> tuple[list[str], ...]:
        execute(shell, "a = 1")  # without a monitor of its own
        executed.add(own)
        execute(shell, "b = 2")
        executed.remove(own)
        execute(shell, "c = 3")
        return parents.begun, own.begun, own.ended, [*shell.events.callbacks["pre_run_cell"]]

    with executed._lock:  # as if another thread held it at the moment of the fork
        assert forked(child) == ([], ["b = 2"], ["b = 2"], [])
    execute(shell, "a = 1")
    assert (parents.begun, parents.ended) == (["a = 1"], ["a = 1"])


def test_a_cell_that_runs_as_the_monitor_stops_ends_then(shell):
    executed, monitor = ExecutedCells(), FakeMonitor()
    executed.add(monitor)
    shell.events.trigger("pre_run_cell", info("monitor.stop()"))
    executed.remove(monitor)
    assert monitor.ended == ["monitor.stop()"]


def test_listeners_that_fail_keep_no_span_open_and_no_listener_from_hearing(shell, monkeypatch):
    executed, monitor = ExecutedCells(), FakeMonitor()
    heard: list[int | None] = []

    def fail(_: object) -> None:
        raise OSError("the disk is full")

    def hear(cell: cells.RunningCell | None) -> None:
        heard.append(None if cell is None else cell.number)

    monkeypatch.setattr(cells, "listeners", [fail, hear])
    executed.add(monitor)
    execute(shell, "a = 1")
    executed.remove(monitor)
    assert (monitor.begun, monitor.ended) == (["a = 1"], ["a = 1"])
    assert heard == [1, None]


def test_an_interrupt_at_the_end_of_a_cell_keeps_no_listener_from_hearing(shell, monkeypatch):
    executed, monitor = ExecutedCells(), FakeMonitor()
    heard: list[object] = []
    monkeypatch.setattr(cells, "listeners", [heard.append])
    executed.add(monitor)
    described = info("a = 1")
    shell.events.trigger("pre_run_cell", described)

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(monitor, "end", interrupt)
    with pytest.raises(KeyboardInterrupt):
        executed._after(ExecutionResult(described))
    executed._monitors.clear()
    executed._unregister()
    assert heard[-1] is None


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (None, True),  # an interrupt hit IPython itself
        (SimpleNamespace(info=None, execution_count=None), True),
        (SimpleNamespace(info=info("a = 1"), execution_count=None), True),
        (SimpleNamespace(info=info("a = 1"), execution_count=3), False),  # another execution of the cell
        (SimpleNamespace(info=info("b = 2"), execution_count=None), False),
    ],
)
def test_the_result_of_an_interrupted_cell_belongs_to_it(result, expected):
    assert ends(result, info("a = 1")) is expected


def test_a_result_with_the_same_info_belongs_to_the_cell():
    described = info("a = 1")
    assert ends(SimpleNamespace(info=described, execution_count=3), described)
