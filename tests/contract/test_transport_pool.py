import asyncio

import pytest
from transport_servers import (
    REQUEST,
    Clock,
    Peer,
    Results,
    answer_all,
    answered,
    never_answer,
    ok,
    serving,
    transport_to,
    until,
)

from pombo.meta.transport import Answer, Lost, NeverWritten, Reason, Result, Transport

# --- requests and reuse ---------------------------------------------------------------------------------------------


async def test_a_request_gets_its_answer() -> None:
    async def script(peer: Peer) -> None:
        request = await peer.request()
        peer.write(ok(request, 'X-App-Usage: {"call_count":1}'))

    async with serving(script) as server, transport_to(server.url) as transport:
        answer = answered(await transport.request("POST", "/v26.0/1/messages", {"Authorization": "Bearer t"}, b"{}"))

    assert answer.status == 200
    assert answer.body == (
        b"POST /v26.0/1/messages HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAccept-Encoding: identity\r\n"
        b"Authorization: Bearer t\r\nContent-Length: 2\r\n\r\n{}" % server.port
    )
    assert answer.headers == {"x-app-usage": '{"call_count":1}'}


async def test_targets_come_after_the_path_of_the_base_url() -> None:
    async def script(peer: Peer) -> None:
        peer.write(ok(await peer.request()))

    async with serving(script) as server, transport_to(f"{server.url}/graph/") as transport:
        assert transport.base_url == f"{server.url}/graph"
        answer = answered(await transport.request("GET", "/me"))

    assert answer.body.startswith(b"GET /graph/me HTTP/1.1\r\n")
    assert b"Content-Length" not in answer.body


async def test_all_requests_but_the_first_travel_on_a_reused_connection() -> None:
    async with serving(answer_all) as server, transport_to(server.url) as transport:
        answers = [answered(await transport.request("POST", "/", body=b"{}")) for _ in range(20)]
        stats = transport.snapshot()

    assert [answer.reused for answer in answers] == [False] + [True] * 19
    assert (stats.requests, stats.first_requests, stats.reused, stats.answers) == (20, 1, 19, 20)
    assert stats.reuse_ratio == 0.95
    assert (stats.open, stats.idle, stats.in_flight, stats.connections_opened) == (1, 1, 0, 1)
    assert stats.bytes_received == 20 * len(ok())
    assert len(server.peers) == 1


async def test_a_hundred_concurrent_requests_share_ten_sockets() -> None:
    under_way = most = 0

    async def script(peer: Peer) -> None:
        nonlocal under_way, most
        while True:
            await peer.request()
            under_way += 1
            most = max(most, under_way)
            # Time for the others to arrive.
            await asyncio.sleep(0)
            under_way -= 1
            peer.write(ok())

    async with serving(script) as server, transport_to(server.url, max_sockets=10) as transport:
        results = await asyncio.gather(*(transport.request("POST", "/", body=b"{}") for _ in range(100)))
        stats = transport.snapshot()

    assert all(isinstance(result, Answer) for result in results)
    assert len(server.peers) == stats.connections_opened == 10
    assert 1 < most <= 10
    assert stats.reused == 90


async def test_submitting_stops_when_no_socket_is_free_and_goes_on_when_one_is() -> None:
    release = asyncio.Event()

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await release.wait()
            peer.write(ok())

    async with serving(script) as server, transport_to(server.url, max_sockets=2) as transport:
        results, order = Results(), []
        assert transport.free_sockets() == 2
        assert transport.submit(REQUEST, results, 1)
        assert transport.free_sockets() == 1
        assert transport.submit(REQUEST, results, 2)
        assert transport.free_sockets() == 0
        assert not transport.submit(REQUEST, results, 3)

        def first() -> None:
            order.append("first")
            assert transport.submit(REQUEST, results, 3)

        transport.when_free(first)
        transport.when_free(lambda: order.append("second"))
        release.set()
        assert all([answered(await results.of(number)) for number in (1, 2, 3)])
        assert order == ["first", "second"]
        assert 4 not in results.by_context


