"""What the package must withstand, each for a short time: how much was tried, and how much was lost.

``python tests/benchmarks/stress.py`` takes about three minutes, with ``--seconds 60`` one. It prints a table,
and ends with status 1 if something was lost. Each part runs in processes of its own:

- full disk: a log whose disk is full for a while (needs root, to mount one). Lost: rows and marks.
- interrupts: exceptions at any moment in the main thread, as a notebook's stop button raises them. Lost:
  spans that are not ended, and threads that stay.
- kills: a process that logs is killed at any moment. Lost: rows that it had reported as stored.
- history: a client asks for 432,000 rows as JSON and as CSV, and another for the newest sample in a loop.
  Lost: rows that are missing, and answers as below. The note says how long the other answers took, how many
  samples the monitor missed meanwhile, at 10 Hz, and how much the memory of the server and the kernel grew.
- clients: 1 to 400 clients ask a real Jupyter server in a loop, while the kernel computes. Lost: answers
  other than 200, and those that take more than 10 s.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import itertools
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import psutil
from jupyter_client.blocking.client import BlockingKernelClient
from stress_programs import FULL_DISK, INTERRUPTS, KILLS

TESTS = Path(__file__).parents[1]
TOKEN = "a-token-for-the-stress-test"
HEADERS = {"Authorization": f"token {TOKEN}"}
CURRENT = "/api/performance/current"
HISTORY = "/api/performance/history?since=1980-01-01&format="
INTERVAL = 0.1  # of the monitor, in seconds
SLOW = 10.0  # seconds after which an answer counts as lost


@dataclass
class Row:
    """A line of the table."""

    what: str
    attempts: int = 0
    lost: int = 0
    note: str = ""
    times: list[float] = field(default_factory=list)
    """Seconds that each request took."""

    def __str__(self) -> str:
        return f"{self.what:<28} {self.attempts:>9} {self.lost:>6}  {self.note}"


# -- a kernel behind a server --------------------------------------------------------------------------

MONITOR = """
import time, numpy, perfmon_widgets
monitor = perfmon_widgets.PerformanceMonitor(interval=0.1, window=1e7)
monitor.sample()
rows = numpy.random.default_rng(1).random(({rows}, len(monitor.history.columns))) * 1e9
start = time.time() - 0.1 * len(rows)
for number, row in enumerate(rows):
    monitor._history.append(start + 0.1 * number, row.tolist())
del rows
monitor.start()
"""
COMPUTE = "while True: number = sum(range(1000))"


@contextlib.contextmanager
def served(folder: Path, rows: int) -> Iterator[tuple[int, list[psutil.Process], Callable[[str], object]]]:
    """A Jupyter server, and a kernel in which a monitor runs.

    Yields the port, the two processes, and what begins to execute code in the kernel.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    environment = {
        **os.environ,
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
    }
    command = [sys.executable, "-m", "jupyter_server", "--allow-root", f"--port={port}", "--no-browser"]
    command += [f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={folder}"]
    command += ["--ServerApp.jpserver_extensions={'perfmon_widgets': True}"]
    command += ["--KernelManager.shutdown_wait_time=1"]
    client = BlockingKernelClient()
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, env=environment, cwd=folder, stderr=log) as server,
    ):
        try:
            kernel = _made(port, server, folder / "log")
            client.load_connection_file(str(folder / "runtime" / f"kernel-{kernel}.json"))
            client.start_channels(hb=False)  # on a busy machine the heart beats too slowly
            client.wait_for_ready(timeout=60)
            reply = client.execute_interactive(MONITOR.format(rows=rows), timeout=120)
            if reply["content"]["status"] != "ok":
                raise RuntimeError(reply["content"])
            own = psutil.Process(server.pid)
            yield port, [own, *own.children()], client.execute
        finally:
            client.stop_channels()
            server.terminate()


def _made(port: int, server: subprocess.Popen[bytes], log: Path) -> str:
    """Make a kernel as soon as the server answers; its id."""
    until = time.monotonic() + 60
    while True:
        if server.poll() is not None or time.monotonic() > until:
            raise RuntimeError(log.read_text())
        with contextlib.suppress(ConnectionRefusedError):
            return str(json.loads(fetch(port, "/api/kernels", "POST"))["id"])
        time.sleep(0.1)


