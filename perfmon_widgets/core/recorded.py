"""What the user records: series of one's own, handed to the sampler like any other reading."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from perfmon_widgets.metrics import RECORDED, Metric, unit_of

MOST = 100
"""How many names may be recorded: each is a column of every row."""


class Recorded:
    """Hands over the last value of each series that was recorded since the reading before.

    Its metrics grow by the names that are new; they never shrink. To be used from any thread.
    """

    def __init__(self) -> None:
        self.metrics: Sequence[Metric] = ()
        self._new: dict[str, Metric] = {}
        self._values: dict[str, float] = {}
        self.renew_lock()

    def renew_lock(self) -> None:
        """In a forked child: the parent's lock may have been held when the fork happened."""
        # Reentrant: a signal handler may record while the thread that it interrupts holds it.
        self._lock = threading.RLock()

    def record(self, values: Mapping[str, object], taken: frozenset[str]) -> None:
        """Keep the values for the next reading: all of them, or none if one cannot be taken.

        ``taken`` has the names of the other columns. Raises ValueError for a name that cannot be a column or
        is one already, and if there are more than MOST; TypeError for what is no number.
        """
        numbers = {name: _number(name, value) for name, value in values.items()}
        with self._lock:
            known = {metric.name for metric in self.metrics} | self._new.keys()
            new = {name: _metric(name, taken) for name in numbers if name not in known}
            if new and len(known) + len(new) > MOST:
                raise ValueError(
                    f"{next(iter(new))!r} cannot be recorded: each series is a column of every row, and "
                    f"there are {len(known)} already; at most {MOST} may be recorded"
                )
            self._new.update(new)
            self._values.update(numbers)

    @property
    def waiting(self) -> bool:
        """Whether there are values that no reading has handed over."""
        return bool(self._values)

    @property
    def new(self) -> tuple[str, ...]:
        """The names that are not among the metrics yet."""
        return tuple(self._new) if self._new else ()

    def adopt(self, names: Sequence[str]) -> None:
        """Those of the new names are among the metrics from now on."""
        with self._lock:
            metrics = (*self.metrics, *(self._new[name] for name in names))
            new = {name: metric for name, metric in self._new.items() if name not in names}
            self.metrics, self._new = metrics, new  # both, or an interrupt leaves both as they were

    def collect(self) -> Mapping[str, float]:
        """The last value of each series that was recorded since the reading before."""
        if not self._values:
            return {}
        with self._lock:
            # What was recorded first a moment ago is a column from the next reading on.
            values, self._values = self._values, {}
            for name in list(self._new):
                if name in values:
                    self._values[name] = values.pop(name)
        return values


def _number(name: str, value: Any) -> float:
    """The value as a float, if it is a single number: of Python, numpy, torch or any that says it is one."""
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
    if not all(part.isidentifier() for part in name.split("/")):
        raise ValueError(f"{name!r} cannot be a column: use letters, digits and _, as in train/loss")
    return Metric(name, unit_of(name), RECORDED, f"What was recorded as {name}.", source="record()")
