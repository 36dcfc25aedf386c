"""The WebSocket at `/ws`: who may open it, and the loops that carry its frames. Raw ASGI, and frames to clients go by
`SocketProtocol`, because they are many.

What the frames mean is `pombo.realtime`'s. A socket that is refused is accepted first and then closed, since a browser
shows its page a close code and reason, and nothing of a refused handshake.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

from starlette.types import Receive, Scope, Send

from pombo.access.keys import ApiKeys, KeyHolder
from pombo.api.socket_protocol import WIRE
from pombo.realtime import frames
from pombo.realtime.frames import Auth, FrameInvalid
from pombo.realtime.outgoing import (
    AUTH_TIMEOUT,
    FAILED,
    FRAME_INVALID,
    KEY_INVALID,
    ORIGIN_REFUSED,
    TOO_MANY,
    TRY_AGAIN,
    Close,
)
from pombo.realtime.service import Holder, RealTime, TooManySockets
from pombo.realtime.session import Session, shortened
from pombo.store.errors import DatabaseUnavailable
from pombo.telemetry import log

PATH = "/ws"
MOST_FRAME_BYTES = 16 * 1024
"""Of a client's frame; the server's protocol closes with 1009 beyond (`ws_max_size`)."""

# For the first frame, of those who send no Authorization.
_AUTH_TIMEOUT_S = 10.0
# Sockets at once that have not said who they are.
_MOST_STRANGERS = 500
# A slow client gets so long to read what the kernel and the server hold for it, and why it is dropped.
_CLOSE_TIMEOUT_S = 3.0


class Sockets:
    """ASGI application for websocket scopes."""

    def __init__(self, realtime: RealTime, keys: ApiKeys, allowed_origins: Sequence[str]) -> None:
        self._realtime = realtime
        self._keys = keys
        self._allowed_origins = frozenset(origin.rstrip("/").lower() for origin in allowed_origins)
        self._strangers = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        if scope["path"] != PATH:
            await send({"type": "websocket.close"})
            return
        await send({"type": "websocket.accept"})
        try:
            holder = await self._admit(scope, receive)
            owner = Holder(holder.workspace_id, holder.key_id, holder.agent_id)
            async with self._realtime.socket(owner, scope["state"][WIRE]) as session:
                await _carry(session, receive, send)
        except Refused as refused:
            await _close(send, refused.close)
        except TooManySockets:
            await _close(send, Close(TOO_MANY, "This workspace has too many sockets open."))
        except DatabaseUnavailable:
            await _close(send, Close(TRY_AGAIN, "The database does not answer at the moment; try again."))
        except Gone:
            pass
        except Exception:
            log.exception("socket_failed")
            await _close(send, Close(FAILED, "Something went wrong on our side; the log of the API says what."))

    async def _admit(self, scope: Scope, receive: Receive) -> KeyHolder:
        """Raises Refused, Gone, DatabaseUnavailable."""
        headers = dict(scope["headers"])
        if not self._origin_is_allowed(headers):
            raise Refused(ORIGIN_REFUSED, "Pages of this origin may not connect; see ALLOWED_ORIGINS.")
        if (authorization := headers.get(b"authorization")) is not None:
            scheme, _, key = authorization.decode("latin-1").partition(" ")
            if scheme.lower() != "bearer":
                raise Refused(KEY_INVALID, "The Authorization header must read `Bearer <key>`.")
        else:
            key = await self._first_frame(receive)
        holder = await self._keys.holder_of(key.strip())
        if holder is None:
            raise Refused(KEY_INVALID, "This API key is unknown or was revoked.")
        return holder

    async def _first_frame(self, receive: Receive) -> str:
        if self._strangers >= _MOST_STRANGERS:
            raise Refused(TRY_AGAIN, "Too many sockets have not said who they are; try again.")
        self._strangers += 1
        try:
            async with asyncio.timeout(_AUTH_TIMEOUT_S):
                frame = frames.decode(await _text(receive))
        except TimeoutError:
            raise Refused(AUTH_TIMEOUT, f"No auth frame came within {_AUTH_TIMEOUT_S:.0f} seconds.") from None
        except FrameInvalid as error:
            raise Refused(FRAME_INVALID, shortened(str(error))) from None
        finally:
            self._strangers -= 1
        if not isinstance(frame, Auth):
            raise Refused(KEY_INVALID, 'The first frame must be {"type": "auth", "key": ...}.')
        return frame.key

    def _origin_is_allowed(self, headers: dict[bytes, bytes]) -> bool:
        """Programs send none; a page of this very server may always."""
        origin = headers.get(b"origin")
        if origin is None:
            return True
        name = origin.decode("latin-1").lower()
        own = headers.get(b"host", b"").decode("latin-1").lower()
        return "*" in self._allowed_origins or name in self._allowed_origins or name.partition("://")[2] == own != ""


async def _carry(session: Session, receive: Receive, send: Send) -> None:
    """Until either side closes."""
    reading = asyncio.create_task(_read(session, receive))
    writing = asyncio.create_task(session.outgoing.carry())
    closing = session.outgoing.closing
    any_end: list[asyncio.Future[Any]] = [reading, writing, closing]
    try:
        await asyncio.wait(any_end, return_when=asyncio.FIRST_COMPLETED)
    finally:
        reading.cancel()
        writing.cancel()
        ended = await asyncio.gather(reading, writing, return_exceptions=True)
    if closing.done():
        await _close(send, closing.result())
    for end in ended:
        if isinstance(end, Exception) and not isinstance(end, Gone | OSError):
            raise end


async def _read(session: Session, receive: Receive) -> None:
    while True:
        try:
            text = await _text(receive)
        except FrameInvalid as error:
            session.outgoing.close(FRAME_INVALID, str(error))
            return
        await session.take(text)


async def _text(receive: Receive) -> str:
    """The next frame's. Raises Gone, or FrameInvalid for a binary one."""
    message = await receive()
    if message["type"] == "websocket.disconnect":
        raise Gone
    text: str | None = message.get("text")
    if text is None:
        raise FrameInvalid("Frames are JSON in text, not binary.")
    return text


async def _close(send: Send, close: Close) -> None:
    # Who does not read is not waited for: the connection is cut with what it holds.
    with contextlib.suppress(TimeoutError, OSError):
        async with asyncio.timeout(_CLOSE_TIMEOUT_S):
            await send({"type": "websocket.close", "code": close.code, "reason": close.reason})


class Gone(Exception):
    """The client has left."""


class Refused(Exception):
    """The socket is not let in."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.close = Close(code, reason)
