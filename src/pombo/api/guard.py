"""The outermost layer: security headers on every answer, and one answer for every bug, which says nothing of it."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pombo.api.errors import database_unavailable, internal_error
from pombo.store.errors import DatabaseUnavailable
from pombo.telemetry import log

# The API answers data, never pages: nothing in an answer may run, be framed, or be taken for another type.
_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
]


class Guard:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = ended = False

        async def guarded_send(message: Message) -> None:
            nonlocal started, ended
            ended = message["type"] == "http.response.body" and not message.get("more_body", False)
            if message["type"] == "http.response.start":
                started = True
                present = {name.lower() for name, _ in message.get("headers", ())}
                added = [header for header in _HEADERS if header[0] not in present]
                message["headers"] = [*message.get("headers", ()), *added]
            await send(message)

        try:
            await self._app(scope, receive, guarded_send)
        except DatabaseUnavailable:
            if started:
                raise
            await database_unavailable().response()(scope, receive, guarded_send)
        except Exception:
            log.exception("request_failed", method=scope["method"], path=scope["path"])
            # The framework answers bugs in its routes (`error_map`), then raises them on for this log.
            if ended:
                return
            if started:
                raise
            await internal_error().response()(scope, receive, guarded_send)
