"""Parts: a long text is made in parts, so that other threads run meanwhile."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from perfmon_widgets.clocks import time

# Bytes of a part in the result. Small ones would cost a message each, a large one much time in one call.
_SIZE = 2**20
# The seconds of work before each pause, and those of the pause. A thread that computes without one keeps
# Python's lock for 5 ms whenever another thread wants it; a sample takes the lock some 20 times, and would
# come too late.
_WORK, _PAUSE = 5e-4, 1e-4


def paced(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the parts, joined to about a megabyte each. Takes a fifth longer than without the pauses.

    Each part should take less than a millisecond to make. They are not joined to one: a single call that
    copies 150 MB would hold up every other thread for as long as that takes.
    """
    waiting: list[bytes] = []
    size = 0
    worked = time.perf_counter()
    for part in parts:
        waiting.append(part)
        size += len(part)
        if size >= _SIZE:
            yield b"".join(waiting)
            waiting.clear()
            size = 0
        if time.perf_counter() - worked > _WORK:
            time.sleep(_PAUSE)
            worked = time.perf_counter()
    if waiting:
        yield b"".join(waiting)
