"""The hub with sockets that are mere lists."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side

from pombo.domain.ids import WorkspaceId
from pombo.realtime import hub as hub_module
from pombo.realtime.hub import Hub, Subscriber
from pombo.realtime.outgoing import STARTS_AGAIN, TOO_SLOW, Outgoing
from pombo.store.event_log import StoredEvent

ACME, OTHER = WorkspaceId(1), WorkspaceId(2)
LIST = "conversations:all"


class Written(list[bytes]):
    """A wire with room for so many frames, which can be made."""

    def __init__(self, room: int = 1000) -> None:
        super().__init__()
        self.room = room
        self.has_room = asyncio.Event()

    def write(self, frame: bytes) -> bool:
        if not self.room:
            self.has_room.clear()
            return False
        self.room -= 1
        self.append(frame)
        return True

    async def until_writable(self) -> None:
        await self.has_room.wait()

    def make_room(self, frames: int) -> None:
        self.room += frames
        self.has_room.set()


def text_of(frame: bytes) -> bytes:
    """By a real client's parser."""
    client = Protocol(Side.CLIENT)
    client.receive_data(frame)
    [received] = client.events_received()
    assert isinstance(received, Frame)
    assert (received.opcode, received.fin) == (Opcode.TEXT, True)
    return bytes(received.data)


class Socket:
    def __init__(self, hub: Hub, *topics: str, workspace: WorkspaceId = ACME, held: bool = False) -> None:
        self.written = Written()
        self.subscriber = Subscriber(workspace, Outgoing(self.written))
        hub.enter(self.subscriber)
        hub.subscribe(self.subscriber, topics, held=held)

    @property
    def frames(self) -> list[dict[str, Any]]:
        return [json.loads(text_of(frame)) for frame in self.written]

    @property
    def heard(self) -> list[tuple[int, list[int]]]:
        """Of each frame its position, and those of its events."""
        frames = self.frames
        return [(frame["position"], [event["position"] for event in frame["events"]]) for frame in frames]


def event(position: int, topic: str = LIST, workspace: WorkspaceId = ACME, data: str = "{}") -> StoredEvent:
    return StoredEvent(workspace, position, topic, "thing.changed", datetime(2026, 11, 25, tzinfo=UTC), data)


async def test_each_socket_hears_its_topics_in_order_as_one_frame_that_reaches_as_far_as_was_read() -> None:
    hub = Hub()
    all_, one, both, none = (Socket(hub, *topics) for topics in ((LIST,), ("messages:7",), (LIST, "messages:7"), ()))
    elsewhere = Socket(hub, LIST, "messages:7", workspace=OTHER)

    hub.publish([event(3), event(4, "messages:7"), event(6), event(7, workspace=OTHER)], 9)

    assert all_.heard == [(9, [3, 6])]
    assert one.heard == [(9, [4])]
    assert both.heard == [(9, [3, 4, 6])]
    assert none.heard == []
    assert elsewhere.heard == [(9, [7])]
    assert hub.position == 9


async def test_a_frame_is_made_once_for_all_who_hear_the_same() -> None:
    hub = Hub()
    sockets = [Socket(hub, LIST) for _ in range(3)]
    hub.publish([event(1), event(2)], 2)
    [first], *others = (socket.written for socket in sockets)
    assert all(frame is first for (frame,) in others)


async def test_an_event_is_shown_with_all_it_has() -> None:
    hub = Hub()
    socket = Socket(hub, LIST)
    hub.publish([event(1, data='{"id": 5, "text": "h\\u00e9"}')], 1)
    [frame] = socket.frames
    assert frame["events"] == [
        {
            "position": 1,
            "topic": LIST,
            "name": "thing.changed",
            "at": "2026-11-25T00:00:00+00:00",
            "data": {"id": 5, "text": "hé"},
        }
    ]


async def test_where_one_event_stands_for_two_topics_a_part_that_ends_between_them_does_not_reach_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hub_module, "_FRAME_SIZE", 200)
    hub = Hub()
    socket = Socket(hub, LIST, "messages:7")
    hub.publish([event(5, "messages:7"), event(6, "messages:7"), event(6)], 9)
    assert socket.heard == [(5, [5]), (5, [6]), (9, [6])]


async def test_large_frames_are_parted_and_each_reaches_up_to_its_last_event(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "_FRAME_SIZE", 400)
    hub = Hub()
    socket = Socket(hub, LIST)
    hub.publish([event(n, data=f'"{"x" * 100}"') for n in range(1, 6)], 8)
    assert socket.heard == [(1, [1]), (2, [2]), (3, [3]), (4, [4]), (8, [5])]


