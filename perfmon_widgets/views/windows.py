"""How much of the history the figures may show: the choice that panel and page offer."""

from __future__ import annotations

_SECONDS = (60.0, 300.0, 600.0)


def windows(kept: float) -> list[float]:
    """Return the choices in seconds: 1, 5 and 10 minutes, as far as a history of ``kept`` seconds allows."""
    return sorted({min(each, kept) for each in _SECONDS})


def window_in_words(seconds: float) -> str:
    """Return a window in words: ``5 min``, ``30 s``."""
    return f"{seconds / 60:g} min" if seconds >= 60 else f"{seconds:g} s"
