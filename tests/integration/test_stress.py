"""The stress run (benchmarks/stress.py), in brief: every part tries something, and nothing is lost."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks import stress

STRESS = Path(__file__).parents[1] / "benchmarks" / "stress.py"
PARTS = ("full disk", "interrupts", "kills", "history as json", "history as csv", "1 clients", "20 clients")


@pytest.mark.alone
def test_a_short_run_loses_nothing():
    ran = subprocess.run(
        [sys.executable, STRESS, "--seconds", "20", "--clients", "1", "20", "--rows", "5000"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (ran.returncode, ran.stdout.splitlines()[-1]) == (0, "nothing was lost"), ran.stdout + ran.stderr
    attempts = {line[:28].strip(): int(line[28:38]) for line in ran.stdout.splitlines()[1:-1]}
    assert tuple(attempts) == PARTS
    untried = {name for name, count in attempts.items() if not count}
    assert untried <= (set() if os.getuid() == 0 else {"full disk"})


def test_what_is_lost_is_reported(monkeypatch, capsys):
    for name in ("full_disk", "interrupts", "kills"):
        monkeypatch.setattr(stress, name, lambda _: stress.Row("part", 10, 2))
    monkeypatch.setattr(stress, "behind_a_server", lambda *_: iter([stress.Row("5 clients", 3, 1)]))
    assert stress.main(["--seconds", "1"]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "7 were lost"


@pytest.mark.parametrize(
    ("answer", "lost"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", False),
        (b"HTTP/1.1 504 Gateway Timeout\r\nContent-Length: 2\r\n\r\n{}", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", True),  # the rest does not come
    ],
)
def test_an_answer_is_lost_unless_it_is_whole_and_right(answer, lost):
    async def run() -> stress.Row:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
            writer.close()
            ended.set()

        row, ended = stress.Row(""), asyncio.Event()
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            await stress.ask(server.sockets[0].getsockname()[1], row, ended)
        return row

    row = asyncio.run(run())
    assert row.attempts >= 1
    assert bool(row.lost) == lost
