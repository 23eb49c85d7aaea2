"""The kernel's end of its control channel, in a real Jupyter kernel: requests, widget messages, nonsense."""

from __future__ import annotations

import contextlib
import json
import queue
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ipykernels import NEWEST, OLDER, install_kernelspecs
from real_kernel import Kernel

from perfmon_widgets.jupyter.requests import hear_widgets_while_busy

READ = {"method": "GET", "path": "/api/performance/current", "query": {}, "body": None, "content_type": ""}
MONITOR = """
import perfmon_widgets
monitor = perfmon_widgets.PerformanceMonitor(interval=3600)
monitor.start()
while monitor.latest is None:
    pass
"""
BOX = """
import ipywidgets
from perfmon_widgets.jupyter.requests import hear_widgets_while_busy
hear_widgets_while_busy()
box = ipywidgets.Checkbox()
box.comm.comm_id
"""


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """A kernel for the whole file, in which a monitor runs."""
    kernel = Kernel(tmp_path_factory.mktemp("kernel"))
    kernel.execute(MONITOR)
    yield kernel
    kernel.shut_down()


@pytest.fixture
def busy(kernel: Kernel) -> Iterator[None]:
    """A cell that runs Python code without end."""
    request = kernel.start_busy()
    yield
    assert not kernel.has_answered(), "the cell had ended already"
    kernel.interrupt()
    assert kernel.finish(request)["ename"] == "KeyboardInterrupt"


def status(kernel: Kernel, content: object = READ, **parts: object) -> int:
    """The HTTP status of the reply to a request with that content, as JSON or as bytes."""
    request = kernel.ask_raw("perfmon_request", content, **parts)
    reply = kernel.replies(request)[request]
    assert reply["msg_type"] == "perfmon_reply"
    json.loads(bytes(reply["buffers"][0]))
    return int(reply["content"]["status"])


# -- requests ------------------------------------------------------------------------------------------


def test_outside_a_jupyter_kernel_there_is_no_control_channel():
    assert hear_widgets_while_busy() is False


def test_the_kernel_does_not_look_idle_because_it_is_asked(kernel, busy):
    """Front ends show the last status that was published, whatever it was about."""
    kernel.forget_messages()
    request = kernel.ask("perfmon_request", READ)
    last = kernel.ask("kernel_info_request", {})
    reply = kernel.replies(last)[request]
    assert (reply["msg_type"], reply["content"]["status"]) == ("perfmon_reply", 200)
    asked = [message["parent_header"].get("msg_id") for message in kernel.messages(last)]
    assert last in asked
    assert request not in asked


def test_a_request_that_is_not_signed_is_not_answered(kernel):
    forged = kernel.ask("perfmon_request", READ, key=b"another")
    last = kernel.ask("perfmon_request", READ)
    assert forged not in kernel.replies(last)
    assert "Invalid Control Message" in kernel.errors.read_text()


def test_five_hundred_requests_at_once_are_answered_as_quickly_as_one_after_the_other(kernel):
    """Flushing the stream after each answer made the time grow with the square of their number."""
    started = time.perf_counter()
    for _ in range(500):
        kernel.replies(kernel.ask("perfmon_request", READ))
    one_by_one = time.perf_counter() - started
    started = time.perf_counter()
    requests = [kernel.ask("perfmon_request", READ) for _ in range(500)]
    replies = kernel.replies(requests[-1])
    assert set(replies) >= set(requests)
    assert time.perf_counter() - started < 5 * one_by_one


@pytest.mark.parametrize(
    "content",
    [
        b"null",
        b"[]",
        b"1",
        b'"x"',
        b"{",
        b"\xff",
        b"[" * 100_000,
        b'{"path":' * 100_000,
        {**READ, "query": None},
        {**READ, "query": []},
        {**READ, "query": {"since": 1}},
        {**READ, "method": None},
        {**READ, "path": ["/metrics"]},
        {**READ, "content_type": {}},
    ],
)
def test_a_request_that_makes_no_sense_is_refused_and_the_next_one_answered(kernel, content):
    assert status(kernel, content) == 400
    assert status(kernel) == 200


