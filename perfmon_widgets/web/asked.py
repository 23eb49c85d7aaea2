"""What a request of the live page asks for: the fields of its query, checked."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import timezone
from typing import Any
from urllib.parse import unquote

from perfmon_widgets.views.local_time import reader
from perfmon_widgets.views.windows import window_in_words
from perfmon_widgets.web.request import Refusal, Request, read_since

# How many sections are open where the page does not say which.
_OPEN_AT_FIRST = 2
# The width of a figure, in pixels.
_NARROWEST, _WIDEST = 280, 1000
# Seconds between two searches for findings, as in the panel. One takes 1.0 to 1.5 ms.
_FIND_EVERY = 5.0
# Seconds by which a time in whole microseconds may differ from that of its sample.
ROUNDED = 1e-6


class Asked:
    """What a request asks for; raises Refusal, naming the field, for a wrong value."""

    def __init__(self, request: Request, groups: Collection[str], offered: Sequence[float]) -> None:
        query = request.query
        window = _number("window", query.get("window", "inf"), infinite=True)
        if not window > 0:
            raise Refusal(400, "window: must be a number of seconds greater than 0")
        self.window = min(window, offered[-1])
        """How many seconds are shown at most."""
        names = query["open"].split(",") if "open" in query else [*groups][:_OPEN_AT_FIRST]
        self.open = {unquote(name) for name in names}
        """The groups whose sections are open."""
        width = _number("width", query.get("width", "720"), infinite=True)
        self.width = int(min(max(width, _NARROWEST), _WIDEST))
        """Of a figure, in pixels."""
        minutes = _number("minutes", query.get("minutes", "0"))
        self.reader: AbstractContextManager[None] = nullcontext()
        """In its body, times are those of the person who looks at the page."""
        if "zone" in query:
            self.reader = reader(query["zone"], minutes)
        since = read_since(query)
        self.since = None if since is None else since.replace(tzinfo=timezone.utc).timestamp()
        """The time of the newest sample that the page has, in Unix seconds; None if it has none."""
        self.have = query.get("have", "")
        """The ``have`` of the last answer: which figures the page has, and how their points lie."""
        self.choices: dict[str, Any] = {
            "window": self.window,
            "windows": [{"seconds": each, "words": window_in_words(each)} for each in offered],
        }
        """The window, and those that may be chosen, as they are sent."""

    def has(self, time: float) -> bool:
        """Whether the page has the sample of this time already."""
        return self.since is not None and time <= self.since + ROUNDED

    def is_time_for_findings(self, time: float) -> bool:
        """Whether a multiple of five seconds lies between the newest sample of the page and this time."""
        return self.since is None or time // _FIND_EVERY != self.since // _FIND_EVERY


def _number(field: str, text: str, *, infinite: bool = False) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if math.isnan(number) or (math.isinf(number) and not infinite):
        raise Refusal(400, f"{field}: must be a number")
    return number
