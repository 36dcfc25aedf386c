"""Status webhooks for what was accepted: sent, delivered, read, posted as Meta does, at the pace of sending."""

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from typing import cast

from pombo.meta.signature import sign

# When each status is posted after the answer. Meta's come later and spread out; the load is the same.
STAGES = ((b"sent", 0.1), (b"delivered", 0.3), (b"read", 0.5))
LAST_S = STAGES[-1][1]
# A POST holds what is due of one number, so many at most. (Meta puts up to 1,000 into one under load.)
_A_POST = 50
_TICK_S = 0.01
_CONNECTIONS = 16

_STATUS = (
    b'{"id":"%b","status":"%b","timestamp":"%d","recipient_id":"%b","biz_opaque_callback_data":"%b",'
    b'"pricing":{"billable":true,"pricing_model":"PMP","type":"regular","category":"utility"}}'
)
_WEBHOOK = (
    b'{"object":"whatsapp_business_account","entry":[{"id":"100000000000001","changes":[{"value":{"messaging_product":'
    b'"whatsapp","metadata":{"display_phone_number":"15550000000","phone_number_id":"%b"},"statuses":[%b]},'
    b'"field":"messages"}]}]}'
)
_POST = (
    b"POST %b HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nX-Hub-Signature-256: %b\r\n"
    b"Content-Length: %d\r\n\r\n%b"
)


@dataclass(frozen=True, slots=True)
class Receipts:
    port: int
    """Of the receiver, on loopback."""
    path: str
    app_secret: str


@dataclass(frozen=True, slots=True)
class _Accepted:
    at: float
    channel: bytes
    provider_id: bytes
    recipient: bytes
    key: bytes


class Poster:
    def __init__(self, receipts: Receipts) -> None:
        self._receipts = receipts
        self._stages: list[deque[_Accepted]] = [deque() for _ in STAGES]
        self.bodies: asyncio.Queue[tuple[bytes, int]] = asyncio.Queue()
        """Webhooks to be posted, each with how many statuses it holds."""
        self._owed = self._posted = self._refused = 0

    def accepted(self, request: bytes, answer: bytes) -> None:
        # /v26.0/<number>/messages
        channel = request.split(b"/", 3)[2]
        provider_id = answer[answer.rindex(b'"id":"') + 6 : answer.rindex(b'"')]
        key = _between(request, b'"biz_opaque_callback_data":"')
        message = _Accepted(time.monotonic(), channel, provider_id, _between(request, b'"to":"+'), key)
        for stage in self._stages:
            stage.append(message)
        self._owed += len(STAGES)

    def counts(self) -> dict[str, int]:
        """Statuses: `owed` in all, `posted` and answered with 200, `refused`."""
        return {"owed": self._owed, "posted": self._posted, "refused": self._refused}

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(_CONNECTIONS):
                tasks.create_task(self._post())
            while True:
                await asyncio.sleep(_TICK_S)
                self.collect()

    def collect(self) -> None:
        """Makes webhooks of what is due."""
        now = time.monotonic()
        timestamp = int(time.time())
        due: dict[bytes, list[bytes]] = {}
        for (status, delay), waiting in zip(STAGES, self._stages, strict=True):
            while waiting and waiting[0].at + delay <= now:
                m = waiting.popleft()
                due.setdefault(m.channel, []).append(_STATUS % (m.provider_id, status, timestamp, m.recipient, m.key))
        for channel, statuses in due.items():
            for first in range(0, len(statuses), _A_POST):
                some = statuses[first : first + _A_POST]
                self.bodies.put_nowait((_WEBHOOK % (channel, b",".join(some)), len(some)))

    async def _post(self) -> None:
        secret, path = self._receipts.app_secret.encode(), self._receipts.path.encode()
        connection: _Connection | None = None
        while True:
            body, count = await self.bodies.get()
            request = _POST % (path, sign(secret, body).encode(), len(body), body)
            try:
                if connection is None or connection.closed:
                    loop = asyncio.get_running_loop()
                    _, connection = await loop.create_connection(_Connection, "127.0.0.1", self._receipts.port)
                good = await connection.ask(request)
            except OSError:
                good = False
                await asyncio.sleep(_TICK_S)
            if good:
                self._posted += count
            else:
                self._refused += count


class _Connection(asyncio.Protocol):
    """One request at a time; all that matters of the answer is its status and where it ends."""

    def __init__(self) -> None:
        self.closed = False
        self._data = b""
        self._answer: asyncio.Future[bool] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def ask(self, request: bytes) -> asyncio.Future[bool]:
        """Whether it was answered with 200. Raises ConnectionError."""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._data += data
        end = self._data.find(b"\r\n\r\n")
        if end < 0 or self._answer is None:
            return
        head = self._data[:end].lower()
        length_at = head.find(b"content-length:")
        if length_at >= 0:
            whole = len(self._data) >= end + 4 + int(head[length_at + 15 :].split(b"\r\n", 1)[0])
        else:  # Node's empty answers are chunked
            whole = self._data.endswith(b"0\r\n\r\n")
        if whole:
            answer, self._answer, self._data = self._answer, None, b""
            answer.set_result(head.startswith(b"http/1.1 200"))

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError("The receiver closed the connection."))


def _between(text: bytes, mark: bytes) -> bytes:
    at = text.index(mark) + len(mark)
    return text[at : text.index(b'"', at)]
