"""Threads: what a Page or number and one person have written to each other. There is one as soon as the person writes.

What was sent before that is in the ledger only, so a campaign to a million silent people keeps nothing here.
"""

import itertools
import secrets
from collections.abc import Iterator

import msgspec

from pombo.sandbox.errors import Kind

READABLE = 20
"""Of a conversation only so many of the newest messages can be read (Conversations API, 2026)."""

_PREFIX: dict[Kind, str] = {"messenger": "m_", "whatsapp": "wamid.HBg"}


class ThreadMessage(msgspec.Struct):
    """`content` is what the Conversations API tells of it: `text`, `attachments` (media ids), `reply_to`."""

    id: str
    at: float
    is_inbound: bool
    text: str | None = None
    attachments: tuple[str, ...] = ()
    reply_to: str | None = None
    choices: tuple["Choice", ...] = ()


class Choice(msgspec.Struct, frozen=True):
    """A button, quick reply or row that the person may tap; `kind` is the name under which the tap is told."""

    kind: str
    title: str
    payload: str


class Thread:
    __slots__ = ("channel_id", "id", "messages", "person_id", "unread")

    def __init__(self, id: str, channel_id: str, person_id: str) -> None:
        self.id = id
        self.channel_id = channel_id
        self.person_id = person_id
        self.messages: list[ThreadMessage] = []
        """In the order of their times."""
        self.unread = 0

    @property
    def updated(self) -> float:
        return self.messages[-1].at if self.messages else 0.0

    def newest_first(self) -> Iterator[ThreadMessage]:
        return reversed(self.messages)

    def readable(self) -> list[ThreadMessage]:
        """The newest first."""
        return self.messages[: -READABLE - 1 : -1]

    def last(self, *, is_inbound: bool) -> ThreadMessage | None:
        return next((message for message in self.newest_first() if message.is_inbound is is_inbound), None)


class Threads:
    """All threads of all channels, found by their id and by that of any of their messages."""

    def __init__(self) -> None:
        self._era = secrets.token_hex(4)
        self._numbers = itertools.count(1)
        self._thread_numbers = itertools.count(10_000_000_000_001)
        self._by_id: dict[str, Thread] = {}
        self._of_channel: dict[str, dict[str, Thread]] = {}
        self._of_message: dict[str, Thread] = {}

    def of_channel(self, channel_id: str) -> dict[str, Thread]:
        """By person. The same dictionary for good: the channel keeps it."""
        return self._of_channel.setdefault(channel_id, {})

    def open(self, channel_id: str, person_id: str) -> Thread:
        """The person's thread, made if need be."""
        threads = self.of_channel(channel_id)
        thread = threads.get(person_id)
        if thread is None:
            thread = threads[person_id] = Thread(f"t_{next(self._thread_numbers)}", channel_id, person_id)
            self._by_id[thread.id] = thread
        return thread

    def add(self, thread: Thread, message: ThreadMessage) -> None:
        """In its place by time; the same message twice is there once."""
        if message.id in self._of_message:
            return
        self._of_message[message.id] = thread
        place = len(thread.messages)
        while place and thread.messages[place - 1].at > message.at:
            place -= 1
        thread.messages.insert(place, message)
        thread.unread = thread.unread + 1 if message.is_inbound else 0

    def find(self, thread_id: str) -> Thread | None:
        return self._by_id.get(thread_id)

    def find_message(self, message_id: str) -> tuple[Thread, ThreadMessage] | None:
        thread = self._of_message.get(message_id)
        if thread is None:
            return None
        return thread, next(message for message in thread.messages if message.id == message_id)

    def new_id(self, kind: Kind) -> str:
        """Of an inbound message."""
        return f"{_PREFIX[kind]}{self._era}c{next(self._numbers):09x}"
