"""An HTTP request, its response, and how the values in a request are read and checked.

Loads neither numpy nor the monitor's module, since the Jupyter server imports it too.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

LARGEST_BODY = 16_384
"""The most bytes that the body of a request may have; the longest one that makes sense has 300."""

JSON = "application/json"

_EPOCH = datetime(1970, 1, 1)

_ISO = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)(?:[T ](?P<time>\d\d:\d\d)(?P<seconds>:\d\d)?(?:[.,](?P<fraction>\d{1,9}))?"
    r"(?: ?(?P<zone>Z|[ +-]\d\d:?\d\d))?)?",
    re.ASCII | re.IGNORECASE,
)
# A name that no shell, no tool and no person reads as an option, a hidden file, a path or two words. It must
# end in .csv, so that a request cannot leave a file that Python, a shell or a build tool would pick up.
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,250}\.csv", re.ASCII | re.IGNORECASE)
_DEVICES_OF_WINDOWS = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)\..*", re.IGNORECASE)


class Request(NamedTuple):
    """A request, in the form in which both servers pass it on."""

    method: str
    path: str
    """Without the base URL of the Jupyter server: ``/api/performance/current``."""
    query: Mapping[str, str] = {}
    body: bytes = b""
    content_type: str = ""


class Response(NamedTuple):
    """The answer to a request."""

    status: int
    content_type: str
    content: bytes | Iterable[bytes]
    """The body; or the parts of a long one, which may be made while they are read, and only once."""

    @property
    def parts(self) -> Iterable[bytes]:
        """The body in parts."""
        return [self.content] if isinstance(self.content, bytes) else self.content

    @property
    def body(self) -> bytes:
        """The whole body; to be avoided for a long one."""
        return self.content if isinstance(self.content, bytes) else b"".join(self.content)


class Refusal(Exception):  # noqa: N818 - it is one
    """A request that is refused: an HTTP status, and a sentence that names the wrong field."""

    def __init__(self, status: int, message: str, **more: object) -> None:
        super().__init__(message)
        self.status = status
        """The HTTP status."""
        self._more = more

    @property
    def response(self) -> Response:
        """The refusal as a response: ``{"message": …}`` and further fields."""
        return json_response({"message": str(self), **self._more}, self.status)


def json_response(content: Mapping[str, object], status: int = 200) -> Response:
    """Return the content as JSON; raises ValueError for NaN and infinity, which JSON does not have."""
    return Response(status, JSON, json_text(content).encode())


def json_text(value: object) -> str:
    """Return the value as JSON; raises ValueError for NaN and infinity, which JSON does not have."""
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def time_text(seconds: float) -> str:
    """Return Unix seconds in ISO 8601, UTC, rounded to whole microseconds as in the history.

    A client can send it back as ``since``.
    """
    return f"{moment_of(seconds).isoformat(timespec='microseconds')}Z"


def moment_of(seconds: float) -> datetime:
    """Return Unix seconds as read_since() returns a time: naive, in UTC, in whole microseconds."""
    return _EPOCH + timedelta(microseconds=round(seconds * 1e6))


def read_query(text: str) -> dict[str, str]:
    """Return the fields of the part of a URL after ``?``; the last one counts where a name is repeated."""
    return dict(parse_qsl(text, keep_blank_values=True))


def read_since(query: Mapping[str, str]) -> Any:
    """Return the time in ``since`` as a naive datetime in UTC; None if it is not given.

    A time without a zone is read as UTC. Raises Refusal for what is no ISO 8601 time. (Any, because numpy's
    times are compared with it.)
    """
    text = query.get("since")
    if text is None:
        return None
    parts = _ISO.fullmatch(text.strip())
    try:
        if parts is None:
            raise ValueError(text)
        fraction = (parts["fraction"] or "").ljust(6, "0")[:6]
        # A plus sign that was not encoded in the URL arrives as a space.
        zone = (parts["zone"] or "Z").replace(" ", "+").upper().replace("Z", "+00:00")
        zone = zone if ":" in zone else f"{zone[:3]}:{zone[3:]}"
        clock = f"{parts['time'] or '00:00'}{parts['seconds'] or ':00'}.{fraction}"
        moment = datetime.fromisoformat(f"{parts['date']}T{clock}{zone}")
        return moment.astimezone(timezone.utc).replace(tzinfo=None)
    except (ValueError, OverflowError):
        raise Refusal(400, "since: must be a time in ISO 8601, for example 2030-01-31T12:00:00.5Z") from None


def read_log_switch(content: bytes) -> tuple[bool, str | None]:
    """Return ``enabled`` and ``path`` of a body; raises Refusal, naming the field, if one is wrong."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        raise Refusal(400, "body: must be JSON") from None
    if not isinstance(body, dict):
        raise Refusal(400, 'body: must be an object such as {"enabled": true}')
    unknown = sorted(body.keys() - {"enabled", "path"})
    if unknown:
        raise Refusal(400, f"{unknown[0][:50]!a}: is not a field of this request; use enabled and path")
    if not isinstance(body.get("enabled"), bool):
        raise Refusal(400, "enabled: must be true or false")
    name = body.get("path")
    if name is not None:
        _check_file_name(name)
    return body["enabled"], name


def _check_file_name(name: object) -> None:
    if not isinstance(name, str):
        raise Refusal(400, "path: must be a file name such as run.csv, or null")
    if not _FILE_NAME.fullmatch(name) or (os.name == "nt" and _DEVICES_OF_WINDOWS.fullmatch(name)):
        raise Refusal(
            400,
            "path: must be a file name that ends in .csv, of letters, digits and . _ - only, and not begin "
            "with . or -; the directory is always the working directory of the kernel",
        )


def log_file(name: str) -> Path:
    """Return the file of that name in the working directory, where the log of a notebook belongs.

    Raises Refusal if there is something of that name that is not an ordinary file of that directory: a
    device, or a link to another directory. Another program may put one there between this check and the
    opening of the file. That is safe, since CsvLog follows no link and opens only a file that it creates.
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
