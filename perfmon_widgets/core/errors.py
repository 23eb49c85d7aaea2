"""Errors: the current error of each part of a monitor. An error that lasts is logged once."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from perfmon_widgets.forks import renew_after_fork

_logger = logging.getLogger(__name__)

Notice = TypeVar("Notice")

LONGEST = 1000
"""The characters of an error that are kept: some have the whole input in their text."""


class Errors:
    """The current error of each part that has one, by the name of the part."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        """For reading only; report() and clear() change it."""

    @contextmanager
    def catch(self, name: str) -> Iterator[None]:
        """``with errors.catch("disk"):`` report what is raised inside as the error of that part.

        Where nothing is raised, the error of the part is cleared. KeyboardInterrupt passes through.
        """
        try:
            yield
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - SystemExit or CancelledError would end the sampling
            self.report(name, error)
        else:
            self.clear(name)

    def report(self, name: str, error: BaseException) -> None:
        """Set the current error of a part; logged if the part had none."""
        text = text_of(error)
        if name not in self.texts:
            _logger.warning("%s: %s", name, text, exc_info=_logger.isEnabledFor(logging.DEBUG) and error)
        self.texts[name] = text

    def clear(self, name: str) -> None:
        """Clear the error of a part."""
        self.texts.pop(name, None)


class Subscribers(Generic[Notice]):
    """Callbacks. If one raises, its error is listed in the errors and the others are still called."""

    def __init__(self, kind: str, errors: Errors) -> None:
        self._kind = kind
        self._errors = errors
        self._callbacks: dict[str, Callable[[Notice], object]] = {}  # by their names in the errors
        self.renew_after_fork()
        renew_after_fork(self)

    def renew_after_fork(self) -> None:
        """In a forked child: make a new lock, since a thread of the parent may have held the old one."""
        # Reentrant: the garbage collector may run inside it, and what it collects may unsubscribe.
        self._lock = threading.RLock()

    def change(self, callback: Callable[[Notice], object], remove: bool) -> None:
        """Add the callback (at most once), or remove it."""
        with self._lock:
            # Copy on write: a notify() that goes on meanwhile keeps the old dictionary.
            callbacks = dict(self._callbacks)
            known = next((name for name, each in callbacks.items() if each == callback), None)
            if not remove and known is None:
                callbacks[numbered(f"{self._kind} {name_of(callback)}", callbacks)] = callback
            elif remove and known is not None:
                del callbacks[known]
                self._errors.clear(known)
            self._callbacks = callbacks

    def notify(self, notice: Notice) -> None:
        """Call all callbacks, on this thread."""
        errors = self._errors
        for name, callback in self._callbacks.items():
            try:  # the same as `with errors.catch(name)`, which would cost more than the rest of this method
                callback(notice)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001 - as in catch()
                errors.report(name, error)
            else:
                if name in errors.texts:
                    errors.clear(name)


def text_of(thing: object) -> str:
    """Return ``str(thing)``, at most ``LONGEST`` characters of it; the name of its type if it has no text.

    The text can be written to any file: a lone surrogate, which UTF-8 cannot encode, is replaced.
    """
    try:
        text = str(thing)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - a class of the user's, whose __str__ raises
        text = ""
    text = text or type(thing).__name__
    text = text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
    return text.encode(errors="replace").decode()


def numbered(name: str, taken: Container[str]) -> str:
    """Return the name, followed by a number if it is taken: ``on_sample print 2``."""
    number, found = 1, name
    while found in taken:
        number += 1
        found = f"{name} {number}"
    return found


def name_of(function: Callable[..., object]) -> str:
    """Return a name by which a person can find the function.

    It is the function's own name, without the names of functions that enclose it. A lambda is named by the
    line where it is written. An object without a name, such as a partial, is named by its type.
    """
    name: str = getattr(function, "__qualname__", None) or type(function).__qualname__
    name = name.rpartition("<locals>.")[2]
    code = getattr(function, "__code__", None)
    if code is not None and name.endswith("<lambda>"):
        return f"lambda (line {code.co_firstlineno} of {function.__module__})"
    return name
