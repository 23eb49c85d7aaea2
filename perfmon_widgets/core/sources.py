"""Sources: the collectors of one monitor, read one after the other; each that fails costs its own columns."""

from __future__ import annotations

from collections.abc import Sequence

from perfmon_widgets.collectors import Collector
from perfmon_widgets.collectors.timeout_thread import NoAnswerError, TimeoutThread
from perfmon_widgets.core.errors import Errors, numbered
from perfmon_widgets.core.sampler import TIMEOUT
from perfmon_widgets.metrics import Metric


class Sources:
    """Collectors, each under the name of its class, numbered where there are several of one.

    Raises TypeError for what is no collector, and ValueError for two columns of one name.
    """

    def __init__(self, collectors: Sequence[Collector], errors: Errors) -> None:
        self._errors = errors
        self._collectors = _named(collectors)
        # Those of this package wait for a device themselves where there is one, and are known to tell floats
        # for columns of their own; of others nobody knows.
        self._patient = {
            name: TimeoutThread(f"perfmon-{name}")
            for name, collector in self._collectors.items()
            if not type(collector).__module__.startswith("perfmon_widgets.")
        }
        self._opened = True  # whether one may hold something that is to be closed
        columns = [metric.name for metric in self.metrics]
        repeated = {name for name in columns if columns.count(name) > 1}
        if repeated:
            raise ValueError(f"two metrics have the name {min(repeated)!r}; rename one of them")

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What each column means, in the order of the columns."""
        return tuple(metric for collector in self._collectors.values() for metric in collector.metrics)

    @property
    def reasons(self) -> dict[str, str]:
        """Why single numbers are missing, by column, as the collectors say themselves."""
        reasons: dict[str, str] = {}
        for collector in self._collectors.values():
            reasons.update(getattr(collector, "errors", {}))
        return reasons

    def read_into(self, values: dict[str, float], *, patiently: bool) -> None:
        """Replace the values by one reading of every collector, as far as it has them.

        ``patiently``: one that does not come back holds up the others only once, and only so long.
        """
        self._opened = True
        errors = self._errors
        for name, collector in self._collectors.items():
            try:  # as `with errors.of(name)`, which would be dearer than some of the readings
                if name in self._patient:
                    reading = self._ask(name, collector, patiently)
                    if not reading.keys() <= values.keys():
                        raise ValueError(f"{min(reading.keys() - values.keys())!r} is not among its metrics")
                    values.update(reading)
                else:
                    values.update(collector.collect())
            except Exception as error:  # noqa: BLE001 - whatever it is, it costs this collector's columns only
                errors.note(name, error)
            else:
                if name in errors.texts:
                    errors.forget(name)

    def _ask(self, name: str, collector: Collector, patiently: bool) -> dict[str, float]:
        """A reading of a collector that nobody here knows, every value as a float."""
        thread = self._patient[name]
        # One that has not come back is not to be called a second time meanwhile, whoever wants it.
        if patiently or thread.busy:
            try:
                found = thread.ask(collector.collect, TIMEOUT)
            except NoAnswerError:
                raise TimeoutError(f"a reading has not come back for more than {TIMEOUT:g} s") from None
        else:
            found = collector.collect()
        return {column: float(value) for column, value in found.items()}

    def forget(self) -> None:
        """In a forked child: what the collectors hold is the parent's to let go of."""
        self._opened = False

    def close(self) -> None:
        """Have each let go of what it holds; nothing if it has, and was not read since.

        One that has not come back from a reading is left alone until the next time.
        """
        if not self._opened:
            return
        self._opened = False
        for name, collector in self._collectors.items():
            if name in self._patient and self._patient[name].busy:
                self._opened = True
                continue
            close = getattr(collector, "close", None)
            if close is not None:
                with self._errors.of(name, heals=False):
                    close()
        for thread in self._patient.values():
            thread.close()
            thread.join(TIMEOUT)


def _named(collectors: Sequence[Collector]) -> dict[str, Collector]:
    named: dict[str, Collector] = {}
    for collector in collectors:
        if not isinstance(collector, Collector):
            raise TypeError(f"{collector!r} is no collector: it needs `metrics` and `collect()`")
        named[numbered(type(collector).__name__, named)] = collector
    return named
