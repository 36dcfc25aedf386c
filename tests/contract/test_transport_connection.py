"""How answers are read: against scripted bytes over real sockets, and against the standard library's own reader."""

import asyncio
import http.client
import io
import itertools
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transport_servers import Peer, ok, serving, transport_to

from pombo.meta.transport import Answer, Lost, Reason, Result, Transport
from pombo.meta.transport.connection import Connection
from pombo.meta.transport.connector import Attempt

REQUEST = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nRetry-After: 1\r\n\r\n"
    b'5;ext=1\r\n{"a":\r\n2\r\n1}\r\n0\r\nTrailer: x\r\n\r\n'
)
INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n"


async def exchange(*pieces: bytes, end: bool = False, **settings: Any) -> tuple[Result, Transport]:
    """What a request gets when the server writes these pieces, each in a packet of its own, and perhaps hangs up."""

    async def script(peer: Peer) -> None:
        await peer.request()
        for piece in pieces:
            peer.write(piece)
            # The client reads before the server writes on.
            await asyncio.sleep(0)
        if end:
            peer.close()
        await peer.ended()

    async with serving(script) as server, transport_to(server.url, **settings) as transport:
        return await transport.request("POST", "/", body=b""), transport


@pytest.mark.parametrize(
    ("whole", "body"),
    [(ok(b'{"a":1}'), b'{"a":1}'), (CHUNKED, b'{"a":1}'), (INTERIM + INTERIM + ok(b"{}"), b"{}")],
    ids=["content-length", "chunked", "interim"],
)
async def test_an_answer_is_the_same_at_every_split(whole: bytes, body: bytes) -> None:
    split = 0

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            peer.write(whole[:split])
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            peer.write(whole[split:])

    async with serving(script) as server, transport_to(server.url) as transport:
        for split in range(1, len(whole)):  # noqa: B007 - the script reads it
            answer = await transport.request("POST", "/", body=b"")
            assert isinstance(answer, Answer)
            assert (answer.status, answer.body, answer.raw) == (200, body, whole)
        assert transport.snapshot().connections_opened == 1


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
async def test_answers_without_a_body_end_with_their_head(status: bytes) -> None:
    answer, transport = await exchange(b"HTTP/1.1 " + status + b"\r\n\r\n")

    assert isinstance(answer, Answer)
    assert (answer.status, answer.body) == (int(status[:3]), b"")
    assert transport.snapshot().connections_closed == {"shutdown": 1}


async def test_a_body_without_framing_ends_with_the_connection() -> None:
    answer, transport = await exchange(b"HTTP/1.1 500 Oops\r\nServer: x\r\n\r\n", b"sor", b"ry", end=True)

    assert isinstance(answer, Answer)
    assert (answer.status, answer.body) == (500, b"sorry")
    assert transport.snapshot().connections_closed == {"answer": 1}


async def test_a_body_without_framing_may_be_empty() -> None:
    answer, _ = await exchange(b"HTTP/1.0 200 OK\r\n\r\n", end=True)

    assert isinstance(answer, Answer)
    assert answer.body == b""


@pytest.mark.parametrize(
    "pieces",
    [
        (b"HTTP/1.1 2",),
        (b"HTTP/1.1 200 OK\r\nContent-Le",),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbody",),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 9\r\n\r\n", b"body"),
        (CHUNKED[:-2],),
        (INTERIM,),
    ],
)
async def test_an_answer_cut_short_is_lost(pieces: tuple[bytes, ...]) -> None:
    assert (await exchange(*pieces, end=True))[0] == Lost(Reason.CLOSED_MID_ANSWER)


@pytest.mark.parametrize(
    "nonsense",
    [
        b"nonsense",
        b"\x16\x03\x01\x02",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 099 Odd\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\r\n folded\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\n\r\n",
        INTERIM + b"nonsense",
    ],
)
async def test_nonsense_is_no_answer(nonsense: bytes) -> None:
    result, transport = await exchange(nonsense)

    assert isinstance(result, Lost)
    assert result.reason is Reason.MALFORMED
    assert transport.snapshot().connections_closed == {"failure": 1}


