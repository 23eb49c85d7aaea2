"""Times of day as people read them: in the time zone of the reader, in one format for all user interfaces.

The data stay in UTC. The reader is the person whose request is answered (``reader()``), else the one at the
browser that reported its zone last to the panel (``set_zone()``). Until a browser has, for example in a
terminal, it is the zone of this computer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timedelta, timezone, tzinfo
from functools import cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

DAY = 86_400
# Seconds between two ticks of an axis of times: round numbers of seconds, minutes, hours or days.
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, DAY)
_GAP = 12.0  # pixels at least between two labels
_LETTER = 5.6  # pixels that a digit takes, about

_zone: tzinfo | None = None
# That of a request which is being answered: several at a time may come from readers in different zones.
_zone_of_request: ContextVar[tzinfo | None] = ContextVar("_zone_of_request", default=None)


class Tick(NamedTuple):
    """A label of an axis of times."""

    time: float
    """Unix seconds."""
    label: str


def set_zone(name: str, minutes: float) -> bool:
    """Set the zone of the person at this process's notebook, and return whether that changed it.

    ``name`` is the zone's name as browsers report it (``Europe/Berlin``), ``minutes`` its present difference
    to UTC. The difference alone is used where this computer does not know the name.
    """
    global _zone
    before, _zone = _zone, _zone_of(name, minutes)
    return _zone != before


@contextmanager
def reader(name: str, minutes: float) -> Iterator[None]:
    """Have times in this zone, given as for set_zone(), in the body of a ``with`` on this thread only."""
    token = _zone_of_request.set(_zone_of(name, minutes))
    try:
        yield
    finally:
        _zone_of_request.reset(token)


def _zone_of(name: str, minutes: float) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # unknown, malformed, or a folder of the database
        return timezone(timedelta(minutes=round(min(max(minutes, -1439.0), 1439.0))))


def local(time: float) -> datetime:
    """Return a time (Unix seconds) in the reader's zone."""
    return datetime.fromtimestamp(time, timezone.utc).astimezone(_zone_of_request.get() or _zone)


def format_clock(time: float) -> str:
    """Return a time of day: ``14:03:27``."""
    return f"{local(time):%H:%M:%S}"


def format_time(time: float) -> str:
    """Return a date and a time of day: ``2026-11-28 14:03:27``."""
    return f"{local(time):%Y-%m-%d %H:%M:%S}"


def zone_name(time: float) -> str:
    """Return the name of the reader's zone at a time: ``CET``, or ``UTC-03`` for a zone without letters."""
    name = local(time).tzname() or "UTC"
    return f"UTC{name}" if name[0] in "+-" else name


def format_dates(start: float, end: float) -> str:
    """Return the date of a stretch of time, or its first and last date, and the zone: ``2026-11-28 CET``."""
    first, last = (f"{local(time):%Y-%m-%d}" for time in (start, end))
    days = first if first == last else f"{first} – {last}"
    return f"{days} {zone_name(end)}"


def format_period(start: float, end: float) -> str:
    """Return a period with its zone: ``2030-01-31 15:04:05 – 15:14:05 CET``."""
    first, last = local(start), local(end)
    until = format_clock(end) if first.date() == last.date() else format_time(end)
    names = [zone_name(start), zone_name(end)]
    began = f" {names[0]}" if names[0] != names[1] else ""  # the clocks were changed in between
    return f"{format_time(start)}{began} – {until} {names[1]}"


def offset(time: float) -> float:
    """Return the seconds that the reader's clock was ahead of UTC at a time."""
    difference = local(time).utcoffset()
    return difference.total_seconds() if difference is not None else 0.0


def ticks(start: float, end: float, pixels: float, free: float = 0.0) -> list[Tick]:
    """Return round local times between two times, as many as have space in ``pixels`` next to each other.

    The last ``free`` pixels are left free. Times are round by the clock at the end, also if the clocks were
    changed in between.
    """
    seconds, ahead = end - start, offset(end)
    if not 0 < seconds < math.inf:
        return []
    step = _step(seconds, pixels)
    half = _width(step, seconds) / 2 / pixels * seconds
    last = math.floor((end - seconds * free / pixels - half + ahead) / step)
    first = math.ceil((start + half + ahead) / step)
    moments = (float(step * number - ahead) for number in range(first, last + 1))
    return [Tick(moment, format(_by_clock(moment, ahead), _format(step, seconds))) for moment in moments]


def _by_clock(time: float, ahead: float) -> datetime:
    """The time on a clock that is ``ahead`` seconds ahead of UTC."""
    return datetime.fromtimestamp(time + ahead, timezone.utc)


def time_format(start: float, end: float, pixels: float) -> str:
    """Return the format of the labels that ticks() returns, as strftime has it: ``%H:%M``."""
    return _format(_step(end - start, pixels), end - start)


def _step(seconds: float, pixels: float) -> int:
    """The seconds between two ticks: days, where no shorter step leaves space for the labels."""
    step = next((each for each in _STEPS if each / seconds * pixels >= _width(each, seconds)), None)
    if step is None:
        step = DAY * math.ceil(seconds / DAY / max(1.0, pixels / _width(DAY, seconds)))
    return step


def _width(step: int, seconds: float) -> float:
    return _LETTER * _letters(_format(step, seconds)) + _GAP


@cache
def _letters(time_format: str) -> int:
    return len(format(datetime(2000, 1, 1, tzinfo=timezone.utc), time_format))


def _format(step: int, seconds: float) -> str:
    """The format of a tick: as short as distinguishes it from the others."""
    if step >= DAY:
        return "%m-%d"
    if seconds > DAY:
        return "%m-%d %H:%M"
    return "%H:%M" if step >= 60 else "%H:%M:%S"
