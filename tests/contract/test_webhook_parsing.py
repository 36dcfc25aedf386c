import contextlib
import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pombo.domain.channels import ChannelKind
from pombo.domain.events import (
    Echo,
    Person,
    StatusReceipt,
    ThreadMessage,
    Unhandled,
    Watermark,
    WebhookEvent,
)
from pombo.domain.ids import MessageId
from pombo.domain.outcomes import DeliveryState
from pombo.domain.sendkey import SendKey
from pombo.meta.webhook_salvage import salvage
from pombo.meta.webhook_shapes import Change, Entry, Envelope, Messaging, Status, Value
from pombo.meta.webhooks import ParsedWebhook, WebhookFormatError, events_of, parse_webhook

M, W = ChannelKind.MESSENGER, ChannelKind.WHATSAPP
PAGE, PERSON = "682498302938465", "254459191"
NUMBER, ACCOUNT = "106540352242922", "102290129340398"
MILLISECONDS = 1458692752478
MOMENT = datetime(2016, 3, 23, 0, 25, 52, 478000, tzinfo=UTC)
SECONDS = "1750030073"
SECOND = datetime(2025, 6, 15, 23, 27, 53, tzinfo=UTC)
KEY = SendKey(MessageId(7), 2, date(2026, 8, 1))
KEY_TEXT = "pombo1.7.2.20260801"


def parse(body: Any) -> ParsedWebhook:
    return parse_webhook(json.dumps(body).encode())


def page(*messaging: Any, **entry: Any) -> dict[str, Any]:
    return {"object": "page", "entry": [{"id": PAGE, "time": MILLISECONDS, "messaging": list(messaging), **entry}]}


def from_person(**event: Any) -> dict[str, Any]:
    return {"sender": {"id": PERSON}, "recipient": {"id": PAGE}, "timestamp": MILLISECONDS, **event}


def echo(**message: Any) -> dict[str, Any]:
    message = {"is_echo": True, "app_id": 1517776481860111, "mid": "m_echo", "text": "Hi", **message}
    return {"sender": {"id": PAGE}, "recipient": {"id": PERSON}, "timestamp": MILLISECONDS, "message": message}


def account(field: str, value: Any, **entry: Any) -> dict[str, Any]:
    change = {"field": field, "value": value}
    return {"object": "whatsapp_business_account", "entry": [{"id": ACCOUNT, "changes": [change], **entry}]}


def number(**value: Any) -> dict[str, Any]:
    metadata = {"display_phone_number": "15550783881", "phone_number_id": NUMBER}
    return account("messages", {"messaging_product": "whatsapp", "metadata": metadata, **value})


def status(**members: Any) -> dict[str, Any]:
    return {"id": "wamid.1", "status": "delivered", "timestamp": SECONDS, "recipient_id": "16505551234", **members}


# ---- Messenger ----


def test_an_echo_carries_our_key_home() -> None:
    assert parse(page(echo(metadata=KEY_TEXT))).events == [Echo(M, PAGE, "m_echo", PERSON, MOMENT, KEY)]


@pytest.mark.parametrize("metadata", [{}, {"metadata": None}, {"metadata": "other-app"}, {"metadata": KEY_TEXT + "0"}])
def test_an_echo_of_another_sender_has_no_key(metadata: dict[str, Any]) -> None:
    assert parse(page(echo(**metadata))).events == [
        ThreadMessage(M, PAGE, "m_echo", Person(PERSON), MOMENT, "app", "text", "Hi", {"appId": "1517776481860111"})
    ]


def test_an_echo_in_standby_is_evidence_as_well() -> None:
    body = page()
    body["entry"][0]["standby"] = [echo(metadata=KEY_TEXT)]
    assert parse(body).events == [Echo(M, PAGE, "m_echo", PERSON, MOMENT, KEY)]


