"""The notebooks are tested as a person executes them: with a history, in which cells have numbers.

nbval asks the kernel to keep none, and what is not in the history is no cell to `monitor.cells`. The stored
pictures have times of day, which are those of UTC.
"""

from __future__ import annotations

import os
from typing import Any

from nbval.kernel import RunningKernel


def _execute(self: RunningKernel, cell_input: str, allow_stdin: bool | None = None) -> Any:
    return self.kc.execute(cell_input, store_history=True, allow_stdin=allow_stdin, stop_on_error=False)


RunningKernel.execute_cell_input = _execute
os.environ["TZ"] = "UTC"  # for the kernels, which begin later
