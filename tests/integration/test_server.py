"""serve(): the API from this process, over real sockets."""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import os
import socket
import statistics
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from fakes.collectors import FakeCollector
from fakes.threads import wait_until

import perfmon_widgets
from perfmon_widgets import PerformanceMonitor, PerformanceServer, serve
from perfmon_widgets.core.parts import paced
from perfmon_widgets.core.registry import registry
from perfmon_widgets.web import api
from perfmon_widgets.web.request import Request

CURRENT, HISTORY, LOGGING, METRICS, FINDINGS, PROMETHEUS, VIEW, *FILES = api.ROUTES
TOKEN = "a-token-for-tests"
JSON = {"Content-Type": "application/json"}


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        assert self.headers["Content-Type"] == "application/json"
        return json.loads(self.body)


def ask(
    server: PerformanceServer,
    path: str,
    method: str = "GET",
    body: bytes | None = None,
    token: str | None = TOKEN,
    **headers: str,
) -> Answer:
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    if token is not None:
        headers["Authorization"] = f"token {token}"
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=20)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()


def switch(server: PerformanceServer, content: object, **headers: str) -> Answer:
    return ask(
        server,
        LOGGING,
        "POST",
        json.dumps(content).encode(),
        **{"Content_Type": "application/json", **headers},
    )


@pytest.fixture
def monitor(folder: Path) -> Iterator[PerformanceMonitor]:
    monitor = PerformanceMonitor([FakeCollector("cpu_percent", "gpu0/power_watts")], interval=3600)
    monitor.sample()
    yield monitor
    monitor.stop()


@pytest.fixture
def server(monitor: PerformanceMonitor) -> Iterator[PerformanceServer]:
    with serve(monitor, token=TOKEN) as server:
        yield server


# -- answering -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", api.ROUTES)
def test_it_answers_what_the_api_answers(
    server: PerformanceServer, monitor: PerformanceMonitor, path: str
) -> None:
    expected = api.answer(monitor, api.Request("GET", path))
    answered = ask(server, path)
    assert (answered.status, answered.headers["Content-Type"], answered.body) == expected


def test_the_log_is_switched(server: PerformanceServer, folder: Path) -> None:
    assert switch(server, {"enabled": True, "path": "run.csv"}).json == {
        "enabled": True,
        "path": "run.csv",
        "rows": 1,
    }
    assert switch(server, {"enabled": False}).json["enabled"] is False
    assert (folder / "run.csv").read_text().count("\n") == 2


def test_the_query_is_handed_on(server: PerformanceServer) -> None:
    newest = ask(server, CURRENT).json["time"]
    assert ask(server, f"{HISTORY}?since={newest}").json["time"] == []
    unencoded = newest.replace("Z", "+00:00")
    assert ask(server, f"{HISTORY}?since={unencoded}").json["time"] == []
    assert ask(server, f"{HISTORY}?format=csv").headers["Content-Type"] == "text/csv; charset=utf-8"
    assert "since" in ask(server, f"{HISTORY}?since=").json["message"]


def test_a_stopped_monitor_still_answers(server: PerformanceServer, monitor: PerformanceMonitor) -> None:
    monitor.stop()
    assert ask(server, CURRENT).status == 200


def test_what_is_not_there_is_refused_in_json(server: PerformanceServer) -> None:
    assert ask(server, "/").json["message"].startswith("path: ")
    for path in api.ROUTES:
        for method in ("PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
            refused = ask(server, path, method)
            assert refused.status == 405
            assert refused.headers["Allow"] == ", ".join(api.methods(path))
            assert refused.json["message"]
        assert ask(server, path, "HEAD").status == 405


# -- who may ask ---------------------------------------------------------------------------------------


def each_request() -> list[tuple[str, str]]:
    """Every route there is, and some that are not: a new one can't be forgotten."""
    known = [(method, path) for path, methods in api.ROUTES.items() for method in methods]
    return [*known, ("PUT", CURRENT), ("OPTIONS", CURRENT), ("GET", "/"), ("GET", "/api/nothing")]


@pytest.mark.parametrize(("method", "path"), each_request())
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "token wrong"},
        {"Authorization": "token"},
        {"Authorization": "token "},
        {"Authorization": TOKEN},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": f"token {TOKEN}x"},
        {"Authorization": f"token {TOKEN[:-1]}"},
        {"Authorization": "token \xff"},
        {"Cookie": f"token={TOKEN}"},
    ],
)
def test_without_the_token_nothing_is_said_or_done(
    server: PerformanceServer, folder: Path, method: str, path: str, headers: dict[str, str]
) -> None:
    refused = ask(server, path, method, b'{"enabled": true}', None, **JSON, **headers)
    assert refused.status == 401
    assert refused.headers["WWW-Authenticate"]
    assert set(refused.json) == {"message"}
    assert TOKEN not in refused.body.decode()
    assert os.listdir(folder) == []


