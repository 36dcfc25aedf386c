"""What an endpoint answers, and its bytes on the wire."""

from http import HTTPStatus
from typing import Any, Literal

import msgspec

_REASONS = {status.value: status.phrase for status in HTTPStatus}
_STATUS_LINES = {
    code: f"HTTP/1.1 {code} {phrase}\r\nContent-Type: application/json; charset=UTF-8\r\n".encode()
    for code, phrase in _REASONS.items()
}
_OK = _STATUS_LINES[200]

Ending = Literal["answer", "close", "hang", "null"]


class Reply(msgspec.Struct, gc=False):
    """`headers` are complete lines, each with its CRLF. `delay` is in seconds.

    `ending` other than "answer" is a fault: the connection is closed without an answer, is left without one, or (in a
    batch) the item is `null`.
    """

    body: bytes
    status: int = 200
    headers: bytes = b""
    delay: float = 0.0
    ending: Ending = "answer"
    content_type: bytes | None = None
    """None is JSON."""

    def render(self, *, keep_alive: bool) -> bytes:
        line = _OK if self.status == 200 else _STATUS_LINES.get(self.status, b"HTTP/1.1 %d Status\r\n" % self.status)
        if self.content_type is not None:
            reason = _REASONS.get(self.status, "Status")
            line = b"HTTP/1.1 %d %b\r\nContent-Type: %b\r\n" % (self.status, reason.encode(), self.content_type)
        connection = b"" if keep_alive else b"Connection: close\r\n"
        return b"%b%b%bContent-Length: %d\r\n\r\n%b" % (line, self.headers, connection, len(self.body), self.body)


_encode = msgspec.json.Encoder().encode


def json_reply(value: Any, status: int = 200) -> Reply:
    return Reply(_encode(value), status)
