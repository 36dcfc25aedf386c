import asyncio
import random
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from transport_servers import Clock, Peer, Results, answer_all, ok, self_signed, serving, transport_to, until

from pombo.meta.transport import Answer, Lost, NeverWritten, Reason, Result, Transport

REQUEST = b"POST /messages HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}"


async def never_answer(peer: Peer) -> None:
    await peer.ended()


def answered(result: Result) -> Answer:
    assert isinstance(result, Answer), result
    return result


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
        await asyncio.gather(results.of("bulk"), results.of("reply"))

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


# --- deadlines ------------------------------------------------------------------------------------------------------


async def test_an_answer_that_does_not_come_in_time_is_lost_and_its_connection_reset() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.write(b"HTTP/1.1 200 OK\r\n")
        resets.append(await peer.was_reset())

    resets: list[bool] = []
    clock = Clock()
    async with serving(script) as server, transport_to(server.url, answer_timeout=30, clock=clock) as transport:
        results = Results()
        transport.submit(REQUEST, results, 1)
        await until(lambda: transport.snapshot().bytes_received > 0)
        clock.advance(29)
        transport.sweep()
        assert not results.by_context
        clock.advance(1)
        transport.sweep()
        assert results.by_context == {1: Lost(Reason.ANSWER_TIMEOUT)}
        await until(lambda: bool(resets))

    assert resets == [True]


async def test_a_request_that_the_server_does_not_read_is_lost_after_the_write_timeout() -> None:
    deaf = asyncio.Event()

    async def script(peer: Peer) -> None:
        peer._writer.transport.pause_reading()
        await deaf.wait()

    clock = Clock()
    settings = {"write_timeout": 10.0, "answer_timeout": 60.0, "clock": clock}
    async with serving(script) as server, transport_to(server.url, **settings) as transport:
        large = transport.head("POST", "/").with_body(bytes(64 * 1024 * 1024))
        results = Results()
        transport.submit(large, results, "large")
        transport.submit(REQUEST, results, "small")
        await until(lambda: transport.snapshot().in_flight == 2)
        clock.advance(10)
        transport.sweep()
        assert results.by_context == {"large": Lost(Reason.WRITE_TIMEOUT)}


async def test_a_connection_found_stale_while_the_sweeper_is_at_work_ends_once() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.write(ok())
        await peer.ended()

    clock = Clock()
    settings = {"answer_timeout": 30.0, "idle_timeout": 30.0, "clock": clock}
    async with serving(script) as server, transport_to(server.url, **settings) as transport:
        await asyncio.gather(*(transport.request("GET", "/") for _ in range(9)))
        results = Results()

        def submit_again(result: Result, context: int) -> None:
            assert transport.submit(REQUEST, results, context)

        # Three are asked a second time and never answer; the other six end unnoticed.
        for number in range(3):
            transport.submit(REQUEST, submit_again, number)
        clock.advance(30)
        for peer in server.peers:
            peer.shut_down_at_once()
        transport.sweep()
        assert transport.snapshot().open == 0
        assert sum(transport.snapshot().connections_closed.values()) == 9


async def test_an_idle_connection_ends_at_its_age() -> None:
    clock = Clock()
    settings = {"max_connection_age": 100.0, "idle_timeout": 1_000.0, "clock": clock}
    async with serving(answer_all) as server, transport_to(server.url, **settings) as transport:
        await transport.request("GET", "/")
        clock.advance(89)
        transport.sweep()
        assert transport.snapshot().open == 1
        clock.advance(22)
        transport.sweep()
        assert transport.snapshot().connections_closed == {"age": 1}


async def test_a_busy_connection_ends_at_its_age_with_the_answer_it_waits_for() -> None:
    release = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await release.wait()
        peer.write(ok())
        await peer.ended()

    clock = Clock()
    settings = {"max_connection_age": 10.0, "clock": clock}
    async with serving(script) as server, transport_to(server.url, **settings) as transport:
        results = Results()
        transport.submit(REQUEST, results, 1)
        await until(lambda: transport.snapshot().in_flight == 1)
        clock.advance(12)
        transport.sweep()
        assert transport.snapshot().open == 1
        release.set()
        assert isinstance(await results.of(1), Answer)
        assert transport.snapshot().connections_closed == {"age": 1}


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux only")
async def test_the_kernel_gives_up_on_a_dead_path_when_the_answer_would_be_too_late() -> None:
    async with serving(answer_all) as server, transport_to(server.url, answer_timeout=12.5) as transport:
        await transport.request("GET", "/")
        (connection,) = transport._open
        client_socket = connection.transport.get_extra_info("socket")
        assert client_socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 12_500
        assert client_socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_the_sweeper_comes_by_itself() -> None:
    async with serving(never_answer) as server, transport_to(server.url, answer_timeout=0.01) as transport:
        assert await transport.request("GET", "/") == Lost(Reason.ANSWER_TIMEOUT)


# --- cancelling and closing -----------------------------------------------------------------------------------------


async def test_cancelling_a_request_closes_its_connection() -> None:
    arrived, gone = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        arrived.set()
        await peer.ended()
        gone.set()

    async with serving(script) as server, transport_to(server.url) as transport:
        task = asyncio.create_task(transport.request("POST", "/", body=b"{}"))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await gone.wait()
        stats = transport.snapshot()
        assert (stats.open, stats.lost) == (0, {"cancelled": 1})


