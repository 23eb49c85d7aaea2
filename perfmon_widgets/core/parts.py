"""Parts: a long text is made and sent in parts.

So other threads run while it is made, and it needs little memory however long it is.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator

from perfmon_widgets.clocks import time

# Bytes of a part in the result. Small ones would cost a message each, a large one much time in one call.
_SIZE = 2**20
# The seconds of work before each pause, and those of the pause. A thread that computes without one keeps the
# GIL for 5 ms whenever another thread wants it; a sample, which takes it some 20 times, would come too late.
_WORK, _PAUSE = 5e-4, 1e-4
# How many parts may be on their way, and how many seconds a reader may take for one.
_ON_THE_WAY, _READ_SECONDS = 4, 30.0


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


class Flow:
    """Holds back the parts that a reader has no time for: four are on their way to it at most.

    One thread sends: it calls ``wait()`` before each part. Another one receives the receipts.
    """

    def __init__(self) -> None:
        self._room = threading.Semaphore(_ON_THE_WAY)
        self._ended = False

    def wait(self) -> bool:
        """Wait until another part may be sent; False if the reader has gone, or takes none for 30 seconds."""
        return self._room.acquire(timeout=_READ_SECONDS) and not self._ended

    def received(self, *, more: bool = True) -> None:
        """Note that the reader has received a part; without ``more`` it wants no others."""
        self._ended |= not more
        self._room.release()
