"""`Idempotency-Key`: one request that sends, however often its client tries."""

import asyncio
import json
import time
from datetime import timedelta

from fastapi import Request
from starlette.responses import Response

from pombo.api.errors import ApiError
from pombo.domain.ids import CampaignId, WorkspaceId
from pombo.store import idempotency
from pombo.store.database import Database
from pombo.store.errors import DatabaseUnavailable
from pombo.store.idempotency import StoredAnswer
from pombo.telemetry import log

_HEADER = "Idempotency-Key"
_LONGEST = 255
# Twice the silence after which a body's sender counts as gone, so that only a process that died loses its claim.
_LEASE = timedelta(minutes=2)
_RENEW_S = 30.0


def key_of(request: Request) -> str | None:
    """Raises ApiError."""
    key = request.headers.get(_HEADER)
    if key is None:
        return None
    if not key or len(key) > _LONGEST or not (key.isascii() and key.isprintable()):
        sentence = f"{_HEADER} has 1 to {_LONGEST} visible ASCII characters; a UUID is a good one."
        raise ApiError("idempotency_key_invalid", sentence)
    # Keys given and keys made here never meet.
    return f"given:{key}"


def default_key(campaign_id: CampaignId, digest: bytes) -> str:
    """For a request without the header: the same body to the same campaign is the same request (the old contract)."""
    return f"body:{campaign_id}:{digest.hex()}"


class Claim:
    """A given key, ours while the request is under way."""

    def __init__(self, database: Database, workspace_id: WorkspaceId, key: str) -> None:
        self._database = database
        self._workspace_id = workspace_id
        self._key = key
        self._renewed = time.monotonic()

    async def take(self) -> StoredAnswer | None:
        """The answer of the request that had this key before, if any. Raises ApiError while that is under way."""
        async with self._database.tenant(self._workspace_id) as connection:
            found = await idempotency.claim(connection, self._workspace_id, self._key, _LEASE)
        if found is None or isinstance(found, StoredAnswer):
            return found
        sentence = f"A request with this {_HEADER} is still under way; ask again in a few seconds for its answer."
        raise ApiError("request_in_progress", sentence)

    async def keep(self) -> None:
        """Call it often; it seldom does anything."""
        if time.monotonic() - self._renewed > _RENEW_S:
            self._renewed = time.monotonic()
            async with self._database.tenant(self._workspace_id) as connection:
                await idempotency.renew(connection, self._workspace_id, self._key, _LEASE)

    async def release(self) -> None:
        """The request failed and may be made again; does nothing to an answer that was kept."""
        await asyncio.shield(self._release())

    async def _release(self) -> None:
        try:
            async with self._database.tenant(self._workspace_id) as connection:
                await idempotency.release(connection, self._workspace_id, self._key)
        except DatabaseUnavailable as error:
            log.warning("idempotency_key_left_to_its_lease", workspace_id=self._workspace_id, reason=str(error))


def replay(answer: StoredAnswer, digest: bytes, *, is_given: bool) -> Response:
    """The answer again. Raises ApiError when it belongs to another request."""
    if answer.request_hash != digest:
        sentence = f"This {_HEADER} was used for another request; take a new one for a new request."
        raise ApiError("idempotency_conflict", sentence)
    content = answer.answer
    if not is_given:
        notice = (
            "Nothing was sent: this campaign was sent to exactly this list within the last 24 hours, and this is the "
            f"answer of that time. To send it once more, repeat the request with a new {_HEADER} header."
        )
        content = json.dumps({**json.loads(content), "notice": notice}, ensure_ascii=False)
    return Response(content, answer.status, {"Idempotent-Replay": "true"}, "application/json")
