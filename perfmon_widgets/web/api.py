"""What each URL answers: plain functions of a monitor and a request. Every HTTP face calls `answer`.

Loads neither numpy nor the monitor's module, since the Jupyter server imports it too.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import stat
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from perfmon_widgets.web import exposition

if TYPE_CHECKING:
    from perfmon_widgets.core.monitor import PerformanceMonitor

_logger = logging.getLogger(__name__)

LARGEST_BODY = 16_384
"""The most bytes that the body of a request may have; the longest one that makes sense has 300."""

JSON = "application/json"
_CSV = "text/csv; charset=utf-8"

_TEN_MINUTES = timedelta(minutes=10)
_EPOCH = datetime(1970, 1, 1)
_ISO = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)(?:[T ](?P<time>\d\d:\d\d)(?P<seconds>:\d\d)?(?:[.,](?P<fraction>\d{1,9}))?"
    r"(?: ?(?P<zone>Z|[ +-]\d\d:?\d\d))?)?",
    re.ASCII | re.IGNORECASE,
)
# What a file name may not contain; a colon names a stream or a drive on Windows.
_NOT_IN_A_NAME = re.compile(r"[/\\\x00-\x1f\x7f]" if os.name != "nt" else r'[/\\\x00-\x1f\x7f:<>"|?*]')
_DEVICES_OF_WINDOWS = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


class Request(NamedTuple):
    """What is asked, as every HTTP face hands it over."""

    method: str
    path: str
    """Without the base URL of the Jupyter server: ``/api/performance/current``."""
    query: Mapping[str, str] = {}
    body: bytes = b""
    content_type: str = ""


class Response(NamedTuple):
    """What is answered."""

    status: int
    content_type: str
    body: bytes


class Refusal(Exception):  # noqa: N818 - it is one
    """A request that cannot be met: the HTTP status and a sentence that names the field."""

    def __init__(self, status: int, message: str, **more: object) -> None:
        super().__init__(message)
        self._status = status
        self._more = more

    @property
    def response(self) -> Response:
        """The refusal as every face answers it: ``{"message": …}``, and what else it may list."""
        return _json({"message": str(self), **self._more}, self._status)


def answer(monitor: PerformanceMonitor | None, request: Request) -> Response:
    """What the request gets; never raises. Without a monitor that is a 404 that says how to start one.

    Reads what the monitor has stored, and never takes a sample.
    """
    try:
        check(request)
        if monitor is None:
            raise no_monitor()
        return ROUTES[request.path][request.method](monitor, request)
    except Refusal as refusal:
        return refusal.response
    except Exception:
        # Told to the owner's log only: the text of an unforeseen error may hold anything.
        _logger.exception("%s %s failed", request.method, request.path)
        return _json({"message": "internal error; the log of the kernel has the details"}, 500)


def check(request: Request) -> None:
    """Raises Refusal for what is wrong whatever the monitor: path, method, type and size of the body."""
    known = methods(request.path)
    if not known:
        raise Refusal(404, f"path: nothing is here; there is {', '.join(ROUTES)}")
    if request.method not in known:
        raise Refusal(405, f"method: this path answers {' and '.join(known)} only")
    if len(request.body) > LARGEST_BODY:
        raise too_long()
    if request.method == "POST" and request.content_type.partition(";")[0].strip().lower() != JSON:
        raise Refusal(415, f"Content-Type: must be {JSON}")


def methods(path: str) -> tuple[str, ...]:
    """What may be asked of a path, for the header Allow; none for a path that does not exist."""
    return tuple(ROUTES.get(path, ()))


def no_monitor() -> Refusal:
    """Why there is nothing to answer with, and what to do about it."""
    return Refusal(
        404,
        "no monitor is running in this kernel; start one there: "
        "import perfmon_widgets; monitor = perfmon_widgets.PerformanceMonitor(); monitor.start()",
    )


def too_long() -> Refusal:
    """Why a body is not read."""
    return Refusal(413, f"body: must not be longer than {LARGEST_BODY} bytes")


# -- the routes ----------------------------------------------------------------------------------------


def _current(monitor: PerformanceMonitor, _: Request) -> Response:
    sample = monitor.latest
    if sample is None:
        reason = "the first is being taken" if monitor.running else "the monitor is not running; start it"
        raise Refusal(503, f"there is no sample yet: {reason}")
    # Whole microseconds in the same way as in the history, so that it can be handed back as `since`.
    time = _EPOCH + timedelta(microseconds=round(sample.time * 1e6))
    values = {column: _number(value) for column, value in sample.values.items()}
    return _json({"time": f"{time.isoformat(timespec='microseconds')}Z", "values": values})


def _history(monitor: PerformanceMonitor, request: Request) -> Response:
    kind = request.query.get("format", "json")
    if kind not in ("json", "csv"):
        raise Refusal(400, "format: must be json or csv")
    since = _since(request.query)
    times, values = monitor.rows
    if since is None and len(times) and monitor.window > _TEN_MINUTES.total_seconds():
        since = times[-1].item() - _TEN_MINUTES - timedelta(microseconds=1)
    if kind == "csv":
        return Response(200, _CSV, monitor.log.export(since))
    if since is not None:
        later = times > since
        times, values = times[later], values[later]
    # A column that was added meanwhile, behind the others, is not in these rows.
    columns = [metric.name for metric in monitor.metrics][: values.shape[1]]
    table = (list(map(_number, column)) for column in values.T.tolist())
    return _json(
        {
            "columns": columns,
            "time": [f"{time}Z" for time in times.astype(str).tolist()],
            "values": dict(zip(columns, table, strict=True)),
        }
    )


def _metrics(monitor: PerformanceMonitor, _: Request) -> Response:
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
    return _json({"metrics": meanings})


def _log_state(monitor: PerformanceMonitor, _: Request) -> Response:
    log = monitor.log
    path = log.path
    state = {"enabled": log.running, "path": path.name if path else None, "rows": log.rows}
    if log.error:
        state["error"] = log.reason
    return _json(state)


def _switch_log(monitor: PerformanceMonitor, request: Request) -> Response:
    enabled, name = _wish(request)
    try:
        if enabled:
            monitor.log.start(_log_file(name) if name is not None else None)
        else:
            monitor.log.stop()
    except RuntimeError:
        running = monitor.log.path.name if monitor.log.path else "another file"
        raise Refusal(409, f"path: already logging to {running}; switch that log off first") from None
    except OSError as error:
        # The number's own text: that of the error names directories.
        reason = os.strerror(error.errno) if error.errno else "it cannot be written"
        raise Refusal(409, f"path: cannot write the log file: {reason}") from None
    return _log_state(monitor, request)


def _prometheus(monitor: PerformanceMonitor, _: Request) -> Response:
    return Response(200, exposition.CONTENT_TYPE, exposition.exposition(monitor))


Function = Callable[["PerformanceMonitor", Request], Response]

ROUTES: dict[str, dict[str, Function]] = {
    "/api/performance/current": {"GET": _current},
    "/api/performance/history": {"GET": _history},
    "/api/performance/logging": {"GET": _log_state, "POST": _switch_log},
    "/api/performance/metrics": {"GET": _metrics},
    "/metrics": {"GET": _prometheus},
}
"""Every path, the methods that it knows, and the function that answers each."""


# -- reading requests ----------------------------------------------------------------------------------


def _since(query: Mapping[str, str]) -> Any:
    """The time in ``since`` as a naive datetime in UTC (Any: numpy compares it with its own); None without.

    A time without a zone is meant in UTC.
    """
    text = query.get("since")
    if text is None:
        return None
    parts = _ISO.fullmatch(text.strip())
    try:
        if parts is None:
            raise ValueError(text)
        fraction = (parts["fraction"] or "").ljust(6, "0")[:6]
        # A plus that was not encoded in the URL arrives as a space.
        zone = (parts["zone"] or "Z").replace(" ", "+").upper().replace("Z", "+00:00")
        zone = zone if ":" in zone else f"{zone[:3]}:{zone[3:]}"
        clock = f"{parts['time'] or '00:00'}{parts['seconds'] or ':00'}.{fraction}"
        moment = datetime.fromisoformat(f"{parts['date']}T{clock}{zone}")
        return moment.astimezone(timezone.utc).replace(tzinfo=None)
    except (ValueError, OverflowError):
        raise Refusal(400, "since: must be a time in ISO 8601, for example 2030-01-31T12:00:00.5Z") from None


def _wish(request: Request) -> tuple[bool, str | None]:
    """``enabled`` and ``path`` of the body."""
    try:
        body = json.loads(request.body)
    except (ValueError, RecursionError):
        raise Refusal(400, "body: must be JSON") from None
    if not isinstance(body, dict):
        raise Refusal(400, 'body: must be an object such as {"enabled": true}')
    unknown = sorted(body.keys() - {"enabled", "path"})
    if unknown:
        raise Refusal(400, f"{unknown[0][:50]!a}: is no field of this request; there are enabled and path")
    if not isinstance(body.get("enabled"), bool):
        raise Refusal(400, "enabled: must be true or false")
    name = body.get("path")
    if name is not None:
        _check_name(name)
    return body["enabled"], name


def _check_name(name: object) -> None:
    """Refuses what is not the name of a CSV file."""
    if not isinstance(name, str):
        raise Refusal(400, "path: must be a file name such as run.csv, or null")
    try:
        length = len(os.fsencode(name))
    except UnicodeEncodeError:
        raise Refusal(400, "path: has a character that no file name can have") from None
    if _NOT_IN_A_NAME.search(name) or name.startswith((".", "~")):
        raise Refusal(400, "path: must be a file name and nothing else; the directory is the kernel's own")
    # So that a request cannot leave a file that Python, a shell or a build tool would pick up.
    if not name.lower().endswith(".csv"):
        raise Refusal(400, "path: must end in .csv")
    if length > 255 or (os.name == "nt" and _DEVICES_OF_WINDOWS.fullmatch(name)):
        raise Refusal(400, "path: no file can have this name")


def _log_file(name: str) -> Path:
    """The file of that name in the working directory, where the log of a notebook belongs.

    Refuses what is there already and is no ordinary file of that directory: a device, a link leading out.
    Between this and the opening somebody may put one there: CsvLog follows no link and opens only a file
    that it creates.
    """
    folder = Path.cwd()
    path = folder / name
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return path
    if stat.S_ISLNK(mode):
        if Path(os.path.realpath(path)).parent != Path(os.path.realpath(folder)):
            raise Refusal(400, "path: is a link that leads out of the kernel's directory")
    elif not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise Refusal(400, "path: is a device or pipe")
    return path


# -- writing responses ---------------------------------------------------------------------------------


def _json(content: Mapping[str, object], status: int = 200) -> Response:
    return Response(status, JSON, json.dumps(content, allow_nan=False, separators=(",", ":")).encode())


def _number(value: float | None) -> float | None:
    """The value for JSON, which has no NaN and no infinity: null."""
    return value if value is not None and math.isfinite(value) else None