@pytest.mark.parametrize("path", api.ROUTES)
def test_the_token_may_come_in_three_ways(server: PerformanceServer, path: str) -> None:
    assert ask(server, path, token=None, Authorization=f"Bearer {TOKEN}").status == 200
    assert ask(server, path, token=None, Authorization=f"TOKEN {TOKEN}").status == 200
    assert ask(server, f"{path}?token={TOKEN}", token=None).status == 200
    assert ask(server, f"{path}?token={TOKEN}x", token=None).status == 401
    # A proxy's own login does not stand in the way.
    assert ask(server, f"{path}?token={TOKEN}", token=None, Authorization="Basic eDp5").status == 200


def test_the_token_is_random_unless_given(monitor: PerformanceMonitor) -> None:
    with serve(monitor) as one, serve(monitor) as two:
        assert one.token != two.token
        assert len(one.token) >= 32
        assert one.token not in repr(one)
        assert one.token not in one.url
        assert ask(two, CURRENT, token=one.token).status == 401


@pytest.mark.parametrize("token", ["", " ", "two words", "line\n", "ümlaut", 5, b"bytes"])
def test_a_token_that_no_header_can_carry_is_refused(monitor: PerformanceMonitor, token: Any) -> None:
    with pytest.raises(ValueError, match="token"):
        serve(monitor, token=token)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:80",
        "localhost.evil.example",
        "127.0.0.1.nip.io",
        "10.0.0.1",
        "",
        "[::1",
        "[fe80::1]",
        "localhost:port",
        "0.0.0.0",
        "169.254.169.254",
    ],
)
def test_another_name_is_refused(server: PerformanceServer, host: str) -> None:
    """DNS rebinding: a foreign page has its own name lead to this machine."""
    refused = ask(server, CURRENT, Host=host)
    assert refused.status == 403
    assert refused.json["message"].startswith("Host: ")


def test_our_names_are_accepted(server: PerformanceServer) -> None:
    port = server.url.rpartition(":")[2]
    for host in ("localhost", "LOCALHOST:9999", "127.0.0.1", f"127.0.0.1:{port}", "[::1]:80", "127.1.2.3"):
        assert ask(server, CURRENT, Host=host).status == 200


def test_listening_on_all_addresses_it_knows_the_machine(monitor: PerformanceMonitor) -> None:
    with serve(monitor, host="0.0.0.0", token=TOKEN) as server:
        assert server.url.startswith("http://127.0.0.1:")
        assert ask(server, CURRENT, Host="10.0.0.1:80").status == 200
        assert ask(server, CURRENT, Host=socket.gethostname()).status == 200
        assert ask(server, CURRENT, Host="evil.example").status == 403


def test_only_this_machine_can_reach_it(server: PerformanceServer) -> None:
    assert server._socket.getsockname()[0] == "127.0.0.1"


def test_a_foreign_page_gets_no_leave(server: PerformanceServer) -> None:
    for method, path in each_request():
        answered = ask(server, path, method, Origin="https://evil.example")
        assert not [name for name in answered.headers if name.lower().startswith("access-control")]
        assert answered.headers["Cache-Control"] == "no-store"
        assert answered.headers["X-Content-Type-Options"] == "nosniff"


def test_a_post_needs_json(server: PerformanceServer, folder: Path) -> None:
    """What a form of a foreign page can send without asking first."""
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        assert switch(server, {"enabled": True}, Content_Type=kind).status == 415
    assert os.listdir(folder) == []


