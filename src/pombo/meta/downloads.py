"""Files from Meta's own addresses: kept in memory up to a limit, from no other hosts than Meta's.

An address comes out of a webhook or an answer, so it is believed no further than that: it must be https and name one of
Meta's domains, or be on the very server that GRAPH_API_URL names (the sandbox). A token goes with WhatsApp's only.
"""

from dataclasses import dataclass
from urllib.parse import urlsplit

from pombo.meta.transport import Answer, Lost, Reason, Transport

_DOMAINS = ("fbcdn.net", "fbsbx.com", "facebook.com", "whatsapp.net", "whatsapp.com", "cdninstagram.com")
# Files arrive at a megabyte a second at least, or it is not worth the wait.
_ANSWER_TIMEOUT_S = 120.0
_SOCKETS = 4
# Of servers that files came from, so many are kept connected.
_MOST_SERVERS = 16


@dataclass(frozen=True, slots=True)
class DownloadFailed:
    """`gone`: asking again will not help."""

    reason: str
    gone: bool


class Downloads:
    """Belongs to one event loop. `most` is the largest file in bytes."""

    def __init__(self, graph_api_url: str, most: int) -> None:
        self._own = _origin(graph_api_url)
        self._most = most
        self._transports: dict[str, Transport] = {}

    async def fetch(self, url: str, token: str | None = None) -> bytes | DownloadFailed:
        origin, target = _origin(url), _target(url)
        if origin != self._own and not _is_metas(url):
            return DownloadFailed("It is not on a server of Meta's.", gone=True)
        if not target.isascii() or not target.isprintable():
            return DownloadFailed("Its address makes no sense.", gone=True)
        transport = await self._transport(origin)
        headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
        result = await transport.request("GET", target, {"User-Agent": "pombo", **headers})
        match result:
            case Answer(status=200, body=body):
                return body
            case Answer(status=status):
                return DownloadFailed(f"Meta answered {status}.", gone=status in (401, 403, 404, 410))
            case Lost(reason=Reason.TOO_LARGE):
                return DownloadFailed(f"It has more than {self._most // 2**20} MB.", gone=True)
        return DownloadFailed(f"No answer: {result.reason}.", gone=False)

    async def close(self) -> None:
        for transport in self._transports.values():
            await transport.close()

    async def _transport(self, origin: str) -> Transport:
        found = self._transports.pop(origin, None)
        if found is None:
            found = Transport(
                origin, max_sockets=_SOCKETS, max_answer_bytes=self._most, answer_timeout=_ANSWER_TIMEOUT_S
            )
            await found.start()
        # The one used last stands last.
        self._transports[origin] = found
        if len(self._transports) > _MOST_SERVERS:
            oldest = self._transports.pop(next(iter(self._transports)))
            await oldest.close(grace=_ANSWER_TIMEOUT_S)
        return found


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _target(url: str) -> str:
    parts = urlsplit(url)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _is_metas(url: str) -> bool:
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    return (
        parts.scheme == "https"
        and parts.username is None
        and any(host == domain or host.endswith(f".{domain}") for domain in _DOMAINS)
    )
