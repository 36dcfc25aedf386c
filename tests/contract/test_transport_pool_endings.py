"""How requests and connections end: deadlines, cancelling, closing, and everything at once."""

import asyncio
import random
import socket
from collections.abc import Callable

import pytest
from transport_servers import REQUEST, Clock, Peer, Results, answer_all, never_answer, ok, serving, transport_to, until

from pombo.meta.transport import Answer, Lost, NeverWritten, Reason, Result

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
