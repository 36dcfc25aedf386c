"""Sorts the events of a batch by what is done with them."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple, TypeVar, assert_never

import msgspec

from pombo.domain.channels import ChannelKind
from pombo.domain.events import (
    ChannelNotice,
    Echo,
    MessageChange,
    PersonSignal,
    Preference,
    SamePerson,
    StatusReceipt,
    ThreadMessage,
    Unhandled,
    Watermark,
    WebhookEvent,
)
from pombo.domain.outcomes import DeliveryState, SendError
from pombo.domain.sendkey import SendKey
from pombo.meta.errors import send_error
from pombo.meta.webhooks import parse_webhook
from pombo.store.receipts import Receipt
from pombo.store.receipts import Watermark as MarkedRecipient
from pombo.store.settlement import Evidence
from pombo.store.webhooks import ChannelName, QueuedWebhook

_Event = TypeVar("_Event", bound=WebhookEvent)

_SKEW = timedelta(minutes=5)

ReadWebhook = tuple[QueuedWebhook, list[WebhookEvent]]


PersonEvent = ThreadMessage | MessageChange | SamePerson | Preference | PersonSignal
"""What concerns one person, and a conversation with them."""


class Failure(NamedTuple):
    """A status that says why Meta did not deliver."""

    kind: ChannelKind
    receipt: Receipt
    recipient: str | None
    """As Meta writes it."""
    error: SendError


class Place(NamedTuple):
    """A channel of ours."""

    workspace_id: int
    channel_id: int


@dataclass(frozen=True, slots=True)
class Findings:
    """What a batch says, by channels of ours."""

    evidence: list[Evidence] = field(default_factory=list)
    receipts: list[Receipt] = field(default_factory=list)
    watermarks: list[MarkedRecipient] = field(default_factory=list)
    people: list[tuple[Place, PersonEvent]] = field(default_factory=list)
    notices: list[tuple[Place, ChannelNotice]] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    """Of some of the receipts."""


def name_channel(webhook: QueuedWebhook, event: WebhookEvent) -> ChannelName:
    """What the event calls its channel, under the app that signed."""
    assert webhook.app_id is not None
    return ChannelName(webhook.workspace_id, webhook.app_id, event.kind, event.channel)


def channel_names(batch: Iterable[ReadWebhook]) -> list[ChannelName]:
    return list({name_channel(w, event) for w, events in batch for event in events if not _is_accounts(event)})


def account_names(batch: Iterable[ReadWebhook]) -> list[ChannelName]:
    """What events of whole accounts call these."""
    return list({name_channel(w, event) for w, events in batch for event in events if _is_accounts(event)})


def gather(
    batch: Sequence[ReadWebhook],
    channels: Mapping[ChannelName, int],
    accounts: Mapping[ChannelName, Sequence[int]] | None = None,
) -> Findings:
    """Events of channels that are not in `channels`, or of accounts not in `accounts`, are left out."""
    findings = Findings()
    for webhook, events in batch:
        for event in events:
            name = name_channel(webhook, event)
            if isinstance(event, ChannelNotice) and event.is_account:
                places = [Place(webhook.workspace_id, one) for one in (accounts or {}).get(name, ())]
                findings.notices.extend((place, event) for place in places)
                continue
            channel_id = channels.get(name)
            if channel_id is not None:
                _sort(findings, Place(webhook.workspace_id, channel_id), in_its_time(event, webhook.received_at))
    return findings


def in_full(
    batch: Iterable[ReadWebhook], channels: Mapping[ChannelName, int], unknown: Collection[Evidence]
) -> list[tuple[Place, PersonEvent]]:
    """What the echoes say whose messages are `unknown` here: somebody else has sent them."""
    wanted = {(e.workspace_id, e.channel_id, e.provider_id) for e in unknown}
    said: list[tuple[Place, PersonEvent]] = []
    for webhook, events in batch:
        ids = {
            event.provider_id
            for event in events
            if isinstance(event, Echo)
            and (webhook.workspace_id, channels.get(name_channel(webhook, event)), event.provider_id) in wanted
        }
        if ids and webhook.body is not None:
            for event in parse_webhook(webhook.body, ids).events:
                if isinstance(event, ThreadMessage) and event.provider_id in ids:
                    channel_id = channels[name_channel(webhook, event)]
                    place = Place(webhook.workspace_id, channel_id)
                    said.append((place, in_its_time(event, webhook.received_at)))
    return said


def in_its_time(event: _Event, received_at: datetime | None) -> _Event:
    """What claims to be from the future is from when it came: it would stay the latest of all, and hold a window open.

    Clocks may differ by some minutes.
    """
    if received_at is None or isinstance(event, Unhandled) or event.at <= received_at + _SKEW:
        return event
    return msgspec.structs.replace(event, at=received_at)


def _is_accounts(event: WebhookEvent) -> bool:
    return isinstance(event, ChannelNotice) and event.is_account


def waves(evidence: Iterable[Evidence]) -> list[list[Evidence]]:
    """In as few parts as can be with each message at most once in a part, and each provider id once for its message.

    Two ids for one message are two witnesses: of a double send.
    """
    parts: list[dict[tuple[int, int], Evidence]] = []
    for witness in {(e.workspace_id, e.message_id, e.provider_id): e for e in evidence}.values():
        message = witness.workspace_id, witness.message_id
        part = next((part for part in parts if message not in part), None)
        if part is None:
            part = {}
            parts.append(part)
        part[message] = witness
    return [list(part.values()) for part in parts]


def _sort(findings: Findings, place: Place, event: WebhookEvent) -> None:
    match event:
        case StatusReceipt():
            if event.key is not None:
                _witness(findings, place, event.key, event)
            # That Meta accepted it is known from the answer, or from the key above.
            if event.state.rank > DeliveryState.ACCEPTED.rank:
                findings.receipts.append(receipt := _receipt(place, event))
                if event.error_code is not None:
                    error = send_error(event.kind, event.error_code, None, event.error_title or "")
                    findings.failures.append(Failure(event.kind, receipt, event.recipient, error))
        case Echo():
            _witness(findings, place, event.key, event)
        case Watermark():
            findings.watermarks.append(MarkedRecipient(*place, event.recipient, event.state.rank, event.until))
        case ThreadMessage() | MessageChange() | SamePerson() | Preference() | PersonSignal():
            findings.people.append((place, event))
        case ChannelNotice():
            findings.notices.append((place, event))
        case Unhandled():
            pass
        case _:
            assert_never(event)


def _witness(findings: Findings, place: Place, key: SendKey, event: StatusReceipt | Echo) -> None:
    findings.evidence.append(Evidence(*place, key.message_id, key.attempt, key.day, event.provider_id, event.at))


def _receipt(place: Place, event: StatusReceipt) -> Receipt:
    return Receipt(
        *place,
        event.provider_id,
        event.state.rank,
        event.at,
        event.error_code,
        event.error_title,
        event.key and event.key.message_id,
        event.key and event.key.day,
        event,
    )
