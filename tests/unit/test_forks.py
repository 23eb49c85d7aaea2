"""What a forked child renews."""

from __future__ import annotations

import gc
import threading

from perfmon_widgets.forks import renew_after_fork


class Locked:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        renew_after_fork(self)

    def renew_after_fork(self) -> None:
        self.lock = threading.Lock()


def test_a_lock_that_the_parent_holds_is_free_in_the_child(forked):
    owner = Locked()
    with owner.lock:
        assert forked(lambda: owner.lock.acquire(timeout=0))
    assert forked(lambda: owner.lock.acquire(timeout=0))


def test_an_object_that_is_dropped_is_not_kept_alive(forked):
    owner = Locked()
    owner.renew_after_fork = None  # would raise
    del owner
    gc.collect()
    assert forked(lambda: True)
