"""The ASGI application: guard, then webhooks apart, then the gate, then the routes.

Guard ─┬─ webhooks (their own signature check; raw, because they are many)
       ├─ sockets (their own way to say who they are)
       └─ Gate ── FastAPI routes
"""

from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from pombo.access.keys import ApiKeys
from pombo.api import (
    agents,
    campaigns,
    canned_replies,
    channels,
    contact_actions,
    conversations,
    doubts,
    error_map,
    health,
    labels,
    media,
    messages,
    metrics,
    panic,
    queue,
    run_control,
    runs,
    sends,
    socket_schema,
    stats,
    suppressions,
    syncs,
    threads,
    webhook_log,
)
from pombo.api.body_limit import BodyLimit
from pombo.api.gate import Gate
from pombo.api.guard import Guard
from pombo.api.ringing import Ringing
from pombo.api.send_document import add_send_body
from pombo.api.services import Services
from pombo.api.sockets import Sockets
from pombo.api.webhooks import PATHS

_DESCRIPTION = """
Sends campaigns on Facebook Messenger and WhatsApp. Every address but a bare `/health` wants
`Authorization: Bearer <API key>`. Errors are `{"error": {"code", "message", "details"}}`, with stable codes.
"""


def create_app(services: Services) -> ASGIApp:
    routes = FastAPI(
        title="Pombo",
        version=health.VERSION,
        description=_DESCRIPTION,
        # The pages that show the document would load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    routes.state.services = services
    routes.state.pulse = health.Pulse(services.database)
    error_map.install(routes)
    # `send` stands before `campaigns`, whose addresses hold an id in the same place.
    for part in (
        health, sends, campaigns, runs, run_control, panic, doubts, messages, threads, conversations, labels,
        canned_replies, agents, suppressions, channels, queue, stats, metrics, webhook_log, socket_schema,
        media, syncs, contact_actions,
    ):  # fmt: skip
        routes.include_router(part.router)
    routes.openapi = lambda: _document(routes)  # type: ignore[method-assign]
    secret = services.settings.worker_secret
    keys = ApiKeys(services.database)
    gate = Gate(
        Ringing(BodyLimit(routes), services.realtime), keys, secret.get_secret_value() if secret is not None else None
    )
    sockets = None
    if services.realtime is not None:
        sockets = Sockets(services.realtime, keys, services.settings.origins)
    return Guard(_Split(services.webhooks, sockets, gate))


def _document(routes: FastAPI) -> dict[str, Any]:
    if not routes.openapi_schema:
        add_send_body(FastAPI.openapi(routes))
    assert routes.openapi_schema is not None
    return routes.openapi_schema


class _Split:
    def __init__(self, webhooks: ASGIApp | None, sockets: ASGIApp | None, others: ASGIApp) -> None:
        self._webhooks = webhooks
        self._sockets = sockets
        self._others = others

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._others
        if scope["type"] == "websocket" and self._sockets is not None:
            app = self._sockets
        elif scope["type"] == "http" and self._webhooks is not None and scope["path"] in PATHS:
            app = self._webhooks
        await app(scope, receive, send)
