"""Errors: what went wrong in the parts of a monitor, by their names, logged once for as long as it lasts."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Generic, TypeVar

_logger = logging.getLogger(__name__)

News = TypeVar("News")


class Errors:
    """The last error of each part that has one, by the part's name."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def now(self) -> dict[str, str]:
        """Those that last, as a dictionary of its own."""
        return dict(self._texts)

    def of(self, name: str, *, heals: bool = True) -> _Part:
        """``with errors.of("disk"):`` what is raised inside is the error of that part, and goes no further.

        An interrupt does. Where nothing is raised, the part has no error any more, if that ``heals`` it.
        """
        return _Part(self, name, heals)

    def note(self, name: str, error: Exception) -> None:
        """That part has this error now."""
        text = str(error) or type(error).__name__
        if name not in self._texts:
            _logger.warning("%s: %s", name, text, exc_info=_logger.isEnabledFor(logging.DEBUG) and error)
        self._texts[name] = text

    def forget(self, name: str) -> None:
        """That part is no more."""
        self._texts.pop(name, None)


class _Part:
    """What of() returns. A generator would cost twice as much, several times in every sample."""

    __slots__ = ("_errors", "_heals", "_name")

    def __init__(self, errors: Errors, name: str, heals: bool) -> None:
        self._errors, self._name, self._heals = errors, name, heals

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        if isinstance(error, Exception):
            self._errors.note(self._name, error)
            return True
        if error is None and self._heals:
            self._errors.forget(self._name)
        return False


class Subscribers(Generic[News]):
    """Who is to be called with news; one that fails is an error of its own and harms nobody."""

    def __init__(self, kind: str, errors: Errors) -> None:
        self._kind = kind
        self._errors = errors
        self._callbacks: tuple[Callable[[News], object], ...] = ()

    def change(self, callback: Callable[[News], object], remove: bool) -> None:
        """Call it back from now on, once however often it is given; or no more."""
        if remove:
            self._errors.forget(self._name(callback))
            self._callbacks = tuple(known for known in self._callbacks if known != callback)
        elif callback not in self._callbacks:
            self._callbacks = (*self._callbacks, callback)

    def tell(self, news: News) -> None:
        """Call all of them, here."""
        for callback in self._callbacks:
            with self._errors.of(self._name(callback)):
                callback(news)

    def _name(self, callback: Callable[[News], object]) -> str:
        return f"{self._kind} {getattr(callback, '__qualname__', callback)}"
