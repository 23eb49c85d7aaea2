"""The API of a user's server behind a real JupyterHub with its proxy and login, under a base URL."""

from __future__ import annotations

import contextlib
import http.cookiejar
import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from prometheus_client.parser import text_string_to_metric_families

from perfmon_widgets.web import api

PROXY = shutil.which("configurable-http-proxy")
pytestmark = pytest.mark.skipif(PROXY is None, reason="configurable-http-proxy (npm) is not on the PATH")

CURRENT, HISTORY, LOGGING, METRICS, FINDINGS, PROMETHEUS, VIEW, *FILES = api.ROUTES
PAGE = "/perfmon"
EACH_REQUEST = [(method, path) for path, methods in api.ROUTES.items() for method in methods]
DEADLINE = 60.0  # seconds, for what takes a few

CONFIG = """
import sys

c.JupyterHub.bind_url = "http://127.0.0.1:{public}/prefix/"
c.JupyterHub.hub_port = {hub}
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{proxy}"
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.JupyterHub.spawner_class = "simple"
c.SimpleLocalProcessSpawner.home_dir_template = "{folder}/{{username}}"
c.Spawner.cmd = [sys.executable, "-m", "jupyterhub.singleuser"]
c.Spawner.args = ["--allow-root"]
c.Spawner.environment = {{
    "JUPYTER_RUNTIME_DIR": "{folder}/runtime",
    # Off unless somebody asks for it, since JupyterHub 5.
    "JUPYTERHUB_ALLOW_TOKEN_IN_URL": "1",
}}
"""
START = """
import perfmon_widgets
monitor = perfmon_widgets.PerformanceMonitor(interval=3600)
monitor.start()
while monitor.latest is None:
    pass
"""


class Answer(NamedTuple):
    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Person:
    """Somebody with a browser: cookies are kept and redirects followed."""

    def __init__(self, name: str, hub: str) -> None:
        self.name = name
        self.server = f"{hub}/user/{name}"
        self._hub = hub
        self._cookies = http.cookiejar.CookieJar()
        self._browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self._cookies))
        self.token = ""

    def ask(self, url: str, method: str = "GET", body: bytes | None = None, **headers: str) -> Answer:
        """What the browser gets, whatever its status."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(url, body, headers, method=method)
        try:
            with self._browser.open(request, timeout=DEADLINE) as response:
                return Answer(response.status, response.headers, response.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.headers, error.read())

    def xsrf(self, path: str) -> str:
        """What a page below this path sends back with each request that changes something."""
        return next(each.value or "" for each in self._cookies if (each.name, each.path) == ("_xsrf", path))

    def log_in(self) -> None:
        """Through the form, as a person does; then a token is made, as on the Hub's page for tokens."""
        self.ask(f"{self._hub}/hub/login")
        form = {"username": self.name, "password": "any", "_xsrf": self.xsrf("/prefix/hub/")}
        page = self.ask(f"{self._hub}/hub/login", "POST", urllib.parse.urlencode(form).encode())
        assert page.status == 200
        self.token = self.ask_hub("tokens", b"{}").json["token"]

    def ask_hub(self, what: str, body: bytes = b"") -> Answer:
        url = f"{self._hub}/hub/api/users/{self.name}/{what}"
        answer = self.ask(url, "POST", body, X_XSRFToken=self.xsrf("/prefix/hub/"), Content_Type=api.JSON)
        assert answer.status in (201, 202), answer.body
        return answer


def unused_ports(*names: str) -> dict[str, int]:
    with contextlib.ExitStack() as opened:
        sockets = [opened.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in names]
        return {name: each.getsockname()[1] for name, each in zip(names, sockets, strict=True)}


@contextlib.contextmanager
def running_hub(folder: Path) -> Iterator[str]:
    """The URL of a JupyterHub that runs until the end of the block."""
    ports = unused_ports("public", "hub", "proxy")
    (folder / "config.py").write_text(CONFIG.format(folder=folder, **ports))
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyterhub", "-f", "config.py"], cwd=folder, stdout=log, stderr=log
        )
    try:
        yield f"http://127.0.0.1:{ports['public']}/prefix"
    except BaseException:
        print((folder / "log").read_text())
        raise
    finally:
        process.terminate()
        process.wait(DEADLINE)


