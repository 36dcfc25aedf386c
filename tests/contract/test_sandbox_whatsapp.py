"""The Cloud API: its shape, its limits on content, its window, its people."""

from typing import Any

import pytest

from tests.sandbox_server import ChannelHandle, SandboxHandle
from tests.webhook_receiver import WebhookReceiver

PERSON = "5511999990001"


def body(kind: str, part: Any, **more: Any) -> dict[str, Any]:
    return {"messaging_product": "whatsapp", "to": PERSON, "type": kind, kind: part, **more}


def button(number: int = 1, title: str = "Yes") -> dict[str, Any]:
    return {"type": "reply", "reply": {"id": f"button-{number}", "title": title}}


def row(number: int) -> dict[str, Any]:
    return {"id": f"row-{number}", "title": "Row", "description": "More"}


def buttons(*given: dict[str, Any], text: str = "Well?") -> dict[str, Any]:
    return {"type": "button", "body": {"text": text}, "action": {"buttons": list(given)}}


def menu(*sections: dict[str, Any], label: str = "Menu") -> dict[str, Any]:
    return {"type": "list", "body": {"text": "Choose"}, "action": {"button": label, "sections": list(sections)}}


def link(text: str = "Open") -> dict[str, Any]:
    parameters = {"display_text": text, "url": "https://example.com"}
    return {"type": "cta_url", "body": {"text": "See"}, "action": {"name": "cta_url", "parameters": parameters}}


async def test_an_accepted_message_answers_with_contact_and_id(sandbox: SandboxHandle, phone: ChannelHandle) -> None:
    answer = await sandbox.post(phone, body("text", {"body": "Oi"}) | {"to": "+55 (11) 99999-0001"})
    assert answer.json()["messaging_product"] == "whatsapp"
    assert answer.json()["contacts"] == [{"input": "+55 (11) 99999-0001", "wa_id": PERSON}]
    assert answer.json()["messages"][0]["id"].startswith("wamid.")
    assert [message["recipient"] for message in await sandbox.messages()] == [PERSON]


