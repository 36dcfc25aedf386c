"""A small HTTP/1.1 client for the Graph API: kept-alive connections, and nothing that a send does not need.

`Transport` sends whole serialized requests without a task, future or timer for each, and gives each exactly one
`Result`: an `Answer`, or a failure that says what is proven about the request. See docs/subsystems/transport.md.
"""

from pombo.meta.transport.pool import Transport
from pombo.meta.transport.request_head import RequestHead
from pombo.meta.transport.results import Answer, Lost, NeverWritten, Reason, Result, TransportFailure
from pombo.meta.transport.stats import LATENCY_BOUNDS, TransportStats

__all__ = [
    "LATENCY_BOUNDS",
    "Answer",
    "Lost",
    "NeverWritten",
    "Reason",
    "RequestHead",
    "Result",
    "Transport",
    "TransportFailure",
    "TransportStats",
]
