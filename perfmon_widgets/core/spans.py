"""Spans: named spans of time (cells, the user's own) and marks, kept as long as the rows of their time.

Each moment is kept on two clocks: as time of day (Unix seconds), which says when it was, and on the monotonic
clock, which gives durations, finds the rows of a span, and says what has left the window.
"""

from __future__ import annotations

import itertools
import math
import re
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from perfmon_widgets.clocks import time
from perfmon_widgets.forks import renew_after_fork

if TYPE_CHECKING:
    import pandas as pd

CAP = 10_000
"""How many spans of each kind are kept at most; then the oldest are dropped."""
NEWS = 4 * CAP
"""How many starts, ends and marks that are not written to a file yet are kept at most."""
LONGEST_NAME = 200
"""How many characters of a name are kept."""

CELL, SPAN, MARK = "cell", "span", "mark"

# What a text file cannot hold: control characters except white space, and lone surrogates, which stand for
# bytes that are not UTF-8, for example in a file name.
_UNWRITABLE = re.compile("[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff]")

watchers: list[Callable[[Any, bool], object]] = []
"""Called with each monitor after it has started (True) and before it stops (False). In this way
jupyter/cells.py records cells, although the core does not import IPython."""


@dataclass(eq=False, slots=True)
class Span:
    """A named span of time; a mark is a span without length."""

    number: int
    """A running number over all cells, spans and marks, in the order of their starts."""
    kind: str
    """``cell``, ``span`` or ``mark``."""
    name: str
    """The name that was given; for a cell the line that says what it does, see views/source.py."""
    start: float
    """Unix seconds (UTC)."""
    end: float = math.nan
    """Unix seconds (UTC); NaN while it goes on. Not before ``start``, even if the clock was set back."""
    raised: bool = False
    """Whether an exception, or an interrupt, ended it."""
    execution_count: int | None = None
    """The number of a cell (``In [3]``); None for spans and marks."""
    seconds: float = math.nan
    """How long it lasted on the monotonic clock; NaN while it goes on. By default ``end - start``."""
    cpu_seconds: float = math.nan
    """CPU time that this process used meanwhile, in all its threads; NaN while it goes on."""
    began: float = math.nan
    """When it started, in monotonic seconds; NaN if it was read from a file."""
    ended: float = math.nan
    """When it ended, in monotonic seconds; NaN while it goes on."""
    cpu_began: float = math.nan
    """CPU time of this process at its start."""

    def __post_init__(self) -> None:
        if math.isnan(self.seconds):
            self.seconds = self.end - self.start


