"""What exists at the simulated Meta: apps, Pages, WhatsApp accounts and their numbers, templates, tokens.

A *channel* is a Page or a phone number. Everything is made through the management API.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import msgspec

from pombo.sandbox.errors import Kind
from pombo.sandbox.habits import Habits
from pombo.sandbox.ledger import ChannelBook
from pombo.sandbox.limits import Limit, PairLimit, brake, per_second
from pombo.sandbox.people import NOBODY_SPECIAL, Person
from pombo.sandbox.threads import Thread

WebhookObject = Literal["page", "whatsapp_business_account"]
OBJECT_OF: dict[Kind, WebhookObject] = {"messenger": "page", "whatsapp": "whatsapp_business_account"}

PAGE_FIELDS = (
    "messages",
    "message_echoes",
    "messaging_postbacks",
    "message_deliveries",
    "message_reads",
    "message_reactions",
    "message_edits",
    "messaging_referrals",
    "messaging_optins",
)
"""What a Page made through the management API is subscribed to at first."""


Rate = Annotated[float, msgspec.Meta(gt=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Milliseconds = Annotated[float, msgspec.Meta(ge=0)]


class Usage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Percentages for the usage headers; `regain_minutes` only stands in the business one."""

    call_count: int = 0
    total_time: int = 0
    total_cputime: int = 0
    regain_minutes: int = 0


class ChannelSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a channel behaves. None switches a rate off. Milliseconds and shares of 1, as on the management API.

    Defaults are Meta's limits (Messenger: 300 calls/s, 10 with audio or video, and the brake at 40 messages/s;
    WhatsApp: 80 messages/s and the pair limit) and a lively audience that answers fast enough for a demo.
    """

    calls_per_second: Rate | None = 300.0
    media_calls_per_second: Rate | None = 10.0
    """Messenger's calls with audio or video."""
    brake_per_second: Rate | None = 40.0
    messages_per_second: Rate | None = 80.0
    pair_limit: bool = True
    latency_ms: Milliseconds = 0.0
    latency_jitter_ms: Milliseconds = 0.0
    window: Literal["open", "closed"] = "open"
    delivered_rate: Share = 0.98
    read_rate: Share = 0.6
    """Of those delivered."""
    sent_delay_ms: Milliseconds = 20.0
    delivered_delay_ms: Milliseconds = 150.0
    delivered_jitter_ms: Milliseconds = 250.0
    read_delay_ms: Milliseconds = 500.0
    read_jitter_ms: Milliseconds = 1000.0
    delivery_mids: bool = True
    """Messenger may leave `mids` out of a delivery and give the watermark only."""
    conversation_calls_per_second: Rate | None = 2.0
    """Calls to a Page's conversations, threads and messages."""
    most_messages_a_call: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """A page of conversations with more than that is refused as too much data."""
    cursor_life_s: Annotated[float, msgspec.Meta(gt=0)] = 3600.0
    """How long a cursor of the list of conversations works: Meta asks not to store them."""
    customers: Habits | None = None
    """What people do by themselves with what they get; None: nothing."""
    app_usage: Usage | None = None
    business_usage: Usage | None = None


class Action(msgspec.Struct, frozen=True):
    """What the business did without a message; `about` is the message's id, if there is one."""

    at: float
    recipient: str
    action: str
    about: str | None = None


@dataclass(slots=True)
class Callback:
    url: str
    verify_token: str


@dataclass(slots=True, eq=False)
class App:
    id: str
    secret: str
    verify_token: str
    name: str
    callbacks: dict[WebhookObject, Callback] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Template:
    """`parameters` maps a component (header, body, button:0) to how many parameters it takes."""

    id: str
    name: str
    language: str
    category: str
    status: str
    parameters: dict[str, int]
    names: frozenset[str]
    components: list[dict[str, Any]]
    pacing: Literal["none", "hold", "drop"]


