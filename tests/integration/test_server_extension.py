"""The API behind a Jupyter server: a real server in this process, real kernels, a running monitor."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ipykernels import NEWEST, OLDER, install_kernelspecs
from jupyter_core.utils import ensure_async
from prometheus_client.parser import text_string_to_metric_families

from perfmon_widgets import _jupyter_server_extension_points
from perfmon_widgets.core.csv_read import read_csv
from perfmon_widgets.jupyter import server_extension
from perfmon_widgets.web import api, page

pytest_plugins = ["pytest_jupyter.jupyter_server"]

CURRENT, HISTORY, LOGGING, METRICS, FINDINGS, PROMETHEUS, VIEW, *FILES = api.ROUTES
PAGE = page.PAGE
EACH_REQUEST = [(method, path) for path, methods in api.ROUTES.items() for method in methods]
JSON = {"Content-Type": "application/json"}

START = """
import perfmon_widgets
monitor = perfmon_widgets.PerformanceMonitor(interval=3600)
monitor.start()
while monitor.latest is None:
    pass
"""

# What Jupyter's own parts do, not ours.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def jp_server_config() -> dict[str, Any]:
    return {"ServerApp": {"jpserver_extensions": {"perfmon_widgets": True}}}


class Kernel:
    """A kernel of the server under test, in which code can be run."""

    def __init__(self, manager: Any, identity: str) -> None:
        self.id = identity
        self.manager = manager.get_kernel(identity)
        self._client = self.manager.client()

    async def run(self, code: str) -> None:
        """Run code to its end; fails the test if it raises."""
        if not self._client.channels_running:
            self._client.start_channels()
            await self._client.wait_for_ready(timeout=60)
        reply = await self._client._async_execute_interactive(code, timeout=60, output_hook=lambda _: None)
        assert reply["content"]["status"] == "ok", reply["content"]

    async def begin(self, code: str) -> None:
        """Begin to run code that does not end."""
        self._client.execute(code)
        while self.manager.execution_state != "busy":
            await asyncio.sleep(0.02)

    def close(self) -> None:
        if self._client.channels_running:
            self._client.stop_channels()


StartKernel = Callable[..., Awaitable[Kernel]]


@pytest.fixture
def start_kernel(jp_serverapp: Any, jp_asyncio_loop: Any) -> Iterator[StartKernel]:
    """Starts a kernel in which a monitor runs, or other code has been run."""
    kernels: list[Kernel] = []
    manager = jp_serverapp.kernel_manager

    async def start(code: str = START, name: str = "python3") -> Kernel:
        kernel = Kernel(manager, await manager.start_kernel(kernel_name=name))
        kernels.append(kernel)
        await kernel.run(code)
        return kernel

    yield start
    for kernel in kernels:
        kernel.close()
        if kernel.id in manager:
            jp_asyncio_loop.run_until_complete(manager.shutdown_kernel(kernel.id, now=True))


@pytest.fixture
def ask(jp_fetch: Any) -> Callable[..., Awaitable[Any]]:
    """Asks the server; returns the response, whatever its status."""

    async def fetch(path: str, method: str = "GET", body: object = None, **options: Any) -> Any:
        if method in ("POST", "PUT", "PATCH"):
            options.setdefault("headers", dict(JSON))
            options["body"] = body if isinstance(body, (bytes, str)) else json.dumps(body)
        return await jp_fetch(*path.strip("/").split("/"), method=method, raise_error=False, **options)

    return fetch


def content(response: Any, status: int = 200) -> Any:
    assert response.code == status, (response.code, response.body)
    assert response.headers["Content-Type"].startswith("application/json")
    return json.loads(response.body)


# -- one kernel ----------------------------------------------------------------------------------------


async def test_a_long_history_comes_in_parts(start_kernel: StartKernel, ask: Any) -> None:
    kernel = await start_kernel()
    await kernel.run(
        "import perfmon_widgets.core.parts, perfmon_widgets.web.api\n"
        "perfmon_widgets.core.parts._SIZE = 1000\n"
        "perfmon_widgets.web.api._FEW_VALUES = 0\n"
        "for _ in range(50): monitor.sample()\n"
    )
    response = await ask(HISTORY)
    assert "Content-Length" not in response.headers
    history = content(response)
    assert len(history["time"]) >= 50
    assert all(len(values) == len(history["time"]) for values in history["values"].values())
    csv = await ask(HISTORY, params={"format": "csv"})
    assert csv.headers["Content-Type"] == "text/csv; charset=utf-8"
    lines = csv.body.decode().splitlines()
    assert lines[0].split(",") == ["time", *history["columns"]]
    assert len(lines) >= 51


@pytest.mark.parametrize(
    ("options", "seconds"),
    [
        ({}, None),
        ({"cull_idle_timeout": 60}, None),
        ({"cull_connected": True}, None),
        ({"cull_idle_timeout": 60, "cull_connected": True}, 60),
    ],
)
def test_pages_know_when_the_server_ends_the_kernels_of_unused_ones(
    options: Any, seconds: int | None
) -> None:
    manager = SimpleNamespace(
        **{"untracked_message_types": [], "cull_idle_timeout": 0, "cull_connected": False, **options}
    )
    settings: dict[str, Any] = {"base_url": "/"}
    application = SimpleNamespace(settings=settings, add_handlers=lambda *_: None)
    server_extension._load_jupyter_server_extension(
        SimpleNamespace(kernel_manager=manager, web_app=application)
    )
    assert settings.get("page_config_data", {}).get("perfmonUnusedAfter") == seconds


async def test_it_answers_for_the_kernel(start_kernel: StartKernel, ask: Any) -> None:
    kernel = await start_kernel()
    for query in ({}, {"kernel_id": kernel.id}):
        current = content(await ask(CURRENT, params=query))
        assert current["values"]["ram_used_bytes"] > 0
        assert content(await ask(HISTORY, params=query))["time"][-1] == current["time"]
        later = await ask(HISTORY, params={**query, "since": current["time"]})
        assert content(later)["time"] == []
        assert list(content(await ask(METRICS, params=query))["metrics"]) == list(current["values"])
    table = await ask(HISTORY, params={"format": "csv"})
    assert table.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert table.body.startswith(b"time,cpu_percent,")
    assert table.headers["Cache-Control"] == "no-store"


async def test_the_log_is_switched(start_kernel: StartKernel, ask: Any, tmp_path: Path) -> None:
    await start_kernel(f"import os; os.chdir({str(tmp_path)!r}){START}")
    assert content(await ask(LOGGING)) == {"enabled": False, "path": None, "rows": 0}
    on = content(await ask(LOGGING, "POST", {"enabled": True, "path": "run.csv"}))
    rows = on.pop("rows")
    assert on == {"enabled": True, "path": "run.csv"}
    assert rows >= 1  # one when it began, one more where the cell that began it took long
    assert content(await ask(LOGGING, "POST", {"enabled": False}))["enabled"] is False
    assert len(read_csv(tmp_path / "run.csv")) == rows
    for bad in ("../x.csv", "/dev/null", "x\0.csv"):
        refused = content(await ask(LOGGING, "POST", {"enabled": True, "path": bad}), 400)
        assert refused["message"].startswith("path: ")
    (tmp_path / "taken.csv").mkdir()
    message = content(await ask(LOGGING, "POST", {"enabled": True, "path": "taken.csv"}), 409)["message"]
    assert "Is a directory" in message
    assert str(tmp_path) not in message


@pytest.mark.parametrize("version", [*OLDER, NEWEST])
async def test_a_busy_kernel_answers(
    start_kernel: StartKernel,
    ask: Any,
    tmp_path: Path,
    jp_data_dir: Path,
    pytestconfig: pytest.Config,
    record_property: Any,
    version: str,
) -> None:
    names = install_kernelspecs(jp_data_dir, pytestconfig.cache)
    right = f"import ipykernel; assert ipykernel.__version__ == {version!r}, ipykernel.__version__"
    kernel = await start_kernel(f"import os; os.chdir({str(tmp_path)!r})\n{right}{START}", names[version])
    assert content(await ask(CURRENT))["values"]["ram_used_bytes"] > 0
    await kernel.begin("while True: pass")
    took = []
    for _ in range(20):
        started = time.perf_counter()
        content(await ask(CURRENT))
        took.append(time.perf_counter() - started)
    assert content(await ask(LOGGING, "POST", {"enabled": True, "path": "run.csv"}))["rows"] >= 1
    assert content(await ask(LOGGING))["enabled"] is True
    record_property("median_milliseconds", 1000 * statistics.median(took))
    # The server's own word on the kernel is still right: being asked is no work.
    assert kernel.manager.execution_state == "busy"


async def test_asking_is_no_activity(start_kernel: StartKernel, ask: Any, jp_serverapp: Any) -> None:
    """Else a dashboard would keep idle kernels, and idle servers, from being shut down."""
    kernel = await start_kernel()
    await asyncio.sleep(0.2)
    active = kernel.manager.last_activity
    served = jp_serverapp.web_app.settings.get("api_last_activity")
    for _ in range(3):
        content(await ask(CURRENT))
        await asyncio.sleep(0.05)
    assert kernel.manager.last_activity == active
    assert kernel.manager.execution_state == "idle"
    assert jp_serverapp.web_app.settings.get("api_last_activity") == served


async def test_connections_are_kept_and_do_not_mix_answers(start_kernel: StartKernel, ask: Any) -> None:
    await start_kernel()
    answers = await asyncio.gather(*(ask((CURRENT, LOGGING, METRICS)[number % 3]) for number in range(30)))
    for number, answer in enumerate(answers):
        assert (
            set(content(answer)) == ({"time", "values"}, {"enabled", "path", "rows"}, {"metrics"})[number % 3]
        )


# -- kernels that cannot answer ------------------------------------------------------------------------


async def test_no_kernel_and_no_monitor_are_reported(start_kernel: StartKernel, ask: Any) -> None:
    assert "start" in content(await ask(CURRENT), 404)["message"]
    kernel = await start_kernel("import perfmon_widgets")
    for path in (CURRENT, HISTORY, LOGGING, METRICS):
        refused = content(await ask(path), 404)
        assert "PerformanceMonitor()" in refused["message"]
        assert "state" not in refused  # the kernel is not dead
    await kernel.run(START)
    content(await ask(CURRENT))
    await kernel.run("monitor.stop()")
    assert "PerformanceMonitor()" in content(await ask(CURRENT), 404)["message"]


async def test_a_kernel_that_has_never_heard_of_this_package(start_kernel: StartKernel, ask: Any) -> None:
    kernel = await start_kernel("1")
    for _ in range(2):
        assert (
            "PerformanceMonitor()"
            in content(await ask(CURRENT, params={"kernel_id": kernel.id}), 404)["message"]
        )
    await kernel.run(START)
    content(await ask(CURRENT))


async def test_a_monitor_that_starts_within_a_running_cell_is_found(
    start_kernel: StartKernel, ask: Any
) -> None:
    kernel = await start_kernel("1")
    await kernel.begin(f"import time; time.sleep(2){START}while True: pass")
    content(await ask(CURRENT), 404)
    deadline = time.monotonic() + 30
    while (await ask(CURRENT)).code != 200:
        assert time.monotonic() < deadline


async def test_an_unknown_kernel_is_not_found(start_kernel: StartKernel, ask: Any) -> None:
    await start_kernel()
    for identity in ("", "nothing", "../x", "00000000-0000-0000-0000-000000000000"):
        refused = content(await ask(CURRENT, params={"kernel_id": identity}), 404)
        assert refused["message"].startswith("kernel_id: ")
        assert refused["state"] == "dead"


async def test_two_kernels_are_listed(start_kernel: StartKernel, ask: Any) -> None:
    first = await start_kernel()
    second = await start_kernel("import perfmon_widgets")
    content(await ask(CURRENT))  # only one of them has a monitor
    await second.run(START)
    for path in (CURRENT, HISTORY, LOGGING, METRICS):
        refused = content(await ask(path), 409)
        assert set(refused["kernels"]) == {first.id, second.id}
        assert first.id in refused["message"]
    refused = content(await ask(LOGGING, "POST", {"enabled": True}), 409)
    for kernel in (first, second):
        assert content(await ask(LOGGING, params={"kernel_id": kernel.id}))["enabled"] is False
    message = families(await ask(PROMETHEUS))["perfmon_ram_used_bytes"].samples
    assert {sample.labels["kernel_id"] for sample in message} == {first.id, second.id}


async def test_a_killed_kernel_is_reported_at_once(
    start_kernel: StartKernel, ask: Any, jp_serverapp: Any
) -> None:
    kernel = await start_kernel()
    kernel.manager.stop_restarter()
    os.kill(kernel.manager.provisioner.pid, signal.SIGKILL)
    started = time.monotonic()
    while (response := await ask(CURRENT, params={"kernel_id": kernel.id})).code == 200:
        pass
    assert response.code in (404, 410)
    refused = content(response, response.code)
    assert "kernel" in refused["message"]
    assert refused["state"] == "dead"
    assert time.monotonic() - started < 15


async def test_a_killed_kernel_is_answered_for_from_its_black_box(
    start_kernel: StartKernel, ask: Any
) -> None:
    kernel = await start_kernel(START.replace("3600", "0.1"))
    before = content(await ask(HISTORY))
    await kernel.begin("# comment\nwhile True: pass")
    await asyncio.sleep(0.5)
    os.kill(kernel.manager.provisioner.pid, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while "death" not in (found := json.loads((await ask(HISTORY, params={"kernel_id": kernel.id})).body)):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
    assert found["death"]["verdict"] == "unlikely"
    assert found["death"]["cell"]["source"] == "while True: pass"
    assert found["death"]["time"] == found["time"][-1]
    # The first sample may have been taken before there was a black box.
    assert len(set(before["time"]) - set(found["time"])) <= 1
    assert len(found["time"]) > 2
    assert found["values"]["ram_used_bytes"][-1] > 0
    # Also after the server has started it again, until a monitor runs there.
    while not await ensure_async(kernel.manager.is_alive()):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
    await kernel._client.wait_for_ready(timeout=60)
    again = content(await ask(HISTORY, params={"since": found["time"][-2]}))
    assert again["time"] == found["time"][-1:]
    table = (await ask(HISTORY, params={"format": "csv"})).body.decode().splitlines()
    assert table[0] == ",".join(["time", *found["columns"]])
    assert table[-1].startswith(f"{found['time'][-1]},")
    content(await ask(HISTORY, params={"format": "xml"}), 400)
    content(await ask(CURRENT), 404)
    await kernel.run(START)
    assert "death" not in content(await ask(HISTORY))


async def test_a_kernel_that_was_shut_down_has_no_black_box(
    start_kernel: StartKernel, ask: Any, jp_serverapp: Any
) -> None:
    kernel = await start_kernel()
    await jp_serverapp.kernel_manager.restart_kernel(kernel.id, now=False)
    await kernel._client.wait_for_ready(timeout=60)
    content(await ask(HISTORY), 404)


async def test_a_kernel_that_hangs_is_reported_in_time(
    start_kernel: StartKernel, ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_extension, "_TIMEOUT", 1.0)
    kernel = await start_kernel()
    process = kernel.manager.provisioner.pid
    os.kill(process, signal.SIGSTOP)
    try:
        for path in (CURRENT, HISTORY, LOGGING, METRICS):
            refused = content(await ask(path), 504)
            assert "kernel does not answer" in refused["message"]
            assert refused["state"] == "idle"
        message = content(await ask(LOGGING, "POST", {"enabled": True}), 504)
        assert "kernel does not answer" in message["message"]
    finally:
        os.kill(process, signal.SIGCONT)
    content(await ask(CURRENT))


async def test_a_kernel_killed_while_it_is_asked_is_no_hang(
    start_kernel: StartKernel, ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_extension, "_TIMEOUT", 1.5)
    kernel = await start_kernel()
    os.kill(kernel.manager.provisioner.pid, signal.SIGSTOP)
    asked = asyncio.ensure_future(ask(CURRENT))
    await asyncio.sleep(0.5)
    os.kill(kernel.manager.provisioner.pid, signal.SIGKILL)
    assert (await asked).code in (404, 410, 504)


async def test_a_kernel_restarted_is_asked_anew(
    start_kernel: StartKernel, ask: Any, jp_serverapp: Any
) -> None:
    kernel = await start_kernel()
    content(await ask(CURRENT))
    await jp_serverapp.kernel_manager.restart_kernel(kernel.id, now=True)
    await kernel._client.wait_for_ready(timeout=60)
    content(await ask(CURRENT), 404)
    await kernel.run(START)
    content(await ask(CURRENT))


# -- the server's rules --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path"), [(m, path) for path, methods in api.ROUTES.items() for m in methods]
)
async def test_nothing_is_said_without_a_login(
    start_kernel: StartKernel, jp_base_url: str, http_server_client: Any, method: str, path: str
) -> None:
    await start_kernel("import perfmon_widgets")
    body = '{"enabled": true}' if method == "POST" else None
    for headers in ({}, {"Authorization": "token wrong"}):
        options = {"method": method, "body": body, "raise_error": False, "follow_redirects": False}
        url = f"{jp_base_url.rstrip('/')}{path}"
        response = await http_server_client.fetch(url, headers={**JSON, **headers}, **options)
        # The page leads to the login.
        assert response.code == (302 if (method, path) == ("GET", PAGE) else 403)
        assert b"\nperfmon_" not in response.body


async def test_a_post_with_a_cookie_needs_the_xsrf_token(
    start_kernel: StartKernel, jp_serverapp: Any, jp_base_url: str, http_server_client: Any
) -> None:
    await start_kernel()
    token = jp_serverapp.identity_provider.token
    url = jp_base_url.rstrip("/")
    login = await http_server_client.fetch(f"{url}/api/me?token={token}")
    cookie = "; ".join(each.partition(";")[0] for each in login.headers.get_list("Set-Cookie"))
    read = await http_server_client.fetch(f"{url}{CURRENT}", headers={"Cookie": cookie}, raise_error=False)
    assert read.code == 200
    options = {"method": "POST", "body": '{"enabled": false}', "raise_error": False}
    refused = await http_server_client.fetch(f"{url}{LOGGING}", headers={**JSON, "Cookie": cookie}, **options)
    assert refused.code == 403
    headers = {**JSON, "Cookie": f"{cookie}; _xsrf=known", "X-XSRFToken": "known"}
    allowed = await http_server_client.fetch(f"{url}{LOGGING}", headers=headers, **options)
    assert allowed.code == 200


async def test_who_may_only_look_cannot_switch(
    start_kernel: StartKernel, ask: Any, jp_serverapp: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this order: the server's decorator keeps the action of a handler's first request."""
    await start_kernel()
    asked = []

    def is_authorized(_: object, __: object, action: str, resource: str) -> bool:
        asked.append((action, resource))
        return action == "read"

    monkeypatch.setattr(jp_serverapp.web_app.settings["authorizer"], "is_authorized", is_authorized)
    assert (await ask(LOGGING)).code == 200
    assert (await ask(LOGGING, "POST", {"enabled": True})).code == 403
    assert content(await ask(LOGGING))["enabled"] is False
    assert set(asked) == {("read", "kernels"), ("write", "kernels")}


