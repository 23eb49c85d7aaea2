"""Long texts in parts."""

from __future__ import annotations

import time

from perfmon_widgets.core.parts import paced


def test_small_parts_are_joined_and_large_ones_are_not():
    parts = [b"%7d\n" % number for number in range(300_000)]
    gathered = [*paced(parts)]
    assert b"".join(gathered) == b"".join(parts)
    assert len(gathered) == 3
    assert {len(part) // 2**20 for part in gathered[:-1]} == {1}


def test_of_nothing_there_are_no_parts():
    assert [*paced([])] == []


def test_the_work_is_interrupted_by_pauses(monkeypatch):
    pauses = []
    monkeypatch.setattr("perfmon_widgets.clocks.time.sleep", pauses.append)

    def working():
        for _ in range(10):
            end = time.perf_counter() + 1e-3
            while time.perf_counter() < end:
                pass
            yield b""

    assert [*paced(working())] == [b""]
    assert len(pauses) == 10
