"""Report and ReportSeries: tables of numbers that are printed with their units.

The values stay floats. Only the print differs from that of pandas: ``4.3 GiB`` instead of ``4.660043e+09``,
and each row of a table of costs has the name of its cell or span. That holds for whatever is selected from a
report: rows, columns, slices, sorted and filtered tables.

pandas makes the result of a selection and that of a calculation in the same way. To distinguish them, each
table keeps the numbers of the report that it comes from, and prints a column with its unit only if all its
values are among those of the metric. So ``report / 2**20`` is printed as plain numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, SupportsIndex, TypeAlias

import numpy as np
import pandas as pd

from perfmon_widgets.views.text import format_change, format_duration, format_value

if TYPE_CHECKING:
    from numpy.typing import NDArray

METRIC = "metric"
"""The name of the level, in the index or the columns, that holds the metrics."""
STATISTICS = ("now", "mean", "min", "max", "p95")
"""The columns of a summary."""
PER_SPAN = ("mean", "max", "change")
"""The columns of each metric in a table of costs."""

_MAX_COLUMNS, _MAX_COLUMNS_IN_HTML = 8, 20
_LONGEST_TEXT = 50  # characters of a text that are printed, such as the line that names a cell


class Rows(NamedTuple):
    """The rows of a table of costs."""

    kind: str
    """``cell`` or ``span``."""
    labels: pd.Index[Any]
    names: Sequence[str]


class Origin(NamedTuple):
    """The numbers that a report was made with. All tables that are selected from it share them."""

    units: Mapping[str, str]
    """By metric."""
    numbers: Mapping[Hashable, NDArray[np.float64]]
    """By metric, a row for each of ``rows``. Durations: by (``cell`` or ``span``, column), in seconds."""
    rows: Rows | None = None


class _Cell(NamedTuple):
    """What a printed value is."""

    key: Hashable
    """A key of ``Origin.numbers``; None if it is none of these numbers."""
    statistic: Hashable


_UNKNOWN = _Cell(None, None)
_Row: TypeAlias = "Sequence[tuple[_Cell, Any]]"  # with the values


class _Printed:
    """What Report and ReportSeries have in common."""

    _metadata = ["_origin", "_level"]  # noqa: RUF012 - pandas copies these attributes to what is selected
    _origin: Origin | None = None
    _level: Hashable = None
    """What a selection was made by and its labels no longer say: ``process_ram_bytes`` in
    ``by_cell()["process_ram_bytes"]``, ``change`` in ``by_cell().xs("change", axis=1, level=1)``."""

    attrs: dict[Hashable, Any]

    def _plain(self) -> Any:
        """The same table as a class of pandas."""
        raise NotImplementedError

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        """Pickle a plain table of pandas, which can be read where this package is not installed."""
        plain = self._plain()
        plain.attrs = dict(self.attrs)
        return type(plain), (), plain.__getstate__()

    def _remember(self, key: Hashable, before: pd.Index[Any], found: Any, after: pd.Index[Any]) -> Any:
        """Note in ``found`` what it was selected by, if that took away a level of the labels."""
        levels = (before.nlevels, after.nlevels)
        if isinstance(found, _Printed) and METRIC in before.names and levels == (2, 1):
            found._level = key[0] if isinstance(key, tuple) and len(key) == 1 else key
        return found

    def _cell(self, top: Hashable, statistic: Hashable) -> _Cell:
        """A value in a table of costs."""
        origin = self._origin
        if origin is not None and top in origin.units and statistic in PER_SPAN:
            return _Cell(top, statistic)
        if origin is not None and (top, statistic) in origin.numbers:
            return _Cell((top, statistic), statistic)
        return _UNKNOWN

    def _labelled(self, axis: pd.Index[Any], label: Hashable) -> _Cell | None:
        """The value that a label of an axis stands for; None if the axis has no level of metrics."""
        names = list(axis.names)
        if METRIC not in names:
            return None
        if not isinstance(label, tuple):
            return _Cell(label, self._level)
        top = label[names.index(METRIC)]
        found = [self._cell(top, other) for other in label]
        return next((cell for cell in found if cell.key is not None), _Cell(top, None))

    def _words(self, values: Sequence[Any], cells: Sequence[_Cell]) -> list[Any]:
        """The values as they are printed: with units if all the floats among them are known."""
        texts = [_shortened(value) if isinstance(value, str) else value for value in values]
        floats = [place for place, value in enumerate(values) if isinstance(value, float)]
        found: dict[Hashable, list[float]] = {}
        for place in floats:
            found.setdefault(cells[place].key, []).append(values[place])
        if self._origin is None or not all(self._has(key, numbers) for key, numbers in found.items()):
            return texts
        for place in floats:
            texts[place] = self._writer(cells[place])(values[place])
        return texts

    def _has(self, key: Hashable, values: Sequence[float], row: int | None = None) -> bool:
        """Whether each value that is not missing is one of the numbers; with ``row``, one of this row."""
        if self._origin is None or key not in self._origin.numbers:
            return False
        numbers = self._origin.numbers[key]
        known = [value for value in values if not math.isnan(value)]
        return bool(np.isin(known, numbers if row is None else numbers[row]).all())

    def _writer(self, cell: _Cell) -> Callable[[float], str]:
        assert self._origin is not None  # noqa: S101 - for the type checker
        if isinstance(cell.key, tuple):
            return format_duration
        unit = self._origin.units[str(cell.key)]
        write = format_change if cell.statistic == "change" else format_value
        return lambda value: write(value, unit)

    def _named(self, index: pd.Index[Any], rows: Sequence[_Row]) -> pd.Index[Any]:
        """The labels of the printed rows, with the names of their cells or spans where they have these.

        The numbers show whether a row still has the label that it had in the report: ``set_axis()`` may have
        given it that of another.
        """
        origin, known = self._origin, self._origin.rows if self._origin is not None else None
        if origin is None or known is None or index.name != known.labels.name or not known.labels.is_unique:
            return index
        names = []
        for place, row in zip(known.labels.get_indexer(index).tolist(), rows, strict=True):
            numbers = [(cell.key, value) for cell, value in row if cell.key in origin.numbers]
            if place < 0 or not numbers or not all(self._has(key, [value], place) for key, value in numbers):
                return index
            names.append(_shortened(known.names[place]))
        named: pd.Index[Any] = pd.MultiIndex.from_arrays([index, names], names=[index.name, known.kind])
        return named


class Report(_Printed, pd.DataFrame):
    """A DataFrame that prints its numbers with their units, as do the tables that are selected from it."""

    @property
    def _constructor(self) -> type[Report]:
        return Report

    @property
    def _constructor_sliced(self) -> type[ReportSeries]:
        return ReportSeries

    def _plain(self) -> pd.DataFrame:
        plain: pd.DataFrame = pd.DataFrame(self)
        return plain

    def __getitem__(self, key: Any) -> Any:
        """Select as pandas does."""
        found = super().__getitem__(key)
        return self._remember(key, self.columns, found, found.columns) if isinstance(found, Report) else found

    def xs(self, key: Any, axis: Any = 0, level: Any = None, drop_level: bool = True) -> Any:
        """Select as pandas does."""
        found = super().xs(key, axis=axis, level=level, drop_level=drop_level)
        return self._remember(key, self.columns, found, found.columns) if isinstance(found, Report) else found

    def formatted(self, max_columns: int = _MAX_COLUMNS) -> pd.DataFrame:
        """The table of texts that is printed, without the column ``unit``; of a large one its ends.

        It keeps a row and a column more than are printed, so that pandas marks where some are left out.
        """
        table = self._plain()
        if self._origin is not None and METRIC in table.index.names and table.columns.nlevels == 1:
            table = table.drop(columns="unit", errors="ignore")  # the units stand next to the numbers
        table = table.iloc[_ends(len(table), pd.get_option("display.max_rows"))]
        table = table.iloc[:, _ends(table.shape[1], max_columns)]
        words: pd.DataFrame = table.astype(object)
        columns = [table.iloc[:, place].tolist() for place in range(table.shape[1])]
        cells = [[self._at(row, column) for row in table.index] for column in table.columns]
        for place, (values, found) in enumerate(zip(columns, cells, strict=True)):
            words.isetitem(place, self._words(values, found))
        if columns and not {"source", "name"} & {_last(column) for column in table.columns}:
            pairs = [zip(found, values, strict=True) for found, values in zip(cells, columns, strict=True)]
            words.index = self._named(words.index, list(zip(*pairs, strict=True)))
        return words

    def _at(self, row: Hashable, column: Hashable) -> _Cell:
        """What stands in a row and a column, by their labels."""
        for axis, label, other in ((self.columns, column, row), (self.index, row, column)):
            cell = self._labelled(axis, label)
            if cell is not None:
                return cell if cell.statistic is not None else cell._replace(statistic=other)
        found = self._cell(self._level, column)
        return found if found.key is not None else self._cell(self._level, row)

    def __repr__(self) -> str:
        rows = pd.get_option("display.max_rows")
        return self.formatted().to_string(max_rows=rows, max_cols=_MAX_COLUMNS)

    def _repr_html_(self) -> str:
        rows = pd.get_option("display.max_rows")
        columns = _MAX_COLUMNS_IN_HTML
        return self.formatted(columns).to_html(max_rows=rows, max_cols=columns, border=0)


class ReportSeries(_Printed, pd.Series):
    """A column or a row of a Report."""

    _metadata = ["_name", *_Printed._metadata]  # noqa: RUF012 - the name is one of them

    @property
    def _constructor(self) -> type[ReportSeries]:
        return ReportSeries

    @property
    def _constructor_expanddim(self) -> type[Report]:
        return Report

    def _plain(self) -> pd.Series[Any]:
        plain: pd.Series[Any] = pd.Series(self)
        return plain

    def __getitem__(self, key: Any) -> Any:
        """Select as pandas does."""
        found = super().__getitem__(key)
        is_series = isinstance(found, ReportSeries)
        return self._remember(key, self.index, found, found.index) if is_series else found

    def formatted(self) -> pd.Series[Any]:
        """The texts that are printed; of a long series its ends, with a row more than are printed."""
        series = self._plain()
        series = series.iloc[_ends(len(series), pd.get_option("display.max_rows"))]
        values, cells = series.tolist(), [self._at(label) for label in series.index]
        words: pd.Series[Any] = pd.Series(self._words(values, cells), index=series.index, dtype=object)
        words.index = self._named(words.index, [[pair] for pair in zip(cells, values, strict=True)])
        return words

    def _at(self, label: Hashable) -> _Cell:
        """What stands under a label."""
        cell = self._labelled(self.index, label)
        if cell is not None:
            return cell if cell.statistic is not None else cell._replace(statistic=self.name)
        if isinstance(self.name, tuple):
            return self._cell(self.name[0], self.name[-1])
        if self._level is not None:
            pairs = ((self._level, label), (self._level, self.name), (self.name, self._level))
            found = [self._cell(*pair) for pair in pairs]
            return next((each for each in found if each.key is not None), _UNKNOWN)
        return _Cell(self.name, label)

    def __repr__(self) -> str:
        if not len(self):
            return super().__repr__()
        most = pd.get_option("display.max_rows")
        name = "" if self.name is None else f"Name: {self.name}, "
        length = f"Length: {len(self)}, " if most and len(self) > most else ""
        return f"{self.formatted().to_string(max_rows=most)}\n{name}{length}dtype: {self.dtype}"


def _ends(length: int, most: int | None) -> NDArray[np.intp]:
    """The places of the first and last of many, one more than ``most``; all places if there are no more."""
    if not most or length <= most:
        return np.arange(length)
    return np.concatenate([np.arange(most // 2 + 1), np.arange(length - (most - most // 2), length)])


def _last(label: Hashable) -> Hashable:
    return label[-1] if isinstance(label, tuple) else label


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 1]}…"
