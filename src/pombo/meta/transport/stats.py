"""Figures of one transport, for `/stats/http-client` and the metrics."""

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

# Upper bounds of the latency buckets in seconds, from the loop's resolution (1 ms) to the longest answer waited for by
# default (30 s): above 4 ms each is a quarter to a third greater than the last, so a quantile is off by no more.
LATENCY_BOUNDS = (
    *(0.001, 0.002, 0.003, 0.004, 0.005, 0.0065, 0.008, 0.01, 0.013, 0.016, 0.02, 0.025, 0.032, 0.04, 0.05, 0.065),
    *(0.08, 0.1, 0.13, 0.16, 0.2, 0.25, 0.32, 0.4, 0.5, 0.65, 0.8, 1.0, 1.3, 1.6, 2.0, 2.5, 3.2, 4.0, 5.0, 6.5, 8.0),
    *(10.0, 13.0, 16.0, 20.0, 25.0, 32.0),
)


class Closed(StrEnum):
    """Why a connection ended."""

    IDLE = "idle"
    AGE = "age"
    ANSWER = "answer"
    """The answer asked for it (`Connection: close`, HTTP/1.0) or left the connection in doubt."""
    PEER = "peer"
    """The server closed it between requests."""
    UNSOLICITED = "unsolicited"
    """Bytes came that no request had asked for."""
    FAILURE = "failure"
    """Together with a lost request."""
    SHUTDOWN = "shutdown"


@dataclass(slots=True)
class Counters:
    """What happened on connections that have ended, and what happens too seldom to be counted on each."""

    requests: int = 0
    first_requests: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    connections_opened: int = 0
    connect_failures: int = 0
    closed: Counter[str] = field(default_factory=Counter)
    never_written: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class TransportStats:
    """A snapshot. Counts are since the start; `latency_counts` has one more bucket than `LATENCY_BOUNDS`, for the rest.

    The snapshots of several processes add up field by field (quantiles from the added buckets).
    """

    max_sockets: int
    open: int
    idle: int
    in_flight: int
    connecting: int
    waiting: int
    """Requests that wait for a connection being made."""
    requests: int
    first_requests: int
    """The first of each connection; all others travelled on a reused one."""
    answers: int
    bytes_sent: int
    bytes_received: int
    connections_opened: int
    connect_failures: int
    connections_closed: dict[str, int]
    never_written: dict[str, int]
    lost: dict[str, int]
    latency_counts: tuple[int, ...]

    @property
    def reused(self) -> int:
        return self.requests - self.first_requests

    @property
    def reuse_ratio(self) -> float:
        """Requests on a reused connection per request; 1.0 before the first."""
        return self.reused / self.requests if self.requests else 1.0

    def latency(self, quantile: float) -> float | None:
        """Upper bound in seconds of the bucket that holds the quantile (0.5, 0.99); None before the first answer."""
        total = sum(self.latency_counts)
        if not total:
            return None
        seen = 0
        for bound, count in zip(LATENCY_BOUNDS, self.latency_counts, strict=False):
            seen += count
            if seen >= quantile * total:
                return bound
        return float("inf")
