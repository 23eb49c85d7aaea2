"""This Jupyter kernel as a place to run in: its control channel, and which cell is running."""

from __future__ import annotations

import threading
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

    The content of a request is that of api.Request, its first buffer the body. At once comes a
    ``perfmon_heard``, by which whoever asks can tell a slow answer from a kernel that does not know the
    question, and then a ``perfmon_reply`` with status and content type, and the body as a buffer.
    """
    kernel = _kernel()
    handlers = getattr(kernel, "control_handlers", None)
    if handlers is None:
        return

    def heard(stream: Any, identity: Any, message: dict[str, Any]) -> None:
        kernel.session.send(stream, "perfmon_heard", {}, message, ident=identity)

        def respond() -> None:
            response = _response(message)
            content = {"status": response.status, "content_type": response.content_type}
            # A stream belongs to the thread of its loop.
            stream.io_loop.add_callback(
                lambda: kernel.session.send(
                    stream, "perfmon_reply", content, message, ident=identity, buffers=[response.body]
                )
            )

        # Not here: this thread also carries interrupts, and a log may lie on a slow disk.
        threading.Thread(target=respond, name="perfmon-request", daemon=True).start()

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
