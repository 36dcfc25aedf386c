"""A message in a lane's hands, the batch of intents that covers it, and the stream that it came from."""

from collections import deque
from datetime import date, datetime
from typing import TYPE_CHECKING

from pombo.domain.classes import MessageClass
from pombo.meta.payloads import CompiledPayload
from pombo.meta.transport import RequestHead
from pombo.sending.identity import Identity
from pombo.sending.pacer import TokenBucket
from pombo.store.outbox import BEGINNING

if TYPE_CHECKING:
    from pombo.sending.lane import Lane


class Outgoing:
    """A message in the lane's hands."""

    __slots__ = (
        "attempt", "content", "head", "id", "intent", "passed_at", "recipient", "stream", "uncounted", "variables",
    )  # fmt: skip

    def __init__(
        self,
        id: int,
        attempt: int,
        uncounted: int,
        recipient: str,
        variables: str | None,
        stream: "Stream",
        content: str | None = None,
    ) -> None:
        self.id = id
        self.attempt = attempt
        """Attempts made so far; from the intent on, the number of this one."""
        self.uncounted = uncounted
        self.recipient = recipient
        self.variables = variables
        """JSON text, read only if the content has variables."""
        self.stream = stream
        self.content = content
        """JSON text of a direct message's own content; None: the run's."""
        self.intent: Intent | None = None
        self.passed_at = 0.0
        """When its channel's rate let it leave (loop time)."""
        self.head: RequestHead | None = None
        """Under which it was armed; the lane has another one once the channel has a new token."""


class Intent:
    """One stored batch of intents; forgotten when the outcomes of all its messages are saved."""

    __slots__ = ("day", "id", "identity", "open")

    def __init__(self, id: int, identity: Identity, day: date, open: int) -> None:
        self.id = id
        self.identity = identity
        self.day = day
        """UTC; part of the send keys."""
        self.open = open


class Stream:
    """One run's messages on this channel, or its direct messages of one class: read ahead by its own cursor."""

    __slots__ = (
        "cursor",
        "failures",
        "floor",
        "in_turn",
        "lane",
        "limit",
        "marks",
        "message_class",
        "more",
        "pass_began",
        "payload",
        "queue",
        "run_id",
        "unsent",
    )

    def __init__(
        self,
        lane: "Lane",
        run_id: int,
        payload: CompiledPayload | None,
        message_class: MessageClass = MessageClass.BULK,
        limit: TokenBucket | None = None,
    ) -> None:
        self.lane = lane
        self.run_id = run_id
        self.payload = payload
        """None for direct messages, which bring their own content."""
        self.message_class = message_class
        self.limit = limit
        """A limit of this kind of content, below the channel's."""
        self.queue: deque[Outgoing] = deque()
        self.in_turn = False
        self.cursor: tuple[datetime, int] = BEGINNING
        self.floor: tuple[datetime, int] = BEGINNING
        """Where a pass begins: before it lies nothing that could still become visible."""
        self.marks: deque[tuple[float, tuple[datetime, int]]] = deque()
        """Loop times and cursors of the last passes, from which the floor follows."""
        self.more = True
        """Whether reading may find something."""
        self.pass_began = float("-inf")
        """Loop time of the last read from the beginning."""
        self.failures = 0
        """Failures in a row that are the content's own."""
        self.unsent = 0
        """Messages that were collected and have neither left nor been given up: what a pause must wait for."""

    def begin_pass(self, now: float, settled_s: float) -> None:
        """Reads from the floor again, which follows the cursor by `settled_s`."""
        if not self.marks or now - self.marks[-1][0] >= 1.0:
            self.marks.append((now, self.cursor))
        while self.marks and self.marks[0][0] <= now - settled_s:
            self.floor = self.marks.popleft()[1]
        self.cursor, self.pass_began = self.floor, now

    def start_over(self) -> None:
        """Something that was read before may be waiting again: the next pass is from the very beginning."""
        self.floor, self.pass_began = BEGINNING, float("-inf")
        self.marks.clear()
        self.more = True