def test_the_token_is_in_no_log_and_no_error(
    server: PerformanceServer,
    monitor: PerformanceMonitor,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.DEBUG)
    ask(server, f"/nothing?token={TOKEN}", token=None)
    ask(server, f"{HISTORY}?since=x&token={TOKEN}", token=None)
    ask(server, f"{CURRENT}?token={TOKEN}", "PUT", token=None)

    def fail(*_: object) -> None:
        raise ValueError("unforeseen")

    monkeypatch.setattr("perfmon_widgets.web.api.answer", fail)
    failed = ask(server, f"{CURRENT}?token={TOKEN}", token=None)
    assert failed.status == 500
    assert set(failed.json) == {"message"}
    assert "unforeseen" in caplog.text
    assert TOKEN not in caplog.text


# -- clients that misbehave ----------------------------------------------------------------------------


AUTHORIZED = b"GET %s HTTP/1.1\r\nHost: localhost\r\nAuthorization: token " + TOKEN.encode() + b"\r\n\r\n"


def raw(server: PerformanceServer, content: bytes) -> socket.socket:
    host, _, port = server.url.removeprefix("http://").rpartition(":")
    connection = socket.create_connection((host, int(port)), timeout=20)
    connection.sendall(content)
    return connection


def test_a_long_body_is_not_read(server: PerformanceServer) -> None:
    lines = [f"POST {LOGGING} HTTP/1.1", "Host: localhost", f"Authorization: token {TOKEN}"]
    head = "\r\n".join([*lines, "Content-Type: application/json", ""])
    with raw(server, f"{head}Content-Length: 1000000000\r\n\r\n".encode()) as connection:
        answered = connection.recv(4096)
        assert answered.startswith(b"HTTP/1.1 413 ")
        assert b'"message"' in answered + connection.recv(4096)
    # The same without saying so: in chunks.
    chunk = b"4000\r\n" + b" " * 0x4000 + b"\r\n"
    with raw(
        server, f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + 2 * chunk + b"0\r\n\r\n"
    ) as connection:
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")
    with raw(
        server, f"{head}Content-Length: 1000000000\r\n\r\n".replace(TOKEN, "wrong").encode()
    ) as connection:
        assert connection.recv(4096).startswith(b"HTTP/1.1 401 ")
    assert ask(server, CURRENT).status == 200


