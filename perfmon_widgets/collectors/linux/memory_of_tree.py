"""Memory of a tree of processes in which shared pages count once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from perfmon_widgets.collectors.allowance import Allowance
from perfmon_widgets.collectors.linux.member import PAGE, Member
from perfmon_widgets.collectors.linux.system_file import SystemFile, read_once

# Seconds after which shared memory is weighed again.
_EVERY = 10.0
# To weigh shared memory the OS kernel walks through all of it, 11 ms per GiB. Above this many bytes it is not
# weighed, because the sample would have to wait.
_WEIGHABLE = 16 * 2**30


class MemoryOfTree:
    """What a process (``folder``) holds in memory, and what its descendants hold beyond that.

    Pages that they share (fork) are resident in each of them. The proportional set size (PSS) divides such
    pages fairly, but is too expensive for every sample. So it corrects the resident sizes, until it is read
    again.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sizes = SystemFile(folder / "statm")
        self._weighing = Allowance(_EVERY)
        self._unweighed = False
        self._corrections: dict[int, tuple[Member, float]] = {}

    def read(self, members: Mapping[int, Member]) -> float:
        """Return the bytes that all hold together, with the descendants as they were last read."""
        if not members:
            self._corrections.clear()
            return self._resident()
        for number, member in members.items():
            if self._corrections.get(number, (None, 0))[0] is not member:
                # Until it is weighed: a fork begins with the memory of its parent, which is counted there.
                self._corrections[number] = (member, -member.resident)
                self._unweighed = True
        self._weigh(members)
        # Not below 0: a child that frees memory it shares with the root, or that has ended and was not yet
        # waited for, has an old correction, which would take away from what the root holds.
        beyond = sum(
            max(member.resident + self._corrections[number][1], 0.0) for number, member in members.items()
        )
        return self._resident() + beyond

    def _resident(self) -> float:
        return float(int(self._sizes.read().split(None, 2)[1]) * PAGE)

    def _weigh(self, members: Mapping[int, Member]) -> None:
        """Find out how much memory the descendants hold beyond the root's."""
        if not (self._weighing.due() or (self._unweighed and self._weighing.affordable())):
            return
        root = self._resident()
        if root + sum(member.resident for member in members.values()) > _WEIGHABLE:
            return
        self._unweighed = False
        with self._weighing:
            total, _ = _weight(self._folder, root)
            private = {}
            for number, member in members.items():
                proportional, private[number] = _weight(member.folder, member.resident)
                total += proportional
            # Each holds its private pages, and an equal part of what descendants share with each other. That
            # part seems negative where programs outside the tree map the root's files, because these pages
            # are divided among more processes than those of the tree.
            shared = max(total - root - sum(private.values()), 0.0) / len(private)
            self._corrections = {
                number: (member, private[number] + shared - member.resident)
                for number, member in members.items()
            }


def _weight(folder: Path, resident: float) -> tuple[float, float]:
    """Return the proportional set size of a process and its private part, in bytes.

    Both are the resident size where they cannot be read: another user's process, or Linux before 4.14.
    """
    try:
        content = read_once(folder / "smaps_rollup")
    except OSError:
        return resident, resident
    sizes = dict(line.split(b":") for line in content.splitlines()[1:])
    if b"Pss" not in sizes:  # it has ended, and its parent has not waited for it yet
        return 0.0, 0.0
    kibibytes = [int(sizes[key].split()[0]) for key in (b"Pss", b"Private_Clean", b"Private_Dirty")]
    return kibibytes[0] * 1024.0, (kibibytes[1] + kibibytes[2]) * 1024.0