def fetch(port: int, path: str, method: str = "GET") -> bytes:
    """The body of an answer; raises RuntimeError for another status than 200 and 201."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    with contextlib.closing(connection):
        connection.request(method, path, headers=HEADERS)
        response = connection.getresponse()
        body = response.read()
        if response.status not in (200, 201):
            raise RuntimeError(f"{path}: {response.status} {body[:200]!r}")
        return body


async def ask(port: int, row: Row, ended: asyncio.Event) -> None:
    """Ask in a loop on one connection, and count."""
    request = f"GET {CURRENT} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: token {TOKEN}\r\n\r\n".encode()
    while not ended.is_set():
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            while not ended.is_set():
                started = time.monotonic()
                row.attempts += 1
                writer.write(request)
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), SLOW)
                length = int(head.lower().partition(b"content-length:")[2].split(None, 1)[0])
                await reader.readexactly(length)
                row.times.append(time.monotonic() - started)
                row.lost += not head.startswith(b"HTTP/1.1 200")
        except (OSError, asyncio.TimeoutError, asyncio.IncompleteReadError):
            row.lost += 1
        finally:
            writer.close()


async def clients(port: int, count: int, seconds: float) -> Row:
    """So many clients at once."""
    row, ended = Row(f"{count} clients"), asyncio.Event()
    tasks = [asyncio.create_task(ask(port, row, ended)) for _ in range(count)]
    await asyncio.sleep(seconds)
    ended.set()
    await asyncio.gather(*tasks)
    row.note = _latency(row.times)
    return row


def _latency(times: Sequence[float]) -> str:
    found = sorted(times) or [float("nan")]
    return f"{1000 * found[len(found) // 2]:.0f} ms at the median, {1000 * found[-1]:.0f} ms at most"


async def history(port: int, kind: str, rows: int, processes: Sequence[psutil.Process]) -> Row:
    """The whole window, while another client asks for the newest sample."""
    other, ended = Row(""), asyncio.Event()
    asking = asyncio.create_task(ask(port, other, ended))
    grown = asyncio.create_task(growth(processes, ended))
    since, before = datetime.now(timezone.utc), time.monotonic()
    body = await asyncio.to_thread(fetch, port, HISTORY + kind)
    took = time.monotonic() - before
    ended.set()
    await asking
    newest = json.loads(
        await asyncio.to_thread(fetch, port, f"{HISTORY}json".replace("1980-01-01", _iso(since)))
    )
    times = [datetime.fromisoformat(each.replace("Z", "+00:00")).timestamp() for each in newest["time"]]
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    missed = sum(round(pause / INTERVAL) - 1 for pause in pauses if pause > 1.5 * INTERVAL)
    found = body.count(b"\n") - 1 if kind == "csv" else len(json.loads(body)["time"])
    note = (
        f"{len(body) / 1e6:.0f} MB in {took:.1f} s; other requests: {_latency(other.times)}; {missed} of "
        f"{len(times)} samples missed; {' and '.join(f'{each / 2**20:.0f}' for each in await grown)} MiB more"
    )
    return Row(f"history as {kind}", rows, max(0, rows - found) + other.lost, note)


def _iso(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")


async def growth(processes: Sequence[psutil.Process], ended: asyncio.Event) -> list[int]:
    """By how many bytes the memory of each process grows at most until then."""
    before = [each.memory_info().rss for each in processes]
    most = list(before)
    while not ended.is_set():
        await asyncio.sleep(0.01)
        most = [max(one, each.memory_info().rss) for one, each in zip(most, processes, strict=True)]
    return [after - one for after, one in zip(most, before, strict=True)]


def behind_a_server(seconds: float, counts: Sequence[int], rows: int) -> Iterator[Row]:
    """The parts that need a server: the clients take about so many seconds together."""
    with tempfile.TemporaryDirectory() as folder, served(Path(folder), rows) as (port, processes, execute):
        for kind in ("json", "csv"):
            yield asyncio.run(history(port, kind, rows, processes))
        execute(COMPUTE)
        for count in counts:
            yield asyncio.run(clients(port, count, seconds / len(counts)))


# -- programs ------------------------------------------------------------------------------------------


def run(code: str, *arguments: object, before: Sequence[str] = ()) -> dict[str, Any]:
    """What a program prints as JSON; it runs in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        ran = subprocess.run(
            [*before, sys.executable, "-c", code, *map(str, arguments)],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])},
            stdout=subprocess.PIPE,
            text=True,
            timeout=120,
            check=True,
        )
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


def full_disk(seconds: float) -> Row:
    """A disk that is full again and again."""
    if not hasattr(os, "getuid") or os.getuid() != 0:
        return Row("full disk", note="not tried: only root can mount a small disk")
    found = run(FULL_DISK, seconds, before=["unshare", "--mount"])
    return Row("full disk", found["attempts"], found["lost"], f"rows and marks, {found['times']} shortages")


def interrupts(seconds: float) -> Row:
    """Interrupts of starts, stops, marks, records and spans."""
    found = run(INTERRUPTS, seconds)
    return Row("interrupts", found["attempts"], found["lost"], "spans left open, threads left over")


def kills(seconds: float) -> Row:
    """Kills of a process that logs."""
    found = run(KILLS, seconds)
    return Row("kills", found["attempts"], found["lost"], f"rows, {found['times']} kills")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts and print the table; 1 if something was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=180, help="of the whole run, about")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 5, 20, 50, 100, 400])
    parser.add_argument("--rows", type=int, default=432_000, help="of the history")
    options = parser.parse_args(arguments)
    share = options.seconds / 6  # two for the clients; the rest is for starts and for the history
    print(f"{'':<28} {'attempts':>9} {'lost':>6}")
    lost = 0
    for each in (full_disk, interrupts, kills):
        row = each(share / 2)
        lost += row.lost
        print(row, flush=True)
    for row in behind_a_server(2 * share, options.clients, options.rows):
        lost += row.lost
        print(row, flush=True)
    print("nothing was lost" if not lost else f"{lost} were lost")
    return int(lost > 0)


if __name__ == "__main__":
    sys.exit(main())
