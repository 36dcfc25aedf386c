"""Every kind of event and message in Meta's documents, in the shape in which it comes."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from pombo.domain.channels import ChannelKind
from pombo.domain.events import (
    ChannelNotice,
    MessageChange,
    Person,
    PersonSignal,
    Preference,
    SamePerson,
    ThreadMessage,
    Unhandled,
    WebhookEvent,
)
from pombo.meta.webhooks import parse_webhook

M, W = ChannelKind.MESSENGER, ChannelKind.WHATSAPP
PAGE, PERSON = "682498302938465", "254459191"
NUMBER, ACCOUNT, PHONE, USER = "106540352242922", "102290129340398", "16505551234", "US.13491208655302741918"
MILLISECONDS = 1458692752478
MOMENT = datetime(2016, 3, 23, 0, 25, 52, 478000, tzinfo=UTC)
SECONDS = "1750030073"
SECOND = datetime(2025, 6, 15, 23, 27, 53, tzinfo=UTC)
ANA = Person(f"+{PHONE}", (USER,), "Ana", "@ana")


def events(body: Any) -> list[WebhookEvent]:
    return parse_webhook(json.dumps(body).encode()).events


def one(body: Any) -> WebhookEvent:
    [event] = events(body)
    return event


# ---- Messenger ----


def page(event: dict[str, Any], **entry: Any) -> dict[str, Any]:
    made = {"sender": {"id": PERSON}, "recipient": {"id": PAGE}, "timestamp": MILLISECONDS, **event}
    return {"object": "page", "entry": [{"id": PAGE, "time": MILLISECONDS, "messaging": [made], **entry}]}


def said(type: str, text: str | None, content: dict[str, Any], **more: Any) -> ThreadMessage:
    provider_id = more.pop("provider_id", "m_1")
    more = {"opens_window": True, **more}
    return ThreadMessage(M, PAGE, provider_id, Person(PERSON), MOMENT, "contact", type, text, content, **more)


def attachment(type: str, **payload: Any) -> dict[str, Any]:
    return {"type": type, "payload": payload}


@pytest.mark.parametrize(
    ("message", "type", "text", "content"),
    [
        ({"text": "Hello"}, "text", "Hello", {}),
        ({"text": "a\0b"}, "text", "ab", {}),
        ({"text": "Red", "quick_reply": {"payload": "RED"}}, "quick_reply", "Red", {"payload": "RED"}),
        ({"text": "/help", "commands": [{"name": "help"}]}, "text", "/help", {"commands": [{"name": "help"}]}),
        *(
            (
                {"attachments": [attachment(kind, url="https://x/y")]},
                kind,
                None,
                {"attachments": [{"type": kind, "url": "https://x/y"}]},
            )
            for kind in ("image", "audio", "video", "file", "ig_reel", "ig_post")
        ),
        (
            {"attachments": [{"type": "fallback", "title": "A page", "url": "https://x", "payload": None}]},
            "fallback",
            None,
            {"attachments": [{"type": "fallback", "url": "https://x", "title": "A page"}]},
        ),
        (
            {"attachments": [attachment("reel", reel_video_id=1, title="R", url="https://x")]},
            "reel",
            None,
            {"attachments": [{"type": "reel", "url": "https://x", "title": "R", "payload": {"reel_video_id": 1}}]},
        ),
        (
            {"attachments": [attachment("post", id=9, title="P", url="https://x")]},
            "post",
            None,
            {"attachments": [{"type": "post", "url": "https://x", "title": "P", "payload": {"id": 9}}]},
        ),
        (
            {"attachments": [attachment("appointment_booking", booking_id="1", status="CONFIRMED", start_time=1)]},
            "appointment_booking",
            None,
            {
                "attachments": [
                    {
                        "type": "appointment_booking",
                        "payload": {"booking_id": "1", "status": "CONFIRMED", "start_time": 1},
                    }
                ]
            },
        ),
        (
            {"attachments": [attachment("template", product={"elements": [{"id": "1"}]})]},
            "template",
            None,
            {"attachments": [{"type": "template", "payload": {"product": {"elements": [{"id": "1"}]}}}]},
        ),
        (
            {"attachments": [attachment("hologram", depth=3)]},
            "unsupported",
            None,
            {"attachments": [{"type": "hologram", "payload": {"depth": 3}}]},
        ),
        ({"something_new": 1}, "unsupported", None, {"original": {"something_new": 1}}),
        (
            {"text": "Hi", "referral": {"ref": "r", "source": "ADS", "type": "OPEN_THREAD", "ad_id": "6"}},
            "text",
            "Hi",
            {"referral": {"ref": "r", "source": "ADS", "type": "OPEN_THREAD", "adId": "6"}},
        ),
    ],
)
def test_a_message_to_a_page(message: dict[str, Any], type: str, text: str | None, content: dict[str, Any]) -> None:
    assert one(page({"message": {"mid": "m_1", **message}})) == said(type, text, content)


@pytest.mark.parametrize(
    "attachments",
    [
        [attachment("sticker", sticker_id=369, url="https://s"), attachment("image", sticker_id=369, url="https://s")],
        [
            attachment("image", sticker_id="369", url="https://s"),
            attachment("sticker", sticker_id=369, url="https://s"),
        ],
        [attachment("sticker", sticker_id=369, url="https://s"), attachment("image", url="https://s")],
        [attachment("image", sticker_id=369, url="https://s")],
        [attachment("sticker", sticker_id="369", url="https://s")],
    ],
)
def test_a_sticker_is_one_sticker_however_it_comes(attachments: list[Any]) -> None:
    sticker = {"type": "sticker", "url": "https://s", "stickerId": "369"}
    assert one(page({"message": {"mid": "m_1", "attachments": attachments}})) == said(
        "sticker", None, {"attachments": [sticker]}
    )


def test_a_reply_names_what_it_answers() -> None:
    message = {"mid": "m_1", "text": "Yes", "reply_to": {"mid": "m_0", "is_self_reply": False}}
    assert one(page({"message": message})) == said("text", "Yes", {}, reply_to="m_0")


def test_a_postback_has_its_own_id_or_one_made_of_it() -> None:
    postback = {"title": "Get Started", "payload": "START", "referral": {"ref": "r", "source": "SHORTLINK"}}
    content = {"payload": "START", "referral": {"ref": "r", "source": "SHORTLINK"}}
    assert one(page({"postback": {"mid": "m_1", **postback}})) == said("postback", "Get Started", content)
    first, again, other = (
        one(page({"postback": made})) for made in (postback, postback, postback | {"payload": "STOP"})
    )
    assert isinstance(first, ThreadMessage)
    assert isinstance(other, ThreadMessage)
    assert first == again
    assert first.provider_id.startswith("postback:")
    assert first.provider_id != other.provider_id


def test_an_edit_brings_the_new_text() -> None:
    assert one(page({"message_edit": {"mid": "m_1", "text": "Hello!", "num_edit": 2}})) == MessageChange(
        M, PAGE, "m_1", Person(PERSON), MOMENT, "edit", "contact", 2, "Hello!"
    )


@pytest.mark.parametrize(
    ("reaction", "shown"),
    [
        ({"reaction": "love", "emoji": "\u2764", "action": "react"}, "\u2764"),
        ({"reaction": "smile", "action": "react"}, "smile"),
        ({"reaction": "love", "emoji": "\u2764", "action": "unreact"}, None),
    ],
)
def test_a_reaction_shows_its_emoji_and_none_when_it_is_taken_back(reaction: dict[str, Any], shown: str | None) -> None:
    assert one(page({"reaction": {"mid": "m_1", **reaction}})) == MessageChange(
        M, PAGE, "m_1", Person(PERSON), MOMENT, "reaction", "contact", text=shown
    )


def test_the_pages_own_reaction_is_the_businesss() -> None:
    event = {"sender": {"id": PAGE}, "recipient": {"id": PERSON}, "reaction": {"mid": "m_1", "emoji": "x"}}
    change = one(page(event))
    assert isinstance(change, MessageChange)
    assert (change.person.address, change.by) == (PERSON, "business")


@pytest.mark.parametrize(
    ("event", "type", "author", "content"),
    [
        (
            {"referral": {"ref": "r", "source": "SHORTLINK", "type": "OPEN_THREAD"}},
            "referral",
            "system",
            {"ref": "r", "source": "SHORTLINK", "type": "OPEN_THREAD"},
        ),
        (
            {"referral": {"source": "ADS", "type": "LEAD_COMPLETE", "lead": {"data": [{"question": "q"}]}}},
            "referral",
            "system",
            {"source": "ADS", "type": "LEAD_COMPLETE", "lead": {"data": [{"question": "q"}]}},
        ),
        (
            {"order": {"products": [{"id": "1"}], "note": "n"}},
            "order",
            "contact",
            {"products": [{"id": "1"}], "note": "n"},
        ),
        (
            {"pass_thread_control": {"previous_owner_app_id": None, "new_owner_app_id": 1, "metadata": "m"}},
            "handover",
            "system",
            {
                "action": "pass_thread_control",
                "previous_owner_app_id": None,
                "new_owner_app_id": 1,
                "metadata": "m",
            },
        ),
        (
            {"take_thread_control": {"metadata": "m"}},
            "handover",
            "system",
            {"action": "take_thread_control", "metadata": "m"},
        ),
        (
            {"request_thread_control": {"requested_owner_app_id": 1}},
            "handover",
            "system",
            {"action": "request_thread_control", "requested_owner_app_id": 1},
        ),
        ({"something_new": {"a": 1}}, "unsupported", "system", {"original": {"something_new": {"a": 1}}}),
    ],
)
def test_what_has_no_id_is_shown_once_however_often_it_comes(
    event: dict[str, Any], type: str, author: str, content: dict[str, Any]
) -> None:
    shown, again = one(page(event)), one(page(event))
    assert isinstance(shown, ThreadMessage)
    assert shown == again
    assert (shown.type, shown.author, shown.content) == (type, author, content)
    later = one(page({**event, "timestamp": MILLISECONDS + 1}))
    assert isinstance(later, ThreadMessage)
    assert later.provider_id != shown.provider_id


@pytest.mark.parametrize(
    ("event", "name"),
    [
        ({"response_feedback": {"feedback": "Good response", "mid": "m_1"}}, "response_feedback"),
        ({"messaging_feedback": {"feedback_screens": [{"screen_id": 0}]}}, "feedback"),
        ({"account_linking": {"status": "linked", "authorization_code": "c"}}, "account_linking"),
        ({"optin": {"ref": "x", "user_ref": "y"}}, "optin"),
    ],
)
def test_what_no_conversation_shows_is_a_signal(event: dict[str, Any], name: str) -> None:
    signal = one(page(event))
    assert isinstance(signal, PersonSignal)
    assert (signal.name, signal.person.address) == (name, PERSON)


@pytest.mark.parametrize(("status", "welcome"), [("STOP NOTIFICATIONS", False), ("RESUME NOTIFICATIONS", True)])
def test_notifications_that_are_stopped_are_a_preference(status: str, welcome: bool) -> None:
    optin = {"type": "notification_messages", "payload": "p", "notification_messages_status": status}
    signal, preference = events(page({"optin": optin}))
    assert isinstance(signal, PersonSignal)
    assert signal.data == optin
    assert preference == Preference(M, PAGE, Person(PERSON), MOMENT, welcome)


def test_an_opt_in_through_a_plugin_is_nobodys_yet() -> None:
    notice = one(page({"sender": {"user_ref": "u"}, "optin": {"ref": "x"}}))
    assert notice == ChannelNotice(M, PAGE, "messaging_optins", MOMENT, {"ref": "x", "user_ref": "u"})


def test_app_roles_and_policies_concern_the_page() -> None:
    roles = one(page({"app_roles": {"1": ["primary_receiver"]}}))
    assert roles == ChannelNotice(M, PAGE, "messaging_handovers", MOMENT, {"app_roles": {"1": ["primary_receiver"]}})
    for action, stops, reason in (("block", "channel", "Spam."), ("warning", "", ""), ("unblock", "", "")):
        notice = one(page({"sender": None, "policy_enforcement": {"action": action, "reason": "Spam."}}))
        assert isinstance(notice, ChannelNotice)
        assert (notice.name, notice.stops, notice.reason) == ("messaging_policy_enforcement", stops, reason)


def test_an_echo_of_the_pages_inbox_is_an_apps_message() -> None:
    message = {"is_echo": True, "app_id": 26390203743090, "mid": "m_1", "attachments": [attachment("image", url="u")]}
    event = {"sender": {"id": PAGE}, "recipient": {"id": PERSON}, "message": message}
    assert one(page(event)) == ThreadMessage(
        M,
        PAGE,
        "m_1",
        Person(PERSON),
        MOMENT,
        "app",
        "image",
        None,
        {"attachments": [{"type": "image", "url": "u"}], "appId": "26390203743090"},
    )


def test_what_stands_by_is_shown_as_such() -> None:
    body = page({"message": {"mid": "m_1", "text": "Hi"}})
    entry = body["entry"][0]
    entry["standby"] = entry.pop("messaging")
    assert one(body) == said("text", "Hi", {"standby": True})


def test_a_test_of_metas_dashboard_is_read_where_it_stands() -> None:
    value = {"sender": {"id": PERSON}, "recipient": {"id": PAGE}, "timestamp": MILLISECONDS}
    value["message"] = {"mid": "m_1", "text": "Hi"}
    change = {"field": "messages", "value": value}
    body = {"object": "page", "entry": [{"id": PAGE, "time": MILLISECONDS, "changes": [change]}]}
    assert one(body) == said("text", "Hi", {})


def test_a_label_is_a_signal_and_other_changes_are_named() -> None:
    label = {"user": {"id": PERSON}, "action": "add", "label": {"id": "1", "page_label_name": "vip"}}
    changes = [{"field": "inbox_labels", "value": label}, {"field": "feed", "value": {}}]
    body = {"object": "page", "entry": [{"id": PAGE, "time": MILLISECONDS, "changes": changes}]}
    signal, feed = events(body)
    assert signal == PersonSignal(
        M,
        PAGE,
        Person(PERSON),
        MOMENT,
        "inbox_label",
        {"action": "add", "label": {"id": "1", "page_label_name": "vip"}},
    )
    assert feed == Unhandled(M, PAGE, "feed")


def test_a_pages_template_that_is_paused_stops() -> None:
    value = {"event": "PAUSED", "message_template_name": "order", "message_template_language": "en_US"}
    change = {"field": "messenger_template_status_update", "value": value}
    notice = one({"object": "page", "entry": [{"id": PAGE, "time": MILLISECONDS, "changes": [change]}]})
    assert isinstance(notice, ChannelNotice)
    assert (notice.subject, notice.stops, notice.is_account) == ("order en_US", "template", False)


# ---- WhatsApp ----


def change(field: str, value: Any, **entry: Any) -> dict[str, Any]:
    made = {"id": ACCOUNT, "changes": [{"field": field, "value": value}], **entry}
    return {"object": "whatsapp_business_account", "entry": [made]}


def number(field: str = "messages", **value: Any) -> dict[str, Any]:
    metadata = {"display_phone_number": "15550783881", "phone_number_id": NUMBER}
    return change(field, {"messaging_product": "whatsapp", "metadata": metadata, **value})


CONTACT = {"profile": {"name": "Ana", "username": "@ana"}, "wa_id": PHONE, "user_id": USER}


def message(type: str, **more: Any) -> dict[str, Any]:
    made = {"from": PHONE, "from_user_id": USER, "id": "wamid.1", "timestamp": SECONDS, "type": type, **more}
    return number(contacts=[CONTACT], messages=[{name: item for name, item in made.items() if item is not None}])


def shown(type: str, text: str | None, content: dict[str, Any], **more: Any) -> ThreadMessage:
    person = more.pop("person", ANA)
    more = {"opens_window": True, **more}
    return ThreadMessage(W, NUMBER, "wamid.1", person, SECOND, "contact", type, text, content, **more)


MEDIA = {"id": "77", "mime_type": "image/jpeg", "sha256": "abc=", "url": "https://lookaside/x"}
SHOWN = {"id": "77", "url": "https://lookaside/x", "sha256": "abc=", "mimeType": "image/jpeg"}


@pytest.mark.parametrize(
    ("type", "said", "text", "content"),
    [
        ("text", {"body": "Hello"}, "Hello", {}),
        ("image", {**MEDIA, "caption": "This"}, "This", {"attachments": [{"type": "image", **SHOWN}]}),
        ("video", MEDIA, None, {"attachments": [{"type": "video", **SHOWN}]}),
        (
            "document",
            {**MEDIA, "filename": "a.pdf"},
            None,
            {"attachments": [{"type": "document", **SHOWN, "fileName": "a.pdf"}]},
        ),
        ("audio", {**MEDIA, "voice": True}, None, {"attachments": [{"type": "audio", **SHOWN, "voice": True}]}),
        (
            "sticker",
            {**MEDIA, "animated": False},
            None,
            {"attachments": [{"type": "sticker", **SHOWN, "animated": False}]},
        ),
        (
            "location",
            {"latitude": 1.5, "longitude": 2.5, "name": "Café"},
            "Café",
            {"location": {"latitude": 1.5, "longitude": 2.5, "name": "Café"}},
        ),
        (
            "contacts",
            [{"name": {"formatted_name": "Bo"}, "vcard": "…", "origin": "other"}],
            "Bo",
            {"contacts": [{"name": {"formatted_name": "Bo"}, "vcard": "…", "origin": "other"}]},
        ),
        ("button", {"payload": "BUY", "text": "Buy"}, "Buy", {"payload": "BUY"}),
        (
            "interactive",
            {"type": "button_reply", "button_reply": {"id": "1", "title": "Yes"}},
            "Yes",
            {"reply": {"type": "button_reply", "id": "1", "title": "Yes"}},
        ),
        (
            "interactive",
            {"type": "list_reply", "list_reply": {"id": "1", "title": "Red", "description": "d"}},
            "Red",
            {"reply": {"type": "list_reply", "id": "1", "title": "Red", "description": "d"}},
        ),
        (
            "interactive",
            {"type": "nfm_reply", "nfm_reply": {"response_json": "{}", "body": "Sent", "name": "flow"}},
            "Sent",
            {"reply": {"type": "nfm_reply", "name": "flow", "response": "{}"}},
        ),
        (
            "interactive",
            {"type": "call_permission_reply", "call_permission_reply": {"response": "accept"}},
            None,
            {"reply": {"type": "call_permission_reply", "call_permission_reply": {"response": "accept"}}},
        ),
        (
            "order",
            {"catalog_id": "c", "text": "Two", "product_items": [{"product_retailer_id": "p", "quantity": 2}]},
            "Two",
            {"order": {"catalogId": "c", "items": [{"product_retailer_id": "p", "quantity": 2}]}},
        ),
        ("hologram", {"depth": 3}, None, {"original": {"type": "hologram", "hologram": {"depth": 3}}}),
    ],
)
def test_a_message_to_a_number(type: str, said: Any, text: str | None, content: dict[str, Any]) -> None:
    shown_as = "unsupported" if type == "hologram" else type
    assert one(message(type, **{type: said})) == shown(shown_as, text, content)


def test_what_meta_cannot_show_is_unsupported_with_its_reason() -> None:
    errors = [{"code": 131051, "title": "Message type unknown"}]
    assert one(message("unsupported", unsupported={"type": "poll"}, errors=errors)) == shown(
        "unsupported", None, {"original": {"type": "unsupported", "unsupported": {"type": "poll"}}, "errors": errors}
    )


def test_an_interactive_message_without_its_object_comes_with_an_error() -> None:
    body = message("interactive")
    body["entry"][0]["changes"][0]["value"]["errors"] = [{"code": 131060, "title": "Unavailable"}]
    unsupported, error = events(body)
    assert unsupported == shown("unsupported", None, {"original": {"type": "interactive"}})
    assert isinstance(error, ChannelNotice)
    assert (error.name, error.data) == ("errors", {"code": 131060, "title": "Unavailable"})


@pytest.mark.parametrize(
    ("more", "reply_to", "content"),
    [
        ({"context": {"from": "1", "id": "wamid.0"}}, "wamid.0", {}),
        ({"context": {"forwarded": True}}, None, {"forwarded": True}),
        ({"context": {"frequently_forwarded": True}}, None, {"frequentlyForwarded": True}),
        (
            {"context": {"from": "1", "id": "wamid.0", "referred_product": {"catalog_id": "c"}}},
            "wamid.0",
            {"product": {"catalog_id": "c"}},
        ),
        (
            {"referral": {"source_type": "ad", "source_id": "6", "ctwa_clid": "z"}},
            None,
            {"referral": {"source_type": "ad", "source_id": "6", "ctwa_clid": "z"}},
        ),
    ],
)
def test_a_message_tells_what_it_follows(more: dict[str, Any], reply_to: str | None, content: dict[str, Any]) -> None:
    assert one(message("text", text={"body": "Hi"}, **more)) == shown("text", "Hi", content, reply_to=reply_to)


@pytest.mark.parametrize(
    ("contact", "sender", "person"),
    [
        (CONTACT, {}, ANA),
        ({"wa_id": PHONE}, {"from_user_id": None}, Person(f"+{PHONE}")),
        ({"profile": {"name": "Ana"}, "user_id": USER}, {"from": None}, Person(USER, (), "Ana")),
        # Nothing but a name.
        ({"profile": {"name": "Ana"}}, {"from_user_id": None}, Person(f"+{PHONE}", (), "Ana")),
        # Somebody else's.
        ({"profile": {"name": "Bo"}, "wa_id": "1999"}, {"from_user_id": None}, Person(f"+{PHONE}")),
        (None, {"from": USER, "from_user_id": None}, Person(USER)),
    ],
)
def test_people_are_known_by_what_meta_tells_of_them(contact: Any, sender: dict[str, Any], person: Person) -> None:
    body = message("text", text={"body": "Hi"}, **sender)
    value = body["entry"][0]["changes"][0]["value"]
    value["contacts"] = [] if contact is None else [contact]
    assert one(body) == shown("text", "Hi", {}, person=person)


def test_a_groups_message_is_the_groups_and_names_its_sender() -> None:
    assert one(message("text", group_id="Y2FwaV9ncm91cA==", text={"body": "Hi"})) == shown(
        "text",
        "Hi",
        {"sender": {"address": f"+{PHONE}", "name": "Ana"}},
        person=Person("Y2FwaV9ncm91cA=="),
        opens_window=False,
    )


@pytest.mark.parametrize(
    ("type", "said", "expected"),
    [
        ("reaction", {"message_id": "wamid.0", "emoji": "\u2764"}, ("reaction", "\u2764", {})),
        ("reaction", {"message_id": "wamid.0"}, ("reaction", None, {})),
        ("reaction", {"message_id": "wamid.0", "emoji": ""}, ("reaction", None, {})),
        ("revoke", {"original_message_id": "wamid.0"}, ("revoke", None, {})),
        (
            "edit",
            {"original_message_id": "wamid.0", "message": {"type": "text", "text": {"body": "New"}}},
            ("edit", "New", {}),
        ),
    ],
)
def test_reactions_edits_and_revocations_name_their_message(
    type: str, said: dict[str, Any], expected: tuple[str, str | None, dict[str, Any]]
) -> None:
    event = one(message(type, **{type: said}))
    assert isinstance(event, MessageChange)
    assert (event.provider_id, event.person, event.by) == ("wamid.0", ANA, "contact")
    assert (event.change, event.text, event.content) == expected


@pytest.mark.parametrize(
    ("system", "after"),
    [
        ({"type": "user_changed_number", "wa_id": "1999", "body": "b"}, Person("+1999")),
        ({"type": "user_changed_user_id", "user_id": "US.2", "body": "b"}, Person("US.2")),
        ({"type": "user_changed_number", "wa_id": "1999", "user_id": "US.2", "body": "b"}, Person("+1999", ("US.2",))),
    ],
)
def test_a_new_number_or_id_is_the_same_person(system: dict[str, Any], after: Person) -> None:
    body = message("system", system=system)
    del body["entry"][0]["changes"][0]["value"]["contacts"]
    same, note = events(body)
    assert same == SamePerson(W, NUMBER, after, (f"+{PHONE}", USER), SECOND)
    assert note == ThreadMessage(
        W, NUMBER, "wamid.1", Person(f"+{PHONE}", (USER,)), SECOND, "system", "system", "b", {"type": system["type"]}
    )


def test_a_changed_identity_is_shown() -> None:
    identity = {"acknowledged": True, "created_timestamp": SECONDS, "hash": "h"}
    body = message("system", system={"type": "customer_identity_changed", "body": "b", "identity": identity})
    note = one(body)
    assert isinstance(note, ThreadMessage)
    assert (note.author, note.content) == ("system", {"type": "customer_identity_changed", "identity": identity})


def test_what_the_business_app_sent_is_an_apps_message() -> None:
    echo = {"from": "15550783881", "to": PHONE, "id": "wamid.1", "timestamp": SECONDS}
    said = [
        echo | {"type": "text", "text": {"body": "Hi"}},
        echo
        | {
            "type": "edit",
            "edit": {"original_message_id": "wamid.0", "message": {"type": "text", "text": {"body": "x"}}},
        },
        echo | {"type": "revoke", "revoke": {"original_message_id": "wamid.0"}, "to": None, "to_user_id": USER},
    ]
    text, edit, revoke = events(number("smb_message_echoes", message_echoes=said))
    assert text == ThreadMessage(W, NUMBER, "wamid.1", Person(f"+{PHONE}"), SECOND, "app", "text", "Hi")
    assert edit == MessageChange(W, NUMBER, "wamid.0", Person(f"+{PHONE}"), SECOND, "edit", "business", text="x")
    assert revoke == MessageChange(W, NUMBER, "wamid.0", Person(USER), SECOND, "revoke", "business")


@pytest.mark.parametrize(("value", "welcome"), [("stop", False), ("resume", True), ("signup", True)])
def test_a_users_preference_counts(value: str, welcome: bool) -> None:
    item = {"wa_id": PHONE, "user_id": USER, "detail": "d", "category": "marketing_messages", "value": value}
    item["timestamp"] = int(SECONDS)  # type: ignore[assignment]
    body = number("user_preferences", contacts=[{"wa_id": PHONE, "user_id": USER}], user_preferences=[item])
    assert one(body) == Preference(W, NUMBER, Person(f"+{PHONE}", (USER,)), SECOND, welcome)


def test_a_new_user_id_replaces_the_former_one() -> None:
    item = {"wa_id": PHONE, "detail": "d", "user_id": {"previous": USER, "current": "US.2"}, "timestamp": int(SECONDS)}
    assert one(number("user_id_update", user_id_update=[item])) == SamePerson(
        W, NUMBER, Person(f"+{PHONE}", ("US.2",)), (USER,), SECOND
    )
    assert one(number("user_id_update", user_id_update=[item | {"wa_id": None}])) == SamePerson(
        W, NUMBER, Person("US.2"), (USER,), SECOND
    )


@pytest.mark.parametrize(
    ("event", "stops"),
    [
        *((event, "template") for event in ("PAUSED", "DISABLED", "REJECTED", "DELETED", "PENDING_DELETION")),
        *((event, "") for event in ("APPROVED", "PENDING", "FLAGGED", "REINSTATED", "IN_APPEAL", "ARCHIVED", "NEW")),
    ],
)
def test_a_templates_status_stops_it_or_not(event: str, stops: str) -> None:
    value = {
        "event": event,
        "message_template_id": 64244916695,
        "message_template_name": "spring",
        "message_template_language": "en-US",
        "reason": "NONE",
    }
    notice = one(change("message_template_status_update", value, time=int(SECONDS)))
    assert isinstance(notice, ChannelNotice)
    assert (notice.channel, notice.is_account, notice.at) == (ACCOUNT, True, SECOND)
    assert (notice.subject, notice.stops, notice.data) == ("spring en_US", stops, value)
    assert notice.reason == (f"Meta has set the template spring to {event}." if stops else "")


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("message_template_quality_update", {"new_quality_score": "RED", "message_template_name": "spring"}, ""),
        ("template_category_update", {"new_category": "MARKETING"}, ""),
        ("message_template_components_update", {"message_template_name": "spring"}, ""),
        ("phone_number_quality_update", {"event": "THROUGHPUT_UPGRADE", "display_phone_number": "1"}, ""),
        ("business_capability_update", {"max_daily_conversations_per_business": 2000}, ""),
        ("account_update", {"event": "ACCOUNT_VIOLATION", "violation_info": {"violation_type": "ADULT"}}, ""),
        (
            "account_update",
            {"event": "DISABLED_UPDATE", "ban_info": {"waba_ban_state": "DISABLE"}},
            "Meta has disabled the WhatsApp Business account.",
        ),
        ("account_update", {"event": "DISABLED_UPDATE", "ban_info": {"waba_ban_state": "REINSTATE"}}, ""),
        ("account_update", {"event": "ACCOUNT_DELETED"}, "The WhatsApp Business account was deleted."),
        ("account_alerts", {"entity_type": "BUSINESS", "alert_info": {"alert_severity": "INFO"}}, ""),
        ("account_review_update", {"decision": "APPROVED"}, ""),
        ("phone_number_name_update", {"decision": "APPROVED", "display_phone_number": "1"}, ""),
        ("security", {"event": "PIN_CHANGED", "display_phone_number": "1"}, ""),
        ("business_username_update", {"display_phone_number": "1", "username": "@x", "status": "approved"}, ""),
        ("group_lifecycle_update", {"groups": [{"group_id": "g"}]}, ""),
        ("something_new", {"a": 1}, ""),
    ],
)
def test_what_meta_tells_of_an_account_is_a_notice(field: str, value: dict[str, Any], reason: str) -> None:
    notice = one(change(field, value, time=int(SECONDS)))
    assert isinstance(notice, ChannelNotice)
    assert (notice.name, notice.channel, notice.is_account, notice.at) == (field, ACCOUNT, True, SECOND)
    assert (notice.data, notice.reason, notice.stops) == (value, reason, "channel" if reason else "")


def test_an_odd_message_does_not_cost_its_neighbours() -> None:
    body = message("text", text={"body": "Hi"})
    messages = body["entry"][0]["changes"][0]["value"]["messages"]
    good = messages[0]
    odd: list[Any] = [
        None,
        5,
        [],
        {},
        good | {"id": None},
        good | {"timestamp": "soon"},
        good | {"timestamp": "9" * 30},
    ]
    messages[:] = [good, *odd, good | {"from": None, "from_user_id": None, "id": "wamid.2"}]
    first, *others, last = events(body)
    assert first == shown("text", "Hi", {})
    assert others == [Unhandled(W, NUMBER, "malformed")] * len(odd)
    # Of the one contact that there is.
    assert isinstance(last, ThreadMessage)
    assert last.person == ANA
