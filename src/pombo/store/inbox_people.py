"""Contacts by whatever Meta calls them: each is known by one id or several (`identities`), and has one address to write
to (`contacts.external_id`), which counts as one of its ids too.

Contacts that turn out to be one person are merged (`inbox_merging`), and a phone number that turns up with another's
user id becomes that one's (`inbox_identities` decides). Which contact has which id does not depend on the order of
events. Nor does the address: a phone number before a user id, of several the one seen last. All of this happens under
`lock_channels`.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from pombo.store import inbox_merging
from pombo.store.contact_profiles import NAMELESS
from pombo.store.database import Connection
from pombo.store.inbox_identities import Identities, Identity, Person, Sighting
from pombo.store.planning import columns


class Profile(NamedTuple):
    workspace_id: int
    contact_id: int
    named_at: datetime | None
    name: str | None
    username: str | None
    inbound_at: datetime | None
    """Of what opens Meta's window."""


class Resolution(NamedTuple):
    contacts: list[int]
    """Of each sighting."""
    changed: set[tuple[int, int]]
    """(workspace, contact) of those that have a new address or were merged."""
    identified: set[tuple[int, int]]
    """(workspace, contact) of those that were known, and now have another id besides, or have another's number."""
    former_holders: set[tuple[int, int, int]]
    """(workspace, channel, contact) of those whose number is another's now."""


_LOCK = """
SELECT pg_advisory_xact_lock(key) FROM (
    SELECT hashtextextended(format('conversations of %s/%s', workspace_id, channel_id), 0) AS key
    FROM unnest('{{{}}}'::bigint[], '{{{}}}'::bigint[]) AS c (workspace_id, channel_id) ORDER BY 1
) AS keys
"""

_KNOWN = """
SELECT k.n, i.contact_id, nullif(i.claimed_at, '-infinity'), c.id
FROM unnest($1::bigint[], $2::bigint[], $3::text[]) WITH ORDINALITY AS k (workspace_id, channel_id, identity, n)
LEFT JOIN LATERAL (
    SELECT contact_id, claimed_at FROM identities
    WHERE workspace_id = k.workspace_id AND channel_id = k.channel_id AND identity = k.identity OFFSET 0
) i ON true
LEFT JOIN LATERAL (
    SELECT id FROM contacts
    WHERE workspace_id = k.workspace_id AND channel_id = k.channel_id AND external_id = k.identity OFFSET 0
) c ON true
"""

# Somebody may be importing the same person at this moment.
_CREATE = """
INSERT INTO contacts AS c (workspace_id, channel_id, external_id)
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[]) AS n (workspace_id, channel_id, external_id)
ORDER BY 1, 2, 3
ON CONFLICT (workspace_id, channel_id, external_id) DO UPDATE SET external_id = excluded.external_id
RETURNING workspace_id, channel_id, external_id, id
"""

_IDENTIFY = """
INSERT INTO identities AS i (workspace_id, channel_id, identity, contact_id, seen_at, claimed_at)
SELECT workspace_id, channel_id, identity, contact_id, coalesce(seen_at, '-infinity'), coalesce(claimed_at, '-infinity')
FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bigint[], $5::timestamptz[], $6::timestamptz[])
    AS n (workspace_id, channel_id, identity, contact_id, seen_at, claimed_at)
ORDER BY 1, 2, 3
ON CONFLICT (workspace_id, channel_id, identity) DO UPDATE SET
    contact_id = excluded.contact_id, seen_at = greatest(i.seen_at, excluded.seen_at),
    claimed_at = greatest(i.claimed_at, excluded.claimed_at)
WHERE i.contact_id <> excluded.contact_id OR i.seen_at < excluded.seen_at OR i.claimed_at < excluded.claimed_at
"""

