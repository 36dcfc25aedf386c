import asyncio
import socket
import ssl
from pathlib import Path

from transport_servers import (
    REQUEST,
    Clock,
    Peer,
    Results,
    answer_all,
    free_port,
    ok,
    self_signed,
    serving,
    transport_to,
    until,
)

from pombo.meta.transport import Answer, NeverWritten, Reason
from pombo.meta.transport.connector import MAX_CONNECTING


async def test_a_refused_connection_proves_that_nothing_was_written() -> None:
    async with transport_to(f"http://127.0.0.1:{free_port()}") as transport:
        failure = await transport.request("POST", "/", body=b"{}")

        assert isinstance(failure, NeverWritten)
        assert failure.reason is Reason.CONNECT
        assert "refused" in failure.detail.lower()
        stats = transport.snapshot()
        assert (stats.never_written, stats.connect_failures, stats.requests) == ({"connect": 1}, 1, 0)


async def test_a_dead_server_is_left_alone_until_the_back_off_is_over_and_one_attempt_finds_it_alive() -> None:
    port, clock = free_port(), Clock()
    settings = {"max_sockets": 2 * MAX_CONNECTING, "reserved_sockets": 5, "clock": clock}
    async with transport_to(f"http://127.0.0.1:{port}", **settings) as transport:
        results = Results()
        assert transport.free_sockets() == MAX_CONNECTING
        for number in range(MAX_CONNECTING):
            assert transport.submit(REQUEST, results, number)
        await until(lambda: len(results.by_context) == MAX_CONNECTING)
        assert {type(result) for result in results.by_context.values()} == {NeverWritten}

        assert transport.free_sockets() == transport.free_sockets(reserved=True) == 0
        assert not transport.submit(REQUEST, results, MAX_CONNECTING)
        # The first back-off is at most half a second, for all these failures together.
        clock.advance(0.5)
        woken = asyncio.Event()
        transport.when_free(woken.set)
        transport.sweep()
        assert woken.is_set()
        assert transport.free_sockets() == transport.free_sockets(reserved=True) == 1
        assert (await transport.request("GET", "/")).__class__ is NeverWritten

        # The second lasts longer than the half second of the sweeper, the tenth no longer than fifteen seconds.
        for _ in range(10):
            clock.advance(15)
            transport.sweep()
            assert (await transport.request("GET", "/")).__class__ is NeverWritten
            assert transport.free_sockets() == 0
            clock.advance(0.2)
            transport.sweep()
            assert transport.free_sockets() == 0

        async with serving(answer_all, port=port):
            clock.advance(15)
            transport.sweep()
            assert transport.free_sockets() == 1
            assert isinstance(await transport.request("GET", "/"), Answer)
            assert transport.free_sockets() == MAX_CONNECTING + 1

        # Dead again: what has been learnt from the last time is forgotten.
        await until(lambda: transport.snapshot().open == 0)
        assert (await transport.request("GET", "/")).__class__ is NeverWritten
        assert transport.free_sockets() == 0
        clock.advance(0.5)
        transport.sweep()
        assert transport.free_sockets() == 1


async def test_so_many_connections_are_made_at_a_time_and_no_more() -> None:
    async with serving(answer_all) as server, transport_to(server.url, max_sockets=MAX_CONNECTING + 20) as transport:
        results, submitted, most = Results(), 0, 0

        def submit_more() -> None:
            nonlocal submitted, most
            while submitted < 300 and transport.submit(REQUEST, results, submitted):
                submitted += 1
            most = max(most, transport.snapshot().connecting)
            if submitted < 300:
                transport.when_free(submit_more)

        submit_more()
        await until(lambda: len(results.by_context) == 300)
        assert most == MAX_CONNECTING == 100
        assert all(isinstance(result, Answer) for result in results.by_context.values())


async def test_replies_may_connect_while_bulk_is_connecting() -> None:
    async with (
        serving(answer_all) as server,
        transport_to(server.url, max_sockets=2 * MAX_CONNECTING, reserved_sockets=3) as transport,
    ):
        results = Results()
        for number in range(MAX_CONNECTING):
            assert transport.submit(REQUEST, results, number)
        assert not transport.submit(REQUEST, results, MAX_CONNECTING)
        assert transport.free_sockets(reserved=True) == 3
        assert transport.submit(REQUEST, results, -1, reserved=True)
        assert isinstance(await results.of(-1), Answer)


