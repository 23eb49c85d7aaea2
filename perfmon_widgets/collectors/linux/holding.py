"""Holding: what one process of a tree holds in memory, and how sure that is."""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Collection, Mapping, Set
from pathlib import Path

from perfmon_widgets.collectors.linux.member import PAGE, Member
from perfmon_widgets.collectors.linux.survey import File, Spots, survey
from perfmon_widgets.collectors.linux.system_file import read_if_there, read_short
from perfmon_widgets.collectors.linux.versions import Version, Versions

# How many bytes the resident size of a process may change before its shared part is read again.
_STEP = 2**18
# How many bytes that part may change before it is read again how much of it is shared memory.
_MUCH_SHARED = 2**20
# How many bytes, and what share of its memory, may be unknown of a process before it is surveyed.
_UNKNOWN, _UNKNOWN_SHARE = 16 * 2**20, 0.02
# How many pages of a file the OS kernel usually maps at one fault ("fault-around").
_AT_ONE_FAULT = 16
# The largest process, in bytes in memory, whose pages the OS kernel is asked to walk: that takes 45 ms.
_LARGEST = 4 * 2**30


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
        self.shared_memory = 0
        """About how many bytes of ``shared`` are not of files on disks."""
        self.handed_down = 0.0
        """The most bytes of its anonymous pages that a fork of it has begun with."""
        self.has_new_forks = False
        """Whether processes were forked from it since its last survey."""
        self.versions = Versions()
        """Of a sample of its anonymous pages: which of them it has in common with whom."""
        self.counted = 1.0
        """Which share of what it has in common counts already with another process of the tree."""
        self.files: Mapping[File, Spots] = {}
        """Which parts of large files it has in memory, as of the last survey."""
        self.rest = 0
        """Bytes of files and shared memory that were not in ``files`` then."""
        self._begun_with = self._in_common = self._private = 0.0
        self.may_have_passed_on = 0.0
        """How many bytes it may have copied, as its faults say, before it was itself forked with them."""
        # Bytes that it copies for each that it is given, as of the last survey; None before the first.
        self._copying: float | None = None
        # The same of its forks, all together, until each was first surveyed.
        self._forks_copied = self._forks_given = self._forks_variance = 0.0
        self._resident = 0
        self._faults = faults
        self._faults_then = faults
        self._anonymous_then = self._shared_then = self._shared_memory_then = self._shared_before = 0
        self._patience = 1.0
        self._doubted = False
        self.may_survey = True
        """Whether the OS kernel permits to survey it, and it has not ended."""

    def update(self, resident: int, faults: int, shared: int | None = None) -> None:
        """Follow the resident size and the number of page faults; reads the shared part if need be."""
        self._faults = faults
        if not resident:
            self.end()
        if shared is not None:
            self.shared = shared
        elif abs(resident - self._resident) >= _STEP or not resident:
            self._resident = resident
            self.shared = self._read_sizes()[1] if resident else 0
        self.anonymous = max(resident - self.shared, 0)
        if abs(self.shared - self._shared_before) > _MUCH_SHARED:
            self._shared_before = self.shared
            self.shared_memory = self._read_number("status", b"RssShmem:")

    def _read_sizes(self) -> tuple[int, int]:
        """Return its resident size, and how much of it is files and shared memory; 0 if it has ended."""
        with contextlib.suppress(OSError, IndexError):
            _, resident, shared, _ = read_short(f"{self._folder}/statm").split(None, 3)
            return int(resident) * PAGE, int(shared) * PAGE
        return 0, 0

    def begin(self, parent: Holding, anonymous: int) -> None:
        """Begin as a fork of a process that had this much anonymous memory: all of it is now common."""
        self.parent = parent
        self._begun_with = self._in_common = float(min(self.anonymous, anonymous))
        self._anonymous_then = int(self._in_common)
        self.versions.begin(parent.versions)
        if not parent.forked and not parent.handed_down:
            parent.doubt()  # it may have written to its pages already
        parent.has_new_forks = True
        parent.handed_down = max(parent.handed_down, self._in_common)
        if not parent.forked:
            parent._in_common = max(parent._in_common, self._in_common)

    def end(self) -> None:
        """Let go of its parent, or ever more would be kept where each process forks the next."""
        self.parent = None

    def leave(self) -> None:
        """Follow that it has executed a program."""
        self.forked, self.parent, self.files = False, None, {}
        self._in_common = self.handed_down = 0.0
        self.versions.forget()

    @property
    def in_common(self) -> float:
        """Bytes of anonymous pages that it has in common with others."""
        return min(max(self._in_common - self._copied(), 0.0), self.anonymous)

    def _copied(self) -> float:
        """Return about how many bytes it has copied since its last survey."""
        given = max(self._unseen(), 0.0)
        if self._copying is not None:
            return self._copying * given
        if (parent := self.parent) and parent.knows_its_forks:
            return parent._copying_of_forks * given
        # So do forks that have just begun: they write to objects when they use them.
        return min(given, _UNKNOWN)

    @property
    def level_of_parents(self) -> int:
        """The highest level of the samples of those that it was forked from, one from the other."""
        level, parent = 0, self.parent
        while parent:
            level, parent = max(level, parent.versions.level), parent.parent
        return level

    @property
    def knows_its_forks(self) -> bool:
        """Whether one of its forks has been surveyed, so that it is known what these do when they begin."""
        return self._forks_given > 0

    @property
    def _copying_of_forks(self) -> float:
        """Bytes that new forks copy for each that they are given: all, unless the surveys say it is less."""
        doubt = 2 * math.sqrt(self._forks_variance)
        less = self._forks_copied + doubt < self._forks_given
        return self._forks_copied / self._forks_given if less else 1.0

    @property
    def is_new(self) -> bool:
        """Whether it is a fork that has not been surveyed."""
        return self._copying is None and self.forked

    @property
    def own(self) -> float:
        """Bytes of anonymous pages that count with no other process of the tree.

        What it has got since it was forked does not, whether or not its own forks have it, too.
        """
        return self.anonymous - min(self.counted * self.in_common, self._begun_with)

    @property
    def unsure(self) -> bool:
        """Whether it may have copied many anonymous pages since the last survey, or given them back."""
        much = self.unknown > _tolerance(self.anonymous) * self._patience
        return self.may_survey and (much or self._doubted)

    @property
    def unknown(self) -> float:
        """Bytes that it may have copied or given back since the last survey."""
        return max(self._unseen(), self._anonymous_then - self.anonymous)

    @property
    def unsure_of_files(self) -> bool:
        """Whether it has much more or less of files and shared memory than in the last survey."""
        return self.may_survey and abs(self.shared - self._shared_then) > _tolerance(self.shared)

    def is_unsure_of_shared_memory(self, tolerance: float) -> bool:
        """Return whether it has much more or less of shared memory than in the last survey."""
        unknown = abs(self.shared_memory - self._shared_memory_then)
        return self.may_survey and unknown > max(tolerance, _UNKNOWN_SHARE * self.shared_memory)

    @property
    def has_less_files(self) -> bool:
        """Whether ``files`` are more than it has now."""
        return self._shared_then - self.shared > _tolerance(self.shared)

    def doubt(self) -> None:
        """Make the next survey due."""
        self._doubted, self._patience = True, 1.0

    def survey(self) -> bool:
        """Sample the pages; returns whether it has copied many since the last survey."""
        try:
            found = survey(self._folder, self.level_of_parents)
        except OSError:  # it has ended, or the OS kernel has no pagemap, or does not permit reading it
            self.may_survey = False
            return False
        # It may have allocated or freed memory since its size was read. The survey was between that size and
        # the one now: an estimate is kept if it fits any size between them.
        unseen, anonymous, shared = self._unseen(), self.anonymous, self.shared
        self._resident, self.shared = self._read_sizes()
        self.anonymous = max(self._resident - self.shared, 0)
        self._private = found.private
        least, most = sorted(max(size - found.private, 0.0) for size in (anonymous, self.anonymous))
        in_common = min(max(self._in_common, least), most)
        less, self._in_common = self._in_common - in_common, in_common
        copied = max(less, 0.0)
        if self.forked and self.has_new_forks and unseen - copied > _UNKNOWN:
            self.may_have_passed_on = unseen - copied
        self.has_new_forks = False
        parent = self.parent.versions if self.parent else None
        self.versions.follow(found, parent, has_forks=self.handed_down > 0)
        in_files = sum(file.step * len(spots) for file, spots in found.files.items())
        self.files, self.rest = found.files, max(min(shared, self.shared) - in_files, 0)

        if self.is_new and self.parent and unseen > 0:
            self.parent._forks_copied += min(copied, unseen)
            self.parent._forks_given += unseen
            self.parent._forks_variance += copied * (PAGE << found.level)
        self._copying = min(copied / unseen, 1.0) if unseen > 0 else 0.0
        changed = abs(less) > _tolerance(self.anonymous)
        if changed:
            self._patience = 1.0
        elif unseen > _tolerance(self.anonymous):
            # It may have many faults and copy nothing because it allocates and frees all the time.
            self._patience *= 2
        self._doubted = False
        self._faults_then = self._faults
        self._anonymous_then, self._shared_then = self.anonymous, shared
        self._shared_memory_then = self.shared_memory
        return changed

    def weigh(self, counted: Set[Version], everyone: Collection[Holding]) -> None:
        """Find what it has copied and then passed on to forks of its own, all since the last survey.

        A survey says of these pages that they are shared, not with whom. By how many the average page is
        shared says it: with all that have the same version, or only with those that were forked from it.
        """
        most, self.may_have_passed_on = self.may_have_passed_on, 0.0
        common = self.versions.common_at(self.level_of_parents)
        theirs = common & counted
        if not theirs or self.anonymous > _LARGEST:
            return
        family = {id(self)}
        for each in everyone:  # parents first
            if each.parent and id(each.parent) in family:
                family.add(id(each))
        holders = Counter(version for each in everyone for version in each.versions.common)
        size = self.in_common / len(common)
        of_rest = sum(size / holders[version] for version in common - theirs)
        if_theirs = sum(size / holders[version] for version in theirs)
        in_common = size * len(theirs)
        if_its_own = in_common / len(family)
        proportional = self._read_number("smaps_rollup", b"Pss_Anon:")
        if proportional and if_its_own > if_theirs:
            found = proportional - self._private - of_rest
            own = (found - if_theirs) / (if_its_own - if_theirs) * in_common
            if own > most / 2:  # less may be an error in the number of those that share it
                self._begun_with = min(self._begun_with, max(in_common - min(own, most), 0.0))

    def _read_number(self, name: str, field: bytes) -> int:
        """Return the bytes in a field of one of its files in /proc; 0 if there is none."""
        _, _, rest = read_if_there(self._folder / name).partition(b"\n" + field)
        return int(rest.split(None, 1)[0]) * 1024 if rest else 0

    def _unseen(self) -> float:
        """Return the bytes that it was given since the last survey and that its size does not show."""
        given = (self._faults - self._faults_then) * PAGE
        in_files = max(self.shared - self._shared_then, 0) / _AT_ONE_FAULT
        return given - in_files - max(self.anonymous - self._anonymous_then, 0)


def _tolerance(size: int) -> float:
    return max(_UNKNOWN, _UNKNOWN_SHARE * size)
