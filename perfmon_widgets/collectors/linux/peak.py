"""Peak: the highest memory of a process between two samples, where it is a new record."""

from __future__ import annotations

import sys
from pathlib import Path

from perfmon_widgets.collectors.linux.system_file import SystemFile

if sys.platform != "win32":  # where this module is imported, but not used
    import resource


class Peak:
    """The highest resident size that a process has had since the last reading, if it is a new record.

    The OS kernel keeps the highest since the program began (VmHWM). If that has grown, it was reached since
    the last reading. A peak below an earlier one is not known. Resetting the OS kernel's number (5 written to
    /proc/<pid>/clear_refs) would show those, too, but it also resets ``ru_maxrss``, which the program itself,
    its parent and job schedulers read as the peak of the whole run.
    """

    def __init__(self, folder: Path, *, is_this_process: bool) -> None:
        self._status = SystemFile(folder / "status")
        self._highest = self._read_status()
        # What getrusage() counts takes a tenth of the time to read. It includes the program that this process
        # ran before it executed the present one.
        self._by_usage = is_this_process and _of_this_process() <= self._highest

    def read(self, resident: float) -> float:
        """Return it in bytes; the ``resident`` size of now where there is no new record.

        Raises OSError if the process has ended.
        """
        highest = _of_this_process() if self._by_usage else self._read_status()
        is_new = highest > self._highest
        self._highest = highest  # it is less where the process has executed another program
        return max(highest, resident) if is_new else resident

    def _read_status(self) -> float:
        _, _, rest = self._status.read().partition(b"\nVmHWM:")
        return int(rest.split(None, 1)[0]) * 1024.0 if rest else 0.0


def _of_this_process() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0