async def test_a_request_cancelled_while_it_waits_is_never_sent() -> None:
    release = asyncio.Event()
    received: list[bytes] = []

    async def script(peer: Peer) -> None:
        while True:
            received.append(await peer.request())
            await release.wait()
            peer.write(ok())

    async with serving(script) as server, transport_to(server.url, max_sockets=1) as transport:
        pending = asyncio.create_task(transport.request("POST", "/pending", body=b"{}"))
        waiting = asyncio.create_task(transport.request("POST", "/waiting", body=b"{}"))
        last = asyncio.create_task(transport.request("POST", "/last", body=b"{}"))
        await asyncio.sleep(0)
        assert transport.snapshot().waiting == 1
        pending.cancel()
        waiting.cancel()
        release.set()
        assert isinstance(await last, Answer)

    assert [request.split()[1] for request in received] == [b"/last"]


async def test_closing_with_grace_waits_for_the_answers_in_flight() -> None:
    arrived, release = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        arrived.set()
        await release.wait()
        peer.write(ok())

    async with serving(script) as server, transport_to(server.url) as transport:
        results = Results()
        transport.submit(REQUEST, results, 1)
        await arrived.wait()
        closing = asyncio.create_task(transport.close(grace=10))
        await asyncio.sleep(0)
        assert not transport.submit(REQUEST, results, 2)
        assert transport.free_sockets() == 0
        assert not closing.done()
        release.set()
        await closing
        assert isinstance(results.by_context.pop(1), Answer)
        assert results.by_context == {}
        assert transport.snapshot().connections_closed == {"shutdown": 1}


async def test_closing_without_grace_gives_every_request_its_result() -> None:
    async with serving(never_answer) as server, transport_to(server.url, max_sockets=3) as transport:
        results = Results()
        transport.submit(REQUEST, results, "in flight")
        await until(lambda: transport.snapshot().in_flight == 1)
        transport.submit(REQUEST, results, "connecting")
        transport.submit(REQUEST, results, "connecting too")
        waiting = asyncio.create_task(transport.request("GET", "/"))
        woken: list[int] = []
        transport.when_free(lambda: woken.append(1))
        await asyncio.sleep(0)
        await transport.close()

        assert results.by_context == {
            "in flight": Lost(Reason.SHUTDOWN),
            "connecting": NeverWritten(Reason.SHUTDOWN),
            "connecting too": NeverWritten(Reason.SHUTDOWN),
        }
        assert await waiting == NeverWritten(Reason.SHUTDOWN)
        assert woken == [1]
        assert await transport.request("GET", "/") == NeverWritten(Reason.SHUTDOWN)
        stats = transport.snapshot()
        assert (stats.open, stats.connecting, stats.waiting) == (0, 0, 0)


async def test_grace_ends() -> None:
    async with serving(never_answer) as server, transport_to(server.url) as transport:
        results = Results()
        transport.submit(REQUEST, results, 1)
        await until(lambda: transport.snapshot().in_flight == 1)
        await transport.close(grace=0.01)
        assert results.by_context == {1: Lost(Reason.SHUTDOWN)}


# --- TLS ------------------------------------------------------------------------------------------------------------


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


# --- everything at once ---------------------------------------------------------------------------------------------


def _misbehave(random_: random.Random) -> Callable[[Peer], object]:
    return random_.choice(
        [
            lambda peer: peer.write(ok()),
            lambda peer: peer.write(ok()),
            lambda peer: peer.write(ok()),
            lambda peer: peer.write(ok(b"{}", "Connection: close")),
            lambda peer: peer.write(b"nonsense"),
            lambda peer: peer.write(ok()[:30]),
            lambda peer: peer.write(ok() + b"surplus"),
            lambda peer: peer.close(),
            lambda peer: peer.reset(),
            lambda peer: (peer.write(ok()), peer.close()),
            lambda peer: (peer.write(ok()[:30]), peer.close()),
            lambda peer: None,
        ]
    )


@pytest.mark.parametrize("connect_timeout", [10_000.0, 2.0], ids=["connecting in time", "or not"])
@pytest.mark.parametrize("seed", range(3))
async def test_whatever_the_server_does_every_request_gets_one_result(seed: int, connect_timeout: float) -> None:
    random_ = random.Random(seed)

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            _misbehave(random_)(peer)

    clock = Clock()
    settings = {"max_sockets": 20, "connect_timeout": connect_timeout, "clock": clock}
    async with serving(script) as server, transport_to(server.url, **settings) as transport:
        results = Results()
        submitted = 0

        def refill() -> None:
            nonlocal submitted
            while submitted < 1_000 and transport.submit(REQUEST, results, submitted):
                submitted += 1
            if submitted < 1_000:
                transport.when_free(refill)

        refill()
        while len(results.by_context) < 900:
            # For those that the server leaves without an answer.
            clock.advance(0.5)
            transport.sweep()
            await asyncio.sleep(0)
        await transport.close()

        kinds = {type(result) for result in results.by_context.values()}
        assert sorted(results.by_context) == list(range(submitted))
        assert kinds >= {Answer, Lost}
        stats = transport.snapshot()
        assert stats.answers + sum(stats.lost.values()) == stats.requests
        assert stats.requests + sum(stats.never_written.values()) == submitted
        assert sum(stats.connections_closed.values()) == stats.connections_opened
        assert (stats.open, stats.idle, stats.in_flight, stats.connecting, stats.waiting) == (0, 0, 0, 0, 0)


@pytest.mark.parametrize("reserved", [-1, 5, 6])
def test_reserved_sockets_must_leave_some_to_the_rest(reserved: int) -> None:
    with pytest.raises(ValueError, match="reserved_sockets"):
        Transport("http://h", max_sockets=5, reserved_sockets=reserved)
