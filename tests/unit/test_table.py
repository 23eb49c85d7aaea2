"""What is printed of a report, and of what is selected from it; and that it stays a table of pandas."""

from __future__ import annotations

import copy
import pickle
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np
import pandas as pd
import pytest

from perfmon_widgets.core.spans import CELL, Span, frame
from perfmon_widgets.views.report import by_span, join_costs, summary
from perfmon_widgets.views.table import Report, ReportSeries

GIB, MIB = 2**30, 2**20
BEGIN = datetime(2030, 1, 31, tzinfo=timezone.utc)
NAMES = ("load()", "train(model)", "x" * 70)


@pytest.fixture
def rows() -> pd.DataFrame:
    index = pd.DatetimeIndex([BEGIN + timedelta(seconds=each) for each in range(4)], name="time")
    made = {"cpu_percent": [3, 40, 50, 60], "ram_bytes": [1 * GIB, 2 * GIB, 2.5 * GIB, 2 * GIB]}
    return pd.DataFrame(made, index=index, dtype=float)


@pytest.fixture
def costs(rows: pd.DataFrame) -> Report:
    """What three cells of a second cost, with the numbers 3, 5 and 8."""
    start = BEGIN.timestamp()
    cells = frame(
        CELL,
        [
            Span(at, CELL, name, start + at, start + at + 1, execution_count=number, cpu_seconds=0.25)
            for at, (number, name) in enumerate(zip((3, 5, 8), NAMES, strict=True))
        ],
    )
    return join_costs("cell", cells, by_span(rows, cells))


def lines(table: Any) -> list[list[str]]:
    """The printed words by line."""
    return [line.split() for line in repr(table).splitlines()]


def body(table: Any, count: int) -> list[str]:
    """The last lines of what is printed, with single spaces."""
    return [" ".join(words) for words in lines(table)[-count:]]


# -- summary -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "select",
    [
        lambda table: table,
        lambda table: table.head(2),
        lambda table: table.iloc[:2],
        lambda table: table.loc[["cpu_percent", "ram_bytes"]],
        lambda table: table[table["max"] > 1],
        lambda table: table.query("max > 1"),
        lambda table: table.sort_values("max"),
        lambda table: table.sort_index(),
        lambda table: table.nsmallest(2, "max"),
        lambda table: table.copy(),
        lambda table: table.drop(columns="unit"),
        lambda table: table.dropna(),
        lambda table: copy.deepcopy(table),
    ],
)
def test_rows_of_a_summary_are_printed_with_their_units(rows, select):
    selected = select(summary(rows))
    assert body(selected, 2) == [
        "cpu_percent 60% 38% 3% 60% 60%",
        "ram_bytes 2 GiB 1.9 GiB 1 GiB 2.5 GiB 2.5 GiB",
    ]
    assert "<td>2.5 GiB</td>" in selected._repr_html_()
    assert selected["max"].tolist() == [60, 2.5 * GIB]
    assert selected["max"].dtype == np.float64


def test_columns_and_rows_of_a_summary_are_printed_with_their_units(rows):
    table = summary(rows)
    assert body(table[["min", "max"]], 2) == ["cpu_percent 3% 60%", "ram_bytes 1 GiB 2.5 GiB"]
    assert body(table["max"], 3) == ["cpu_percent 60%", "ram_bytes 2.5 GiB", "Name: max, dtype: float64"]
    assert body(table["max"].sort_values().tail(1), 2)[0] == "ram_bytes 2.5 GiB"
    assert ["max", "2.5", "GiB"] in lines(table.loc["ram_bytes"])
    assert ["max", "60%", "2.5", "GiB"] in lines(table.T)
    assert body(table["max"].to_frame(), 1) == ["ram_bytes 2.5 GiB"]


# -- costs -------------------------------------------------------------------------------------------------


def test_the_costs_of_a_metric_are_printed_with_their_units_and_the_names_of_the_cells(costs):
    """Issue 17: it printed 4.660043e+08 and no name."""
    largest = costs["ram_bytes"].nlargest(2, "change")
    assert body(largest, 2) == [
        "3 load() 2 GiB 2 GiB +1 GiB",
        "5 train(model) 2.5 GiB 2.5 GiB +512 MiB",
    ]
    assert "<td>+512 MiB</td>" in largest._repr_html_()
    assert "<th>load()</th>" in largest._repr_html_()
    assert largest["change"].tolist() == [GIB, 512 * MIB]
    assert largest.index.tolist() == [3, 5]
    assert largest.columns.tolist() == ["mean", "max", "change"]


@pytest.mark.parametrize(
    "select",
    [
        lambda table: table["ram_bytes"]["change"],
        lambda table: table["ram_bytes", "change"],
        lambda table: table["ram_bytes"].sort_values("change")["change"],
        lambda table: table.loc[:, ("ram_bytes", "change")],
        lambda table: table.loc[:, "ram_bytes"]["change"],
        lambda table: table.xs("ram_bytes", axis=1)["change"],
        lambda table: table.xs("ram_bytes", axis=1, level="metric")["change"],
        lambda table: table.xs("change", axis=1, level="statistic")["ram_bytes"],
        lambda table: table["ram_bytes"]["change"].sort_values(),
        lambda table: table.iloc[:, -1],
        lambda table: table["ram_bytes"].iloc[:, 2],
        lambda table: table["ram_bytes"]["change"].to_frame()["change"],
    ],
)
def test_a_column_of_the_costs_is_printed_with_its_unit(costs, select):
    column = select(costs)
    assert {"3 load() +1 GiB", "5 train(model) +512 MiB"} <= set(body(column, 4))
    assert repr(column).endswith("dtype: float64")
    assert sorted(column.tolist()) == [-512 * MIB, 512 * MIB, GIB]


