"""Whose each id in a batch of sightings is, decided in memory from what is known.

A user id is one person's for good, and two in one sighting are one person's. A phone number is had by whom it was last
seen with, by Meta's clock: networks give numbers away again. One that came with no user id yet is everybody's whom
it is seen with.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import NamedTuple


class Identity(NamedTuple):
    workspace_id: int
    channel_id: int
    identity: str

    @property
    def is_phone(self) -> bool:
        return self.identity.startswith("+")


class Sighting(NamedTuple):
    """Ids that one event gives one person, each with when Meta called the person so.

    None: no longer, or by none but this one ever.
    """

    workspace_id: int
    channel_id: int
    at: datetime
    seen: Mapping[str, datetime | None]

    def ids(self) -> Iterator[Identity]:
        return (Identity(self.workspace_id, self.channel_id, identity) for identity in self.seen)


Person = int | Identity
"""A contact, or an id of somebody who is none yet."""


class Identities:
    def __init__(self, known: Mapping[Identity, set[int]], claimed: Mapping[Identity, datetime]) -> None:
        """The contacts of ids; and when phone numbers last came with a user id, as far as they ever did."""
        self.claimed = dict(claimed)
        self.merged: list[tuple[int, int]] = []
        """(who stays, who goes), one after the other."""
        self.moved: dict[Identity, Person] = {}
        """Numbers that are another's now, with whose they were."""
        self._roots: dict[Person, Person] = {}
        self._holders: dict[Identity, Person] = {}
        for identity, contacts in known.items():
            for contact in sorted(contacts):
                self._join(identity, contact)

    def person(self, identity: Identity) -> Person:
        return self.root(self._holders.get(identity, identity))

    def root(self, person: Person) -> Person:
        while (above := self._roots.setdefault(person, person)) != person:
            self._roots[person] = person = self._roots[above]
        return person

    def see(self, sighting: Sighting) -> Person:
        """Who it is of. Sightings are best seen in the order of their times."""
        ids = list(sighting.ids())
        users = [one for one in ids if not one.is_phone]
        phones = [one for one in ids if one.is_phone]
        for other in users[1:]:
            self._join(users[0], other)
        for phone in phones:
            if users:
                self._claim(phone, users[0], sighting.at)
            elif phone != phones[0]:
                self._connect(phones[0], phone, sighting.at)
        return self.person(ids[0] if not users else users[0])

    def _claim(self, phone: Identity, user: Identity, at: datetime) -> None:
        claimed = self.claimed.get(phone)
        if claimed is None:
            self._join(self.person(phone), user)
        if self.person(phone) == self.person(user):
            self.claimed[phone] = at if claimed is None else max(claimed, at)
        elif claimed is not None and at > claimed:
            self.moved.setdefault(phone, self.person(phone))
            self._holders[phone] = user
            self.claimed[phone] = at

    def _connect(self, phone: Identity, former: Identity, at: datetime) -> None:
        """Two numbers of one person, unless user ids say otherwise, or another has the former since."""
        claimed = self.claimed.get(former)
        if claimed is None or (phone not in self.claimed and claimed <= at):
            self._join(self.person(phone), self.person(former))

    def _join(self, one: Person, other: Person) -> None:
        """The oldest contact stays."""
        kept, gone = sorted((self.root(one), self.root(other)), key=_age)
        if kept == gone:
            return
        self._roots[gone] = kept
        if isinstance(kept, int) and isinstance(gone, int):
            self.merged.append((kept, gone))


def _age(person: Person) -> float:
    return person if isinstance(person, int) else float("inf")
