"""A real Jupyter kernel, and a client of it that sends and hears what a front end does."""

from __future__ import annotations

import ast
import queue
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager
from jupyter_client.session import DELIM

DEADLINE = 20.0  # seconds, for what takes a fraction of one

# Of two cells with one number IPython 8 complains in the middle of what they print; and what tests execute
# is nothing that the developer wants to find again.
NO_HISTORY = ["--HistoryManager.enabled=False"]

BUSY = """
import time
print("running")
end = time.monotonic() + 60
while time.monotonic() < end:
    pass
"""


class Kernel:
    """A real ipykernel and a client of it; by default the one of this environment."""

    def __init__(self, folder: Path, name: str = "python3", kernelspecs: Path | None = None) -> None:
        self.folder = folder
        self.errors = folder / "stderr.txt"
        self._manager = KernelManager(kernel_name=name)
        if kernelspecs is not None:
            self._manager.kernel_spec_manager = KernelSpecManager(kernel_dirs=[str(kernelspecs)])
        with self.errors.open("wb") as errors:
            # Not stdout too: the kernel's own output goes over the wire.
            self._manager.start_kernel(
                extra_arguments=NO_HISTORY, cwd=str(folder), stdout=subprocess.DEVNULL, stderr=errors
            )
        self._client: BlockingKernelClient = self._manager.client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=60)
        self._replies: dict[str, dict[str, Any]] = {}
        self._executing: set[str] = set()  # the requests whose reply has not been read

    def start(self, code: str, cell: str | None = None, **more: object) -> str:
        """Begin to execute code, as the cell of that id; returns the id of the request."""
        content = {
            "code": code,
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": False,
            "stop_on_error": True,
            **more,
        }
        metadata = {} if cell is None else {"cellId": cell}
        message = self._client.session.msg("execute_request", content, metadata=metadata)
        self._client.shell_channel.send(message)
        request = str(message["header"]["msg_id"])
        self._executing.add(request)
        return request

    def finish(self, request: str) -> dict[str, Any]:
        """The reply to a request, waited for."""
        self._wait_for_reply(request)
        return self._replies.pop(request)

    def _wait_for_reply(self, request: str) -> None:
        while request in self._executing:
            reply = self._client.get_shell_msg(timeout=DEADLINE)
            answered = reply["parent_header"].get("msg_id", "")
            self._executing.discard(answered)
            self._replies[answered] = dict(reply["content"])

    def run(self, code: str, cell: str | None = None) -> Any:
        """What the last expression of the code is, a literal; fails the test if the code fails."""
        before, _, last = code.strip().rpartition("\n")
        request = self.start(f"{before}\nprint(repr(({last})))", cell)
        printed = [
            message["content"]["text"]
            for message in self.messages(request)
            if message["msg_type"] == "stream" and message["parent_header"].get("msg_id") == request
        ]
        reply = self.finish(request)
        assert reply["status"] == "ok", "\n".join(reply.get("traceback", ()))
        return ast.literal_eval("".join(printed))

    def start_busy(self) -> str:
        """Begin to execute Python code without end, and wait until it runs: an interrupt before is lost."""
        request = self.start(BUSY, "training", stop_on_error=False)
        self.published(
            lambda message: (
                message["msg_type"] == "stream" and message["parent_header"].get("msg_id") == request
            ),
            "that the cell runs",
        )
        return request

    def execute(self, code: str, cell: str | None = None) -> None:
        """Execute code as it stands, until it has ended; fails the test if it fails."""
        reply = self.finish(self.start(code, cell))
        while reply["status"] == "aborted":  # as all that waits a moment after a cell that was interrupted
            reply = self.finish(self.start(code, cell))
        assert reply["status"] == "ok", "\n".join(reply.get("traceback", ()))

    def execute_all(self, sources: Sequence[str]) -> None:
        """Execute cells one right after the other, as Run All does; fails the test if one fails.

        They are sent while a first cell sleeps: see `messages` for what may become of a request that
        arrives beside a reply.
        """
        requests = [self.start(source) for source in ["import time\ntime.sleep(0.2)", *sources]]
        for request in requests:
            assert self.finish(request)["status"] == "ok"

    def messages(self, request: str) -> Iterator[dict[str, Any]]:
        """What the kernel publishes until that request has been executed, of others too.

        Ends when the reply to a cell is there. A request that ipykernel 7.0 to 7.3 receives while it
        sends a reply may never be read (https://github.com/ipython/ipykernel/issues/1554).
        """
        while True:
            message = self._next_published()
            yield message
            done = message["msg_type"] == "status" and message["content"]["execution_state"] == "idle"
            if done and message["parent_header"].get("msg_id") == request:
                self._wait_for_reply(request)
                return

    def _next_published(self) -> dict[str, Any]:
        """The next message, waited for; fails the test at once if the kernel is dead."""
        deadline = time.monotonic() + DEADLINE
        while True:
            try:
                return dict(self._client.get_iopub_msg(timeout=1))
            except queue.Empty:
                status = self._manager.provisioner.process.poll()
                assert status is None, f"the kernel is dead, exit status {status}: {self.errors.read_text()}"
                assert time.monotonic() < deadline, f"nothing was published within {DEADLINE} s"

    def forget_messages(self) -> None:
        """Leave out what has been published so far."""
        try:
            while True:
                self._client.get_iopub_msg(timeout=0)
        except queue.Empty:
            pass

    def published(self, wanted: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        """The next message like this, waited for."""
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            try:
                message = self._client.get_iopub_msg(timeout=0.5)
            except queue.Empty:
                continue
            if wanted(message):
                return dict(message)
        raise AssertionError(f"{what} was not published within {DEADLINE} s")

    def tell(self, channel: str, widget: str, **data: object) -> str:
        """Send to a widget (its comm_id) what a browser sends; returns the id of the message."""
        message = self._client.session.msg("comm_msg", {"comm_id": widget, "data": data})
        {"control": self._client.control_channel, "shell": self._client.shell_channel}[channel].send(message)
        return str(message["header"]["msg_id"])

    def change(self, channel: str, widget: str, **state: object) -> str:
        """Send what a browser sends when a person changes a control; returns the message's id."""
        return self.tell(channel, widget, method="update", state=state, buffer_paths=[])

    def ask(self, kind: str, content: dict[str, Any], key: bytes | None = None) -> str:
        """Ask something over the control channel, signed by that key; returns the id of the request."""
        session = self._client.session
        right, session.key = session.key, key or session.key
        message = session.msg(kind, content)
        self._client.control_channel.send(message)
        session.key = right
        return str(message["header"]["msg_id"])

    def ask_raw(self, kind: str, content: object, buffers: Sequence[bytes] = (), **parts: bytes) -> str:
        """Send a signed message over the control channel whose content, or other part, may be nonsense.

        ``content`` is JSON, or bytes to be sent as they are. Returns the id of the message.
        """
        session = self._client.session
        message = session.msg(kind)
        whole = {name: message[name] for name in ("header", "parent_header", "metadata")} | {
            "content": content
        }
        packed = [
            value if isinstance(value, bytes) else session.pack(value) for value in (whole | parts).values()
        ]
        frames = [DELIM, session.sign(packed), *packed, *buffers]
        self._client.control_channel.socket.send_multipart(frames)
        return str(message["header"]["msg_id"])

    def replies(self, last: str) -> dict[str, dict[str, Any]]:
        """The replies on the control channel up to that to the last request, by the id of the request."""
        replies: dict[str, dict[str, Any]] = {}
        while last not in replies:
            reply = self._client.get_control_msg(timeout=DEADLINE)
            replies[reply["parent_header"].get("msg_id")] = reply
        return replies

    def has_answered(self) -> bool:
        """Whether an unread reply has arrived."""
        return bool(self._client.shell_channel.msg_ready())

    @property
    def process(self) -> int:
        """The id of the kernel's process."""
        return int(self._manager.provisioner.pid)

    @property
    def connection_file(self) -> Path:
        """The file that tells clients how to reach the kernel; it outlives a restart."""
        return Path(self._manager.connection_file)

    def wait_until_dead(self) -> int:
        """Wait for the end of the kernel's process; returns its exit status, negative for a signal."""
        return int(self._manager.provisioner.process.wait(timeout=60))

    def restart(self, *, now: bool) -> None:
        """Start another process of this kernel: ``now`` as a server does when the former one has died."""
        self._client.stop_channels()
        with self.errors.open("ab") as errors:
            self._manager.restart_kernel(now=now, stderr=errors)
        self._client = self._manager.client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=60)

    def interrupt(self) -> None:
        self._manager.interrupt_kernel()

    def shut_down(self) -> int:
        """Ask the kernel to end, as closing a notebook does; its exit status."""
        process = self._manager.provisioner.process
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=False)
        return int(process.returncode)