_READDRESS = """
WITH best AS MATERIALIZED (
    SELECT w.workspace_id, w.contact_id, i.channel_id, i.identity
    FROM unnest($1::bigint[], $2::bigint[]) AS w (workspace_id, contact_id)
    CROSS JOIN LATERAL (
        SELECT channel_id, identity FROM identities
        WHERE workspace_id = w.workspace_id AND contact_id = w.contact_id AND ($3 OR identity NOT LIKE '+%')
        ORDER BY (identity LIKE '+%') DESC, seen_at DESC, identity DESC LIMIT 1
    ) i
)
UPDATE contacts c SET external_id = b.identity FROM best b
WHERE c.workspace_id = b.workspace_id AND c.id = b.contact_id AND c.external_id <> b.identity
  AND NOT EXISTS (SELECT FROM contacts o WHERE o.workspace_id = b.workspace_id AND o.channel_id = b.channel_id
                                           AND o.external_id = b.identity)
RETURNING c.workspace_id, c.id
"""

# The name that the person has on Meta's side replaces itself, but not one that an agent gave.
_PROFILE = f"""
WITH u AS MATERIALIZED (
    SELECT n.workspace_id, n.id, n.inbound_at, n.name,
           jsonb_strip_nulls(jsonb_build_object('name', n.name, 'username', n.username, 'namedAt', n.named_at))
               AS profile,
           n.name IS NOT NULL
               AND (n.named_at, n.name)
                   > (coalesce((o.profile ->> 'namedAt')::timestamptz, '-infinity'), coalesce(o.profile ->> 'name', ''))
               AS newer
    FROM unnest($1::bigint[], $2::bigint[], $3::timestamptz[], $4::text[], $5::text[], $6::timestamptz[])
        AS n (workspace_id, id, named_at, name, username, inbound_at)
    CROSS JOIN LATERAL (SELECT profile FROM contacts WHERE workspace_id = n.workspace_id AND id = n.id OFFSET 0) o
)
UPDATE contacts c SET
    last_inbound_at = greatest(c.last_inbound_at, u.inbound_at),
    name = CASE WHEN u.newer AND (c.name IS NULL OR c.name = c.profile ->> 'name') THEN u.name ELSE c.name END,
    profile = CASE WHEN u.newer THEN (c.profile - 'username') || u.profile ELSE c.profile END
FROM u
WHERE c.workspace_id = u.workspace_id AND c.id = u.id
  AND (u.newer OR u.inbound_at > c.last_inbound_at OR u.inbound_at IS NOT NULL AND c.last_inbound_at IS NULL)
RETURNING c.workspace_id, c.id, {NAMELESS}
"""


def locking(channels: Collection[tuple[int, int]]) -> str:
    """The statement of `lock_channels`, for a transaction that begins with it."""
    return _LOCK.format(*(",".join(str(int(each[n])) for each in channels) for n in range(2)))


async def lock_channels(connection: Connection, channels: Collection[tuple[int, int]]) -> None:
    """Until the transaction ends: one at a time works on a channel's contacts and conversations. Others wait here, in
    one order."""
    await connection.execute(locking(channels))


async def resolve(connection: Connection, sightings: Sequence[Sighting]) -> Resolution:
    """The contact of every sighting, made or merged as needed."""
    seen: dict[Identity, datetime | None] = {}
    for sighting in sightings:
        for identity, at in zip(sighting.ids(), sighting.seen.values(), strict=True):
            known_at = seen.get(identity)
            seen[identity] = at if known_at is None else known_at if at is None else max(known_at, at)
    known, claimed, filed = await _look_up(connection, list(seen))
    identities = Identities(known, claimed)
    persons: list[Person] = [0] * len(sightings)
    for n in sorted(range(len(sightings)), key=lambda n: sightings[n].at):
        persons[n] = identities.see(sightings[n])

    workspaces = {contact: key.workspace_id for key, contacts in known.items() for contact in contacts}
    merged = [await inbox_merging.merge(connection, workspaces[kept], kept, gone) for kept, gone in identities.merged]
    made = await _create(connection, identities, seen)

    def contact_of(person: Person) -> int:
        root = identities.root(person)
        return root if isinstance(root, int) else made[root]

    contacts = {key: contact_of(identities.person(key)) for key in seen}
    news = [
        (*key, contacts[key], at, identities.claimed.get(key))
        for key, at in seen.items()
        if at is not None or filed.get(key) != contacts[key] or identities.claimed.get(key) != claimed.get(key)
    ]
    if news:
        await connection.execute(_IDENTIFY, *columns(news))
    survivors = {(one.workspace_id, one.contact_id) for one in merged}
    several = survivors | {(key.workspace_id, contacts[key]) for s in sightings if len(s.seen) > 1 for key in s.ids()}
    former_holders = {(*key[:2], contact_of(person)) for key, person in identities.moved.items()}
    changed = await _readdress(connection, several, former_holders) | survivors
    fresh = set(made.values())
    identified = {
        (key.workspace_id, contact)
        for key, contact in contacts.items()
        if key in identities.moved or (contact not in fresh and not known.get(key))
    }
    return Resolution([contact_of(person) for person in persons], changed, identified, former_holders)


