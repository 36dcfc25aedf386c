"""The server behind the base URL: its name, its addresses, and whose turn it is."""

import asyncio
import socket
from collections.abc import Callable
from urllib.parse import urlsplit

# Front-end addresses of large services live about a minute in DNS; half of that follows a change soon enough.
_ADDRESSES_VALID_S = 30.0


class Endpoint:
    """Spreads connections over the addresses of one host.

    Each connection starts with the next address in turn; those that failed since the last look-up come last.
    When the resolver fails, the addresses known from before stay in use.
    """

    def __init__(self, base_url: str) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"not an http(s) address: {base_url!r}")
        if parts.username is not None or parts.query or parts.fragment:
            raise ValueError("a base address has no user, query or fragment")
        self.tls = parts.scheme == "https"
        self.host = parts.hostname
        self.port = parts.port or (443 if self.tls else 80)
        self.host_header = parts.netloc
        self.path_prefix = parts.path.rstrip("/")
        self._known: list[str] = []
        self._known_until = float("-inf")
        self._failed: set[str] = set()
        self._turn = 0
        self._looking_up = asyncio.Lock()

    async def addresses(self, now: Callable[[], float]) -> list[str]:
        """All addresses, in the order in which to try them. Raises OSError when the name cannot be resolved."""
        async with self._looking_up:
            if now() >= self._known_until:
                await self._look_up()
                self._known_until = now() + _ADDRESSES_VALID_S
        self._turn += 1
        start = self._turn % len(self._known)
        return sorted(self._known[start:] + self._known[:start], key=self._failed.__contains__)

    def failed(self, address: str) -> None:
        self._failed.add(address)

    async def _look_up(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except OSError:
            if not self._known:
                raise
        else:
            self._known = list(dict.fromkeys(str(address[0]) for *_, address in found))
            self._failed.clear()