async def test_a_connection_that_frees_up_serves_who_waits_for_a_new_one(tmp_path: Path) -> None:
    """The second connection never gets through its TLS handshake: the kernel accepts it, the server does not."""
    server_context, trusting = self_signed(tmp_path)
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        async with transport_to(url, max_sockets=2, ssl_context=trusting) as transport:
            results = Results()
            transport.submit(REQUEST, results, 1)
            accepted, _ = await loop.sock_accept(listener)
            peer = await Peer.of(accepted, server_context)
            await peer.request()
            transport.submit(REQUEST, results, 2)
            assert (transport.snapshot().connecting, transport.snapshot().waiting) == (1, 1)
            peer.write(ok())
            await peer.request()
            peer.write(ok())
            answer = await results.of(2)
            assert isinstance(answer, Answer)
            assert answer.reused
            assert (transport.snapshot().connecting, transport.snapshot().waiting) == (1, 0)
            peer.close()


async def test_a_failed_connect_fails_only_the_request_that_no_other_connect_is_for(tmp_path: Path) -> None:
    server_context, trusting = self_signed(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        async with transport_to(url, ssl_context=trusting) as transport:
            results = Results()
            transport.submit(REQUEST, results, 1)
            transport.submit(REQUEST, results, 2)
            loop = asyncio.get_running_loop()
            first, _ = await loop.sock_accept(listener)
            first.close()
            assert isinstance(await results.of(1), NeverWritten)
            assert (transport.snapshot().connecting, transport.snapshot().waiting) == (1, 1)
            second, _ = await loop.sock_accept(listener)
            peer = await Peer.of(second, server_context)
            await peer.request()
            peer.write(ok())
            assert isinstance(await results.of(2), Answer)
            peer.close()


async def test_a_server_that_does_not_finish_the_handshake_is_given_up_after_the_connect_timeout() -> None:
    async def silent(peer: Peer) -> None:
        await peer.ended()
        gone.set()

    gone, clock = asyncio.Event(), Clock()
    context = ssl.create_default_context()
    async with serving(silent) as server:
        url = server.url.replace("http:", "https:")
        async with transport_to(url, connect_timeout=5, ssl_context=context, clock=clock) as transport:
            results = Results()
            transport.submit(REQUEST, results, 1)
            await until(lambda: len(server.peers) == 1)
            clock.advance(4.9)
            transport.sweep()
            await asyncio.sleep(0)
            assert not results.by_context
            clock.advance(0.1)
            transport.sweep()
            assert await results.of(1) == NeverWritten(Reason.CONNECT_TIMEOUT)
            await gone.wait()


async def test_a_certificate_that_cannot_be_verified_proves_that_nothing_was_written(tmp_path: Path) -> None:
    server_context, _ = self_signed(tmp_path)
    async with serving(answer_all, server_context) as server, transport_to(server.url) as transport:
        failure = await transport.request("POST", "/", body=b"{}")

    assert isinstance(failure, NeverWritten)
    assert failure.reason is Reason.TLS
    assert "CERTIFICATE_VERIFY_FAILED" in failure.detail


async def test_a_certificate_for_another_name_proves_that_nothing_was_written(tmp_path: Path) -> None:
    server_context, trusting = self_signed(tmp_path)
    async with serving(answer_all, server_context) as server:
        url = server.url.replace("127.0.0.1", "localhost")
        async with transport_to(url, ssl_context=trusting) as transport:
            failure = await transport.request("POST", "/", body=b"{}")

    assert isinstance(failure, NeverWritten)
    assert failure.reason is Reason.TLS


async def test_a_name_that_does_not_exist_proves_that_nothing_was_written() -> None:
    async with transport_to("http://nowhere.invalid") as transport:
        failure = await transport.request("POST", "/", body=b"{}")

    assert isinstance(failure, NeverWritten)
    assert failure.reason is Reason.RESOLVE


async def test_a_name_that_cannot_be_looked_up_is_a_result_too() -> None:
    async with transport_to(f"http://{'a' * 64}.example") as transport:
        failure = await transport.request("POST", "/", body=b"{}")

    assert isinstance(failure, NeverWritten)
    assert failure.reason is Reason.RESOLVE


async def test_the_next_address_is_tried_when_one_refuses() -> None:
    """`localhost` has an IPv6 address on most machines, where this server does not listen."""
    async with (
        serving(answer_all) as server,
        transport_to(server.url.replace("127.0.0.1", "localhost")) as transport,
    ):
        for _ in range(4):
            assert isinstance(await transport.request("GET", "/"), Answer)
