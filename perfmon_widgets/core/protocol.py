"""Monitor: what a panel, a server or a magic needs of a monitor, whatever its class."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from perfmon_widgets.core.csv_log import CsvLog
    from perfmon_widgets.core.spans import Span
    from perfmon_widgets.metrics import Metric, Sample
    from perfmon_widgets.views.evidence import Finding


class Monitor(Protocol):
    """Anything that samples and keeps a history; ``PerformanceMonitor`` documents each member."""

    interval: float
    window: float

    @property
    def metrics(self) -> Sequence[Metric]: ...  # noqa: D102 - all of them: see PerformanceMonitor

    @property
    def history(self) -> pd.DataFrame: ...  # noqa: D102

    @property
    def rows(self) -> tuple[NDArray[np.datetime64], NDArray[np.float64]]: ...  # noqa: D102

    @property
    def latest(self) -> Sample | None: ...  # noqa: D102

    @property
    def errors(self) -> Mapping[str, str]: ...  # noqa: D102

    @property
    def running(self) -> bool: ...  # noqa: D102

    @property
    def log(self) -> CsvLog: ...  # noqa: D102

    def start(self) -> None: ...  # noqa: D102

    def stop(self) -> None: ...  # noqa: D102

    def on_sample(self, callback: Callable[[Sample], object], remove: bool = False) -> None: ...  # noqa: D102

    def on_state(self, callback: Callable[[bool], object], remove: bool = False) -> None: ...  # noqa: D102

    def call_soon(self, action: Callable[[], object], name: str = "") -> None: ...  # noqa: D102

    def newest_spans(self, most: int) -> list[Span]: ...  # noqa: D102


_MEMBERS = {"interval", "window", *(name for name in vars(Monitor) if not name.startswith("_"))}


def findings_of(monitor: Monitor) -> list[Finding]:
    """What holds the work up; nothing for a monitor without the method ``findings``, which is optional."""
    find = getattr(monitor, "findings", None)
    return [] if find is None else list(find())


def on_interval(monitor: Monitor, callback: Callable[[float], object], remove: bool = False) -> None:
    """Call ``callback(interval)`` after each change of the interval; the method of this name is optional."""
    subscribe = getattr(monitor, "on_interval", None)
    if subscribe is not None:
        subscribe(callback, remove)


def newest_rows_of(
    monitor: Monitor, seconds: float
) -> tuple[NDArray[np.datetime64], NDArray[np.bool_], NDArray[np.float64]]:
    """The rows of the last ``seconds`` at least as arrays: times, which rows follow a gap, values.

    The method ``newest_rows`` is optional; of a monitor without it, these are all rows, and none has a gap.
    """
    found: tuple[NDArray[np.datetime64], NDArray[np.bool_], NDArray[np.float64]]
    newest_rows = getattr(monitor, "newest_rows", None)
    if newest_rows is not None:
        found = newest_rows(seconds)
    else:
        times, values = monitor.rows
        none: Any = times != times  # noqa: PLR0124 - an array of False
        found = times, none, values
    return found


def check_monitor(monitor: object) -> None:
    """Raise TypeError, naming what is missing, unless the object has every member of ``Monitor``.

    Not by ``isinstance``: on Python 3.10 and 3.11 that would read each property, the history included.
    """
    missing = sorted(_MEMBERS - set(dir(monitor)))
    if missing:
        kind = type(monitor).__name__
        raise TypeError(f"monitor must be a PerformanceMonitor, not {kind}, which has no {missing[0]!r}")
