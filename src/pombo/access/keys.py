"""Who asks: the workspace of an API key."""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass

from pombo.domain.ids import AgentId, WorkspaceId
from pombo.store import accounts
from pombo.store.database import Database

# A revoked key works for so long at most; it spares a query on every request.
_REMEMBERED_S = 3.0
# Valid keys remembered at once; far above what one installation has in use within that time.
_MOST_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class KeyHolder:
    workspace_id: WorkspaceId
    key_id: int
    agent_id: AgentId | None
    """Whom the key acts for; None for a program's."""


class ApiKeys:
    def __init__(self, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        # By the key's hash, so that memory holds no key in clear.
        self._remembered: dict[bytes, tuple[float, KeyHolder]] = {}

    async def holder_of(self, key: str) -> KeyHolder | None:
        """None for a key that is unknown or revoked. Raises DatabaseUnavailable."""
        workspace_id = accounts.workspace_of_key(key)
        if workspace_id is None:
            return None
        digest, now = hashlib.sha256(key.encode()).digest(), self._clock()
        until, holder = self._remembered.get(digest, (now, None))
        if now < until:
            return holder
        async with self._database.tenant(workspace_id) as connection:
            valid = await accounts.find_api_key(connection, workspace_id, key)
        if valid is None:
            self._remembered.pop(digest, None)
            return None
        if len(self._remembered) >= _MOST_REMEMBERED:
            self._remembered.clear()
        found = KeyHolder(workspace_id, *valid)
        self._remembered[digest] = (now + _REMEMBERED_S, found)
        return found