async def test_bad_requests_are_refused_as_everywhere(start_kernel: StartKernel, ask: Any) -> None:
    await start_kernel()
    assert content(await ask("/api/performance/nothing"), 404)["message"].startswith("path: ")
    assert content(await ask("/api/performance"), 404)["message"].startswith("path: ")
    wrong = await ask(CURRENT, "POST", {})
    assert content(wrong, 405)["message"].startswith("method: ")
    assert wrong.headers["Allow"] == "GET"
    assert content(await ask(LOGGING, "DELETE"), 405)["message"]
    assert content(await ask(HISTORY, params={"since": "x"}), 400)["message"].startswith("since: ")
    assert content(await ask(LOGGING, "POST", {}), 400)["message"].startswith("enabled: ")
    assert content(await ask(LOGGING, "POST", "{"), 400)["message"].startswith("body: ")
    assert content(await ask(LOGGING, "POST", " " * 20_000), 413)["message"].startswith("body: ")
    text = await ask(LOGGING, "POST", {"enabled": True}, headers={"Content-Type": "text/plain"})
    assert content(text, 415)["message"].startswith("Content-Type: ")


# -- Prometheus ----------------------------------------------------------------------------------------


def families(response: Any) -> dict[str, Any]:
    assert response.code == 200, response.body
    assert response.headers["Content-Type"].startswith("text/plain")
    return {family.name: family for family in text_string_to_metric_families(response.body.decode())}


