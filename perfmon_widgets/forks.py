"""Forks: the one place where a forked child renews what it must not share with its parent.

A child of ``os.fork`` (``multiprocessing`` with the start method ``fork``) begins with a copy of this
process's memory, but with one thread only. A lock that another thread held stays held for ever, a thread
object has no thread, and files and sockets belong to both.

Python calls what is registered here in every child that it forks itself. A child that C code forks, and that
then runs Python, is not renewed. Comparing process ids would notice such a child, at the price of a check in
every call; but Python's own locks and threads are broken there, so it cannot use this package anyway.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Renewable(Protocol):
    """An object that holds a lock, a thread, a file or a socket."""

    def renew_after_fork(self) -> None:
        """In a forked child: make new locks, forget threads, leave files and sockets to the parent."""
        ...


_renewables: weakref.WeakSet[Renewable] = weakref.WeakSet()


def renew_after_fork(renewable: Renewable) -> None:
    """Call ``renewable.renew_after_fork()`` in each forked child, for as long as the object lives.

    The objects are called in no particular order, so each must renew itself without asking another.
    """
    _renewables.add(renewable)


def _renew_all() -> None:
    for renewable in tuple(_renewables):
        renewable.renew_after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_renew_all)
