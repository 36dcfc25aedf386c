"""Faults: what goes wrong on purpose, for how many messages, and whether before or after they were accepted.

Whether a fault strikes a message is a hash of (seed, fault, channel, recipient, send key), so the same run gives the
same faults whatever the timing; only `max_count` depends on the order of arrival. A message without a key is told
from others to the same recipient by a running number.
"""

from typing import Annotated, Literal

import msgspec

from pombo.sandbox.chance import Chance
from pombo.sandbox.ledger import DELIVERED, FAILED, READ, SENT

SendFault = Literal["error", "latency", "lost_answer", "disconnect", "batch_null", "async_failure"]
WebhookFault = Literal["webhook_duplicate", "webhook_late", "webhook_disorder", "webhook_drop"]
EventName = Literal["echo", "sent", "delivered", "read", "failed", "inbound"]

INBOUND = READ + 1
"""What people do, beside the events that messages go through."""
# An echo is to Messenger what the "sent" status is to WhatsApp: the first sign that the message left.
EVENT_CODES: dict[EventName, int] = {
    "echo": SENT,
    "sent": SENT,
    "failed": FAILED,
    "delivered": DELIVERED,
    "read": READ,
    "inbound": INBOUND,
}


class Fault(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """One fault as `POST /sandbox/faults` takes it. Delays are in milliseconds, `rate` is a share of 1.

    `when` counts for errors and `batch_null`: "after" means that the message is in the ledger and its webhooks come,
    although the caller is told otherwise. A disconnect is always before, a lost answer always after.
    """

    kind: SendFault | WebhookFault
    channel: str = "all"
    recipient: str | None = None
    rate: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0
    when: Literal["before", "after"] = "before"
    code: int = 0
    subcode: int | None = None
    http_status: Annotated[int, msgspec.Meta(ge=200, le=599)] | None = None
    message: str | None = None
    title: str | None = None
    is_transient: bool | None = None
    delay_ms: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    jitter_ms: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    mode: Literal["close", "hang"] = "close"
    fields: list[EventName] = []
    max_count: int | None = None

    def __post_init__(self) -> None:
        if self.kind == "async_failure" and self.code == 0:
            raise ValueError("async_failure needs a code")


class Installed(msgspec.Struct):
    number: int
    fault: Fault
    count: int = 0
    codes: frozenset[int] = frozenset()

    def concerns(self, event: int) -> bool:
        return not self.codes or event in self.codes


class Strike(msgspec.Struct):
    """A fault that struck one message; `delay` in seconds, its jitter already decided."""

    fault: Fault
    installed: Installed
    delay: float


class Faults:
    """The faults in force."""

    def __init__(self) -> None:
        self._next = 1
        self._sends: list[Installed] = []
        self._webhooks: list[Installed] = []

    @property
    def any_for_sends(self) -> bool:
        return bool(self._sends)

    @property
    def any_for_webhooks(self) -> bool:
        return bool(self._webhooks)

    def install(self, faults: list[Fault]) -> list[Installed]:
        """Add to what is in force. Numbers count from 1 after a removal: the same list strikes the same messages."""
        new = []
        for fault in faults:
            codes = frozenset(EVENT_CODES[name] for name in fault.fields)
            installed = Installed(self._next, fault, codes=codes)
            self._next += 1
            (self._webhooks if fault.kind.startswith("webhook_") else self._sends).append(installed)
            new.append(installed)
        return new

    def remove_all(self) -> None:
        self._next = 1
        self._sends.clear()
        self._webhooks.clear()

    def listing(self) -> list[Installed]:
        return sorted(self._sends + self._webhooks, key=lambda installed: installed.number)

    def strike_send(self, chance: Chance, channel: str, recipient: str, about: str, *, in_batch: bool) -> list[Strike]:
        """`about` names the message: channel, recipient, key."""
        candidates = self._sends
        if not in_batch:
            candidates = [installed for installed in candidates if installed.fault.kind != "batch_null"]
        return _strikes(candidates, chance, channel, recipient, about)

    def strike_webhooks(self, chance: Chance, channel: str, recipient: str, about: str) -> list[Strike]:
        return _strikes(self._webhooks, chance, channel, recipient, about)


def _strikes(candidates: list[Installed], chance: Chance, channel: str, recipient: str, about: str) -> list[Strike]:
    strikes = []
    for installed in candidates:
        fault = installed.fault
        if fault.channel not in ("all", channel) or fault.recipient not in (None, recipient):
            continue
        if fault.max_count is not None and installed.count >= fault.max_count:
            continue
        decision, jitter, _, _ = chance.rolls(f"fault\x1f{installed.number}\x1f{about}")
        if decision < fault.rate:
            installed.count += 1
            strikes.append(Strike(fault, installed, (fault.delay_ms + jitter * fault.jitter_ms) / 1000))
    return strikes