class Spans:
    """The spans, cells and marks of one monitor; safe to use from any thread.

    ``oldest`` returns the monotonic time of the oldest row of the window, and ``clock`` the monotonic time
    now. At most CAP of each kind are kept, and at most CAP that have not ended, so that a loop that makes a
    million of them needs a limited amount of memory.
    """

    def __init__(self, oldest: Callable[[], float], clock: Callable[[], float] = time.monotonic) -> None:
        self._oldest = oldest
        self._clock = clock
        self._numbers = itertools.count(1)
        self._open: dict[int, Span] = {}
        self._ended: dict[str, deque[Span]] = {kind: deque(maxlen=CAP) for kind in (CELL, SPAN, MARK)}
        self._news: deque[Span] = deque(maxlen=NEWS)
        self._dropped = 0  # how many news were lost since there were more than NEWS
        self.renew_after_fork()
        renew_after_fork(self)

    def renew_after_fork(self) -> None:
        """In a forked child: replace the lock, which a thread of the parent may have held."""
        # Reentrant: a signal handler may add a mark while the thread that it interrupts holds the lock. For
        # the same reason lists are copied by one call, during which no handler runs.
        self._lock = threading.RLock()
        self._trimming = False
        for span in self._open.values():
            span.cpu_began = math.nan  # the CPU time of a child begins at 0

    def begin(self, kind: str, name: str, execution_count: int | None = None) -> Span:
        """Start a span now and return it; raises TypeError or ValueError for an unusable name."""
        span = self.new(kind, name, execution_count)
        self.start(span)
        return span

    def new(self, kind: str, name: str, execution_count: int | None = None) -> Span:
        """Return a span that start() starts; raises TypeError or ValueError for an unusable name.

        A caller who has the span before it is started can end it, wherever an interrupt comes.
        """
        span = Span(next(self._numbers), kind, _checked(kind, name), math.nan)
        span.execution_count = execution_count
        return span

    def start(self, span: Span) -> None:
        """Start a new span now."""
        span.start, span.began, span.cpu_began = time.time(), self._clock(), time.process_time()
        with self._lock:
            if len(self._open) >= CAP:
                self._open.pop(next(iter(self._open)), None)
            self._open[span.number] = span
            self._note(span)

    def end(self, span: Span, *, raised: bool = False) -> None:
        """End the span now; does nothing if it has ended, or was never started.

        After an interrupt in here, another call does the rest.
        """
        now, ended, cpu = time.time(), self._clock(), time.process_time()
        with self._lock:
            if math.isnan(span.began) or (not math.isnan(span.end) and span.number not in self._open):
                return
            if math.isnan(span.end):
                span.ended, span.seconds, span.cpu_seconds = ended, ended - span.began, cpu - span.cpu_began
                # If the clock was set back, the end would lie before the start: tables need it after.
                span.end, span.raised = max(now, span.start), raised
            self._trim()
            of_kind = self._ended[span.kind]
            if not of_kind or of_kind[-1] is not span:
                of_kind.append(span)
            self._note(span)
            self._open.pop(span.number, None)  # last: a span that is still open can be ended again

    def mark(self, label: str) -> None:
        """Add a mark now; raises TypeError or ValueError for an unusable label."""
        at, now = time.time(), self._clock()
        span = Span(next(self._numbers), MARK, _checked(MARK, label), at, at, began=now, ended=now)
        with self._lock:
            self._trim()
            self._ended[MARK].append(span)
            self._note(span)

    def _trim(self) -> None:
        """Drop what ended before the oldest row. Not called for each row, so that samples stay cheap."""
        if self._trimming:  # by the code that this signal handler interrupted
            return
        self._trimming = True
        try:
            oldest = self._oldest()
            for spans in self._ended.values():
                while spans and spans[0].ended < oldest:
                    spans.popleft()
        finally:
            self._trimming = False

    def _note(self, span: Span) -> None:
        if len(self._news) == NEWS:
            self._dropped += 1
        self._news.append(span)

    def take_dropped(self) -> int:
        """Return how many starts, ends and marks news() has missed since the last call of this method."""
        with self._lock:
            dropped, self._dropped = self._dropped, 0
        return dropped

    @property
    def has_news(self) -> bool:
        """Whether news() would return any spans."""
        return bool(self._news)

    def news(self) -> list[Span]:
        """The spans that started or ended since the last call, each once, in the order of their starts."""
        if not self._news:
            return []
        with self._lock:
            news, self._news = self._news, deque(maxlen=NEWS)
        return sorted({span.number: span for span in news}.values(), key=_number)

    def all(self, *kinds: str) -> list[Span]:
        """The spans of these kinds, in the order of their starts."""
        with self._lock:
            self._trim()
            found = [span for kind in kinds for span in list(self._ended[kind])]
            going_on = list(self._open.values())
        found += [span for span in going_on if span.kind in kinds]
        return sorted(found, key=_number)

    def newest(self, most: int) -> list[Span]:
        """The newest ``most`` of each kind, in the order of their starts."""
        with self._lock:
            self._trim()
            found = [span for spans in self._ended.values() for span in list(spans)[-most:]]
            found += list(self._open.values())[-most:]
        return sorted(found, key=_number)

    def frame(self, kind: str) -> pd.DataFrame:
        """The spans of one kind as a new DataFrame, in the order of their starts."""
        return frame(kind, self.all(kind))


def frame(kind: str, spans: Sequence[Span]) -> pd.DataFrame:
    """Spans of one kind as a DataFrame, in their order.

    The index of cells is their execution count, of marks their time, of spans 0, 1, 2 …
    """
    import pandas as pd  # noqa: PLC0415 - a program that only samples never pays for it

    start = _times(span.start for span in spans)
    if kind == MARK:
        return _table({"label": [span.name for span in spans]}, start.rename("time"))
    end = _times(span.end for span in spans)
    columns: dict[str, Any] = {
        "start": start,
        "end": end,
        "duration_seconds": pd.array([span.seconds for span in spans], dtype="float64"),
        "cpu_seconds": pd.array([span.cpu_seconds for span in spans], dtype="float64"),
        "raised": pd.array([span.raised for span in spans], dtype="bool"),
    }
    if kind == SPAN:
        return _table({"name": [span.name for span in spans], **columns}, None)
    counts = [span.execution_count for span in spans]
    index = pd.Index(counts, dtype="int64", name="execution_count")
    return _table({**columns, "source": [span.name for span in spans]}, index)


def _table(columns: dict[str, Any], index: Any) -> pd.DataFrame:
    import pandas as pd  # noqa: PLC0415

    # As arrays: pandas would align a column that has an index of its own by that index.
    table: pd.DataFrame = pd.DataFrame(
        {name: getattr(column, "array", column) for name, column in columns.items()}, index=index
    )
    return table


def table(spans: Sequence[Span]) -> pd.DataFrame:
    """Spans of all kinds as a DataFrame with the columns of ``read_spans``, numbered from 0."""
    import pandas as pd  # noqa: PLC0415

    every = frame(SPAN, spans)
    every.insert(0, "kind", [span.kind for span in spans])
    every.insert(6, "execution_count", pd.Series([span.execution_count for span in spans], dtype="Int64"))
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
    """The name as it is kept; raises TypeError or ValueError for one that is unusable."""
    what = {CELL: "the source of a cell", SPAN: "the name of a span", MARK: "the label of a mark"}[kind]
    if not isinstance(name, str):
        raise TypeError(f"{what} must be a string, not {type(name).__name__}")
    if not name.strip() and kind != CELL:
        raise ValueError(f"{what} must not be empty")
    name = name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
    return _UNWRITABLE.sub("\N{REPLACEMENT CHARACTER}", name)