@dataclass(slots=True, eq=False)
class Account:
    """A WhatsApp business account."""

    id: str
    app: App
    subscribed: bool = True
    templates: dict[tuple[str, str], Template] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Channel:
    kind: Kind
    id: str
    app: App
    token: str
    name: str
    account: Account | None
    """None for a Page."""
    display_phone_number: str
    settings: ChannelSettings
    book: ChannelBook
    subscribed_fields: frozenset[str] = frozenset(PAGE_FIELDS)
    people: dict[str, Person] = field(default_factory=dict)
    threads: dict[str, Thread] = field(default_factory=dict)
    """By person; those who have written."""
    actions: deque[Action] = field(default_factory=lambda: deque(maxlen=1000))
    """The newest typing indicators, read receipts and reactions of ours."""
    calls: Limit = field(init=False)
    conversation_calls: Limit = field(init=False)
    media_calls: Limit = field(init=False)
    throughput: Limit = field(init=False)
    pairs: PairLimit | None = field(init=False)
    latency: float = field(init=False)
    latency_jitter: float = field(init=False)
    usage_headers: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.configure(self.settings)

    def configure(self, settings: ChannelSettings) -> None:
        """Apply settings; every limit starts afresh."""
        self.settings = settings
        self.conversation_calls = per_second(settings.conversation_calls_per_second)
        if self.kind == "messenger":
            self.calls = per_second(settings.calls_per_second)
            self.media_calls = per_second(settings.media_calls_per_second)
            self.throughput = brake(settings.brake_per_second)
            self.pairs = None
        else:
            self.calls = self.media_calls = per_second(None)
            self.throughput = per_second(settings.messages_per_second)
            self.pairs = PairLimit() if settings.pair_limit else None
        self.latency = settings.latency_ms / 1000
        self.latency_jitter = settings.latency_jitter_ms / 1000
        self.usage_headers = self._usage_headers()

    def person(self, recipient: str) -> Person:
        return self.people.get(recipient, NOBODY_SPECIAL) if self.people else NOBODY_SPECIAL

    @property
    def account_id(self) -> str:
        return self.id if self.account is None else self.account.id

    def wants(self, webhook_field: str) -> bool:
        """Whether the app is subscribed to this field for the channel, and has a callback for it."""
        if OBJECT_OF[self.kind] not in self.app.callbacks:
            return False
        return self.account.subscribed if self.account is not None else webhook_field in self.subscribed_fields

    def _usage_headers(self) -> bytes:
        lines = []
        if (app := self.settings.app_usage) is not None:
            figures = {"call_count": app.call_count, "total_time": app.total_time, "total_cputime": app.total_cputime}
            lines.append(b"X-App-Usage: " + msgspec.json.encode(figures) + b"\r\n")
        if (business := self.settings.business_usage) is not None:
            entry = {
                "type": self.kind,
                "call_count": business.call_count,
                "total_cputime": business.total_cputime,
                "total_time": business.total_time,
                "estimated_time_to_regain_access": business.regain_minutes,
            }
            figures_by_id = msgspec.json.encode({self.account_id: [entry]})
            lines.append(b"X-Business-Use-Case-Usage: " + figures_by_id + b"\r\n")
        return b"".join(lines)


class Accounts:
    """The registry of all of them."""

    def __init__(self) -> None:
        self.apps: dict[str, App] = {}
        self.accounts: dict[str, Account] = {}
        self.channels: dict[str, Channel] = {}
        self._by_token: dict[str, set[str]] = {}

    def add_channel(self, channel: Channel) -> None:
        old = self.channels.get(channel.id)
        if old is not None:
            self._by_token[old.token].discard(channel.id)
            if not self._by_token[old.token]:
                del self._by_token[old.token]
        self.channels[channel.id] = channel
        self._by_token.setdefault(channel.token, set()).add(channel.id)

    def knows_token(self, token: str) -> bool:
        return token in self._by_token

    def channels_of(self, token: str) -> list[Channel]:
        """The channels that a token opens: one Page, or the numbers of a system user."""
        return [self.channels[channel_id] for channel_id in sorted(self._by_token.get(token, ()))]

    def may_see_account(self, token: str, account: Account) -> bool:
        return any(channel.account is account for channel in self.channels_of(token))
