"""Contacts by whatever Meta calls them: each is known by one id or several (`identities`), and has one address to write
to (`contacts.external_id`), which counts as one of its ids too.

Two ids in one event are one person's, so contacts that turn out to be one are merged (`inbox_merging`). Which contact a
person ends as does not depend on the order of events: it is whoever is connected by them. Nor does the address: a phone
number before a user id, of several the one seen last. All of this happens under `lock_channels`.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from pombo.store import inbox_merging
from pombo.store.database import Connection
from pombo.store.planning import columns


class Identity(NamedTuple):
    workspace_id: int
    channel_id: int
    identity: str


class Sighting(NamedTuple):
    """Ids that are one person's, each with when Meta called the person so (None: no longer)."""

    workspace_id: int
    channel_id: int
    seen: Mapping[str, datetime | None]


class Profile(NamedTuple):
    workspace_id: int
    contact_id: int
    named_at: datetime | None
    name: str | None
    username: str | None
    inbound_at: datetime | None
    """Of what opens Meta's window."""


class Resolution(NamedTuple):
    contacts: dict[Identity, int]
    merged: list[inbox_merging.Merged]
    changed: set[tuple[int, int]]
    """(workspace, contact) of those that have a new address or were merged."""
    identified: set[tuple[int, int]]
    """(workspace, contact) of those that were known, and now have another id besides."""


# One ingester at a time works on a channel's contacts and conversations; others wait here, in one order.
_LOCK = """
SELECT pg_advisory_xact_lock(key) FROM (
    SELECT hashtextextended(format('conversations of %s/%s', workspace_id, channel_id), 0) AS key
    FROM unnest($1::bigint[], $2::bigint[]) AS c (workspace_id, channel_id) ORDER BY 1
) AS keys
"""

_KNOWN = """
SELECT k.n, i.contact_id, c.id
FROM unnest($1::bigint[], $2::bigint[], $3::text[]) WITH ORDINALITY AS k (workspace_id, channel_id, identity, n)
LEFT JOIN LATERAL (
    SELECT contact_id FROM identities
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
INSERT INTO identities AS i (workspace_id, channel_id, identity, contact_id, seen_at)
SELECT workspace_id, channel_id, identity, contact_id, coalesce(seen_at, '-infinity')
FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bigint[], $5::timestamptz[])
    AS n (workspace_id, channel_id, identity, contact_id, seen_at)
ORDER BY 1, 2, 3
ON CONFLICT (workspace_id, channel_id, identity) DO UPDATE SET
    contact_id = excluded.contact_id, seen_at = greatest(i.seen_at, excluded.seen_at)
WHERE i.contact_id <> excluded.contact_id OR i.seen_at < excluded.seen_at
"""

_READDRESS = """
WITH best AS MATERIALIZED (
    SELECT w.workspace_id, w.contact_id, i.channel_id, i.identity
    FROM unnest($1::bigint[], $2::bigint[]) AS w (workspace_id, contact_id)
    CROSS JOIN LATERAL (
        SELECT channel_id, identity FROM identities
        WHERE workspace_id = w.workspace_id AND contact_id = w.contact_id
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
_PROFILE = """
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
RETURNING c.workspace_id, c.id
"""


async def lock_channels(connection: Connection, channels: Collection[tuple[int, int]]) -> None:
    """Until the transaction ends."""
    await connection.execute(_LOCK, *columns(sorted(channels)))


async def resolve(connection: Connection, sightings: Sequence[Sighting]) -> Resolution:
    """The contact of every id, made or merged as needed. Each id may stand in one sighting only."""
    keys = [Identity(s.workspace_id, s.channel_id, identity) for s in sightings for identity in s.seen]
    rows = await connection.fetch(_KNOWN, *columns(keys))
    known: dict[Identity, set[int]] = {}
    for n, by_identity, by_address in rows:
        known.setdefault(keys[n - 1], set()).update(filter(None, (by_identity, by_address)))
    # Two sightings of different ids may be of one contact: then what is done to it is done once for both.
    merged, owner = await _merge(connection, sightings, known)
    strangers = [s for s in sightings if not any(known.get(key) for key in _keys(s))]
    made = await _create(connection, strangers)
    contacts = {
        key: made[key] if key in made else owner[min(set().union(*(known.get(k, set()) for k in _keys(sighting))))]
        for sighting in sightings
        for key in _keys(sighting)
    }
    seen = {Identity(s.workspace_id, s.channel_id, identity): at for s in sightings for identity, at in s.seen.items()}
    await connection.execute(_IDENTIFY, *columns([(*key, contacts[key], at) for key, at in seen.items()]))
    several = {(s.workspace_id, contacts[_keys(s)[0]]) for s in sightings if len(s.seen) > 1}
    several |= {(one.workspace_id, one.contact_id) for one in merged}
    moved = await connection.fetch(_READDRESS, *columns(several)) if several else []
    changed = {(row[0], row[1]) for row in moved} | {(one.workspace_id, one.contact_id) for one in merged}
    identified = {
        (key.workspace_id, contact) for key, contact in contacts.items() if key not in made and not known.get(key)
    }
    return Resolution(contacts, merged, changed, identified)


async def note_profiles(connection: Connection, profiles: Sequence[Profile]) -> set[tuple[int, int]]:
    """Each contact once. Returns (workspace, contact) of those that changed."""
    if not profiles:
        return set()
    rows = await connection.fetch(
        _PROFILE,
        *columns([(p.workspace_id, p.contact_id, p.named_at, p.name, p.username, p.inbound_at) for p in profiles]),
    )
    return {(row[0], row[1]) for row in rows}


def _keys(sighting: Sighting) -> list[Identity]:
    return [Identity(sighting.workspace_id, sighting.channel_id, identity) for identity in sighting.seen]


async def _merge(
    connection: Connection, sightings: Sequence[Sighting], known: Mapping[Identity, set[int]]
) -> tuple[list[inbox_merging.Merged], dict[int, int]]:
    """Merges what one sighting connects into the oldest of them; also says which contact each ended as."""
    owner: dict[int, int] = {}
    merged = []

    def of(contact_id: int) -> int:
        while owner.setdefault(contact_id, contact_id) != contact_id:
            contact_id = owner[contact_id]
        return contact_id

    for sighting in sightings:
        found = sorted({of(one) for key in _keys(sighting) for one in known.get(key, ())})
        for loser in found[1:]:
            merged.append(await inbox_merging.merge(connection, sighting.workspace_id, found[0], loser))
            owner[loser] = found[0]
    return merged, {contact_id: of(contact_id) for contact_id in list(owner)}


async def _create(connection: Connection, strangers: Sequence[Sighting]) -> dict[Identity, int]:
    if not strangers:
        return {}
    first = {Identity(s.workspace_id, s.channel_id, _address(s)): s for s in strangers}
    rows = await connection.fetch(_CREATE, *columns(first))
    made: dict[Identity, int] = {}
    for workspace_id, channel_id, external_id, contact_id in rows:
        sighting = first[Identity(workspace_id, channel_id, external_id)]
        made |= dict.fromkeys(_keys(sighting), contact_id)
    return made


def _address(sighting: Sighting) -> str:
    """As `_READDRESS` chooses."""

    def rank(item: tuple[str, datetime | None]) -> tuple[bool, float, str]:
        identity, at = item
        return identity.startswith("+"), at.timestamp() if at is not None else float("-inf"), identity

    return max(sighting.seen.items(), key=rank)[0]