def test_the_whole_table_of_costs_is_printed_with_units(costs):
    printed = repr(costs[["cell", "ram_bytes"]])
    assert [word for word in ("load()", "0.25 s", "+512 MiB", "−512 MiB") if word not in printed] == []
    assert body(costs.iloc[:1, -3:], 1) == ["3 load() 2 GiB 2 GiB +1 GiB"]
    assert ["1", "s"] in [line[2:4] for line in lines(costs["cell"])]
    assert body(costs["cell", "duration_seconds"], 4)[0] == "3 load() 1 s"


def test_a_row_of_the_costs_is_printed_with_units(costs):
    assert ["change", "+1", "GiB"] in lines(costs.loc[3])
    assert ["change", "+1", "GiB"] in lines(costs.loc[3]["ram_bytes"])
    assert ["change", "+1", "GiB"] in lines(costs["ram_bytes"].loc[3])
    assert ["max", "2.5", "GiB"] in lines(costs["ram_bytes"].max())
    assert ["max", "2", "GiB", "2.5", "GiB", "2", "GiB"] in lines(costs["ram_bytes"].T)


def test_the_changes_of_all_metrics_are_printed_with_their_units(costs):
    changes = costs.xs("change", axis=1, level="statistic")
    assert body(changes[["cpu_percent", "ram_bytes"]], 3)[0] == "3 load() +37% +1 GiB"


def test_a_long_name_is_cut_where_it_is_printed(costs):
    assert f"{'x' * 49}…" in repr(costs["ram_bytes"])
    assert "x" * 50 not in repr(costs["ram_bytes"])
    assert costs["cell", "source"].iloc[2] == "x" * 70


# -- what is calculated ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "calculate",
    [
        lambda table: table / MIB,
        lambda table: table["max"] / MIB,
        lambda table: table["max"] - table["mean"] / 2,
        lambda table: np.log(table["max"]),
        lambda table: table.map(float.__neg__),
        lambda table: table.rank(),
        lambda table: table.describe().tail(1) * 1.5,
        lambda table: table.std(),
        lambda table: table.pct_change(),
    ],
)
def test_calculated_numbers_are_printed_without_units(costs, calculate):
    """Their unit is not known: 2560 MiB must not be called 2.5 KiB."""
    printed = repr(calculate(costs["ram_bytes"]))
    assert "B" not in printed
    assert "%" not in printed


def test_a_column_that_is_added_has_no_unit_and_costs_the_others_nothing(costs):
    table = costs["ram_bytes"].assign(mib=lambda each: each["max"] / MIB)
    assert body(table, 3)[0] == "3 load() 2 GiB 2 GiB +1 GiB 2048.0"


def test_rows_with_other_labels_have_no_names(costs):
    """A label alone does not say which cell it was."""
    swapped = costs["ram_bytes"].iloc[::-1].set_axis(costs.index)
    assert not any(name in repr(swapped) for name in NAMES[:2])
    numbered = costs["ram_bytes"].reset_index(drop=True)
    assert body(numbered, 3)[0] == "0 2 GiB 2 GiB +1 GiB"


# -- a table of pandas -------------------------------------------------------------------------------------


def test_it_is_a_dataframe_of_floats_for_pandas(costs, rows):
    for table in (costs, costs["ram_bytes"], summary(rows)):
        plain = pd.DataFrame(table)
        assert type(plain) is pd.DataFrame
        assert table.equals(plain)
        assert isinstance(table, pd.DataFrame)
        assert pd.concat([table, table]).shape == (2 * len(table), table.shape[1])
        assert table.to_csv() == plain.to_csv()
    assert (costs["ram_bytes"] * 2).equals(pd.DataFrame(costs["ram_bytes"]) * 2)
    assert costs["ram_bytes"].groupby(lambda count: count > 3).max()["max"].tolist() == [2 * GIB, 2.5 * GIB]


def test_a_pickle_holds_a_table_of_pandas_with_the_units(costs, rows):
    for table in (costs, costs["ram_bytes"], summary(rows)):
        read = pickle.loads(pickle.dumps(table))
        assert type(read) is pd.DataFrame
        assert read.equals(pd.DataFrame(table))
        assert read.attrs == table.attrs
    column = pickle.loads(pickle.dumps(costs["ram_bytes"]["max"]))
    assert type(column) is pd.Series
    assert column.name == "max"
    assert column.tolist() == costs["ram_bytes"]["max"].tolist()


def test_nothing_is_still_a_table(costs, rows):
    assert "Empty" in repr(costs["ram_bytes"].iloc[:0])
    assert "Empty" in repr(costs.iloc[:, :0])
    assert repr(costs["ram_bytes"]["max"].iloc[:0]).startswith("ReportSeries([]")
    assert summary(rows).iloc[:0]._repr_html_().count("<td>") == 0


def test_a_report_of_no_origin_is_printed_as_pandas_does():
    made = Report({"a": [1.5, 2.5], "text": ["b", "c"]})
    assert body(made, 2) == ["0 1.5 b", "1 2.5 c"]
    assert isinstance(made["a"], ReportSeries)
    assert body(made["a"], 3) == ["0 1.5", "1 2.5", "Name: a, dtype: float64"]
