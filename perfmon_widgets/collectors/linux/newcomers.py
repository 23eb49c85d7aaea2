"""Newcomers: the processes that have started since the last look, also those of other parents."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from perfmon_widgets.collectors.allowance import Allowance
from perfmon_widgets.collectors.linux.member import Member, fields_of
from perfmon_widgets.collectors.linux.processes import PROC, own_number
from perfmon_widgets.collectors.linux.system_file import SystemFile, read_once

# Seconds after which all processes are listed though none seems to have started: some sandboxes never change
# /proc/loadavg.
_EVERY = 10.0
# The most new ids that are looked at one by one. That takes 0.3 µs each, and listing 150 processes 40 µs.
_FEW = 100
# How many of the newest ids may not be visible yet in a list.
_UNSEEN = 4
# The position, among fields_of(), of the signal that a process sends at its end; -1 for a thread.
_EXIT_SIGNAL = 35


class Newcomer(NamedTuple):
    """Where a new process belongs."""

    parent: int
    session: int


class Newcomers:
    """Finds new processes that may descend from ``root``, by the newest process id, in /proc/loadavg.

    As long as that id stays, nothing was started. Otherwise the ids since the last look are examined, or all
    processes are listed if there are many of them. A thread has an id, too, and is left out.
    """

    def __init__(self, root: int, proc: Path = PROC) -> None:
        self._root, self._proc = root, proc
        self._load: SystemFile | None = None
        with contextlib.suppress(OSError):  # without it, list as often as is affordable
            load = proc / "loadavg"
            # LXCFS mounts a file of its own over it, which has the newest id of the whole machine.
            if load.stat().st_dev == proc.stat().st_dev:
                self._load = SystemFile(load)
        # Where /proc was mounted outside this PID namespace, it has other numbers than the id in loadavg.
        self._has_our_ids = own_number(proc) == os.getpid()
        self._newest = -1
        self._known: set[int] = set()
        # An id is given to a process a moment before it is visible: such ids are examined once more.
        self._again: set[int] = set()
        # Where many processes start all the time, finding them may cost up to 1 % of one CPU.
        self._listing = Allowance(_EVERY, shares=10)

    def look(self, members: Mapping[int, Member]) -> dict[int, Newcomer]:
        """Return the processes that have started since the last look, by their number in /proc.

        ``members`` are the known descendants of the root. Processes that cannot be new ones may be left out.
        """
        newest = int(self._load.read().rpartition(b" ")[2]) if self._load is not None else 0
        given = newest - self._newest
        due = self._listing.due()
        if not given and not self._again and newest and not due:
            return {}
        if due or not 0 <= given <= _FEW or not newest or not self._has_our_ids:
            return self._list(newest) if self._listing.affordable() else {}
        first, self._newest = self._newest + 1, newest
        again, self._again = self._again, set()
        sessions: dict[int, int] = {}
        for number in (*again, *range(first, newest + 1)):
            try:
                sessions[number] = os.getsid(number)
            except ProcessLookupError:
                if number >= first:
                    self._again.add(number)
        return self._relatives(sessions, members) if sessions else {}

    def _relatives(self, sessions: Mapping[int, int], members: Mapping[int, Member]) -> dict[int, Newcomer]:
        """Describe those of the new processes that can be descendants, by their sessions.

        A descendant has begun a session, or has that of its parent, whose leader may have ended. The others
        are not read, since that takes 20 times as long as asking for a session.
        """
        theirs = {os.getsid(self._root), *members, *(member.session for member in members.values())}
        found = self._describe(
            number
            for number, session in sessions.items()
            if number not in self._known and (session == number or session in theirs or session in sessions)
        )
        self._known.update(found)
        return found

    def forget(self, number: int) -> None:
        """Take the process that has this number now for a new one."""
        self._known.discard(number)
        self._again.add(number)

    def _list(self, newest: int) -> dict[int, Newcomer]:
        """Return the processes that are new in the list of all."""
        if newest < self._newest:  # the OS kernel has begun again at low ids, and reuses known ones
            self._known.clear()
        self._newest = newest
        with self._listing:
            listed = {int(name) for name in os.listdir(self._proc) if name.isdigit()}  # noqa: PTH208
            found = self._describe(listed - self._known)
        self._known = listed
        # A parent may start when its place in the list has passed, and its child be listed after it. Both are
        # found in the next look.
        early = {number for number, new in found.items() if new.parent and new.parent not in listed}
        self._known -= early
        self._again = early | (set(range(newest - _UNSEEN + 1, newest + 1)) - listed)
        return found

    def _describe(self, numbers: Iterable[int]) -> dict[int, Newcomer]:
        found: dict[int, Newcomer] = {}
        for number in numbers:
            try:
                fields = fields_of(read_once(f"{self._proc}/{number}/stat"), _EXIT_SIGNAL + 1)
            except OSError:
                continue  # it has ended, or may not be read
            if fields[_EXIT_SIGNAL : _EXIT_SIGNAL + 1] != [b"-1"]:
                found[number] = Newcomer(int(fields[1]), int(fields[3]))
        return found
