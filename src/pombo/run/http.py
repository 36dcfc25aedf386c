"""JSON over HTTP to Pombo's own API and to the sandbox, for the commands that talk to running roles."""

from types import TracebackType
from typing import Any, Self

import msgspec

from pombo.meta.transport import Answer, Transport


class HttpError(Exception):
    """Not answered, or refused; the message says by whom and why."""


class JsonClient:
    def __init__(self, base_url: str, token: str | None = None) -> None:
        self.base_url = base_url
        self._transport = Transport(base_url, max_sockets=4, answer_timeout=60.0, max_answer_bytes=64 * 1024 * 1024)
        self.started = False
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    async def __aenter__(self) -> Self:
        await self._transport.start()
        self.started = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._transport.close()

    async def call(self, method: str, target: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        """The decoded answer. Raises HttpError unless it is a 2xx."""
        sent = dict(self._headers, **(headers or {}))
        encoded = None
        if body is not None:
            encoded = msgspec.json.encode(body)
            sent["Content-Type"] = "application/json"
        answer = await self._transport.request(method, target, sent, encoded)
        if not isinstance(answer, Answer):
            raise HttpError(f"{self.base_url} does not answer: {answer.reason} {answer.detail}")
        if not 200 <= answer.status < 300:
            text = answer.body[:500].decode(errors="replace")
            raise HttpError(f"{method} {target} at {self.base_url} answered {answer.status}: {text}")
        return msgspec.json.decode(answer.body) if answer.body else None