@pytest.mark.parametrize(
    "pieces",
    [
        (ok(b"x" * 1001),),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", *[b"64\r\n" + b"x" * 100 + b"\r\n"] * 11),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 1001),
        (b"HTTP/1.1 200 OK\r\nX: ", b"x" * 70_000),
        (INTERIM * 1000, INTERIM * 1000),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"x" * 70_000,),
    ],
    ids=["content-length", "chunked", "without framing", "head", "interim answers", "chunk extension"],
)
async def test_an_answer_beyond_the_limit_is_lost(pieces: tuple[bytes, ...]) -> None:
    result, transport = await exchange(*pieces, max_answer_bytes=1000)

    assert isinstance(result, Lost)
    assert result.reason is Reason.TOO_LARGE
    assert transport.snapshot().open == 0


async def test_an_answer_of_exactly_the_limit_is_an_answer() -> None:
    answer, _ = await exchange(ok(b"x" * 1000), max_answer_bytes=1000)

    assert isinstance(answer, Answer)
    assert answer.body == b"x" * 1000


async def test_the_limit_is_for_each_answer_not_for_all_of_a_connection() -> None:
    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            whole = ok(b"x" * 1000)
            peer.write(whole[:900])
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            peer.write(whole[900:])

    async with serving(script) as server, transport_to(server.url, max_answer_bytes=1000) as transport:
        for _ in range(100):
            assert isinstance(await transport.request("POST", "/", body=b""), Answer)


async def test_a_connection_reset_before_the_answer_is_lost() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.reset()

    async with serving(script) as server, transport_to(server.url) as transport:
        lost = await transport.request("POST", "/", body=b"")

    assert isinstance(lost, Lost)
    assert lost.reason is Reason.CLOSED_UNANSWERED
    assert "reset" in lost.detail.lower()


async def test_an_answer_that_comes_before_the_whole_request_was_taken_ends_the_connection() -> None:
    async def script(peer: Peer) -> None:
        peer._writer.transport.pause_reading()
        peer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        await asyncio.Event().wait()

    async with serving(script) as server, transport_to(server.url) as transport:
        answer = await transport.request("POST", "/", body=bytes(64 * 1024 * 1024))

        assert isinstance(answer, Answer)
        assert answer.status == 413
        assert transport.snapshot().connections_closed == {"answer": 1}


# --- the same bytes in other pieces, and another reader's opinion ---------------------------------------------------


class Wire(asyncio.Transport):
    """The loop's side of a connection, without a socket."""

    def __init__(self, connection: Connection) -> None:
        super().__init__({"socket": self})
        self._connection = connection
        self.aborted = False

    def write(self, data: object) -> None: ...

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def setsockopt(self, *_: object) -> None: ...

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True
        asyncio.get_running_loop().call_soon(self._connection.connection_lost, None)


async def read(*pieces: bytes, end: bool) -> tuple[Result | None, bool]:
    """The result of these reads, if they make one, and whether the connection is still good."""
    transport = Transport("http://h", max_answer_bytes=5_000, clock=lambda: 0.0)
    await transport.start()
    connection = Connection(transport, Attempt(0.0, 0), lambda: 0.0, 5_000)
    wire = Wire(connection)
    connection.connection_made(wire)
    results: list[Result] = []
    transport.submit(REQUEST, lambda result, _: results.append(result), None)
    for piece in pieces:
        if not wire.aborted:
            connection.data_received(piece)
    if end and not wire.aborted:
        connection.eof_received()
    outcome = (results[0] if results else None), not wire.aborted
    await transport.close()
    assert len(results) == 1
    return outcome


