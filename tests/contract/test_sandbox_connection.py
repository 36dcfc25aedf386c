"""HTTP/1.1 as the sandbox speaks it, on raw sockets."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.sandbox_server import ChannelHandle, SandboxHandle, text_body

PSID = "7012345678901234"


class Caller:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, *parts: bytes) -> None:
        self.writer.writelines(parts)

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().rstrip()
        line, *rest = head.split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (row.partition(":") for row in rest)}
        body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return int(line.split(" ")[1]), headers, body


@asynccontextmanager
async def connected(sandbox: SandboxHandle) -> AsyncIterator[Caller]:
    host, port = sandbox.base_url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        async with asyncio.timeout(10):
            yield Caller(reader, writer)
    finally:
        writer.close()


def request(page: ChannelHandle, key: str, *headers: bytes) -> bytes:
    body = json.dumps(text_body(page, PSID, key=key)).encode()
    lines = [
        f"POST /v26.0/{page.id}/messages HTTP/1.1".encode(),
        b"Host: sandbox",
        f"Authorization: Bearer {page.token}".encode(),
        b"Content-Length: %d" % len(body),
        *headers,
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


async def test_a_connection_carries_many_requests_and_is_counted_once(
    sandbox: SandboxHandle, page: ChannelHandle
) -> None:
    async with connected(sandbox) as caller:
        for number in range(5):
            caller.send(request(page, f"key-{number}"))
            status, headers, body = await caller.answer()
            assert status == 200
            assert headers["content-type"].startswith("application/json")
            assert json.loads(body)["recipient_id"] == PSID
        stats = await sandbox.stats()
        assert (stats["requests"], stats["connections_opened"], stats["requests_on_reused"]) == (5, 1, 4)
        assert stats["connections_open"] == 1


async def test_pipelined_requests_are_answered_in_their_order_even_when_one_waits(
    sandbox: SandboxHandle, page: ChannelHandle
) -> None:
    await sandbox.add_faults({"kind": "latency", "delay_ms": 30, "max_count": 1})
    async with connected(sandbox) as caller:
        caller.send(*(request(page, f"key-{number}") for number in range(4)))
        ids = [json.loads((await caller.answer())[2])["message_id"] for _ in range(4)]
    records = {record["provider_id"]: record["key"] for record in await sandbox.messages()}
    assert [records[provider_id] for provider_id in ids] == [f"key-{number}" for number in range(4)]


async def test_a_request_may_arrive_in_pieces_and_chunked(sandbox: SandboxHandle, page: ChannelHandle) -> None:
    whole = request(page, "key-1")
    async with connected(sandbox) as caller:
        for at in range(0, len(whole), 7):
            caller.send(whole[at : at + 7])
            await caller.writer.drain()
        assert (await caller.answer())[0] == 200
        head, _, body = request(page, "key-2").partition(b"\r\n\r\n")
        head = b"\r\n".join(line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length"))
        caller.send(head, b"\r\nTransfer-Encoding: chunked\r\n\r\n")
        caller.send(b"5\r\n", body[:5], b"\r\n", b"%x\r\n" % len(body[5:]), body[5:], b"\r\n0\r\n\r\n")
        assert (await caller.answer())[0] == 200
    assert [record["key"] for record in await sandbox.messages()] == ["key-1", "key-2"]


async def test_the_caller_may_ask_to_close_and_to_continue(sandbox: SandboxHandle, page: ChannelHandle) -> None:
    async with connected(sandbox) as caller:
        caller.send(request(page, "key-1", b"Expect: 100-continue", b"Connection: close"))
        assert (await caller.answer())[0] == 100
        status, headers, _ = await caller.answer()
        assert (status, headers["connection"]) == (200, "close")
        assert await caller.reader.read() == b""


@pytest.mark.parametrize(
    "garbage", [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"]
)
async def test_what_is_not_http_is_refused_and_closed(sandbox: SandboxHandle, garbage: bytes) -> None:
    async with connected(sandbox) as caller:
        caller.send(garbage)
        status, _, body = await caller.answer()
        assert status in (400, 401)
        assert b"error" in body
        assert await caller.reader.read() == b""


async def test_a_caller_who_hangs_up_while_waiting_disturbs_nobody(sandbox: SandboxHandle, page: ChannelHandle) -> None:
    await sandbox.add_faults({"kind": "latency", "delay_ms": 60_000, "max_count": 1})
    async with connected(sandbox) as caller:
        caller.send(request(page, "key-1"))
        await sandbox.until(lambda: sandbox.with_key("key-1"))
    assert (await sandbox.send_text(page, PSID)).status_code == 200

    async def one_is_open() -> bool:
        return bool((await sandbox.stats())["connections_open"] == 1)

    await sandbox.until(one_is_open)


async def test_management_requests_are_not_counted(sandbox: SandboxHandle) -> None:
    await sandbox.ledger()
    assert (await sandbox.stats())["requests"] == 0
