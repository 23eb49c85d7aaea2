"""The live page of serve(): how a browser gets in, what it may do there, and what it costs."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from fakes.collectors import FakeCollector

import perfmon_widgets
from perfmon_widgets import PerformanceMonitor, PerformanceServer, serve
from perfmon_widgets.web import api, page

TOKEN = "a-token-for-tests"
LOGGING = "/api/performance/logging"
JSON = {"Content-Type": "application/json"}


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: str


def ask(server: PerformanceServer, path: str, method: str = "GET", body: str = "", **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    with contextlib.closing(http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=20)) as to:
        to.request(method, path, body.encode() or None, named)
        response = to.getresponse()
        return Answer(response.status, response.headers, response.read().decode())


@pytest.fixture
def monitor(folder: Path) -> Iterator[PerformanceMonitor]:
    monitor = PerformanceMonitor([FakeCollector("cpu_percent")], interval=3600)
    monitor.sample()
    monitor.sample()
    yield monitor
    monitor.stop()


@pytest.fixture
def server(monitor: PerformanceMonitor) -> Iterator[PerformanceServer]:
    with serve(monitor, token=TOKEN) as server:
        yield server


def cookie_of(server: PerformanceServer) -> str:
    """The cookie that a browser has after it has opened ``page_url``."""
    entered = ask(server, server.page_url.removeprefix(server.url))
    assert entered.status == 200
    return entered.headers["Set-Cookie"].partition(";")[0]


# -- getting in ----------------------------------------------------------------------------------------


def test_the_token_is_exchanged_for_a_cookie_that_no_script_and_no_other_site_has(
    server: PerformanceServer,
) -> None:
    entered = ask(server, server.page_url.removeprefix(server.url))
    given, *rules = entered.headers["Set-Cookie"].split("; ")
    assert rules == ["HttpOnly", "SameSite=Strict", "Path=/"]
    name, value = given.split("=")
    assert name == f"perfmon-{server.url.rpartition(':')[2]}"
    assert len(value) >= 32
    assert TOKEN not in value
    # The browser leaves the address with the token for one without it.
    [address] = re.findall(r'http-equiv="refresh" content="0; url=([^"]*)"', entered.body)
    assert address == "perfmon"
    assert TOKEN not in entered.body
    assert ask(server, page.PAGE, Cookie=f"other=1; {given}").status == 200


def test_a_token_of_any_characters_can_be_part_of_the_address(monitor: PerformanceMonitor) -> None:
    with serve(monitor, token="a&b=c#d%20?/+") as server:
        assert cookie_of(server)


@pytest.mark.parametrize("path", ["/perfmon?token=wrong", "/perfmon?token=", "/perfmon", "/perfmon/page.js"])
def test_without_the_token_nobody_gets_a_cookie(server: PerformanceServer, path: str) -> None:
    refused = ask(server, path)
    assert refused.status == 401
    assert refused.headers["Set-Cookie"] is None


def test_only_opening_the_page_gives_a_cookie(server: PerformanceServer) -> None:
    for path in api.ROUTES:
        for method in ("GET", "POST"):
            if (path, method) != (page.PAGE, "GET"):
                assert ask(server, f"{path}?token={TOKEN}", method).headers["Set-Cookie"] is None
    assert ask(server, page.PAGE, Authorization=f"token {TOKEN}").headers["Set-Cookie"] is None


@pytest.mark.parametrize("path", api.ROUTES)
def test_the_cookie_opens_every_path(server: PerformanceServer, path: str) -> None:
    answered = ask(server, path, Cookie=cookie_of(server))
    assert answered.status == 200
    assert answered.headers["X-XSRFToken"]


@pytest.mark.parametrize("path", api.ROUTES)
@pytest.mark.parametrize(
    "change",
    [
        lambda given: given[:-1],
        lambda given: f"{given}x",
        lambda given: f"x{given}",
        lambda given: given.partition("=")[0] + "=",
        lambda given: "=;; =",
        lambda given: given.partition("=")[0] + f"={TOKEN}",
    ],
)
def test_another_cookie_opens_none(
    server: PerformanceServer, path: str, change: Callable[[str], str]
) -> None:
    refused = ask(server, path, Cookie=change(cookie_of(server)))
    assert refused.status == 401
    assert refused.headers["X-XSRFToken"] is None


def test_the_cookie_of_one_server_is_none_of_another(
    server: PerformanceServer, monitor: PerformanceMonitor
) -> None:
    with serve(monitor, token=TOKEN) as other:
        _, _, value = cookie_of(server).partition("=")
        name, _, _ = cookie_of(other).partition("=")
        assert ask(other, page.PAGE, Cookie=f"{name}={value}").status == 401


def test_the_cookie_is_not_enough_to_change_something(server: PerformanceServer, folder: Path) -> None:
    cookie = cookie_of(server)
    for headers in ({}, {"X_XSRFToken": ""}, {"X_XSRFToken": "wrong"}, {"X_XSRFToken": TOKEN}):
        refused = ask(server, LOGGING, "POST", '{"enabled": true}', Cookie=cookie, **JSON, **headers)
        assert refused.status == 403
        assert "X-XSRFToken" in json.loads(refused.body)["message"]
    assert list(folder.iterdir()) == []
    secret = ask(server, page.VIEW, Cookie=cookie).headers["X-XSRFToken"]
    switched = ask(server, LOGGING, "POST", '{"enabled": true}', Cookie=cookie, X_XSRFToken=secret, **JSON)
    assert json.loads(switched.body)["enabled"]


def test_the_cookie_does_not_help_another_host(server: PerformanceServer) -> None:
    assert ask(server, page.PAGE, Cookie=cookie_of(server), Host="evil.example").status == 403


# -- what may happen in it ------------------------------------------------------------------------------


def test_the_page_holds_no_script_and_no_style_and_loads_nothing_from_elsewhere(
    server: PerformanceServer,
) -> None:
    shown = ask(server, page.PAGE, Cookie=cookie_of(server))
    rules = dict(rule.split(" ", 1) for rule in shown.headers["Content-Security-Policy"].split("; "))
    assert rules == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    assert shown.headers["Cache-Control"] == "no-store"
    assert not re.search(r"<style|<script[^>]*>[^<]|\son\w+=|\sstyle=|javascript:", shown.body)
    for path in page.FILES:
        assert "//cdn" not in page.file(path).body.decode()
        assert not re.search(r"https?://(?!www\.w3\.org)", page.file(path).body.decode())


@pytest.mark.parametrize("path", api.ROUTES)
def test_no_answer_can_be_framed_guessed_kept_or_read_by_another_page(
    server: PerformanceServer, path: str
) -> None:
    for headers in ({"Cookie": cookie_of(server)}, {"Authorization": f"token {TOKEN}"}, {}):
        answered = ask(server, path, Origin="http://evil.example", **headers)
        assert answered.headers["Content-Security-Policy"].startswith("default-src 'none'; ")
        assert answered.headers["Content-Security-Policy"].endswith("frame-ancestors 'none'")
        assert "unsafe" not in answered.headers["Content-Security-Policy"]
        assert answered.headers["X-Content-Type-Options"] == "nosniff"
        assert answered.headers["Referrer-Policy"] == "no-referrer"
        assert answered.headers["Cache-Control"] == "no-store"
        assert answered.headers["Access-Control-Allow-Origin"] is None


@pytest.mark.parametrize("path", [*page.FILES, page.VIEW])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_the_page_is_only_read(server: PerformanceServer, path: str, method: str) -> None:
    """Not with the token, nor with the cookie and what the page sends, nor without any of them."""
    cookie = cookie_of(server)
    secret = ask(server, page.VIEW, Cookie=cookie).headers["X-XSRFToken"]
    for headers, status in (
        ({"Authorization": f"token {TOKEN}"}, 405),
        ({"Cookie": cookie, "X_XSRFToken": secret}, 405),
        ({"Cookie": cookie}, 403),
        ({}, 401),
    ):
        refused = ask(server, path, method, "{}", **JSON, **headers)
        assert refused.status == status
        assert list(json.loads(refused.body)) == ["message"]
        assert refused.headers["Set-Cookie"] is None


def test_the_address_with_the_token_is_kept_by_no_cache_and_sent_to_no_other_page(
    server: PerformanceServer,
) -> None:
    entered = ask(server, server.page_url.removeprefix(server.url))
    assert entered.headers["Cache-Control"] == "no-store"
    assert entered.headers["Referrer-Policy"] == "no-referrer"
    assert "script" not in entered.body
    # Whoever puts something behind the token gets nowhere.
    for path in (
        f"{page.PAGE}?token={TOKEN}&token=wrong",
        f"{page.PAGE}?token={TOKEN}x",
        f"{page.PAGE}//?token={TOKEN}",
    ):
        assert ask(server, path).headers["Set-Cookie"] is None


def test_everything_that_the_page_loads_is_there(server: PerformanceServer) -> None:
    cookie = cookie_of(server)
    html = ask(server, page.PAGE, Cookie=cookie).body
    loaded = re.findall(r'(?:src|href)="(perfmon/[^"]*)"', html)
    for script in loaded:
        imported = re.findall(r'from "\./([^"]*)"', ask(server, f"/{script}", Cookie=cookie).body)
        loaded += [f"perfmon/{name}" for name in imported]  # which are looked into next
    assert {f"/{each}" for each in loaded} == set(page.FILES) - {page.PAGE}
    types = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8"}
    for each in loaded:
        answered = ask(server, f"/{each}", Cookie=cookie)
        assert answered.headers["Content-Type"] == types[Path(each).suffix]
        assert answered.headers["X-Content-Type-Options"] == "nosniff"


def test_the_files_are_part_of_the_package() -> None:
    root = Path(perfmon_widgets.__file__).parent
    for _, files in page.FILES.values():
        assert all(each.is_relative_to(root) and each.is_file() for each in files)


@pytest.mark.parametrize("is_long", [True, False])
def test_what_is_long_is_sent_compressed_to_who_can_read_that(
    server: PerformanceServer, monkeypatch: pytest.MonkeyPatch, is_long: bool
) -> None:
    monkeypatch.setattr(page, "_LONG", 100 if is_long else 1_000_000)
    with contextlib.closing(http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=20)) as to:
        for accepted, encoding in (
            ("gzip, deflate, br", "gzip"),
            ("br", None),
            ("gzip;q=0", None),
            ("", None),
        ):
            for path in (page.VIEW, "/api/performance/metrics"):
                to.request(
                    "GET", path, headers={"Authorization": f"token {TOKEN}", "Accept-Encoding": accepted}
                )
                response = to.getresponse()
                body = response.read()
                expected = encoding if path == page.VIEW and is_long else None
                assert response.headers["Content-Encoding"] == expected
                assert json.loads(gzip.decompress(body) if expected else body)


# -- what it costs ---------------------------------------------------------------------------------------


def test_a_program_does_not_load_pandas_for_its_page(run_python: Callable[..., Any]) -> None:
    code = (
        "import sys, perfmon_widgets as p\n"
        "from perfmon_widgets.web import api, request\n"
        "monitor = p.PerformanceMonitor(interval=3600); monitor.sample(); monitor.sample()\n"
        "answered = api.answer(monitor, request.Request('GET', '/perfmon/view'))\n"
        "print(answered.status, b'values' in answered.body, 'pandas' in sys.modules)"
    )
    done = run_python(code)
    assert done.stdout.split() == ["200", "True", "False"], done.stderr
