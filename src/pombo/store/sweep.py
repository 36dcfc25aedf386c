"""Rows that are of no use after some time, deleted in short statements, so that none is long near the outbox.

The tables of the logs are not among them: their partitions are dropped whole.
"""

from datetime import timedelta
from typing import Literal

from pombo.store.database import Connection

# Rows of one statement: some 20 ms.
CHUNK = 5000

_STALE = {
    "pending_receipts": "received_at < clock_timestamp() - $1::interval",
    "watermarks": "received_at < clock_timestamp() - $1::interval",
    # Unless it may have told of a message that is still in doubt, which would then be taken for safe to send again.
    "webhook_errors": """at < clock_timestamp() - $1::interval AND NOT EXISTS (
        SELECT FROM doubts d WHERE d.workspace_id = webhook_errors.workspace_id AND d.intent_at <= at)""",
    "signals": "received_at < clock_timestamp() - $1::interval",
    # What a message shows it must show again when it is told once more.
    "message_changes": """received_at < clock_timestamp() - $1::interval AND NOT EXISTS (
        SELECT FROM conversation_messages m WHERE m.workspace_id = message_changes.workspace_id
            AND m.channel_id = message_changes.channel_id AND m.provider_id = message_changes.provider_id)""",
    # What it had in flight must have been adopted.
    "workers": """expires_at < clock_timestamp() - $1::interval
                  AND NOT EXISTS (SELECT FROM intents i WHERE i.worker_id = workers.id)""",
}
SweptTable = Literal["pending_receipts", "watermarks", "webhook_errors", "workers", "signals", "message_changes"]


async def sweep(connection: Connection, table: SweptTable, age: timedelta) -> int:
    """Deletes the rows older than `age`, each chunk in a commit of its own; returns how many."""
    stale = _STALE[table]
    statement = f"""
        DELETE FROM {table}
        WHERE ctid = ANY (ARRAY(SELECT ctid FROM {table} WHERE {stale} LIMIT {CHUNK})) AND {stale}
    """
    swept = 0
    while True:
        deleted = int((await connection.execute(statement, age)).removeprefix("DELETE "))
        swept += deleted
        if deleted < CHUNK:
            return swept


async def forget_settled_doubts(connection: Connection) -> int:
    """Doubts that a crash has left between a settlement and their end, and retries noted while evidence settled their
    message, which are newer than the settlement's view of the table."""
    forgotten = 0
    for table, older in (("doubts", "AND t.since < now() - interval '1 minute'"), ("retries", "")):
        done = await connection.execute(
            # A subquery for a value, which the planner cannot turn into a join with the whole outbox.
            f"""DELETE FROM {table} t WHERE (
                    SELECT o.id FROM outbox o WHERE o.workspace_id = t.workspace_id AND o.id = t.message_id
                ) IS NULL {older}"""
        )
        forgotten += int(done.split()[1])
    return forgotten
