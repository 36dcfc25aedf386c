"""The part of a request that is the same for every message of a channel, serialized once."""

import re
from collections.abc import Mapping

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TARGET = re.compile(r"/[!-~]*")
_VALUE = re.compile(r"[ -~]*")
_END_OF_HEAD = b"\r\n\r\n"
# Theirs is to the connection, not to the caller.
_OURS = frozenset({"host", "content-length", "transfer-encoding", "connection", "accept-encoding"})


class RequestHead:
    """A serialized request line and headers, to which each message only appends its length and body.

    `target` is the path with its query, in ASCII, percent-encoded where needed. Raises ValueError for whatever could
    break out of its line. `Accept-Encoding: identity` is always sent: the answers are a few hundred bytes, and
    unpacking them costs more than their bytes do.
    """

    __slots__ = ("_until_length", "bodiless")

    def __init__(self, method: str, target: str, host: str, headers: Mapping[str, str] | None = None) -> None:
        headers = headers or {}
        if not _TOKEN.fullmatch(method) or method == "HEAD":
            # The answer to HEAD announces a body that never comes; the Graph API needs none.
            raise ValueError(f"not a method this transport sends: {method!r}")
        if not _TARGET.fullmatch(target):
            raise ValueError("a request target is an absolute path of visible ASCII characters")
        for name, value in (*headers.items(), ("Host", host)):
            if not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
                # The value may hold a token, so it is not repeated.
                raise ValueError(f"not a valid header: {name!r}")
        if forbidden := _OURS.intersection(name.lower() for name in headers):
            raise ValueError(f"set by the transport: {', '.join(sorted(forbidden))}")
        lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", "Accept-Encoding: identity"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        head = "\r\n".join(lines).encode("ascii")
        self.bodiless: bytes = head + _END_OF_HEAD
        """The whole request, for methods without a body."""
        self._until_length = head + b"\r\nContent-Length: "

    def with_body(self, body: bytes) -> bytes:
        """The whole request."""
        return b"".join((self._until_length, str(len(body)).encode(), _END_OF_HEAD, body))
