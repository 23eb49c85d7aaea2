"""The HTTP API from this process: serve(), on a thread of its own, behind a token. Opt-in.

For scripts and scrapers. In a notebook the Jupyter server answers the same URLs, behind its own login.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import hmac
import ipaddress
import json
import logging
import os
import re
import secrets
import socket
import threading
import weakref
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from tornado import httpserver, iostream, web
from tornado.ioloop import IOLoop

from perfmon_widgets.core.shared import shared_monitor
from perfmon_widgets.web import api

if TYPE_CHECKING:
    from typing_extensions import Self

    from perfmon_widgets.core.monitor import PerformanceMonitor

_logger = logging.getLogger(__name__)

# Seconds after which a client is let go that has not sent a whole header, counted from its last request, or
# a whole body.
_IDLE = 75.0
_BODY = 10.0

# How many may be connected at once: each takes one of the files that the user's own process may open, and
# nobody needs a token for that. macOS allows 256.
_MOST = 100
# Seconds until the next attempt, where no connection can be taken in.
_RETRY = 0.1

_HOST = re.compile(r"(?:\[(?P<address>[0-9a-f:.]+)\]|(?P<name>[^:\[\]]+))(?::\d+)?")

# How long stop() waits for a request that is being answered.
_TIMEOUT = 5.0


def serve(
    monitor: PerformanceMonitor | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    token: str | None = None,
) -> PerformanceServer:
    """Answer the HTTP API for a monitor from this process until ``stop()``, also while it is busy.

    Args:
        monitor: whose numbers to serve; by default the shared one of this process, which is started.
        host: the address to listen on; the default is reached from this machine only.
        port: the port, by default one that is free.
        token: what every request must bring along; by default a random one.

    Raises OSError if the address cannot be listened on or if no more files can be opened, and ValueError for
    a port that cannot be, and for a token that no header can carry.
    """
    return PerformanceServer(monitor, host=host, port=port, token=token)


class PerformanceServer:
    """The HTTP API of one monitor on a thread of its own, as `serve` returns it; ``with`` stops it.

    The monitor is not stopped with it, and a stopped monitor still answers what it has.
    """

    def __init__(
        self, monitor: PerformanceMonitor | None, *, host: str, port: int, token: str | None
    ) -> None:
        self._token = secrets.token_urlsafe(32) if token is None else _usable(token)
        served = shared_monitor() if monitor is None else monitor
        # Here rather than on the thread, so that an address in use is the caller's error.
        self._socket = _listen(host, port)
        self._host = host
        self._port: int = self._socket.getsockname()[1]
        settings = {"monitor": served, "token": self._token, "host": host}
        self._server = httpserver.HTTPServer(
            web.Application([(".*", _Handler, settings)], log_function=_keep_quiet),
            idle_connection_timeout=_IDLE,
            body_timeout=_BODY,
            max_header_size=16_384,
            # Larger ones are refused by the handler, in words; this is for those that do not say their size.
            max_body_size=1_048_576,
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()
        self._ready = threading.Event()
        self._failure: Exception | None = None
        self._connections: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._thread = threading.Thread(target=self._work, name="perfmon-server", daemon=True)
        try:
            self._thread.start()
            self._ready.wait()
            if self._failure is not None:
                self._thread.join()
                raise self._failure
            if monitor is None:
                served.start()
        except BaseException:  # an interrupt, or no more threads or files: nothing stays open
            self.stop()
            self._socket.close()
            raise
        _servers.add(self)

    @property
    def url(self) -> str:
        """Where it is reached, without a slash at the end: ``http://127.0.0.1:43211``."""
        host = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(self._host, self._host)  # noqa: S104
        return f"http://[{host}]:{self._port}" if ":" in host else f"http://{host}:{self._port}"

    @property
    def token(self) -> str:
        """What every request must bring along: ``Authorization: token …``, or ``?token=`` in the URL."""
        return self._token

    @property
    def running(self) -> bool:
        """Whether it answers."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Close the port and all connections, and end the thread. Nothing if stopped already."""
        loop = self._loop
        if loop is not None and self._thread.is_alive():
            with contextlib.suppress(RuntimeError):  # another thread has stopped it just now
                loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(_TIMEOUT)

    def _work(self) -> None:
        try:
            with contextlib.closing(self._run()) as running:
                asyncio.run(running)
        except Exception as error:
            if self._ready.is_set():
                raise
            # Without the frames of this thread, which would keep a half-made loop and its files.
            self._failure = error.with_traceback(None)
        finally:
            self._ready.set()

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._await_clients()
        self._ready.set()
        await self._stopping.wait()
        IOLoop.current().remove_handler(self._socket)
        self._socket.close()
        await self._server.close_all_connections()

    def _await_clients(self) -> None:
        if not self._stopping.is_set():
            IOLoop.current().add_handler(self._socket, self._take_in, IOLoop.READ)

    def _take_in(self, *_: object) -> None:
        """Who comes. Tornado's own way knows no limit, and prints an error that lasts, without a pause."""
        try:
            connection, address = self._socket.accept()
        except OSError:  # most likely as many files are open as may be; the client waits
            IOLoop.current().remove_handler(self._socket)
            IOLoop.current().call_later(_RETRY, self._await_clients)
            return
        if sum(each.fileno() >= 0 for each in self._connections) >= _MOST:
            connection.close()
            return
        self._connections.add(connection)
        self._server.handle_stream(iostream.IOStream(connection), address)

    def _leave_to_parent(self) -> None:
        """In a forked child, where the thread does not run: no client must wait here, be it for the end."""
        for each in (self._socket, *self._connections):
            each.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = "running" if self.running else "stopped"
        return f"<PerformanceServer {state}, {self.url}>"


