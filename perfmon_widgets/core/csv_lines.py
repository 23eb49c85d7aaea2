"""The lines of a CSV log, as bytes: a header and rows."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def row_line(time: np.datetime64 | str, values: Sequence[float], width: int) -> bytes:
    """Return one row of ``width`` columns: the time to the microsecond, then each number with all its digits.

    A row from before a column was added has empty fields at the end; one that has more is cut.
    """
    numbers = ["" if value != value else repr(value) for value in map(float, values[:width])]  # noqa: PLR0124
    numbers += [""] * (width - len(numbers))
    return ",".join([f"{time}Z", *numbers]).encode() + b"\n"


def header_line(columns: Sequence[str]) -> bytes:
    """Return the first line of a file: ``time``, then the names of the columns."""
    text = io.StringIO(newline="")
    # "\r\n" as the end of the line makes the writer quote a name that has either of the two characters.
    csv.writer(text, lineterminator="\r\n").writerow(["time", *columns])
    return text.getvalue().removesuffix("\r\n").encode() + b"\n"
