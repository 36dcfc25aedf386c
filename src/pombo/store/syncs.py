"""The reading of channels' pasts: which runs, how far it is, and the job for its next page.

A page is a channel job; its answer moves the sync on and makes the next job, in one transaction (`pombo.ingest`). So a
sync goes on wherever it was, after any crash and after days.
"""

from datetime import datetime
from typing import NamedTuple

from pombo.store import channel_jobs, inbox_events
from pombo.store.channel_jobs import NewJob
from pombo.store.database import Connection

SYNC_JSON = """jsonb_build_object(
    'id', s.id, 'version', s.version, 'channelId', s.channel_id, 'wanted', s.wanted, 'state', s.state,
    'threads', s.threads, 'messages', s.messages, 'reachedAt', s.reached_at,
    'error', CASE WHEN s.error_title IS NOT NULL
                  THEN jsonb_build_object('code', s.error_code, 'title', s.error_title) END,
    'createdAt', s.created_at, 'finishedAt', s.finished_at)"""
"""Of `channel_syncs s`."""

# Threads read in one pass over those that were read before.
PASSING_SIZE = 100


class Sync(NamedTuple):
    """Locked until the transaction ends."""

    id: int
    channel_id: int
    wanted: int
    threads: int
    page_size: int
    cursor: str | None
    reached_at: datetime | None


_START = f"""
INSERT INTO channel_syncs AS s (workspace_id, channel_id, wanted) VALUES ($1, $2, $3)
ON CONFLICT (workspace_id, channel_id) WHERE state = 'running'
DO UPDATE SET wanted = greatest(s.wanted, excluded.wanted), version = s.version + 1
RETURNING s.id, {SYNC_JSON}::text
"""

_LOCK = """
SELECT id, channel_id, wanted, threads, page_size, cursor, reached_at FROM channel_syncs
WHERE workspace_id = $1 AND id = $2 AND state = 'running' FOR UPDATE
"""

_ADVANCE = """
UPDATE channel_syncs SET threads = threads + $3, messages = messages + $4, cursor = $5, reached_at = $6, page_size = $7,
    version = version + 1
WHERE workspace_id = $1 AND id = $2
"""

_END = """
UPDATE channel_syncs SET state = $3, error_code = $4, error_title = $5, cursor = NULL, finished_at = clock_timestamp(),
    version = version + 1
WHERE workspace_id = $1 AND id = $2 AND state = 'running' RETURNING id
"""


async def start(connection: Connection, workspace_id: int, channel_id: int, wanted: int) -> str:
    """Begins one of a Messenger channel, or lets the one that runs read as much; it as JSON text."""
    row = await connection.fetchrow(_START, workspace_id, channel_id, wanted)
    assert row is not None
    await want_page(connection, workspace_id, Sync(row[0], channel_id, wanted, 0, min(25, wanted), None, None))
    await tell(connection, workspace_id, row[0])
    shown: str = row[1]
    return shown


async def want_page(
    connection: Connection, workspace_id: int, sync: Sync, *, passing: bool = False, again: bool = False,
    refusals: int = 0,
) -> None:  # fmt: skip
    """The job for the page after the sync's cursor: `passing` over threads that were read before, or `again` with some
    that were; after so many `refusals` of cursors since a page was read."""
    payload: str = await connection.fetchval(
        """SELECT jsonb_strip_nulls(jsonb_build_object('syncId', $1::bigint, 'after', $2::text, 'limit', $3::integer,
                                                       'passing', $4::boolean, 'again', $5::boolean,
                                                       'refusals', nullif($6::integer, 0)))::text""",
        sync.id,
        sync.cursor,
        _size(sync, passing=passing, again=again),
        passing,
        again,
        refusals,
    )
    await channel_jobs.add(
        connection, [NewJob(workspace_id, sync.channel_id, "conversations", payload, f"sync {sync.id}")]
    )


def _size(sync: Sync, *, passing: bool, again: bool) -> int:
    if passing or again:
        # A page of the same size, or its end would be another one.
        return PASSING_SIZE
    return max(1, min(sync.page_size, sync.wanted - sync.threads))


async def lock(connection: Connection, workspace_id: int, sync_id: int) -> Sync | None:
    """None where it does not run any more."""
    row = await connection.fetchrow(_LOCK, workspace_id, sync_id)
    return None if row is None else Sync(*row)


async def advance(connection: Connection, workspace_id: int, sync: Sync, *, threads: int, messages: int) -> None:
    """So many more were read; cursor, page size and reached time are the sync's own new ones."""
    await connection.execute(
        _ADVANCE, workspace_id, sync.id, threads, messages, sync.cursor, sync.reached_at, sync.page_size
    )
    await tell(connection, workspace_id, sync.id)


async def complete(connection: Connection, workspace_id: int, sync_id: int) -> None:
    await _end(connection, workspace_id, sync_id, "completed", None, None)


async def fail(connection: Connection, workspace_id: int, sync_id: int, code: int | None, why: str) -> None:
    await _end(connection, workspace_id, sync_id, "failed", code, why)


async def cancel(connection: Connection, workspace_id: int, sync_id: int) -> None:
    await _end(connection, workspace_id, sync_id, "cancelled", None, None)


async def _end(
    connection: Connection, workspace_id: int, sync_id: int, state: str, code: int | None, why: str | None
) -> None:
    if await connection.fetchval(_END, workspace_id, sync_id, state, code, why) is not None:
        await tell(connection, workspace_id, sync_id)


async def show(connection: Connection, workspace_id: int, sync_id: int) -> str | None:
    """As JSON text."""
    shown: str | None = await connection.fetchval(
        f"SELECT {SYNC_JSON}::text FROM channel_syncs s WHERE s.workspace_id = $1 AND s.id = $2", workspace_id, sync_id
    )
    return shown


async def show_latest(connection: Connection, workspace_id: int) -> list[str]:
    """The latest of each channel."""
    rows = await connection.fetch(
        f"""SELECT DISTINCT ON (s.channel_id) {SYNC_JSON}::text FROM channel_syncs s WHERE s.workspace_id = $1
            ORDER BY s.channel_id, s.id DESC""",
        workspace_id,
    )
    return [row[0] for row in rows]


async def tell(connection: Connection, workspace_id: int, sync_id: int) -> None:
    """Browsers follow the progress."""
    row = await show(connection, workspace_id, sync_id)
    assert row is not None
    await inbox_events.append_row(connection, workspace_id, "sync.updated", row)