async def test_who_waits_for_a_socket_is_told_at_once_when_one_is_free_already() -> None:
    async with serving(answer_all) as server, transport_to(server.url) as transport:
        told = asyncio.Event()
        transport.when_free(told.set)
        await told.wait()


async def test_the_connection_used_last_is_used_next() -> None:
    async with serving(answer_all) as server, transport_to(server.url, clock=(clock := Clock())) as transport:
        await asyncio.gather(transport.request("GET", "/"), transport.request("GET", "/"))
        assert transport.snapshot().idle == 2

        for _ in range(10):
            clock.advance(6)
            await transport.request("GET", "/")
        transport.sweep()

        stats = transport.snapshot()
        assert (stats.idle, stats.connections_closed) == (1, {"idle": 1})


async def test_a_result_handler_that_fails_harms_nobody() -> None:
    async with serving(answer_all) as server, transport_to(server.url) as transport:
        reported: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["exception"]))

        def fail(result: Result, context: int) -> None:
            raise LookupError(context)

        transport.submit(REQUEST, fail, 7)
        await until(lambda: bool(reported))
        assert repr(reported) == "[LookupError(7)]"
        assert answered(await transport.request("GET", "/")).reused


# --- reserved sockets -----------------------------------------------------------------------------------------------


async def test_reserved_sockets_are_left_to_replies() -> None:
    async with (
        serving(never_answer) as server,
        transport_to(server.url, max_sockets=5, reserved_sockets=2) as transport,
    ):
        results = Results()
        assert [transport.submit(REQUEST, results, number) for number in range(5)] == [True] * 3 + [False] * 2
        assert (transport.free_sockets(), transport.free_sockets(reserved=True)) == (0, 2)
        assert [transport.submit(REQUEST, results, n, reserved=True) for n in (10, 11, 12)] == [True, True, False]
        await until(lambda: transport.snapshot().in_flight == 5)


async def test_bulk_does_not_take_the_reserved_sockets_when_they_are_open_and_idle() -> None:
    release = asyncio.Event()

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await release.wait()
            peer.write(ok())

    async with serving(script) as server, transport_to(server.url, max_sockets=3, reserved_sockets=1) as transport:
        results = Results()
        for number in range(3):
            assert transport.submit(REQUEST, results, number, reserved=True)
        release.set()
        await until(lambda: transport.snapshot().idle == 3)
        release.clear()

        assert transport.free_sockets() == 2
        assert [transport.submit(REQUEST, results, number) for number in (3, 4, 5)] == [True, True, False]
        assert transport.submit(REQUEST, results, 6, reserved=True)
        release.set()
        assert isinstance(await results.of(6), Answer)


async def test_a_reply_overtakes_what_waits_for_a_connection() -> None:
    order: list[bytes] = []

    async def script(peer: Peer) -> None:
        while True:
            order.append(await peer.request())
            peer.write(ok())

    async with serving(script) as server, transport_to(server.url, max_sockets=2) as transport:
        results = Results()
        transport.submit(REQUEST, results, "bulk")
        transport.submit(REQUEST.replace(b"{}", b"[]"), results, "reply", reserved=True)
        assert transport.unwritten() == ["reply", "bulk"]
        await asyncio.gather(results.of("bulk"), results.of("reply"))

        assert transport.unwritten() == []

    assert order[0].endswith(b"[]")


# --- stale connections ----------------------------------------------------------------------------------------------


async def test_a_connection_closed_by_the_server_between_requests_is_replaced() -> None:
    async def one_each(peer: Peer) -> None:
        await peer.request()
        peer.write(ok())
        peer.close()

    async with serving(one_each) as server, transport_to(server.url) as transport:
        for _ in range(3):
            assert not answered(await transport.request("POST", "/", body=b"{}")).reused
            await until(lambda: transport.snapshot().open == 0)
        assert transport.snapshot().connections_closed == {"peer": 3}
        assert transport.snapshot().lost == {}