async def test_prometheus_gets_the_servers_numbers_and_the_kernels(
    start_kernel: StartKernel, ask: Any
) -> None:
    own = families(await ask(PROMETHEUS))
    assert "http_request_duration_seconds" in own
    assert not [name for name in own if name.startswith("perfmon_")]
    kernel = await start_kernel()
    both = families(await ask(PROMETHEUS))
    assert set(own) <= set(both)
    assert both["perfmon_ram_used_bytes"].samples[0].labels == {"kernel_id": kernel.id}
    one = families(await ask(PROMETHEUS, params={"kernel_id": kernel.id}))
    assert all(name.startswith("perfmon_") for name in one)
    assert one["perfmon_ram_used_bytes"].samples[0].labels == {}
    content(await ask(PROMETHEUS, params={"kernel_id": "nothing"}), 404)


async def test_public_numbers_of_the_server_do_not_make_those_of_kernels_public(
    start_kernel: StartKernel,
    jp_serverapp: Any,
    http_server_client: Any,
    ask: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await start_kernel()
    settings = jp_serverapp.web_app.settings
    settings["authenticate_prometheus"] = False
    response = await http_server_client.fetch(f"{settings['base_url'].rstrip('/')}{PROMETHEUS}")
    assert "http_request_duration_seconds" in families(response)
    assert b"\nperfmon_" not in response.body
    monkeypatch.setattr(settings["authorizer"], "is_authorized", lambda *_: False)
    assert b"\nperfmon_" not in (await ask(PROMETHEUS)).body


# -- installed -----------------------------------------------------------------------------------------


def test_it_is_switched_on_where_it_is_installed(tmp_path: Path) -> None:
    point = _jupyter_server_extension_points()[0]["module"]
    assert point == server_extension.__name__
    config = Path(__file__).parents[2] / "perfmon_widgets/jupyter/server_extension.json"
    assert json.loads(config.read_text())["ServerApp"]["jpserver_extensions"] == {"perfmon_widgets": True}
    listed = subprocess.run(
        [sys.executable, "-m", "jupyter", "server", "extension", "list"],
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    without_colours = re.sub(r"\x1b\[\d*m", "", listed.stdout + listed.stderr)
    assert "perfmon_widgets enabled" in without_colours
    assert re.search(r"perfmon_widgets \S+ OK", without_colours)


# -- the live page ---------------------------------------------------------------------------------------


async def test_the_page_is_behind_the_login_and_the_base_url(
    ask: Any, jp_base_url: str, http_server_client: Any
) -> None:
    """Without a kernel, since the page is the server's own."""
    shown = await ask(PAGE)
    assert shown.code == 200
    assert shown.headers["Content-Type"] == "text/html; charset=utf-8"
    assert b"<html data-kernels " in shown.body
    assert shown.headers.get_list("Content-Security-Policy") == [page.POLICY_OF_JUPYTER]
    assert "frame-ancestors 'self'" in page.POLICY_OF_JUPYTER
    for path in FILES[1:]:
        answered = await ask(path)
        assert (answered.code, answered.body) == (200, page.file(path).body)
        assert answered.headers["Content-Type"] == page.FILES[path][0]
    url = f"{jp_base_url.rstrip('/')}{PAGE}"
    stranger = await http_server_client.fetch(url, raise_error=False, follow_redirects=False)
    assert stranger.code == 302
    assert "/login?next=" in stranger.headers["Location"]
    assert (await http_server_client.fetch(f"{url}/kernels", raise_error=False)).code == 403


@pytest.mark.parametrize("path", [*FILES, f"{PAGE}/kernels", VIEW])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "HEAD"])
async def test_the_page_is_only_read(
    jp_base_url: str, jp_serverapp: Any, http_server_client: Any, path: str, method: str
) -> None:
    """With the token, or with the cookie of a login and no token against forged requests."""
    url = f"{jp_base_url.rstrip('/')}{path}"
    token = jp_serverapp.identity_provider.token
    login = await http_server_client.fetch(f"{jp_base_url.rstrip('/')}/api/me?token={token}")
    cookie = "; ".join(each.partition(";")[0] for each in login.headers.get_list("Set-Cookie"))
    body = None if method in ("DELETE", "HEAD") else "{}"
    for headers in ({"Authorization": f"token {token}"}, {"Cookie": cookie}, {}):
        options = {"method": method, "body": body, "raise_error": False, "follow_redirects": False}
        refused = await http_server_client.fetch(url, headers={**JSON, **headers}, **options)
        assert refused.code in (403, 405)
        assert b"perfmon/page" not in refused.body


