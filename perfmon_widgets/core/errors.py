"""Errors: what went wrong in the parts of a monitor, by their names, logged once for as long as it lasts."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

_logger = logging.getLogger(__name__)

News = TypeVar("News")


class Errors:
    """The last error of each part that has one, by the part's name."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        """To be looked at; changed by what is below only."""

    def now(self) -> dict[str, str]:
        """Those that last, as a dictionary of its own."""
        return dict(self.texts)

    @contextmanager
    def of(self, name: str, *, heals: bool = True) -> Iterator[None]:
        """``with errors.of("disk"):`` what is raised inside is the error of that part, and goes no further.

        KeyboardInterrupt does. Where nothing is raised, the part has no error any more, if that ``heals`` it.
        """
        try:
            yield
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - SystemExit or CancelledError would end the sampling
            self.note(name, error)
        else:
            if heals:
                self.forget(name)

    def note(self, name: str, error: BaseException) -> None:
        """That part has this error now."""
        try:
            text = str(error) or type(error).__name__
        except Exception:  # noqa: BLE001 - it is somebody's own, and its text fails in its turn
            text = type(error).__name__
        if name not in self.texts:
            _logger.warning("%s: %s", name, text, exc_info=_logger.isEnabledFor(logging.DEBUG) and error)
        self.texts[name] = text

    def forget(self, name: str) -> None:
        """That part is no more."""
        self.texts.pop(name, None)


class Subscribers(Generic[News]):
    """Who is to be called with news; one that fails is an error of its own and harms nobody."""

    def __init__(self, kind: str, errors: Errors) -> None:
        self._kind = kind
        self._errors = errors
        self._callbacks: dict[str, Callable[[News], object]] = {}  # by their names among the errors
        self.renew_lock()

    def renew_lock(self) -> None:
        """In a forked child: the parent's lock may have been held when the fork happened."""
        # Reentrant: what is collected as garbage meanwhile may want to be told no more.
        self._lock = threading.RLock()

    def change(self, callback: Callable[[News], object], remove: bool) -> None:
        """Call it back from now on, once however often it is given; or no more."""
        with self._lock:
            # Those to be told now are told from the one before.
            callbacks = dict(self._callbacks)
            known = next((name for name, each in callbacks.items() if each == callback), None)
            if not remove and known is None:
                callbacks[numbered(f"{self._kind} {name_of(callback)}", callbacks)] = callback
            elif remove and known is not None:
                del callbacks[known]
                self._errors.forget(known)
            self._callbacks = callbacks

    def tell(self, news: News) -> None:
        """Call all of them, here."""
        errors = self._errors
        for name, callback in self._callbacks.items():
            try:  # as `with errors.of(name)`, which would be dearer than all else that is done here
                callback(news)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001 - as there
                errors.note(name, error)
            else:
                if name in errors.texts:
                    errors.forget(name)


def numbered(name: str, taken: Container[str]) -> str:
    """The name, with a number behind it where there are several of it."""
    number, found = 1, name
    while found in taken:
        number += 1
        found = f"{name} {number}"
    return found


def name_of(action: Callable[..., object]) -> str:
    """What to call a function among the errors; of what has no name, such as a partial, its type's."""
    return getattr(action, "__qualname__", None) or type(action).__qualname__
