"""What order hangs on: attempted messages, which later ones to the same recipient must wait for.

A lane knows them from its own doing. A new owner finds them here: `retries` has a row for each message that waits for
another attempt, `doubts` for each in doubt, and what the former owner had in flight stands in its `intents`.
"""

from collections.abc import Collection
from dataclasses import dataclass

from pombo.domain.classes import MessageClass
from pombo.store.database import Connection


@dataclass(frozen=True, slots=True)
class Attempted:
    workspace_id: int
    channel_id: int
    message_id: int
    message_class: MessageClass
    recipient: str
    doubtful: bool
    age_s: float
    """How long it has been in doubt; 0 for one that waits."""


# A doubt of longer than the grace holds nobody up, and of these there may be very many.
#
# What is in flight of a former owner is in doubt from now on, whether its row says so already or not. Each message is
# looked up by itself (OFFSET 0 is a fence), or the planner pairs all of them with all channels first.
_ATTEMPTED = """
WITH mine AS (
    SELECT * FROM unnest($1::bigint[], $2::bigint[]) AS c (workspace_id, channel_id)
), attempted AS (
    SELECT r.workspace_id, r.message_id, NULL::timestamptz AS since
    FROM mine JOIN retries r USING (workspace_id, channel_id)
    UNION ALL
    SELECT d.workspace_id, d.message_id, d.since FROM mine JOIN doubts d USING (workspace_id, channel_id)
    JOIN channels h ON h.workspace_id = d.workspace_id AND h.id = d.channel_id
    WHERE d.since > now() - h.doubt_grace_s * interval '1 second'
    UNION ALL
    SELECT m.workspace_id, m.id, now()
    FROM intents i, unnest(i.workspace_ids, i.message_ids) AS m (workspace_id, id) WHERE i.worker_id <> $3
)
SELECT o.workspace_id, o.channel_id, o.id,
       coalesce((SELECT class FROM streams s WHERE s.workspace_id = o.workspace_id AND s.channel_id = o.channel_id
                                               AND s.run_id = o.run_id), 2),
       o.recipient, o.state <> 'r',
       coalesce(extract(epoch FROM now() - a.since), 0)::float8
FROM attempted a
CROSS JOIN LATERAL (
    SELECT workspace_id, channel_id, id, run_id, recipient, state FROM outbox
    WHERE workspace_id = a.workspace_id AND id = a.message_id AND (state <> 'r' OR attempt > 0)
    OFFSET 0
) o
JOIN mine c ON c.workspace_id = o.workspace_id AND c.channel_id = o.channel_id
ORDER BY o.id
"""


async def attempted(connection: Connection, worker_id: int, keys: Collection[tuple[int, int]]) -> list[Attempted]:
    """Of these channels (workspace, channel), which the worker has just taken; the earliest message first."""
    rows = await connection.fetch(_ATTEMPTED, [key[0] for key in keys], [key[1] for key in keys], worker_id)
    return [Attempted(w, c, m, MessageClass(k), *rest) for w, c, m, k, *rest in rows]


async def states(connection: Connection, messages: Collection[tuple[int, int]]) -> dict[int, str]:
    """The outbox state of those of these messages (workspace, message) that are still in it; `p` for what is paused."""
    rows = await connection.fetch(
        """SELECT o.id, CASE WHEN o.state = 'r' AND s.state = 'paused' THEN 'p' ELSE o.state::text END
           FROM unnest($1::bigint[], $2::bigint[]) AS m (workspace_id, id)
           JOIN outbox o ON o.workspace_id = m.workspace_id AND o.id = m.id
           LEFT JOIN streams s
               ON s.workspace_id = o.workspace_id AND s.channel_id = o.channel_id AND s.run_id = o.run_id""",
        [message[0] for message in messages],
        [message[1] for message in messages],
    )
    return dict(rows)
