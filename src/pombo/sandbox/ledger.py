"""Every message the sandbox accepted, and how far its webhooks have come.

Columns instead of objects: a million messages take 310 MB, two thirds of it their recipients' and keys' own text.
A message's number (its index in the columns) is the order of acceptance.
"""

import secrets
from array import array
from bisect import bisect_right
from collections.abc import Iterable
from typing import Any

from pombo.sandbox.errors import Kind

ACCEPTED, SENT, FAILED, DELIVERED, READ = range(5)
"""States in the order in which a message passes through them; stored as their rank, which never falls."""
STATE_NAMES = ("accepted", "sent", "failed", "delivered", "read")
_CATEGORIES: tuple[str, ...] = ("service", "marketing", "utility", "authentication")

_PREFIX: dict[Kind, str] = {"messenger": "m_", "whatsapp": "wamid.HBg"}


class ChannelBook:
    """One channel's part of the ledger."""

    def __init__(self, id_prefix: str, channel_id: str) -> None:
        self.id_prefix = id_prefix
        self.channel_id = channel_id
        self.numbers = array("q")
        self.calls_at = array("d")
        self.conversation_calls_at = array("d")
        self.latest: dict[str, int] = {}
        self.states = [0, 0, 0, 0, 0]
        self.unique_keys = 0
        self.duplicates = 0
        self.without_key = 0

    def totals(self) -> dict[str, Any]:
        delivered = self.states[DELIVERED] + self.states[READ]
        return {
            "accepted": len(self.numbers),
            "unique_keys": self.unique_keys,
            "duplicates": self.duplicates,
            "without_key": self.without_key,
            "delivered": delivered,
            "read": self.states[READ],
            "failed": self.states[FAILED],
            "states": dict(zip(STATE_NAMES, self.states, strict=True)),
        }


def peak(times: Iterable[float], window: float) -> int:
    """The most of these times that fall into any half-open span of `window` seconds."""
    ordered = sorted(times)
    most = first = 0
    for last, at in enumerate(ordered):
        while at - ordered[first] >= window:
            first += 1
        most = max(most, last - first + 1)
    return most


class Ledger:
    def __init__(self) -> None:
        # A restarted or emptied sandbox must never give out an id a second time.
        self._era = secrets.token_hex(4)
        self.books: dict[str, ChannelBook] = {}
        self._book: list[ChannelBook] = []
        self._recipient: list[str] = []
        self._key: list[str | None] = []
        self._accepted_at = array("d")
        self._state = bytearray()
        self._final = bytearray()
        self._category = bytearray()
        self._earlier = array("q")
        self._first_with_key: dict[str, int] = {}
        self._repeats: dict[str, list[int]] = {}

    def __len__(self) -> int:
        return len(self._book)

    def book(self, kind: Kind, channel_id: str) -> ChannelBook:
        """The channel's book, opened if need be; it outlives a change of the channel."""
        if channel_id not in self.books:
            self.books[channel_id] = ChannelBook(_PREFIX[kind] + self._era, channel_id)
        return self.books[channel_id]

    def add(self, book: ChannelBook, recipient: str, key: str | None, now: float, category: int) -> int:
        number = len(self._book)
        self._book.append(book)
        self._recipient.append(recipient)
        self._key.append(key)
        self._accepted_at.append(now)
        self._state.append(ACCEPTED)
        self._final.append(ACCEPTED)
        self._category.append(category)
        self._earlier.append(book.latest.get(recipient, -1))
        book.latest[recipient] = number
        book.numbers.append(number)
        book.states[ACCEPTED] += 1
        if key is None:
            book.without_key += 1
        elif self._first_with_key.setdefault(key, number) == number:
            book.unique_keys += 1
        else:
            book.duplicates += 1
            self._repeats.setdefault(key, []).append(number)
        return number

    def set_final(self, number: int, state: int) -> None:
        self._final[number] = state

    def provider_id(self, number: int) -> str:
        return f"{self._book[number].id_prefix}{number:010x}"

    def last_sent(self, book: ChannelBook, recipient: str) -> str | None:
        """The id of the last message that this recipient was sent."""
        number = book.latest.get(recipient)
        return None if number is None else self.provider_id(number)

    def acceptance_times(self, book: ChannelBook) -> list[float]:
        return [self._accepted_at[number] for number in book.numbers]

    def recipient(self, number: int) -> str:
        return self._recipient[number]

    def key(self, number: int) -> str | None:
        return self._key[number]

    def channel_id(self, number: int) -> str:
        return self._book[number].channel_id

    def accepted_at(self, number: int) -> float:
        return self._accepted_at[number]

    def category(self, number: int) -> str:
        return _CATEGORIES[self._category[number]]

    def raise_state(self, number: int, state: int) -> None:
        old = self._state[number]
        if state > old:
            self._state[number] = state
            states = self._book[number].states
            states[old] -= 1
            states[state] += 1

    def raise_up_to(self, number: int, until: float, state: int) -> None:
        """What a Messenger watermark says: this recipient's messages accepted by `until` are all in `state`."""
        book = self._book[number]
        number = book.latest[self._recipient[number]]
        while number >= 0:
            if self._accepted_at[number] <= until:
                if self._state[number] >= state:
                    # An earlier watermark already went through the rest.
                    return
                self.raise_state(number, state)
            number = self._earlier[number]

    def totals(self) -> dict[str, Any]:
        by_channel = {channel_id: book.totals() for channel_id, book in self.books.items()}
        names = ("accepted", "unique_keys", "duplicates", "without_key", "delivered", "read", "failed")
        return {
            **{name: sum(channel[name] for channel in by_channel.values()) for name in names},
            "channels": by_channel,
        }

    def record(self, number: int) -> dict[str, Any]:
        return {
            "number": number,
            "channel": self._book[number].channel_id,
            "recipient": self._recipient[number],
            "key": self._key[number],
            "provider_id": self.provider_id(number),
            "accepted_at": self._accepted_at[number],
            "state": STATE_NAMES[self._state[number]],
            "final": STATE_NAMES[self._final[number]],
        }

    def page(self, channel_id: str | None, after: int, limit: int, recipient: str | None) -> list[dict[str, Any]]:
        """Records in the order of acceptance, those with a number above `after`."""
        numbers: Iterable[int] = ()
        if channel_id is None:
            numbers = range(max(0, after + 1), len(self._book))
        elif channel_id in self.books:
            of_channel = self.books[channel_id].numbers
            numbers = (of_channel[place] for place in range(bisect_right(of_channel, after), len(of_channel)))
        found = []
        for number in numbers:
            if recipient is None or self._recipient[number] == recipient:
                found.append(self.record(number))
                if len(found) == limit:
                    break
        return found

    def with_key(self, key: str) -> list[dict[str, Any]]:
        first = self._first_with_key.get(key)
        return [] if first is None else [self.record(number) for number in (first, *self._repeats.get(key, ()))]
