"""Whom typing and seen of a conversation are shown to."""

from typing import NamedTuple

from pombo.domain.channels import ChannelKind
from pombo.store.database import Connection


class Target(NamedTuple):
    channel_id: int
    kind: ChannelKind
    recipient: str
    last_inbound: str | None
    """Meta's id of the contact's last message."""


async def find_target(connection: Connection, workspace_id: int, conversation_id: int) -> Target | None:
    row = await connection.fetchrow(
        """SELECT c.channel_id, ch.kind, p.external_id,
                  (SELECT m.provider_id FROM conversation_messages m
                   WHERE m.workspace_id = c.workspace_id AND m.conversation_id = c.id AND m.author = 'contact'
                   ORDER BY m.at DESC, m.id DESC LIMIT 1)
           FROM conversations c
           JOIN channels ch ON ch.workspace_id = c.workspace_id AND ch.id = c.channel_id
           JOIN contacts p ON p.workspace_id = c.workspace_id AND p.id = c.contact_id
           WHERE c.workspace_id = $1 AND c.id = $2""",
        workspace_id,
        conversation_id,
    )
    return None if row is None else Target(row[0], ChannelKind(row[1]), row[2], row[3])
