"""Search in conversations: contacts by the beginning of a name, word or address; messages by whole words, newest first.

The functions of the database that search stand in the migration, and say why.
"""

from datetime import UTC, datetime
from typing import NamedTuple

from pombo.domain.ids import WorkspaceId
from pombo.store.database import Connection

_MOST_CONTACTS = 20


class Hit(NamedTuple):
    """A message with the words."""

    conversation_id: int
    message_id: int
    at: datetime
    text: str
    """Its beginning."""


class Position(NamedTuple):
    """Of a message: hits older than it follow."""

    at: datetime
    id: int


NOW = Position(datetime(2100, 1, 1, tzinfo=UTC), 2**63 - 1)

_BY_CONTACT = """
SELECT c.id FROM (SELECT DISTINCT contact_id FROM search_contacts($2, $3)) found
CROSS JOIN LATERAL (
    SELECT p.id, p.channel_id FROM contacts p WHERE p.workspace_id = $1 AND p.id = found.contact_id OFFSET 0
) p
CROSS JOIN LATERAL (
    SELECT c.id, c.last_message_at FROM conversations c
    WHERE c.workspace_id = $1 AND c.channel_id = p.channel_id AND c.contact_id = p.id OFFSET 0
) c
ORDER BY c.last_message_at DESC, c.id DESC LIMIT $3
"""

_BY_MESSAGE = """
SELECT conversation_id, message_id, at, text FROM search_messages($1, least($2, now() + interval '1 day'), $3, $4)
"""


async def by_contact(connection: Connection, workspace_id: WorkspaceId, words: str) -> list[int]:
    """Conversations of those contacts, the last active ones first."""
    return [row[0] for row in await connection.fetch(_BY_CONTACT, workspace_id, words, _MOST_CONTACTS)]


async def by_message(connection: Connection, words: str, before: Position, limit: int) -> list[Hit]:
    """In a tenant's transaction. Newest first; a conversation may come several times."""
    return [Hit(*row) for row in await connection.fetch(_BY_MESSAGE, words, before.at, before.id, limit)]