@web.stream_request_body
class _Handler(web.RequestHandler):
    """One request. Refused before its body is read, if it is refused."""

    def initialize(self, monitor: PerformanceMonitor, token: str, host: str) -> None:
        self._monitor = monitor
        self._right_token = token.encode()
        self._host = host
        self._body = b""

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        self.set_header("Cache-Control", "no-store")
        self.set_header("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
        self.set_header("Referrer-Policy", "no-referrer")  # the token may stand in the URL
        self.set_header("X-Content-Type-Options", "nosniff")

    def prepare(self) -> None:
        try:
            self._query = dict(parse_qsl(self.request.query, keep_blank_values=True))
            self._check_host()
            self._check_token()
            length = self.request.headers.get("Content-Length", "0")
            if length.isdecimal() and int(length) > api.LARGEST_BODY:
                raise api.too_long()
        except api.Refusal as refusal:
            self._respond(refusal.response)

    def _check_host(self) -> None:
        """A name that is not ours means that a foreign page had its own name lead here (DNS rebinding)."""
        if not _is_ours(self.request.headers.get("Host", ""), self._host):
            raise api.Refusal(403, "Host: is not the name of this server")

    def _check_token(self) -> None:
        scheme, _, given = self.request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() not in ("token", "bearer"):
            given = self._query.get("token", "")
        if not hmac.compare_digest(given.strip().encode(errors="replace"), self._right_token):
            self.set_header("WWW-Authenticate", "Bearer")
            raise api.Refusal(401, "token: is missing or wrong; send the header Authorization: token …")

    def data_received(self, chunk: bytes) -> None:
        # One byte too many is enough to be refused.
        self._body = (self._body + chunk)[: api.LARGEST_BODY + 1]

    def _answer(self, *_: str) -> None:
        request = api.Request(
            self.request.method or "",
            self.request.path,
            self._query,
            self._body,
            self.request.headers.get("Content-Type", ""),
        )
        self._respond(api.answer(self._monitor, request))

    get = head = post = delete = patch = put = options = _answer

    def _respond(self, response: api.Response) -> None:
        self.set_status(response.status)
        if response.status == 405:
            self._tell_methods()
        self.set_header("Content-Type", response.content_type)
        self.finish(response.body)

    def _tell_methods(self) -> None:
        self.set_header("Allow", ", ".join(api.methods(self.request.path)))

    def write_error(self, status_code: int, **_: Any) -> None:
        """What Tornado refuses by itself, such as a method it does not know, is told in the same shape."""
        if status_code == 405:
            self._tell_methods()
        self.set_header("Content-Type", api.JSON)
        self.finish(json.dumps({"message": self._reason}))

    def log_exception(self, *error: Any) -> None:
        """Without the URL, which Tornado would tell: the token may stand in it."""
        _logger.error("%s %s failed", self.request.method, self.request.path, exc_info=error)

    def compute_etag(self) -> None:
        """None: the next sample changes everything."""


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens there. Not by Tornado, which leaves it open if it cannot be bound."""
    if not 0 <= port <= 65535:  # the C library would take what is left of it in 16 bits
        raise ValueError(f"port must be a number from 0 (any that is free) to 65535, not {port!r}")
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, address = found[0]
    listening = socket.create_server(address[:2], family=family, backlog=128)
    listening.setblocking(False)
    return listening


def _usable(token: str) -> str:
    if not isinstance(token, str) or not re.fullmatch(r"[!-~]+", token):
        raise ValueError("token must be a text of printable ASCII characters without spaces")
    return token


def _is_ours(host: str, listening: str) -> bool:
    """Whether a Host header names this server: the name it was given, localhost, or an address.

    No address needs to be refused that leads here: only a name can be made to lead elsewhere later.
    """
    parts = _HOST.fullmatch(host.lower())
    if parts is None:
        return False
    name = parts["address"] or parts["name"]
    if name in ("localhost", listening.lower()):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name == socket.gethostname().lower() and not _is_loopback(listening)
    return address.is_loopback or not _is_loopback(listening)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _keep_quiet(handler: web.RequestHandler) -> None:
    """Tornado's own log would show the token, if it stands in the URL."""
    _logger.debug("%s %s: %d", handler.request.method, handler.request.path, handler.get_status())


_servers: weakref.WeakSet[PerformanceServer] = weakref.WeakSet()


def _after_fork() -> None:
    for server in tuple(_servers):
        server._leave_to_parent()


def _at_exit() -> None:
    for server in tuple(_servers):
        server.stop()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
