"""Answers that may take long, each on a thread of its own, so that the thread of a server stays free."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from perfmon_widgets.web import api
from perfmon_widgets.web.request import Refusal, Request, Response

if TYPE_CHECKING:
    from perfmon_widgets.core.protocol import Monitor

# How many seconds a request waits for the one before it; the Jupyter server waits 5 s for the answer.
_TIMEOUT = 4.0

Send = Callable[[Response, bytes], bool]
"""Sends a part of a long body; called with the response, whose content is not to be read, and the part.

Waits until the reader can take it. Returns False if that takes too long or the reader has gone.
"""


class Background:
    """Answers the slow requests of one server: one that reads and one that writes at a time.

    One, because a history is copied to be read, and the log has one file. Readers do not wait for writers,
    since a file server that does not respond may hold a writer for long. A long history is sent to one client
    at a time, at the pace at which it reads. A second one waits for some seconds, and is then refused with
    503; short answers do not wait for either.
    """

    def __init__(self) -> None:
        self._reading = threading.Lock()
        self._writing = threading.Lock()
        self._sending = threading.Lock()

    def answer(
        self,
        monitor: Monitor | None,
        request: Request,
        reply: Callable[[Response], object],
        send: Send | None = None,
    ) -> None:
        """Return at once; call ``reply`` with the response later, on another thread.

        With ``send``, each part of a long body goes to ``send`` as soon as it is made, and ``reply`` then
        gets an empty body. If the status of that response is not the one that the parts had, they are not the
        whole body.

        The status is 503 if earlier requests take too long, if the parts are read too slowly, or if no thread
        can be started.
        """
        lock = self._reading if request.method == "GET" else self._writing

        def work() -> None:
            response = _in_turn(lock, lambda: api.answer(monitor, request))
            if not isinstance(response.content, bytes):
                # It holds a copy of the history, and is made anew when it is its turn.
                del response
                response = _in_turn(self._sending, lambda: _sent(monitor, request, send))
            reply(response)

        try:
            threading.Thread(target=work, name="perfmon-request", daemon=True).start()
        except RuntimeError:
            reply(_busy("no thread can be started"))


def _in_turn(lock: threading.Lock, make: Callable[[], Response]) -> Response:
    """Return what ``make`` returns, once the lock is free; a refusal if that takes too long."""
    if not lock.acquire(timeout=_TIMEOUT):
        return _busy("an earlier request is still being answered")
    try:
        return make()
    finally:
        lock.release()


def _sent(monitor: Monitor | None, request: Request, send: Send | None) -> Response:
    """Return the response with all parts of its body made, or sent."""
    response = api.answer(monitor, request)
    if isinstance(response.content, bytes):
        return response
    try:
        if send is None:
            return response._replace(content=[*response.parts])
        for part in response.parts:
            if not send(response, part):
                return _busy("the parts of the body are read too slowly")
    except Exception:  # noqa: BLE001 - api.failed() logs it
        return api.failed(request)
    return response._replace(content=b"")


def _busy(reason: str) -> Response:
    return Refusal(503, f"busy: {reason}; try again later").response
