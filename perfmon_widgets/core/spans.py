"""Named stretches of time (a cell, a span of the user's own) and marks, as long as they lie in the window.

A moment is kept twice: in Unix seconds, for people and to be laid beside the rows, and by a clock that nobody
sets, by which it is told what has left the window.
"""

from __future__ import annotations

import itertools
import math
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from perfmon_widgets.forks import renew_after_fork

if TYPE_CHECKING:
    import pandas as pd

CAP = 10_000
"""How many of each kind are kept at most: of more than that in one window, the oldest are dropped."""
LONGEST_NAME = 200
"""Characters of a name that are kept."""

CELL, SPAN, MARK = "cell", "span", "mark"

# What no text file can hold: control characters but white space, and halves of a character, as in the name
# of a file that is not UTF-8.
_UNWRITABLE = re.compile("[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff]")

watchers: list[Callable[[Any, bool], object]] = []
"""Called with each monitor as it starts (True) and after it stopped (False): by this the core, which knows no
IPython, lets kernel.py tell it of the cells."""


@dataclass(eq=False, slots=True)
class Span:
    """A stretch of time with a name; a mark is one that ends where it starts."""

    number: int
    """Counts all of them, in the order in which they started."""
    kind: str
    """``cell``, ``span`` or ``mark``."""
    name: str
    """What it was called; of a cell the first line of its source."""
    start: float
    """Unix seconds (UTC)."""
    end: float = math.nan
    """Unix seconds (UTC); NaN while it goes on."""
    raised: bool = False
    """Whether an exception, or an interrupt, ended it."""
    execution_count: int | None = None
    """Of a cell."""
    left: float = math.nan
    """When it ended, by the clock that nobody sets."""

    @property
    def seconds(self) -> float:
        """How long it lasted; NaN while it goes on."""
        return self.end - self.start


class Spans:
    """The spans, cells and marks of one monitor; to be used from any thread.

    ``clock`` counts monotonic seconds, as the history's, and ``oldest`` tells when by it the window begins.
    At most CAP of each kind are kept, and CAP that have not ended, so that a loop which makes a million of
    them costs no more memory than one that makes a few.
    """

    def __init__(self, oldest: Callable[[], float], clock: Callable[[], float] = time.monotonic) -> None:
        self._oldest = oldest
        self._clock = clock
        self._numbers = itertools.count(1)
        self._open: dict[int, Span] = {}
        self._ended: dict[str, deque[Span]] = {kind: deque(maxlen=CAP) for kind in (CELL, SPAN, MARK)}
        self._news: deque[Span] = deque(maxlen=CAP)
        self.renew_after_fork()
        renew_after_fork(self)

    def renew_after_fork(self) -> None:
        """In a forked child: the parent's lock may have been held when the fork happened."""
        # Reentrant: a signal handler may put a mark while the thread that it interrupts holds it. So lists
        # are made by one call, in the midst of which no handler runs.
        self._lock = threading.RLock()
        self._trimming = False

    def begin(self, kind: str, name: str, execution_count: int | None = None) -> Span:
        """A span that starts now; raises TypeError or ValueError for a name that is none."""
        span = Span(next(self._numbers), kind, _checked(kind, name), time.time())
        span.execution_count = execution_count
        with self._lock:
            if len(self._open) >= CAP:
                self._open.pop(next(iter(self._open)), None)
            self._open[span.number] = span
            self._news.append(span)
        return span

    def end(self, span: Span, *, raised: bool = False) -> None:
        """It ends now; nothing if it has ended already."""
        with self._lock:
            if not math.isnan(span.end):
                return
            # A clock that was set back meanwhile makes no span of negative length.
            span.end, span.left, span.raised = max(time.time(), span.start), self._clock(), raised
            self._open.pop(span.number, None)
            self._trim()
            self._ended[span.kind].append(span)
            self._news.append(span)

    def mark(self, label: str) -> None:
        """A mark at this moment; raises TypeError or ValueError for a label that is none."""
        at = time.time()
        span = Span(next(self._numbers), MARK, _checked(MARK, label), at, at, left=self._clock())
        with self._lock:
            self._trim()
            self._ended[MARK].append(span)
            self._news.append(span)

    def _trim(self) -> None:
        """Drop those that ended before the oldest row; not with every row, whose cost is counted."""
        if self._trimming:  # by what this signal handler interrupted
            return
        self._trimming = True
        try:
            oldest = self._oldest()
            for spans in self._ended.values():
                while spans and spans[0].left < oldest:
                    spans.popleft()
        finally:
            self._trimming = False

    @property
    def has_news(self) -> bool:
        """Whether news() has any."""
        return bool(self._news)

    def news(self) -> list[Span]:
        """Those that started or ended since the last call, each once, in the order of their starts."""
        if not self._news:
            return []
        with self._lock:
            news, self._news = self._news, deque(maxlen=CAP)
        return sorted({span.number: span for span in news}.values(), key=_number)

    def all(self, *kinds: str) -> list[Span]:
        """Those of some kinds, in the order of their starts."""
        with self._lock:
            self._trim()
            found = [span for kind in kinds for span in list(self._ended[kind])]
            found += [span for span in list(self._open.values()) if span.kind in kinds]
        return sorted(found, key=_number)

    def newest(self, most: int) -> list[Span]:
        """The newest of each kind, so many at most, in the order of their starts."""
        with self._lock:
            self._trim()
            found = [span for spans in self._ended.values() for span in list(spans)[-most:]]
            found += list(self._open.values())[-most:]
        return sorted(found, key=_number)

    def frame(self, kind: str) -> pd.DataFrame:
        """Those of one kind as a DataFrame of its own, in the order of their starts; see the monitor."""
        return frame(kind, self.all(kind))


