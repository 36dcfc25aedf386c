"""The webhook pump: posts what became of the messages, batched, signed, retried, until the receiver says 200.

A step of a message's script waits in the bucket of its time. Each tick gathers what is due into posts of at most
`max_updates`, one kind of object and one app each. An outlet (app, object) sends a few posts at once and keeps those
that failed for a later attempt: at once, then 1, 2, 4 ... seconds later, for an hour (Messenger) or seven days
(WhatsApp), as Meta does. A body is built when it is sent and a waiting update is eight bytes, so a receiver may stay
away for long.

An answer of 200 is what moves a message's state in the ledger.
"""

import asyncio
import hmac
import logging
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from itertools import count
from typing import Annotated, NamedTuple

import msgspec

from pombo.sandbox.accounts import OBJECT_OF, Accounts, App, Channel, WebhookObject
from pombo.sandbox.clock import Clock
from pombo.sandbox.fates import Step
from pombo.sandbox.ledger import DELIVERED, READ, SENT, Ledger
from pombo.sandbox.notices import Notice
from pombo.sandbox.payloads import NOTICE, Payloads, milliseconds
from pombo.sandbox.poster import Poster

_log = logging.getLogger(__name__)

_FIELD_OF = {SENT: "message_echoes", DELIVERED: "message_deliveries", READ: "message_reads"}
_KEEP_TRYING: dict[WebhookObject, float] = {"page": 3600.0, "whatsapp_business_account": 7 * 86400.0}
_LONGEST_PAUSE = 900.0
# Meta takes at most 3 MB a webhook.
_MAX_WEIGHT = 3_000_000
# Updates due in the same hundredth of a second wait in one bucket.
_GRAIN = 0.01
# An update is one integer: the message's number above three bits of event. Of a notice, and of something that happens
# without a webhook, it is a number of their own.
_EVENT_BITS = 3
_EVENT_MASK = (1 << _EVENT_BITS) - 1
_HAPPENING = NOTICE + 1


class PumpSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`time_scale` shortens the pauses between retries and how long they go on. Time-out: Meta wants 200 in 5 s."""

    tick_ms: Annotated[float, msgspec.Meta(gt=0)] = 50.0
    max_updates: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 1000
    connections: Annotated[int, msgspec.Meta(ge=1)] = 8
    timeout_ms: Annotated[float, msgspec.Meta(gt=0)] = 5000.0
    time_scale: Annotated[float, msgspec.Meta(ge=0)] = 1.0


class _Post:
    __slots__ = ("at", "attempts", "first_failure", "updates")

    def __init__(self, updates: "array[int]", at: float) -> None:
        self.updates = updates
        self.at = at
        self.attempts = 0
        self.first_failure = 0.0

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return ((update >> _EVENT_BITS, update & _EVENT_MASK) for update in self.updates)


class _Outlet:
    """What is on its way to one callback of one app."""

    def __init__(self, app: App, webhook_object: WebhookObject) -> None:
        self.app = app
        self.webhook_object = webhook_object
        self.ready: deque[_Post] = deque()
        self.waiting: list[tuple[float, int, _Post]] = []
        self.senders: set[asyncio.Task[None]] = set()


class Planned(NamedTuple):
    """What happens at a time (seconds since the epoch), and the webhooks that tell of it, each at its own time."""

    at: float
    happen: Callable[[], None] | None
    told: list[tuple[float, Notice]]


class PumpStats(msgspec.Struct):
    """Updates are single statuses or events; posts are requests. `posts_failed` counts every failed attempt."""

    updates_pending: int = 0
    updates_delivered: int = 0
    updates_abandoned: int = 0
    posts_delivered: int = 0
    posts_failed: int = 0


class Pump:
    def __init__(self, clock: Clock, ledger: Ledger, accounts: Accounts, settings: PumpSettings) -> None:
        self.settings = settings
        self.stats = PumpStats()
        self._clock = clock
        self._ledger = ledger
        self._accounts = accounts
        self._payloads = Payloads(ledger, accounts)
        self._poster = Poster()
        self._buckets: dict[int, array[int]] = {}
        self._outlets: dict[tuple[str, WebhookObject], _Outlet] = {}
        self._echoes_left: dict[int, int] = {}
        self._happenings: dict[int, Callable[[], None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._order = count()
        self._hurried = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def schedule(
        self,
        channel: Channel,
        number: int,
        steps: list[Step],
        now: float,
        *,
        echo: str,
        failure: tuple[int, str] | None,
    ) -> None:
        """Plan the webhooks of a message just accepted; nothing if the app is not subscribed."""
        if not channel.app.callbacks:
            return
        echoes = 0
        for step in steps:
            if not channel.wants(_FIELD_OF.get(step.event, "messages")):
                continue
            self._put(now + step.delay, number << _EVENT_BITS | step.event)
            echoes += step.event == SENT
        if echoes and channel.kind == "messenger":
            self._payloads.echoes[number] = echo
            self._echoes_left[number] = echoes
        if failure is not None:
            self._payloads.failures[number] = failure
        if self.stats.updates_pending:
            self._idle.clear()
            self._wake()

    def plan(self, planned: list[Planned]) -> None:
        """Whoever has no callback by then is told nothing; what happens does so all the same."""
        for at, happen, told in planned:
            if happen is not None:
                number = next(self._order)
                self._happenings[number] = happen
                self._put(at, number << _EVENT_BITS | _HAPPENING)
            for told_at, notice in told:
                number = next(self._order)
                self._payloads.notices[number] = notice
                self._put(told_at, number << _EVENT_BITS | NOTICE)
        if self.stats.updates_pending:
            self._idle.clear()
            self._wake()

    def _put(self, at: float, update: int) -> None:
        place = int(at / _GRAIN) + 1
        bucket = self._buckets.get(place)
        if bucket is None:
            bucket = self._buckets[place] = array("q")
        bucket.append(update)
        self.stats.updates_pending += 1

    def configure(self, settings: PumpSettings) -> None:
        """The next tick already follows the new settings."""
        self.settings = settings

    async def flush(self, timeout: float, *, hurry: bool) -> bool:
        """Wait until no update is pending; False if that took longer than `timeout` seconds.

        `hurry` makes everything due at once until then, whatever its delay or its pause before the next attempt.
        """
        self._hurried += hurry
        self.look()
        try:
            async with asyncio.timeout(timeout):
                await self._idle.wait()
        except TimeoutError:
            return False
        finally:
            self._hurried -= hurry
        return True

    def look(self) -> None:
        """See what is due now; called when the clock was moved."""
        self._gather()

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        senders = [task for outlet in self._outlets.values() for task in outlet.senders]
        for task in senders:
            task.cancel()
        await asyncio.gather(*senders, return_exceptions=True)
        self._poster.close()

    def _wake(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self.settings.tick_ms / 1000, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._gather()
        if self.stats.updates_pending:
            self._wake()

    def _gather(self) -> None:
        hurry = self._hurried > 0
        now = self._clock.now()
        last = now / _GRAIN
        due: dict[tuple[str, WebhookObject], list[int]] = {}
        for place in sorted(place for place in self._buckets if hurry or place <= last):
            for update in self._buckets.pop(place):
                if (key := self._outlet_of(update)) is not None:
                    due.setdefault(key, []).append(update)
        for (app_id, webhook_object), updates in due.items():
            outlet = self._outlets.get((app_id, webhook_object))
            if outlet is None:
                outlet = self._outlets[app_id, webhook_object] = _Outlet(self._accounts.apps[app_id], webhook_object)
            outlet.ready.extend(_Post(batch, now) for batch in self._batches(updates))
        for outlet in self._outlets.values():
            while outlet.waiting and (hurry or outlet.waiting[0][0] <= now):
                outlet.ready.append(heappop(outlet.waiting)[2])
            self._send_more(outlet)

        if not self.stats.updates_pending:
            self._idle.set()

    def _outlet_of(self, update: int) -> tuple[str, WebhookObject] | None:
        """Where the update goes; None where nobody is told of it (any more)."""
        number, event = update >> _EVENT_BITS, update & _EVENT_MASK
        if event < NOTICE:
            channel = self._accounts.channels[self._ledger.channel_id(number)]
            return channel.app.id, OBJECT_OF[channel.kind]
        if event == NOTICE:
            notice = self._payloads.notices[number]
            if notice.is_wanted:
                return notice.app.id, notice.webhook_object
            del self._payloads.notices[number]
        else:
            self._happenings.pop(number)()
        self.stats.updates_pending -= 1
        return None

    def _batches(self, updates: list[int]) -> Iterator["array[int]"]:
        batch = array("q")
        weight = 0
        for update in updates:
            added = self._payloads.weight(update >> _EVENT_BITS, update & _EVENT_MASK)
            if batch and (len(batch) >= self.settings.max_updates or weight + added > _MAX_WEIGHT):
                yield batch
                batch = array("q")
                weight = 0
            batch.append(update)
            weight += added
        yield batch

    def _send_more(self, outlet: _Outlet) -> None:
        while outlet.ready and len(outlet.senders) < self.settings.connections:
            task = asyncio.get_running_loop().create_task(self._send(outlet, outlet.ready.popleft()))
            outlet.senders.add(task)
            task.add_done_callback(outlet.senders.discard)

    async def _send(self, outlet: _Outlet, post: _Post | None) -> None:
        while post is not None:
            callback = outlet.app.callbacks.get(outlet.webhook_object)
            if callback is None:
                self._abandon(post)
            elif await self._try(outlet, post, callback.url):
                self._delivered(outlet, post)
            else:
                self._retry_later(outlet, post)
            post = outlet.ready.popleft() if outlet.ready else None

    async def _try(self, outlet: _Outlet, post: _Post, url: str) -> bool:
        build = self._payloads.messenger if outlet.webhook_object == "page" else self._payloads.whatsapp
        body = build(post, post.at)
        try:
            answer = await self._poster.request(
                "POST", url, signed_headers(outlet.app.secret, body), body, self.settings.timeout_ms / 1000
            )
        except OSError as error:
            _log.debug("webhook not taken: %s", error)
            return False
        return answer.status == 200

    def _delivered(self, outlet: _Outlet, post: _Post) -> None:
        until = milliseconds(post.at) / 1000
        has_watermark = outlet.webhook_object == "page"
        for number, event in post:
            if event == NOTICE:
                continue
            if has_watermark and event in (DELIVERED, READ):
                self._ledger.raise_up_to(number, until, event)
            else:
                self._ledger.raise_state(number, event)
        self.stats.posts_delivered += 1
        self.stats.updates_delivered += len(post.updates)
        self._settle(post)

    def _retry_later(self, outlet: _Outlet, post: _Post) -> None:
        now = self._clock.now()
        self.stats.posts_failed += 1
        post.attempts += 1
        if post.attempts == 1:
            post.first_failure = now
        scale = self.settings.time_scale
        if now - post.first_failure > _KEEP_TRYING[outlet.webhook_object] * scale:
            self._disable(outlet, post)
            return
        pause = 0.0 if post.attempts == 1 else min(2.0 ** (post.attempts - 2), _LONGEST_PAUSE)
        heappush(outlet.waiting, (now + pause * scale, next(self._order), post))

    def _disable(self, outlet: _Outlet, post: _Post) -> None:
        """Meta gives up; for Pages it also unsubscribes the app, which then has to subscribe again."""
        if outlet.webhook_object == "page":
            for number, event in post:
                page = self._payloads.notices[number].channel if event == NOTICE else None
                (page or self._accounts.channels[self._ledger.channel_id(number)]).subscribed_fields = frozenset()
        self._abandon(post)

    def _abandon(self, post: _Post) -> None:
        self.stats.updates_abandoned += len(post.updates)
        self._settle(post)

    def _settle(self, post: _Post) -> None:
        for number, event in post:
            if event == NOTICE:
                del self._payloads.notices[number]
            elif event == SENT and number in self._echoes_left:
                self._echoes_left[number] -= 1
                if not self._echoes_left[number]:
                    del self._echoes_left[number], self._payloads.echoes[number]
        self.stats.updates_pending -= len(post.updates)
        if not self.stats.updates_pending:
            self._idle.set()


def signed_headers(secret: str, body: bytes) -> dict[str, str]:
    signature = hmac.digest(secret.encode(), body, "sha256").hex()
    return {
        "Content-Type": "application/json",
        "User-Agent": "facebookexternalua",
        "Accept": "*/*",
        "X-Hub-Signature-256": f"sha256={signature}",
    }
