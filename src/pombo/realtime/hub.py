"""Who of this process listens to what, and the delivery of events to them. Nothing here waits."""

import asyncio
from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import attrgetter

import msgspec

from pombo.domain.ids import WorkspaceId
from pombo.realtime.frames import packed
from pombo.realtime.outgoing import STARTS_AGAIN, TOO_SLOW, Outgoing
from pombo.store.event_log import StoredEvent

# Larger frames are parted: the event loop, and a browser's, should not be held for long by one.
_FRAME_SIZE = 128 * 1024
# Events held for one subscription over the last leg of its resumption: milliseconds, unless the browser does not read.
_MOST_HELD = 5000


class Subscriber:
    """One socket's place in the hub."""

    def __init__(self, workspace_id: WorkspaceId, outgoing: Outgoing) -> None:
        self.workspace_id = workspace_id
        self.outgoing = outgoing
        self.topics: set[str] = set()
        self.held: dict[str, list[StoredEvent]] = {}
        """Of topics that are being resumed: what has come since."""


class Hub:
    """`position`: all events up to it have been delivered, or held."""

    def __init__(self) -> None:
        self.position = 0
        self.delivered = 0
        """Frames with events that were given to sockets so far."""
        self._rooms: dict[WorkspaceId, dict[str, set[Subscriber]]] = {}
        self._subscribers: dict[WorkspaceId, set[Subscriber]] = {}
        self._moved = asyncio.Event()

    # --- who listens ------------------------------------------------------------------------------------------------
    @property
    def workspaces(self) -> list[WorkspaceId]:
        return list(self._subscribers)

    def count(self, workspace_id: WorkspaceId) -> int:
        return len(self._subscribers.get(workspace_id, ()))

    def enter(self, subscriber: Subscriber) -> None:
        self._subscribers.setdefault(subscriber.workspace_id, set()).add(subscriber)
        self._rooms.setdefault(subscriber.workspace_id, {})

    def leave(self, subscriber: Subscriber) -> None:
        self.unsubscribe(subscriber, list(subscriber.topics))
        everyone = self._subscribers.get(subscriber.workspace_id, set())
        everyone.discard(subscriber)
        if not everyone:
            self._subscribers.pop(subscriber.workspace_id, None)
            self._rooms.pop(subscriber.workspace_id, None)

    def subscribe(self, subscriber: Subscriber, topics: Sequence[str], *, held: bool = False) -> None:
        """From now on the subscriber hears of these; with `held` not before `release`."""
        rooms = self._rooms[subscriber.workspace_id]
        for topic in topics:
            rooms.setdefault(topic, set()).add(subscriber)
            if held:
                subscriber.held[topic] = []
        subscriber.topics.update(topics)

    def unsubscribe(self, subscriber: Subscriber, topics: Sequence[str]) -> None:
        rooms = self._rooms.get(subscriber.workspace_id, {})
        for topic in topics:
            subscriber.held.pop(topic, None)
            if topic in rooms:
                rooms[topic].discard(subscriber)
                if not rooms[topic]:
                    del rooms[topic]
        subscriber.topics.difference_update(topics)

    def release(self, subscriber: Subscriber, topics: Sequence[str]) -> None:
        """What was held is delivered; nothing comes between that and what follows."""
        held = sorted(
            (event for topic in topics for event in subscriber.held.pop(topic, ())), key=attrgetter("position")
        )
        for frame in frames_of(held, self.position):
            subscriber.outgoing.put(frame)

    # --- what they hear ---------------------------------------------------------------------------------------------
    def publish(self, events: Sequence[StoredEvent], upto: int) -> int:
        """Events in order of position, all there are up to `upto`; returns how many frames it made for sockets."""
        if upto < self.position:
            # The database is as it was earlier: what these sockets have heard of has not happened.
            for workspace_id in self.workspaces:
                self.start_again(workspace_id, "The database was set back; connect again and fetch anew.")
        before = self.delivered
        for workspace_id, batch in groupby(sorted(events, key=attrgetter("workspace_id")), attrgetter("workspace_id")):
            if rooms := self._rooms.get(workspace_id):
                self._deliver(rooms, list(batch), upto)
        self.position = upto
        self._moved.set()
        self._moved = asyncio.Event()
        return self.delivered - before

    def tell(self, workspace_id: WorkspaceId, topic: str, frame: bytes) -> None:
        """Something of the moment, which has no position and is not repeated."""
        for subscriber in self._rooms.get(workspace_id, {}).get(topic, ()):
            subscriber.outgoing.put(frame)

    def start_again(self, workspace_id: WorkspaceId, reason: str) -> None:
        """Closes its sockets; their cursors will be refused when they come back."""
        for subscriber in self._subscribers.get(workspace_id, ()):
            subscriber.outgoing.close(STARTS_AGAIN, reason)

    async def reached(self, position: int) -> None:
        while self.position < position:
            await self._moved.wait()

    def _deliver(self, rooms: dict[str, set[Subscriber]], batch: list[StoredEvent], upto: int) -> None:
        """Each event is encoded once, and each frame made once for all who hear the same of this batch."""
        heard: dict[Subscriber, list[int]] = {}
        for index, event in enumerate(batch):
            for subscriber in rooms.get(event.topic, ()):
                if (held := subscriber.held.get(event.topic)) is not None:
                    held.append(event)
                    if len(held) > _MOST_HELD:
                        subscriber.outgoing.close(TOO_SLOW, "The client reads too slowly to be resumed.")
                else:
                    heard.setdefault(subscriber, []).append(index)
        made: dict[tuple[int, ...], list[bytes]] = {}
        for subscriber, indexes in heard.items():
            of_these = tuple(indexes)
            if (frames := made.get(of_these)) is None:
                frames = made[of_these] = list(frames_of([batch[index] for index in of_these], upto))
            for frame in frames:
                subscriber.outgoing.put(frame)
            self.delivered += len(frames)


def frames_of(events: Sequence[StoredEvent], upto: int) -> Iterator[bytes]:
    """As few as fit the frame size; the last one reaches up to `upto`."""
    parts: list[str] = []
    size = 0
    for index, event in enumerate(events):
        part = _encode(event)
        if parts and size + len(part) > _FRAME_SIZE:
            # One event may stand here twice, for two topics: it is heard when both have come.
            yield _frame(parts, min(events[index - 1].position, event.position - 1))
            parts, size = [], 0
        parts.append(part)
        size += len(part)
    if parts:
        yield _frame(parts, upto)


def _frame(parts: list[str], position: int) -> bytes:
    return packed(f'{{"type":"events","position":{position},"events":[{",".join(parts)}]}}'.encode())


def _encode(event: StoredEvent) -> str:
    """By hand, since `data` is JSON already."""
    topic, name = (msgspec.json.encode(text).decode() for text in (event.topic, event.name))
    at = event.at.isoformat()
    return f'{{"position":{event.position},"topic":{topic},"name":{name},"at":"{at}","data":{event.data}}}'
