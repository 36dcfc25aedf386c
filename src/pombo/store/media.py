"""Files of conversations: which there are, where they come from, whether their bytes are here (`media_files`).

wanted ──fetched from Meta──▶ stored        one that an agent uploads is stored at once
   └──gone, too large──▶ failed ──asked for by somebody──▶ wanted
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from pombo.store import channel_jobs, inbox_events
from pombo.store.database import Connection
from pombo.store.planning import columns

KINDS = ("image", "video", "audio", "file", "document", "sticker", "voice", "reel", "ig_reel")
"""Attachments that are files."""
# Meta keeps what came in for seven days, but its addresses of Messenger's files end much earlier.
UPLOAD_LIFE_DAYS = 25


class StoredMedia(NamedTuple):
    id: int
    sha256: bytes
    size: int
    content_type: str
    file_name: str | None


class Media(NamedTuple):
    id: int
    state: str
    source: str
    sha256: bytes | None
    size: int | None
    content_type: str | None
    file_name: str | None
    error_title: str | None


_WANT = """
WITH wanted AS (
    INSERT INTO media (workspace_id, channel_id, conversation_message_id, place, source, state, file_name)
    SELECT m.workspace_id, m.channel_id, m.id, a.n - 1,
           jsonb_strip_nulls(jsonb_build_object('id', a.one -> 'id', 'url', a.one -> 'url')), 'wanted',
           left(a.one ->> 'fileName', 255)
    FROM unnest($1::bigint[], $2::bigint[]) AS new (workspace_id, id)
    JOIN conversation_messages m ON m.workspace_id = new.workspace_id AND m.id = new.id
    CROSS JOIN LATERAL jsonb_array_elements(CASE jsonb_typeof(m.content -> 'attachments') WHEN 'array'
                                            THEN m.content -> 'attachments' ELSE '[]' END) WITH ORDINALITY AS a (one, n)
    WHERE a.one ->> 'type' = ANY ($3::text[])
      AND (jsonb_typeof(a.one -> 'id') = 'string' OR jsonb_typeof(a.one -> 'url') = 'string')
    ON CONFLICT (workspace_id, conversation_message_id, place) DO NOTHING
    RETURNING workspace_id, channel_id, id
), jobs AS (
    INSERT INTO channel_jobs (workspace_id, channel_id, kind, payload, dedupe_key)
    SELECT workspace_id, channel_id, 'media', jsonb_build_object('mediaId', id), 'media ' || id FROM wanted
    ON CONFLICT (workspace_id, dedupe_key) WHERE state <> 'failed' DO NOTHING
)
SELECT count(pg_notify($4, '')) FROM wanted
"""

# The job that failed is in no new one's way.
_WANT_AGAIN = """
WITH wanted AS (
    UPDATE media SET state = 'wanted', error_title = NULL
    WHERE workspace_id = $1 AND id = $2 AND state = 'failed' AND source ?| ARRAY['id', 'url']
    RETURNING workspace_id, channel_id, id, conversation_message_id
), job AS (
    INSERT INTO channel_jobs (workspace_id, channel_id, kind, payload, dedupe_key)
    SELECT workspace_id, channel_id, 'media', jsonb_build_object('mediaId', id), 'media ' || id FROM wanted
)
SELECT conversation_message_id, pg_notify($3, '') FROM wanted
"""

_COLUMNS = "id, state, source, sha256, size, content_type, file_name, error_title"


async def want_attachments(connection: Connection, messages: Sequence[tuple[int, int]]) -> None:
    """The files of these new messages (workspace, id) are to be fetched."""
    if messages:
        await connection.execute(_WANT, *columns(messages), list(KINDS), channel_jobs.BELL)


async def get_media(connection: Connection, workspace_id: int, media_id: int) -> Media | None:
    row = await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM media WHERE workspace_id = $1 AND id = $2", workspace_id, media_id
    )
    return None if row is None else Media(*row)


async def add_stored(
    connection: Connection, workspace_id: int, sha256: bytes, size: int, content_type: str, file_name: str | None
) -> int:
    """Of a file that an agent uploaded, whose bytes are kept already."""
    media_id: int = await connection.fetchval(
        """INSERT INTO media (workspace_id, state, sha256, size, content_type, file_name)
           VALUES ($1, 'stored', $2, $3, $4, $5) RETURNING id""",
        workspace_id,
        sha256,
        size,
        content_type,
        file_name,
    )
    return media_id


async def mark_stored(connection: Connection, workspace_id: int, media: StoredMedia) -> None:
    """Its bytes are kept; browsers that show its message are told."""
    await _settle(
        connection,
        """UPDATE media SET state = 'stored', source = '{}', sha256 = $3, size = $4, content_type = $5,
               file_name = coalesce(file_name, $6)
           WHERE workspace_id = $1 AND id = $2 AND state = 'wanted' RETURNING conversation_message_id""",
        workspace_id,
        *media,
    )


async def mark_failed(connection: Connection, workspace_id: int, media_id: int, why: str) -> None:
    await _settle(
        connection,
        """UPDATE media SET state = 'failed', error_title = $3 WHERE workspace_id = $1 AND id = $2 AND state = 'wanted'
           RETURNING conversation_message_id""",
        workspace_id,
        media_id,
        why,
    )


async def want_again(connection: Connection, workspace_id: int, media_id: int) -> bool:
    """A file that could not be fetched is asked for once more; False where it has not failed, or has no source."""
    return await _settle(connection, _WANT_AGAIN, workspace_id, media_id, channel_jobs.BELL)


async def _settle(connection: Connection, statement: str, workspace_id: int, *values: object) -> bool:
    message_id: int | None = await connection.fetchval(statement, workspace_id, *values)
    if message_id is not None:
        await connection.execute(
            "UPDATE conversation_messages SET version = version + 1 WHERE workspace_id = $1 AND id = $2",
            workspace_id,
            message_id,
        )
        await inbox_events.append(connection, updated=[(workspace_id, message_id)])
    return message_id is not None


async def uploaded(connection: Connection, workspace_id: int, media_id: int, channel_id: int) -> str | None:
    """What Meta calls the file on this channel, if it is there and stays for a while."""
    provider_id: str | None = await connection.fetchval(
        """SELECT provider_id FROM media_uploads
           WHERE workspace_id = $1 AND media_id = $2 AND channel_id = $3 AND expires_at > clock_timestamp()""",
        workspace_id,
        media_id,
        channel_id,
    )
    return provider_id


async def note_upload(
    connection: Connection, workspace_id: int, media_id: int, channel_id: int, provider_id: str
) -> datetime:
    """Until when Meta keeps it, to be on the safe side."""
    expires_at: datetime = await connection.fetchval(
        """INSERT INTO media_uploads (workspace_id, media_id, channel_id, provider_id, expires_at)
           VALUES ($1, $2, $3, $4, clock_timestamp() + make_interval(days => $5))
           ON CONFLICT (workspace_id, media_id, channel_id)
           DO UPDATE SET provider_id = excluded.provider_id, expires_at = excluded.expires_at
           RETURNING expires_at""",
        workspace_id,
        media_id,
        channel_id,
        provider_id,
        UPLOAD_LIFE_DAYS,
    )
    return expires_at
