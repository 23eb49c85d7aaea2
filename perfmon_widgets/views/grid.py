"""The table of many GPUs, workers or other things of one kind: a row for each, and which one lags behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from perfmon_widgets.metrics import Metric, place_label
from perfmon_widgets.views.columns import quantity_label
from perfmon_widgets.views.evidence import Evidence
from perfmon_widgets.views.figures import Rows
from perfmon_widgets.views.findings import LEAST
from perfmon_widgets.views.stragglers import straggler


def grid(many: Mapping[str, Mapping[str, Metric]], names: Sequence[str]) -> dict[str, Any]:
    """Return a table with a row for each of many things: which columns it has, and what stands where.

    ``many`` is what ``columns.alike()`` returns. ``columns`` are labels of quantities; ``places`` say for
    each GPU or the like its label, and the place in ``names`` of the metric of each cell (-1: it has none).
    Empty if there are not many.
    """
    if not many:
        return {}
    columns = {what: quantity_label(metric) for each in many.values() for what, metric in each.items()}
    places = [
        {
            "label": place_label(where),
            "metrics": [names.index(found[what].name) if what in found else -1 for what in columns],
        }
        for where, found in many.items()
    ]
    return {"columns": list(columns.values()), "places": places}


def lagging(metrics: Sequence[Metric], rows: Rows, busy: Mapping[str, str]) -> dict[str, str] | None:
    """Return the column of the GPU or the like that lags behind the others, and why; None if none does.

    ``metrics``: those of all columns, in the order of the columns of ``rows``. ``busy`` is what
    ``stragglers.busy_columns()`` returns.
    """
    if len(busy) < 2:
        return None
    evidence = Evidence(metrics, rows.times, rows.seconds, rows.gaps, rows.values, least=LEAST)
    found = straggler(evidence, busy)
    return None if found is None else {"column": busy[found.place], "why": found.words}
