"""The panel's controls, each by itself."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import ipywidgets
import numpy as np
import pytest
from fakes.collectors import FakeCollector
from fakes.comm import Message, Wire
from fakes.threads import join_threads, wait_until

from perfmon_widgets import PerformanceMonitor
from perfmon_widgets.core.csv_log import CsvLog
from perfmon_widgets.core.intervention import Intervention
from perfmon_widgets.panel import panel
from perfmon_widgets.panel.controls.export_csv import ExportButton, export_csv
from perfmon_widgets.panel.controls.guard_memory import guard_memory
from perfmon_widgets.panel.controls.interval import interval as interval_control
from perfmon_widgets.panel.controls.interval import offer
from perfmon_widgets.panel.controls.log_to_csv import log_to_csv, state_of
from perfmon_widgets.panel.controls.window import widest, window
from perfmon_widgets.panel.death_line import death_line
from perfmon_widgets.panel.link import Link
from perfmon_widgets.views.death import Cell, Death


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    return Wire(monkeypatch)


def monitor_of(**arguments: float) -> PerformanceMonitor:
    return PerformanceMonitor([], **arguments)


USUAL = {f"{each} s": float(each) for each in (1, 2, 5, 6, 7, 10)}


def interval_choice(seconds: float) -> ipywidgets.Dropdown:
    return interval_control(monitor_of(interval=seconds)).widget


def options(choice: ipywidgets.Dropdown) -> dict[str, float]:
    return dict(choice.options)


def changes(choice: ipywidgets.Dropdown) -> list[float]:
    """The values that the choice takes from now on."""
    seen: list[float] = []
    choice.observe(lambda change: seen.append(change["new"]), "value")
    return seen


# -- the log -----------------------------------------------------------------------------------------------


def log_of(rows: int) -> CsvLog:
    times = [np.datetime64(number, "us") for number in range(rows)]
    return CsvLog(["a_percent"], lambda: (rows, times, [[1.0]] * rows))


def test_the_checkbox_is_off():
    assert log_to_csv(monitor_of()).widget.value is False


def test_a_log_that_never_ran_says_nothing():
    assert state_of(log_of(0)) == ""


@pytest.mark.parametrize(("rows", "words"), [(0, "0 rows"), (1, "1 row"), (2, "2 rows")])
def test_a_log_that_runs_says_its_file_and_rows(folder, rows, words):
    log = log_of(rows)
    path = log.start("run.csv")
    state = state_of(log)
    log.stop()
    assert f">run.csv: {words}<" in state
    assert f'title="{path}"' in state


def test_a_log_that_was_stopped_says_so(folder):
    log = log_of(2)
    log.start("run.csv")
    log.stop()
    assert ">run.csv: 2 rows, closed<" in state_of(log)


def test_a_log_that_failed_says_why(folder):
    log = log_of(2)
    path = log.start("run.csv")
    path.unlink()
    log.append(3, np.datetime64(3, "us"), [1.0])
    state = state_of(log)
    assert "perfmon-error" in state
    assert 'role="alert"' in state
    assert "deleted" in state


def test_a_file_name_is_text_and_not_html(folder):
    log = log_of(1)
    log.start('<b onclick="x">&.csv')
    state = state_of(log)
    log.stop()
    assert "<b" not in state
    assert "&lt;b onclick=&quot;x&quot;&gt;&amp;.csv" in state


def test_the_checkbox_switches_the_log_and_shows_it(folder):
    monitor = monitor_of()
    control = log_to_csv(monitor)
    control.act(True)
    control.show()
    assert monitor.log.running
    assert control.widget.value is True
    assert monitor.log.path.name in control.note.value
    control.act(True)  # as it is already
    control.act(False)
    control.show()
    assert not monitor.log.running
    assert control.widget.value is False
    assert [path.name for path in folder.glob("*.csv")] == [monitor.log.path.name]


# -- the memory guard --------------------------------------------------------------------------------------


class FakeGuard:
    """A guard that only notes whether it is on."""

    def __init__(self, unavailable: str = "", fails: str = "") -> None:
        self.unavailable, self.fails = unavailable, fails
        self.running, self.error, self.state = False, "", "allocations beyond 92% fail"
        self.interventions: list[Intervention] = []

    def start(self) -> None:
        if self.fails:
            raise RuntimeError(self.fails)
        self.running = True

    def stop(self) -> None:
        self.running = False


def test_the_guard_is_off_until_it_is_switched_on():
    guard = FakeGuard()
    control = guard_memory(guard)
    control.show()
    assert (control.widget.value, control.widget.disabled, control.note.value) == (False, False, "")
    control.act(True)
    control.show()
    assert guard.running
    assert control.widget.value is True
    assert "allocations beyond 92% fail" in control.note.value
    control.act(False)
    control.show()
    assert not guard.running
    assert control.note.value == ""


def test_a_guard_that_a_program_has_started_is_shown():
    guard = FakeGuard()
    control = guard_memory(guard)
    guard.start()
    control.show()
    assert control.widget.value is True


def test_where_memory_cannot_be_guarded_the_checkbox_says_so():
    control = guard_memory(FakeGuard(unavailable="the memory guard works on Linux only"))
    control.show()
    assert control.widget.disabled
    assert control.widget.tooltip == "the memory guard works on Linux only"
    assert "the memory guard works on Linux only" in control.note.value


def test_a_guard_that_cannot_be_started_says_why(wire):
    control = guard_memory(FakeGuard(fails="memory cannot be guarded here: no <file>"))
    control.widget.value = True
    control.act(True)
    control.show()
    assert control.widget.value is False
    assert "memory cannot be guarded here: no &lt;file&gt;" in control.note.value
    assert 'role="alert"' in control.note.value


def test_what_the_guard_did_last_is_shown():
    guard = FakeGuard()
    control = guard_memory(guard)
    guard.start()
    guard.interventions.append(Intervention(0.0, "refused", Cell(3, "a <b>", 0.0), 9e8, 1e9))
    control.show()
    assert (
        "memory guard refused an allocation in cell [3] a &lt;b&gt;: RAM 858 of 954 MiB" in control.note.value
    )


def test_the_death_of_the_former_kernel_is_one_line():
    assert death_line(None) == []
    death = Death(0.0, Cell(3, "a <b>", 0.0), "likely", "RAM was full", (), (), {})
    (line,) = death_line(death)
    assert "a &lt;b&gt;`: RAM was full.</span>" in line.value


# -- the interval ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interval", [5.0, 6.0, 7.0])
def test_the_usual_intervals_are_offered(interval):
    choice = interval_choice(interval)
    assert options(choice) == USUAL
    assert choice.value == interval


@pytest.mark.parametrize(
    ("interval", "label"), [(0.3, "0.3 s"), (1.5, "1.5 s"), (20.0, "20 s"), (5.5, "5.5 s")]
)
def test_another_interval_is_an_option_of_its_own(interval, label):
    choice = interval_choice(interval)
    assert options(choice) == USUAL | {label: interval}
    assert sorted(options(choice).values()) == list(options(choice).values())
    assert (choice.value, choice.label) == (interval, label)


def test_the_interval_that_is_shown_already_changes_nothing(wire):
    choice = interval_choice(0.3)
    wire.clear()
    seen = changes(choice)
    offer(choice, 0.3)
    assert seen == []
    assert wire.messages == []


@pytest.mark.parametrize("before", [5.0, 6.0, 7.0, 0.3, 20.0])
@pytest.mark.parametrize("after", [5.0, 6.0, 7.0, 0.2, 10.0])
def test_an_unusual_interval_is_an_option_only_while_it_is_chosen(before, after, wire):
    """%%perfmon sets one for the time of a cell."""
    choice = interval_choice(before)
    wire.clear()
    offer(choice, after)
    assert choice.value == after
    assert list(options(choice).values()) == sorted({*USUAL.values(), after})
    assert len(wire.messages) == (before != after)  # a browser sees no other in between


# -- the window --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kept", "offered"),
    [
        (600.0, {"1 min": 60.0, "5 min": 300.0, "10 min": 600.0}),
        (3600.0, {"1 min": 60.0, "5 min": 300.0, "10 min": 600.0}),
        (300.0, {"1 min": 60.0, "5 min": 300.0}),
        (420.0, {"1 min": 60.0, "5 min": 300.0, "7 min": 420.0}),
        (60.0, {"1 min": 60.0}),
        (30.0, {"30 s": 30.0}),
    ],
)
def test_the_windows_are_one_five_and_ten_minutes_as_far_as_they_are_kept(kept, offered):
    monitor = monitor_of(window=kept)
    choice = window(monitor, lambda _: None).widget
    assert options(choice) == offered
    assert choice.value == widest(monitor) == max(offered.values())


def test_the_window_that_is_chosen_is_passed_on():
    chosen: list[float] = []
    window(monitor_of(), chosen.append).act(300.0)
    assert chosen == [300.0]


# -- the export --------------------------------------------------------------------------------------------


def requests(button: ExportButton) -> list[str]:
    """The requests that arrive from now on."""
    seen: list[str] = []
    button.observe(lambda change: seen.append(change["new"]), "request")
    return seen


def test_a_browser_that_asks_for_the_file_gets_it(wire):
    control = export_csv(PerformanceMonitor([]), Link())
    wire.clear()
    control.act("17")
    join_threads("perfmon-export")
    [message] = wire.messages
    assert message.comm_id == control.widget.comm.comm_id
    assert message.data["method"] == "custom"
    assert message.data["content"]["export"] == "17"  # by which the view that asked knows it
    assert re.fullmatch(r"perfmon-\d{8}-\d{6}\.csv", message.data["content"]["name"])
    assert [bytes(buffer) for buffer in message.buffers] == [b"time\n"]


@pytest.fixture
def long_history(monkeypatch: pytest.MonkeyPatch) -> PerformanceMonitor:
    """A history whose file has some ten parts."""
    monkeypatch.setattr("perfmon_widgets.core.parts._SIZE", 100)
    monitor = PerformanceMonitor([FakeCollector("a_bytes")])
    for _ in range(200):
        monitor.sample()
    return monitor


def joined(messages: list[Message]) -> bytes:
    return b"".join(bytes(buffer) for message in messages for buffer in message.buffers)


def test_the_file_comes_in_parts_as_fast_as_the_page_receives_them(wire, long_history):
    """A long one was made as a whole, for a page that may have gone."""
    control = export_csv(long_history, Link())
    wire.clear()
    wire.ask(control.widget, export="17", receipts=True)
    control.act("17")
    wait_until(lambda: len(wire.messages) == 4)
    threads = [each for each in threading.enumerate() if each.name == "perfmon-export"]
    assert len(threads) == 1
    wire.ask(control.widget, received="another request")
    for sent in range(4, 8):
        assert len(wire.messages) == sent
        wire.ask(control.widget, received="17")
        wait_until(lambda sent=sent: len(wire.messages) > sent)
    while threads[0].is_alive():
        wire.ask(control.widget, received="17")
        threads[0].join(0.01)
    contents = [message.data["content"] for message in wire.messages]
    assert [each.get("name") for each in contents[:-1]] == [None] * (len(contents) - 1)
    assert contents[-1]["name"]
    assert joined(wire.messages) == long_history.log.export()
    assert len(contents) > 8


def test_a_page_that_cannot_send_receipts_while_a_cell_runs_gets_one_message(wire, long_history):
    control = export_csv(long_history, Link())
    wire.clear()
    wire.ask(control.widget, export="17", receipts=False)
    control.act("17")
    join_threads("perfmon-export")
    [message] = wire.messages
    assert joined([message]) == long_history.log.export()


def test_nothing_is_sent_to_a_page_that_has_gone(wire, long_history, monkeypatch):
    monkeypatch.setattr("perfmon_widgets.core.parts._READ_SECONDS", 0.1)
    control = export_csv(long_history, Link())
    wire.clear()
    wire.ask(control.widget, export="17", receipts=True)
    control.act("17")
    join_threads("perfmon-export")
    assert len(wire.messages) == 4
    assert long_history.errors == {}
    # Receipts that come too late are ignored, and the next request is served.
    wire.ask(control.widget, received="17")
    wire.clear()
    control.act("18")
    join_threads("perfmon-export")
    assert joined(wire.messages) == long_history.log.export()


def test_a_file_that_nobody_waits_for_any_more_delays_no_other(wire, long_history):
    """A second click, or a page loaded again: the next file came after 30 seconds without a receipt."""
    control = export_csv(long_history, Link())
    wire.clear()
    for request in ("17", "18", "19"):
        wire.ask(control.widget, export=request, receipts=True)
        control.act(request)
        wait_until(lambda: len(wire.messages) == 4)  # those of the first, for which the others wait
    wire.ask(control.widget, received="17", more=False)
    wire.ask(control.widget, received="18", more=False)
    wait_until(lambda: len(wire.messages) == 8)
    assert [message.data["content"]["export"] for message in wire.messages] == ["17"] * 4 + ["19"] * 4
    wire.ask(control.widget, received="19", more=False)
    join_threads("perfmon-export")
    assert len(wire.messages) == 8
    assert control.widget._flows == long_history.errors == {}


def test_each_request_is_one_use_of_the_button(wire):
    control = export_csv(PerformanceMonitor([]), Link())
    seen = requests(control.widget)
    assert control.trait == "request"
    wire.clear()
    wire.ask(control.widget, export="1")
    wire.ask(control.widget, export="2")
    assert seen == ["1", "2"]
    assert wire.messages == []  # a request is not sent back


def test_another_message_is_no_request(wire):
    button = ExportButton(link=Link())
    seen = requests(button)
    wire.ask(button, something="else")
    assert seen == []


def test_the_controls_to_be_heard_are_named_to_the_browser(wire):
    link, box = Link(), ipywidgets.Checkbox()
    wire.clear()
    link.controls = [box]
    [message] = wire.messages
    assert message.state == {"controls": [f"IPY_MODEL_{box.comm.comm_id}"]}


def test_scripts_and_styles_are_files_of_the_package_and_need_no_network():
    folder = Path(panel.__file__).parent
    paths = [*folder.rglob("*.js"), *folder.rglob("*.css")]
    assert len(paths) >= 8
    for path in paths:
        text = path.read_text()
        assert "http" not in text.replace("http://www.w3.org/2000/svg", ""), path
        assert "import(" not in text.replace("import(address)", ""), path
        if "import(address)" in text:  # that of a text which came with the link
            assert 'const address = URL.createObjectURL(new Blob([link.get("gauge")]' in text


def test_the_button_has_a_representation_that_is_the_same_each_time():
    assert repr(ExportButton(link=Link())) == "<ExportButton>"
