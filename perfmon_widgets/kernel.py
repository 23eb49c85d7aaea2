"""This Jupyter kernel as a place to run in: its control channel, and which cell is running."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from IPython.core.getipython import get_ipython


class Cell(NamedTuple):
    """The cell that is being executed."""

    identity: str
    """The same for each execution of one cell: the front end's id of it, or else its source."""
    execution: str
    """Another one for each execution."""


def running_cell() -> Cell | None:
    """The cell that is being executed; None outside a Jupyter kernel and while no cell runs."""
    kernel = _kernel()
    message = kernel.get_parent() if kernel is not None else None
    if not message or message["header"].get("msg_type") != "execute_request":
        return None
    identity = message["metadata"].get("cellId") or message["content"]["code"]
    return Cell(identity, message["header"]["msg_id"])


def hear_widgets_while_busy() -> bool:
    """Have widget messages on the control channel answered; True where there is such a channel.

    The shell channel waits for the running cell, the control channel is served by a thread of its own. What
    is heard there runs on that thread, which also carries interrupts, so handlers must return at once.
    """
    kernel = _kernel()
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
    """
    kernel = _kernel()
    handlers = getattr(kernel, "control_handlers", None)
    if handlers is None:
        return

    def heard(stream: Any, identity: Any, message: dict[str, Any]) -> None:
        def send(kind: str, content: dict[str, Any], *buffers: bytes) -> None:
            kernel.session.send(stream, kind, content, message, ident=identity, buffers=list(buffers))

        def answered() -> Callable[[], None]:
            response = _response(message)
            content = {"status": response.status, "content_type": response.content_type}
            return lambda: send("perfmon_reply", content, response.body)

        if message["content"]["method"] == "GET":
            answered()()
            return
        # This thread also carries interrupts, and a log may lie on a slow disk: switched on another one. The
        # reply is sent here again, since a stream belongs to the thread of its loop.
        send("perfmon_heard", {})
        threading.Thread(
            target=lambda: stream.io_loop.add_callback(answered()), name="perfmon-request", daemon=True
        ).start()

    handlers["perfmon_request"] = heard


def _response(message: dict[str, Any]) -> Any:
    # Imported when asked: a kernel in which nobody asks does without.
    from perfmon_widgets import api  # noqa: PLC0415
    from perfmon_widgets.monitor import running_monitor  # noqa: PLC0415

    content = message["content"]
    body = bytes(message["buffers"][0]) if message["buffers"] else b""
    request = api.Request(content["method"], content["path"], content["query"], body, content["content_type"])
    return api.answer(running_monitor(), request)


def _kernel() -> Any:
    """The ipykernel this code runs in, if it does."""
    return getattr(get_ipython(), "kernel", None)
