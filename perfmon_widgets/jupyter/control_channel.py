"""The Jupyter server's end of a kernel's control channel; requests.py is the kernel's end."""

from __future__ import annotations

import asyncio
import weakref
from typing import Any, NamedTuple

from perfmon_widgets.web.request import Request, Response

# After this many seconds without a message from the kernel, also send a request that every kernel answers.
_PROBE_AFTER = 0.5

# Connecting takes as long as a request, so the connection is kept for this many seconds.
_KEEP_OPEN = 30.0


class _Question(NamedTuple):
    """A request that has been sent and not been answered yet."""

    answer: asyncio.Future[Response | None]
    probe: asyncio.TimerHandle
    """Sends the second request; cancelled when the kernel confirms that it has received the first."""
    parts: list[bytes]
    """What has come of a long body."""


class ControlChannel:
    """The control channel of one kernel: one connection, on which requests may overlap."""

    def __init__(self, kernel: Any) -> None:
        self._kernel = weakref.ref(kernel)
        self._address: object = None
        self._stream: Any = None
        # By the id of the message. A reply that comes after the timeout finds no entry here.
        self._questions: dict[str, _Question] = {}
        self._closing: asyncio.TimerHandle | None = None

    async def ask(self, request: Request, timeout: float) -> Response | None:
        """Return the kernel's response; None if the kernel does not know this kind of request.

        Raises ConnectionError, with the reason, if the kernel has no address, or sends neither an answer nor
        a part of one within ``timeout`` seconds.
        """
        kernel: Any = self._kernel()
        self._connect(kernel)
        content = {**request._asdict(), "query": dict(request.query), "body": None}
        message = kernel.session.msg("perfmon_request", content, metadata={"parts": True})
        message["buffers"] = [request.body]
        identity = message["header"]["msg_id"]
        loop = asyncio.get_running_loop()
        question = _Question(loop.create_future(), loop.call_later(_PROBE_AFTER, self._probe, identity), [])
        self._questions[identity] = question
        try:
            kernel.session.send(self._stream, message)
            return await _answered(question, timeout)
        except asyncio.TimeoutError:
            if not question.probe.cancelled():
                # The connection may be broken. Requests that wait in it must not be sent later.
                self._close("it has not answered an earlier request")
            raise ConnectionError(f"no answer within {timeout:g} seconds") from None
        finally:
            question.probe.cancel()
            del self._questions[identity]
            self._close_later(loop)

    def _connect(self, kernel: Any) -> None:
        address = (kernel.transport, kernel.ip, kernel.control_port)
        if address != self._address:
            self._close("it has been restarted")
        if self._stream is None:
            if not kernel.control_port:
                raise ConnectionError("it is behind a gateway, or being started")
            self._address = address
            self._stream = kernel.connect_control()
            self._stream.socket.linger = 0
            self._stream.on_recv(self._receive)

    def _probe(self, identity: str) -> None:
        """Send a second request, with the same id, that every kernel answers.

        A kernel does not answer a request that it does not know, and it reads its messages in order. So if
        the answer to this second request comes first, the kernel does not know the first one.
        """
        kernel: Any = self._kernel()
        if kernel is not None and self._stream is not None:
            message = kernel.session.msg("kernel_info_request", {})
            message["header"]["msg_id"] = identity
            kernel.session.send(self._stream, message)

    def _receive(self, frames: list[bytes]) -> None:
        kernel: Any = self._kernel()
        if kernel is None:
            return
        _, parts = kernel.session.feed_identities(frames)
        reply = kernel.session.deserialize(parts)
        question = self._questions.get(reply["parent_header"].get("msg_id"))
        if question is None or question.answer.done():
            return
        if reply["msg_type"] == "perfmon_reply":
            content = reply["content"]
            body = bytes(reply["buffers"][0]) or question.parts or b""
            question.answer.set_result(Response(content["status"], content["content_type"], body))
        elif reply["msg_type"] == "perfmon_part":
            question.probe.cancel()
            question.parts.append(bytes(reply["buffers"][0]))
        elif reply["msg_type"] == "perfmon_heard":
            question.probe.cancel()
        elif not question.probe.cancelled():
            question.answer.set_result(None)

    def _close(self, reason: str = "the connection was closed") -> None:
        """Close the connection; requests that wait for an answer there fail with the reason."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        for question in self._questions.values():
            if not question.answer.done():
                question.answer.set_exception(ConnectionError(reason))

    def _close_later(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._closing is not None:
            self._closing.cancel()
        self._closing = loop.call_later(_KEEP_OPEN, self._close_unused)

    def _close_unused(self) -> None:
        if not self._questions:
            self._close()


async def _answered(question: _Question, timeout: float) -> Response | None:
    """Return the answer; raises TimeoutError if no part of it comes for ``timeout`` seconds."""
    while True:
        before = len(question.parts)
        try:
            # Shielded, since the answer must not be cancelled while its parts are coming.
            return await asyncio.wait_for(asyncio.shield(question.answer), timeout)
        except asyncio.TimeoutError:
            if len(question.parts) == before:
                question.answer.cancel()
                raise
