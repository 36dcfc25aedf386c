import random
from pathlib import Path

from transport_servers import (
    REQUEST,
    Clock,
    Peer,
    Results,
    answer_all,
    answered,
    ok,
    self_signed,
    serving,
    transport_to,
    until,
)

from pombo.meta.transport import Answer, Lost, Reason


async def test_requests_travel_over_tls(tmp_path: Path) -> None:
    server_context, trusting = self_signed(tmp_path)
    async with (
        serving(answer_all, server_context) as server,
        transport_to(server.url, ssl_context=trusting) as transport,
    ):
        answers = [answered(await transport.request("POST", "/", body=b"{}")) for _ in range(5)]

    assert [answer.reused for answer in answers] == [False] + [True] * 4
    assert {answer.body for answer in answers} == {b'{"message_id":"m_1"}'}


async def test_an_answer_longer_than_the_read_buffer_arrives_whole_over_tls(tmp_path: Path) -> None:
    body = random.Random(1).randbytes(300_000)

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.write(ok(body))
        await peer.ended()

    server_context, trusting = self_signed(tmp_path)
    async with serving(script, server_context) as server, transport_to(server.url, ssl_context=trusting) as transport:
        assert answered(await transport.request("GET", "/")).body == body


async def test_a_tls_connection_closed_between_requests_is_replaced(tmp_path: Path) -> None:
    async def one_each(peer: Peer) -> None:
        await peer.request()
        peer.write(ok())
        peer.close()

    server_context, trusting = self_signed(tmp_path)
    async with serving(one_each, server_context) as server, transport_to(server.url, ssl_context=trusting) as transport:
        for _ in range(3):
            assert isinstance(await transport.request("GET", "/"), Answer)
            await until(lambda: transport.snapshot().open == 0)


async def test_a_tls_end_that_the_loop_has_not_read_yet_is_seen_before_the_first_byte(tmp_path: Path) -> None:
    server_context, trusting = self_signed(tmp_path)
    clock = Clock()
    async with (
        serving(answer_all, server_context) as server,
        transport_to(server.url, ssl_context=trusting, clock=clock) as transport,
    ):
        await transport.request("POST", "/", body=b"{}")
        clock.advance(2)
        server.peers[0].shut_down_at_once()
        results = Results()
        assert transport.submit(REQUEST, results, 1)
        assert not answered(await results.of(1)).reused


async def test_a_request_given_up_over_tls_is_reset(tmp_path: Path) -> None:
    resets: list[bool] = []

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.write(b"HTTP/1.1 200 OK\r\n")
        resets.append(await peer.was_reset())

    server_context, trusting = self_signed(tmp_path)
    clock = Clock()
    settings = {"ssl_context": trusting, "clock": clock}
    async with serving(script, server_context) as server, transport_to(server.url, **settings) as transport:
        results = Results()
        transport.submit(REQUEST, results, 1)
        await until(lambda: transport.snapshot().bytes_received > 0)
        clock.advance(30)
        transport.sweep()
        assert results.by_context == {1: Lost(Reason.ANSWER_TIMEOUT)}
        await until(lambda: bool(resets))

    assert resets == [True]
