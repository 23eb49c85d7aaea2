"""The use of NVML by this process."""

from __future__ import annotations

from typing import Any

from perfmon_widgets.collectors.nvidia.errors import LIBRARY_NOT_FOUND, explain_opening
from perfmon_widgets.forks import renew_after_fork


class NvidiaUnavailable(OSError):  # noqa: N818 - a state of the machine
    """There is an NVIDIA driver, but it does not work. The message says why, and what a person can do."""


class Session:
    """NVML is initialised once in a process. Handles are valid in one session only.

    NVML is never shut down: other code in this process may be using it, and a shutdown while another thread
    runs crashes (nvitop#222).
    """

    def __init__(self) -> None:
        self.number = 0
        """How many times NVML was initialised."""
        self.is_open = False
        renew_after_fork(self)

    def renew_after_fork(self) -> None:
        """Initialise NVML again in the forked child: that of the parent does not work there."""
        self.is_open = False

    def open(self, nvml: Any) -> int:
        """Initialise NVML if need be, and return the number of the session.

        Raises FileNotFoundError if there is no driver, NvidiaUnavailable if it does not work.
        """
        if not self.is_open:
            try:
                nvml.nvmlInit()
            except nvml.NVMLError as error:
                kind = FileNotFoundError if error.value == LIBRARY_NOT_FOUND else NvidiaUnavailable
                raise kind(explain_opening(error)) from None
            self.is_open = True
            self.number += 1
        return self.number
