"""What a lane holds of one class: streams in turn, and one message to a recipient at a time.

A message that was taken stands in `front` of its recipient until it is settled, also while it waits for another attempt
or is in doubt. Later ones to the same recipient are parked behind it, so that order holds through retries.
"""

from collections import deque
from collections.abc import Iterable

from pombo.domain.classes import MessageClass
from pombo.sending.outgoing import Outgoing, Stream
from pombo.sending.pairs import PairLimit


class ClassQueue:
    __slots__ = ("buffered", "delayed_count", "front", "message_class", "parked", "parked_count", "turns")

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
        self.delayed_count = 0
        """Messages that were handed out as delayed and have not been put back; their lane keeps them."""

    def enqueue(self, stream: Stream, messages: Iterable[Outgoing]) -> None:
        before = len(stream.queue)
        stream.queue.extend(messages)
        self.buffered += len(stream.queue) - before
        self._into_turn(stream)

    def take(
        self, count: int, now: float, pairs: PairLimit | None
    ) -> tuple[list[Outgoing], list[tuple[float, Outgoing]]]:
        """Up to `count` messages, streams in turn; and those that the pair limit delays, each with its time."""
        taken: list[Outgoing] = []
        delayed: list[tuple[float, Outgoing]] = []
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
                while queue and len(taken) < end:
                    message = queue.popleft()
                    self.buffered -= 1
                    holder = front.setdefault(message.recipient, message.id)
                    if holder != message.id:
                        self._park(message)
                    elif pairs is not None and (wait := pairs.take(message.recipient, now)):
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
        return taken, delayed

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
        for message in dropped:
            # One that was put back stood in front without having been taken.
            self.release(message.recipient, message.id)
        return dropped

    def _park(self, message: Outgoing) -> None:
        self.parked.setdefault(message.recipient, deque()).append(message)
        self.parked_count += 1

    def _into_turn(self, stream: Stream) -> None:
        if stream.queue and not stream.in_turn:
            self.turns.append(stream)
            stream.in_turn = True
