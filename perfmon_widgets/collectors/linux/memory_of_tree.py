"""Memory of a tree of processes in which every page counts once."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from perfmon_widgets.collectors.allowance import Allowance
from perfmon_widgets.collectors.linux.holding import Holding
from perfmon_widgets.collectors.linux.member import PAGE, Member, fields_of
from perfmon_widgets.collectors.linux.survey import File, Spots
from perfmon_widgets.collectors.linux.system_file import SystemFile, read_if_there, read_short

if sys.platform != "win32":  # where this module is imported, but not used
    import resource

# The most processes that are surveyed in one reading, about 80 ms.
_AT_ONCE = 16
# Below this many bytes of files and shared memory in a process, files are those of libraries, likely the same
# in all processes. Above, they are surveyed.
_LIBRARIES = 64 * 2**20
# How many bytes of all processes together may be unknown, and how many new forks are surveyed as examples.
_UNKNOWN, _EXAMPLES = 32 * 2**20, 4
# Where the OS kernel says how many huge pages of each size are reserved.
_HUGE = Path("/sys/kernel/mm/hugepages")


class MemoryOfTree:
    """What a process (``folder``, ``root``) holds in memory, and what its descendants hold beyond that.

    Each process has resident pages of two kinds, whose sizes the OS kernel counts:

    - **Anonymous** pages are shared only by fork, from when on each copies those that it writes to. A process
      that has executed a program shares none with its parent. A fork has begun with those of its parent.
    - Pages of **files and shared memory** may be shared by any processes.

    A child that has the address space of its parent (vfork) holds nothing of its own.

    A survey, a sample of a process's pages, finds which of them are shared. It is due when the process has
    had many page faults, or its size has changed much, since the last one or since it was forked. Until then
    a fork counts as copying what it was given by page faults, or as much of it as others like it did.

    A survey does not show with whom a page is shared. That is followed from one to the next. What a fork of
    more than 4 GiB copies before it forks itself, both between two readings, counts as still its parent's.
    """

    def __init__(self, root: int, folder: Path, *, is_this_process: bool = False) -> None:
        self._root, self._folder = root, folder
        self._is_this_process = is_this_process
        self._sizes = SystemFile(folder / "statm")
        self._huge = HugePages(folder)
        self.resident = 0.0
        """Resident bytes of the root in the last reading."""
        self._holdings: dict[int, Holding] = {}
        self._trunk: Holding | None = None  # of the root
        self._root_sizes: tuple[int, ...] = ()
        self._beyond_root = 0.0
        self._surveying = Allowance(shares=20)
        self._unfinished = False

    def read(self, members: Mapping[int, Member]) -> float:
        """Return the bytes that all hold together, with the descendants as they were last read."""
        size, resident, shared, _ = self._sizes.read().split(None, 3)
        self.resident = float(int(resident) * PAGE)
        held = self.resident + self._huge.read(size)
        if not members:
            self._holdings.clear()
            self._trunk = None
            return held
        sizes = int(resident) * PAGE, int(shared) * PAGE, self._faults()
        changed = sizes != self._root_sizes or members.keys() != self._holdings.keys()
        if changed or any(member.changed for member in members.values()):
            self._root_sizes = sizes
            self._update(members, *sizes)
        elif not self._unfinished:
            return held + self._beyond_root
        self._survey()
        self._beyond_root = self._anonymous() + self._shared()
        return held + self._beyond_root

    def _faults(self) -> int:
        """Return how many page faults the root has had that needed no reading from a disk."""
        if self._is_this_process:
            return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        return int(fields_of(read_short(self._folder / "stat"))[7])

    def _update(self, members: Mapping[int, Member], resident: int, shared: int, faults: int) -> None:
        """Follow the sizes of all processes."""
        if self._trunk is None:
            self._trunk = Holding(self._folder, forked=False, faults=faults)
        trunk = self._trunk
        before = trunk.anonymous
        trunk.update(resident, faults, shared)
        changed = self._holdings.keys() != members.keys()
        for number in self._holdings.keys() - members.keys():
            self._holdings.pop(number).end()
        for number, member in members.items():  # parents first: a fork is compared with its parent
            holding = self._holdings.get(number)
            if holding is None or holding.member is not member:
                if member.forked and self._is_vforked(member, members):
                    self._holdings.pop(number, None)
                    continue
                holding = Holding(member.folder, member.forked, 0, member)
                self._holdings[number] = holding
                changed = True
                holding.update(int(member.resident), member.faults)
                if member.forked:
                    self._begin(holding, member, before)
            else:
                if not member.changed:
                    continue
                if holding.forked and not member.forked:  # it has executed a program
                    holding.leave()
                    changed = True
                holding.update(int(member.resident), member.faults)
            member.changed = False
        if changed:
            self._follow_versions()

    def _is_vforked(self, member: Member, members: Mapping[int, Member]) -> bool:
        """Return whether a process has not only the pages of its parent, but its very address space.

        A child of vfork() or posix_spawn() has, until it executes its program. None of its pages is its own,
        though the OS kernel marks all as not shared. Two address spaces hardly have all sizes in common: a
        fork begins without the pages of files.
        """
        parent = members.get(member.parent)
        folder = self._folder if parent is None else parent.folder
        sizes = read_if_there(member.folder / "statm")
        return bool(sizes) and sizes == read_if_there(folder / "statm")

    def _begin(self, holding: Holding, member: Member, before: int) -> None:
        """Compare a fork that was just found with its parent, of which it cannot have more than it had."""
        assert self._trunk is not None  # noqa: S101 - for mypy
        parent = self._trunk if member.parent == self._root else self._holdings.get(member.parent)
        if parent is self._trunk:
            holding.begin(parent, max(parent.anonymous, before))
        elif parent is not None:
            holding.begin(parent, parent.anonymous)
        else:  # it has ended
            holding.begin(self._trunk, self._trunk.anonymous)
            holding.doubt()

    def _survey(self) -> None:
        """Survey the processes of which too much is unknown, as many as the allowance permits."""
        assert self._trunk is not None  # noqa: S101 - for mypy
        everyone = [self._trunk, *self._holdings.values()]
        sharing = sum(holding.shared > _LIBRARIES for holding in everyone) > 1
        shared_memory = [holding.shared_memory for holding in everyone]
        may_differ = sum(shared_memory) - max(shared_memory) > _UNKNOWN
        due = [
            holding
            for holding in everyone
            if ((holding.forked or holding.handed_down) and holding.unsure)
            or (sharing and holding.shared > _LIBRARIES and holding.unsure_of_files)
            or (may_differ and holding.is_unsure_of_shared_memory(_UNKNOWN / len(everyone)))
        ] or self._examples()
        self._unfinished = bool(due)  # a survey may also make others due
        if not due or not self._surveying.affordable():
            return
        with self._surveying:
            surveyed: set[int] = set()
            for holding in due:
                if len(surveyed) < _AT_ONCE:
                    self._survey_family(holding, everyone, surveyed)
        self._follow_versions()

    def _survey_family(self, holding: Holding, everyone: Sequence[Holding], surveyed: set[int]) -> None:
        """Survey a process, before it those that it was forked from, and those forked from it if need be.

        Those in ``surveyed`` have just been, and are left out.
        """
        if (parent := holding.parent) and parent.has_new_forks and parent.may_survey:
            self._survey_family(parent, everyone, surveyed)
        if id(holding) in surveyed:
            return
        surveyed.add(id(holding))
        changed = holding.survey()
        forks = [fork for fork in everyone if fork.parent is holding and id(fork) not in surveyed]
        for fork in forks:
            fork.versions.inherit(holding.versions)
        if changed:  # what this process has copied may now be its forks' alone
            at_once = max(_AT_ONCE - len(surveyed), 0)
            for fork in forks[:at_once]:
                surveyed.add(id(fork))
                fork.survey()
            for fork in forks[at_once:]:
                fork.doubt()

    def _examples(self) -> list[Holding]:
        """Return a few new forks of a process, if nothing is known of them and they may have copied much."""
        forks: dict[int, list[Holding]] = {}
        for holding in self._holdings.values():
            parent = holding.parent
            if parent and not parent.knows_its_forks and holding.is_new and holding.may_survey:
                forks.setdefault(id(parent), []).append(holding)
        return [
            holding
            for each in forks.values()
            if sum(fork.unknown for fork in each) > _UNKNOWN
            for holding in sorted(each, key=lambda fork: fork.unknown)[-_EXAMPLES:]
        ]

    def _follow_versions(self) -> None:
        """Follow which versions of pages count already with another process: an older one, or the root."""
        assert self._trunk is not None  # noqa: S101 - for mypy
        counted = set(self._trunk.versions.all)
        # Forks that were not surveyed have the very set of their parent.
        whole = {id(self._trunk.versions.all)}
        for holding in self._holdings.values():
            if holding.may_have_passed_on:
                holding.weigh(counted, [self._trunk, *self._holdings.values()])
            versions = holding.versions
            holding.counted = 1.0
            if id(versions.common) not in whole and (common := versions.common_at(holding.level_of_parents)):
                holding.counted -= len(common - counted) / len(common)
            if holding.anonymous and id(versions.all) not in whole:
                whole.add(id(versions.all))
                counted |= versions.all

    def _anonymous(self) -> float:
        """Return the bytes of anonymous pages that the descendants hold beyond the root."""
        return float(sum(holding.own for holding in self._holdings.values()))

    def _shared(self) -> float:
        """Return the bytes of files and shared memory that the descendants hold beyond the root.

        If nothing else is known, the process with the most has all of them.
        """
        assert self._trunk is not None  # noqa: S101 - for mypy
        trunk, holdings = self._trunk, self._holdings.values()
        likely = max(max((holding.shared for holding in holdings), default=0) - trunk.shared, 0)
        surveyed = [holding for holding in holdings if holding.files and not holding.has_less_files]
        found = 0.0
        if surveyed:
            if not trunk.files or trunk.unsure_of_files:
                found = _beyond({}, 0, surveyed) - trunk.shared
            else:
                found = _beyond(trunk.files, trunk.rest, surveyed)
            # The others are like these: as large a part of their shared memory is nobody else's.
            sizes = [holding.shared_memory for holding in surveyed]
            if found > likely and (more := sum(sizes) - max(sizes)):
                others = sum(holding.shared_memory for holding in holdings) - sum(sizes)
                found += min((found - likely) / more, 1.0) * others
        most = sum(holding.shared for holding in holdings)
        return min(max(likely, found), float(most))


class HugePages:
    """Explicit huge pages of a process (MAP_HUGETLB, hugetlbfs), which no resident size contains."""

    def __init__(self, folder: Path) -> None:
        self._size = b""
        self._there = False
        self._reserved = [SystemFile(path) for path in _HUGE.glob("hugepages-*/nr_hugepages")]
        self._status = folder / "status"

    def read(self, size: bytes) -> float:
        """Return the bytes of huge pages that the process has filled.

        ``size`` is that of its address space. As long as it stays, no more of them have been mapped.
        """
        if size != self._size:
            self._size = size
            self._there = any(int(file.read()) for file in self._reserved)
        if not self._there:
            return 0.0
        _, _, rest = read_if_there(self._status).partition(b"\nHugetlbPages:")
        return int(rest.split(None, 1)[0]) * 1024.0 if rest else 0.0


def _beyond(own: Mapping[File, Spots], own_rest: int, others: Collection[Holding]) -> float:
    """Return the bytes of files that others have in memory, and that a process with ``own`` does not have.

    What is not of large files is likely the same in all of them.
    """
    found: dict[File, set[int]] = {}
    for holding in others:
        for file, spots in holding.files.items():
            found.setdefault(file, set()).update(spots - own.get(file, frozenset()))
    rest = max(max(holding.rest for holding in others) - own_rest, 0)
    return rest + float(sum(file.step * len(spots) for file, spots in found.items()))
