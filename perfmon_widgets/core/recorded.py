"""Recorded: a collector of the series that the user records with ``record()``."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from itertools import filterfalse
from typing import Any

import numpy as np

from perfmon_widgets.collectors.timeout_thread import NoAnswerError, TimeoutThread
from perfmon_widgets.core.errors import text_of
from perfmon_widgets.core.steps import Meter
from perfmon_widgets.forks import renew_after_fork
from perfmon_widgets.metrics import RECORDED, Metric, unit_of

MAX_SERIES = 100
"""How many names may be recorded: each is a column of every row."""
LONGEST_NAME = 200
"""The most characters that the name of a series may have."""
# Seconds to wait for the devices that hold recorded tensors. What they answer later comes in the next row.
_TIMEOUT = 1.0


class Recorded:
    """A collector of the last value of each series that was recorded since the reading before.

    Its metrics grow by each new name and never shrink. Safe to use from any thread.
    """

    def __init__(self) -> None:
        self.metrics: Sequence[Metric] = ()
        self._new: dict[str, Metric] = {}
        self._values: dict[str, Any] = {}
        self._meter: Meter | None = None
        self.errors: dict[str, str] = {}
        """Why the last value of a series could not be read, by its name."""
        self._thread = TimeoutThread("perfmon-recorded")
        self.renew_after_fork()
        renew_after_fork(self)

    def renew_after_fork(self) -> None:
        """In a forked child: make a new lock, since a thread of the parent may have held the old one."""
        # Reentrant: a signal handler may record while the thread that it interrupts holds the lock.
        self._lock = threading.RLock()
        self._asked: set[str] = set()  # the names of tensors that are being read, or have been
        self._arrived: Mapping[str, tuple[float, str]] = {}  # what was read of them, set by the other thread

    def record(self, values: Mapping[str, object], taken: frozenset[str]) -> None:
        """Keep the values for the next reading: all of them, or none if one is refused.

        A tensor is kept as it is, since its number may have to be waited for; the next reading does that.

        ``taken`` are the names of the other columns. Raises TypeError for a value that cannot be a single
        number, and ValueError for a name that cannot be a column or is one already, and for more than
        MAX_SERIES names.
        """
        numbers = {name: _kept(name, value) for name, value in values.items()}
        with self._lock:
            known = {metric.name for metric in self.metrics} | self._new.keys()
            # No `if` in a loop: see interrupts.py.
            new = {name: _metric(name, taken) for name in filterfalse(known.__contains__, numbers)}
            if new and len(known) + len(new) > MAX_SERIES:
                raise ValueError(
                    f"{next(iter(new))!r} cannot be recorded: each series is a column of every row, and "
                    f"there are {len(known)} already; at most {MAX_SERIES} may be recorded"
                )
            self._new.update(new)
            self._values.update(numbers)

    def follow(self, meter: Meter, taken: frozenset[str]) -> None:
        """Add the columns of this meter, which is then read with each reading. Does nothing the second time.

        ``taken`` are the names of the other columns; raises ValueError if the meter's are among them.
        """
        if self._meter is not None:
            return
        with self._lock:
            names = {metric.name for metric in meter.metrics}
            if names & (taken | {metric.name for metric in self.metrics} | self._new.keys()):
                raise ValueError(f"steps() records {', '.join(sorted(names))}; give your columns other names")
            self._new.update({metric.name: metric for metric in meter.metrics})
            self._meter = meter

    @property
    def waiting(self) -> bool:
        """Whether there are values for the next reading."""
        new = bool(self._values or (self._asked and self._arrived))
        return new or (self._meter is not None and self._meter.waiting)

    @property
    def new(self) -> tuple[str, ...]:
        """The names that are not among the metrics yet."""
        return tuple(self._new) if self._new else ()

    def adopt(self, names: Sequence[str]) -> None:
        """Move these names from ``new`` to the metrics."""
        with self._lock:
            metrics = (*self.metrics, *(self._new[name] for name in names))
            new = {name: self._new[name] for name in filterfalse(names.__contains__, self._new)}
            self.metrics, self._new = metrics, new  # in one statement: an interrupt leaves both as they were

    def collect(self) -> Mapping[str, float]:
        """Return the last value of each series that was recorded since the reading before.

        Waits for a device that holds some of them, but not for long: one that hangs must not stop the
        sampling.
        """
        meter = self._meter
        if not self._values and not self._asked and meter is None:
            return {}
        with self._lock:
            # A name that was recorded for the first time a moment ago is a column from the next reading on.
            values, self._values = self._values, {}
            for name in self._new.keys() & values.keys():
                self._values[name] = values.pop(name)
            is_column = meter is not None and meter.metrics[0].name not in self._new
        tensors = {name: value for name, value in values.items() if type(value) is not float}
        floats = values.keys() - tensors.keys()
        self._asked -= floats  # what is still to come of these is older
        found = self._read_in_time(tensors) if tensors or self._asked else {}
        found.update((name, (values[name], "")) for name in floats)
        for name, (_, reason) in found.items():
            if reason:
                self.errors[name] = reason
            else:
                self.errors.pop(name, None)
        numbers = {name: number for name, (number, _) in found.items()}
        if meter is not None and is_column:
            numbers.update(meter.collect())
        return numbers

    def _read_in_time(self, tensors: Mapping[str, Any]) -> dict[str, tuple[float, str]]:
        """Return what these tensors hold, as ``_read`` does, and what those hold whose device was late."""
        hangs = self._thread.busy
        found = {} if hangs else self._answers()
        if hangs:
            self._keep(tensors)
        elif tensors:
            self._asked = set(tensors)
            try:
                self._thread.ask(lambda: self._read_all(tensors), _TIMEOUT)
            except NoAnswerError:
                pass  # said below
            except OSError as error:  # no thread can be started
                self._asked = set()
                self._keep(tensors)
                reason = f"it cannot be read: {error.strerror}"
                return {**found, **dict.fromkeys(tensors, (math.nan, reason))}
            hangs = self._thread.busy
            found.update({} if hangs else self._answers())
        if hangs:
            reason = f"the device that holds it has not answered for {self._thread.silence:.0f} s"
            found.update(dict.fromkeys(self._asked | tensors.keys(), (math.nan, reason)))
        return found

    def _answers(self) -> dict[str, tuple[float, str]]:
        """Return what the tensors hold that were asked for; their device has answered."""
        self.close()  # the next tensor may never come
        arrived = {name: found for name, found in self._arrived.items() if name in self._asked}
        self._arrived, self._asked = {}, set()
        return arrived

    def _read_all(self, tensors: Mapping[str, Any]) -> None:
        self._arrived = {name: _read(name, value) for name, value in tensors.items()}

    def _keep(self, values: Mapping[str, Any]) -> None:
        """Keep values for the next reading, unless there are newer ones by then."""
        with self._lock:
            self._values = {**values, **self._values}

    def close(self) -> None:
        """End the thread that reads tensors; the next one starts another. Called when the monitor stops."""
        self._thread.close()
        self._thread.join(_TIMEOUT)


def _read(name: str, value: Any) -> tuple[float, str]:
    """Return the number of a value; NaN, with the reason, if it has none."""
    try:
        return _number(name, value), ""
    except BaseException as error:  # noqa: BLE001 - code of the value's class
        return math.nan, text_of(error)


def _kept(name: str, value: Any) -> Any:
    """Return a float, or an object that the next reading makes one of; TypeError if that cannot be.

    Numbers and arrays are read at once, since an array may change. What has ``item()`` otherwise, such as a
    tensor, is kept, without the graph that it was computed by.
    """
    if isinstance(value, (int, float, np.ndarray, np.generic)) or not hasattr(value, "item"):
        return _number(name, value)
    if math.prod(getattr(value, "shape", ())) != 1:  # reading the shape does not wait for the device
        raise TypeError(f"{name!r} must be a single number, not {type(value).__name__}")
    detach = getattr(value, "detach", None)
    return detach() if callable(detach) else value


def _number(name: str, value: Any) -> float:
    """Return the value as a float; raises TypeError unless it is a single number, of whichever library."""
    try:
        item = getattr(value, "item", None)  # of an array or tensor with one element
        number = value if item is None else item()
        if isinstance(number, (str, bytes, bytearray)):
            raise TypeError
        return float(number)
    except OverflowError:
        raise ValueError(f"{name!r} is too large a number to be recorded") from None
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"{name!r} must be a single number, not {type(value).__name__}") from None


def _metric(name: str, taken: frozenset[str]) -> Metric:
    if name in taken:
        raise ValueError(f"{name!r} is a column of the history already; record it under another name")
    if len(name) > LONGEST_NAME:
        raise ValueError(
            f"{name[:40] + '…'!r} is too long for a column: use at most {LONGEST_NAME} characters"
        )
    if not all(part.isidentifier() for part in name.split("/")):
        raise ValueError(f"{name!r} cannot be a column: use letters, digits and _, as in train/loss")
    return Metric(name, unit_of(name), RECORDED, f"What was recorded as {name}.", source="record()")
