"""The way every valid message takes: limits, faults, the ledger, its webhooks, the answer."""

from typing import NamedTuple, Protocol

from pombo.sandbox.accounts import Channel
from pombo.sandbox.chance import Chance
from pombo.sandbox.clock import Clock
from pombo.sandbox.customers import Customers
from pombo.sandbox.errors import MetaError, title_of
from pombo.sandbox.fates import disturb, script
from pombo.sandbox.faults import Fault, Faults, Strike
from pombo.sandbox.ledger import DELIVERED, Ledger
from pombo.sandbox.pump import Pump
from pombo.sandbox.reply import Ending, Reply
from pombo.sandbox.threads import Choice, ThreadMessage, Threads


class Content(Protocol):
    """What a thread keeps of a message; read only when the person has a thread, or habits."""

    def words(self) -> str | None: ...

    def choices(self) -> tuple[Choice, ...]: ...


class Outgoing(NamedTuple):
    """One valid message. The answer is `head`, the provider id, `tail`.

    `echo` is the content as Messenger's echo repeats it: JSON members after `mid`, each with a leading comma.
    `async_failure` is WhatsApp's code for a message that is accepted and fails later.
    """

    recipient: str
    key: str | None
    head: str
    tail: str
    echo: str = ""
    category: int = 0
    is_reaction: bool = False
    async_failure: int | None = None
    content: Content | None = None


class Submission:
    def __init__(
        self,
        clock: Clock,
        chance: Chance,
        ledger: Ledger,
        faults: Faults,
        pump: Pump,
        threads: Threads,
        customers: Customers,
    ) -> None:
        self.clock = clock
        self.chance = chance
        self.ledger = ledger
        self.faults = faults
        self.pump = pump
        self.threads = threads
        self._customers = customers

    def count_call(self, channel: Channel) -> float:
        """Enter the call in the channel's book and hold it to the limit on calls. Returns the time."""
        now = self.clock.now()
        channel.book.calls_at.append(now)
        if not channel.calls.take(now):
            raise MetaError(channel.kind, 613, 2534040)
        return now

    def submit(self, channel: Channel, outgoing: Outgoing, now: float, *, in_batch: bool) -> Reply:
        """Accept the message, unless a fault or a limit forbids it. Raises MetaError."""
        recipient = outgoing.recipient
        strikes: list[Strike] = []
        about = ""
        delay = channel.latency
        tells = bool(channel.app.callbacks)
        # All that hangs on chance is left out when nothing of it can happen: this runs once a message.
        if tells or channel.latency_jitter or self.faults.any_for_sends:
            about = _about(channel, outgoing)
        if channel.latency_jitter:
            delay += self.chance.roll(f"latency\x1f{about}") * channel.latency_jitter
        if self.faults.any_for_sends:
            strikes = self.faults.strike_send(self.chance, channel.id, recipient, about, in_batch=in_batch)
            delay += sum(strike.delay for strike in strikes if strike.fault.kind == "latency")
            refusal = _refusal(channel, strikes, "before", delay)
            if refusal is not None:
                return refusal
        self._hold_to_limits(channel, recipient, now)

        number = self.ledger.add(channel.book, recipient, outgoing.key, now, outgoing.category)
        if channel.threads and (thread := channel.threads.get(recipient)) is not None and outgoing.content is not None:
            sent = ThreadMessage(
                self.ledger.provider_id(number),
                now,
                False,
                outgoing.content.words(),
                choices=outgoing.content.choices(),
            )
            self.threads.add(thread, sent)
        if tells:
            self._schedule(channel, outgoing, number, about, strikes, now)

        if strikes:
            refusal = _refusal(channel, strikes, "after", delay)
            if refusal is not None:
                return refusal
        body = f"{outgoing.head}{self.ledger.provider_id(number)}{outgoing.tail}".encode()
        return Reply(body, 200, channel.usage_headers, delay)

    def _hold_to_limits(self, channel: Channel, recipient: str, now: float) -> None:
        if not channel.throughput.take(now):
            # Meta does not say which code the brake answers with; 80006 is the Messenger limit of a business use case.
            raise MetaError(channel.kind, 80006 if channel.kind == "messenger" else 130429)
        if channel.pairs is not None and not channel.pairs.take(recipient, now):
            raise MetaError(channel.kind, 131056)

    def _schedule(
        self, channel: Channel, outgoing: Outgoing, number: int, about: str, strikes: list[Strike], now: float
    ) -> None:
        code = outgoing.async_failure
        title = None if code is None else title_of(code)
        for strike in strikes:
            if strike.fault.kind == "async_failure" and channel.kind == "whatsapp":
                code, title = strike.fault.code, strike.fault.title or title_of(strike.fault.code)
        steps = script(channel, self.chance, about, fails=code is not None, is_reaction=outgoing.is_reaction)
        self.ledger.set_final(number, steps[-1].event)
        habits = channel.settings.customers
        if habits is not None and steps[-1].event >= DELIVERED and outgoing.content is not None:
            acts = habits.acts(
                channel.kind,
                self.chance,
                about,
                self.ledger.provider_id(number),
                outgoing.content.choices(),
                marketing=outgoing.category == 1,
            )
            if acts:
                self._customers.perform(channel, outgoing.recipient, acts, now + steps[-1].delay, about)
        if self.faults.any_for_webhooks:
            steps = disturb(steps, self.faults.strike_webhooks(self.chance, channel.id, outgoing.recipient, about))
        failure = None if code is None or title is None else (code, title)
        self.pump.schedule(channel, number, steps, now, echo=outgoing.echo, failure=failure)


def _about(channel: Channel, outgoing: Outgoing) -> str:
    """What chance goes by: the message's own name, so that timing changes nothing; without a key, its place in line."""
    if outgoing.key is None:
        return f"{channel.id}\x1f{outgoing.recipient}\x1f\x1f{len(channel.book.calls_at)}"
    return f"{channel.id}\x1f{outgoing.recipient}\x1f{outgoing.key}"


def _refusal(channel: Channel, strikes: list[Strike], when: str, delay: float) -> Reply | None:
    """What the caller gets instead of the answer, by the first fault of this moment that struck."""
    for strike in strikes:
        fault = strike.fault
        if fault.kind == "error" and fault.when == when:
            return _error(channel, fault, delay + strike.delay)
        if fault.kind == "batch_null" and fault.when == when:
            return _ending("null", delay)
        if fault.kind == "disconnect" and when == "before":
            return _ending("close", delay + strike.delay)
        if fault.kind == "lost_answer" and when == "after":
            return _ending(fault.mode, delay + strike.delay)
    return None


def _error(channel: Channel, fault: Fault, delay: float) -> Reply:
    error = MetaError(
        channel.kind,
        fault.code,
        fault.subcode,
        message=fault.message,
        status=fault.http_status,
        is_transient=fault.is_transient,
    )
    reply = error.reply()
    reply.headers = channel.usage_headers
    reply.delay = delay
    return reply


def _ending(ending: Ending, delay: float) -> Reply:
    return Reply(b"null", 200, b"", delay, ending)
