"""read_csv: a log of CsvLog read back, its parts joined."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from perfmon_widgets.core.log_files import parts
from perfmon_widgets.metrics import unit_of

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

_WITHOUT_ZONE = re.compile(r"[T ]\d\d:\d\d(:\d\d(\.\d+)?)?$")


def read_csv(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read a log: index ``time`` (UTC) and float64 columns, as ``PerformanceMonitor.history`` has them.

    ``attrs[column]["unit"]`` is the unit that the name of the column ends in. What else the history's attrs
    have (help, source, group, role, label) is not in the file.

    ``path`` is the first file of the log. The rows of its other parts (``run.part2.csv``, … of ``run.csv``,
    which CsvLog begins when series are added) follow those of the first; a row from before a series was added
    has NaN there. A last line that was torn by a kill is left out. The log may be read while it is written.

    Raises OSError if a file cannot be read, and ValueError if one is not such a log or does not continue the
    part before it.
    """
    first = Path(path)
    # From the last part to the first: as soon as a part exists, those before it no longer grow. Read in the
    # other order, rows could be missing between two parts of a log that is being written.
    return joined([(part, whole_lines(part)) for part in [first, *parts(first)][::-1]][::-1])


def joined(contents: Sequence[tuple[Path, bytes]], wanted: Collection[str] | None = None) -> pd.DataFrame:
    """Return the parts of a log, each given with its whole lines, as read_csv() does.

    ``wanted`` are the columns to return, if the log has them; by default all. Raises ValueError as it does.
    """
    import pandas as pd  # noqa: PLC0415 - a program that only samples never pays for it

    path = first = contents[0][0]
    columns: list[str] = []
    times: list[str] = []
    tables: list[NDArray[np.float64]] = []
    for part, content in contents:
        if part != first and not content:
            continue  # the process was killed before it had written the header
        try:
            lines = io.TextIOWrapper(io.BytesIO(content), "utf-8", newline="")
            names, moments, values = _parse(lines, wanted)
            # pandas 2 takes a time without a zone to be in that of the time before it.
            times += [f"{time}Z" if _WITHOUT_ZONE.search(time) else time for time in moments]
            if names[: len(columns)] != columns:
                raise ValueError(f"its columns do not continue those of {first.name}; move it elsewhere")
        except (ValueError, csv.Error) as error:
            raise ValueError(f"{part} is not a log of perfmon_widgets: {error}") from None
        columns = names
        tables.append(np.array(values, dtype=float).reshape(len(values), len(names)))
    try:
        index = pd.DatetimeIndex(pd.to_datetime(times, utc=True, format="ISO8601"), name="time")
    except ValueError as error:
        raise ValueError(f"{path} is not a log of perfmon_widgets: {error}") from None
    numbers = np.full((len(times), len(columns)), np.nan)
    start = 0
    for table in tables:
        numbers[start : start + len(table), : table.shape[1]] = table
        start += len(table)
    frame: pd.DataFrame = pd.DataFrame(numbers, index=index.as_unit("us"), columns=pd.Index(columns))
    for column in columns:
        frame.attrs[column] = {"unit": unit_of(column)}
    return frame


def whole_lines(path: Path) -> bytes:
    """Return what a file holds, without a last line that is not whole; raises OSError as open() does."""
    content = path.read_bytes()
    return content[: content.rfind(b"\n") + 1]


def _parse(
    lines: Iterable[str], wanted: Collection[str] | None
) -> tuple[list[str], list[str], list[list[float]]]:
    """Return columns, times and values of one file; raises ValueError or csv.Error if it is no log.

    pandas' own reader needs different arguments in different versions to keep every digit.
    """
    rows = csv.reader(lines)
    header = next(rows, None)
    if not header or header[0] != "time":
        raise ValueError("it does not begin with a column named time")
    places = [place for place, name in enumerate(header) if place and (wanted is None or name in wanted)]
    times: list[str] = []
    values: list[list[float]] = []
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"line {rows.line_num} has {len(row)} fields instead of {len(header)}")
        times.append(row[0])
        values.append([float(row[place] or "nan") for place in places])
    return [header[place] for place in places], times, values