def test_a_delivery_with_ids_names_each_message() -> None:
    delivery = {"mids": ["m_1", "m_2"], "watermark": MILLISECONDS - 1000}
    assert parse(page(from_person(delivery=delivery))).events == [
        StatusReceipt(M, PAGE, "m_1", DeliveryState.DELIVERED, MOMENT, PERSON),
        StatusReceipt(M, PAGE, "m_2", DeliveryState.DELIVERED, MOMENT, PERSON),
    ]


@pytest.mark.parametrize("mids", [{}, {"mids": None}, {"mids": []}])
def test_a_delivery_without_ids_is_a_watermark(mids: dict[str, Any]) -> None:
    delivery = {"watermark": MILLISECONDS - 1000, **mids}
    assert parse(page(from_person(delivery=delivery))).events == [
        Watermark(M, PAGE, PERSON, DeliveryState.DELIVERED, MOMENT - timedelta(seconds=1), MOMENT)
    ]


def test_a_delivery_without_a_time_has_its_entrys() -> None:
    event = {"sender": {"id": PERSON}, "recipient": {"id": PAGE}, "delivery": {"mids": ["m_1"], "watermark": 1}}
    assert parse(page(event)).events == [StatusReceipt(M, PAGE, "m_1", DeliveryState.DELIVERED, MOMENT, PERSON)]


def test_a_delivery_without_any_time_has_its_watermarks() -> None:
    event = {"sender": {"id": PERSON}, "delivery": {"mids": ["m_1"], "watermark": MILLISECONDS}}
    body = page(event)
    del body["entry"][0]["time"]
    assert parse(body).events == [StatusReceipt(M, PAGE, "m_1", DeliveryState.DELIVERED, MOMENT, PERSON)]


def test_a_read_is_a_watermark() -> None:
    assert parse(page(from_person(read={"watermark": MILLISECONDS - 1000}))).events == [
        Watermark(M, PAGE, PERSON, DeliveryState.READ, MOMENT - timedelta(seconds=1), MOMENT)
    ]


def test_a_pages_other_changes_are_named() -> None:
    change = {"field": "feed", "value": {"item": "comment"}}
    body = {"object": "page", "entry": [{"id": PAGE, "time": 1, "changes": [change, {"field": "\x00", "value": "x"}]}]}
    assert parse(body).events == [Unhandled(M, PAGE, "feed"), Unhandled(M, PAGE, "unknown")]


# ---- WhatsApp ----


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("sent", DeliveryState.ACCEPTED),
        ("delivered", DeliveryState.DELIVERED),
        ("read", DeliveryState.READ),
        ("played", DeliveryState.READ),
        ("failed", DeliveryState.UNDELIVERED),
    ],
)
def test_a_status_is_a_receipt(name: str, state: DeliveryState) -> None:
    body = number(
        contacts=[{"profile": {"name": "Ana"}, "wa_id": "16505551234"}],
        statuses=[
            status(
                status=name,
                biz_opaque_callback_data=KEY_TEXT,
                conversation={"id": "c", "origin": {"type": "marketing"}},
                pricing={"billable": True, "pricing_model": "PMP", "category": "marketing", "type": "regular"},
            )
        ],
    )
    assert parse(body).events == [StatusReceipt(W, NUMBER, "wamid.1", state, SECOND, "+16505551234", KEY)]


def test_a_failed_status_says_why() -> None:
    error = {
        "code": 131026,
        "title": "Message undeliverable",
        "message": "Message undeliverable",
        "error_data": {"details": "Message Undeliverable."},
        "href": "https://developers.facebook.com/docs/whatsapp/cloud-api/support/error-codes/",
    }
    assert parse(number(statuses=[status(status="failed", errors=[error])])).events == [
        StatusReceipt(
            W,
            NUMBER,
            "wamid.1",
            DeliveryState.UNDELIVERED,
            SECOND,
            "+16505551234",
            None,
            131026,
            "Message undeliverable",
        )
    ]


