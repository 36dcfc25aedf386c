"""A receiver of webhooks for tests: keeps the exact bytes that arrived, and answers as it is told."""

import asyncio
import hashlib
import hmac
import json
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Delivery:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    status: int
    """What it was answered with; 0 where it got no answer."""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def is_signed_with(self, secret: str) -> bool:
        expected = hmac.new(secret.encode(), self.body, hashlib.sha256).hexdigest()
        return self.headers.get("x-hub-signature-256") == f"sha256={expected}"


class WebhookReceiver:
    """`answers` holds the next statuses, 200 after that; 0 closes the connection without an answer."""

    def __init__(self, host: str, port: int) -> None:
        self.url = f"http://{host}:{port}/webhook"
        self.port = port
        self.deliveries: list[Delivery] = []
        self.answers: deque[int] = deque()
        self.answer_body = b""
        self.connections = 0
        self._arrived = asyncio.Condition()

    async def wait_for(self, count: int) -> list[Delivery]:
        """Wait until this many requests have arrived."""
        async with asyncio.timeout(10), self._arrived:
            await self._arrived.wait_for(lambda: len(self.deliveries) >= count)
        return self.deliveries

    def accepted(self) -> list[Delivery]:
        return [delivery for delivery in self.deliveries if delivery.status == 200]

    def statuses(self) -> list[dict[str, Any]]:
        """WhatsApp statuses in the order of arrival."""
        return [
            status
            for delivery in self.accepted()
            if delivery.json["object"] == "whatsapp_business_account"
            for entry in delivery.json["entry"]
            for change in entry["changes"]
            for status in change["value"].get("statuses", ())
        ]

    def events(self) -> list[dict[str, Any]]:
        """Messenger events in the order of arrival."""
        return [
            event
            for delivery in self.accepted()
            if delivery.json["object"] == "page"
            for entry in delivery.json["entry"]
            for event in entry.get("messaging", ())
        ]

    def changes(self, field: str) -> list[Any]:
        """The values of a WhatsApp field that are no statuses, in the order of arrival."""
        return [
            change["value"]
            for delivery in self.accepted()
            if delivery.json["object"] == "whatsapp_business_account"
            for entry in delivery.json["entry"]
            for change in entry["changes"]
            if change["field"] == field and "statuses" not in change["value"]
        ]

    def inbound(self) -> list[dict[str, Any]]:
        """Messages of WhatsApp users in the order of arrival."""
        return [message for value in self.changes("messages") for message in value.get("messages", ())]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                line, *rest = head.decode().rstrip().split("\r\n")
                method, target, _ = line.split(" ")
                headers = {name.lower(): value.strip() for name, _, value in (row.partition(":") for row in rest)}
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                status = self.answers.popleft() if self.answers else 200
                if status:
                    answer = b"HTTP/1.1 %d Status\r\nContent-Length: %d\r\n\r\n" % (status, len(self.answer_body))
                    writer.write(answer + self.answer_body)
                    await writer.drain()
                async with self._arrived:
                    self.deliveries.append(Delivery(method, target, headers, body, status))
                    self._arrived.notify_all()
                if not status:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def running_receiver(port: int = 0) -> AsyncIterator[WebhookReceiver]:
    receiver = WebhookReceiver("127.0.0.1", port)
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(receiver._serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", port)
    receiver.port = server.sockets[0].getsockname()[1]
    receiver.url = f"http://127.0.0.1:{receiver.port}/webhook"
    try:
        yield receiver
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
