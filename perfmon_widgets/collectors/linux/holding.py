"""Holding: what one process of a tree holds in memory, and how sure that is."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Collection, Mapping, Set
from pathlib import Path

from perfmon_widgets.collectors.linux.examples import FORESIGHT, Examples, expected
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
        self.anonymous_before = 0
        """``anonymous`` in the reading before."""
        self.shared_memory = 0
        """About how many bytes of ``shared`` are not of files on disks."""
        self.shared_memory_then = 0
        """The same in the last survey."""
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
        self.begun_with = 0.0
        """The most bytes of anonymous pages that it may still have of those that it was forked with."""
        # Bytes that it had in common with others in the last survey, and that it had alone.
        self._in_common = self._private = 0.0
        self.may_have_passed_on = 0.0
        """Bytes that it may have copied between its last two surveys, and then passed on to its forks."""
        # Bytes that it was given between the last surveys, and how many it copied for each.
        self._given_then = self._copying = 0.0
        self.examples = Examples()
        """Of its forks."""
        self.is_example = False
        """Whether its next survey is one of the examples of its parent's forks."""
        self._resident = 0
        self._faults = faults
        self._faults_then = faults
        self._anonymous_then = self._shared_then = self._shared_before = 0
        self._patience = 1.0
        self._doubted = False
        self.may_survey = True
        """Whether the OS kernel permits surveying it, and it has not ended."""
        self.ended = False
        """Whether it has ended, or runs another program now."""

    def is_of(self, member: Member) -> bool:
        """Return whether it is still that of this process, with the same program."""
        return self.member is member and self.forked == member.forked

    @property
    def has_just_ended(self) -> bool:
        """Whether it has ended since the last reading, and its parent has not waited for it."""
        return self.member is not None and not self.member.resident and not self.ended

    def update(self, resident: int, faults: int, shared: int | None = None) -> None:
        """Follow the resident size and the number of page faults; reads the shared part if need be."""
        self._faults = faults
        self.anonymous_before = self.anonymous
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
        with contextlib.suppress(OSError, ValueError):
            _, resident, shared, _ = read_short(f"{self._folder}/statm").split(None, 3)
            return int(resident) * PAGE, int(shared) * PAGE
        return 0, 0

    def begin(self, parent: Holding) -> None:
        """Begin as a fork of a process, with all anonymous memory that this had: all of it is now common."""
        self.parent = parent
        had = max(parent.anonymous, parent.anonymous_before)
        self.begun_with = self._in_common = float(min(self.anonymous, had))
        if self.anonymous - had > _UNKNOWN:
            self.doubt()  # its parent may have had more in between
        self._anonymous_then = int(self._in_common)
        self.versions.begin(parent.versions)
        if not parent.forked and not parent.handed_down:
            parent.doubt()  # it may have written to its pages already
        parent.has_new_forks = True
        parent.handed_down = max(parent.handed_down, self._in_common)
        if not parent.forked:
            parent._in_common = max(parent._in_common, self._in_common)

    def end(self) -> None:
        """Note that it has ended, or runs another program now; keep its versions, which its forks need.

        Drop its parent: else a chain of forks would keep every earlier process of the chain in memory.
        """
        self.parent, self.may_survey, self.ended, self.anonymous = None, False, True, 0

    def forget_forks(self) -> None:
        """Note that all its forks have ended: later ones may behave differently."""
        self.has_new_forks, self.handed_down = False, 0.0
        self.examples.forget()

    @property
    def in_common(self) -> float:
        """Bytes of anonymous pages that it has in common with others."""
        return min(max(self._in_common - self._copied(), 0.0), self.anonymous)

    def _copied(self) -> float:
        """Return about how many bytes it has copied since its last survey."""
        if not self.relies_on_others:
            return expected(self._copying, self.given, self._given_then)
        if self.parent and self.parent.examples.given:
            return self.parent.examples.expected(self.given)
        # Without data, a fork is taken to copy: CPython writes reference counts even where it only reads.
        return min(self.given, _UNKNOWN)

    @property
    def given(self) -> float:
        """Bytes of page faults since its last survey that its size does not show: copied, or freed again."""
        return max(self._unseen(), 0.0)

    @property
    def relies_on_others(self) -> bool:
        """Whether its own surveys saw too little to estimate how much it copies: see ``_copied``."""
        return self._given_then < _UNKNOWN or self.given > FORESIGHT * self._given_then

    @property
    def level_of_parents(self) -> int:
        """The highest level of the samples of its ancestors, as far as each forked the next."""
        level, parent = 0, self.parent
        while parent:
            level, parent = max(level, parent.versions.level), parent.parent
        return level

    @property
    def own(self) -> float:
        """Bytes of anonymous pages that count with this process, and not with another of the tree.

        What it has got since it was forked always counts with it, also if forks of its own have it, too.
        """
        return self.anonymous - min(self.counted * self.in_common, self.begun_with)

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
        unknown = abs(self.shared_memory - self.shared_memory_then)
        return self.may_survey and unknown > max(tolerance, _UNKNOWN_SHARE * self.shared_memory)

    @property
    def freed(self) -> float:
        """Bytes of anonymous pages that it has given back since the last survey, if that is many."""
        freed = self._anonymous_then - self.anonymous
        return float(freed) if freed > _tolerance(self.anonymous) else 0.0

    @property
    def has_less_files(self) -> bool:
        """Whether ``files`` are more than it has now."""
        return self._shared_then - self.shared > _tolerance(self.shared)

    def doubt(self) -> None:
        """Make the next survey due."""
        self._doubted, self._patience = True, 1.0

    def survey(self) -> bool:
        """Sample the pages; return whether it shares many more or fewer bytes than in the last survey."""
        try:
            # As fine as before at most: its forks have the versions of those pages.
            level = self.versions.level if self.handed_down else 0
            found = survey(self._folder, max(level, self.level_of_parents))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            # It has ended, or the OS kernel has no pagemap, or does not permit reading it.
            self.may_survey = False
            return False
        except OSError:  # no more files can be opened
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
        parent = self.parent
        # Nothing is known of its pages if the OS kernel does not permit surveying its parent.
        if parent is None or parent.ended or parent.versions.all:
            self.versions.follow(found, parent.versions if parent else None, has_forks=self.handed_down > 0)
        if self.forked and not self.handed_down:
            self.begun_with = max(self.begun_with, in_common)  # with whom else would it share?
        in_files = sum(file.step * len(spots) for file, spots in found.files.items())
        self.files, self.rest = found.files, max(min(shared, self.shared) - in_files, 0)

        self._given_then = max(unseen, 0.0)
        self._copying = min(copied / unseen, 1.0) if unseen > 0 else 0.0
        if self.is_example and self.parent and unseen > 0:
            self.parent.examples.add(unseen, copied, PAGE << found.level)
        changed = abs(less) > _tolerance(self.anonymous)
        if changed:
            self._patience = 1.0
        elif unseen > _tolerance(self.anonymous):
            # It may have many faults and copy nothing because it allocates and frees all the time.
            self._patience *= 2
        self._doubted = self.is_example = False
        self._faults_then = self._faults
        self._anonymous_then, self._shared_then = self.anonymous, shared
        self.shared_memory_then = self.shared_memory
        return changed

    def weigh(self, counted: Set[Version], everyone: Collection[Holding]) -> None:
        """Estimate what it copied and then passed on to new forks, both between its last two surveys.

        A survey only says that these pages are shared. Among how many follows from ``Pss_Anon``, to which a
        page that n processes share adds one nth of its size: n are all that have the old version, or only
        this process and its descendants. To compute it, the OS kernel walks all pages of the process.
        """
        most, self.may_have_passed_on = self.may_have_passed_on, 0.0
        common = self.versions.common_at(self.level_of_parents)
        theirs = common & counted
        if not theirs:
            return
        family = {id(self)}
        for each in everyone:  # parents first
            if each.parent and each.anonymous and id(each.parent) in family:
                family.add(id(each))
        holders = Counter(version for each in everyone if each.anonymous for version in each.versions.common)
        size = self.in_common / len(common)
        of_rest = sum(size / holders[version] for version in common - theirs)
        if_theirs = sum(size / holders[version] for version in theirs)
        bytes_of_theirs = size * len(theirs)
        if_its_own = bytes_of_theirs / len(family)
        proportional = self._read_number("smaps_rollup", b"Pss_Anon:")
        if proportional and if_its_own > if_theirs:
            found = proportional - self._private - of_rest
            own = (found - if_theirs) / (if_its_own - if_theirs) * bytes_of_theirs
            if own > most / 2:  # less may be an error in the number of those that share it
                self.begun_with = min(self.begun_with, max(bytes_of_theirs - min(own, most), 0.0))

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