async def test_what_is_held_comes_when_it_is_released_and_what_is_not_held_at_once() -> None:
    hub = Hub()
    socket = Socket(hub, LIST, "messages:8", held=True)
    hub.subscribe(socket.subscriber, ["messages:7"])
    hub.publish([event(1), event(2, "messages:7"), event(3, "messages:8")], 3)
    hub.publish([event(4)], 4)
    assert socket.heard == [(3, [2])]
    hub.release(socket.subscriber, [LIST, "messages:8"])
    hub.publish([event(5)], 5)
    assert socket.heard == [(3, [2]), (4, [1, 3, 4]), (5, [5])]


async def test_whoever_unsubscribes_or_leaves_hears_nothing_more() -> None:
    hub = Hub()
    one, other = Socket(hub, LIST, "messages:7"), Socket(hub, LIST)
    hub.unsubscribe(one.subscriber, [LIST, "messages:9"])
    hub.leave(other.subscriber)
    hub.publish([event(1), event(2, "messages:7")], 2)
    assert (one.heard, other.heard) == ([(2, [2])], [])
    hub.leave(one.subscriber)
    hub.leave(one.subscriber)
    assert hub.workspaces == []
    assert hub.count(ACME) == 0


async def test_something_of_the_moment_goes_to_who_follows_its_topic() -> None:
    hub = Hub()
    one, other = Socket(hub, "messages:7"), Socket(hub, "messages:8")
    hub.tell(ACME, "messages:7", b"typing")
    hub.tell(OTHER, "messages:7", b"typing")
    assert (one.written, other.written) == ([b"typing"], [])


async def test_positions_that_step_back_close_every_socket() -> None:
    hub = Hub()
    sockets = [Socket(hub, LIST), Socket(hub, LIST, workspace=OTHER)]
    hub.publish([event(5)], 5)
    hub.publish([event(3)], 3)
    assert [socket.subscriber.outgoing.closing.result().code for socket in sockets] == [STARTS_AGAIN] * 2
    assert hub.position == 3
    # Nothing that follows is put behind a gap.
    assert sockets[0].heard == [(5, [5])]


async def test_whoever_waits_for_a_position_goes_on_when_it_is_reached() -> None:
    hub = Hub()
    waiting = asyncio.create_task(hub.reached(2))
    hub.publish([], 1)
    await asyncio.sleep(0)
    assert not waiting.done()
    hub.publish([], 2)
    async with asyncio.timeout(5):
        await waiting


async def test_too_much_that_waits_closes_the_socket_and_keeps_what_was_there() -> None:
    written = Written(room=0)
    outgoing = Outgoing(written, most_waiting=10)
    for frame in (b"12345", b"67890", b"x", b"y"):
        outgoing.put(frame)
    assert outgoing.closing.result().code == TOO_SLOW
    async with carrying(outgoing):
        written.make_room(9)
        await outgoing.emptied()
        await asyncio.sleep(0)
    assert written == [b"12345", b"67890"]


async def test_one_frame_may_be_larger_than_all_that_may_wait() -> None:
    written = Written(room=0)
    outgoing = Outgoing(written, most_waiting=10)
    outgoing.put(b"x" * 100)
    assert not outgoing.closing.done()
    async with carrying(outgoing):
        written.make_room(1)
        await outgoing.emptied()
    assert written == [b"x" * 100]


async def test_frames_keep_their_order_when_some_of_them_had_to_wait() -> None:
    written = Written(room=1)
    outgoing = Outgoing(written)
    for frame in (b"1", b"2", b"3"):
        outgoing.put(frame)
    assert written == [b"1"]
    async with carrying(outgoing):
        # Room for one of two: what is put now goes behind the other.
        written.make_room(1)
        while len(written) < 2:
            await asyncio.sleep(0)
        outgoing.put(b"4")
        written.make_room(9)
        await outgoing.emptied()
    outgoing.put(b"5")
    assert written == [b"1", b"2", b"3", b"4", b"5"]


async def test_emptied_returns_when_the_last_frame_was_taken_or_the_socket_closes() -> None:
    written = Written(room=0)
    outgoing = Outgoing(written)
    outgoing.put(b"one")
    outgoing.put(b"two")
    emptied = asyncio.create_task(outgoing.emptied())
    async with carrying(outgoing):
        written.make_room(1)
        while not written:
            await asyncio.sleep(0)
        assert not emptied.done()
        written.make_room(1)
        await emptied
    outgoing.put(b"three")
    closing = asyncio.create_task(outgoing.emptied())
    outgoing.close(1000, "")
    async with asyncio.timeout(5):
        await closing


@asynccontextmanager
async def carrying(outgoing: Outgoing) -> AsyncIterator[None]:
    task = asyncio.create_task(outgoing.carry())
    try:
        async with asyncio.timeout(5):
            yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
