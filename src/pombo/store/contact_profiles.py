"""What Meta knows of a Page's contact (name, picture), asked for once when somebody new writes."""

from collections.abc import Collection, Mapping

from pombo.store import channel_jobs, inbox_events
from pombo.store.database import Connection
from pombo.store.planning import columns

# A profile that cannot be read today may be readable in a month.
NAMELESS = """(c.name IS NULL AND (c.profile_asked_at IS NULL OR c.profile_asked_at < now() - interval '30 days'))"""
"""Of `contacts c`: those whose name Meta may know, and was not asked for lately."""

# WhatsApp brings names with messages.
_WANT = f"""
WITH nameless AS (
    UPDATE contacts c SET profile_asked_at = now()
    FROM unnest($1::bigint[], $2::bigint[]) AS w (workspace_id, id)
    WHERE c.workspace_id = w.workspace_id AND c.id = w.id AND {NAMELESS}
      AND EXISTS (SELECT FROM channels ch
                  WHERE ch.workspace_id = c.workspace_id AND ch.id = c.channel_id AND ch.kind = 'messenger')
    RETURNING c.workspace_id, c.id, c.channel_id, c.external_id
), jobs AS (
    INSERT INTO channel_jobs (workspace_id, channel_id, kind, payload, dedupe_key)
    SELECT workspace_id, channel_id, 'profile', jsonb_build_object('contactId', id, 'recipient', external_id),
           'profile ' || id
    FROM nameless
    ON CONFLICT (workspace_id, dedupe_key) WHERE state <> 'failed' DO NOTHING
)
SELECT count(pg_notify($3, '')) FROM nameless
"""

# A name that an agent gave stays.
_SAVE = """
UPDATE contacts SET
    name = CASE WHEN name IS NULL OR name = profile ->> 'name' THEN coalesce($3, name) ELSE name END,
    profile = profile || jsonb_strip_nulls(jsonb_build_object('name', $3::text, 'picture', $4::text))
WHERE workspace_id = $1 AND id = $2
"""

_TOUCH = """
UPDATE conversations SET version = version + 1
WHERE workspace_id = $1 AND channel_id = $2 AND contact_id = $3 RETURNING workspace_id, id
"""


async def want(connection: Connection, contacts: Collection[tuple[int, int]]) -> None:
    """Of those (workspace, contact) without a name, on Pages."""
    if contacts:
        await connection.execute(_WANT, *columns(sorted(contacts)), channel_jobs.BELL)


async def save(
    connection: Connection, workspace_id: int, channel_id: int, contact_id: int, profile: Mapping[str, str]
) -> None:
    """In the transaction that ends the job."""
    await connection.execute(_SAVE, workspace_id, contact_id, profile.get("name"), profile.get("picture"))
    rows = await connection.fetch(_TOUCH, workspace_id, channel_id, contact_id)
    await inbox_events.append(connection, conversations=[(row[0], row[1]) for row in rows])
