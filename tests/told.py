"""What the event log tells browsers, as it was written: by no code of the log's own."""

import json
from typing import Any

from pombo.store.database import Connection

_TOLD = """
SELECT e.workspace_id, e.topic, told.name, told.data
FROM events e
CROSS JOIN LATERAL (
    VALUES (e.name, e.data, 1), ('conversation.updated', e.conversation, 2)
) AS told (name, data, place)
WHERE told.data IS NOT NULL ORDER BY e.id, told.place
"""


async def told(connection: Connection, workspace_id: int | None = None) -> list[tuple[str, str, Any]]:
    """Topic, name and row of each, in order; of all workspaces or of one."""
    rows = await connection.fetch(_TOLD)
    return [(t, name, json.loads(data)) for w, t, name, data in rows if workspace_id in (None, w)]
