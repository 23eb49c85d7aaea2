"""PerfmonNode: the actor that Ray starts on each node. It hands over the rows of a monitor there.

Ray pickles this module by value (see ray_actors.py): a node that cannot import this package could not even
unpickle a class of it, and could not say so in a way that other errors of an actor differ from.
"""

from __future__ import annotations

from typing import Any


class PerfmonNode:
    """Has its node take a sample every ``interval`` seconds; ``cpus`` are those that Ray may use there."""

    def __init__(self, interval: float, cpus: float, key: str, name: str) -> None:
        self._arguments = (interval, cpus, key, name)
        self._reporter: Any = None

    def next_row(self, seconds: float) -> dict[str, Any] | None:
        """Return the next row as a message, as soon as there is one; None if none came within ``seconds``.

        Raises ImportError if this package, or one that it needs, cannot be imported here.
        """
        if self._reporter is None:  # not in the constructor: what that raises, Ray reports as a lost actor
            from perfmon_widgets.cluster.ray_node import Reporter  # noqa: PLC0415 - it may not be there

            self._reporter = Reporter(*self._arguments)
        message: dict[str, Any] | None = self._reporter.next_row(seconds)
        return message