async def test_an_end_that_the_loop_has_not_read_yet_is_seen_before_the_first_byte() -> None:
    async with serving(answer_all) as server, transport_to(server.url, clock=(clock := Clock())) as transport:
        await transport.request("POST", "/", body=b"{}")
        clock.advance(2)
        server.peers[0].shut_down_at_once()
        # Nothing is awaited in between, so the loop has had no chance to notice.
        results = Results()
        assert transport.submit(REQUEST, results, 1)
        assert not answered(await results.of(1)).reused
        assert transport.snapshot().connections_closed == {"peer": 1}


async def test_a_request_written_on_a_connection_that_ends_without_an_answer_is_lost_and_not_sent_again() -> None:
    requests = 0

    async def second_time_unlucky(peer: Peer) -> None:
        nonlocal requests
        while True:
            await peer.request()
            requests += 1
            if requests == 2:
                peer.close()
                return
            peer.write(ok())

    async with serving(second_time_unlucky) as server, transport_to(server.url) as transport:
        await transport.request("POST", "/", body=b"{}")
        lost = await transport.request("POST", "/", body=b"{}")
        assert lost == Lost(Reason.CLOSED_UNANSWERED)
        assert requests == 2
        assert transport.snapshot().lost == {"closed_unanswered": 1}
        assert isinstance(await transport.request("POST", "/", body=b"{}"), Answer)


async def test_bytes_that_nobody_asked_for_end_the_connection() -> None:
    async def chatty(peer: Peer) -> None:
        await peer.request()
        peer.write(ok())
        await said.wait()
        peer.write(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
        await peer.ended()

    said = asyncio.Event()
    async with serving(chatty) as server, transport_to(server.url) as transport:
        await transport.request("GET", "/")
        said.set()
        await until(lambda: transport.snapshot().open == 0)
        assert transport.snapshot().connections_closed == {"unsolicited": 1}
        assert answered(await transport.request("GET", "/")).status == 200


@pytest.mark.parametrize(
    "answer",
    [
        ok(b"{}", "Connection: close"),
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        ok(b"{}") + b"nonsense",
        ok(b"{}") + ok(b"[]"),
        ok(b"{}") + b"HTTP/1.1 200",
    ],
    ids=["close", "http 1.0", "nonsense after it", "a second answer", "the start of a second answer"],
)
async def test_an_answer_that_ends_its_connection_is_still_an_answer(answer: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.write(answer)
        await peer.ended()

    async with serving(script) as server, transport_to(server.url) as transport:
        assert answered(await transport.request("GET", "/")).body == b"{}"
        stats = transport.snapshot()
        assert (stats.open, stats.connections_closed) == (0, {"answer": 1})


@pytest.mark.parametrize("reserved", [-1, 5, 6])
def test_reserved_sockets_must_leave_some_to_the_rest(reserved: int) -> None:
    with pytest.raises(ValueError, match="reserved_sockets"):
        Transport("http://h", max_sockets=5, reserved_sockets=reserved)


async def test_a_request_is_withdrawn_when_it_may_not_be_written_any_more() -> None:
    """After waiting for a connect, and at once on an idle connection."""
    asked: list[object] = []

    def may_write(context: object) -> bool:
        asked.append(context)
        return context == "sent"

    async with serving(answer_all) as server, transport_to(server.url) as transport:
        results = Results()
        assert transport.submit(REQUEST, results, "waiting", may_write=may_write)
        assert asked == []
        assert await results.of("waiting") == NeverWritten(Reason.WITHDRAWN)
        assert transport.submit(REQUEST, results, "idle", may_write=may_write)
        assert await results.of("idle") == NeverWritten(Reason.WITHDRAWN)
        assert transport.submit(REQUEST, results, "sent", may_write=may_write)
        assert isinstance(await results.of("sent"), Answer)
        stats = transport.snapshot()

    assert asked == ["waiting", "idle", "sent"]
    assert (stats.never_written, stats.connections_opened, stats.answers) == ({Reason.WITHDRAWN: 2}, 1, 1)
