"""The connection to a kernel's control channel, held against a kernel that replies as each test wants it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import zmq
import zmq.asyncio
from jupyter_client.ioloop.manager import AsyncIOLoopKernelManager

from perfmon_widgets.jupyter import control_channel
from perfmon_widgets.jupyter.control_channel import ControlChannel
from perfmon_widgets.web.request import JSON, Request, Response

pytest_plugins = ["pytest_jupyter.jupyter_core"]

READ = Request("GET", "/api/performance/current", {"since": "x"})
SWITCH = Request("POST", "/api/performance/logging", {}, b'{"enabled": true}', JSON)
LONG = 20.0  # seconds, for what takes a fraction of one


class Heard(NamedTuple):
    sender: tuple[bytes, ...]
    message: dict[str, Any]


class FakeKernel:
    """The kernel's end of the channel, a real socket: hears real messages, replies what a test tells it."""

    def __init__(self) -> None:
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self.manager = AsyncIOLoopKernelManager()
        self.manager.session.key = b"a-key-for-tests"
        self.move()

    def move(self) -> None:
        """Listen at another port, as a kernel may after a restart."""
        self.manager.control_port = self._socket.bind_to_random_port("tcp://127.0.0.1")

    async def hear(self, kind: str = "perfmon_request") -> Heard:
        """The next message; fails the test if it is of another kind, or none."""
        frames = await asyncio.wait_for(self._socket.recv_multipart(), LONG)
        sender, parts = self.manager.session.feed_identities(frames)
        message = self.manager.session.deserialize(parts)
        assert message["msg_type"] == kind
        return Heard(tuple(sender), message)

    async def reply(self, to: Heard, body: bytes = b"", kind: str = "perfmon_reply") -> None:
        session = self.manager.session
        content = {"status": 200, "content_type": "text/plain"}
        message = session.msg(kind, content, parent=to.message)
        await self._socket.send_multipart([*to.sender, *session.serialize(message), body])

    def close(self) -> None:
        self._context.destroy(linger=0)
        self.manager.context.destroy(linger=0)


@pytest.fixture
def kernel(jp_asyncio_loop: asyncio.AbstractEventLoop) -> Iterator[FakeKernel]:
    kernel = FakeKernel()
    yield kernel
    kernel.close()


@pytest.fixture
def channel(kernel: FakeKernel) -> ControlChannel:
    return ControlChannel(kernel.manager)


def asked(channel: ControlChannel, request: Request = READ, timeout: float = LONG) -> asyncio.Task[Any]:
    return asyncio.ensure_future(channel.ask(request, timeout))


async def test_a_question_arrives_whole_and_so_does_the_answer(
    kernel: FakeKernel, channel: ControlChannel
) -> None:
    for request in (READ, SWITCH):
        answer = asked(channel, request)
        heard = await kernel.hear()
        content = dict(heard.message["content"], body=bytes(heard.message["buffers"][0]))
        assert Request(**content) == request
        await kernel.reply(heard, b"\0 any bytes")
        assert await answer == Response(200, "text/plain", b"\0 any bytes")


async def test_fifty_at_once_share_one_connection_and_each_gets_its_own(
    kernel: FakeKernel, channel: ControlChannel
) -> None:
    requests = [Request("GET", f"/{number}") for number in range(50)]
    answers = [asked(channel, request) for request in requests]
    heard = [await kernel.hear() for _ in requests]
    assert len({each.sender for each in heard}) == 1
    for each in reversed(heard):
        await kernel.reply(each, each.message["content"]["path"].encode())
    assert [answer.body.decode() for answer in await asyncio.gather(*answers)] == [r.path for r in requests]


async def test_a_late_answer_is_not_taken_for_that_to_a_later_question(
    kernel: FakeKernel, channel: ControlChannel
) -> None:
    late = asked(channel, SWITCH, timeout=0.2)
    slow = await kernel.hear()
    await kernel.reply(slow, kind="perfmon_heard")
    with pytest.raises(ConnectionError, match=r"no answer within 0\.2 seconds"):
        await late
    answer = asked(channel)
    prompt = await kernel.hear()
    assert prompt.sender == slow.sender  # a kernel that has heard is not silent: the connection is good
    await kernel.reply(slow, b"late")
    await kernel.reply(prompt, b"right")
    assert (await answer).body == b"right"


async def test_a_silent_connection_is_given_up_for_a_new_one(
    kernel: FakeKernel, channel: ControlChannel
) -> None:
    first, second = asked(channel, timeout=0.2), asked(channel)
    silent = await kernel.hear()
    await kernel.hear()
    with pytest.raises(ConnectionError, match=r"no answer within 0\.2 seconds"):
        await first
    with pytest.raises(ConnectionError, match="not answered an earlier request"):
        await second
    answer = asked(channel)
    heard = await kernel.hear()
    assert heard.sender != silent.sender
    await kernel.reply(heard, b"right")
    assert (await answer).body == b"right"


async def test_a_kernel_that_does_not_know_the_question_is_found_out(
    kernel: FakeKernel, channel: ControlChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_channel, "_PROBE_AFTER", 0.05)
    answer = asked(channel)
    await kernel.hear()
    await kernel.reply(await kernel.hear("kernel_info_request"), kind="kernel_info_reply")
    assert await answer is None