@pytest.mark.parametrize(
    "request_body",
    [
        pytest.param(body("text", {"body": "x" * 4096, "preview_url": True}), id="4096 characters"),
        pytest.param(body("image", {"link": "https://example.com/a.png", "caption": "c" * 1024}), id="image"),
        pytest.param(body("document", {"id": "123", "filename": "a.pdf"}), id="document"),
        pytest.param(body("audio", {"id": "123", "voice": True}), id="audio"),
        pytest.param(body("sticker", {"id": "123"}), id="sticker"),
        pytest.param(body("location", {"latitude": -23.5, "longitude": -46.6}), id="location"),
        pytest.param(body("contacts", [{"name": {"formatted_name": "Ana"}}]), id="contacts"),
        pytest.param(body("reaction", {"message_id": "wamid.X", "emoji": "👍"}), id="reaction"),
        pytest.param(body("interactive", buttons(button(1), button(2), button(3))), id="3 buttons"),
        pytest.param(body("interactive", menu({"title": "A", "rows": [row(n) for n in range(10)]})), id="10 rows"),
        pytest.param(body("interactive", link()), id="link"),
        pytest.param(body("interactive", {"type": "flow", "action": {}}), id="flow"),
        pytest.param(body("text", {"body": "Hi"}, biz_opaque_callback_data="k" * 512), id="512 characters of key"),
    ],
)
async def test_content_within_meta_s_limits_is_accepted(
    sandbox: SandboxHandle, phone: ChannelHandle, request_body: dict[str, Any]
) -> None:
    answer = await sandbox.post(phone, request_body)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("request_body", "code", "words"),
    [
        pytest.param({"to": PERSON, "type": "text"}, 100, "messaging_product", id="no product"),
        pytest.param({"messaging_product": "whatsapp", "text": {"body": "a"}}, 100, "to is required", id="nobody"),
        pytest.param(body("text", {"body": "a"}) | {"to": "12345"}, 131009, "phone number", id="short number"),
        pytest.param(body("text", {"body": "a"}) | {"to": "ana"}, 131009, "phone number", id="a name"),
        pytest.param(body("text", {"body": "a"}) | {"to": "1" * 16}, 131009, "phone number", id="long number"),
        pytest.param(body("text", {"body": "a"}) | {"recipient_type": "crowd"}, 100, "recipient_type", id="crowd"),
        pytest.param(body("text", {"body": "x" * 4097}), 100, "4096", id="4097 characters"),
        pytest.param(body("text", {"body": ""}), 131008, "text.body", id="empty text"),
        pytest.param(body("text", {}), 131008, "text.body", id="no text"),
        pytest.param(body("text", "Hi"), 100, "Expected `object", id="text that is a string"),
        pytest.param(body("video", {}), 131009, "id or a link", id="video without id"),
        pytest.param(body("image", {"id": "1", "link": "https://a"}), 131009, "id or a link", id="id and link"),
        pytest.param(body("audio", {"id": "1", "caption": "a"}), 131009, "no caption", id="audio with caption"),
        pytest.param(body("image", {"id": "1", "caption": "c" * 1025}), 131009, "caption", id="long caption"),
        pytest.param(body("interactive", buttons(*[button(n) for n in range(4)])), 131009, "at most 3", id="4 buttons"),
        pytest.param(body("interactive", buttons(button(1), button(1))), 131009, "unique", id="same button twice"),
        pytest.param(body("interactive", buttons(button(1, "t" * 21))), 131009, "title", id="long button"),
        pytest.param(body("interactive", buttons(button(), text="t" * 1025)), 131009, "body", id="long question"),
        pytest.param(body("interactive", buttons()), 131008, "buttons", id="no button"),
        pytest.param(
            body("interactive", menu(*[{"title": str(n), "rows": [row(2 * n), row(2 * n + 1)]} for n in range(6)])),
            131009,
            "row count",
            id="12 rows",
        ),
        pytest.param(body("interactive", menu({"rows": [row(1)]}, {"rows": [row(2)]})), 131008, "title", id="untitled"),
        pytest.param(body("interactive", menu({"rows": [row(1)]}, label="l" * 21)), 131009, "button", id="long label"),
        pytest.param(body("interactive", link("d" * 21)), 131009, "display_text", id="long link text"),
        pytest.param(body("interactive", {"type": "poll"}), 131009, "unknown", id="poll"),
        pytest.param(body("reaction", {"emoji": "👍"}), 131008, "message_id", id="reaction to nothing"),
        pytest.param(body("location", {"latitude": 1}), 131008, "longitude", id="half a location"),
        pytest.param(body("contacts", []), 131008, "contacts", id="no contact"),
        pytest.param(body("fax", {}), 131051, "not supported", id="fax"),
        pytest.param(body("text", {"body": "a"}, biz_opaque_callback_data="k" * 513), 100, "biz_opaque", id="long key"),
        pytest.param({"messaging_product": "whatsapp", "recipient": "ana"}, 131009, "user id", id="not a user id"),
        pytest.param({"messaging_product": "whatsapp", "status": "read"}, 100, "message_id", id="nothing read"),
    ],
)
async def test_what_meta_refuses_is_refused_with_its_code_and_details(
    sandbox: SandboxHandle, phone: ChannelHandle, request_body: dict[str, Any], code: int, words: str
) -> None:
    answer = await sandbox.post(phone, request_body)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["type"]) == (400, code, "OAuthException")
    assert words in error["message"] + error.get("error_data", {}).get("details", "")
    assert error["fbtrace_id"]
    assert (await sandbox.ledger())["accepted"] == 0


async def test_a_message_to_the_number_itself_is_131021(sandbox: SandboxHandle, phone: ChannelHandle) -> None:
    number = (await sandbox.http.get(f"/{phone.id}", params={"access_token": phone.token})).json()
    error = (await sandbox.send_text(phone, number["display_phone_number"])).json()["error"]
    assert error["code"] == 131021


async def test_a_read_receipt_succeeds_and_enters_no_ledger(sandbox: SandboxHandle, phone: ChannelHandle) -> None:
    receipt = {"messaging_product": "whatsapp", "status": "read", "message_id": "wamid.X"}
    answer = await sandbox.post(phone, receipt | {"typing_indicator": {"type": "text"}})
    assert answer.json() == {"success": True}
    assert (await sandbox.ledger())["accepted"] == 0