@pytest.mark.parametrize("missing", READ)
def test_a_field_that_is_missing_is_empty(kernel, missing):
    """As in a request of another version of this package."""
    content = {name: value for name, value in READ.items() if name != missing}
    assert status(kernel, content) == {"method": 405, "path": 404}.get(missing, 200)
    assert status(kernel, {}) == 404


@pytest.mark.parametrize("part", ["header", "parent_header", "metadata"])
@pytest.mark.parametrize(
    "content", [b"null", b"[]", b"{", b"[" * 100_000, b'{"msg_type": "perfmon_request"}']
)
def test_what_is_no_message_is_left_to_the_kernel(kernel, part, content):
    kernel.ask_raw("perfmon_request", READ, **{part: content})
    assert status(kernel) == 200
    last = kernel.ask("kernel_info_request", {})
    assert kernel.replies(last)[last]["msg_type"] == "kernel_info_reply"


def test_a_disk_that_hangs_delays_only_what_needs_it(kernel):
    kernel.execute("""
import threading
there = threading.Event()
monitor.log.start = lambda path: there.wait(20)
""")
    switch = {
        **READ,
        "method": "POST",
        "path": "/api/performance/logging",
        "content_type": "application/json",
    }
    switched = kernel.ask_raw("perfmon_request", switch, buffers=[b'{"enabled": true}'])
    heard = kernel.replies(switched)[switched]
    assert heard["msg_type"] == "perfmon_heard"
    history = kernel.ask("perfmon_request", {**READ, "path": "/api/performance/history"})
    kinds = []
    while "perfmon_reply" not in kinds:
        reply = kernel.replies(history)[history]
        kinds.append(reply["msg_type"])
    assert kinds == ["perfmon_heard", "perfmon_reply"]
    kernel.execute("there.set(); del monitor.log.start")
    assert kernel.replies(switched)[switched]["content"]["status"] == 200


