"""The Jupyter server's end of a kernel's control channel; requests.py is the kernel's end."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, TypeAlias

from perfmon_widgets.web.request import Request, Response

# After this many seconds without a message from the kernel, also send a request that every kernel answers.
_PROBE_AFTER = 0.5

# Connecting takes as long as a request, so the connection is kept for this many seconds.
_KEEP_OPEN = 30.0


Send: TypeAlias = Callable[[Response], Awaitable[None]]
"""Sends a part of a long body to the client; called with the response, its content is the part."""


class _Message(NamedTuple):
    """What the kernel has sent for a request."""

    response: Response
    is_part: bool
    """Whether it is a part of a long body; otherwise it is the last message."""


class _Question(NamedTuple):
    """A request that has been sent and not been answered yet."""

    messages: asyncio.Queue[_Message | ConnectionError | None]
    """None: the kernel does not know this kind of request."""
    probe: asyncio.TimerHandle
    """Sends the second request; cancelled when the kernel confirms that it has received the first."""


class ControlChannel:
    """The control channel of one kernel: one connection, on which requests may overlap."""

    def __init__(self, kernel: Any) -> None:
        self._kernel = weakref.ref(kernel)
        self._address: object = None
        self._stream: Any = None
        # By the id of the message. A reply that comes after the timeout finds no entry here.
        self._questions: dict[str, _Question] = {}
        self._closing: asyncio.TimerHandle | None = None

    async def ask(self, request: Request, timeout: float, send: Send | None = None) -> Response | None:
        """Return the kernel's response; None if the kernel does not know this kind of request.

        With ``send``, each part of a long body is passed to ``send``, and the next one is asked for when that
        has returned; the response then has an empty body. If its status is not the one that the parts had,
        they are not the whole body. Raises what ``send`` raises.

        Raises ConnectionError, with the reason, if the kernel has no address, or sends neither an answer nor
        a part of one within ``timeout`` seconds.
        """
        kernel: Any = self._kernel()
        self._connect(kernel)
        content = {**request._asdict(), "query": dict(request.query), "body": None}
        message = kernel.session.msg("perfmon_request", content, metadata={"parts": send is not None})
        message["buffers"] = [request.body]
        identity = message["header"]["msg_id"]
        loop = asyncio.get_running_loop()
        question = _Question(asyncio.Queue(), loop.call_later(_PROBE_AFTER, self._probe, identity))
        self._questions[identity] = question
        try:
            kernel.session.send(self._stream, message)
            while True:
                heard = await asyncio.wait_for(question.messages.get(), timeout)
                if isinstance(heard, ConnectionError):
                    raise heard
                if heard is None or not heard.is_part or send is None:
                    return heard and heard.response
                await self._pass_on(heard.response, send, identity)
        except asyncio.TimeoutError:
            if not question.probe.cancelled():
                # The connection may be broken. Requests that wait in it must not be sent later.
                self._close("it has not answered an earlier request")
            raise ConnectionError(f"no answer within {timeout:g} seconds") from None
        finally:
            question.probe.cancel()
            del self._questions[identity]
            self._close_later(loop)

    async def _pass_on(self, part: Response, send: Send, identity: str) -> None:
        """Send a part to the client, and the receipt to the kernel."""
        more = False
        try:
            await send(part)
            more = True
        finally:
            kernel: Any = self._kernel()
            if kernel is not None and self._stream is not None:
                receipt = kernel.session.msg("perfmon_received", {"request": identity, "more": more})
                kernel.session.send(self._stream, receipt)

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
        if question is None:
            return
        if reply["msg_type"] in ("perfmon_reply", "perfmon_part"):
            question.probe.cancel()
            content = reply["content"]
            response = Response(content["status"], content["content_type"], bytes(reply["buffers"][0]))
            question.messages.put_nowait(_Message(response, reply["msg_type"] == "perfmon_part"))
        elif reply["msg_type"] == "perfmon_heard":
            question.probe.cancel()
        elif not question.probe.cancelled():
            question.messages.put_nowait(None)

    def _close(self, reason: str = "the connection was closed") -> None:
        """Close the connection; requests that wait for an answer there fail with the reason."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        for question in self._questions.values():
            question.messages.put_nowait(ConnectionError(reason))

    def _close_later(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._closing is not None:
            self._closing.cancel()
        self._closing = loop.call_later(_KEEP_OPEN, self._close_unused)

    def _close_unused(self) -> None:
        if not self._questions:
            self._close()
