"""Contacts: the people a channel can write to."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

from pombo.domain.ids import ChannelId, WorkspaceId
from pombo.store.database import Connection


class NewContact(NamedTuple):
    channel_id: ChannelId
    external_id: str
    """Normalised, as `pombo.domain.phones` gives it."""
    attributes: Mapping[str, Any] = MappingProxyType({})
    """The variables of this contact's messages; anything JSON can hold."""


# Who is known by another address, too, is found by any of them: what was merged stays one.
_SAVE = """
INSERT INTO contacts (workspace_id, channel_id, external_id, attributes)
SELECT DISTINCT ON (g.channel_id, address) $1::bigint, g.channel_id, address, g.attributes
FROM unnest($2::bigint[], $3::text[], $4::jsonb[]) AS g (channel_id, external_id, attributes)
LEFT JOIN identities i ON i.workspace_id = $1 AND i.channel_id = g.channel_id AND i.identity = g.external_id
LEFT JOIN contacts c ON c.workspace_id = $1 AND c.id = i.contact_id
CROSS JOIN LATERAL (SELECT coalesce(c.external_id, g.external_id) AS address) a
ORDER BY g.channel_id, address, g.external_id = address DESC
ON CONFLICT (workspace_id, channel_id, external_id)
DO UPDATE SET attributes = contacts.attributes || excluded.attributes
"""


async def save_contacts(connection: Connection, workspace_id: WorkspaceId, contacts: Sequence[NewContact]) -> int:
    """Adds contacts, or adds to the attributes of those there. One a person and channel; returns how many."""
    done = await connection.execute(
        _SAVE,
        workspace_id,
        [contact.channel_id for contact in contacts],
        [contact.external_id for contact in contacts],
        [msgspec.json.encode(dict(contact.attributes)).decode() for contact in contacts],
    )
    return int(done.rpartition(" ")[2])


async def count_contacts(connection: Connection, workspace_id: WorkspaceId, channel_ids: Sequence[ChannelId]) -> int:
    count: int = await connection.fetchval(
        "SELECT count(*) FROM contacts WHERE workspace_id = $1 AND channel_id = ANY ($2::bigint[])",
        workspace_id,
        channel_ids,
    )
    return count
