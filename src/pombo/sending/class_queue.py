"""What a lane holds of one class: streams in turn, and one message to a recipient at a time.

A message that was taken stands in `front` of its recipient until it is settled, also while it waits for another attempt
or is in doubt. Later ones to the same recipient are parked behind it, so that order holds through retries. One who gets
more than others fills no memory: what is beyond is forgotten, and read again once those parked have left.
"""

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from pombo.domain.classes import MessageClass
from pombo.sending.media_limit import MediaLimit
from pombo.sending.outgoing import Outgoing, Stream
from pombo.sending.pairs import PairLimit

# Messages that wait for an earlier one to their recipient: to one, and to all of a lane's class.
MOST_PARKED_EACH = 100
MOST_PARKED = 2_000
# What was forgotten is read again so often at most, for that means to read the streams from their beginning.
READ_AGAIN_S = 10.0


class Taken(NamedTuple):
    messages: list[Outgoing]
    delayed: list[tuple[float, Outgoing]]
    """By a limit of single recipients or of a kind of content; each with its time."""
    forgotten: list[Outgoing]


class ClassQueue:
    __slots__ = (
        "_drained", "_excess", "_read_again_at", "buffered", "delayed_count", "front", "message_class", "parked",
        "parked_count", "turns",
    )  # fmt: skip

    def __init__(self, message_class: MessageClass) -> None:
        self.message_class = message_class
        self.turns: deque[Stream] = deque()
        """Streams with something queued, in the order of their turns."""
        self.buffered = 0
        """Queued messages; neither parked nor taken ones."""
        self.front: dict[str, int] = {}
        """Recipient → the id of the message that later ones must wait for."""
        self.parked: dict[str, deque[Outgoing]] = {}
        self.parked_count = 0
        self._excess: dict[str, set[Stream]] = {}
        """Recipients of whose messages some were forgotten → the streams that these were from."""
        self._drained: set[str] = set()
        """Of these recipients: those for whom nothing is parked any more."""
        self._read_again_at = float("-inf")
        self.delayed_count = 0
        """Messages that were handed out as delayed and have not been put back; their lane keeps them."""

    @property
    def overflows(self) -> bool:
        """Whether some messages were forgotten, and lie before others when their stream is read from its beginning."""
        return bool(self._excess)

    def is_awaited(self, recipient: str) -> bool:
        """Whether others wait for the recipient's message in front."""
        return recipient in self.parked or recipient in self._excess

    def enqueue(self, stream: Stream, messages: Iterable[Outgoing]) -> None:
        before = len(stream.queue)
        stream.queue.extend(messages)
        self.buffered += len(stream.queue) - before
        self._into_turn(stream)

    def take(self, count: int, now: float, pairs: PairLimit | None, media: MediaLimit | None) -> Taken:
        """Up to `count` messages, streams in turn."""
        taken, delayed, forgotten = result = Taken([], [], [])
        turns, front = self.turns, self.front
        progress = True
        while turns and progress and len(taken) < count:
            progress = False
            # A round gives each stream an even part; what one does not use goes to the others in the next.
            share = max(1, (count - len(taken)) // len(turns))
            for _ in range(len(turns)):
                stream = turns.popleft()
                queue = stream.queue
                before, part = len(taken), min(share, count - len(taken))
                if stream.limit is not None:
                    part = stream.limit.take(part, now)
                end = before + part
                direct_media = media if stream.payload is None else None
                while queue and len(taken) < end:
                    message = queue.popleft()
                    self.buffered -= 1
                    recipient = message.recipient
                    if (holder := front.get(recipient)) != message.id:
                        if holder is not None or recipient in self._excess:
                            if not self._park(message):
                                forgotten.append(message)
                            continue
                        front[recipient] = message.id
                    if (pairs is not None and (wait := pairs.take(recipient, now))) or (
                        direct_media is not None and (wait := direct_media.take(message, now, len(delayed)))
                    ):
                        delayed.append((now + wait, message))
                        self.delayed_count += 1
                    else:
                        taken.append(message)
                if left := len(taken) - before:
                    stream.unsent += left
                    progress = True
                if stream.limit is not None:
                    stream.limit.give_back(part - left)
                if queue:
                    turns.append(stream)
                else:
                    stream.in_turn = False
        return result

    def put_back(self, message: Outgoing) -> None:
        """Before all else of its stream: a parked or delayed message whose time has come."""
        message.stream.queue.appendleft(message)
        self.buffered += 1
        self._into_turn(message.stream)

    def release(self, recipient: str, message_id: int) -> bool:
        """The message is settled, or holds the others no longer; True when one that was parked may now leave."""
        if self.front.get(recipient) != message_id:
            return False
        del self.front[recipient]
        waiting = self.parked.get(recipient)
        if not waiting:
            if recipient in self._excess:
                self._drained.add(recipient)
            return False
        first = waiting.popleft()
        self.parked_count -= 1
        if not waiting:
            del self.parked[recipient]
        # In front already, so that nobody else's takes its place.
        self.front[recipient] = first.id
        self.put_back(first)
        return True

    def drop(self, stream: Stream) -> list[Outgoing]:
        """Takes out all that is queued or parked of a stream; returns it."""
        dropped = list(stream.queue)
        if stream.in_turn:
            self.turns.remove(stream)
            stream.in_turn = False
        self.buffered -= len(stream.queue)
        stream.queue.clear()
        if self.parked_count:
            for recipient, waiting in list(self.parked.items()):
                dropped += (mine := [message for message in waiting if message.stream is stream])
                self.parked_count -= len(mine)
                left = deque(message for message in waiting if message.stream is not stream)
                if left:
                    self.parked[recipient] = left
                else:
                    del self.parked[recipient]
        for recipient, streams in list(self._excess.items()):
            streams.discard(stream)
            if not streams:
                self._let_in(recipient)
        for message in dropped:
            # One that was put back stood in front without having been taken.
            self.release(message.recipient, message.id)
        return dropped

    def read_again(self, now: float) -> list[Outgoing]:
        """Starts the streams over of which something was forgotten that may now leave.

        Returns queued messages that are forgotten too, because those before them are read again.
        """
        if not self._drained or now - self._read_again_at < READ_AGAIN_S:
            return []
        self._read_again_at = now
        recipients, self._drained = self._drained, set()
        forgotten: list[Outgoing] = []
        for stream in {stream for recipient in recipients for stream in self._excess.pop(recipient)}:
            forgotten += (theirs := [message for message in stream.queue if message.recipient in recipients])
            if theirs:
                stream.queue = deque(message for message in stream.queue if message.recipient not in recipients)
                self.buffered -= len(theirs)
            stream.start_over()
        return forgotten

    def _park(self, message: Outgoing) -> bool:
        """False when the message is to be forgotten."""
        recipient = message.recipient
        waiting = self.parked.get(recipient, ())
        if recipient in self._excess or len(waiting) >= MOST_PARKED_EACH or self.parked_count >= MOST_PARKED:
            self._excess.setdefault(recipient, set()).add(message.stream)
            return False
        self.parked.setdefault(recipient, deque()).append(message)
        self.parked_count += 1
        return True

    def _let_in(self, recipient: str) -> None:
        """Nothing of theirs is to be read again."""
        del self._excess[recipient]
        self._drained.discard(recipient)

    def _into_turn(self, stream: Stream) -> None:
        if stream.queue and not stream.in_turn:
            self.turns.append(stream)
            stream.in_turn = True