names = st.sampled_from(["Server", "x-app-usage", "X-Business-Use-Case-Usage", "Content-Type", "Vary", "Retry-After"])
values = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=30)
bodies = st.binary(max_size=300)


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    """Answers as servers send them."""
    body = draw(bodies)
    status = draw(st.sampled_from([200, 201, 400, 403, 429, 500, 503]))
    lines = [f"HTTP/1.1 {status} {draw(st.sampled_from(['OK', 'Bad Request', '']))}"]
    lines += [f"{name}: {value}" for name, value in draw(st.lists(st.tuples(names, values), max_size=6))]
    if draw(st.booleans()):
        lines.insert(draw(st.integers(1, len(lines))), f"Content-Length: {len(body)}")
        payload = body
    else:
        lines.insert(draw(st.integers(1, len(lines))), "Transfer-Encoding: chunked")
        cut = draw(st.integers(0, len(body)))
        chunks = [chunk for chunk in (body[:cut], body[cut:]) if chunk]
        payload = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    if draw(st.booleans()):
        lines.append(draw(st.sampled_from(["Connection: close", "connection: Keep-Alive"])))
    interim = draw(st.sampled_from([b"", b"HTTP/1.1 100 Continue\r\n\r\n"]))
    return interim + "\r\n".join(lines).encode() + b"\r\n\r\n" + payload


def cut(whole: bytes, positions: list[int]) -> list[bytes]:
    bounds = [0, *sorted({position % (len(whole) + 1) for position in positions}), len(whole)]
    return [whole[start:stop] for start, stop in itertools.pairwise(bounds) if start < stop]


class Socket:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, _: str) -> io.BytesIO:
        return io.BytesIO(self._data)


@given(answers(), st.lists(st.integers(0, 10_000), max_size=5))
@settings(max_examples=300, deadline=None)
async def test_answers_read_in_any_pieces_are_what_the_standard_library_reads(whole: bytes, cuts: list[int]) -> None:
    oracle = http.client.HTTPResponse(cast("Any", Socket(whole)), method="POST")
    oracle.begin()
    usage = {
        name: value
        for name in ("x-app-usage", "x-business-use-case-usage", "retry-after")
        if (value := oracle.headers.get(name)) is not None
    }

    result, alive = await read(*cut(whole, cuts), end=False)

    assert isinstance(result, Answer)
    assert (result.status, result.body) == (oracle.status, oracle.read())
    assert {name: value.strip() for name, value in result.headers.items()} == {n: v.strip() for n, v in usage.items()}
    assert alive is not oracle.will_close


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """An answer with some bytes replaced, removed or added, and perhaps another behind it."""
    data = bytearray(draw(answers()))
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(data)))
        data[start : start + draw(st.integers(0, 3))] = draw(
            st.one_of(
                st.binary(max_size=3), st.sampled_from([b"\r\n", b"\r\n\r\n", b"\n", b":", b" ", b"0", b"HTTP/1.1 "])
            )
        )
    return bytes(data) + draw(st.one_of(st.just(b""), answers(), st.binary(max_size=5)))


@given(st.one_of(damaged(), st.binary(max_size=60)), st.lists(st.integers(0, 10_000), max_size=8), st.booleans())
@settings(max_examples=500, deadline=None)
async def test_damaged_answers_end_the_same_way_however_they_are_cut(whole: bytes, cuts: list[int], end: bool) -> None:
    if not whole:
        return
    one, alive = await read(whole, end=end)

    for pieces in (cut(whole, cuts), [whole[i : i + 1] for i in range(len(whole))]):
        other, other_alive = await read(*pieces, end=end)
        assert type(other) is type(one)
        if isinstance(one, Answer) and isinstance(other, Answer):
            assert (other.status, other.body, other.headers) == (one.status, one.body, one.headers)
        elif isinstance(one, Lost) and isinstance(other, Lost):
            assert other.reason == one.reason
        # A line end between answers is skipped when it follows in the same read, and is unsolicited in the next.
        assert other_alive is alive or whole.rstrip(b"\r\n") != whole
