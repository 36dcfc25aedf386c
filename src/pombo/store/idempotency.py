"""Answers of requests that send, kept so that a client's retry gets the first answer and nothing is sent again.

    claim ─▶ (work) ─▶ remember, in the transaction that does what the answer says
                  └──▶ release, when the request failed and may be made anew

A claim is a lease: when its process dies, the key is free again after a while. Two that work under one key after all
are told apart by `remember`, which only the first to finish passes.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pombo.domain.ids import WorkspaceId
from pombo.store.database import Connection

RETENTION = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    request_hash: bytes
    status: int
    answer: str
    """JSON, as it was sent."""


class UnderWay:
    """The first request with this key has not finished."""


async def claim(
    connection: Connection, workspace_id: WorkspaceId, key: str, lease: timedelta
) -> StoredAnswer | UnderWay | None:
    """None: the key is ours until the lease ends. A key left by a dead process, or past its retention, is free."""
    claimed = await connection.fetchval(
        """INSERT INTO idempotency_keys AS k (workspace_id, key, leased_until)
           VALUES ($1, $2, clock_timestamp() + $3::interval)
           ON CONFLICT (workspace_id, key) DO UPDATE SET
               leased_until = excluded.leased_until, created_at = excluded.created_at,
               request_hash = NULL, status = NULL, answer = NULL
           WHERE k.leased_until < clock_timestamp() OR k.created_at < clock_timestamp() - $4::interval
           RETURNING true""",
        workspace_id,
        key,
        lease,
        RETENTION,
    )
    if claimed:
        return None
    # Released between the two statements: whoever had it is at its end, and the client may simply try again.
    return await _find(connection, workspace_id, key) or UnderWay()


async def renew(connection: Connection, workspace_id: WorkspaceId, key: str, lease: timedelta) -> None:
    await connection.execute(
        """UPDATE idempotency_keys SET leased_until = clock_timestamp() + $3::interval
           WHERE workspace_id = $1 AND key = $2 AND status IS NULL""",
        workspace_id,
        key,
        lease,
    )


async def release(connection: Connection, workspace_id: WorkspaceId, key: str) -> None:
    await connection.execute(
        "DELETE FROM idempotency_keys WHERE workspace_id = $1 AND key = $2 AND status IS NULL", workspace_id, key
    )


async def remember(
    connection: Connection, workspace_id: WorkspaceId, key: str, answer: StoredAnswer
) -> StoredAnswer | None:
    """Keeps the answer; None when it is the first. Otherwise the one that stands: roll back and give that.

    Waits for another transaction that is just remembering the same key. Needs no claim.
    """
    kept = await connection.fetchval(
        """INSERT INTO idempotency_keys AS k (workspace_id, key, request_hash, status, answer)
           VALUES ($1, $2, $3, $4, $5)
           ON CONFLICT (workspace_id, key) DO UPDATE SET
               request_hash = excluded.request_hash, status = excluded.status, answer = excluded.answer,
               leased_until = NULL, created_at = excluded.created_at
           WHERE k.status IS NULL OR k.created_at < clock_timestamp() - $6::interval
           RETURNING true""",
        workspace_id,
        key,
        answer.request_hash,
        answer.status,
        answer.answer,
        RETENTION,
    )
    return None if kept else await _find(connection, workspace_id, key)


async def forget_expired(connection: Connection) -> int:
    """Removes keys past their retention, of all workspaces; returns how many."""
    done = await connection.execute(
        "DELETE FROM idempotency_keys WHERE created_at < clock_timestamp() - $1::interval", RETENTION
    )
    return int(done.rpartition(" ")[2])


async def _find(connection: Connection, workspace_id: WorkspaceId, key: str) -> StoredAnswer | None:
    row: Any = await connection.fetchrow(
        """SELECT request_hash, status, answer FROM idempotency_keys
           WHERE workspace_id = $1 AND key = $2 AND status IS NOT NULL""",
        workspace_id,
        key,
    )
    return None if row is None else StoredAnswer(*row)
