"""A comm that records what would cross to the browser, and plays the browser's part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import comm
import ipywidgets
import pytest
from comm.base_comm import BaseComm


class Message(NamedTuple):
    """One message from the kernel to the browser."""

    comm_id: str
    kind: str
    """``comm_open``, ``comm_msg`` or ``comm_close``."""
    data: Mapping[str, Any]
    buffers: Sequence[Any]
    """bytes or memoryview."""

    @property
    def state(self) -> Mapping[str, Any]:
        """The traits that it carries, those sent as buffers left out."""
        return self.data.get("state", {})


class Wire:
    """Everything that the widgets made from now on, for the length of one test, say to the browser."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.messages: list[Message] = []
        self.on_send: Callable[[Message], object] | None = None
        """Called with each message before it is recorded; what it raises, the send raises."""
        monkeypatch.setattr(comm, "create_comm", lambda **options: _RecordingComm(self, **options))

    def sent(self, *kinds: str) -> list[Message]:
        """The messages since the last call of clear(), of these kinds or of all."""
        return [message for message in self.messages if not kinds or message.kind in kinds]

    def to(self, widget: ipywidgets.Widget) -> list[Message]:
        """The messages to this widget's models."""
        return [message for message in self.messages if message.comm_id == widget.comm.comm_id]

    def count(self) -> Counter[str]:
        """How many messages went to each widget, by comm_id."""
        return Counter(message.comm_id for message in self.messages)

    def clear(self) -> None:
        """Forget what was recorded."""
        self.messages.clear()

    def set(self, widget: ipywidgets.Widget, **state: object) -> None:
        """What a browser sends when a person changes a control; answered on the calling thread."""
        self._deliver(widget, {"method": "update", "state": state, "buffer_paths": []})

    def ask(self, widget: ipywidgets.Widget, **content: object) -> None:
        """A message of its own kind from a browser."""
        self._deliver(widget, {"method": "custom", "content": content})

    def _deliver(self, widget: ipywidgets.Widget, data: Mapping[str, object]) -> None:
        widget.comm.handle_msg({"content": {"data": data}, "buffers": []})


class _RecordingComm(BaseComm):
    def __init__(self, wire: Wire, **options: Any) -> None:
        self._wire = wire
        super().__init__(**options)

    def publish_msg(
        self,
        msg_type: str,
        data: Any = None,
        metadata: Any = None,
        buffers: Any = None,
        **_: Any,
    ) -> None:
        message = Message(self.comm_id, msg_type, data or {}, tuple(buffers or ()))
        if self._wire.on_send is not None:
            self._wire.on_send(message)
        self._wire.messages.append(message)
