"""The answer of each URL: plain functions of a monitor and a request. Both servers call ``answer``.

Loads neither numpy nor the monitor's module, since the Jupyter server imports it too.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from perfmon_widgets.core.parts import paced
from perfmon_widgets.core.protocol import findings_of
from perfmon_widgets.web import exposition, page
from perfmon_widgets.web.request import (
    JSON,
    LARGEST_BODY,
    Refusal,
    Request,
    Response,
    json_response,
    json_text,
    log_file,
    read_log_switch,
    read_since,
    time_text,
)

if TYPE_CHECKING:
    from perfmon_widgets.core.protocol import Monitor
    from perfmon_widgets.views.evidence import Finding

_logger = logging.getLogger(__name__)

CSV = "text/csv; charset=utf-8"
HISTORY = "/api/performance/history"

_TEN_MINUTES = timedelta(minutes=10)

# A history is encoded as JSON this many values at a time. The encoder holds the GIL, and so stops every other
# thread: for 0.4 ms with this many values, for 2.9 s with a window of 432,000 rows in one go.
_VALUES_AT_ONCE = 1000
# A history of at most this many values is made in one piece, which takes about 10 ms.
_FEW_VALUES = 20_000
# A page that shows at most this many values is answered without a thread of its own, in about 2 ms.
_FEW_SHOWN = 100_000


def answer(monitor: Monitor | None, request: Request) -> Response:
    """Return the response to a request; never raises. The parts of a long one are made when they are read.

    Without a monitor that is a 404 that says how to start one. Reads what the monitor has stored, and never
    takes a sample.
    """
    try:
        check(request)
        if monitor is None:
            raise no_monitor()
        return ROUTES[request.path][request.method](monitor, request)
    except Refusal as refusal:
        return refusal.response
    except Exception:  # noqa: BLE001 - failed() logs it
        return failed(request)


def failed(request: Request) -> Response:
    """Log the exception that is being handled, and return the response of a request that raised it."""
    # Only into the owner's log: the text of an unexpected error may contain private data.
    _logger.exception("%s %s failed", request.method, request.path)
    return json_response({"message": "internal error; the log of the kernel has the details"}, 500)


def check(request: Request) -> None:
    """Raise Refusal for a wrong path or method, and for a body of the wrong type or size."""
    known = methods(request.path)
    if not known:
        raise Refusal(404, f"path: no such path; the paths are {', '.join(ROUTES)}")
    if request.method not in known:
        raise Refusal(405, f"method: this path answers {' and '.join(known)} only")
    if len(request.body) > LARGEST_BODY:
        raise too_long()
    if request.method == "POST" and request.content_type.partition(";")[0].strip().lower() != JSON:
        raise Refusal(415, f"Content-Type: must be {JSON}")


def check_format(request: Request) -> str:
    """Return the format of a history that is asked for, json or csv; raises Refusal for another one."""
    kind = request.query.get("format", "json")
    if kind not in ("json", "csv"):
        raise Refusal(400, "format: must be json or csv")
    return kind


def methods(path: str) -> tuple[str, ...]:
    """Return the methods that a path answers; none for a path that does not exist."""
    return tuple(ROUTES.get(path, ()))


def headers(path: str, response: Response) -> dict[str, str]:
    """Return the headers that both servers send with a response to a request of that path."""
    sent = {"Content-Type": response.content_type, "Cache-Control": "no-store"}
    if response.status == 405:
        sent["Allow"] = ", ".join(methods(path))
    if path in page.FILES and response.status == 200:
        sent["Content-Security-Policy"] = page.POLICY
    return sent


def no_monitor() -> Refusal:
    """Return the refusal of a kernel without a running monitor."""
    return Refusal(
        404,
        "no monitor is running in this kernel; start one there: "
        "import perfmon_widgets; monitor = perfmon_widgets.PerformanceMonitor(); monitor.start()",
    )


def too_long() -> Refusal:
    """Return the refusal of a body that is too long to be read."""
    return Refusal(413, f"body: must not be longer than {LARGEST_BODY} bytes")


def may_take_long(monitor: Monitor | None, request: Request) -> bool:
    """Whether the answer needs the disk, or more than a few milliseconds.

    A thread for each answer costs 0.3 ms. So a page that has its figures already, and is sent what is new,
    gets that at once, unless it shows very many rows.
    """
    if request.path == page.VIEW and "have" in request.query and monitor is not None:
        seconds = min(monitor.window, _TEN_MINUTES.total_seconds())  # more are not shown
        sample = monitor.latest
        columns = len(sample.values) if sample is not None else 0
        return columns * seconds / monitor.interval > _FEW_SHOWN
    return request.method == "POST" or request.path in (HISTORY, page.VIEW)


# -- the routes ----------------------------------------------------------------------------------------


def _current(monitor: Monitor, _: Request) -> Response:
    sample = monitor.latest
    if sample is None:
        reason = "the first one is being taken" if monitor.running else "the monitor is not running; start it"
        raise Refusal(503, f"there is no sample yet: {reason}")
    values = {column: _number(value) for column, value in sample.values.items()}
    return json_response({"time": time_text(sample.time), "values": values})


def _history(monitor: Monitor, request: Request) -> Response:
    kind = check_format(request)
    since = read_since(request.query)
    times, values = monitor.rows
    if since is None and len(times) and monitor.window > _TEN_MINUTES.total_seconds():
        since = times[-1].item() - _TEN_MINUTES - timedelta(microseconds=1)
    if kind == "csv":
        return Response(200, CSV, _content(monitor.log.export_parts(since), values.size))
    if since is not None:
        times, values = _later(times, values, since)
    # A column that was added meanwhile stands behind the others and is not in these rows.
    columns = [metric.name for metric in monitor.metrics][: values.shape[1]]
    return Response(200, JSON, _content(_history_json(columns, times, values), values.size))


def _later(times: Any, values: Any, since: datetime) -> tuple[Any, Any]:
    """Return the rows after ``since``, in general without a copy."""
    chosen: Any = times > since
    first = int(chosen.argmax()) if len(chosen) else 0
    if chosen[first:].all():
        return times[first:], values[first:]
    return times[chosen], values[chosen]  # none of them, or the computer's clock was set back


def _content(parts: Iterator[bytes], values: int) -> bytes | Iterator[bytes]:
    """Return the text of this many values; one that takes long to make as parts."""
    return b"".join(parts) if values <= _FEW_VALUES else paced(parts)


def _history_json(columns: list[str], times: Any, values: Any) -> Iterator[bytes]:
    yield b'{"columns":' + json_text(columns).encode() + b',"time":'
    yield from _array(times, lambda part: (f"{time}Z" for time in part.astype(str).tolist()))
    yield b',"values":'
    before = b"{"
    for number, column in enumerate(columns):
        yield before + json_text(column).encode() + b":"
        yield from _array(values[:, number], lambda part: map(_number, part.tolist()))
        before = b","
    yield b"}}" if columns else b"{}}"


def _array(column: Any, convert: Callable[[Any], Iterable[object]]) -> Iterator[bytes]:
    """Yield a JSON array of a numpy array, in parts that take little time each."""
    yield b"["
    for start in range(0, len(column), _VALUES_AT_ONCE):
        part = list(convert(column[start : start + _VALUES_AT_ONCE]))
        text = json_text(part)[1:-1]
        yield (f",{text}" if start else text).encode()
    yield b"]"


def _metrics(monitor: Monitor, _: Request) -> Response:
    meanings = {
        metric.name: {
            "unit": metric.unit,
            "group": metric.group,
            "help": metric.help,
            "limit": metric.limit if isinstance(metric.limit, str) else _number(metric.limit),
            "source": metric.source,
            "device": metric.device,
        }
        for metric in monitor.metrics
    }
    return json_response({"metrics": meanings})


def _findings(monitor: Monitor, _: Request) -> Response:
    return json_response({"findings": [finding_in_json(finding) for finding in findings_of(monitor)]})


def finding_in_json(finding: Finding) -> dict[str, str]:
    """Return a finding as it is sent."""
    return {
        "severity": finding.severity,
        "what": finding.what,
        "evidence": finding.evidence,
        "advice": finding.advice,
    }


def _log_state(monitor: Monitor, _: Request) -> Response:
    return json_response(log_state(monitor))


def log_state(monitor: Monitor) -> dict[str, object]:
    """Return whether the CSV log runs, its file, its rows, and what is wrong with it if anything is."""
    log = monitor.log
    path = log.path
    state: dict[str, object] = {"enabled": log.running, "path": path.name if path else None, "rows": log.rows}
    if log.error:
        state["error"] = log.reason
    return state


def _switch_log(monitor: Monitor, request: Request) -> Response:
    enabled, name = read_log_switch(request.body)
    try:
        if enabled:
            monitor.log.start(log_file(name) if name is not None else None)
        else:
            monitor.log.stop()
    except RuntimeError:
        running = monitor.log.path.name if monitor.log.path else "another file"
        raise Refusal(409, f"path: already logging to {running}; switch that log off first") from None
    except OSError as error:
        # The text of the error number only: that of the exception names directories.
        reason = os.strerror(error.errno) if error.errno else "it cannot be written"
        raise Refusal(409, f"path: cannot write the log file: {reason}") from None
    return _log_state(monitor, request)


def _prometheus(monitor: Monitor, _: Request) -> Response:
    return Response(200, exposition.CONTENT_TYPE, exposition.exposition(monitor))


def _view(monitor: Monitor, request: Request) -> Response:
    from perfmon_widgets.web.view import view  # noqa: PLC0415 - loads numpy

    return view(monitor, request)


def _page(_: Monitor, request: Request) -> Response:
    return page.file(request.path)


Function = Callable[["Monitor", Request], Response]

ROUTES: dict[str, dict[str, Function]] = {
    "/api/performance/current": {"GET": _current},
    HISTORY: {"GET": _history},
    "/api/performance/logging": {"GET": _log_state, "POST": _switch_log},
    "/api/performance/metrics": {"GET": _metrics},
    "/api/performance/findings": {"GET": _findings},
    "/metrics": {"GET": _prometheus},
    page.VIEW: {"GET": _view},
    **{path: {"GET": _page} for path in page.FILES},
}
"""Every path, the methods that it answers, and the function that makes each answer."""


def _number(value: float | None) -> float | None:
    """Return the value, or None (JSON: null) for NaN and infinity, which JSON does not have."""
    return value if value is not None and math.isfinite(value) else None