# -- widgets -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[*OLDER, NEWEST])
def any_kernel(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Iterator[Kernel]:
    folder: Path = tmp_path_factory.mktemp("data")
    names = install_kernelspecs(folder, pytestconfig.cache)
    kernel = Kernel(folder, names[request.param], folder / "kernels")
    assert kernel.run("__import__('ipykernel').__version__") == request.param
    yield kernel
    kernel.shut_down()


def test_a_click_does_not_make_the_kernel_look_idle(any_kernel):
    """The browser gets a reply instead, and knows the echo of its own change by its parent."""
    kernel: Kernel = any_kernel
    widget = kernel.run(BOX)
    busy = kernel.start_busy()
    kernel.forget_messages()
    click = kernel.change("control", widget, value=True)
    assert kernel.replies(click)[click]["msg_type"] == "perfmon_heard"
    last = kernel.ask("kernel_info_request", {})
    published = [each for each in kernel.messages(last) if each["parent_header"].get("msg_id") == click]
    assert {each["msg_type"] for each in published} <= {"comm_msg"}
    assert not kernel.has_answered()
    kernel.interrupt()
    assert kernel.finish(busy)["ename"] == "KeyboardInterrupt"
    assert kernel.run("box.value") is True


def test_what_a_callback_sends_has_the_click_as_its_parent(kernel):
    widget = kernel.run(BOX)
    kernel.execute(
        "label = ipywidgets.Label()\nbox.observe(lambda change: setattr(label, 'value', 'seen'), 'value')"
    )
    kernel.forget_messages()
    click = kernel.change("control", widget, value=True)
    sent = kernel.published(
        lambda message: message["content"].get("data", {}).get("state") == {"value": "seen"}, "the label"
    )
    assert sent["parent_header"]["msg_id"] == click


@pytest.mark.parametrize("content", [{}, {"comm_id": "nobody", "data": {}}, [], None, b"[" * 100_000])
def test_a_widget_message_that_makes_no_sense_is_answered_too(kernel, content):
    kernel.run(BOX)
    request = kernel.ask_raw("comm_msg", content)
    assert kernel.replies(request)[request]["msg_type"] == "perfmon_heard"
    assert status(kernel) == 200


def test_hearing_widgets_is_asked_for_once(kernel):
    kernel.run(BOX)
    assert kernel.run("""
kernel = get_ipython().kernel
handler = kernel.control_handlers["comm_msg"]
hear_widgets_while_busy(), hear_widgets_while_busy(), kernel.control_handlers["comm_msg"] is handler
""") == (True, True, True)


def test_without_a_panel_a_widget_message_is_the_kernels_own(tmp_path):
    kernel = Kernel(tmp_path)
    kernel.execute("import perfmon_widgets")
    kernel.ask("comm_msg", {"comm_id": "nobody", "data": {}})
    last = kernel.ask("kernel_info_request", {})
    assert set(kernel.replies(last)) == {last}
    kernel.shut_down()
    assert "UNKNOWN CONTROL MESSAGE TYPE: 'comm_msg'" in kernel.errors.read_text()


# -- long answers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["json", "csv"])
def test_a_long_history_comes_in_parts_where_the_client_takes_them(kernel, kind):
    kernel.execute(
        "import perfmon_widgets.core.parts, perfmon_widgets.web.api\n"
        "perfmon_widgets.core.parts._SIZE = 1000\n"
        "perfmon_widgets.web.api._FEW_VALUES = 0\n"
        "for _ in range(20): monitor.sample()\n"
    )
    content = READ | {"path": "/api/performance/history", "query": {"format": kind}}
    bodies = []
    for metadata in (b"{}", b'{"parts": true}', b"[]"):
        request = kernel.ask_raw("perfmon_request", content, metadata=metadata)
        parts = []
        while True:
            reply = kernel._client.get_control_msg(timeout=20)
            if reply["parent_header"].get("msg_id") != request:
                continue
            if reply["msg_type"] == "perfmon_part":
                assert reply["content"]["status"] == 200
                parts.append(bytes(reply["buffers"][0]))
                kernel.ask("perfmon_received", {"request": request, "more": True})
            if reply["msg_type"] == "perfmon_reply":
                break
        assert reply["content"]["status"] == 200
        assert (len(parts) > 1) == (metadata == b'{"parts": true}')
        bodies.append(b"".join(parts) + bytes(reply["buffers"][0]))
    assert len({*bodies}) == 1


def test_a_client_that_does_not_read_gets_no_more_than_a_few_parts(kernel):
    """A long history was made as a whole, even for a client that reads nothing."""
    kernel.execute(
        "import perfmon_widgets.core.parts, perfmon_widgets.web.api\n"
        "perfmon_widgets.core.parts._SIZE = 100\n"
        "perfmon_widgets.web.api._FEW_VALUES = 0\n"
        "for _ in range(100): monitor.sample()\n"
    )
    content = READ | {"path": "/api/performance/history", "query": {"format": "csv"}}
    request = kernel.ask_raw("perfmon_request", content, metadata=b'{"parts": true}')

    def next_kinds(most: int) -> list[str]:
        """The kinds of the next replies to the request, as long as they come within two seconds each."""
        kinds: list[str] = []
        with contextlib.suppress(queue.Empty):
            while len(kinds) < most:
                reply = kernel._client.get_control_msg(timeout=2)
                if reply["parent_header"].get("msg_id") == request:
                    kinds.append(reply["msg_type"])
        return kinds

    first = next_kinds(100)
    assert first[0] == "perfmon_heard"
    assert first[1:] == 4 * ["perfmon_part"]
    kernel.ask("perfmon_received", {"request": request, "more": True})
    assert next_kinds(100) == ["perfmon_part"]
    for nonsense in ([], {}, {"request": 3}, {"request": "another", "more": True}):
        kernel.ask_raw("perfmon_received", nonsense)
    assert next_kinds(1) == []
    kernel.ask("perfmon_received", {"request": request, "more": False})
    assert next_kinds(1) == ["perfmon_reply"]
    # It was not all, so the status is another one than that of the parts; and others are served again.
    again = kernel.ask_raw("perfmon_request", content)
    reply = kernel.replies(again)[again]
    while reply["msg_type"] == "perfmon_heard":
        reply = kernel.replies(again)[again]
    assert reply["content"]["status"] == 200
