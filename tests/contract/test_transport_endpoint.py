import socket
from typing import Any

import pytest
from transport_servers import Clock

from pombo.meta.transport.endpoint import Endpoint


def test_a_base_url_says_host_port_tls_and_path() -> None:
    endpoint = Endpoint("https://graph.example/api/")

    assert (endpoint.host, endpoint.port, endpoint.tls) == ("graph.example", 443, True)
    assert (endpoint.host_header, endpoint.path_prefix) == ("graph.example", "/api")


def test_the_host_header_names_a_port_that_is_not_the_usual_one() -> None:
    endpoint = Endpoint("http://[::1]:3200")

    assert (endpoint.host, endpoint.port, endpoint.tls) == ("::1", 3200, False)
    assert endpoint.host_header == "[::1]:3200"


@pytest.mark.parametrize("url", ["", "graph.example", "ftp://graph.example", "http://", "http://:80"])
def test_an_address_without_scheme_or_host_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="not an http"):
        Endpoint(url)


@pytest.mark.parametrize("url", ["http://user:secret@h/", "http://h/?q", "http://h/#f"])
def test_an_address_with_more_than_host_and_path_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ValueError, match="no user, query or fragment"):
        Endpoint(url)


class Resolver:
    """Answers the loop's look-ups, which on a test machine cannot be had with several addresses."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.found: list[str] = ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
        self.broken = False
        self.asked = 0
        import pombo.meta.transport.endpoint as module

        resolver = self

        class Loop:
            async def getaddrinfo(self, host: str, port: int, **_: Any) -> list[Any]:
                resolver.asked += 1
                if resolver.broken:
                    raise socket.gaierror("no such host")
                return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in resolver.found]

        monkeypatch.setattr(module.asyncio, "get_running_loop", Loop)


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    return Resolver(monkeypatch)


async def test_connections_take_the_addresses_in_turn(resolver: Resolver) -> None:
    endpoint, clock = Endpoint("http://h"), Clock()

    first = {(await endpoint.addresses(clock))[0] for _ in range(3)}

    assert first == {"10.0.0.1", "10.0.0.2", "10.0.0.3"}
    assert resolver.asked == 1


async def test_an_address_that_failed_comes_last_until_the_next_look_up(resolver: Resolver) -> None:
    endpoint, clock = Endpoint("http://h"), Clock()
    await endpoint.addresses(clock)
    endpoint.failed("10.0.0.2")

    for _ in range(3):
        assert (await endpoint.addresses(clock))[-1] == "10.0.0.2"

    clock.advance(31)
    assert {(await endpoint.addresses(clock))[-1] for _ in range(3)} == {"10.0.0.1", "10.0.0.2", "10.0.0.3"}


async def test_addresses_are_looked_up_again_after_a_while(resolver: Resolver) -> None:
    endpoint, clock = Endpoint("http://h"), Clock()
    await endpoint.addresses(clock)
    resolver.found = ["10.0.0.9"]

    assert "10.0.0.9" not in await endpoint.addresses(clock)
    clock.advance(31)
    assert await endpoint.addresses(clock) == ["10.0.0.9"]


async def test_known_addresses_outlive_a_broken_resolver(resolver: Resolver) -> None:
    endpoint, clock = Endpoint("http://h"), Clock()
    before = await endpoint.addresses(clock)
    resolver.broken = True
    clock.advance(31)

    assert sorted(await endpoint.addresses(clock)) == sorted(before)


async def test_a_name_never_resolved_is_an_error(resolver: Resolver) -> None:
    resolver.broken = True

    with pytest.raises(OSError, match="no such host"):
        await Endpoint("http://h").addresses(Clock())
