"""Removes what interrupted requests left behind."""

from datetime import timedelta

from pombo.store import audience
from pombo.store.database import Database
from pombo.telemetry import log

# A request that still lives adds to its upload every few seconds, or is ended by the API's own time-out of a minute.
_SILENCE = timedelta(hours=1)


async def sweep_abandoned(database: Database) -> int:
    """Discards uploads that fell silent; returns how many.

    For a worker to call every few minutes; several at once do no harm. Raises DatabaseUnavailable.
    """
    async with database.borrow() as connection:
        abandoned = await audience.silent_uploads(connection, _SILENCE)
        for workspace_id, run_id in abandoned:
            await audience.discard_upload(connection, workspace_id, run_id)
            log.info("upload_swept", workspace_id=workspace_id, run_id=run_id)
    return len(abandoned)
