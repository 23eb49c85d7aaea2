"""What a page and its kernel say to each other, and what the page complains of."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from typing import Any

from playwright.sync_api import ConsoleMessage, Page


@dataclass(frozen=True)
class Frame:
    """One kernel message as it crossed the websocket between browser and server."""

    time: float  # seconds since the epoch, taken by the browser
    sent: bool  # True: browser to kernel
    channel: str  # shell, control, iopub or stdin
    msg_type: str
    parent_type: str  # of the message that this one is about; empty for none
    comm_id: str  # empty where the message belongs to no widget
    size: int  # bytes, envelope and buffers included
    content: dict[str, Any]


def decode_frame(payload: bytes, *, time: float, sent: bool) -> Frame:
    """The message in a binary frame of the protocol v1.kernel.websocket.jupyter.org."""
    # The number of offsets, the offsets, then the parts they bound: channel, header, parent header,
    # metadata, content, buffers. All numbers are 8 bytes, little-endian.
    count = int.from_bytes(payload[:8], "little")
    offsets = [int.from_bytes(payload[8 * i : 8 * i + 8], "little") for i in range(1, count + 1)]
    channel, header, parent, _, content = (payload[offsets[i] : offsets[i + 1]] for i in range(5))
    fields = json.loads(content)
    return Frame(
        time=time,
        sent=sent,
        channel=channel.decode(),
        msg_type=json.loads(header)["msg_type"],
        parent_type=json.loads(parent).get("msg_type", ""),
        comm_id=fields.get("comm_id", ""),
        size=len(payload),
        content=fields,
    )


class Traffic:
    """The kernel messages of a page and the errors on its console, from its making on."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._frames: list[Frame] = []
        self._console_errors: list[str] = []
        self._kernel_sockets: set[str] = set()
        self._clock_offset = 0.0  # from the browser's monotonic clock to seconds since the epoch
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self._console_errors.append(str(error)))
        # The browser's own protocol, because Playwright's websocket events carry no time.
        protocol = page.context.new_cdp_session(page)
        protocol.on("Network.webSocketCreated", self._on_socket)
        protocol.on("Network.webSocketWillSendHandshakeRequest", self._on_handshake)
        protocol.on("Network.webSocketFrameSent", lambda event: self._on_frame(event, sent=True))
        protocol.on("Network.webSocketFrameReceived", lambda event: self._on_frame(event, sent=False))
        protocol.send("Network.enable")

    @property
    def frames(self) -> list[Frame]:
        """Every kernel message so far, in both directions, oldest first."""
        self._catch_up()
        return list(self._frames)

    @property
    def console_errors(self) -> list[str]:
        """Every error so far on the page's console, and every exception nobody caught there."""
        self._catch_up()
        return list(self._console_errors)

    def _catch_up(self) -> None:
        # Playwright delivers events only while one of its calls is waiting.
        if not self._page.is_closed():
            self._page.evaluate("0")

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self._console_errors.append(f"{message.text} ({message.location['url']})")

    def _on_socket(self, event: dict[str, Any]) -> None:
        if re.search(r"/api/kernels/[^/]+/channels", event["url"]):
            self._kernel_sockets.add(event["requestId"])

    def _on_handshake(self, event: dict[str, Any]) -> None:
        self._clock_offset = event["wallTime"] - event["timestamp"]

    def _on_frame(self, event: dict[str, Any], *, sent: bool) -> None:
        # Opcode 2 is a binary frame; the other ones hold no message.
        if event["requestId"] in self._kernel_sockets and event["response"]["opcode"] == 2:
            payload = base64.b64decode(event["response"]["payloadData"])
            time = event["timestamp"] + self._clock_offset
            self._frames.append(decode_frame(payload, time=time, sent=sent))
