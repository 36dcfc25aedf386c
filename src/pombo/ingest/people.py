"""Which ids the events of a batch give the people they are of."""

from collections.abc import Iterable, Iterator
from datetime import datetime

from pombo.domain.channels import ChannelKind
from pombo.domain.events import Person, SamePerson
from pombo.ingest.gathering import PersonEvent, Place
from pombo.store.inbox_identities import Sighting
from pombo.store.receipts import Located


def sightings(said: Iterable[tuple[Place, PersonEvent]]) -> list[Sighting]:
    """One of each event."""
    return [Sighting(*place, event.at, dict(_ids(event))) for place, event in said]


def renamed(found: Iterable[Located]) -> list[tuple[Place, SamePerson]]:
    """Meta has numbers of its own for some (Brazil, Mexico), from which they will answer what was sent to another.

    Both are theirs as of the sending: of a message that is read late, the address may be somebody else's by then.
    """
    said = []
    for receipt, _, _, recipient, sent_at in found:
        status = receipt.status
        if status is not None and status.recipient is not None:
            person = Person(status.recipient, (status.user_id,) if status.user_id else ())
            same = SamePerson(status.kind, status.channel, person, (recipient,), sent_at)
            said.append((Place(receipt.workspace_id, receipt.channel_id), same))
    return said


def _ids(event: PersonEvent) -> Iterator[tuple[str, datetime | None]]:
    names = event.person.address, *event.person.others
    # A Page has one id for a person: there is nothing to choose the latest from, and so nothing to write each time.
    at = None if event.kind is ChannelKind.MESSENGER else event.at
    for name in names:
        yield name, at
    if isinstance(event, SamePerson):
        for name in event.former:
            if name not in names:
                yield name, None