def wait_for(url: str, person: Person, **headers: str) -> None:
    deadline = time.monotonic() + DEADLINE
    while True:
        with contextlib.suppress(ConnectionError, urllib.error.URLError):
            if person.ask(url, **headers).status == 200:
                return
        assert time.monotonic() < deadline, f"{url} did not come up"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Person, Person]]:
    """Two who are logged in; the first has a server, in one of whose kernels a monitor runs."""
    folder = tmp_path_factory.mktemp("hub")
    with running_hub(folder) as hub:
        ada, bob = Person("ada", hub), Person("bob", hub)
        wait_for(f"{hub}/hub/api", ada)
        ada.log_in()
        ada.ask_hub("server")
        bob.log_in()
        token = {"Authorization": f"token {ada.token}"}
        wait_for(f"{ada.server}/api/status", ada, **token)
        kernel = ada.ask(f"{ada.server}/api/kernels", "POST", b"{}", **token).json["id"]
        client = BlockingKernelClient()
        client.load_connection_file(str(folder / "runtime" / f"kernel-{kernel}.json"))
        # Otherwise a kernel that needs more than a second to answer, on a busy machine, is taken for dead.
        client.hb_channel.time_to_dead = DEADLINE
        client.start_channels()
        try:
            client.wait_for_ready(timeout=DEADLINE)
            reply = client.execute_interactive(START, timeout=DEADLINE)
            assert reply["content"]["status"] == "ok"
        finally:
            client.stop_channels()
        yield ada, bob


@pytest.fixture
def ada(people: tuple[Person, Person]) -> Person:
    return people[0]


@pytest.fixture
def stranger(ada: Person) -> Person:
    """Somebody whose browser has never been here."""
    return Person("nobody", ada.server.partition("/user/")[0])


def bearing(token: str) -> dict[str, str]:
    return {"Authorization": f"token {token}"}


def test_a_token_of_the_hub_opens_every_route(ada: Person, stranger: Person) -> None:
    for path in api.ROUTES:
        by_header = stranger.ask(f"{ada.server}{path}", **bearing(ada.token))
        in_the_url = stranger.ask(f"{ada.server}{path}?token={ada.token}")
        assert (by_header.status, in_the_url.status) == (200, 200)
    current = stranger.ask(f"{ada.server}{CURRENT}", **bearing(ada.token)).json
    assert current["values"]["ram_used_bytes"] > 0
    history = stranger.ask(f"{ada.server}{HISTORY}?since={current['time']}&token={ada.token}").json
    assert history["time"] == []
    page = stranger.ask(f"{ada.server}{PROMETHEUS}", **bearing(ada.token)).body.decode()
    families = {family.name for family in text_string_to_metric_families(page)}
    assert {"http_request_duration_seconds", "perfmon_ram_used_bytes"} <= families


def is_refused(answer: Answer, path: str) -> None:
    """Fails unless this says nothing; the live page leads to the Hub's login, which answers with 200."""
    assert answer.status == 403 or (path == PAGE and answer.status == 200)
    assert b"perfmon/page.js" not in answer.body


@pytest.mark.parametrize(("method", "path"), EACH_REQUEST)
def test_nobody_else_gets_in(people: tuple[Person, Person], stranger: Person, method: str, path: str) -> None:
    ada, bob = people
    url = f"{ada.server}{path}"
    body = b'{"enabled": true}' if method == "POST" else None
    for headers in ({}, bearing("wrong"), bearing(bob.token)):
        refused = stranger.ask(url, method, body, **headers, Content_Type=api.JSON)
        is_refused(refused, path)
        assert b"perfmon_" not in refused.body
    for asking in (stranger.ask(f"{url}?token={bob.token}", method, body), bob.ask(url, method, body)):
        is_refused(asking, path)
    assert stranger.ask(f"{ada.server}{LOGGING}", **bearing(ada.token)).json["enabled"] is False


def test_the_log_is_switched(ada: Person, stranger: Person) -> None:
    def switch(body: bytes) -> Answer:
        url = f"{ada.server}{LOGGING}"
        return stranger.ask(url, "POST", body, **bearing(ada.token), Content_Type=api.JSON)

    answer = switch(b'{"enabled": true, "path": "run.csv"}').json
    assert (answer["enabled"], answer["path"]) == (True, "run.csv")
    assert answer["rows"] in (1, 2)  # with that at the end of the cell, if starting took a while
    assert switch(b'{"enabled": true, "path": "../run.csv"}').status == 400
    assert switch(b'{"enabled": false}').json["enabled"] is False


def test_in_a_browser_the_login_is_enough_but_a_post_needs_the_xsrf_token(ada: Person) -> None:
    url = f"{ada.server}{LOGGING}"
    assert ada.ask(f"{ada.server}/lab").status == 200
    assert ada.ask(url).json["enabled"] is False
    assert ada.ask(url, "POST", b'{"enabled": true}', Content_Type=api.JSON).status == 403
    headers = {"Content_Type": api.JSON, "X_XSRFToken": ada.xsrf("/prefix/user/ada/")}
    assert ada.ask(url, "POST", b'{"enabled": false}', **headers).status == 200