def frame(kind: str, spans: Sequence[Span]) -> pd.DataFrame:
    """Spans as a DataFrame: cells by their execution count, marks by their time, spans numbered from 0."""
    import pandas as pd  # noqa: PLC0415 - a program that only samples never pays for it

    start = _times(span.start for span in spans)
    if kind == MARK:
        return _table({"label": [span.name for span in spans]}, start.rename("time"))
    end = _times(span.end for span in spans)
    columns: dict[str, Any] = {
        "start": start,
        "end": end,
        "duration_seconds": pd.array([span.seconds for span in spans], dtype="float64"),
        "raised": pd.array([span.raised for span in spans], dtype="bool"),
    }
    if kind == SPAN:
        return _table({"name": [span.name for span in spans], **columns}, None)
    counts = [span.execution_count for span in spans]
    index = pd.Index(counts, dtype="int64", name="execution_count")
    return _table({**columns, "source": [span.name for span in spans]}, index)


def _table(columns: dict[str, Any], index: Any) -> pd.DataFrame:
    import pandas as pd  # noqa: PLC0415

    # As arrays: a column that has an index of its own would be laid out by that.
    table: pd.DataFrame = pd.DataFrame(
        {name: getattr(column, "array", column) for name, column in columns.items()}, index=index
    )
    return table


def table(spans: Sequence[Span]) -> pd.DataFrame:
    """Spans of all kinds as a DataFrame, numbered from 0; the columns are those of ``read_spans``."""
    import pandas as pd  # noqa: PLC0415

    every = frame(SPAN, spans)
    every.insert(0, "kind", [span.kind for span in spans])
    every.insert(5, "execution_count", pd.Series([span.execution_count for span in spans], dtype="Int64"))
    return every


def _times(seconds: Iterable[float]) -> pd.DatetimeIndex:
    """Unix seconds as times in UTC, to the microsecond; NaT for NaN."""
    import numpy as np  # noqa: PLC0415
    import pandas as pd  # noqa: PLC0415

    whole = np.array(list(seconds), dtype=float) * 1e6
    moments = np.where(np.isnan(whole), np.datetime64("NaT", "us"), np.rint(whole).astype("datetime64[us]"))
    times: pd.DatetimeIndex = pd.DatetimeIndex(moments, tz="UTC")
    return times


def _number(span: Span) -> int:
    return span.number


def _checked(kind: str, name: object) -> str:
    what = {CELL: "the source of a cell", SPAN: "the name of a span", MARK: "the label of a mark"}[kind]
    if not isinstance(name, str):
        raise TypeError(f"{what} must be a string, not {type(name).__name__}")
    if not name.strip() and kind != CELL:
        raise ValueError(f"{what} must not be empty")
    name = name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
    return _UNWRITABLE.sub("\N{REPLACEMENT CHARACTER}", name)
