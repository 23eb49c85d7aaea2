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
# How many bytes of all processes together may be unknown, and how many forks are surveyed as examples.
_UNKNOWN_TOGETHER, _EXAMPLES = 32 * 2**20, 8
# How many bytes of processes the OS kernel is asked to walk at once, page by page: that takes 45 ms.
_WALKED_AT_ONCE = 4 * 2**30
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

    A survey shows that a page is shared, not with whom; that is inferred from one survey to the next. Pages
    that a process copies and then passes on to a fork, both between two surveys, are recognised only in
    processes that were forked themselves (up to 4 GiB of them in one reading), on Linux 5.4 or later, and if
    they are more than 16 MiB. Otherwise they go on counting as shared with others, so the total is too low.
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
        trunk.update(resident, faults, shared)
        ended = [self._holdings.pop(number) for number in self._holdings.keys() - members.keys()]
        changed = bool(ended)
        for holding in self._holdings.values():
            holding.anonymous_before = holding.anonymous
        for number, member in members.items():  # parents first: a fork is compared with its parent
            known = self._holdings.get(number)
            if known is not None and known.is_of(member):
                if member.changed:
                    known.update(int(member.resident), member.faults)
            else:
                ended += [] if known is None else [known]
                changed = True
                self._add(number, member, members)
            member.changed = False
        ended += [holding for holding in self._holdings.values() if holding.has_just_ended]
        for holding in ended:
            self._end(holding)
        if changed or ended:
            self._follow_versions()

    def _add(self, number: int, member: Member, members: Mapping[int, Member]) -> None:
        """Follow another process, or one that has executed a program."""
        self._holdings.pop(number, None)
        if member.forked and self._is_vforked(member, members):
            return
        holding = Holding(member.folder, member.forked, 0 if member.forked else member.faults, member)
        self._holdings[number] = holding
        holding.update(int(member.resident), member.faults)
        if member.forked:
            parent = self._trunk if member.parent == self._root else self._holdings.get(member.parent)
            assert self._trunk is not None  # noqa: S101 - for mypy
            holding.begin(parent or self._trunk)
            if parent is None:  # it has ended: it may have had other memory than the root
                holding.doubt()

    def _end(self, holding: Holding) -> None:
        """Note that a process has ended: what only it and its forks shared belongs to the forks alone."""
        assert self._trunk is not None  # noqa: S101 - for mypy
        above = holding.parent
        holding.end()
        for fork in self._holdings.values():
            if fork.parent is holding:
                fork.doubt()
                if not holding.versions.all:  # nothing is known of its pages
                    fork.parent = above
        parents = {id(fork.parent) for fork in self._holdings.values()}
        for each in (self._trunk, *self._holdings.values()):
            if each.handed_down and id(each) not in parents:
                each.forget_forks()

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

    def _survey(self) -> None:
        """Survey the processes of which too much is unknown, as many as the allowance permits."""
        assert self._trunk is not None  # noqa: S101 - for mypy
        everyone = [self._trunk, *self._holdings.values()]
        sharing = sum(holding.shared > _LIBRARIES for holding in everyone) > 1
        shared_memory = [holding.shared_memory for holding in everyone]
        may_differ = sum(shared_memory) - max(shared_memory) > _UNKNOWN_TOGETHER
        due = [
            holding
            for holding in everyone
            if ((holding.forked or holding.handed_down) and holding.unsure)
            or (sharing and holding.shared > _LIBRARIES and holding.unsure_of_files)
            or (may_differ and holding.is_unsure_of_shared_memory(_UNKNOWN_TOGETHER / len(everyone)))
        ]
        examples = self._examples()
        self._unfinished = bool(due or examples)  # a survey may also make others due
        if not self._unfinished or not self._surveying.affordable():
            return
        with self._surveying:
            for holding in examples:
                holding.is_example = True
                if holding.parent:
                    holding.parent.examples.forget()
            surveyed: set[int] = set()
            for holding in (*examples, *due):
                if len(surveyed) < _AT_ONCE:
                    self._survey_family(holding, everyone, surveyed)
            self._follow_versions(_WALKED_AT_ONCE)

    def _survey_family(self, holding: Holding, everyone: Sequence[Holding], surveyed: set[int]) -> None:
        """Survey a process: first its ancestors with new forks, then itself, then its forks if it changed.

        Skips processes whose id() is in ``surveyed``, and adds those that it surveys.
        """
        if (parent := holding.parent) and parent.has_new_forks and parent.may_survey:
            self._survey_family(parent, everyone, surveyed)
        if id(holding) in surveyed:
            return
        surveyed.add(id(holding))
        if holding.survey():  # what this process has copied may now be its forks' alone
            for fork in everyone:
                if fork.parent is holding and len(surveyed) < _AT_ONCE:
                    self._survey_family(fork, everyone, surveyed)
                elif fork.parent is holding and id(fork) not in surveyed:
                    fork.doubt()

    def _examples(self) -> list[Holding]:
        """Return a few forks of each process of whose forks too little is known."""
        forks: dict[int, tuple[Holding, list[Holding]]] = {}
        for holding in self._holdings.values():
            if holding.parent and holding.may_survey and holding.relies_on_others:
                forks.setdefault(id(holding.parent), (holding.parent, []))[1].append(holding)
        found = []
        for parent, each in forks.values():
            unknown = sum(fork.given for fork in each)
            if unknown > _UNKNOWN_TOGETHER and not parent.examples.speak_for(unknown):
                each.sort(key=lambda fork: fork.given)
                # From those with little to those with much, as many of each.
                among = min(_EXAMPLES, len(each))
                found += [each[(2 * number + 1) * len(each) // (2 * among)] for number in range(among)]
        return found

    def _follow_versions(self, walkable: int = 0) -> None:
        """Follow which versions of pages count already with another process: an older one, or the root.

        Processes that may have copied pages before they forked others are weighed, up to ``walkable`` bytes.
        """
        assert self._trunk is not None  # noqa: S101 - for mypy
        counted = set(self._trunk.versions.all)
        # Forks that were not surveyed have the very set of their parent.
        whole = {id(self._trunk.versions.all)}
        level = self._trunk.versions.level  # the highest of what is counted
        for holding in self._holdings.values():
            versions = holding.versions
            if holding.parent:
                versions.inherit(holding.parent.versions)
            size = holding.anonymous + holding.shared
            if holding.may_have_passed_on and size <= walkable:
                walkable -= size
                holding.weigh(counted, [self._trunk, *self._holdings.values()])
            holding.counted = 1.0
            if id(versions.common) not in whole and (common := versions.common_at(level)):
                holding.counted -= len(common - counted) / len(common)
            if holding.anonymous and id(versions.all) not in whole:
                whole.add(id(versions.all))
                counted |= versions.all
                level = max(level, versions.level)

    def _anonymous(self) -> float:
        """Return the bytes of anonymous pages that the descendants hold beyond the root."""
        # What forks have in common and their parent has given back, as long as no survey has found it.
        left: dict[int, float] = {}
        for holding in self._holdings.values():
            parent = holding.parent
            if parent is None or (holding.versions.all and (parent.ended or not parent.freed)):
                continue
            more = min(holding.counted * holding.in_common, holding.begun_with) - parent.anonymous
            if holding.versions.all:
                more = min(more, parent.freed)
            left[id(parent)] = max(left.get(id(parent), 0.0), more)
        return sum(left.values()) + sum(holding.own for holding in self._holdings.values())

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
            # Of shared memory that no survey has seen yet, the same share is taken to be one process's own.
            sizes = [holding.shared_memory_then for holding in surveyed]
            if found > likely and (more := sum(sizes) - max(sizes)):
                new = sum(max(holding.shared_memory - holding.shared_memory_then, 0) for holding in holdings)
                found += min((found - likely) / more, 1.0) * new
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
