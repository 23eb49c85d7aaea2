"""Stores: the data that a monitor keeps (samples, spans, errors, log), and the methods that read it.

Reading does not take a sample, and does not delay one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from perfmon_widgets.collectors import Collector
from perfmon_widgets.core.csv_log import CsvLog, Rows
from perfmon_widgets.core.errors import Errors
from perfmon_widgets.core.history import History
from perfmon_widgets.core.recorded import Recorded
from perfmon_widgets.core.sources import Sources
from perfmon_widgets.core.span_log import SpanLog
from perfmon_widgets.core.spans import CELL, MARK, SPAN, Span, Spans, frame
from perfmon_widgets.core.steps import Meter
from perfmon_widgets.metrics import Metric, Sample

if TYPE_CHECKING:
    from datetime import datetime

    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from perfmon_widgets.views.evidence import Finding


class Stores:
    """The data of the last ``window`` seconds from these collectors; the subclass PerformanceMonitor adds it.

    Raises ValueError for two columns of one name, TypeError for an object that is not a collector.
    """

    def __init__(self, collectors: Sequence[Collector], window: float) -> None:
        self._recorded = Recorded()
        self._meter = Meter()
        self._errors = Errors()
        self._sources = Sources([*collectors, self._recorded], self._errors)
        self._columns = tuple(metric.name for metric in self.metrics)
        self._history = History(self._columns, window)
        self._log = CsvLog(self._columns, self._rows)
        self._spans = Spans(lambda: self._history.oldest)
        self._span_log = SpanLog(self._log, self._spans)
        self._latest: Sample | None = None

    # -- samples ---------------------------------------------------------------------------------------

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What each column means, in the order of the columns."""
        return self._sources.metrics

    @property
    def history(self) -> pd.DataFrame:
        """The samples of the window: index ``time`` (UTC), one float64 column per metric; a copy.

        ``attrs[column]`` has the unit, help, source, group, role and label of the column's Metric;
        ``attrs["devices"]`` the device names by what precedes the slash in a column's name; ``attrs["gaps"]``
        the times (Unix seconds) of the rows before which samples are missing.
        """
        frame = self._history.frame()
        for metric in self.metrics[: frame.shape[1]]:
            frame.attrs[metric.name] = {
                "unit": metric.unit,
                "help": metric.help,
                "source": metric.source,
                "group": metric.group,
                "role": metric.role,
                "label": metric.label,
            }
        frame.attrs["devices"] = {metric.where: metric.device for metric in self.metrics if metric.device}
        return frame

    @property
    def rows(self) -> tuple[NDArray[np.datetime64], NDArray[np.float64]]:
        """The window as arrays: times (datetime64[us], UTC), values (float64, rows × columns; read-only)."""
        _, times, _, values = self._history.read()
        return times, values

    def newest_rows(
        self, seconds: float
    ) -> tuple[NDArray[np.datetime64], NDArray[np.bool_], NDArray[np.float64]]:
        """The rows of the last ``seconds`` before the newest, and the one before these, as arrays.

        Times and values as in ``rows``; in between, whether samples are missing before each row.
        """
        return self._history.read(seconds)[1:]

    @property
    def latest(self) -> Sample | None:
        """The newest sample; None before the first."""
        return self._latest

    @property
    def errors(self) -> dict[str, str]:
        """The current errors, by the name of the part that has one; a copy.

        The reason why a number is missing is listed under the name of its column. A collector that failed as
        a whole is also listed under its own name, and its error is the reason for each of its columns that
        has no other. Other parts are subscribers, queued actions, ``log`` and ``span log``.
        """
        errors = dict(self._errors.texts)
        log_error = self._log.error or self._log.columns_error
        if log_error:
            errors["log"] = log_error
        if self._span_log.error:
            errors["span log"] = self._span_log.error
        return errors | self._sources.reasons

    @property
    def log(self) -> CsvLog:
        """Mirrors the history to a CSV file: ``log.start()``, ``log.stop()``."""
        return self._log

    def _rows(self) -> Rows:
        number, times, _, values = self._history.read()
        return number, times, values

    # -- cells, spans and marks ------------------------------------------------------------------------

    @property
    def marks(self) -> pd.DataFrame:
        """The marks in the window: index ``time`` (UTC), column ``label``; a copy."""
        return self._spans.frame(MARK)

    @property
    def spans(self) -> pd.DataFrame:
        """The spans in the window, one row each; a copy.

        Columns ``name``, ``start`` and ``end`` (UTC), ``duration_seconds`` (monotonic clock), ``cpu_seconds``
        (CPU time of this process, all its threads, without its children), ``raised``. While a span goes on,
        its end is NaT and its duration and CPU time are NaN.
        """
        return self._spans.frame(SPAN)

    @property
    def cells(self) -> pd.DataFrame:
        """The executed cells in the window, one row each; a copy. There are none outside IPython.

        Index ``execution_count``; the columns of ``spans``, but instead of a name ``source``: the first line
        of the cell that is neither a magic nor an import, nor a comment.
        """
        return self._spans.frame(CELL)

    def newest_spans(self, most: int) -> list[Span]:
        """The newest cells, spans and marks, at most ``most`` of each kind. They must not be changed."""
        return self._spans.newest(most)

    # -- reports ---------------------------------------------------------------------------------------

    def summary(self, since: datetime | float | None = None) -> pd.DataFrame:
        """One row per column: ``unit``, ``now``, ``mean``, ``min``, ``max``, ``p95``; see analysis.summary.

        ``since``: a time with a zone, or a number of seconds before the newest row; by default the window.
        """
        from perfmon_widgets.views.report import summary  # noqa: PLC0415 - a program that only samples never pays

        return summary(self.history, since)

    def findings(self) -> list[Finding]:
        """What holds the work up now, the most pressing first; empty if there is nothing to say.

        Each has ``severity``, ``what``, ``evidence`` and ``advice``; ``str()`` makes one sentence of it.
        """
        from perfmon_widgets.views.findings import LOOKS_BACK, findings  # noqa: PLC0415 - as above

        times, after_gap, values = self._history.read_monotonic(LOOKS_BACK)
        return findings(self.metrics, times, after_gap, values)

    def by_cell(self) -> pd.DataFrame:
        """What each cell cost: below ``cell`` the columns of ``cells``, below each metric mean, max, change.

        ``by_cell()["process_ram_bytes"]`` is a table of these three; see analysis.by_span for their meaning.
        It is a DataFrame of floats that is printed with units, see views/table.py.
        The rows of a cell are found on the monotonic clock, so that setting the computer's clock moves none.
        """
        return self._by("cell", CELL)

    def by_span(self) -> pd.DataFrame:
        """What each span cost: the same as by_cell(), with the columns of ``spans`` below ``span``."""
        return self._by("span", SPAN)

    def _by(self, name: str, kind: str) -> pd.DataFrame:
        from perfmon_widgets.views.report import join_costs, span_costs  # noqa: PLC0415

        spans = self._spans.all(kind)
        table = frame(kind, spans)
        times, after_gap, values = self._history.read_monotonic()
        costs = span_costs(
            times,
            after_gap,
            values,
            starts=[span.began for span in spans],
            ends=[span.ended for span in spans],
            units={metric.name: metric.unit for metric in self.metrics[: values.shape[1]]},
            index=table.index,
        )
        return join_costs(name, table, costs)