def test_the_title_of_an_error_is_fit_to_be_stored() -> None:
    [receipt] = parse(number(statuses=[status(status="failed", errors=[{"code": 1, "message": "a\x00b"}])])).events
    assert isinstance(receipt, StatusReceipt)
    assert (receipt.error_code, receipt.error_title) == (1, "ab")
    [receipt] = parse(number(statuses=[status(status="failed", errors=[{"code": 1, "title": "x" * 10**6}])])).events
    assert isinstance(receipt, StatusReceipt)
    assert receipt.error_title == "x" * 500


@pytest.mark.parametrize(
    ("recipient", "expected"),
    [
        ({"recipient_id": "US.13491208655302741918"}, "US.13491208655302741918"),
        ({"recipient_id": None, "recipient_user_id": "US.1349"}, "US.1349"),
        ({"recipient_id": "5511999990000", "recipient_user_id": "BR.1349"}, "+5511999990000"),
        ({"recipient_id": None}, None),
    ],
)
def test_a_recipient_is_given_as_pombo_keeps_it(recipient: dict[str, Any], expected: str | None) -> None:
    [receipt] = parse(number(statuses=[status(**recipient)])).events
    assert isinstance(receipt, StatusReceipt)
    assert receipt.recipient == expected
    assert receipt.user_id == recipient.get("recipient_user_id")


def test_a_time_may_be_a_number() -> None:
    [receipt] = parse(number(statuses=[status(timestamp=int(SECONDS))])).events
    assert isinstance(receipt, StatusReceipt)
    assert receipt.at == SECOND


def test_a_status_of_a_kind_not_known_yet_is_named() -> None:
    assert parse(number(statuses=[status(status="warning")])).events == [Unhandled(W, NUMBER, "statuses")]


@pytest.mark.parametrize("field", ["history", "smb_app_state_sync"])
def test_whole_histories_are_left_in_the_log(field: str) -> None:
    value = {"metadata": {"phone_number_id": NUMBER}, "history": []}
    assert parse(account(field, value, time=1750030073)).events == [Unhandled(W, NUMBER, field)]


def test_events_keep_their_order_over_entries_and_changes() -> None:
    body = number(statuses=[status(id="wamid.1"), status(id="wamid.2")])
    body["entry"] += number(statuses=[status(id="wamid.3")])["entry"]
    body["entry"][0]["changes"] += number(statuses=[status(id="wamid.4")])["entry"][0]["changes"]
    ids = [event.provider_id for event in parse(body).events if isinstance(event, StatusReceipt)]
    assert ids == ["wamid.1", "wamid.2", "wamid.4", "wamid.3"]


# ---- what is not as it should be ----


@pytest.mark.parametrize(
    "body", [b"", b"x", b"[]", b"5", b"null", b'"page"', b'{"object":"page"', b"\xff", b"[" * 10_000]
)
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(WebhookFormatError):
        parse_webhook(body)


@pytest.mark.parametrize(
    "body", [{}, {"object": "instagram", "entry": [{"id": "1", "messaging": [echo()]}]}, {"object": 5}]
)
def test_webhooks_of_other_objects_have_no_events(body: Any) -> None:
    assert parse(body).events == []
    assert parse(body).object == ("instagram" if body.get("object") == "instagram" else "")


GOOD_ECHO = ThreadMessage(M, PAGE, "m_echo", Person(PERSON), MOMENT, "app", "text", "Hi", {"appId": "1517776481860111"})


