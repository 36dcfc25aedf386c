"""Channels: the Pages and numbers a workspace sends from."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from pombo.domain.channels import ChannelKind, ChannelState
from pombo.domain.doubt import DEFAULT_GRACE_S, DoubtPolicy
from pombo.domain.ids import AppId, ChannelId, WorkspaceId
from pombo.domain.outcomes import ErrorScope
from pombo.store.database import Connection
from pombo.store.errors import NotFound
from pombo.store.secrets import SecretBox

LEASE_BELL = "pombo_channels"
"""Rung by NOTIFY when a channel was added, changed or given up by its worker."""

_COLUMNS = """workspace_id, id, kind, external_id, name, app_id, waba_id, token, rate_per_second, state, stop_code,
              stop_reason, doubt_policy, doubt_grace_s"""


@dataclass(frozen=True, slots=True)
class Channel:
    workspace_id: WorkspaceId
    id: ChannelId
    kind: ChannelKind
    external_id: str
    """Meta's id of the Page or the phone number."""
    name: str
    app_id: AppId
    waba_id: str | None
    token: bytes
    """Sealed; `SecretBox.open(workspace_id, token)`."""
    rate_per_second: float
    state: ChannelState
    stop_code: str | None
    stop_reason: str | None
    doubt_policy: DoubtPolicy = DoubtPolicy.SAFE
    doubt_grace_s: float = DEFAULT_GRACE_S


async def save_channel(
    connection: Connection,
    box: SecretBox,
    *,
    workspace_id: WorkspaceId,
    kind: ChannelKind,
    external_id: str,
    name: str,
    app_id: AppId,
    token: str,
    rate_per_second: float,
    waba_id: str | None = None,
    doubt_policy: DoubtPolicy | None = None,
    doubt_grace_s: float | None = None,
    default_doubt_policy: DoubtPolicy = DoubtPolicy.SAFE,
    default_doubt_grace_s: float = DEFAULT_GRACE_S,
) -> ChannelId:
    """Adds a channel, or replaces the token, name, app and rate of the one there, and starts it again if it stopped.

    Policy and grace of the one there stay if they are not given; a new one has the defaults then.
    """
    channel_id: ChannelId = await connection.fetchval(
        """INSERT INTO channels (workspace_id, kind, external_id, name, app_id, waba_id, token, rate_per_second,
                                 doubt_policy, doubt_grace_s)
           VALUES ($1, $2, $3, $4, $5, $6, $7, $8, coalesce($9::text, $11), coalesce($10::float8, $12))
           ON CONFLICT (workspace_id, kind, external_id) DO UPDATE SET
               name = excluded.name, app_id = excluded.app_id, waba_id = excluded.waba_id, token = excluded.token,
               rate_per_second = excluded.rate_per_second, state = 'active', stop_code = NULL, stop_reason = NULL,
               stopped_at = NULL, doubt_policy = coalesce($9, channels.doubt_policy),
               doubt_grace_s = coalesce($10, channels.doubt_grace_s)
           RETURNING id""",
        workspace_id,
        kind,
        external_id,
        name,
        app_id,
        waba_id,
        box.seal(workspace_id, token),
        rate_per_second,
        doubt_policy,
        doubt_grace_s,
        default_doubt_policy,
        default_doubt_grace_s,
    )
    await connection.execute(
        "INSERT INTO channel_leases (workspace_id, channel_id) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        workspace_id,
        channel_id,
    )
    await connection.execute("SELECT pg_notify($1, '')", LEASE_BELL)
    return channel_id


async def list_channels(connection: Connection, workspace_id: WorkspaceId) -> list[Channel]:
    rows = await connection.fetch(f"SELECT {_COLUMNS} FROM channels WHERE workspace_id = $1 ORDER BY id", workspace_id)
    return [_channel(row) for row in rows]


async def all_channels(connection: Connection) -> list[Channel]:
    """Of all workspaces."""
    return [_channel(row) for row in await connection.fetch(f"SELECT {_COLUMNS} FROM channels ORDER BY 1, 2")]


async def get_channels(connection: Connection, keys: Collection[tuple[int, int]]) -> list[Channel]:
    """The named channels of any workspaces; missing ones are left out."""
    rows = await connection.fetch(
        f"""SELECT {_COLUMNS} FROM channels
            JOIN unnest($1::bigint[], $2::bigint[]) AS k (workspace_id, id) USING (workspace_id, id)""",
        [key[0] for key in keys],
        [key[1] for key in keys],
    )
    return [_channel(row) for row in rows]


# A change may become visible later than its time says; a minute covers the longest transaction near these rows.
_CHANGED = f"""
SELECT clock_timestamp() AS seen, {", ".join("c." + name.strip() for name in _COLUMNS.split(","))}
FROM (SELECT) AS always LEFT JOIN (
    channels c JOIN channel_leases l ON l.workspace_id = c.workspace_id AND l.channel_id = c.id AND l.worker_id = $1
) ON $2::timestamptz IS NULL OR c.changed_at > $2 - interval '1 minute'
"""


