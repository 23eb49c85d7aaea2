"""Errors: the current error of each part of a monitor. An error that lasts is logged once."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Generic, TypeAlias, TypeVar

from perfmon_widgets.collectors.timeout_thread import NoAnswerError, TimeoutThread
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


_Subscriber: TypeAlias = "tuple[Callable[[Notice], object], TimeoutThread | None]"
"""A callback, and the thread on which it is called with a timeout; None for one of this package."""


class Subscribers(Generic[Notice]):
    """Callbacks. If one raises, its error is listed in the errors and the others are still called."""

    def __init__(self, kind: str, errors: Errors) -> None:
        self._kind = kind
        self._errors = errors
        self._subscribers: dict[str, _Subscriber[Notice]] = {}  # by their names in the errors
        self.renew_after_fork()
        renew_after_fork(self)

    def renew_after_fork(self) -> None:
        """In a forked child: make a new lock, since a thread of the parent may have held the old one."""
        # Reentrant: the garbage collector may run inside it, and what it collects may unsubscribe.
        self._lock = threading.RLock()
        self._calling: set[int] = set()  # the threads on which a callback is being called with a timeout

    def change(self, callback: Callable[[Notice], object], remove: bool) -> None:
        """Add the callback (at most once), or remove it."""
        with self._lock:
            # Copy on write: a notify() that goes on meanwhile keeps the old dictionary.
            subscribers = dict(self._subscribers)
            known = next((name for name, each in subscribers.items() if each[0] == callback), None)
            if not remove and known is None:
                name = numbered(f"{self._kind} {name_of(callback)}", subscribers)
                thread = None if _is_ours(callback) else TimeoutThread("perfmon-subscriber")
                subscribers[name] = (callback, thread)
            elif remove and known is not None:
                _, thread = subscribers.pop(known)
                if thread is not None:
                    thread.close()
                self._errors.clear(known)
            self._subscribers = subscribers

    def notify(self, notice: Notice, timeout: float = math.inf) -> None:
        """Call all callbacks, those of this package first; without a timeout on this thread.

        A callback of the user's that does not return delays the others once, by ``timeout`` seconds, and is
        then left out until it has returned.
        """
        subscribers = self._of(users=False) | self._of(users=True)
        self._notify(subscribers, notice, timeout)

    def notify_ours(self, notice: Notice) -> None:
        """Call the callbacks of this package."""
        self._notify(self._of(users=False), notice, math.inf)

    def notify_users(self, notice: Notice, timeout: float) -> None:
        """Call the callbacks of the user's, as notify() does."""
        self._notify(self._of(users=True), notice, timeout)

    def _of(self, *, users: bool) -> dict[str, _Subscriber[Notice]]:
        return {name: each for name, each in self._subscribers.items() if (each[1] is not None) is users}

    def _notify(self, subscribers: Mapping[str, _Subscriber[Notice]], notice: Notice, timeout: float) -> None:
        errors = self._errors
        for name, subscriber in subscribers.items():
            callback, thread = subscriber
            try:  # the same as `with errors.catch(name)`, which would cost more than the rest of this method
                if thread is None or timeout == math.inf:
                    callback(notice)
                else:
                    thread.ask(partial(self._call, callback, notice), timeout)
            except KeyboardInterrupt:
                raise
            except NoAnswerError:
                if self._subscribers.get(name) is subscriber:  # otherwise it was removed meanwhile
                    text = f"it has not returned for more than {timeout:g} s; it is left out until it has"
                    errors.report(name, TimeoutError(text))
            except BaseException as error:  # noqa: BLE001 - as in catch()
                errors.report(name, error)
                if self._subscribers.get(name) is not subscriber:
                    errors.clear(name)  # it has removed itself before: nothing else would clear its error
            else:
                if name in errors.texts:
                    errors.clear(name)

    def _call(self, callback: Callable[[Notice], object], notice: Notice) -> None:
        here = threading.get_ident()
        self._calling.add(here)
        try:
            callback(notice)
        finally:
            self._calling.discard(here)

    @property
    def running_here(self) -> bool:
        """Whether this thread is calling a callback with a timeout, even if it was removed meanwhile."""
        return threading.get_ident() in self._calling

    def close(self, timeout: float) -> None:
        """End the threads; waits up to ``timeout`` seconds for each, unless its callback has not returned."""
        for _, thread in self._subscribers.values():
            if thread is not None:
                thread.close()
                thread.join(timeout)


def _is_ours(callback: Callable[..., object]) -> bool:
    return str(getattr(callback, "__module__", "")).startswith("perfmon_widgets.")


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
