"""The kernel's end of its control channel: widget messages and HTTP requests, answered while a cell runs.

ipykernel serves the shell channel on the main thread, where messages wait for the running cell. It serves the
control channel on a thread of its own, for interrupts, shutdown and the debugger. This package must not
disturb these: its work on that thread takes a few milliseconds at most and never raises.

Both kinds of message are intercepted before ipykernel handles them. ipykernel publishes "busy" before and
"idle" after each message that it handles. Front ends would then show a kernel that runs a cell as idle
(jupyter_client#838), and the answer would take twice as long.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from perfmon_widgets.core.parts import Flow
from perfmon_widgets.jupyter import black_box
from perfmon_widgets.jupyter.kernel import current_kernel

if TYPE_CHECKING:
    from perfmon_widgets.core.protocol import Monitor
    from perfmon_widgets.web.background import Background
    from perfmon_widgets.web.request import Request, Response


def hear_widgets_while_busy() -> bool:
    """Handle widget messages on the control channel from now on; returns whether there is such a channel.

    The callbacks of the widgets are then called on the thread of that channel, so they must return at once.
    When they have, the kernel sends ``perfmon_heard`` to the browser.
    """
    kernel = current_kernel()
    if kernel is None or not hasattr(kernel, "control_handlers"):
        return False
    kernel.control_handlers.setdefault("comm_msg", kernel.comm_manager.comm_msg)
    return True


def answer_requests() -> None:
    """Answer ``perfmon_request`` on the control channel from now on; no effect outside a Jupyter kernel.

    The content of a request has the fields of ``web.request.Request``; its first buffer is the body. The
    answer is a ``perfmon_reply``: its content has the status and the content type, its buffer is the body.

    If the metadata of the request has ``"parts": true``, the parts of a long body come before that, each in a
    ``perfmon_part`` of the same form. The client answers each with a ``perfmon_received``, whose content has
    the id of the ``request`` and whether it wants ``more``; a few parts are on their way at most. If the
    status of the reply is another one than that of the parts, these are not the whole body.

    Before an answer that may take long comes a ``perfmon_heard``, so that the client can distinguish a slow
    answer from a kernel that does not know this kind of request.
    """
    kernel = current_kernel()
    stream = getattr(kernel, "control_stream", None)
    if stream is None:
        return
    requests = _Requests(kernel, stream)
    # A stream may be used only on the thread of its event loop.
    stream.io_loop.add_callback(stream.on_recv, requests.hear, copy=False)


class _Requests:
    """Takes the messages of this package out of a kernel's control channel and answers them."""

    def __init__(self, kernel: Any, stream: Any) -> None:
        self._kernel = kernel
        self._stream = stream
        self._background: Background | None = None
        self._flows: dict[str, Flow] = {}
        """Of the requests that are being answered in parts, by the id of the message."""

    def hear(self, frames: list[Any]) -> Any:
        """Handle one message; pass it on to ipykernel, untouched, if it is not for this package."""
        try:
            handle = self._handler(frames)
        except Exception:  # noqa: BLE001 - not signed or not a message: ipykernel writes that into its log
            handle = None
        if handle is None:
            return self._kernel.dispatch_control(frames)
        try:
            handle()
        except Exception:
            # Not raised: the stream would read no further messages. Logged in ipykernel's own log, which goes
            # to the terminal; other logs may be shown below the running cell.
            self._kernel.log.error("perfmon_widgets: cannot handle a control message", exc_info=True)
        return None

    def _handler(self, frames: list[Any]) -> Callable[[], None] | None:
        """Return what handles a message; None if it is not for this package. Raises if it is no message."""
        session = self._kernel.session
        identity, parts = session.feed_identities(frames, copy=False)
        # Checks the signature, too. Without the content the session does not remember the signature, so that
        # ipykernel can read the same message once more.
        message = session.deserialize(parts, content=False, copy=False)
        kind = message["header"]["msg_type"]
        if kind == "shutdown_request":
            # The Jupyter server kills a kernel that is busy when it is asked to end.
            black_box.end()
        widgets = self._kernel.control_handlers.get("comm_msg") == self._kernel.comm_manager.comm_msg
        if kind not in ("perfmon_request", "perfmon_received") and not (kind == "comm_msg" and widgets):
            return None
        try:
            message = session.deserialize(parts, copy=False)
        except Exception:  # noqa: BLE001 - for example nested too deeply; the signature was right
            message["content"] = None
        if kind == "comm_msg":
            return lambda: self._change_widget(identity, message)
        if kind == "perfmon_received":
            return lambda: self._note_receipt(message["content"])
        return lambda: self._answer(identity, message)

    def _change_widget(self, identity: Any, message: dict[str, Any]) -> None:
        kernel = self._kernel
        before = kernel._parent_ident["control"], kernel.get_parent("control")
        # The parent of what the callbacks send, by which the browser recognises the echo of its own change.
        kernel.set_parent(identity, message, channel="control")
        try:
            kernel.comm_manager.comm_msg(self._stream, identity, message)
        finally:
            # A message that ipykernel handles may wait meanwhile, for example one of the debugger.
            kernel.set_parent(*before, channel="control")
            self._send("perfmon_heard", {}, identity, message)

    def _answer(self, identity: Any, message: dict[str, Any]) -> None:
        # Imported when the first request comes: most kernels get none.
        from perfmon_widgets.web import api  # noqa: PLC0415
        from perfmon_widgets.web.background import Background  # noqa: PLC0415
        from perfmon_widgets.web.request import Refusal  # noqa: PLC0415

        identifier = message["header"]["msg_id"]
        flow = Flow()

        def post(kind: str, response: Response, body: bytes) -> None:
            content = {"status": response.status, "content_type": response.content_type}
            self._send(kind, content, identity, message, body)

        def reply(response: Response) -> None:
            self._flows.pop(identifier, None)
            post("perfmon_reply", response, response.body)

        def send(response: Response, part: bytes) -> bool:
            if not flow.wait():
                return False
            self._stream.io_loop.add_callback(post, "perfmon_part", response, part)
            return True

        request, monitor = _request(message), _monitor()
        if request is None:
            reply(Refusal(400, _UNKNOWN_FORM).response)
        elif not api.may_take_long(monitor, request):
            reply(api.answer(monitor, request))
        else:
            self._send("perfmon_heard", {}, identity, message)
            self._background = self._background or Background()
            if _takes_parts(message):
                self._flows[identifier] = flow
            self._background.answer(
                monitor,
                request,
                lambda response: self._stream.io_loop.add_callback(reply, response),
                send if _takes_parts(message) else None,
            )

    def _note_receipt(self, content: Any) -> None:
        """Let another part of an answer be sent, if the message has the right form."""
        if isinstance(content, dict) and isinstance(content.get("request"), str):
            flow = self._flows.get(content["request"])
            if flow is not None:
                flow.received(more=content.get("more") is True)

    def _send(
        self, kind: str, content: dict[str, Any], identity: Any, message: dict[str, Any], *buffers: bytes
    ) -> None:
        """Queue a message; it is sent as soon as the running callback of the event loop has returned.

        ``stream.flush()`` is not called. It would schedule further callbacks, more with each queued message:
        500 requests that arrived together took 11 s instead of 0.4 s.
        """
        self._kernel.session.send(self._stream, kind, content, message, ident=identity, buffers=list(buffers))