async def test_a_business_scoped_user_id_is_answered_as_user_id(
    sandbox: SandboxHandle, phone: ChannelHandle, receiver: WebhookReceiver
) -> None:
    user_id = "BR.13491208655302741918"
    request_body = {"messaging_product": "whatsapp", "recipient": user_id, "type": "text", "text": {"body": "Oi"}}
    answer = await sandbox.post(phone, request_body)
    assert answer.json()["contacts"] == [{"input": user_id, "user_id": user_id}]
    await sandbox.flush()
    assert {status["recipient_user_id"] for status in receiver.statuses()} == {user_id}
    assert not any("recipient_id" in status for status in receiver.statuses())


async def test_a_phone_number_wins_over_a_user_id(sandbox: SandboxHandle, phone: ChannelHandle) -> None:
    answer = await sandbox.post(phone, body("text", {"body": "Oi"}) | {"recipient": "BR.1"})
    assert answer.json()["contacts"] == [{"input": PERSON, "wa_id": PERSON}]


async def test_outside_the_window_only_templates_pass(sandbox: SandboxHandle, phone: ChannelHandle) -> None:
    await sandbox.add_template(phone, "order")
    await sandbox.set_person(phone, PERSON, last_inbound_ago_s=24 * 3600 + 1)
    error = (await sandbox.send_text(phone, PERSON)).json()["error"]
    assert error["code"] == 131047
    template = body("template", {"name": "order", "language": {"code": "en_US"}})
    assert (await sandbox.post(phone, template)).status_code == 200
    await sandbox.set_person(phone, PERSON, last_inbound_ago_s=24 * 3600 - 10)
    assert (await sandbox.send_text(phone, PERSON)).status_code == 200


async def test_who_stopped_marketing_still_gets_everything_else(sandbox: SandboxHandle, phone: ChannelHandle) -> None:
    await sandbox.add_template(phone, "sale", category="MARKETING")
    await sandbox.add_template(phone, "receipt", category="UTILITY")
    await sandbox.set_person(phone, PERSON, standing="opted_out")
    outcomes = []
    for name in ("sale", "receipt"):
        answer = await sandbox.post(phone, body("template", {"name": name, "language": {"code": "en_US"}}))
        outcomes.append(answer.json()["error"]["code"] if answer.is_error else answer.status_code)
    assert outcomes == [131050, 200]


@pytest.mark.parametrize("standing", ["unknown", "blocked"])
async def test_an_unreachable_person_is_accepted_and_fails_later(
    sandbox: SandboxHandle, phone: ChannelHandle, receiver: WebhookReceiver, standing: Any
) -> None:
    await sandbox.set_person(phone, PERSON, standing=standing)
    assert (await sandbox.send_text(phone, PERSON, key="key-1")).status_code == 200
    await sandbox.flush()
    assert [status["status"] for status in receiver.statuses()] == ["sent", "failed"]
    failed = receiver.statuses()[1]
    assert failed["errors"][0]["code"] == 131026
    assert failed["errors"][0]["title"] == "Message undeliverable"
    assert failed["biz_opaque_callback_data"] == "key-1"
    assert (await sandbox.ledger())["failed"] == 1


async def test_a_reaction_is_only_ever_sent(
    sandbox: SandboxHandle, phone: ChannelHandle, receiver: WebhookReceiver
) -> None:
    await sandbox.post(phone, body("reaction", {"message_id": "wamid.X", "emoji": "👍"}))
    await sandbox.flush()
    assert [status["status"] for status in receiver.statuses()] == ["sent"]


async def test_a_wrong_token_is_401_with_190(sandbox: SandboxHandle, phone: ChannelHandle) -> None:
    answer = await sandbox.http.post(f"/v26.0/{phone.id}/messages", headers={"authorization": "Bearer nope"}, json={})
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, 190)


async def test_numbers_may_share_the_token_of_a_system_user(sandbox: SandboxHandle, phone: ChannelHandle) -> None:
    second = await sandbox.add_phone(phone.app, waba_id=phone.waba_id, token=phone.token)
    for channel in (phone, second):
        assert (await sandbox.send_text(channel, PERSON)).status_code == 200
    assert [message["channel"] for message in await sandbox.messages()] == [phone.id, second.id]
