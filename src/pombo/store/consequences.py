"""Which runs an error pauses. Whose error stops which channels: `channels.stop_channels`."""

from datetime import datetime
from typing import NamedTuple

from pombo.domain.ids import RunId, WorkspaceId
from pombo.store.database import Connection, atomic
from pombo.store.run_control import pause_runs


class RunPause(NamedTuple):
    """An error of a run's template or content, met on this channel."""

    workspace_id: int
    channel_id: int
    run_id: int
    template: tuple[str, str] | None
    """Name and language, when other runs with it are concerned as well."""
    code: str
    why: str
    """In words, with the next step."""
    at: datetime | None = None
    """When Meta said so, if not just now (to the second). A run that was resumed since is not paused by it."""


# A template belongs to a WhatsApp account; a channel that does not say which has its templates for itself.
_RUNS_WITH_TEMPLATE = """
SELECT r.id FROM runs r
WHERE r.workspace_id = $1 AND r.state IN ('pending', 'processing')
  AND (r.content ->> 'name' = $3 AND r.content ->> 'language' = $4
       OR r.content #>> '{payload,template,name}' = $3 AND r.content #>> '{payload,template,language,code}' = $4)
  AND r.channel_ids && ARRAY (
      SELECT c.id
      FROM channels hit JOIN channels c ON c.workspace_id = $1 AND (c.id = hit.id OR c.waba_id = hit.waba_id)
      WHERE hit.workspace_id = $1 AND hit.id = $2)
"""


_NOT_RESUMED_SINCE = """
SELECT id FROM runs
WHERE workspace_id = $1 AND id = ANY ($2::bigint[])
  AND (resumed_at IS NULL OR resumed_at < $3::timestamptz + interval '1 second')
"""


async def pause_for(connection: Connection, pause: RunPause) -> list[RunId]:
    """One transaction. Pauses the run, and all with its template; returns those that were not paused before."""
    async with atomic(connection):
        runs = {pause.run_id}
        if pause.template is not None:
            rows = await connection.fetch(_RUNS_WITH_TEMPLATE, pause.workspace_id, pause.channel_id, *pause.template)
            runs |= {row["id"] for row in rows}
        if pause.at is not None:
            rows = await connection.fetch(_NOT_RESUMED_SINCE, pause.workspace_id, sorted(runs), pause.at)
            runs = {row["id"] for row in rows}
        return await pause_runs(connection, WorkspaceId(pause.workspace_id), sorted(runs), pause.why)