@pytest.mark.parametrize(
    "content", [b"\0\xff\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"X: " + b"x" * 70_000]
)
def test_what_is_no_http_ends_the_connection(server: PerformanceServer, content: bytes) -> None:
    with raw(server, content) as connection, contextlib.suppress(ConnectionResetError):
        assert connection.recv(4096)[:12] in (b"", b"HTTP/1.1 400", b"HTTP/1.1 405")
    assert ask(server, CURRENT).status == 200


def test_a_client_that_does_not_read_delays_nobody(folder: Path) -> None:
    monitor = PerformanceMonitor([FakeCollector(*(f"x{i}/cpu_percent" for i in range(200)))], interval=0.02)
    for _ in range(400):
        monitor.sample()
    with monitor, serve(monitor, token=TOKEN) as server:
        request = (
            f"GET {HISTORY} HTTP/1.1\r\nHost: localhost\r\nAuthorization: token {TOKEN}\r\n\r\n".encode()
        )
        sleeping = [raw(server, request) for _ in range(5)]
        half = [raw(server, request[:50]) for _ in range(5)]
        before = monitor._history.count
        deadline = time.monotonic() + 20
        while monitor._history.count < before + 5:
            assert time.monotonic() < deadline
            assert ask(server, CURRENT).status == 200
        for connection in (*sleeping, *half):
            connection.close()


def test_fifty_clients_cost_no_sample(folder: Path) -> None:
    """As they would ask each second for four seconds, but all at once."""
    monitor = PerformanceMonitor([FakeCollector(*(f"x{i}/cpu_percent" for i in range(60)))], interval=0.5)
    monitor.sample()  # there is an answer for the fastest of them
    with monitor, serve(monitor, token=TOKEN) as server:
        before = monitor._history.count
        with ThreadPoolExecutor(50) as clients:
            answers = list(clients.map(lambda _: ask(server, CURRENT).status, range(200)))
        deadline = time.monotonic() + 20
        while monitor._history.count < before + 3:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert answers == [200] * 200
        assert monitor.missed == 0


def test_connections_without_the_token_do_not_keep_its_owner_out(server: PerformanceServer) -> None:
    with contextlib.ExitStack() as idle:
        first, *_ = [idle.enter_context(raw(server, b"GET")) for _ in range(150)]
        assert ask(server, CURRENT).status == 200
        assert first.recv(1) == b""
        assert server.refused >= 130
        assert len(server._connections.sockets()) <= 23  # 20, the port, and one that has just ended


def test_a_connection_without_the_token_has_a_few_seconds(
    server: PerformanceServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perfmon_widgets.web.connections._STRANGER_SECONDS", 0.2)
    with raw(server, AUTHORIZED % CURRENT.encode()) as owner, raw(server, b"GET / HT") as stranger:
        assert stranger.recv(1) == b""
        assert server.refused == 1
        owner.recv(4096)
        owner.sendall(AUTHORIZED % CURRENT.encode())
        assert owner.recv(4096).startswith(b"HTTP/1.1 200 ")


@pytest.fixture
def long_history(folder: Path) -> PerformanceMonitor:
    """A history of some megabytes, more than the OS kernel takes from one who does not read."""
    monitor = PerformanceMonitor([FakeCollector(*(f"core{i}/used_bytes" for i in range(300)))])
    for _ in range(6000):
        monitor.sample()
    return monitor


def test_what_slow_readers_leave_unread_is_limited(
    long_history: PerformanceMonitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a history that is not long enough to be made in parts."""
    monkeypatch.setattr("perfmon_widgets.web.api._FEW_VALUES", 10**9)
    monkeypatch.setattr("perfmon_widgets.web.handler._MAX_UNSENT", 40_000_000)
    with serve(long_history, token=TOKEN) as server, contextlib.ExitStack() as slow:
        size = len(ask(server, HISTORY).body)
        assert 8_000_000 < size < 20_000_000
        requests = server._connections._http.request_callback
        for _ in range(10):
            slow.enter_context(raw(server, AUTHORIZED % HISTORY.encode()))
        wait_until(lambda: requests.unsent >= 40_000_000 - size)
        assert requests.unsent <= 40_000_000
        assert ask(server, HISTORY).status == 503
        assert ask(server, CURRENT).status == 200
        slow.close()
        wait_until(lambda: requests.unsent == 0)
        monkeypatch.setattr("perfmon_widgets.web.handler._READ_SECONDS", 0.2)
        with raw(server, AUTHORIZED % HISTORY.encode()):
            wait_until(lambda: requests.unsent > 0)
            wait_until(lambda: requests.unsent == 0)  # the connection has been closed


@pytest.mark.parametrize("kind", ["json", "csv"])
def test_a_long_history_is_made_as_it_is_read(
    long_history: PerformanceMonitor, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Clients that read nothing had it made as a whole, each."""
    monkeypatch.setattr("perfmon_widgets.web.background._TIMEOUT", 0.3)
    made = []

    def counted(parts: Iterable[bytes]) -> Iterator[bytes]:
        for part in paced(parts):
            made.append(len(part))
            yield part

    path = f"{HISTORY}?format={kind}"
    whole = api.answer(long_history, Request("GET", HISTORY, {"format": kind})).body
    monkeypatch.setattr(api, "paced", counted)
    with serve(long_history, token=TOKEN) as server:
        assert ask(server, path).body == whole
        made.clear()
        with contextlib.ExitStack() as slow:
            for _ in range(3):
                slow.enter_context(raw(server, AUTHORIZED % path.encode()))
            wait_until(lambda: made)
            # Meanwhile the others are refused, and all that is short is answered.
            assert ask(server, path).status == 503
            assert ask(server, CURRENT).status == 200
            assert sum(made) < 0.8 * len(whole)
        wait_until(lambda: ask(server, path).status == 200)
        assert ask(server, path).body == whole


def is_answering() -> bool:
    """Whether a request is being answered that may take long."""
    return any(each.name == "perfmon-request" for each in threading.enumerate())


def test_a_client_that_reads_too_slowly_is_cut_off(
    long_history: PerformanceMonitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perfmon_widgets.web.handler._READ_SECONDS", 0.2)
    with serve(long_history, token=TOKEN) as server, raw(server, AUTHORIZED % HISTORY.encode()) as slow:
        wait_until(is_answering)
        wait_until(lambda: not is_answering())
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while more := slow.recv(2**20):
                answer += more
        # It cannot take that for the whole: the last chunk is missing.
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert not answer.endswith(b"0\r\n\r\n")
        assert ask(server, CURRENT).status == 200


def test_an_old_client_gets_a_long_history_up_to_the_end_of_the_connection(
    long_history: PerformanceMonitor,
) -> None:
    whole = api.answer(long_history, Request("GET", HISTORY)).body
    request = (AUTHORIZED % HISTORY.encode()).replace(b"HTTP/1.1", b"HTTP/1.0")
    with serve(long_history, token=TOKEN) as server, raw(server, request) as old:
        answer = b""
        while more := old.recv(2**20):
            answer += more
    assert answer.partition(b"\r\n\r\n")[2] == whole


def test_a_disk_that_hangs_delays_only_what_needs_it(
    server: PerformanceServer, monitor: PerformanceMonitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = threading.Event()
    monkeypatch.setattr(monitor.log, "start", lambda path: there.wait(20))
    monkeypatch.setattr("perfmon_widgets.web.background._TIMEOUT", 0.1)
    with ThreadPoolExecutor(1) as threads:
        switched = threads.submit(switch, server, {"enabled": True})
        wait_until(is_answering)
        for path in api.ROUTES:
            assert ask(server, path).status == 200
        assert switch(server, {"enabled": False}).status == 503
        assert not switched.done()
        there.set()
        assert switched.result().status == 200


# -- what is refused -----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["BREW", "GET2", "PROPFIND"])
@pytest.mark.parametrize(
    ("headers", "status"),
    [({"Host": "evil.example"}, 403), ({"Authorization": "token wrong"}, 401), ({}, 404)],
)
def test_a_method_that_does_not_exist_is_refused_like_every_other(
    server: PerformanceServer,
    caplog: pytest.LogCaptureFixture,
    method: str,
    headers: dict[str, str],
    status: int,
) -> None:
    caplog.set_level(logging.WARNING)
    headers = {"Authorization": f"token {TOKEN}", **headers}
    refused = ask(server, "/PWNED", method, token=None, **headers)
    assert refused.status == status
    assert set(refused.json) == {"message"}
    assert server.refused == 1
    assert ask(server, CURRENT, method).status == 405
    assert caplog.text == ""


def test_what_is_refused_is_counted_and_logged_once_a_minute_without_what_was_sent(
    server: PerformanceServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the level INFO, which many notebooks set: what is logged is shown below the running cell."""
    caplog.set_level(logging.INFO)
    contents = (
        b"PWNED\r\n\r\n",
        b"GET /PWNED HTTP/1.1\r\nPWNED\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000,
        b"PWNED /PWNED HTTP/1.1\r\nHost: PWNED\r\nConnection: close\r\n\r\n",
    )
    for content in contents * 5:
        with raw(server, content) as connection, contextlib.suppress(ConnectionResetError):
            while connection.recv(4096):
                pass
    assert ask(server, CURRENT).status == 200
    assert server.refused == 20
    assert [record.name for record in caplog.records] == ["perfmon_widgets.web.refusals"]
    assert "PWNED" not in caplog.text
    monkeypatch.setattr("perfmon_widgets.web.refusals._SECONDS_BETWEEN_LINES", 0.0)
    ask(server, CURRENT, token="wrong")
    assert "21 requests refused" in caplog.text


def test_the_log_of_tornado_is_as_before_for_everybody_else(
    server: PerformanceServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Dask, which another test may have imported, turns it off.
    monkeypatch.setattr(logging.getLogger("tornado"), "propagate", True)
    caplog.set_level(logging.INFO)
    caplog.set_level(logging.INFO, logger="tornado")
    logging.getLogger("tornado.general").info("something else")
    server.stop()
    assert "something else" in caplog.text
    assert logging.getLogger("tornado.general").filters == []


# -- other event loops ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "patched",
    [
        """
try:
    import nest_asyncio2 as nest_asyncio
except ImportError:  # with older versions of ipykernel
    import nest_asyncio
nest_asyncio.apply()
""",
        # As uvloop.install() does: the policy makes loops of another kind.
        """
class Policy(asyncio.DefaultEventLoopPolicy):
    def new_event_loop(self):
        raise AssertionError("another kind of loop")
asyncio.set_event_loop_policy(Policy())
""",
    ],
)
def test_it_has_an_event_loop_of_its_own(run_python: Callable[..., Any], patched: str) -> None:
    code = f"""
import asyncio, urllib.request, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # policies, from Python 3.14 on
{patched}
from perfmon_widgets import PerformanceMonitor, serve
with serve(PerformanceMonitor([]), token="x") as server:
    with urllib.request.urlopen(server.url + "/metrics?token=x", timeout=20) as response:
        print(response.status)
print(server.running)
"""
    ended = run_python(code)
    assert ended.stdout.splitlines() == ["200", "False"]
    assert ended.stderr == ""


@pytest.mark.skipif(os.name == "nt", reason="there is no such limit")
def test_without_a_descriptor_for_a_client_it_waits_quietly(run_python: Callable[..., Any]) -> None:
    """All are in use, by the user's own files: the client is answered when there is one again."""
    code = """
import contextlib, os, resource, socket, time
from perfmon_widgets import PerformanceMonitor, serve
server = serve(PerformanceMonitor([]), token="x")
address = ("127.0.0.1", int(server.url.rpartition(":")[2]))
waiting = socket.create_connection(address, timeout=30)
waiting.sendall(b"GET / HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n")
assert waiting.recv(12) == b"HTTP/1.1 401"  # all that it takes is imported
waiting.close()
waiting = socket.socket()
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
filling = []
with contextlib.suppress(OSError):
    while True:
        filling.append(os.dup(0))
waiting.settimeout(30)
waiting.connect(address)
waiting.sendall(b"GET / HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
began = time.process_time()
time.sleep(1)
print("busy:", time.process_time() - began > 0.5)
for descriptor in filling:
    os.close(descriptor)
print(waiting.recv(12))
waiting.close()
server.stop()
"""
    ended = run_python(code)
    assert ended.stdout.splitlines() == ["busy: False", "b'HTTP/1.1 401'"]
    assert ended.stderr == ""


# -- a busy process ------------------------------------------------------------------------------------


def test_it_answers_while_the_main_thread_runs_python(
    server: PerformanceServer, record_property: Callable[[str, object], None]
) -> None:
    took: list[float] = []
    done = threading.Event()

    def client() -> None:
        try:
            for path in (CURRENT, HISTORY) * 10:
                started = time.perf_counter()
                assert ask(server, path).status == 200
                took.append(time.perf_counter() - started)
            assert switch(server, {"enabled": True, "path": "busy.csv"}).json["enabled"] is True
        finally:
            done.set()

    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(client)
        number = 0
        while not done.is_set():
            number += 1  # nothing that would let another thread in of its own accord
        running.result()
    record_property("median_milliseconds", 1000 * statistics.median(took))


# -- coming and going ----------------------------------------------------------------------------------


def servers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "perfmon-server"]


def test_stop_closes_the_port_and_ends_the_thread(monitor: PerformanceMonitor) -> None:
    server = serve(monitor, token=TOKEN)
    assert servers() == ["perfmon-server"]
    assert "running" in repr(server)
    port = int(server.url.rpartition(":")[2])
    open_one = raw(server, b"")
    server.stop()
    server.stop()
    assert servers() == []
    assert "stopped" in repr(server)
    assert open_one.recv(1) == b""
    open_one.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)
    with serve(monitor, port=port, token=TOKEN) as again:
        assert ask(again, CURRENT).status == 200


def test_without_a_monitor_it_is_the_one_that_runs(
    monitor: PerformanceMonitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "shared", None)
    with monitor, serve(token=TOKEN) as server:
        assert ask(server, CURRENT).json["values"].keys() == {"cpu_percent", "gpu0/power_watts"}
    assert registry.shared is None


def test_anything_that_fits_the_protocol_is_served(monitor: PerformanceMonitor) -> None:
    class Another:
        """Not a PerformanceMonitor, but has all of one."""

        def __getattr__(self, name: str) -> Any:
            return getattr(monitor, name)

        def __dir__(self) -> list[str]:
            return dir(monitor)

    with serve(Another(), token=TOKEN) as server:
        assert {path: ask(server, path).status for path in api.ROUTES} == dict.fromkeys(api.ROUTES, 200)
    with pytest.raises(TypeError, match=r"^monitor must be a PerformanceMonitor, not int, which has no '"):
        serve(3)


def test_without_a_monitor_it_is_the_shared_one_started(
    monitor: PerformanceMonitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "shared", monitor)
    with serve(token=TOKEN) as server:
        assert monitor.running
        assert ask(server, CURRENT).status == 200
    assert monitor.running


@pytest.mark.parametrize("port", [-1, 65536, 70000])
def test_a_port_that_cannot_be_is_refused(monitor: PerformanceMonitor, port: int) -> None:
    with pytest.raises(ValueError, match=f"^port must be .* not {port}$"):
        serve(monitor, port=port)


def test_an_address_in_use_is_the_callers_error(
    server: PerformanceServer, monitor: PerformanceMonitor
) -> None:
    for address in ({"port": int(server.url.rpartition(":")[2])}, {"host": "192.0.2.1"}):
        with pytest.raises(OSError, match=r"while attempting to bind"):
            serve(monitor, **address)
    assert servers() == ["perfmon-server"]


@pytest.mark.skipif(os.name == "nt", reason="there is no such limit")
def test_no_descriptor_left_for_the_loop_is_the_callers_error(run_python: Callable[..., Any]) -> None:
    """There is one for the port, and none for what waits for requests."""
    code = """
import contextlib, os, resource, threading
from perfmon_widgets import PerformanceMonitor, serve
monitor = PerformanceMonitor([])
serve(monitor).stop()  # all that it takes is imported
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
filling = []
with contextlib.suppress(OSError):
    while True:
        filling.append(os.dup(0))
os.close(filling[-1])
try:
    serve(monitor)
except OSError as error:
    print(error.strerror)
print(os.dup(0) == filling[-1])
print([thread.name for thread in threading.enumerate()])
"""
    ended = run_python(code)
    assert ended.stdout.splitlines() == ["Too many open files", "True", "['MainThread']"]


def test_an_interrupt_while_it_starts_leaves_nothing_behind(
    monitor: PerformanceMonitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[socket.socket] = []
    listen = perfmon_widgets.web.server._listen

    def remember(*address: Any) -> socket.socket:
        opened.append(listen(*address))
        return opened[-1]

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("perfmon_widgets.web.server._listen", remember)
    monkeypatch.setattr(registry, "shared", monitor)
    monkeypatch.setattr(monitor, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        serve()
    assert opened[0].fileno() == -1
    assert servers() == []


def test_the_sixth_version_of_the_internet(monitor: PerformanceMonitor) -> None:
    try:
        server = serve(monitor, host="::1", token=TOKEN)
    except OSError:
        pytest.skip("no IPv6 here")
    with server:
        assert server.url.startswith("http://[::1]:")
        request = urllib.request.Request(server.url + CURRENT, headers={"Authorization": f"token {TOKEN}"})
        with urllib.request.urlopen(request, timeout=20) as response:
            assert response.status == 200


def test_a_forked_child_does_not_hold_the_port(
    server: PerformanceServer, forked: Callable[[Callable[[], object]], Any]
) -> None:
    assert forked(lambda: (server._socket.fileno(), server.running)) == (-1, False)
    assert ask(server, CURRENT).status == 200


def test_a_forked_child_does_not_hold_a_connection(
    server: PerformanceServer, forked: Callable[[Callable[[], object]], Any]
) -> None:
    """A client hears of the end when the server stops, not when the last child of the process has ended."""
    request = f"GET {CURRENT} HTTP/1.1\r\nHost: localhost\r\nAuthorization: token {TOKEN}\r\n\r\n"

    with raw(server, request.encode()) as client:
        assert client.recv(12) == b"HTTP/1.1 200"
        sockets = server._connections.sockets()
        assert len(sockets) == 2
        assert forked(lambda: {each.fileno() for each in sockets}) == {-1}
        client.sendall(request.encode())
        assert client.recv(4096)


def test_an_interpreter_ends_with_it_running(run_python: Callable[..., Any]) -> None:
    code = (
        "from perfmon_widgets import PerformanceMonitor, serve;"
        "m = PerformanceMonitor(interval=0.05); m.start(); s = serve(m); print(s.url)"
    )
    ended = run_python(code)
    assert ended.returncode == 0
    assert ended.stdout.startswith("http://127.0.0.1:")
    assert ended.stderr == ""


def test_the_package_loads_it_on_first_use() -> None:
    assert perfmon_widgets.serve is serve
    assert perfmon_widgets.PerformanceServer is PerformanceServer
