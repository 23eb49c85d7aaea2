"""Timeline: the row below the charts that steers which time they show, and says which cell ran when."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import anywidget
import traitlets

from perfmon_widgets.core.spans import CELL, MARK, Span
from perfmon_widgets.metrics import Metric
from perfmon_widgets.panel.link import Link, script
from perfmon_widgets.panel.time_axis import PIXELS
from perfmon_widgets.views.cost import cost_in_words, name_in_words
from perfmon_widgets.views.figures import Rows

SHORTEST = 2.0
"""Seconds of the shortest period that can be chosen."""


class Period(NamedTuple):
    """A time that the charts show."""

    start: float
    """Unix seconds."""
    end: float
    """Unix seconds."""

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.end - self.start


class Request(NamedTuple):
    """What a person asked for."""

    number: int
    """Counts the requests, so that the same one twice is seen as two."""
    action: str
    """A key of _ACTIONS, ``zoom`` or ``live``."""
    start: float = math.nan
    """Of ``zoom``: where it begins, in Unix seconds."""
    end: float = math.nan
    """Of ``zoom``: where it ends, in Unix seconds."""


class Timeline(anywidget.AnyWidget):
    """Buttons to pause the charts, to zoom and to move through the history, and words about a cell.

    The words are about the cell or span under the mouse, else about the running cell. In the browser this
    also makes a drag over a chart choose a period. It has no numbers of its own: the panel answers a request
    by drawing the charts anew.

    Args:
        link: the link of the panel.
    """

    _esm = script("plots.js", "timeline.js")
    _css = script("timeline.css")

    state = traitlets.Dict(
        {"live": True, "running": ""}, help="Whether the charts move; the running cell."
    ).tag(sync=True)
    spans: traitlets.List[list[Any]] = traitlets.List(
        help="Start, end (Unix seconds; none while it goes on) and words of cells, spans and marks."
    ).tag(sync=True)
    request = traitlets.Instance(Request, allow_none=True, help="The newest request of a browser.")

    def __init__(self, link: Link, **traits: Any) -> None:
        self._words: dict[int, str] = {}  # of spans that cannot change any more, by number
        super().__init__(**traits)
        self.link = link
        """The link of the panel."""
        self.on_msg(self._receive)

    def _receive(self, _: Timeline, content: dict[str, Any], __: object) -> None:
        """Note the request of a browser; what no button sends is left out."""
        action, ends = content.get("action"), (content.get("from"), content.get("to"))
        number = self.request.number + 1 if self.request is not None else 1
        if action == "zoom":
            if all(isinstance(end, (int, float)) and math.isfinite(end) for end in ends):
                self.request = Request(number, action, *sorted(map(float, ends)))  # type: ignore[arg-type]
        elif action == "live" or action in _ACTIONS:
            self.request = Request(number, str(action))

    def show_running(self, spans: Sequence[Span], *, is_live: bool) -> None:
        """Show whether the charts move, and name the running cell; a message only where that has changed."""
        cells = [span for span in spans if span.kind == CELL and math.isnan(span.end)]
        self.state = {"live": is_live, "running": name_in_words(cells[-1]) if cells else ""}

    def show_spans(self, spans: Sequence[Span], rows: Rows, metrics: Sequence[Metric], shown: Period) -> None:
        """Send the words of the spans that are seen in a period; a message only where they have changed.

        ``rows``: those of the whole history, from which the costs are computed. A span of less than a pixel,
        and a mark so near to the one before it, cannot be pointed at and has no words.
        """
        pixel = shown.seconds / PIXELS
        newest = float(rows.times[-1]) if len(rows.times) else shown.end
        found: list[list[Any]] = []
        last_mark = -math.inf
        for span in spans:
            if span.start > shown.end or span.end < shown.start:
                continue
            if span.kind == MARK and span.start - last_mark >= pixel:
                last_mark = span.start
                found.append([round(span.start, 2), round(span.start, 2), name_in_words(span)])
            elif math.isnan(span.end):
                found.append([round(span.start, 2), None, name_in_words(span)])
            elif span.kind != MARK and span.end - span.start >= pixel:
                words = self._words_of(span, rows, metrics, newest)
                found.append([round(span.start, 2), round(span.end, 2), words])
        self.spans = found
        kept = {span.number for span in spans}
        self._words = {number: words for number, words in self._words.items() if number in kept}

    def _words_of(self, span: Span, rows: Rows, metrics: Sequence[Metric], newest: float) -> str:
        """The words of a span that has ended; its costs are computed once, with the row after its end."""
        if span.number not in self._words:
            words = cost_in_words(span, rows, metrics)
            if span.end > newest:  # that row is yet to come
                return words
            self._words[span.number] = words
        return self._words[span.number]

    def __repr__(self) -> str:
        return "<Timeline>"


def choose(request: Request, shown: Period, known: Period, *, is_live: bool) -> Period | None:
    """Return the period that a request asks for; None for the newest rows, which move on.

    ``shown`` is what the charts show, ``known`` the time of the history. What is returned lies in the
    history, unless the charts show more than that already.
    """
    if request.action == "live":
        return None
    most = max(known.seconds, shown.seconds)
    if request.action == "zoom":
        return within(Period(request.start, request.end), known, most)
    move, factor = _ACTIONS[request.action]
    seconds = min(shown.seconds * factor, most)
    # While the charts move, they are zoomed at their right end, where people look.
    end = shown.end if is_live else (shown.start + shown.end + seconds) / 2
    end += move * seconds
    if move > 0 and end >= known.end:
        return None
    return within(Period(end - seconds, end), known, most)


# By how much of its length the period is moved, and what its length is multiplied by.
_ACTIONS = {
    "pause": (0.0, 1.0),
    "earlier": (-0.5, 1.0),
    "later": (0.5, 1.0),
    "in": (0.0, 0.5),
    "out": (0.0, 2.0),
}


def within(wanted: Period, known: Period, most: float = math.inf) -> Period:
    """Return a period as long as the one that is wanted, moved into the history if it lies outside.

    It is at least SHORTEST and at most ``most`` seconds long; one longer than the history ends with it.
    """
    seconds = min(max(SHORTEST, wanted.seconds), max(SHORTEST, most))
    end = (wanted.start + wanted.end + seconds) / 2
    end = min(max(end, known.start + seconds), known.end)
    return Period(end - seconds, end)
