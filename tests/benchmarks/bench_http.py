"""How fast the HTTP API is: ``pytest tests/benchmarks/bench_http.py -s`` prints figures; times fail nothing.

Goals (issue 5), over a monitor with 60 columns and 120 rows, for both faces: /current ≤ 5 ms and /history
≤ 30 ms at the median while the process is idle; both under 150 ms at p95 while its main thread runs Python;
50 clients that poll each second cost no sample.

The client, the Jupyter server and the Jupyter kernel are three processes, so other work on a machine of two
CPUs shows at once: the floor, what a handler costs that only asks for the login, stands next to each figure.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from tornado import web

CURRENT, HISTORY = "/api/performance/current", "/api/performance/history"
TOKEN = "a-token-for-benchmarks"
ROUNDS = 400
CLIENTS, SECONDS = 50, 20

MONITOR = """
import random
from perfmon_widgets import Metric, PerformanceMonitor

class Sixty:
    metrics = [Metric(f"core{i}/cpu_percent", "percent", "cpu", "Some number.") for i in range(60)]

    def collect(self):
        return {metric.name: 100 * random.random() for metric in self.metrics}

monitor = PerformanceMonitor([Sixty()], interval=3600)
for _ in range(119):
    monitor.sample()
monitor.start()
"""
BUSY = "while True: number = sum(range(1000))"
SCRIPT = f"""{MONITOR}
import sys
from perfmon_widgets import serve
server = serve(monitor, token={TOKEN!r})
print(server.url, flush=True)
for line in sys.stdin:
    exec(line)
"""


class Face:
    """One of the two servers, in a process of its own, and how to run code where its monitor is."""

    def __init__(self, name: str, port: int, floor: str, run: Callable[[str], object]) -> None:
        self.name = name
        self.floor = floor
        self.run = run
        self._port = port

    def connection(self) -> contextlib.closing[http.client.HTTPConnection]:
        """A connection to the server, to be used by ``with``; it is kept open between requests."""
        return contextlib.closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=60))


def ask(
    connection: http.client.HTTPConnection, path: str, method: str = "GET", body: str | None = None
) -> bytes:
    headers = {"Authorization": f"token {TOKEN}", "Content-Type": "application/json"}
    connection.request(method, path, body, headers)
    response = connection.getresponse()
    content = response.read()
    assert response.status in (200, 201) or path.endswith("/nothing"), content
    return content


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "bench_http"}]


def _load_jupyter_server_extension(server: object) -> None:
    class Floor(APIHandler):
        auth_resource = "kernels"

        @web.authenticated
        @authorized("read")
        async def get(self) -> None:
            self.finish("{}", set_content_type="application/json")

    server.web_app.add_handlers(".*$", [("/floor", Floor)])


@contextlib.contextmanager
def process(arguments: list[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A Python process that ends with the block."""
    with subprocess.Popen([sys.executable, *arguments], text=True, **options) as running:
        try:
            yield running
        finally:
            running.terminate()