async def test_every_file_of_the_page_may_do_nothing_but_what_the_page_needs(ask: Any) -> None:
    for path in FILES:
        headers = (await ask(path)).headers
        assert headers.get_list("Content-Security-Policy") == [page.POLICY_OF_JUPYTER]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("configured", "ancestors"),
    [
        ("frame-ancestors 'none'", "'none'"),
        (
            "default-src 'self';Frame-Ancestors 'self' https://portal.example ; report-uri /x",
            "'self' https://portal.example",
        ),
        ("default-src 'self'", "'self'"),
    ],
)
async def test_who_may_frame_the_page_is_what_the_server_was_configured_with(
    ask: Any, jp_serverapp: Any, monkeypatch: pytest.MonkeyPatch, configured: str, ancestors: str
) -> None:
    headers = {"Content-Security-Policy": configured}
    monkeypatch.setitem(jp_serverapp.web_app.settings, "headers", headers)
    [policy] = (await ask(PAGE)).headers.get_list("Content-Security-Policy")
    assert policy.startswith("default-src 'none'; script-src 'self'; ")
    assert policy.endswith(f"; frame-ancestors {ancestors}")


async def test_who_may_not_read_sessions_gets_no_paths_of_notebooks(
    start_kernel: StartKernel, ask: Any, jp_serverapp: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = await start_kernel()
    await jp_serverapp.session_manager.create_session(
        path="runs/train.ipynb", name="train.ipynb", type="notebook", kernel_id=kernel.id
    )
    authorizer = jp_serverapp.web_app.settings["authorizer"]
    monkeypatch.setattr(authorizer, "is_authorized", lambda *asked: asked[-1] == "kernels")
    [listed] = content(await ask(f"{PAGE}/kernels"))["kernels"]
    assert listed == {"id": kernel.id, "name": f"kernel {kernel.id[:8]}", "state": "idle"}


async def test_it_shows_a_kernel_that_computes(start_kernel: StartKernel, ask: Any) -> None:
    kernel = await start_kernel()
    await kernel.run("monitor.sample()")
    await kernel.begin("while True: pass")
    response = await ask(VIEW, params={"kernel_id": kernel.id})
    shown = content(response)
    assert shown["state"] == "live"
    assert shown["sections"][0]["figures"][0]["values"]
    assert response.headers["X-XSRFToken"]
    later = {"kernel_id": kernel.id, "since": shown["newest"], "have": shown["have"]}
    assert "sections" not in content(await ask(VIEW, params=later))


async def test_kernels_are_listed_by_the_names_of_their_notebooks(
    start_kernel: StartKernel, ask: Any, jp_serverapp: Any
) -> None:
    assert content(await ask(f"{PAGE}/kernels")) == {"kernels": []}
    first, second = await start_kernel(), await start_kernel()
    await start_kernel("import perfmon_widgets")  # has no monitor
    await jp_serverapp.session_manager.create_session(
        path="runs/train.ipynb", name="train.ipynb", type="notebook", kernel_id=second.id
    )
    await second.begin("while True: pass")
    assert content(await ask(f"{PAGE}/kernels"))["kernels"] == [
        {"id": first.id, "name": f"kernel {first.id[:8]}", "state": "idle"},
        {"id": second.id, "name": "runs/train.ipynb", "state": "busy"},
    ]


async def test_a_killed_kernel_is_listed_and_shown_with_its_last_minutes(
    start_kernel: StartKernel, ask: Any
) -> None:
    kernel = await start_kernel(START.replace("3600", "0.1"))
    await kernel.begin("while True: pass")
    await asyncio.sleep(0.5)
    kernel.manager.stop_restarter()
    os.kill(kernel.manager.provisioner.pid, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while "death" not in (shown := json.loads((await ask(VIEW, params={"kernel_id": kernel.id})).body)):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
    assert "while True: pass" in shown["death"]
    assert shown["gauges"]["RAM"]["value"] > 0
    assert shown["sections"][0]["figures"][0]["values"]
    [listed] = content(await ask(f"{PAGE}/kernels"))["kernels"]
    assert (listed["id"], listed["state"]) == (kernel.id, "dead")


async def test_the_page_can_switch_the_log_with_what_it_was_given(
    start_kernel: StartKernel, jp_serverapp: Any, jp_base_url: str, http_server_client: Any
) -> None:
    await start_kernel()
    url = jp_base_url.rstrip("/")
    login = await http_server_client.fetch(f"{url}{PAGE}?token={jp_serverapp.identity_provider.token}")
    cookies = [each.partition(";")[0] for each in login.headers.get_list("Set-Cookie")]
    headers = {**JSON, "Cookie": "; ".join(cookies)}
    seen = await http_server_client.fetch(f"{url}{VIEW}", headers=headers)
    cookies += [each.partition(";")[0] for each in seen.headers.get_list("Set-Cookie")]
    headers = {**JSON, "Cookie": "; ".join(cookies), "X-XSRFToken": seen.headers["X-XSRFToken"]}
    options = {"method": "POST", "body": '{"enabled": false}', "raise_error": False}
    assert (await http_server_client.fetch(f"{url}{LOGGING}", headers=headers, **options)).code == 200
    headers["X-XSRFToken"] = "wrong"
    assert (await http_server_client.fetch(f"{url}{LOGGING}", headers=headers, **options)).code == 403


async def test_a_kernel_knows_whether_its_server_has_the_page(
    start_kernel: StartKernel, jp_base_url: str, tmp_path: Path
) -> None:
    found = tmp_path / "found"
    kernel = await start_kernel(
        "import os, sys\n"
        "from perfmon_widgets.jupyter.kernel import connection_file\n"
        "from perfmon_widgets.jupyter.page_address import address_of_page\n"
        f"open({str(found)!r}, 'w').write(address_of_page(connection_file()))\n"
        "assert address_of_page(connection_file(), {}) is None\n"
        "assert address_of_page(connection_file(), {**os.environ, 'JPY_PARENT_PID': '1'}) is None\n"
        "assert address_of_page('/tmp/other.json') is None\n"
        "assert 'jupyter_server' not in sys.modules\n"
    )
    assert found.read_text() == f"{jp_base_url.rstrip('/')}/perfmon?kernel_id={kernel.id}"
