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


class Background:
    """Answers the slow requests of one server: one that reads and one that writes at a time.

    One, because a long history needs much memory while it is made, and the log has one file. Readers do not
    wait for writers, since a file server that does not respond may hold a writer for long.
    """

    def __init__(self) -> None:
        self._reading = threading.Lock()
        self._writing = threading.Lock()

    def answer(
        self,
        monitor: Monitor | None,
        request: Request,
        reply: Callable[[Response], object],
        send: Callable[[bytes], object] | None = None,
    ) -> None:
        """Return at once; call ``reply`` with the response later, on another thread.

        With ``send``, that is called with each part of a long body as soon as the part is made, and the
        response has an empty body then.

        It is 503 if the request before has taken too long, or if no thread can be started.
        """
        lock = self._reading if request.method == "GET" else self._writing

        def work() -> None:
            if lock.acquire(timeout=_TIMEOUT):
                try:
                    response = _made(monitor, request, send)
                finally:
                    lock.release()
            else:
                response = _busy("an earlier request is still being answered")
            reply(response)

        try:
            threading.Thread(target=work, name="perfmon-request", daemon=True).start()
        except RuntimeError:
            reply(_busy("no thread can be started"))


def _made(monitor: Monitor | None, request: Request, send: Callable[[bytes], object] | None) -> Response:
    """Return the response with all parts of its body made, or sent."""
    response = api.answer(monitor, request)
    if isinstance(response.content, bytes):
        return response
    try:
        if send is None:
            return response._replace(content=[*response.parts])
        for part in response.parts:
            send(part)
    except Exception:  # noqa: BLE001 - api.failed() logs it
        return api.failed(request)
    return response._replace(content=b"")


def _busy(reason: str) -> Response:
    return Refusal(503, f"busy: {reason}; try again later").response
