"""Timeline: the row below the charts that steers which time they show, and says which cell ran when."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import anywidget
import traitlets

from perfmon_widgets.core.spans import MARK, Span
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
    start: float = 0.0
    """Of ``zoom``: where it begins, as a share of the width of the charts."""
    end: float = 1.0
    """Of ``zoom``: where it ends, in the same way."""


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
        action = content.get("action")
        number = self.request.number + 1 if self.request is not None else 1
        if action == "zoom":
            start, end = sorted((float(content["from"]), float(content["to"])))
            self.request = Request(number, action, start, end)
        elif action == "live" or action in _ACTIONS:
            self.request = Request(number, str(action))

    def show(
        self, spans: Sequence[Span], rows: Rows, metrics: Sequence[Metric], shown: Period, *, is_live: bool
    ) -> None:
        """Show the words of spans that are seen in a period; a message only where something has changed.

        ``rows``: those of the whole history, from which the costs are computed.
        """
        open_spans = [span for span in spans if span.end != span.end]
        cells = [span for span in open_spans if span.execution_count is not None]
        self.state = {"live": is_live, "running": name_in_words(cells[-1]) if cells else ""}
        seen = [span for span in spans if span.start <= shown.end and not span.end < shown.start]
        newest = float(rows.times[-1]) if len(rows.times) else shown.end
        self.spans = [
            [round(span.start, 2), round(span.end, 2) if span.end == span.end else None, words]
            for span in seen
            for words in [self._words_of(span, rows, metrics, shown.seconds / PIXELS, newest)]
        ]
        kept = {span.number for span in spans}
        self._words = {number: words for number, words in self._words.items() if number in kept}

    def _words_of(
        self, span: Span, rows: Rows, metrics: Sequence[Metric], pixel: float, newest: float
    ) -> str:
        """The words of a span; its costs are computed once, when the row after its end is there."""
        if span.number not in self._words:
            # Not of spans that are too short to be pointed at: a notebook may have hundreds.
            if span.kind == MARK or not (span.end <= newest and span.end - span.start >= pixel):
                return name_in_words(span)
            self._words[span.number] = cost_in_words(span, rows, metrics)
        return self._words[span.number]

    def __repr__(self) -> str:
        return "<Timeline>"


def choose(request: Request, shown: Period, known: Period, *, is_live: bool) -> Period | None:
    """Return the period that a request asks for; None for the newest rows, which move on.

    ``shown`` is what the charts show, ``known`` the time of the history. A period that would reach beyond
    the history is moved into it.
    """
    if request.action == "live":
        return None
    if request.action == "zoom":
        zoomed = (shown.start + share * shown.seconds for share in (request.start, request.end))
        return _within(Period(*zoomed), known)
    move, factor = _ACTIONS[request.action]
    seconds = shown.seconds * factor
    # While the charts move, they are zoomed at their right end, where people look.
    end = shown.end if is_live else (shown.start + shown.end + seconds) / 2
    end += move * seconds
    if move > 0 and end >= known.end:
        return None
    return _within(Period(end - seconds, end), known)


# By how much of its length the period is moved, and what its length is multiplied by.
_ACTIONS = {
    "pause": (0.0, 1.0),
    "earlier": (-0.5, 1.0),
    "later": (0.5, 1.0),
    "in": (0.0, 0.5),
    "out": (0.0, 2.0),
}


def _within(wanted: Period, known: Period) -> Period:
    seconds = max(SHORTEST, wanted.seconds)
    end = min(max((wanted.start + wanted.end + seconds) / 2, known.start + seconds), known.end)
    start = end - seconds
    # Longer than the history: as long as the history is, or as what was shown.
    return Period(max(start, min(known.start, wanted.start)), end)
