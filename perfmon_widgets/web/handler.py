"""One HTTP request to serve(): Host and token, or the page's cookie, are checked; then api.py answers it."""

from __future__ import annotations

import asyncio
import http
import logging
from typing import TYPE_CHECKING, cast

from tornado import httputil
from tornado.http1connection import HTTP1Connection

from perfmon_widgets.web import api, page
from perfmon_widgets.web.background import Background
from perfmon_widgets.web.connections import Stream
from perfmon_widgets.web.hosts import is_own_name
from perfmon_widgets.web.refusals import Refusals
from perfmon_widgets.web.request import LARGEST_BODY, Refusal, Request, Response, json_response, read_query
from perfmon_widgets.web.sessions import Sessions, is_same

if TYPE_CHECKING:
    from perfmon_widgets.core.protocol import Monitor

_logger = logging.getLogger(__name__)

# How many bytes of responses may wait for clients to read them. Without a limit, 20 clients that read nothing
# cost 258 MiB of memory.
_MAX_UNSENT = 32 * 2**20
# The seconds after which a connection is closed if its client has not read the response.
_READ_SECONDS = 30.0

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",  # the token may be part of the URL
    "X-Content-Type-Options": "nosniff",
}


class Requests(httputil.HTTPServerConnectionDelegate):
    """What all requests to one server have in common: the monitor, the token, the host, the counts."""

    def __init__(self, monitor: Monitor, token: str, host: str, port: int, refusals: Refusals) -> None:
        self.monitor = monitor
        self.token = token.encode()
        self.host = host
        self.refusals = refusals
        self.sessions = Sessions(port)
        self.background = Background()
        self.unsent = 0
        """How many bytes of responses wait for clients to read them."""

    def start_request(
        self, server_conn: object, request_conn: httputil.HTTPConnection
    ) -> httputil.HTTPMessageDelegate:
        """Tornado calls this before each request, and then the methods of the object that it returns."""
        return _Handler(self, cast(HTTP1Connection, request_conn))


