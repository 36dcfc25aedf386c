"""Bodies that the framework reads into memory are small; only the streamed route takes large ones."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pombo.api.errors import ApiError

STREAMED = frozenset({"/api/campaigns/send", "/api/media"})
# A campaign's content: Meta's largest payloads have some 100 KB.
_LIMIT = 1024 * 1024


class BodyLimit:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in STREAMED:
            await self._app(scope, receive, send)
            return
        size = 0

        async def limited() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > _LIMIT:
                raise ApiError("body_too_large", f"The body of such a request has at most {_LIMIT // 1024} KB.")
            return message

        await self._app(scope, limited, send)