@pytest.mark.parametrize(
    "event",
    [
        None,
        5,
        [],
        "echo",
        {"sender": "someone", "read": {"watermark": 1}},
        {"sender": {"id": 5}, "read": {"watermark": 1}},
        {"read": {"watermark": MILLISECONDS}},
        from_person(read={}),
        from_person(read={"watermark": "soon"}),
        from_person(read={"watermark": 10**18}),
        from_person(delivery={}),
        from_person(delivery={"mids": "m_1", "watermark": 1}),
        from_person(delivery={"mids": ["m_1", ""], "watermark": 1}),
        from_person(delivery={"mids": ["m_1", "a\x00b"], "watermark": 1}),
        from_person(delivery={"mids": ["m_1", "m" * 601], "watermark": 1}),
        from_person(read={"watermark": 1}) | {"sender": {"id": "1" * 601}},
        echo(mid=None),
        echo(mid=""),
        echo(metadata=5),
        echo(is_echo="yes"),
        echo() | {"recipient": {}},
        echo() | {"timestamp": "1458692752478"},
        echo() | {"timestamp": 10**18},
    ],
)
def test_an_odd_event_of_a_page_does_not_cost_its_neighbours(event: Any) -> None:
    events = parse(page(echo(), event, echo())).events
    assert sorted(map(str, events)) == sorted(map(str, [GOOD_ECHO, GOOD_ECHO, Unhandled(M, PAGE, "malformed")]))


GOOD_STATUS = StatusReceipt(W, NUMBER, "wamid.1", DeliveryState.DELIVERED, SECOND, "+16505551234")


@pytest.mark.parametrize(
    "odd",
    [
        None,
        5,
        [],
        {},
        status(id=None),
        status(id=""),
        status(id="a\x00b"),
        status(id="w" * 601),
        status(recipient_id="1" * 601),
        status(recipient_user_id="U" * 601),
        status(status=5),
        status(timestamp="soon"),
        status(timestamp=1.5),
        status(timestamp="9" * 30),
        status(timestamp=None),
        status(recipient_id=16505551234),
        status(recipient_id="a\x00b"),
        status(biz_opaque_callback_data={}),
        status(status="failed", errors=[{"code": "131026"}]),
        status(status="failed", errors=[{"code": 10**12}]),
        status(status="failed", errors={}),
    ],
)
def test_an_odd_status_does_not_cost_its_neighbours(odd: Any) -> None:
    events = parse(number(statuses=[status(), odd, status()])).events
    assert [event for event in events if isinstance(event, StatusReceipt)] == [GOOD_STATUS, GOOD_STATUS]
    [other] = [event for event in events if not isinstance(event, StatusReceipt)]
    assert isinstance(other, Unhandled)
    assert (other.kind, other.name) == (W, "malformed")


@pytest.mark.parametrize(
    "spoil",
    [
        {"messages": "no list"},
        {"errors": 5},
        {"contacts": "ignored anyway", "messages": {}},
    ],
)
def test_an_odd_member_of_a_value_does_not_cost_its_statuses(spoil: dict[str, Any]) -> None:
    assert parse(number(statuses=[status()], **spoil)).events == [GOOD_STATUS, Unhandled(W, ACCOUNT, "malformed")]


def test_a_status_without_its_number_belongs_to_nobody() -> None:
    for metadata in ({}, None, {"phone_number_id": None}, {"phone_number_id": 5}, "x"):
        body = number(statuses=[status()])
        body["entry"][0]["changes"][0]["value"]["metadata"] = metadata
        assert parse(body).events == [Unhandled(W, ACCOUNT, "malformed")]


def test_an_odd_entry_does_not_cost_its_neighbours() -> None:
    body = page(echo())
    body["entry"] = [None, 5, {"id": 5, "messaging": 5}, *body["entry"], {"id": "2", "changes": [{}, 5]}]
    assert parse(body).events == [
        GOOD_ECHO,
        Unhandled(M, "", "malformed"),
        Unhandled(M, "", "malformed"),
        Unhandled(M, "", "malformed"),
        Unhandled(M, "2", "malformed"),
        Unhandled(M, "2", "malformed"),
    ]


