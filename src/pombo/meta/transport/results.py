"""What becomes of one request: an answer, or a failure that says what it proves.

Result
├── Answer            a complete HTTP answer, whatever its status
├── NeverWritten      proven: no byte of the request was handed to the kernel, so the server has not seen it
└── Lost              anything else: the server may have carried the request out
"""

import re
from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Why a request got no answer; also the key under which failures are counted."""

    # Never written.
    RESOLVE = "resolve"
    CONNECT = "connect"
    TLS = "tls"
    CONNECT_TIMEOUT = "connect_timeout"
    WITHDRAWN = "withdrawn"
    """The submitter's `may_write` said no when its turn had come."""
    # Lost.
    CLOSED_UNANSWERED = "closed_unanswered"
    """The peer closed or reset the connection before the first byte of an answer."""
    CLOSED_MID_ANSWER = "closed_mid_answer"
    WRITE_TIMEOUT = "write_timeout"
    ANSWER_TIMEOUT = "answer_timeout"
    MALFORMED = "malformed"
    TOO_LARGE = "too_large"
    CANCELLED = "cancelled"
    # Either, by what had been written when this side closed.
    SHUTDOWN = "shutdown"


@dataclass(frozen=True, slots=True)
class NeverWritten:
    """The request did not leave: sending it again cannot double anything."""

    reason: Reason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Lost:
    """The request left, at least in part, and no answer came: it may or may not have been carried out."""

    reason: Reason
    detail: str = ""


# Not frozen: a frozen dataclass takes three times as long to make, and one is made per message.
@dataclass(slots=True)
class Answer:
    """One complete answer.

    `elapsed` is in seconds, from the write of the request to the last byte of the answer, in the loop's own resolution
    (uvloop: 1 ms). `reused` tells whether the request travelled on a connection that had carried one before.
    """

    status: int
    body: bytes
    reused: bool
    elapsed: float
    raw: bytes
    """The bytes as read; `headers` looks into them on demand, so that nobody pays who does not ask."""

    @property
    def headers(self) -> dict[str, str]:
        """The few headers that matter, if present: Meta's usage figures and `retry-after`; names in lower case.

        Read from the raw head on each access (about 1 µs), so keep the result. Of a header that comes twice the first
        counts.
        """
        found: dict[str, str] = {}
        for name, value in _FEW_HEADERS.findall(final_head(self.raw)):
            found.setdefault(name.decode("ascii").lower(), value.strip(b" \t").decode("latin-1"))
        return found


TransportFailure = NeverWritten | Lost
Result = Answer | NeverWritten | Lost

_FEW_HEADERS = re.compile(
    rb"\r\n(x-app-usage|x-business-use-case-usage|x-page-usage|retry-after):([^\r\n]*)", re.IGNORECASE
)
_FRAMING = re.compile(rb"\r\n(?:content-length|transfer-encoding):", re.IGNORECASE)


def final_head(raw: bytes) -> bytes:
    """The head of the answer proper, interim (1xx) answers skipped; empty while it is incomplete.

    Expects what the parser has accepted so far: lines end in CRLF, and only line ends come before an answer.
    """
    start = 0
    while True:
        while raw[start : start + 1] in (b"\r", b"\n"):
            start += 1
        end = raw.find(b"\r\n\r\n", start)
        if end < 0:
            return b""
        status_class = start + len("HTTP/1.1 ")
        if raw[status_class : status_class + 1] != b"1":
            return raw[start : end + 2]
        start = end + 4


def ends_with_connection(raw: bytes) -> bool:
    """Whether this answer has a complete head without any framing, so that its body lasts until the peer closes."""
    head = final_head(raw)
    return bool(head) and _FRAMING.search(head) is None
