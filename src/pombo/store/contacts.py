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


async def save_contacts(connection: Connection, workspace_id: WorkspaceId, contacts: Sequence[NewContact]) -> int:
    """Adds contacts, or adds to the attributes of those there. One per (channel, external id); returns how many."""
    done = await connection.execute(
        """INSERT INTO contacts (workspace_id, channel_id, external_id, attributes)
           SELECT $1, * FROM unnest($2::bigint[], $3::text[], $4::jsonb[])
           ON CONFLICT (workspace_id, channel_id, external_id)
           DO UPDATE SET attributes = contacts.attributes || excluded.attributes""",
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
