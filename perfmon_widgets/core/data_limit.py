"""DataLimit: the soft limit on the data of this process (RLIMIT_DATA), lowered and given back. Linux only."""

from __future__ import annotations

import contextlib
import os
import resource
from pathlib import Path

from perfmon_widgets.collectors.linux.processes import PROC, children, own_number
from perfmon_widgets.collectors.linux.system_file import SystemFile, read_once

_PAGE = os.sysconf("SC_PAGE_SIZE")
# The last bits of every limit set here. The OS kernel counts pages, so they change nothing. They distinguish
# our limits from those that the user or the site has set, in this process and in children that inherit ours.
_MARK = 0x5A7


class DataLimit:
    """Limits the data of this process: private memory that it may write, touched or only reserved.

    A limit that the user or the site has set is never raised. Not counted are address space without access
    rights, as CUDA reserves it, and memory that programs share. Raises OSError without /proc.
    """

    def __init__(self, proc: Path = PROC) -> None:
        self._proc = proc
        self._sizes = SystemFile(proc / "self" / "statm")
        self._newest_process = b""
        self.before = resource.getrlimit(resource.RLIMIT_DATA)
        """The limits that are not ours, soft and hard."""

    def data(self) -> int:
        """Return the size of the data now, in bytes."""
        return int(self._sizes.read().split()[5]) * _PAGE

    def now(self) -> float:
        """Return the soft limit in force, in bytes; infinity for none."""
        soft = resource.getrlimit(resource.RLIMIT_DATA)[0]
        return float("inf") if soft == resource.RLIM_INFINITY else float(soft)

    def set(self, size: float) -> None:
        """Limit the data to this many bytes, or to the limit that is not ours if that is lower."""
        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
        if not _is_ours(soft):  # the user has changed it meanwhile
            self.before = (soft, hard)
        limit = int(size) // _PAGE * _PAGE | _MARK
        others = [each for each in (self.before[0], hard) if each != resource.RLIM_INFINITY]
        if any(each < limit for each in others):
            limit = self.before[0] if self.before[0] in others else hard
        if limit != soft:
            resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))

    def lift(self) -> None:
        """Lift the limit until the next set(); allocates nothing, since there may be no memory left."""
        resource.setrlimit(resource.RLIMIT_DATA, self.before)

    def give_back(self) -> None:
        """Set the limit that was there before, unless the user has set another one meanwhile."""
        if _is_ours(resource.getrlimit(resource.RLIMIT_DATA)[0]):
            resource.setrlimit(resource.RLIMIT_DATA, self.before)

    def give_back_to_children(self) -> None:
        """Set the limit that was there before in all descendants that have inherited ours.

        Does nothing for now if /proc cannot be read, such as while no file can be opened.
        """
        try:
            newest = read_once(self._proc / "loadavg").split()[-1]
        except OSError:
            return
        if newest == self._newest_process:  # no process was started since
            return
        own = own_number(self._proc)
        if own != os.getpid():  # /proc has other numbers than the call below
            return
        self._newest_process = newest
        waiting = [own]
        while waiting:
            for child in children(waiting.pop(), self._proc):
                waiting.append(child)
                with contextlib.suppress(OSError):  # it has ended, or belongs to another user
                    if _is_ours(resource.prlimit(child, resource.RLIMIT_DATA)[0]):
                        resource.prlimit(child, resource.RLIMIT_DATA, self.before)


def _is_ours(soft: int) -> bool:
    return soft != resource.RLIM_INFINITY and soft % _PAGE == _MARK
