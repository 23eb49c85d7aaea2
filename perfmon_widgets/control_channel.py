"""The Jupyter server's end of a kernel's control channel: what is asked there and how; kernel.py answers."""

from __future__ import annotations

import asyncio
import queue
import weakref
from typing import Any

import zmq.asyncio
from jupyter_client.asynchronous.client import AsyncKernelClient

from perfmon_widgets import api

# Seconds after which a kernel that has said nothing is asked something else, which every kernel answers.
_DOUBT = 0.5

# Connecting takes as long as asking: connections wait so many seconds for the next request, and so many wait.
_KEPT = 30.0
_MOST_KEPT = 4


class ControlChannel:
    """The control channel of one kernel. Requests may overlap: each has a connection of its own."""

    def __init__(self, kernel: Any) -> None:
        self._kernel = weakref.ref(kernel)
        self._idle: list[AsyncKernelClient] = []
        self._address: object = None
        self._closing: asyncio.TimerHandle | None = None
        weakref.finalize(self, _close, self._idle)

    async def ask(self, request: api.Request, timeout: float) -> api.Response | None:
        """What the kernel answers; None if it does not know this kind of request.

        Raises asyncio.TimeoutError if it has not answered within ``timeout`` seconds, and ConnectionError if
        it has no address that leads to it.
        """
        client = self._connect()
        try:
            response = await asyncio.wait_for(_converse(client, request), timeout)
        except BaseException:
            _close([client])  # the answer may come yet, and would be taken for that to another request
            raise
        self._keep(client)
        return response

    def _connect(self) -> AsyncKernelClient:
        kernel = self._kernel()
        address: Any = kernel.get_connection_info() if kernel is not None else {}
        if address != self._address:  # the kernel was restarted
            _close(self._idle)
            self._address = address
        if self._idle:
            return self._idle.pop()
        if not address.get("control_port"):
            raise ConnectionError("a kernel behind a gateway, or one that is being started")
        # A session of its own: two connections of one identity would take each other's answers.
        client = AsyncKernelClient(context=zmq.asyncio.Context.instance())
        client.load_connection_info(address)
        return client

    def _keep(self, client: AsyncKernelClient) -> None:
        self._idle.append(client)
        _close(self._idle, keep=_MOST_KEPT)
        if self._closing is not None:
            self._closing.cancel()
        self._closing = asyncio.get_running_loop().call_later(_KEPT, _close, self._idle)


def _close(clients: list[AsyncKernelClient], keep: int = 0) -> None:
    while len(clients) > keep:
        clients.pop(0).control_channel.stop()


async def _converse(client: Any, request: api.Request) -> api.Response | None:
    channel, session = client.control_channel, client.session
    content = {**request._asdict(), "query": dict(request.query), "body": None}
    question = session.msg("perfmon_request", content)
    question["buffers"] = [request.body]
    # A kernel says nothing to what it does not know, but every kernel answers this. Messages are heard in
    # order, so if the answer to this one comes first, it has not known the other.
    doubt = session.msg("kernel_info_request", {})
    channel.send(question)
    heard = doubted = False
    while True:
        try:
            reply = await channel.get_msg(timeout=None if heard or doubted else _DOUBT)
        except queue.Empty:
            channel.send(doubt)
            doubted = True
            continue
        parent = reply["parent_header"].get("msg_id")
        if parent == question["header"]["msg_id"]:
            if reply["msg_type"] == "perfmon_reply":
                told = reply["content"]
                return api.Response(told["status"], told["content_type"], bytes(reply["buffers"][0]))
            heard = True
        elif parent == doubt["header"]["msg_id"] and not heard:
            return None
