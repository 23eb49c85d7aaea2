"""The kernel's end of its control channel: widget messages and HTTP requests, answered while a cell runs."""

from __future__ import annotations

import threading
from typing import Any

import zmq

from perfmon_widgets.jupyter.kernel import current_kernel


def hear_widgets_while_busy() -> bool:
    """Have widget messages on the control channel answered; True where there is such a channel.

    The shell channel waits for the running cell, the control channel is served by a thread of its own. What
    is heard there runs on that thread, which also carries interrupts, so handlers must return at once.
    """
    kernel = current_kernel()
    if kernel is None or not hasattr(kernel, "control_handlers"):
        return False
    kernel.control_handlers.setdefault("comm_msg", kernel.comm_manager.comm_msg)
    return True


def answer_requests() -> None:
    """Have ``perfmon_request`` on the control channel answered; nothing outside a Jupyter kernel.

    The content of a request is that of api.Request, its buffer the body. What is only read is answered at
    once, by a ``perfmon_reply`` with status and content type, and the body as its buffer. Before the reply to
    a request that changes something comes a ``perfmon_heard``, by which whoever asks can tell a slow answer
    from a kernel that does not know the question.

    Such a request is taken out before ipykernel sees it. Around each one that ipykernel handles, it publishes
    that the kernel is busy, then idle: a kernel that runs a cell would be shown as idle (jupyter_client#838),
    and the answer would take twice as long.
    """
    kernel = current_kernel()
    stream = getattr(kernel, "control_stream", None)
    if stream is None:
        return

    def hear(frames: list[Any]) -> Any:
        session = kernel.session
        try:
            identity, parts = session.feed_identities(frames, copy=False)
            header = parts[1].bytes
            ours = b"perfmon_request" in header and session.unpack(header)["msg_type"] == "perfmon_request"
            message = session.deserialize(parts, copy=False) if ours else None
        except (ValueError, LookupError, TypeError):
            message = None  # unsigned, or no message at all: ipykernel says so in its log
        if message is None:
            return kernel.dispatch_control(frames)
        return _answer(kernel, identity, message)

    # A stream belongs to the thread of its loop.
    stream.io_loop.add_callback(stream.on_recv, hear, copy=False)


def _answer(kernel: Any, identity: Any, message: dict[str, Any]) -> None:
    stream = kernel.control_stream

    def send(kind: str, content: dict[str, Any], *buffers: bytes) -> None:
        kernel.session.send(stream, kind, content, message, ident=identity, buffers=list(buffers))
        stream.flush(zmq.POLLOUT)  # else it leaves when the loop comes round

    def reply(response: Any) -> None:
        content = {"status": response.status, "content_type": response.content_type}
        send("perfmon_reply", content, response.body)

    if message["content"]["method"] == "GET":
        reply(_response(message))
        return
    # This thread also carries interrupts, and a log may lie on a slow disk: switched on another one. The
    # reply is sent here again, since a stream belongs to the thread of its loop.
    send("perfmon_heard", {})
    threading.Thread(
        target=lambda: stream.io_loop.add_callback(reply, _response(message)),
        name="perfmon-request",
        daemon=True,
    ).start()


def _response(message: dict[str, Any]) -> Any:
    # Imported when asked: a kernel in which nobody asks does without.
    from perfmon_widgets.core.monitor import running_monitor  # noqa: PLC0415
    from perfmon_widgets.web import api  # noqa: PLC0415

    content = message["content"]
    body = bytes(message["buffers"][0]) if message["buffers"] else b""
    request = api.Request(content["method"], content["path"], content["query"], body, content["content_type"])
    return api.answer(running_monitor(), request)