@pytest.mark.parametrize("sign", ["perfmon_heard", "perfmon_reply"])
async def test_one_that_was_only_slow_is_not(
    kernel: FakeKernel, channel: ControlChannel, monkeypatch: pytest.MonkeyPatch, sign: str
) -> None:
    monkeypatch.setattr(control_channel, "_PROBE_AFTER", 0.05)
    answer = asked(channel)
    question, doubt = await kernel.hear(), await kernel.hear("kernel_info_request")
    await kernel.reply(question, b"right", kind=sign)
    await kernel.reply(doubt, kind="kernel_info_reply")
    if sign == "perfmon_heard":
        await kernel.reply(question, b"right")
    assert (await answer).body == b"right"


async def test_a_kernel_that_has_moved_is_asked_where_it_is(
    kernel: FakeKernel, channel: ControlChannel
) -> None:
    never = asked(channel)
    await kernel.hear()
    kernel.move()
    answer = asked(channel)
    await kernel.reply(await kernel.hear(), b"right")
    assert (await answer).body == b"right"
    with pytest.raises(ConnectionError, match="restarted"):
        await never


async def test_a_kernel_without_an_address_is_reported(kernel: FakeKernel, channel: ControlChannel) -> None:
    kernel.manager.control_port = 0
    with pytest.raises(ConnectionError, match="gateway"):
        await channel.ask(READ, LONG)


async def test_a_reply_that_is_not_signed_by_the_kernel_is_not_taken(
    kernel: FakeKernel, channel: ControlChannel, caplog: pytest.LogCaptureFixture
) -> None:
    answer = asked(channel)
    heard = await kernel.hear()
    key, kernel.manager.session.key = kernel.manager.session.key, b"another"
    await kernel.reply(heard, b"forged")
    kernel.manager.session.key = key
    await kernel.reply(heard, b"right")
    assert (await answer).body == b"right"
    assert "Invalid Signature" in caplog.text


async def test_the_connection_is_kept_for_a_while_and_then_closed(
    kernel: FakeKernel, channel: ControlChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_channel, "_KEEP_OPEN", 0.1)
    senders = []
    for pause in (0.0, 0.3, 0.0):
        answer = asked(channel)
        # Longer than it is kept: nothing is closed over somebody who waits.
        heard = await kernel.hear()
        await asyncio.sleep(0.15)
        await kernel.reply(heard)
        await answer
        senders.append(heard.sender)
        connection = channel._stream
        await asyncio.sleep(pause)
        assert connection.closed() == bool(pause)
    assert senders[0] == senders[1] != senders[2]


class Client:
    """Takes the parts of a long body."""

    def __init__(self, gone_after: int = 100) -> None:
        self.parts: list[bytes] = []
        self._gone_after = gone_after

    async def send(self, part: Response) -> None:
        assert (part.status, part.content_type) == (200, "text/plain")
        self.parts.append(part.body)
        if len(self.parts) >= self._gone_after:
            raise BrokenPipeError("the client has gone")


async def received(kernel: FakeKernel, asked: Heard) -> bool:
    """The next receipt of a part; returns whether more parts are wanted."""
    content = (await kernel.hear("perfmon_received")).message["content"]
    assert content["request"] == asked.message["header"]["msg_id"]
    return bool(content["more"])


async def test_the_parts_of_a_long_body_are_passed_on_one_by_one(
    kernel: FakeKernel, channel: ControlChannel
) -> None:
    client = Client()
    answer = asyncio.ensure_future(channel.ask(READ, LONG, client.send))
    heard = await kernel.hear()
    assert heard.message["metadata"] == {"parts": True}
    for number, part in enumerate((b"one ", b"two ", b"three")):
        await kernel.reply(heard, part, "perfmon_part")
        assert await received(kernel, heard)
        assert len(client.parts) == number + 1
    await kernel.reply(heard)
    assert await answer == Response(200, "text/plain", b"")
    assert client.parts == [b"one ", b"two ", b"three"]


async def test_who_takes_no_parts_asks_for_none(kernel: FakeKernel, channel: ControlChannel) -> None:
    answer = asked(channel)
    heard = await kernel.hear()
    assert heard.message["metadata"] == {"parts": False}
    await kernel.reply(heard, b"all")
    assert (await answer).body == b"all"


async def test_a_client_that_goes_ends_the_parts(kernel: FakeKernel, channel: ControlChannel) -> None:
    answer = asyncio.ensure_future(channel.ask(READ, LONG, Client(gone_after=1).send))
    heard = await kernel.hear()
    await kernel.reply(heard, b"one ", "perfmon_part")
    assert not await received(kernel, heard)
    with pytest.raises(BrokenPipeError):
        await answer
    # A part that comes too late is ignored, and the next request is answered.
    await kernel.reply(heard, b"two ", "perfmon_part")
    again = asked(channel)
    await kernel.reply(await kernel.hear(), b"right")
    assert (await again).body == b"right"


async def test_the_timeout_counts_from_the_last_part(kernel: FakeKernel, channel: ControlChannel) -> None:
    """A long history takes longer than the whole timeout, and used to be refused."""
    timeout = 2.0  # much longer than a busy machine takes for a part
    client = Client()
    answer = asyncio.ensure_future(channel.ask(READ, timeout, client.send))
    heard = await kernel.hear()
    await kernel.reply(heard, kind="perfmon_heard")
    for _ in range(6):
        await asyncio.sleep(timeout / 4)
        await kernel.reply(heard, b"part", "perfmon_part")
        await received(kernel, heard)
    await kernel.reply(heard)
    await answer
    assert client.parts == 6 * [b"part"]
    late = asyncio.ensure_future(channel.ask(READ, timeout, client.send))
    heard = await kernel.hear()
    await kernel.reply(heard, b"part", "perfmon_part")
    with pytest.raises(ConnectionError, match="no answer within 2 seconds"):
        await late
