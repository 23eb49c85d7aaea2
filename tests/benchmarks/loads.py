"""What a process does while it is sampled: each is a ``with`` block around seconds of it."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import threading
import time
from collections.abc import Iterator

from training import numpy, pure_python


def idle(seconds: float) -> None:
    time.sleep(seconds)


def python_loop(seconds: float) -> None:
    _repeat(pure_python(), seconds)


def numpy_loop(seconds: float) -> None:
    _repeat(numpy(), seconds)


def gil_held(seconds: float) -> None:
    """A C function that keeps the GIL for 3 s, between two stretches of the loop above."""
    python_loop((seconds - 3) / 2)
    ctypes.PyDLL(None).usleep(3_000_000)  # PyDLL, other than CDLL, does not let go of the GIL
    python_loop((seconds - 3) / 2)


def quick_calls(seconds: float) -> None:
    """A loop that lets go of the GIL every 2 ms, but for a few microseconds only."""
    end = time.monotonic() + seconds
    while (now := time.monotonic()) < end:
        while time.monotonic() < now + 0.002:
            pass
        os.stat(".")


def many_threads(seconds: float) -> None:
    """200 threads that compute for a moment, then wait for 50 ms: more than one at a time wants the GIL."""
    threads = [threading.Thread(target=_now_and_then, args=(seconds,)) for _ in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _repeat(step: object, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        step()


def _now_and_then(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sum(range(10_000))
        time.sleep(0.05)


LOADS = {
    "idle": idle,
    "pure-Python main thread": python_loop,
    "NumPy": numpy_loop,
    "pure Python with a quick system call every 2 ms": quick_calls,
    "a C call that holds the GIL for 3 s": gil_held,
    "200 threads": many_threads,
}


@contextlib.contextmanager
def all_cpus() -> Iterator[None]:
    """A child process that computes on each CPU, as in JUmPER's benchmark."""
    over = multiprocessing.Event()
    children = [
        multiprocessing.Process(target=_burn, args=(over,), daemon=True)
        for _ in range(len(os.sched_getaffinity(0)))
    ]
    for child in children:
        child.start()
    try:
        time.sleep(0.5)
        yield
    finally:
        over.set()
        for child in children:
            child.join()


def _burn(over: threading.Event) -> None:
    while not over.is_set():
        for number in range(50_000):
            number * number