async def note_profiles(connection: Connection, profiles: Sequence[Profile]) -> dict[tuple[int, int], bool]:
    """Each contact once. Of those (workspace, contact) that changed, whether they are still `NAMELESS`."""
    if not profiles:
        return {}
    rows = await connection.fetch(
        _PROFILE,
        *columns([(p.workspace_id, p.contact_id, p.named_at, p.name, p.username, p.inbound_at) for p in profiles]),
    )
    return {(row[0], row[1]): row[2] for row in rows}


async def _look_up(
    connection: Connection, keys: Sequence[Identity]
) -> tuple[dict[Identity, set[int]], dict[Identity, datetime], dict[Identity, int]]:
    """The contacts that have these ids, when numbers last came with a user id, and under whom ids are filed."""
    known: dict[Identity, set[int]] = {}
    claimed: dict[Identity, datetime] = {}
    filed: dict[Identity, int] = {}
    for n, by_identity, claimed_at, by_address in await connection.fetch(_KNOWN, *columns(keys)):
        contacts = known.setdefault(keys[n - 1], set())
        if by_identity is not None:
            filed[keys[n - 1]] = by_identity
        if claimed_at is not None:
            claimed[keys[n - 1]] = claimed_at
            contacts.add(by_identity)
        else:
            contacts.update(filter(None, (by_identity, by_address)))
    return known, claimed, filed


async def _create(
    connection: Connection, identities: Identities, seen: Mapping[Identity, datetime | None]
) -> dict[Person, int]:
    """Contacts of those who are none yet, under the best address that no other contact can have."""
    ids: dict[Person, dict[Identity, datetime | None]] = {}
    for key, at in seen.items():
        person = identities.person(key)
        if not isinstance(person, int) and key not in identities.moved:
            ids.setdefault(person, {})[key] = at
    if not ids:
        return {}
    address_of = {_address(names): person for person, names in ids.items()}
    rows = await connection.fetch(_CREATE, *columns(address_of))
    return {address_of[Identity(*row[:3])]: row[3] for row in rows}


async def _readdress(
    connection: Connection, several: Collection[tuple[int, int]], former_holders: Collection[tuple[int, int, int]]
) -> set[tuple[int, int]]:
    """Returns those that changed. Who has lost a number gives it up before anybody takes it as the address."""
    moved = []
    if former_holders:
        without = {(workspace_id, contact_id) for workspace_id, _, contact_id in former_holders}
        moved += await connection.fetch(_READDRESS, *columns(without), False)
        several = {*several, *without}
    if several:
        moved += await connection.fetch(_READDRESS, *columns(several), True)
    return {(row[0], row[1]) for row in moved}


def _address(names: Mapping[Identity, datetime | None]) -> Identity:
    """As `_READDRESS` chooses."""

    def rank(item: tuple[Identity, datetime | None]) -> tuple[bool, float, str]:
        identity, at = item
        return identity.is_phone, at.timestamp() if at is not None else float("-inf"), identity.identity

    return max(names.items(), key=rank)[0]
