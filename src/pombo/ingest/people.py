"""Which ids in a batch of events are one person's."""

from collections.abc import Iterable, Iterator
from datetime import datetime

from pombo.domain.events import Person, SamePerson
from pombo.ingest.gathering import PersonEvent, Place
from pombo.store.inbox_people import Identity, Sighting
from pombo.store.receipts import Located


def sightings(said: Iterable[tuple[Place, PersonEvent]]) -> list[Sighting]:
    """Each id in one of them, with all others that some event connects it with."""
    parents: dict[Identity, Identity] = {}
    seen: dict[Identity, datetime | None] = {}

    def root(identity: Identity) -> Identity:
        while parents.setdefault(identity, identity) != identity:
            parents[identity] = identity = parents[parents[identity]]
        return identity

    for place, event in said:
        first: Identity | None = None
        for name, at in _ids(event):
            identity = Identity(*place, name)
            known = seen.get(identity)
            seen[identity] = at if known is None else known if at is None else max(known, at)
            if first is None:
                first = root(identity)
            else:
                parents[root(identity)] = first = root(first)
    groups: dict[Identity, dict[str, datetime | None]] = {}
    for identity, latest in seen.items():
        groups.setdefault(root(identity), {})[identity.identity] = latest
    return [Sighting(key.workspace_id, key.channel_id, ids) for key, ids in groups.items()]


def renamed(found: Iterable[Located]) -> list[tuple[Place, SamePerson]]:
    """Meta has numbers of its own for some (Brazil, Mexico), from which they will answer what was sent to another."""
    said = []
    for receipt, _, _, recipient in found:
        status = receipt.status
        if status is not None and status.recipient is not None:
            person = Person(status.recipient, (status.user_id,) if status.user_id else ())
            same = SamePerson(status.kind, status.channel, person, (recipient,), status.at)
            said.append((Place(receipt.workspace_id, receipt.channel_id), same))
    return said


def identity_of(place: Place, event: PersonEvent) -> Identity:
    return Identity(*place, event.person.address)


def _ids(event: PersonEvent) -> Iterator[tuple[str, datetime | None]]:
    for name in (event.person.address, *event.person.others):
        yield name, event.at
    if isinstance(event, SamePerson):
        for name in event.former:
            yield name, None
