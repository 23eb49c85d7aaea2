"""The port of a server: accepts connections, and limits those that have not shown the token."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from tornado import httpserver, httputil, iostream

from perfmon_widgets.web.refusals import Refusals

# The most connections without the token at a time, and the seconds after which each is closed.
_MAX_STRANGERS = 20
_STRANGER_SECONDS = 5.0

# The seconds without a request after which a connection with the token is closed; the timeout of a body.
_IDLE_SECONDS = 75.0
_BODY_SECONDS = 10.0

# How many seconds to wait after a connection could not be accepted.
_RETRY = 0.1

# The whole response of Tornado to a request that is not HTTP. It is sent before any code of ours is called.
_TORNADOS_REFUSAL = b"HTTP/1.1 400 Bad Request\r\n\r\n"


class Stream(iostream.IOStream):
    """One connection. Counts the requests that Tornado refuses by itself."""

    trusted = False
    """Whether a request with the right token was received on it."""
    last_write: asyncio.Future[None]
    """Done when the bytes of the last ``write`` have been sent, or the connection has been closed."""

    def __init__(self, connection: socket.socket, refusals: Refusals) -> None:
        super().__init__(connection)
        self._refusals = refusals

    def refuse(self, reason: str) -> None:
        """Close the connection if it is open and not trusted."""
        if not self.trusted and not self.closed():
            self._refusals.add(reason)
            self.close()

    def write(self, data: bytes | memoryview) -> asyncio.Future[None]:
        """Send bytes; returns a future that is done when they have been sent."""
        if data == _TORNADOS_REFUSAL:
            self._refusals.add("malformed request")
        self.last_write = super().write(data)
        return self.last_write

    def close(self, exc_info: Any = False) -> None:
        """Close the connection, because of an exception if one is given."""
        if isinstance(exc_info, iostream.UnsatisfiableReadError):
            self._refusals.add("header too long")
        super().close(exc_info)


class Connections:
    """The connections of one server, accepted on the event loop that runs when ``open`` is called.

    Tornado has an accept loop too (``add_socket``), but without a limit: every client that can reach the port
    could use up the descriptors of the user's process (macOS allows 256). When none is left, Tornado tries
    again at once: in one second it logged 1,281 tracebacks, 0.7 MB, which a notebook shows below the running
    cell.

    This class waits a moment when accepting fails. If there are too many connections without the token, it
    closes the oldest of them. Connections with the token are not counted, so the owner is never locked out.
    """

    def __init__(
        self,
        listening: socket.socket,
        requests: httputil.HTTPServerConnectionDelegate,
        refusals: Refusals,
    ) -> None:
        self._listening = listening
        self._refusals = refusals
        self._streams: list[Stream] = []  # the oldest first
        self._http = httpserver.HTTPServer(
            requests,
            idle_connection_timeout=_IDLE_SECONDS,
            body_timeout=_BODY_SECONDS,
            max_header_size=16_384,
            # Longer bodies are refused by the handler, with a message; this is for those in chunks, which do
            # not declare their size.
            max_body_size=1_048_576,
        )

    def open(self) -> None:
        """Begin to accept connections; must be called on the thread of a running event loop."""
        if self._listening.fileno() >= 0:
            asyncio.get_running_loop().add_reader(self._listening, self._accept)

    async def close(self) -> None:
        """Close the port and every connection."""
        asyncio.get_running_loop().remove_reader(self._listening)
        self._listening.close()
        await self._http.close_all_connections()

    def sockets(self) -> list[socket.socket]:
        """Return the listening socket and that of each open connection."""
        return [self._listening, *(each.socket for each in self._streams if each.socket is not None)]

    def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            connection, address = self._listening.accept()
        except OSError:  # most likely no descriptor is left; the client waits
            loop.remove_reader(self._listening)
            loop.call_later(_RETRY, self.open)
            return
        self._streams = [each for each in self._streams if not each.closed()]
        strangers = [each for each in self._streams if not each.trusted]
        if len(strangers) >= _MAX_STRANGERS:
            strangers[0].refuse("too many connections without the token")
        stream = Stream(connection, self._refusals)
        self._streams.append(stream)
        loop.call_later(_STRANGER_SECONDS, stream.refuse, "no request with the token")
        self._http.handle_stream(stream, address)
