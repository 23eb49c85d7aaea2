"""Clocks that are turned by hand."""

from __future__ import annotations


class Clocks:
    """Stands in for the module ``time``: the time of day, which is set now and then, and one that is not."""

    def __init__(self) -> None:
        self.set_by, self.passed = 1_800_000_000.0, 0.0

    def time(self) -> float:
        return self.set_by + self.passed

    def monotonic(self) -> float:
        return self.passed
