"""serve(): the HTTP API and the live page from this process, on a thread of its own. Opt-in.

For scripts and scrapers, which need the token, and for browsers that have opened the page with it. In a
notebook the Jupyter server answers the same URLs, behind its own login.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import re
import secrets
import socket
import threading
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import quote

from perfmon_widgets.core.protocol import check_monitor
from perfmon_widgets.core.shared import default_monitor
from perfmon_widgets.forks import renew_after_fork
from perfmon_widgets.interrupts import Event, start_thread
from perfmon_widgets.web.connections import Connections
from perfmon_widgets.web.handler import Requests
from perfmon_widgets.web.page import PAGE
from perfmon_widgets.web.refusals import Refusals

if TYPE_CHECKING:
    from typing_extensions import Self

    from perfmon_widgets.core.protocol import Monitor

# How many seconds stop() waits for a request that is being answered.
_TIMEOUT = 5.0


def serve(
    monitor: Monitor | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    token: str | None = None,
) -> PerformanceServer:
    """Answer the HTTP API for a monitor from this process until ``stop()``, also while the process is busy.

    Args:
        monitor: the monitor whose numbers to serve; this does not start it. By default the shared one if it
            runs, else the running one that was started last, else the shared one, which this starts.
        host: the address to listen on; the default can be reached from this machine only.
        port: the port, by default one that is free.
        token: what a request must contain, unless it comes from the page and has its cookie; by default a
            random text.

    Raises OSError if it cannot listen on the address or no descriptor is left, ValueError for a port or a
    token that is impossible, and TypeError for an object that is not a monitor.
    """
    return PerformanceServer(monitor, host=host, port=port, token=token)


class PerformanceServer:
    """The HTTP API of one monitor on a thread of its own, as ``serve`` returns it; ``with`` stops it.

    Stopping the server does not stop the monitor. If the monitor stops, the server still serves its history.
    """

    def __init__(self, monitor: Monitor | None, *, host: str, port: int, token: str | None) -> None:
        self._token = secrets.token_urlsafe(32) if token is None else _check_token(token)
        served: Monitor = default_monitor() if monitor is None else monitor
        check_monitor(served)
        # Here rather than on the thread, so that the caller gets the error if the address is in use.
        self._socket = _listen(host, port)
        self._host = host
        self._port: int = self._socket.getsockname()[1]
        self._refusals = Refusals()
        requests = Requests(served, self._token, host, self._port, self._refusals)
        self._connections = Connections(self._socket, requests, self._refusals)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()
        self._ready = Event()
        self._closed = False  # whether the thread is to end, also one whose start was interrupted
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="perfmon-server", daemon=True)
        try:
            start_thread(self._thread)
            self._ready.wait()
            if self._failure is not None:
                self._thread.join()
                raise self._failure
            if monitor is None:
                served.start()
        except BaseException:  # an interrupt, or no thread or descriptor is left: close everything
            self.stop()
            self._socket.close()
            raise
        _servers.add(self)
        renew_after_fork(self)

    @property
    def url(self) -> str:
        """The address of the server, without a slash at the end: ``http://127.0.0.1:43211``."""
        host = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(self._host, self._host)  # noqa: S104
        return f"http://[{host}]:{self._port}" if ":" in host else f"http://{host}:{self._port}"

    @property
    def page_url(self) -> str:
        """The address of the live page, to be opened once in each browser: it contains the token.

        The browser gets a cookie for it, and shows the address without the token.
        """
        return f"{self.url}{PAGE}?token={quote(self._token, safe='')}"

    @property
    def token(self) -> str:
        """What a request contains: ``Authorization: token …``, or ``?token=`` in the URL."""
        return self._token

    @property
    def running(self) -> bool:
        """Whether requests are answered."""
        return self._loop is not None

    @property
    def refused(self) -> int:
        """How many requests and connections have been refused: with a status 4xx, or by closing them."""
        return self._refusals.count

    def stop(self) -> None:
        """Close the port and all connections, and end the thread. Does nothing if it is stopped."""
        self._closed = True
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # another thread has stopped it just now
                loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(_TIMEOUT)

    def _work(self) -> None:
        """Run the event loop; the target of the thread."""
        try:
            # Made and run here, since asyncio.run() may not be what it was: nest_asyncio replaces it by one
            # that asks for the loop of the thread, which has none. A loop of uvloop or of Windows would not
            # be of this kind either.
            with contextlib.closing(asyncio.SelectorEventLoop()) as loop, self._quiet_tornado():
                asyncio.set_event_loop(loop)
                loop.run_until_complete(self._run())
        except Exception as error:
            if self._ready.is_set():
                raise
            # Without the frames of this thread, which would keep a half-made loop and its descriptors.
            self._failure = error.with_traceback(None)
        finally:
            asyncio.set_event_loop(None)
            self._loop = None
            self._ready.set()

    async def _run(self) -> None:
        self._connections.open()
        self._loop = asyncio.get_running_loop()
        self._ready.set()
        if not self._closed:
            await self._stopping.wait()
        await self._connections.close()

    @contextlib.contextmanager
    def _quiet_tornado(self) -> Iterator[None]:
        """Keep what Tornado logs about requests on this thread out of the log: they are counted instead."""
        thread = threading.get_ident()

        def is_kept(record: logging.LogRecord) -> bool:
            return threading.get_ident() != thread or record.levelno >= logging.ERROR

        log = logging.getLogger("tornado.general")
        log.addFilter(is_kept)
        try:
            yield
        finally:
            log.removeFilter(is_kept)

    def renew_after_fork(self) -> None:
        """In a forked child: close its copies of the sockets, so that no client waits for the child.

        Not through the event loop, whose selector the parent goes on to use.
        """
        self._loop = None
        for each in self._connections.sockets():
            each.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = "running" if self.running else "stopped"
        return f"<PerformanceServer {state}, {self.url}>"


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens there. Not by Tornado, which leaves it open if it cannot be bound."""
    if not 0 <= port <= 65535:  # the C library would take the lowest 16 bits of another number
        raise ValueError(f"port must be a number from 0 (any that is free) to 65535, not {port!r}")
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, address = found[0]
    listening = socket.create_server(address[:2], family=family, backlog=128)
    listening.setblocking(False)
    return listening


def _check_token(token: str) -> str:
    if not isinstance(token, str) or not re.fullmatch(r"[!-~]+", token):
        raise ValueError("token must be a text of printable ASCII characters without spaces")
    return token


_servers: weakref.WeakSet[PerformanceServer] = weakref.WeakSet()


def _stop_all() -> None:
    for server in tuple(_servers):
        server.stop()


atexit.register(_stop_all)
