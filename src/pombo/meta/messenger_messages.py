"""What people write to a Page, tap, edit and react to; and what else of theirs a conversation shows.

Read from decoded JSON member by member, so that an odd member costs nothing but itself.
"""

import hashlib
from typing import Any

from pombo.domain.channels import ChannelKind
from pombo.domain.events import (
    Author,
    ChannelNotice,
    MessageChange,
    Person,
    PersonSignal,
    Preference,
    ThreadMessage,
    Unhandled,
    WebhookEvent,
)
from pombo.meta.json_parts import Json, an_id, chosen, maybe_id, moment, part, parts, storable, text

_KIND = ChannelKind.MESSENGER

_ATTACHMENTS = frozenset(
    [
        "image",
        "audio",
        "video",
        "file",
        "sticker",
        "fallback",
        "reel",
        "ig_reel",
        "post",
        "ig_post",
        "appointment_booking",
        "template",
        "product",
    ]
)
_HANDOVERS = ("pass_thread_control", "take_thread_control", "request_thread_control")
_SIGNALS = {
    "response_feedback": "response_feedback",
    "messaging_feedback": "feedback",
    "account_linking": "account_linking",
}
_STOP = "stop"


def read_event(page: str, entry_time: int | None, event: Json, *, standby: bool) -> list[WebhookEvent]:
    """All but receipts and our own echoes. `standby`: another app leads the conversation.

    Raises ValueError, OverflowError, OSError or RecursionError where something needed is missing.
    """
    reader = _Reader(page, entry_time, event, standby=standby)
    return reader.read()


class _Reader:
    def __init__(self, page: str, entry_time: int | None, event: Json, *, standby: bool) -> None:
        self._page = page
        self._event = event
        self._standby = standby
        self._time = event.get("timestamp") if event.get("timestamp") is not None else entry_time

    def read(self) -> list[WebhookEvent]:
        event = self._event
        if isinstance(event.get("message"), dict):
            return [self._message(event["message"])]
        if isinstance(event.get("message_edit"), dict):
            return [self._edit(event["message_edit"])]
        if isinstance(event.get("reaction"), dict):
            return [self._reaction(event["reaction"])]
        if isinstance(event.get("postback"), dict):
            return [self._postback(event["postback"])]
        if isinstance(event.get("order"), dict):
            return [self._thing("order", "contact", chosen(event["order"], "products", "note"), opens_window=True)]
        if isinstance(event.get("referral"), dict):
            return [self._thing("referral", "system", _referral(event), opens_window=True)]
        if isinstance(event.get("optin"), dict):
            return self._optin(event["optin"])
        for name in _HANDOVERS:
            if isinstance(event.get(name), dict):
                return [self._thing("handover", "system", {"action": name, **storable(event[name])})]
        for name, signal in _SIGNALS.items():
            if isinstance(event.get(name), dict):
                return [PersonSignal(_KIND, self._page, self._sender(), self._at(), signal, storable(event[name]))]
        return [self._else()]

    def _else(self) -> WebhookEvent:
        event = self._event
        if isinstance(event.get("policy_enforcement"), dict):
            said = event["policy_enforcement"]
            blocked = said.get("action") == "block"
            reason = text(said, "reason") or "Meta has blocked the Page from sending."
            return ChannelNotice(
                _KIND,
                self._page,
                "messaging_policy_enforcement",
                self._at(),
                storable(said),
                stops="channel" if blocked else "",
                reason=reason if blocked else "",
            )
        if isinstance(event.get("app_roles"), dict):
            return ChannelNotice(
                _KIND, self._page, "messaging_handovers", self._at(), {"app_roles": storable(event["app_roles"])}
            )
        known = {"sender", "recipient", "timestamp", "hop_context"}
        if set(event) - known and isinstance(part(event, "sender").get("id"), str | int):
            # A kind of event that is not known yet: shown as something that cannot be shown.
            said = storable({name: value for name, value in event.items() if name not in known})
            return self._thing("unsupported", "system", {"original": said})
        return Unhandled(_KIND, self._page, "unknown")

    def _message(self, message: Json) -> WebhookEvent:
        is_echo = bool(message.get("is_echo"))
        kind, words, content = _content(message)
        if is_echo and (app := text(message, "app_id")):
            content["appId"] = app
        if self._standby:
            content["standby"] = True
        return ThreadMessage(
            _KIND,
            self._page,
            an_id(message.get("mid")),
            self._recipient() if is_echo else self._sender(),
            self._at(),
            "app" if is_echo else "contact",
            kind,
            words,
            content,
            maybe_id(part(message, "reply_to").get("mid")),
            opens_window=not is_echo,
        )

    def _edit(self, edit: Json) -> WebhookEvent:
        number = edit.get("num_edit")
        return MessageChange(
            _KIND,
            self._page,
            an_id(edit.get("mid")),
            self._sender(),
            self._at(),
            "edit",
            "contact",
            number if isinstance(number, int) and 0 <= number < 2**31 else 0,
            text(edit, "text"),
        )

    def _reaction(self, reaction: Json) -> WebhookEvent:
        by_page = part(self._event, "sender").get("id") == self._page
        shown = text(reaction, "emoji") or text(reaction, "reaction")
        return MessageChange(
            _KIND,
            self._page,
            an_id(reaction.get("mid")),
            self._recipient() if by_page else self._sender(),
            self._at(),
            "reaction",
            "business" if by_page else "contact",
            text=None if reaction.get("action") == "unreact" else shown,
        )

    def _postback(self, postback: Json) -> WebhookEvent:
        content = chosen(postback, "payload")
        if isinstance(postback.get("referral"), dict):
            content["referral"] = _referral(postback)
        made = self._thing("postback", "contact", content, opens_window=True)
        mid = maybe_id(postback.get("mid"))
        return ThreadMessage(
            _KIND,
            self._page,
            made.provider_id if mid is None else mid,
            made.person,
            made.at,
            "contact",
            "postback",
            text(postback, "title"),
            made.content,
            opens_window=True,
        )

    def _optin(self, optin: Json) -> list[WebhookEvent]:
        if "id" not in part(self._event, "sender"):
            # Through a plugin: nobody that could be written to by name yet.
            data = storable({**optin, "user_ref": part(self._event, "sender").get("user_ref")})
            return [ChannelNotice(_KIND, self._page, "messaging_optins", self._at(), data)]
        person, at = self._sender(), self._at()
        data = chosen(
            optin,
            "type",
            "payload",
            "title",
            "ref",
            "notification_messages_token",
            "notification_messages_timezone",
            "notification_messages_status",
            "token_expiry_timestamp",
            "user_token_status",
        )
        events: list[WebhookEvent] = [PersonSignal(_KIND, self._page, person, at, "optin", data)]
        status = text(optin, "notification_messages_status")
        if status is not None:
            events.append(Preference(_KIND, self._page, person, at, not status.lower().startswith(_STOP)))
        return events

    def _thing(self, kind: str, author: Author, content: Json, *, opens_window: bool = False) -> ThreadMessage:
        """Of Meta's events without an id; the same event makes the same id again."""
        person, at = self._sender(), self._at()
        if self._standby:
            content = {**content, "standby": True}
        return ThreadMessage(
            _KIND,
            self._page,
            made_id(kind, person.address, at.timestamp(), self._event.get(kind) or content),
            person,
            at,
            author,
            kind,
            None,
            content,
            opens_window=opens_window,
        )

    def _at(self) -> Any:
        return moment(self._time)

    def _sender(self) -> Person:
        return Person(an_id(part(self._event, "sender").get("id")))

    def _recipient(self) -> Person:
        return Person(an_id(part(self._event, "recipient").get("id")))