async def changed_channels(
    connection: Connection, worker_id: int, since: datetime | None
) -> tuple[datetime, list[Channel]]:
    """The worker's channels that were changed since, and until when it has looked; none when `since` is None."""
    rows = await connection.fetch(_CHANGED, worker_id, since)
    found = [{name: value for name, value in row.items() if name != "seen"} for row in rows if row["id"] is not None]
    return rows[0]["seen"], [_channel(values) for values in found]


async def find_channel(connection: Connection, workspace_id: WorkspaceId, name_or_id: str) -> Channel:
    """By our id, Meta's id, or name; raises NotFound when none or several fit."""
    rows = await connection.fetch(
        f"""SELECT {_COLUMNS} FROM channels
            WHERE workspace_id = $1 AND (id::text = $2 OR external_id = $2 OR name = $2)
            ORDER BY id::text = $2 DESC, external_id = $2 DESC""",
        workspace_id,
        name_or_id,
    )
    if not rows:
        raise NotFound(f"There is no channel {name_or_id!r}: `pombo channel list` shows them.")
    if len(rows) > 1 and name_or_id not in (str(rows[0]["id"]), rows[0]["external_id"]):
        raise NotFound(f"{len(rows)} channels are called {name_or_id!r}: name one by its id.")
    return _channel(rows[0])


CONCERNED = """(c.id = hit.id OR c.kind = hit.kind AND (e.scope = 'app' AND c.app_id = hit.app_id
                                             OR e.scope = 'account' AND c.waba_id = hit.waba_id))"""
"""SQL: whether channel `c` is concerned by the error `e` that channel `hit` met. The same rule as `is_concerned`."""


def is_concerned(channel: Channel, hit: Channel, scope: ErrorScope) -> bool:
    """Whether an error that `hit` met, with this scope, is `channel`'s as well."""
    if channel.workspace_id != hit.workspace_id or channel.kind is not hit.kind:
        return False
    return (
        channel.id == hit.id
        or (scope is ErrorScope.APP and channel.app_id == hit.app_id)
        or (scope is ErrorScope.ACCOUNT and channel.waba_id is not None and channel.waba_id == hit.waba_id)
    )


class Stop(NamedTuple):
    """An error that means that nothing more can be sent until somebody acts."""

    workspace_id: int
    channel_id: int
    token: bytes | None
    """That the channel had. If it has another one by now, the error is about the old one and stops nothing."""
    scope: ErrorScope
    code: str
    why: str
    at: datetime | None = None
    """When Meta said so, if not just now (to the second). A channel that was changed since is not stopped by it."""


async def stop_channels(connection: Connection, stops: Sequence[Stop]) -> list[tuple[int, int]]:
    """Stops each one's channel, and those that its scope says are concerned as well.

    Returns (workspace, channel) of those that were not stopped before.
    """
    rows = await connection.fetch(
        f"""UPDATE channels c SET state = 'stopped', stop_code = e.code, stop_reason = e.why, stopped_at = now()
            FROM unnest($1::bigint[], $2::bigint[], $3::bytea[], $4::text[], $5::text[], $6::text[],
                        $7::timestamptz[])
                AS e (workspace_id, channel_id, token, scope, code, why, at)
            JOIN channels hit ON hit.workspace_id = e.workspace_id AND hit.id = e.channel_id
                AND (e.token IS NULL OR hit.token = e.token)
                AND (e.at IS NULL OR hit.changed_at < e.at + interval '1 second')
            WHERE c.workspace_id = hit.workspace_id AND {CONCERNED} AND c.state = 'active'
            RETURNING c.workspace_id, c.id""",
        *map(list, zip(*stops, strict=True)),
    )
    return [(row[0], row[1]) for row in rows]


async def start_channel(connection: Connection, workspace_id: WorkspaceId, channel_id: ChannelId) -> list[ChannelId]:
    """Lets a stopped channel send again, and those that the same error has stopped with it; returns which."""
    rows = await connection.fetch(
        """UPDATE channels c SET state = 'active', stop_code = NULL, stop_reason = NULL, stopped_at = NULL
           FROM channels named
           WHERE named.workspace_id = $1 AND named.id = $2 AND c.workspace_id = $1 AND c.state = 'stopped'
             AND c.stop_code = named.stop_code AND c.stopped_at = named.stopped_at
             AND (c.id = named.id OR c.kind = named.kind AND (c.app_id = named.app_id OR c.waba_id = named.waba_id))
           RETURNING c.id""",
        workspace_id,
        channel_id,
    )
    return sorted(row["id"] for row in rows)


def _channel(row: object) -> Channel:
    values = dict(row)  # type: ignore[call-overload]
    values["kind"] = ChannelKind(values["kind"])
    values["state"] = ChannelState(values["state"])
    values["doubt_policy"] = DoubtPolicy(values["doubt_policy"])
    return Channel(**values)
