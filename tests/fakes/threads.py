"""Waits for threads of the package."""

from __future__ import annotations

import threading


def join_threads(name: str) -> None:
    """Wait until no thread of that name runs."""
    for thread in threading.enumerate():
        if thread.name == name:
            thread.join(10)
            assert not thread.is_alive(), f"{name} has not ended"
