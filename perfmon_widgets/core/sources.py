"""Sources: the collectors of one monitor, read in turn. If one fails, only its own columns are missing."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from perfmon_widgets.collectors import Collector
from perfmon_widgets.collectors.plausible import checked
from perfmon_widgets.collectors.timeout_thread import NoAnswerError, TimeoutThread
from perfmon_widgets.core.errors import Errors, numbered, text_of
from perfmon_widgets.core.sampler import TIMEOUT
from perfmon_widgets.forks import renew_after_fork
from perfmon_widgets.metrics import Metric


class _Growing(NamedTuple):
    """What is known of a collector that may get more metrics later."""

    adopted: frozenset[str]
    """The names of its metrics that are columns."""
    seen: Sequence[Metric]
    """Its metrics when there was nothing new among them."""
    new: Sequence[str]
    """Those that are to be columns."""


class Sources:
    """Collectors, each under the name of its class, numbered where several have the same.

    Raises TypeError for an object that is not a collector, and ValueError for two columns of one name.
    """

    def __init__(self, collectors: Sequence[Collector], errors: Errors) -> None:
        self._errors = errors
        self._collectors = _named(collectors)
        # The collectors of this package have timeouts of their own where they ask a device, and return floats
        # for their own columns, which they check. Any other is called on a thread of its own, and what it
        # returns is checked here.
        # Its metrics are read once, since a property may raise later.
        self._threads = {
            name: TimeoutThread(f"perfmon-{name}")
            for name, collector in self._collectors.items()
            if not type(collector).__module__.startswith("perfmon_widgets.")
        }
        self._metrics = {name: tuple(self._collectors[name].metrics) for name in self._threads}
        self._rejected: dict[str, dict[str, str]] = {}
        self._opened = True  # whether a collector may hold something that is to be closed
        metrics = {name: self._metrics_of(name) for name in self._collectors}
        columns = [metric.name for name in metrics for metric in metrics[name]]
        repeated = {name for name, count in Counter(columns).items() if count > 1}
        if repeated:
            raise ValueError(f"two metrics have the name {min(repeated)!r}; rename one of them")
        self._columns = tuple(columns)
        self._growing = {
            name: _Growing(frozenset(metric.name for metric in metrics[name]), metrics[name], ())
            for name, collector in self._collectors.items()
            if name not in self._threads and getattr(collector, "grows", False)
        }
        renew_after_fork(self)

    def renew_after_fork(self) -> None:
        """In a forked child: leave it to the parent to close what the collectors hold."""
        self._opened = False

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What each column means, in the order of the columns."""
        growing = self._growing
        metrics = [
            metric
            for name in self._collectors
            for metric in self._metrics_of(name)
            if name not in growing or metric.name in growing[name].adopted
        ]
        if not growing:
            return tuple(metrics)
        by_name = {metric.name: metric for metric in metrics}
        return tuple(by_name[column] for column in self._columns if column in by_name)

    @property
    def new(self) -> tuple[str, ...]:
        """The names of metrics that collectors got since the last adopt(), such as those of a new worker.

        A name that is a column of another collector is left out, and listed in the errors.
        """
        found: list[str] = []
        for name, (adopted, metrics, _) in self._growing.items():
            now = self._collectors[name].metrics
            if now is metrics:
                continue
            fresh = [metric.name for metric in now if metric.name not in adopted]
            taken = ({*self._columns, *found} - adopted).intersection(fresh)
            mine = [column for column in fresh if column not in taken]
            # If only a limit or a device has changed, there is nothing to adopt.
            self._growing[name] = _Growing(adopted, metrics if fresh else now, mine)
            found += mine
            if taken:
                error = ValueError(f"{min(taken)!r} is a column of another collector, too")
                self._errors.report(f"{name}.metrics", error)
        return tuple(found)

    def adopt(self, names: Sequence[str]) -> None:
        """Accept these names as columns; the new ones among them have values from the next reading on."""
        growing = {
            name: _Growing(adopted | set(mine), metrics, ())
            for name, (adopted, metrics, mine) in self._growing.items()
        }
        columns = (*self._columns, *(name for name in names if name not in self._columns))
        # In one statement: an interrupt leaves both as they were.
        self._columns, self._growing = columns, growing

    def _metrics_of(self, name: str) -> Sequence[Metric]:
        metrics = self._metrics.get(name)
        return self._collectors[name].metrics if metrics is None else metrics

    @property
    def reasons(self) -> dict[str, str]:
        """Why numbers are missing, by column.

        If the last reading of a collector failed as a whole, that error is the reason for each of its
        columns, except those for which the collector gives one of its own in its ``errors``. If single values
        were rejected, only their columns have that reason.
        """
        reasons: dict[str, str] = {}
        for name, collector in self._collectors.items():
            failed = self._errors.texts.get(name)
            rejected = self._rejected.get(name, {})
            reasons.update(rejected)
            if failed is not None and not rejected:
                reasons.update((metric.name, failed) for metric in self._metrics_of(name))
            try:
                own = getattr(collector, "errors", None)
                if isinstance(own, Mapping):  # an attribute of another kind has the name by chance
                    reasons.update({text_of(key): text_of(own[key]) for key in tuple(own)})
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001 - code of the user's
                reasons[f"{name}.errors"] = text_of(error)
        return reasons

    def read_into(self, values: dict[str, float], *, with_timeout: bool) -> None:
        """Read every collector once, and write the values that it returns into ``values``.

        ``with_timeout``: a collector that does not answer delays the others once, by ``TIMEOUT`` seconds.
        """
        self._opened = True
        errors = self._errors
        for name, collector in self._collectors.items():
            try:  # as `with errors.catch(name)`, which would cost more than some of the readings
                if name in self._threads:
                    self._rejected.pop(name, None)
                    reading = self._read(name, collector, with_timeout)
                    if not reading.keys() <= values.keys():
                        raise ValueError(f"{min(reading.keys() - values.keys())!r} is not among its metrics")
                    self._check(name, reading, values)
                elif name in self._growing:
                    adopted = self._growing[name].adopted
                    values.update(item for item in collector.collect().items() if item[0] in adopted)
                else:
                    values.update(collector.collect())
            except BaseException as error:
                # Ctrl+C is for the caller of sample(). On the sampling thread it can only be a collector that
                # raises it, and would end the sampling.
                if isinstance(error, KeyboardInterrupt) and not with_timeout:
                    raise
                errors.report(name, error)
            else:
                if name in errors.texts:
                    errors.clear(name)

    def _read(self, name: str, collector: Collector, with_timeout: bool) -> dict[str, float | str]:
        """Return a reading of a collector that is not of this package, as ``_floats`` does."""
        thread = self._threads[name]
        # A collector that has not answered yet is not called a second time meanwhile.
        if with_timeout or thread.busy:
            found: dict[str, float | str] = _ask(thread, lambda: _floats(collector), "a reading")
            return found
        return _floats(collector)

    def _check(self, name: str, reading: Mapping[str, float | str], values: dict[str, float]) -> None:
        """Write the values of a reading into ``values``, except those that cannot be true or are no numbers.

        Raises TypeError for a value that is no number, after the others were written.
        """
        rejected: dict[str, str] = {}
        failed = ""
        for metric in self._metrics[name]:
            value = reading.get(metric.name)
            if isinstance(value, str):
                rejected[metric.name], failed = value, failed or f"{metric.name}: {value}"
            elif value is not None:
                most = math.inf
                if metric.unit == "bytes" and metric.limit is not None:
                    limit = metric.limit
                    most = _positive(
                        reading.get(limit, values.get(limit)) if isinstance(limit, str) else limit
                    )
                values[metric.name], rejected[metric.name] = checked(metric.unit, value, most)
        self._rejected[name] = {column: reason for column, reason in rejected.items() if reason}
        if failed:
            raise TypeError(failed)

    def close(self) -> None:
        """Call ``close()`` of each collector that has it, if any was read since the last call.

        A collector whose reading has not returned is left until the next call.
        """
        if not self._opened:
            return
        self._opened = False
        try:
            for name, collector in self._collectors.items():
                if name in self._threads and self._threads[name].busy:
                    self._opened = True
                    continue
                with self._errors.catch(f"{name}.close"):
                    close = getattr(collector, "close", None)
                    if name in self._threads and callable(close):
                        _ask(self._threads[name], close, "close()")
                    elif close is not None:
                        close()
            for thread in self._threads.values():
                thread.close()
                thread.join(TIMEOUT)
        except BaseException:  # an interrupt: the next call closes the rest
            self._opened = True
            raise