@pytest.fixture(scope="module")
def script() -> Iterator[Face]:
    with process(["-c", SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:

        def run(code: str) -> str:
            running.stdin.write(f"{code}\n")
            running.stdin.flush()
            return running.stdout.readline() if "print" in code else ""

        port = int(running.stdout.readline().rpartition(":")[2])
        yield Face("serve()", port, "/nothing", run)


@pytest.fixture(scope="module")
def extension(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Face]:
    folder = tmp_path_factory.mktemp("server")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "PYTHONPATH": str(Path(__file__).parent),
    }
    options = [
        "--allow-root",
        f"--port={port}",
        f"--IdentityProvider.token={TOKEN}",
        "--ServerApp.jpserver_extensions={'perfmon_widgets': True, 'bench_http': True}",
        f"--ServerApp.root_dir={folder}",
    ]
    with (
        (folder / "log").open("w") as log,
        process(["-m", "jupyter_server", *options], env=environment, stderr=log) as running,
    ):
        face = Face("Jupyter server", port, "/floor", lambda _: "")
        while True:
            assert running.poll() is None, (folder / "log").read_text()
            with contextlib.suppress(ConnectionRefusedError), face.connection() as connection:
                kernel = json.loads(ask(connection, "/api/kernels", "POST", "{}"))["id"]
                break
            time.sleep(0.1)
        client = BlockingKernelClient()
        client.load_connection_file(str(folder / "runtime" / f"kernel-{kernel}.json"))
        client.start_channels()

        def run(code: str) -> str:
            if code == BUSY:
                client.execute(code)
                return ""
            printed: list[Any] = []
            reply = client.execute_interactive(code, timeout=60, output_hook=printed.append)
            assert reply["content"]["status"] == "ok", reply["content"]
            return "".join(message["content"].get("text", "") for message in printed)

        try:
            client.wait_for_ready(timeout=60)
            face.run = run
            run(MONITOR)
            yield face
        finally:
            client.stop_channels()


@pytest.fixture(params=["script", "extension"])
def face(request: pytest.FixtureRequest) -> Face:
    return request.getfixturevalue(request.param)


def milliseconds(face: Face, path: str, rounds: int = ROUNDS) -> list[float]:
    """What each of some requests took, one after the other on one connection."""
    took = []
    with face.connection() as connection:
        for _ in range(rounds):
            started = time.perf_counter()
            ask(connection, path)
            took.append(1000 * (time.perf_counter() - started))
    return took


def print_figure(face: Face, what: str, took: list[float], goal: str) -> None:
    p95 = statistics.quantiles(took, n=20)[-1]
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    print(
        f"\n{face.name}, {what}: median {statistics.median(took):.2f} ms, p95 {p95:.2f} ms of {len(took)}; "
        f"goal {goal}; load {load:.1f}",
        end="",
    )


def test_idle(face: Face) -> None:
    milliseconds(face, CURRENT, 50)
    with face.connection() as connection:
        history = json.loads(ask(connection, HISTORY))
    assert len(history["columns"]) == 60
    assert len(history["time"]) in (120, 121)  # with the sample at the end of the cell, in a kernel
    print_figure(face, "idle, floor", milliseconds(face, face.floor), "none")
    print_figure(face, "idle, /current", milliseconds(face, CURRENT), "median 5 ms")
    print_figure(face, "idle, /history", milliseconds(face, HISTORY), "median 30 ms")


def test_fifty_clients_that_poll_each_second(face: Face) -> None:
    face.run("monitor.interval = 1.0; import time; time.sleep(1.5)")
    before = face.run("print(monitor._history.count, monitor.missed)").split()
    stop = time.monotonic() + SECONDS
    took: list[float] = []

    def client(number: int) -> None:
        time.sleep(number / CLIENTS)
        while time.monotonic() < stop:
            [one] = milliseconds(face, CURRENT, 1)
            took.append(one)
            time.sleep(max(0.0, 1 - one / 1000))

    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    after = face.run("print(monitor._history.count, monitor.missed)").split()
    face.run("monitor.interval = 3600")
    print_figure(face, f"{CLIENTS} clients, /current", took, "no sample lost")
    samples, missed = (int(now) - int(then) for now, then in zip(after, before, strict=True))
    print(f": {samples} samples in {SECONDS} s, {missed} missed", end="")
    assert len(took) >= 0.9 * CLIENTS * SECONDS
    assert samples >= SECONDS - 1
    assert missed == 0


def test_while_the_main_thread_runs_python(face: Face) -> None:
    """The last: the process does nothing else from then on."""
    face.run(BUSY)
    time.sleep(0.5)
    print_figure(face, "busy, /current", milliseconds(face, CURRENT, 200), "p95 150 ms")
    print_figure(face, "busy, /history", milliseconds(face, HISTORY, 100), "p95 150 ms")
