"""Who may ask: everything wants an API key but the addresses named here.

A layer of its own before the framework, so that nobody without a key gets a body read or an address tried.
"""

import hmac
from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send

from pombo.access.keys import ApiKeys
from pombo.api.errors import ApiError
from pombo.domain.ids import AgentId, WorkspaceId

HEALTH = "/health"
WORKER = "/api/queue/worker"
# Descriptions of what is the same everywhere.
_OPEN = frozenset({"/openapi.json", "/ws/schema.json"})


@dataclass(frozen=True, slots=True)
class Caller:
    """Stands in the request's state as `caller`; None there for a bare /health or an open address."""

    workspace_id: WorkspaceId | None
    """None for whoever holds the worker secret."""
    agent_id: AgentId | None = None
    """The agent that the key acts for; None for a program's."""


class Gate:
    def __init__(self, app: ASGIApp, keys: ApiKeys, worker_secret: str | None) -> None:
        self._app = app
        self._keys = keys
        self._worker_secret = worker_secret.encode() if worker_secret else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            caller = await self._admit(scope)
        except ApiError as error:
            await error.response()(scope, receive, send)
            return
        scope.setdefault("state", {})["caller"] = caller
        await self._app(scope, receive, send)

    async def _admit(self, scope: Scope) -> Caller | None:
        path = scope["path"]
        header = next((value for name, value in scope["headers"] if name == b"authorization"), None)
        if path in _OPEN or (path == HEALTH and header is None):
            return None
        if header is None:
            raise ApiError(
                "key_missing", "Send an API key as `Authorization: Bearer <key>`; `pombo key create` makes one."
            )
        scheme, _, credential = header.partition(b" ")
        credential = credential.strip()
        if scheme.lower() != b"bearer" or not credential:
            raise ApiError("key_missing", "The Authorization header must read `Bearer <key>`.")
        if path == WORKER and self._worker_secret and hmac.compare_digest(credential, self._worker_secret):
            return Caller(None)
        holder = await self._keys.holder_of(credential.decode("latin-1"))
        if holder is None:
            raise ApiError("key_invalid", "This API key is unknown or was revoked.")
        return Caller(holder.workspace_id, holder.agent_id)