def _ask(thread: TimeoutThread, function: Callable[[], Any], what: str) -> Any:
    """Return what the function returns on that thread; raises TimeoutError if it takes too long."""
    try:
        return thread.ask(function, TIMEOUT)
    except NoAnswerError:
        raise TimeoutError(f"{what} has not come back for more than {TIMEOUT:g} s") from None


def _floats(collector: Collector) -> dict[str, float | str]:
    """Return a reading of a collector that is not of this package, each value as a float.

    A value that is no number is replaced by the text of the error.
    """
    found: dict[str, float | str] = {}
    for column, value in collector.collect().items():
        try:
            found[column] = float(value)
        except Exception as error:  # noqa: BLE001 - code of the user's
            found[column] = text_of(error)
    return found


def _positive(limit: object) -> float:
    """Return a limit if it is a positive number; infinity if it is missing."""
    return float(limit) if isinstance(limit, float | int) and limit > 0 else math.inf


def _named(collectors: Sequence[Collector]) -> dict[str, Collector]:
    named: dict[str, Collector] = {}
    for collector in collectors:
        if not isinstance(collector, Collector):
            raise TypeError(f"{collector!r} is not a collector: it needs `metrics` and `collect()`")
        named[numbered(type(collector).__name__, named)] = collector
    return named