def test_half_an_emoji_does_not_cost_its_neighbours() -> None:
    message = {"from": "16505551234", "id": "wamid.2", "timestamp": SECONDS, "type": "text"}
    body = json.dumps(number(statuses=[status()], messages=[message | {"text": {"body": "cut \ud83d"}}])).encode()
    receipt, cut = parse_webhook(body).events
    assert receipt == GOOD_STATUS
    assert isinstance(cut, ThreadMessage)
    assert cut.text == "cut ?"


def test_text_that_is_not_utf_8_does_not_cost_its_neighbours() -> None:
    body = json.dumps(number(statuses=[status(), status(id="odd")])).encode().replace(b"odd", b"\xff")
    assert parse_webhook(body).events == [GOOD_STATUS, Unhandled(W, ACCOUNT, "malformed")]


# ---- any JSON ----

words = st.sampled_from(
    ["page", "whatsapp_business_account", "messages", "m_1", KEY_TEXT, "delivered", "failed", SECONDS, "", "\x00"]
)
# All members that are read, so that junk comes to stand where it hurts.
members = st.sampled_from(
    sorted(
        {field for shape in (Envelope, Entry, Messaging, Change, Value, Status) for field in shape.__struct_fields__}
    )
)
numbers = st.sampled_from([0, -1, 5, 1.5, MILLISECONDS, 10**13, 10**18, 10**40, 1e300])
junk = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, words),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(members, inner, max_size=4)),
    max_leaves=6,
)
GOOD = [
    page(echo(metadata=KEY_TEXT), from_person(delivery={"mids": ["m_1"], "watermark": 1}), standby=[echo()]),
    page(
        from_person(read={"watermark": MILLISECONDS}), from_person(message={"mid": "m_1"}), changes=[{"field": "feed"}]
    ),
    number(statuses=[status(biz_opaque_callback_data=KEY_TEXT), status(status="failed", errors=[{"code": 1}])]),
    number(messages=[{"id": "wamid.2"}], errors=[{"code": 1}]),
    account("account_update", {"event": "DISABLED_UPDATE"}),
]


@st.composite
def spoilt(draw: st.DrawFn, value: Any) -> Any:
    """`value` with one place in it, at any depth, replaced by something else, or something added."""
    if isinstance(value, dict) and value and draw(st.integers(0, 5)):
        key = draw(st.one_of(st.sampled_from(list(value)), st.sampled_from(list(value)), members))
        return value | {key: draw(spoilt(value.get(key)))}
    if isinstance(value, list) and value and draw(st.integers(0, 5)):
        index = draw(st.integers(0, len(value) - 1))
        return [*value[:index], draw(spoilt(value[index])), *value[index + 1 :]]
    return draw(words if isinstance(value, str) and draw(st.booleans()) else junk)


def texts(events: list[WebhookEvent]) -> Iterator[str]:
    for event in events:
        values = (getattr(event, member) for member in event.__struct_fields__)
        yield from (value for value in values if isinstance(value, str))


@given(st.data())
def test_no_json_raises_and_whatever_comes_out_can_be_stored(data: st.DataObject) -> None:
    body = data.draw(st.one_of(st.sampled_from(GOOD).flatmap(spoilt), junk))
    try:
        parsed = parse(body)
    except WebhookFormatError:
        assert not isinstance(body, dict)
        return
    for text in texts(parsed.events):
        assert "\x00" not in text
        text.encode()


@given(st.binary(max_size=40))
def test_no_bytes_raise_anything_else(body: bytes) -> None:
    with contextlib.suppress(WebhookFormatError):
        assert parse_webhook(body).events == []


@given(st.sampled_from(GOOD).flatmap(spoilt))
def test_taken_apart_a_good_webhook_says_the_same(body: Any) -> None:
    raw = json.dumps(body).encode()
    try:
        msgspec.json.decode(raw, type=Envelope)
    except msgspec.DecodeError:
        return
    parts, malformed = salvage(raw)
    assert malformed == []
    assert events_of(parts) == parse_webhook(raw).events
