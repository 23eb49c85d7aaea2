"""Examples: a few forks of a process that were surveyed, and speak for its others."""

from __future__ import annotations

import math

# For how many times as many bytes as were seen a process, or others like it, is expected to go on as before.
FORESIGHT = 2


class Examples:
    """How much the forks of one process copy of what page faults give them, as surveys of a few say."""

    def __init__(self) -> None:
        self.given = 0.0
        """Bytes that the examples were given between two surveys; 0 if there are none."""
        # How many of them they copied, as their samples say, and how many more it may have been.
        self._copied = self._doubt = 0.0

    def add(self, given: float, copied: float, step: int) -> None:
        """Take in what a survey has found, of which each page stands for ``step`` bytes."""
        self.given += given
        self._copied += min(copied, given)
        self._doubt += 2 * math.sqrt((copied + step) * step)

    def forget(self) -> None:
        """Forget all: forks may do something else now."""
        self.given = self._copied = self._doubt = 0.0

    def speak_for(self, given: float) -> bool:
        """Return whether enough is known to say of so many bytes how many of them were copied."""
        return given <= FORESIGHT * self.given

    @property
    def copying(self) -> float:
        """Bytes that forks copy for each that they are given: all, unless the examples say it is less."""
        return self._copied / self.given if self._copied + self._doubt < self.given else 1.0
