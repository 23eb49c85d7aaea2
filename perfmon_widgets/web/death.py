"""What is answered for a Jupyter kernel that has died: its last samples, and what it died of."""

from __future__ import annotations

import math
from typing import Any

from perfmon_widgets.core.csv_lines import header_line, row_line
from perfmon_widgets.views.death import CERTAIN, LIKELY, Death
from perfmon_widgets.web.api import CSV, HISTORY, check_format
from perfmon_widgets.web.page import VIEW
from perfmon_widgets.web.request import Request, Response, json_response, moment_of, read_since, time_text

FINDINGS = "/api/performance/findings"

_ADVICE = (
    "Keep less in memory at a time, give the container more, or run `%perfmon guard` first: then the cell "
    "fails with a MemoryError, and the kernel lives."
)


def answers(request: Request) -> bool:
    """Return whether a dead kernel's black box has an answer to this request."""
    return request.method == "GET" and request.path in (HISTORY, FINDINGS, VIEW)


def answer(death: Death, request: Request) -> Response:
    """Return the response to a request that ``answers`` accepts; raises Refusal for a wrong query.

    It has the form that the answer of a living kernel has, and ``death`` in addition. May take long for what
    the live page shows.
    """
    if request.path == VIEW:
        from perfmon_widgets.web.view import view_of_death  # noqa: PLC0415 - loads numpy

        return view_of_death(death, request)
    if request.path == FINDINGS:
        return json_response({"findings": [_finding(death)], "death": _death(death)})
    kind, since = check_format(request), read_since(request.query)
    moments = [moment_of(at) for at in death.times]
    shown = [number for number, moment in enumerate(moments) if since is None or moment > since]
    times = [time_text(death.times[number]) for number in shown]
    names = [name for name, _, _ in death.columns]
    if kind == "csv":
        rows = ([death.series[name][number] for name in names] for number in shown)
        lines = (
            row_line(time.removesuffix("Z"), row, len(names)) for time, row in zip(times, rows, strict=True)
        )
        return Response(200, CSV, header_line(names) + b"".join(lines))
    values = {name: [_number(death.series[name][number]) for number in shown] for name in names}
    return json_response({"columns": names, "time": times, "values": values, "death": _death(death)})


def _death(death: Death) -> dict[str, Any]:
    cell = death.cell
    return {
        "time": time_text(death.time),
        "cell": None if cell is None else {"number": cell.number, "source": cell.source},
        "verdict": death.verdict,
        "evidence": death.evidence,
        "message": str(death),
    }


def _finding(death: Death) -> dict[str, str]:
    where = "" if death.cell is None else f" in {death.cell}"
    advice = _ADVICE if death.verdict in (CERTAIN, LIKELY) else "Look into the log of the Jupyter server."
    return {
        "severity": "critical",
        "what": f"the kernel died{where}",
        "evidence": death.evidence,
        "advice": advice,
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
