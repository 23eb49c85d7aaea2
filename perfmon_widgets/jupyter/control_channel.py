"""The Jupyter server's end of a kernel's control channel: what is asked there and how; kernel.py answers."""

from __future__ import annotations

import asyncio
import weakref
from typing import Any, NamedTuple

import zmq

from perfmon_widgets.web import api

# Seconds after which a kernel that has said nothing is asked something else, which every kernel answers.
_DOUBT = 0.5

# Connecting takes as long as asking: the connection waits so many seconds for the next request.
_KEPT = 30.0


class _Question(NamedTuple):
    answer: asyncio.Future[api.Response | None]
    doubt: asyncio.TimerHandle
    """Cancelled when the kernel has said that it has heard the question."""


class ControlChannel:
    """The control channel of one kernel: one connection, on which requests may overlap."""

    def __init__(self, kernel: Any) -> None:
        self._kernel = weakref.ref(kernel)
        self._address: object = None
        self._stream: Any = None
        # By the id of the message. A reply that comes when nobody waits for it any more is not found here.
        self._questions: dict[str, _Question] = {}
        self._closing: asyncio.TimerHandle | None = None

    async def ask(self, request: api.Request, timeout: float) -> api.Response | None:
        """What the kernel answers; None if it does not know this kind of request.

        Raises ConnectionError, which says why, if it has no address or no answer comes within ``timeout``
        seconds.
        """
        kernel: Any = self._kernel()
        self._connect(kernel)
        content = {**request._asdict(), "query": dict(request.query), "body": None}
        message = kernel.session.msg("perfmon_request", content)
        message["buffers"] = [request.body]
        identity = message["header"]["msg_id"]
        loop = asyncio.get_running_loop()
        question = _Question(loop.create_future(), loop.call_later(_DOUBT, self._doubt, identity))
        self._questions[identity] = question
        try:
            self._send(kernel, message)
            return await asyncio.wait_for(question.answer, timeout)
        except asyncio.TimeoutError:
            if not question.doubt.cancelled():
                # The connection may lead nowhere any more, and what has not left yet is better not sent.
                self._close("it has said nothing to an earlier question")
            raise ConnectionError(f"it has said nothing for {timeout:g} seconds") from None
        finally:
            question.doubt.cancel()
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
            self._stream.on_recv(self._hear)

    def _send(self, kernel: Any, message: dict[str, Any]) -> None:
        kernel.session.send(self._stream, message)
        self._stream.flush(zmq.POLLOUT)  # else it leaves when the loop comes round

    def _doubt(self, identity: str) -> None:
        """Ask what every kernel answers, under the same id: a kernel says nothing to what it does not know.

        Messages are heard in order. If the answer to this one comes first, it has not known the other.
        """
        kernel: Any = self._kernel()
        if kernel is not None and self._stream is not None:
            message = kernel.session.msg("kernel_info_request", {})
            message["header"]["msg_id"] = identity
            self._send(kernel, message)

    def _hear(self, frames: list[bytes]) -> None:
        kernel: Any = self._kernel()
        if kernel is None:
            return
        _, parts = kernel.session.feed_identities(frames)
        reply = kernel.session.deserialize(parts)
        question = self._questions.get(reply["parent_header"].get("msg_id"))
        if question is None or question.answer.done():
            return
        if reply["msg_type"] == "perfmon_reply":
            told = reply["content"]
            body = bytes(reply["buffers"][0])
            question.answer.set_result(api.Response(told["status"], told["content_type"], body))
        elif reply["msg_type"] == "perfmon_heard":
            question.doubt.cancel()
        elif not question.doubt.cancelled():
            question.answer.set_result(None)

    def _close(self, reason: str = "the connection was closed") -> None:
        """Close the connection; whoever waits for an answer there is told the reason."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        for question in self._questions.values():
            if not question.answer.done():
                question.answer.set_exception(ConnectionError(reason))

    def _close_later(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._closing is not None:
            self._closing.cancel()
        self._closing = loop.call_later(_KEPT, self._close_unused)

    def _close_unused(self) -> None:
        if not self._questions:
            self._close()
