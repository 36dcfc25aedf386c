"""After a request that may have changed something, browsers hear of it at once.

Here and not in each route, so that none can forget it. A ring for nothing costs nearly nothing: they go together.
"""

from starlette.types import ASGIApp, Receive, Scope, Send

from pombo.realtime.service import RealTime

_READING = frozenset({"GET", "HEAD", "OPTIONS"})


class Ringing:
    def __init__(self, app: ASGIApp, realtime: RealTime | None) -> None:
        self._app = app
        self._realtime = realtime

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        finally:
            if self._realtime is not None and scope["type"] == "http" and scope["method"] not in _READING:
                self._realtime.ring()
