"""Holding: what one process of a tree holds in memory, and how sure that is."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from pathlib import Path

from perfmon_widgets.collectors.linux.member import PAGE, Member
from perfmon_widgets.collectors.linux.survey import File, Spots, survey
from perfmon_widgets.collectors.linux.system_file import read_short

# How many bytes the resident size of a process may change before its shared part is read again.
_STEP = 2**18
# How many bytes, and what share of its memory, may be unknown of a process before it is surveyed.
_UNKNOWN, _UNKNOWN_SHARE = 16 * 2**20, 0.02


class Holding:
    """The memory of one process; ``member`` is None for the root of the tree."""

    def __init__(self, folder: Path, forked: bool, faults: int, member: Member | None = None) -> None:
        self._folder = folder
        self.member = member
        self.forked = forked
        """Whether it runs the program that it was forked from, so that the two share memory."""
        self.parent: Holding | None = None
        """The process that it was forked from; None if it has executed a program."""
        self.anonymous = self.shared = 0
        """Bytes in memory that belong to no file and no shared memory; and those that do."""
        self.handed_down = 0.0
        """The most bytes of its anonymous pages that a fork of it has begun with."""
        self.files: Mapping[File, Spots] = {}
        """Which parts of large files it has in memory, as of the last survey."""
        self.rest = 0
        """Bytes of files and shared memory that were not in ``files`` then."""
        self._inherited = self._begun_with = self._own_when_forking = 0.0
        self._shareable = math.inf
        self._copying = 0.0
        self._resident = 0
        self._faults = faults
        self._faults_then: float = faults
        self._anonymous_then = self._shared_then = 0
        self._patience = 1.0
        self._may_survey = True

    def update(self, resident: int, faults: int, shared: int | None = None) -> None:
        """Follow the resident size and the number of page faults; reads the shared part if need be."""
        self._faults = faults
        if shared is not None:
            self.shared = shared
        elif abs(resident - self._resident) >= _STEP or not resident:
            self._resident = resident
            self.shared = self._read_sizes()[1] if resident else 0
        self.anonymous = max(resident - self.shared, 0)

    def _read_sizes(self) -> tuple[int, int]:
        """Return its resident size, and how much of it is files and shared memory; 0 if it has ended."""
        with contextlib.suppress(OSError, IndexError):
            _, resident, shared, _ = read_short(f"{self._folder}/statm").split(None, 3)
            return int(resident) * PAGE, int(shared) * PAGE
        return 0, 0

    def begin(self, parent: Holding, anonymous: int) -> None:
        """Begin as a fork of a process that had this much anonymous memory: all of it is now common."""
        self.parent = parent
        self._begun_with = self._inherited = float(min(self.anonymous, anonymous))
        self._anonymous_then = int(self._inherited)
        if parent.forked:
            parent._own_when_forking = parent.own
            parent._inherited = max(parent._inherited, self._inherited)
            # A survey of it now finds also what it shares with its forks. A
            # survey of those above it finds what it has of theirs.
            above = parent.parent
            while above is not None:
                above.doubt()
                above = above.parent
        elif not parent.handed_down:
            parent.doubt()  # it may have written to its pages already
        parent.handed_down = max(parent.handed_down, min(self._inherited, parent.anonymous))

    def leave(self) -> None:
        """Follow that it has executed a program."""
        self.forked, self.parent, self._inherited, self.files = False, None, 0.0, {}

    @property
    def inherited(self) -> float:
        """Bytes of anonymous pages that it has in common with its parent or with forks of its own."""
        copied = self._copying * max(self._unseen(), 0.0) if self._copying else 0.0
        return min(max(self._inherited - copied, 0.0), self.anonymous)

    @property
    def from_parent(self) -> float:
        """Bytes of anonymous pages that it has in common with its parent."""
        in_common = self.inherited - self.passed_on
        return min(in_common, self._begun_with) if self.handed_down else in_common

    @property
    def passed_on(self) -> float:
        """Bytes of anonymous pages that were its own until its forks got them, too.

        It has them in common, and they are more than its parent has in common with anybody.
        """
        if not self._own_when_forking or self.parent is None:
            return 0.0
        return min(self._own_when_forking, max(self.inherited - self.parent.shareable, 0.0))

    @property
    def shareable(self) -> float:
        """Bytes of anonymous pages that count already, and that its forks may have in common with it."""
        if self.forked:
            return self.from_parent + self.passed_on
        return min(self._shareable, self.anonymous)

    @property
    def own(self) -> float:
        """Bytes of anonymous pages that only it has, or it and its forks."""
        return self.anonymous - self.inherited + self.passed_on

    @property
    def unsure(self) -> bool:
        """Whether it may have copied many anonymous pages since the last survey, or given them back."""
        freed = self._anonymous_then - self.anonymous
        unknown = max(self._unseen(), freed)
        return self._may_survey and unknown > _tolerance(self.anonymous) * self._patience

    @property
    def unsure_of_files(self) -> bool:
        """Whether it has much more or less of files and shared memory than in the last survey."""
        return self._may_survey and abs(self.shared - self._shared_then) > _tolerance(self.shared)

    @property
    def has_less_files(self) -> bool:
        """Whether ``files`` are more than it has now."""
        return self._shared_then - self.shared > _tolerance(self.shared)

    def doubt(self) -> None:
        """Make the next survey due."""
        self._faults_then, self._copying, self._patience = -math.inf, 0.0, 1.0

    def survey(self) -> bool:
        """Sample the pages; returns whether it has copied many since the last survey."""
        try:
            found = survey(self._folder)
        except OSError:  # it has ended, or the OS kernel has no pagemap, or does not permit reading it
            self._may_survey = False
            return False
        # It may have allocated or freed memory since its size was read. The survey was between that size and
        # the one now: an estimate is kept if it fits any size between them.
        unseen, anonymous, shared = self._unseen(), self.anonymous, self.shared
        self._resident, self.shared = self._read_sizes()
        self.anonymous = max(self._resident - self.shared, 0)
        least, most = sorted(max(size - found.private, 0.0) for size in (anonymous, self.anonymous))
        if self.forked:
            in_common = min(max(self._inherited, least), most)
            copied, self._inherited = abs(self._inherited - in_common), in_common
        else:
            shareable = min(self._shareable, self.handed_down)
            self._shareable = min(max(shareable, least), most)
            copied = abs(shareable - self._shareable)
        known = sum(file.step * len(spots) for file, spots in found.files.items())
        self.files, self.rest = found.files, max(min(shared, self.shared) - known, 0)

        self._copying = min(copied / unseen, 1.0) if 0 < unseen < math.inf and self.forked else 0.0
        # A process may have many faults and copy nothing, because it allocates and frees all the time.
        changed = copied > _tolerance(self.anonymous)
        self._patience = 1.0 if changed else 2 * self._patience
        self._faults_then = self._faults
        self._anonymous_then, self._shared_then = self.anonymous, shared
        return changed

    def _unseen(self) -> float:
        """Return the bytes that it was given since the last survey and that its size does not show."""
        return (self._faults - self._faults_then) * PAGE - max(self.anonymous - self._anonymous_then, 0)


def _tolerance(size: int) -> float:
    return max(_UNKNOWN, _UNKNOWN_SHARE * size)
