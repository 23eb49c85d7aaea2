"""The live page of a Jupyter server in a real browser, with a monitor and answers of the test's own."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest
from fakes.collectors import FakeCollector
from playwright.sync_api import Browser, Page, Route, expect

from perfmon_widgets import PerformanceMonitor
from perfmon_widgets.jupyter.server_page import KERNELS
from perfmon_widgets.web import api, page
from perfmon_widgets.web.request import Refusal, Request, Response, json_response, read_query

ADDRESS = "http://jupyter.test"
HIDE = "Object.defineProperty(document, 'hidden', { value: true, configurable: true });"
SHOW = "delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))"
NEVER, BROKEN = "it never answers", "the connection breaks"


def kernels(*names: str) -> Response:
    """The list of kernels with these names, which are their ids too."""
    return json_response({"kernels": [{"id": each, "name": each, "state": "idle"} for each in names]})


class Server:
    """Answers the page: its files, one kernel, and what the monitor shows. ``answers`` has other answers."""

    def __init__(self, opened: Page, monitor: PerformanceMonitor) -> None:
        self.monitor = monitor
        self.answers: dict[str, Response | str] = {KERNELS: kernels("train.ipynb")}
        self.asked: list[str] = []
        opened.route(f"{ADDRESS}/**", self._answer)

    def count(self, path: str) -> int:
        """How often that has been asked for; counts anew from then on."""
        count = self.asked.count(path)
        self.asked.clear()
        return count

    def _answer(self, route: Route) -> None:
        url = urlsplit(route.request.url)
        self.asked.append(url.path)
        answer = self.answers.get(url.path) or self._usual(url.path, url.query)
        if answer == BROKEN:
            route.abort()
        elif isinstance(answer, Response):
            route.fulfill(status=answer.status, content_type=answer.content_type, body=answer.body)

    def _usual(self, path: str, query: str) -> Response:
        if path == page.PAGE:
            return page.document(has_kernels=True)
        return api.answer(self.monitor, Request("GET", path, read_query(query)))


def ask(opened: Page) -> None:
    """Have the page ask for what is new at once."""
    opened.evaluate(SHOW)


def seconds(opened: Page, server: Server, count: int) -> list[list[str]]:
    """What the page asks for in each of the next seconds of its clock, which stands still otherwise."""
    asked = []
    for _ in range(count):
        opened.wait_for_timeout(50)  # for what is being answered
        server.asked = []
        opened.clock.run_for(1000)
        opened.wait_for_timeout(50)
        asked.append(server.asked)
    return asked


@pytest.fixture
def monitor() -> Iterator[PerformanceMonitor]:
    """A monitor that runs and has one sample."""
    monitor = PerformanceMonitor([FakeCollector("cpu_percent", "ram_percent")], interval=3600)
    monitor.start()
    monitor.sample()
    yield monitor
    monitor.stop()


@pytest.fixture
def opened(chromium: Browser) -> Iterator[Page]:
    """A page of a browser that has not been there before; fails if a script of it does."""
    context = chromium.new_context()
    opened = context.new_page()
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    yield opened
    context.close()
    assert errors == []


@pytest.fixture
def server(opened: Page, monitor: PerformanceMonitor) -> Server:
    """What answers the page."""
    return Server(opened, monitor)


def test_a_page_that_was_opened_in_the_background_is_that_of_its_kernel(opened: Page, server: Server) -> None:
    opened.add_init_script(HIDE)
    opened.goto(f"{ADDRESS}/perfmon?kernel_id=train.ipynb")
    expect(opened).to_have_title("train.ipynb – Performance")
    opened.wait_for_timeout(300)
    assert server.count(page.VIEW) == 0
    opened.evaluate(SHOW)
    expect(opened.locator(".figures svg").first).to_be_visible()
    download = urlsplit(opened.locator("#download").evaluate("each => each.href"))
    assert download.path == api.HISTORY
    query = parse_qs(download.query)
    assert query["kernel_id"] == ["train.ipynb"]
    assert query["since"] == ["1970-01-01"]


def test_a_kernel_that_is_given_is_shown_before_the_list_is_there(opened: Page, server: Server) -> None:
    server.answers[KERNELS] = NEVER
    opened.goto(f"{ADDRESS}/perfmon?kernel_id=train.ipynb")
    expect(opened.locator(".figures svg").first).to_be_visible()


def test_a_stopped_monitor_is_not_a_dead_kernel(
    opened: Page, server: Server, monitor: PerformanceMonitor
) -> None:
    opened.goto(f"{ADDRESS}/perfmon?kernel_id=train.ipynb")
    expect(opened.locator("#state")).to_have_attribute("data-kind", "live")
    gauge = opened.locator(".perfmon-gauge-detail").first
    server.answers[page.VIEW] = api.no_monitor().response
    ask(opened)
    expect(opened.locator("#state")).to_contain_text(
        "No update: no monitor is running in this kernel; start one"
    )
    expect(gauge).to_contain_text("monitor is stopped, values of ")
    for status in (404, 410):  # there is no such kernel; its process has ended
        server.answers[page.VIEW] = Refusal(status, "it is gone", state="dead").response
        ask(opened)
        expect(opened.locator("#state")).to_have_text("No update: it is gone.")
        expect(gauge).to_have_text("kernel dead")
        server.answers[page.VIEW] = api.no_monitor().response  # it was restarted
        ask(opened)
        expect(gauge).to_contain_text("monitor is stopped, values of ")
    del server.answers[page.VIEW]
    monitor.sample()
    ask(opened)
    expect(opened.locator("#state")).to_have_attribute("data-kind", "live")
    expect(opened.locator(".perfmon-stale")).to_have_count(0)


def test_why_the_numbers_are_old_is_said_with_the_answer_that_shows_it(
    opened: Page, server: Server, monitor: PerformanceMonitor
) -> None:
    opened.clock.install()
    monitor.interval = 1
    opened.goto(f"{ADDRESS}/perfmon?kernel_id=train.ipynb")
    expect(opened.locator("#state")).to_have_attribute("data-kind", "live")
    opened.clock.pause_at(time.time() + 60)  # no second passes any more: only answers change what is shown
    gauge = opened.locator(".perfmon-gauge-detail").first
    for answer, reason in (
        (BROKEN, "kernel disconnected"),
        (Refusal(504, "kernel does not answer: 5 s", state="busy").response, "kernel busy"),
        (BROKEN, "kernel disconnected"),
    ):
        server.answers[page.VIEW] = answer
        ask(opened)
        expect(gauge).to_have_text(re.compile(rf"no update for \d+ s \({reason}\)"))


def test_it_asks_again_soon_after_a_failure_and_less_often_after_many(opened: Page, server: Server) -> None:
    opened.clock.install()
    opened.goto(f"{ADDRESS}/perfmon?kernel_id=train.ipynb")
    expect(opened.locator("#state")).to_have_text("Live: a sample every 3600 s.")
    opened.clock.pause_at(time.time() + 60)
    server.asked.clear()
    server.answers[page.VIEW] = api.no_monitor().response
    ask(opened)
    expect(opened.locator("#state")).to_contain_text("No update: ")
    asked = [server.asked, *seconds(opened, server, 30)]
    assert [at for at, paths in enumerate(asked) if page.VIEW in paths] == [0, 1, 3, 8, 18, 28]
    assert [at for at, paths in enumerate(asked) if KERNELS in paths] == [0, 18, 28]
    del server.answers[page.VIEW]
    ask(opened)
    expect(opened.locator("#state")).to_have_text("Live: a sample every 3600 s.")
    server.answers[page.VIEW] = BROKEN
    ask(opened)
    expect(opened.locator("#state")).to_contain_text("No update: ")
    asked = seconds(opened, server, 2)
    assert [at for at, paths in enumerate(asked, 1) if page.VIEW in paths] == [1]


def test_the_first_sample_is_not_waited_for_a_whole_interval(opened: Page, server: Server) -> None:
    server.monitor = PerformanceMonitor([FakeCollector("cpu_percent")], interval=3600)
    opened.clock.install()
    opened.goto(f"{ADDRESS}/perfmon?kernel_id=train.ipynb")
    expect(opened.locator("#shown")).to_be_visible()
    opened.clock.pause_at(time.time() + 60)
    ask(opened)
    asked = seconds(opened, server, 12)
    assert [at for at, paths in enumerate(asked, 1) if page.VIEW in paths][-2:] == [5, 10]
    server.monitor.sample()
    opened.clock.run_for(5000)
    expect(opened.locator("#newest")).to_contain_text("last sample at ")
    assert page.VIEW not in str(seconds(opened, server, 12))


def test_a_list_of_kernels_that_does_not_come_is_not_an_empty_one(opened: Page, server: Server) -> None:
    state = opened.locator("#state")
    for answer, words in (
        (BROKEN, "No list of kernels: the Jupyter server does not answer."),
        (json_response({"message": "Forbidden", "reason": None}, 403), "No list of kernels: Forbidden."),
        (kernels(), "No kernel has a monitor yet. Run %perfmon in a notebook."),
        (kernels("train.ipynb", "other.ipynb"), "Several kernels have a monitor: choose one."),
        (kernels("train.ipynb"), "Live: a sample every 3600 s."),
    ):
        server.answers[KERNELS] = answer
        if not server.asked:
            opened.goto(f"{ADDRESS}/perfmon")
        ask(opened)
        expect(state).to_have_text(words)
    expect(opened).to_have_title("train.ipynb – Performance")


def test_the_windows_that_are_offered_are_those_of_the_last_answer(
    opened: Page, server: Server, monitor: PerformanceMonitor
) -> None:
    monitor.window = 120
    opened.goto(f"{ADDRESS}/perfmon?kernel_id=train.ipynb")
    choice = opened.locator("#window")
    expect(choice.locator("option")).to_have_text(["1 min", "2 min"])
    expect(choice).to_have_value("120")
    for kept, offered, chosen in (
        (240, ["1 min", "4 min"], "240"),  # what was chosen was not offered any more
        (60, ["1 min"], "60"),
        (600, ["1 min", "5 min", "10 min"], "60"),  # it still is
        (45, ["45 s"], "45"),
        (120, ["1 min", "2 min"], "60"),
    ):
        monitor.window = kept
        ask(opened)
        expect(choice.locator("option")).to_have_text(offered)
        expect(choice).to_have_value(chosen)
