"""How long channels leave Meta alone: kept apart from the lanes that know it, for those that do not.

Advice, not truth: a lane acts by what it holds in memory. A row tells a channel's new owner that its breaker is open or
that Meta throttles it, and other workers' lanes that Meta throttles the whole app or account. Losing one, or finding
one that is over, costs a few refused requests.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from pombo.domain.outcomes import ErrorScope
from pombo.store.channels import CONCERNED
from pombo.store.database import Connection


class Cause(StrEnum):
    BREAKER = "breaker"
    THROTTLE = "throttle"


class Cooldown(NamedTuple):
    """From now on for so long; for all channels that the scope says are concerned."""

    workspace_id: int
    channel_id: int
    scope: ErrorScope
    cause: Cause
    left_s: float
    step: int
    """Failures, or pauses, in a row."""
    reason: str


class Standing(NamedTuple):
    """A cooldown as it stands; `left_s` is below zero when it is over."""

    workspace_id: int
    channel_id: int
    cause: Cause
    left_s: float
    step: int
    reason: str


# Several may meet in one statement at the same row: the longest counts.
_NOTE = f"""
INSERT INTO cooldowns AS k (workspace_id, channel_id, cause, until, step, reason)
SELECT DISTINCT ON (c.workspace_id, c.id, e.cause)
       c.workspace_id, c.id, e.cause, now() + e.left_s * interval '1 second', e.step, e.reason
FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::float8[], $6::integer[], $7::text[])
    AS e (workspace_id, channel_id, scope, cause, left_s, step, reason)
JOIN channels hit ON hit.workspace_id = e.workspace_id AND hit.id = e.channel_id
JOIN channels c ON c.workspace_id = hit.workspace_id AND {CONCERNED}
ORDER BY c.workspace_id, c.id, e.cause, e.left_s DESC
ON CONFLICT (workspace_id, channel_id, cause) DO UPDATE SET
    until = greatest(k.until, excluded.until), step = excluded.step, reason = excluded.reason
"""


async def note(connection: Connection, cooldowns: Sequence[Cooldown]) -> None:
    await connection.execute(_NOTE, *map(list, zip(*cooldowns, strict=True)))


async def forget_breakers(connection: Connection, channels: Sequence[tuple[int, int]]) -> None:
    """Of (workspace, channel)s whose breaker has closed."""
    await connection.execute(
        """DELETE FROM cooldowns k USING unnest($1::bigint[], $2::bigint[]) AS c (workspace_id, channel_id)
           WHERE k.workspace_id = c.workspace_id AND k.channel_id = c.channel_id AND k.cause = 'breaker'""",
        *map(list, zip(*channels, strict=True)),
    )


async def of_worker(connection: Connection, worker_id: int) -> list[Standing]:
    """Of the worker's channels: open breakers, also those whose time is up, and throttles that are not over."""
    rows = await connection.fetch(
        """SELECT k.workspace_id, k.channel_id, k.cause,
                  extract(epoch FROM k.until - clock_timestamp())::float8 AS left_s, k.step, k.reason
           FROM cooldowns k JOIN channel_leases l USING (workspace_id, channel_id)
           WHERE l.worker_id = $1 AND (k.cause = 'breaker' OR k.until > clock_timestamp())""",
        worker_id,
    )
    return [Standing(*row)._replace(cause=Cause(row["cause"])) for row in rows]
