"""Everything at once for a long time: no row is lost, and memory, threads and open files stay what they were.

``python tests/benchmarks/soak.py --hz 20 --minutes 30`` takes half an hour; for a day, and in the background:
``nohup python tests/benchmarks/soak.py --hz 20 --minutes 1440 >soak.txt &``. It ends with status 1 if
something was lost or grew, and says what.

A monitor with the collectors of this machine feeds a panel with an open section (its comm is a recorder, no
browser), a CSV log, and a server that several clients in a process of their own poll; one of them follows the
rows by ``?since=``. Each row carries its number, so that a row that is missing in the file or on the way is
seen. Ticks that came too late are gaps, not lost rows, and stand under "missed": rows and missed together are
as many as were due. The window is filled within the first part of the run; what grows is measured after it,
as the line through all readings of the resident memory, in MB and per million samples. An allocator gives and
takes some pages at any time: how much counts as growth is ``--growth``.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import http.client
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from fakes.collectors import FakeCollector
from fakes.comm import Wire

from perfmon_widgets import PerformanceMonitor, PerformancePanel, default_collectors, serve

NUMBER = "row_count"
PATHS = ("current", "history", "metrics", "logging", "history?format=csv")
MEGABYTE = 1e6


@dataclass(frozen=True)
class Reading:
    """What the process was at one moment."""

    seconds: float
    samples: int
    missed: int
    resident: int
    """Bytes."""
    threads: int
    files: int
    messages: int
    """To the browser, so far."""

    def __str__(self) -> str:
        return (
            f"{self.seconds / 60:8.1f} {self.samples:9} {self.missed:7} {self.resident / MEGABYTE:8.2f} "
            f"{self.threads:8} {self.files:6} {self.messages:9}"
        )


HEADER = (
    f"{'minutes':>8} {'samples':>9} {'missed':>7} {'RSS MB':>8} {'threads':>8} {'files':>6} {'messages':>9}"
)


def growth(readings: Sequence[Reading]) -> tuple[float, float]:
    """What the line through the resident memory rises by: bytes per sample, and bytes from end to end."""
    samples = np.array([reading.samples for reading in readings], float)
    resident = np.array([reading.resident for reading in readings], float)
    if np.ptp(samples) == 0:
        return 0.0, 0.0
    slope = float(np.polyfit(samples - samples[0], resident, 1)[0])
    return slope, slope * float(np.ptp(samples))


def complaints(readings: Sequence[Reading], allowed: float) -> list[str]:
    """What has grown over these readings, ``allowed`` bytes of memory excepted; nothing if all is well."""
    found = []
    risen = growth(readings)[1]
    if risen > allowed:
        found.append(f"memory grew by {risen / MEGABYTE:.1f} MB")
    part = max(1, len(readings) // 3)
    for name in ("threads", "files"):
        # Connections come and go: what is left open shows in the lowest counts.
        first, last = (
            min(getattr(one, name) for one in some) for some in (readings[:part], readings[-part:])
        )
        if last > first:
            found.append(f"{name} grew from {first} to {last}")
    return found


def lost(
    rows: int, missed: int, due: float, about: float, numbers: Sequence[float], followed: int
) -> list[str]:
    """The rows that are missing: in the file, which holds these numbers, on the way, in the count.

    ``due`` ticks were due, give or take ``about``: the thread begins and ends a little later than asked.
    """
    found = []
    if list(numbers) != list(range(rows)):
        found.append(
            f"of {rows} rows {len(set(range(rows)) - set(numbers))} are not in the file, or not in order"
        )
    if followed != rows:
        found.append(f"of {rows} rows {followed} came to the client that follows them")
    if abs(due - rows - missed) > about:
        found.append(f"{due:.0f} ticks were due, but {rows} rows and {missed} missed are {rows + missed}")
    return found


def read_numbers(path: Path) -> list[float]:
    """The numbers of the rows in a log, which may be larger than what fits into memory."""
    with path.open(newline="") as file:
        return [float(row[NUMBER]) for row in csv.DictReader(file)]


# -- the clients, in a process of their own ----------------------------------------------------------------


class Clients:
    """Clients that poll each half second until they are asked to end."""

    def __init__(self, url: str, token: str) -> None:
        self._url, self._token = urlsplit(url), token
        self._ended = threading.Event()
        self.answers = self.rows = 0
        self.errors: list[str] = []

    def run(self, count: int) -> None:
        """So many that ask for everything in turn, one that follows the rows; until standard input ends."""
        threads = [threading.Thread(target=self._poll, args=(number,)) for number in range(count)]
        threads.append(threading.Thread(target=self._follow))
        for thread in threads:
            thread.start()
        print("ready", flush=True)
        sys.stdin.read()
        self._ended.set()
        for thread in threads:
            thread.join()

    @contextlib.contextmanager
    def _connected(self) -> Iterator[http.client.HTTPConnection]:
        connection = http.client.HTTPConnection(self._url.hostname or "", self._url.port, timeout=60)
        try:
            yield connection
        except (OSError, http.client.HTTPException) as error:
            self.errors.append(f"{type(error).__name__}: {error}")
        finally:
            connection.close()

    def _ask(self, connection: http.client.HTTPConnection, path: str) -> bytes:
        headers = {"Authorization": f"token {self._token}"}
        connection.request("GET", f"/api/performance/{path}", headers=headers)
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != 200 and not (answer.status == 503 and path == "current"):  # no sample yet
            raise OSError(f"{path}: {answer.status} {content[:200]!r}")
        self.answers += 1
        return content

    def _poll(self, number: int) -> None:
        while not self._ended.is_set():
            with self._connected() as connection:  # a new one each minute, as of a page that is loaded again
                for path in (PATHS * 25)[number : number + 120]:
                    self._ask(connection, path)
                    if self._ended.wait(0.5):
                        return

    def _follow(self) -> None:
        since, last = "1970-01-01T00:00:00Z", False
        while not last:
            with self._connected() as connection:
                while not last:
                    last = self._ended.wait(0.5)  # after the end once more
                    news = json.loads(self._ask(connection, f"history?since={quote(since)}"))["time"]
                    self.rows += len(news)
                    since = news[-1] if news else since


@contextlib.contextmanager
def clients(url: str, token: str, count: int) -> Iterator[subprocess.Popen[str]]:
    """A process in which ``count`` clients run; it ends with the block."""
    command = [sys.executable, __file__, "--poll", url, "--clients", str(count)]
    pipe = subprocess.PIPE
    environment = os.environ | {"SOAK_TOKEN": token}
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True) as child:
        try:
            assert child.stdout.readline() == "ready\n"
            yield child
        finally:
            child.kill()


# -- the run -----------------------------------------------------------------------------------------------


class Screen:
    """A panel that is looked at: what it sends is counted and forgotten, its sections are opened in turn."""

    def __init__(self, monitor: PerformanceMonitor, wire: Wire) -> None:
        self._wire = wire
        self._turn = 0
        self.messages = 0
        self.panel = PerformancePanel(monitor)
        monitor.on_sample(self._forget)  # after the panel, so that all it sends is counted

    def _forget(self, _: object) -> None:
        self.messages += len(self._wire.messages)
        self._wire.clear()

    def look(self) -> None:
        """What a browser does now and then: say that it is there; and a person: open another section."""
        self._wire.ask(self.panel._link, page="page", views=1)
        self._turn += 1
        self.panel.advanced.selected_index = self._turn % len(self.panel.advanced.children)


def watch(monitor: PerformanceMonitor, screen: Screen, seconds: float) -> list[Reading]:
    """Let it run for so long and print how it is; returns the readings since the window was full."""
    readings: list[Reading] = []
    started = time.monotonic()
    warm, pause = max(1.2 * monitor.window, seconds / 10), min(60.0, seconds / 60)
    print(HEADER, flush=True)
    while (passed := time.monotonic() - started) < seconds:
        # At first quickly, so that each section's charts are made before what grows is measured.
        time.sleep(warm / 20 if passed < warm else pause)
        screen.look()
        reading = read(monitor, time.monotonic() - started, screen.messages)
        if passed >= warm:
            readings.append(reading)
        if len(readings) % 5 == 1 or passed + pause >= seconds:
            print(reading, flush=True)
    return readings


def soak(monitor: PerformanceMonitor, minutes: float, count: int, allowed: float, folder: Path) -> list[str]:
    """Run everything; prints as it goes, and returns what was lost or has grown."""
    path = monitor.log.start(folder / "soak.csv")
    print(f"{monitor!r}, {minutes:g} minutes, {count + 1} clients, load {os.getloadavg()[0]:.1f}")
    with pytest.MonkeyPatch.context() as patch, serve(monitor) as server:
        screen = Screen(monitor, Wire(patch))
        with clients(server.url, server.token, count) as child:
            started = time.monotonic()
            monitor.start()
            readings = watch(monitor, screen, 60 * minutes)
            monitor.stop()  # the server goes on, so that the last rows are followed too
            due = (time.monotonic() - started) / monitor.interval
            result = json.loads(child.communicate(timeout=60)[0])
        screen.panel.close()
    rows, missed = monitor._history.count, monitor.missed
    per_sample, risen = growth(readings)
    print(f"from minute {readings[0].seconds / 60:.1f} on, {len(readings)} readings:")
    print(f"memory {per_sample:+.2f} MB per million samples, {risen / MEGABYTE:+.2f} MB in all")
    for name in ("threads", "files"):
        counts = [getattr(reading, name) for reading in readings]
        print(f"{name} {min(counts)} to {max(counts)}, at the end {counts[-1]}")
    print(
        f"rows {rows}, in the file {monitor.log.rows}, followed over HTTP {result['rows']}, missed {missed}"
    )
    print(f"answers {result['answers']}, failed {len(result['errors'])}; load {os.getloadavg()[0]:.1f}")
    second = 1 / monitor.interval + 2
    found = lost(rows, missed, due, second, read_numbers(path), result["rows"]) + complaints(
        readings, allowed
    )
    return found + [f"a request failed: {error}" for error in result["errors"]]


def read(monitor: PerformanceMonitor, seconds: float, messages: int) -> Reading:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return Reading(
        seconds=seconds,
        samples=monitor._history.count,
        missed=monitor.missed,
        resident=pages * os.sysconf("SC_PAGE_SIZE"),
        threads=len(os.listdir("/proc/self/task")),
        files=len(os.listdir("/proc/self/fd")),
        messages=messages,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--hz", type=float, default=20.0, help="samples per second")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--window", type=float, default=60.0, help="seconds of history")
    parser.add_argument("--clients", type=int, default=5, help="HTTP clients that poll")
    parser.add_argument("--growth", type=float, default=2.0, help="MB of memory that are no growth")
    parser.add_argument("--poll", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.poll:
        polling = Clients(given.poll, os.environ["SOAK_TOKEN"])
        polling.run(given.clients)
        print(json.dumps({"answers": polling.answers, "rows": polling.rows, "errors": polling.errors}))
        return 0
    collectors = [*default_collectors(), FakeCollector(NUMBER)]
    monitor = PerformanceMonitor(collectors, interval=1 / given.hz, window=given.window)
    with tempfile.TemporaryDirectory() as folder:
        found = soak(monitor, given.minutes, given.clients, given.growth * MEGABYTE, Path(folder))
    print("\n".join(found) or "nothing was lost, and nothing grew")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
