"""The body of a request that may be as large as MAX_BODY_MB, piece by piece."""

import asyncio
import hashlib
from collections.abc import AsyncIterator

from fastapi import Request

from pombo.api.errors import ApiError

# What is worked on between two turns of the event loop; parsing it takes 1 to 3 ms.
_PIECE = 16 * 1024
# A client that sends nothing for so long is gone. Far below the hour after which its upload would be swept.
_SILENCE_S = 60.0


class StreamedBody:
    def __init__(self, request: Request, max_bytes: int, setting: str = "MAX_BODY_MB") -> None:
        """`setting` is what limits it. Raises ApiError when the length is announced and too large."""
        self._setting = setting
        self._request = request
        self._max_bytes = max_bytes
        # The query is part of what is asked for: a CSV's campaign stands there.
        self._hash = hashlib.sha256(request.scope["query_string"] + b"\n")
        announced = request.headers.get("content-length", "")
        if announced.isascii() and announced.isdecimal() and int(announced[:19]) > max_bytes:
            raise self._too_large()

    def digest(self) -> bytes:
        """SHA-256 of the query and of all that was read."""
        return self._hash.digest()

    async def pieces(self) -> AsyncIterator[bytes]:
        """Raises ApiError when it grows too large, falls silent or breaks off."""
        size = 0
        more = True
        while more:
            try:
                async with asyncio.timeout(_SILENCE_S):
                    message = await self._request.receive()
            except TimeoutError as error:
                raise ApiError("body_timeout", f"Nothing more of the body came within {_SILENCE_S:.0f} s.") from error
            if message["type"] == "http.disconnect":
                raise ApiError("body_incomplete", "The connection broke before the body had ended; nothing was kept.")
            body, more = message.get("body", b""), message.get("more_body", False)
            size += len(body)
            if size > self._max_bytes:
                raise self._too_large()
            self._hash.update(body)
            for start in range(0, len(body), _PIECE):
                yield body[start : start + _PIECE]
                await asyncio.sleep(0)

    async def drain(self) -> None:
        """Reads to the end for the digest alone."""
        async for _ in self.pieces():
            pass

    def _too_large(self) -> ApiError:
        return ApiError(
            "body_too_large",
            f"The body has more than {self._max_bytes // 1024**2} MB ({self._setting}): send less at once.",
        )
