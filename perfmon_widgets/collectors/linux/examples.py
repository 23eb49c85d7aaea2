"""Examples: how much the forks of one process copy, estimated from surveys of a few of them."""

from __future__ import annotations

import math

# A share of copies is relied on for at most this many times as many bytes as it was measured on.
FORESIGHT = 2


def expected(copying: float, given: float, seen: float) -> float:
    """Return about how many of the bytes that a fork was given it has copied: at most as many as were seen.

    ``copying``: which share it was of ``seen`` bytes. What a process does next is often something else: after
    its start a fork copies less than while it started. The next survey shows what it was.
    """
    return copying * min(given, seen)


class Examples:
    """What surveys of a few forks of one process have found: how much of what they are given they copy.

    Page faults give a process memory: copies of pages that it shared, and pages that it allocates.
    """

    def __init__(self) -> None:
        self.given = 0.0
        """Bytes that the examples were given between two surveys; 0 if there are none."""
        self._count = 0
        # How many of them they copied, as their samples say, and how many more it may have been.
        self._copied = self._doubt = 0.0

    def add(self, given: float, copied: float, step: int) -> None:
        """Take in what a survey has found, of which each page stands for ``step`` bytes."""
        self.given += given
        self._count += 1
        self._copied += min(copied, given)
        self._doubt += 2 * math.sqrt((copied + step) * step)

    def forget(self) -> None:
        """Forget all: forks may do something else now."""
        self.given = self._copied = self._doubt = 0.0
        self._count = 0

    def speak_for(self, given: float) -> bool:
        """Return whether the examples suffice to estimate how many of ``given`` bytes were copied."""
        return given <= FORESIGHT * self.given

    def expected(self, given: float) -> float:
        """Return about how many of these bytes a fork has copied, as the examples did: all if in doubt."""
        is_less = self._copied + self._doubt < self.given
        copying = self._copied / self.given if is_less else 1.0
        return expected(copying, given, self.given / self._count)