class _Handler(httputil.HTTPMessageDelegate):
    """One request. Host, token or cookie, and the declared length are checked before its body is read.

    Not a RequestHandler of tornado.web: that refuses unknown methods before any check of ours, and logs them
    with the path and a traceback.
    """

    def __init__(self, requests: Requests, connection: HTTP1Connection) -> None:
        self._requests = requests
        self._connection = connection
        self._stream = cast(Stream, connection.stream)
        self._loop = asyncio.get_running_loop()
        self._request = Request("", "")
        self._body = b""
        self._answered = False
        self._ends_with_connection = False  # as bodies of unknown length did before HTTP/1.1
        self._accepted = ""  # the header Accept-Encoding
        self._more_headers: dict[str, str] = {}

    # -- called by Tornado, in this order --------------------------------------------------------------

    def headers_received(
        self,
        start_line: httputil.RequestStartLine | httputil.ResponseStartLine,
        headers: httputil.HTTPHeaders,
    ) -> None:
        """Check the request; refuse it or wait for its body."""
        start_line = cast(httputil.RequestStartLine, start_line)
        path, _, query = start_line.path.partition("?")
        content_type = headers.get("Content-Type", "")
        self._accepted = headers.get("Accept-Encoding", "")
        self._ends_with_connection = start_line.version == "HTTP/1.0"
        self._request = Request(start_line.method, path, read_query(query), b"", content_type)
        try:
            self._check(headers)
        except Refusal as refusal:
            self._respond(refusal.response)

    def data_received(self, chunk: bytes) -> None:
        """Keep the body up to one byte more than is allowed, which is enough to refuse it."""
        self._body = (self._body + chunk)[: LARGEST_BODY + 1]

    def finish(self) -> None:
        """Answer the request, now that it is complete."""
        if self._answered:
            return
        request = self._request._replace(body=self._body)
        try:
            if api.may_take_long(self._requests.monitor, request):
                self._requests.background.answer(
                    self._requests.monitor, request, self._respond_from_thread, self._send_from_thread
                )
            else:
                self._respond(api.answer(self._requests.monitor, request))
        except Exception:
            # Without the URL, which may contain the token.
            _logger.exception("%s %s failed", request.method, request.path)
            self._respond(json_response({"message": "internal error"}, 500))

    # -- checks ----------------------------------------------------------------------------------------

    def _check(self, headers: httputil.HTTPHeaders) -> None:
        if not is_own_name(headers.get("Host", ""), self._requests.host):
            raise Refusal(403, "Host: is not the name of this server")
        scheme, _, given = headers.get("Authorization", "").partition(" ")
        if scheme.lower() not in ("token", "bearer"):
            given = self._request.query.get("token", "")
        if not is_same(given.strip(), self._requests.token):
            self._check_session(headers)
        elif self._is_entrance():
            self._enter()
        self._stream.trusted = True
        length = headers.get("Content-Length", "0")
        if length.isdecimal() and (len(length) > 9 or int(length) > LARGEST_BODY):
            raise api.too_long()

    def _check_session(self, headers: httputil.HTTPHeaders) -> None:
        """Raise Refusal unless the request comes from the page, with the cookie that it was given."""
        sessions = self._requests.sessions
        if not sessions.has_cookie(headers):
            raise Refusal(401, "token: is missing or wrong; send the header Authorization: token …")
        if self._request.method not in ("GET", "HEAD") and not sessions.is_from_page(headers):
            raise Refusal(403, "X-XSRFToken: is missing or wrong")
        self._more_headers |= sessions.headers_of_page()

    def _is_entrance(self) -> bool:
        request = self._request
        return request.method == "GET" and request.path == page.PAGE and "token" in request.query

    def _enter(self) -> None:
        """Give the browser the cookie, and lead it to the page without the token."""
        self._stream.trusted = True
        self._more_headers |= self._requests.sessions.headers_of_entrance()
        self._respond(page.entrance("perfmon"))

    # -- the response ----------------------------------------------------------------------------------

    def _respond_from_thread(self, response: Response) -> None:
        self._stream.io_loop.add_callback(self._respond, response)  # ignored once the loop is closed

    def _send_from_thread(self, response: Response, part: bytes) -> bool:
        """Send a part of a long body; returns whether the client has read the one before it in time."""
        sending = self._send(response, part)
        try:
            sent = asyncio.run_coroutine_threadsafe(sending, self._loop)
        except RuntimeError:  # the server has been stopped
            sending.close()
            return False
        try:
            sent.result(_READ_SECONDS)
        except Exception:  # noqa: BLE001 - too slow, or the connection was closed
            sent.cancel()
            return False
        return True

    async def _send(self, response: Response, part: bytes) -> None:
        if not self._answered:
            self._answered = True
            self._write_head(response, None)
        await self._connection.write(part)

    def _end_parts(self, response: Response) -> None:
        """End a body that was sent in parts; ``response`` says whether these were all."""
        if response.status == 200:
            self._connection.finish()
        if response.status != 200 or self._ends_with_connection:
            self._stream.close()

    def _respond(self, response: Response) -> None:
        requests = self._requests
        if self._stream.closed():
            return
        if self._answered:
            self._end_parts(response)
            return
        self._answered = True
        response, more = page.compressed(self._request.path, self._accepted, response)
        self._more_headers |= more
        parts = [*response.parts]
        size = sum(map(len, parts))
        if requests.unsent and requests.unsent + size > _MAX_UNSENT:
            response = Refusal(503, "busy: earlier responses are still being read; try again later").response
            parts = [response.body]
            size = len(parts[0])
        if 400 <= response.status < 500:
            requests.refusals.add(f"status {response.status}")
        body = parts if self._request.method != "HEAD" else []
        self._write_head(response, size, *body[:1])  # with the first part, in one system call
        for part in body[1:]:
            self._connection.write(part)
        self._watch(size if body else 0)
        self._connection.finish()

    def _write_head(self, response: Response, size: int | None, first: bytes = b"") -> None:
        """Send what precedes the body, and its first part; without a size the body is sent in chunks."""
        headers = httputil.HTTPHeaders(
            _HEADERS | api.headers(self._request.path, response) | self._more_headers
        )
        if size is not None:
            headers["Content-Length"] = str(size)
        if response.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        reason = http.HTTPStatus(response.status).phrase
        start_line = httputil.ResponseStartLine("HTTP/1.1", response.status, reason)
        self._connection.write_headers(start_line, headers, first or None)

    def _watch(self, size: int) -> None:
        """Count the bytes as unsent until the client has read them; close the connection of a slow one."""
        self._requests.unsent += size
        too_slow = asyncio.get_running_loop().call_later(_READ_SECONDS, self._stream.close)

        def sent(_: object) -> None:
            self._requests.unsent -= size
            too_slow.cancel()

        self._stream.last_write.add_done_callback(sent)