def made_id(kind: str, *what: object) -> str:
    """An id for what Meta gives none."""
    return f"{kind}:{hashlib.sha256(repr(what).encode('utf-8', 'replace')).hexdigest()[:40]}"


def _content(message: Json) -> tuple[str, str | None, Json]:
    words = text(message, "text")
    content: Json = {}
    if attachments := _attachments(message):
        content["attachments"] = attachments
    if isinstance(message.get("referral"), dict):
        content["referral"] = _referral(message)
    if isinstance(message.get("commands"), list):
        content["commands"] = storable(message["commands"])
    if reply := part(message, "quick_reply"):
        return "quick_reply", words, content | chosen(reply, "payload")
    if attachments:
        kind = attachments[0]["type"]
        return kind if kind in _ATTACHMENTS else "unsupported", words, content
    if words is not None:
        return "text", words, content
    known = {"mid", "is_echo", "app_id", "metadata", "text", "reply_to"}
    rest = {name: value for name, value in message.items() if name not in known}
    return "unsupported", None, content | {"original": storable(rest)}


def _attachments(message: Json) -> list[Json]:
    """A sticker came twice until 2026-08-30, as itself and as an image; older ones as an image with a `sticker_id`."""
    shown: list[Json] = []
    for attachment in parts(message, "attachments"):
        payload = part(attachment, "payload")
        kind = text(attachment, "type") or "unsupported"
        sticker = text(payload, "sticker_id")
        if kind == "image" and sticker is not None:
            kind = "sticker"
        one: Json = {"type": kind}
        # Fallbacks have them beside the payload.
        for name in ("url", "title"):
            if (found := text(payload, name) or text(attachment, name)) is not None:
                one[name] = found
        if sticker is not None:
            one["stickerId"] = sticker
        rest = {name: v for name, v in payload.items() if name not in ("url", "title", "sticker_id") and v is not None}
        if rest:
            one["payload"] = storable(rest)
        shown.append(one)
    stickers = [one for one in shown if one["type"] == "sticker"]
    if not stickers:
        return shown
    urls = {one["url"] for one in stickers if "url" in one}
    once: list[Json] = []
    for one in shown:
        if one["type"] == "image" and one.get("url") in urls:
            continue
        same = (seen for seen in once if seen["type"] == "sticker" == one["type"])
        if any(seen.get("stickerId") == one.get("stickerId") for seen in same):
            continue
        once.append(one)
    return once


def _referral(event: Json) -> Json:
    referral = event["referral"]
    data = chosen(referral, "ref", "source", "type", adId="ad_id", ads="ads_context_data")
    for holder in (referral, event):
        if isinstance(holder.get("lead"), dict):
            data["lead"] = storable(holder["lead"])
    return data