_UNKNOWN_FORM = (
    "request: has another form than this kernel knows; install the same version of perfmon_widgets for the "
    "Jupyter server and the kernel"
)


def _request(message: dict[str, Any]) -> Request | None:
    """Return the request in a message; None if its content is wrong. Fields that are missing are empty."""
    from perfmon_widgets.web.request import Request  # noqa: PLC0415

    content = message["content"]
    if not isinstance(content, dict):
        return None
    query = content.get("query", {})
    texts = [content.get(name, "") for name in ("method", "path", "content_type")]
    if not isinstance(query, dict) or not all(isinstance(each, str) for each in (*texts, *query.values())):
        return None
    method, path, content_type = texts
    body = bytes(message["buffers"][0]) if message["buffers"] else b""
    return Request(method, path, query, body, content_type)


def _takes_parts(message: dict[str, Any]) -> bool:
    """Whether the client takes a long body in parts; servers of older versions expect one body."""
    metadata = message["metadata"]
    return isinstance(metadata, dict) and metadata.get("parts") is True


def _monitor() -> Monitor | None:
    """Return the monitor to use where none is given, if it runs; never makes one."""
    from perfmon_widgets.core.shared import existing_monitor  # noqa: PLC0415

    monitor = existing_monitor()
    return monitor if monitor is not None and monitor.running else None
