"""Sources: the collectors of one monitor, read one after the other; one that fails costs its own columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from perfmon_widgets.collectors import Collector
from perfmon_widgets.collectors.timeout_thread import NoAnswerError, TimeoutThread
from perfmon_widgets.core.errors import Errors, numbered
from perfmon_widgets.core.sampler import TIMEOUT
from perfmon_widgets.forks import renew_after_fork
from perfmon_widgets.metrics import Metric


class Sources:
    """Collectors, each under the name of its class, numbered where several have the same.

    Raises TypeError for an object that is not a collector, and ValueError for two columns of one name.
    """

    def __init__(self, collectors: Sequence[Collector], errors: Errors) -> None:
        self._errors = errors
        self._collectors = _named(collectors)
        # The collectors of this package have timeouts of their own where they ask a device, and return floats
        # for their own columns. Any other is called on a thread of its own, and what it returns is checked.
        self._threads = {
            name: TimeoutThread(f"perfmon-{name}")
            for name, collector in self._collectors.items()
            if not type(collector).__module__.startswith("perfmon_widgets.")
        }
        self._opened = True  # whether a collector may hold something that is to be closed
        columns = [metric.name for metric in self.metrics]
        repeated = {name for name in columns if columns.count(name) > 1}
        if repeated:
            raise ValueError(f"two metrics have the name {min(repeated)!r}; rename one of them")
        renew_after_fork(self)

    def renew_after_fork(self) -> None:
        """In a forked child: leave it to the parent to close what the collectors hold."""
        self._opened = False

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What each column means, in the order of the columns."""
        return tuple(metric for collector in self._collectors.values() for metric in collector.metrics)

    @property
    def reasons(self) -> dict[str, str]:
        """Why numbers are missing, by column.

        If the last reading of a collector failed as a whole, that error is the reason for each of its
        columns, except those for which the collector gives one of its own in its ``errors``.
        """
        reasons: dict[str, str] = {}
        for name, collector in self._collectors.items():
            failed = self._errors.texts.get(name)
            if failed is not None:
                reasons.update((metric.name, failed) for metric in collector.metrics)
            own = getattr(collector, "errors", None)
            if isinstance(own, Mapping):
                reasons.update(own)
        return reasons

    def read_into(self, values: dict[str, float], *, with_timeout: bool) -> None:
        """Replace the values by one reading of every collector, as far as it has them.

        ``with_timeout``: a collector that does not answer holds up the others once, for ``TIMEOUT`` seconds.
        """
        self._opened = True
        errors = self._errors
        for name, collector in self._collectors.items():
            try:  # as `with errors.catch(name)`, which would cost more than some of the readings
                if name in self._threads:
                    reading = self._read(name, collector, with_timeout)
                    if not reading.keys() <= values.keys():
                        raise ValueError(f"{min(reading.keys() - values.keys())!r} is not among its metrics")
                    values.update(reading)
                else:
                    values.update(collector.collect())
            except Exception as error:  # noqa: BLE001 - whatever it is, it costs this collector's columns only
                errors.report(name, error)
            else:
                if name in errors.texts:
                    errors.clear(name)

    def _read(self, name: str, collector: Collector, with_timeout: bool) -> dict[str, float]:
        """Return a reading of a collector that is not of this package, each value as a float."""
        thread = self._threads[name]
        # A collector that has not answered yet is not called a second time meanwhile.
        if with_timeout or thread.busy:
            try:
                found = thread.ask(collector.collect, TIMEOUT)
            except NoAnswerError:
                raise TimeoutError(f"a reading has not come back for more than {TIMEOUT:g} s") from None
        else:
            found = collector.collect()
        return {column: float(value) for column, value in found.items()}

    def close(self) -> None:
        """Call ``close()`` of each collector that has it, if any was read since the last call.

        One that still takes a reading is left until the next call.
        """
        if not self._opened:
            return
        self._opened = False
        for name, collector in self._collectors.items():
            if name in self._threads and self._threads[name].busy:
                self._opened = True
                continue
            close = getattr(collector, "close", None)
            if close is not None:
                with self._errors.catch(f"{name}.close"):
                    close()
        for thread in self._threads.values():
            thread.close()
            thread.join(TIMEOUT)


def _named(collectors: Sequence[Collector]) -> dict[str, Collector]:
    named: dict[str, Collector] = {}
    for collector in collectors:
        if not isinstance(collector, Collector):
            raise TypeError(f"{collector!r} is not a collector: it needs `metrics` and `collect()`")
        named[numbered(type(collector).__name__, named)] = collector
    return named
