"""People who write, tap, react, edit and opt out, told by Meta's webhooks."""

from typing import Any

import pytest

from tests.sandbox_server import AppHandle, ChannelHandle, SandboxHandle
from tests.webhook_receiver import WebhookReceiver

PSID, PERSON = "24012345678901", "5511987654321"
QUICK = {"content_type": "text", "title": "Yes", "payload": "YES"}
BUTTONS = {
    "template_type": "button",
    "text": "Well?",
    "buttons": [{"type": "postback", "title": "Go", "payload": "GO"}],
}
EVERYTHING = (
    "text",
    "image",
    "video",
    "audio",
    "file",
    "sticker",
    "location",
    "reaction",
    "edit",
    "opt_in",
    "opt_out",
    "referral",
    "order",
    "unsupported",
    "other_app",
)


async def test_a_messenger_person_writes_and_the_webhook_is_signed(
    sandbox: SandboxHandle, app: AppHandle, page: ChannelHandle, receiver: WebhookReceiver
) -> None:
    [said] = await sandbox.script(page, PSID, {"type": "text", "text": "Olá/oi"})
    await sandbox.flush()
    [event] = receiver.events()
    assert event["sender"] == {"id": PSID}
    assert event["recipient"] == {"id": page.id}
    assert event["message"] == {"mid": said["id"], "text": "Olá/oi"}
    [delivery] = receiver.deliveries
    assert delivery.is_signed_with(app.secret)
    assert b"Ol\\u00e1\\/oi" in delivery.body


async def test_a_whatsapp_person_writes_with_contact_and_user_id(
    sandbox: SandboxHandle, phone: ChannelHandle, receiver: WebhookReceiver
) -> None:
    await sandbox.script(phone, PERSON, {"type": "text", "text": "Oi"})
    await sandbox.flush()
    [value] = receiver.changes("messages")
    [contact] = value["contacts"]
    [message] = value["messages"]
    assert contact["wa_id"] == message["from"] == PERSON
    assert contact["user_id"] == message["from_user_id"]
    assert contact["profile"]["name"]
    assert (message["type"], message["text"]) == ("text", {"body": "Oi"})
    assert message["timestamp"].isdecimal()
    assert value["metadata"]["phone_number_id"] == phone.id


async def test_of_who_hides_the_number_only_the_user_id_is_told(
    sandbox: SandboxHandle, phone: ChannelHandle, receiver: WebhookReceiver
) -> None:
    person = {"id": PERSON, "name": "Zé da Silva", "user_id": "BR.77", "hides_number": True}
    await sandbox.call("PUT", "people", {"channel": phone.id, "people": [person]})
    await sandbox.script(phone, PERSON, {"type": "text"})
    await sandbox.flush()
    [value] = receiver.changes("messages")
    assert value["contacts"] == [{"profile": {"name": "Zé da Silva"}, "user_id": "BR.77"}]
    assert "from" not in value["messages"][0]


@pytest.mark.parametrize("kind", EVERYTHING)
async def test_everything_a_person_can_do_is_told_on_both_channels(
    sandbox: SandboxHandle, page: ChannelHandle, phone: ChannelHandle, receiver: WebhookReceiver, kind: str
) -> None:
    fields = "messages,message_reactions,message_edits,messaging_optins,messaging_referrals,send_cart,message_echoes"
    query = {"access_token": page.token, "subscribed_fields": fields}
    assert (await sandbox.http.post(f"/{page.id}/subscribed_apps", params=query)).is_success
    for channel, person in ((page, PSID), (phone, PERSON)):
        await sandbox.script(channel, person, {"type": kind, "text": "Hello", "emoji": "❤"})
    await sandbox.flush()
    assert len(receiver.events()) == 1
    fields_told = ["messages", "user_preferences", "smb_message_echoes"]
    assert sum(len(receiver.changes(field)) for field in fields_told) == 1


async def test_what_a_channel_does_not_have_is_refused_and_nothing_of_the_script_happens(
    sandbox: SandboxHandle, page: ChannelHandle, receiver: WebhookReceiver
) -> None:
    body = {"channel": page.id, "person": PSID, "events": [{"type": "text"}, {"type": "contacts"}]}
    answer = await sandbox.http.post("/sandbox/customers/script", json=body)
    assert answer.status_code == 400
    assert "no webhook for contacts" in answer.text
    await sandbox.flush()
    assert receiver.deliveries == []


async def test_a_tap_names_what_the_last_message_offered(
    sandbox: SandboxHandle, page: ChannelHandle, phone: ChannelHandle, receiver: WebhookReceiver
) -> None:
    await sandbox.script(page, PSID, {"type": "text"})
    await sandbox.script(phone, PERSON, {"type": "text"})
    await sandbox.flush()
    recipient: dict[str, Any] = {"recipient": {"id": PSID}}
    message: dict[str, Any] = {"text": "Well?", "quick_replies": [QUICK]}
    await sandbox.post(page, {**recipient, "message": message})
    await sandbox.script(page, PSID, {"type": "tap"})
    await sandbox.post(page, {**recipient, "message": {"attachment": {"type": "template", "payload": BUTTONS}}})
    await sandbox.script(page, PSID, {"type": "tap", "after_ms": 5})
    action = {"buttons": [{"type": "reply", "reply": {"id": "yes", "title": "Yes"}}]}
    interactive = {"type": "button", "body": {"text": "Well?"}, "action": action}
    sent = await sandbox.post(
        phone, {"messaging_product": "whatsapp", "to": PERSON, "type": "interactive", "interactive": interactive}
    )
    await sandbox.script(phone, PERSON, {"type": "tap"})
    await sandbox.flush()
    taps = [event for event in receiver.events() if "quick_reply" in event.get("message", {}) or "postback" in event]
    assert taps[0]["message"]["quick_reply"] == {"payload": "YES"}
    assert (taps[0]["message"]["text"], taps[1]["postback"]["payload"]) == ("Yes", "GO")
    reply = receiver.inbound()[-1]
    assert reply["interactive"] == {"type": "button_reply", "button_reply": {"id": "yes", "title": "Yes"}}
    assert reply["context"]["id"] == sent.json()["messages"][0]["id"]


async def test_reactions_and_quotes_name_our_last_message_and_edits_their_own(
    sandbox: SandboxHandle, phone: ChannelHandle, receiver: WebhookReceiver
) -> None:
    ours = (await sandbox.send_text(phone, PERSON)).json()["messages"][0]["id"]
    said = await sandbox.script(
        phone,
        PERSON,
        {"type": "text", "text": "Tanks", "reply_to": "last"},
        {"type": "reaction", "emoji": "👍"},
        {"type": "edit", "text": "Thanks"},
        {"type": "unsend"},
    )
    await sandbox.flush()
    text, reaction, edit, revoke = receiver.inbound()
    assert text["context"]["id"] == ours
    assert reaction["reaction"] == {"message_id": ours, "emoji": "👍"}
    assert edit["edit"]["original_message_id"] == revoke["revoke"]["original_message_id"] == said[0]["id"]


async def test_a_message_opens_the_window_for_a_day(sandbox: SandboxHandle, page: ChannelHandle) -> None:
    await sandbox.freeze_clock()
    await sandbox.configure(page, window="closed")
    assert (await sandbox.send_text(page, PSID)).json()["error"]["error_subcode"] == 2018278
    await sandbox.script(page, PSID, {"type": "text"})
    await sandbox.advance_clock(1)
    await sandbox.flush()
    assert (await sandbox.send_text(page, PSID)).is_success
    await sandbox.advance_clock(24 * 3600)
    assert (await sandbox.send_text(page, PSID)).json()["error"]["error_subcode"] == 2018278


async def test_who_opted_out_gets_no_marketing_any_more(
    sandbox: SandboxHandle, phone: ChannelHandle, receiver: WebhookReceiver
) -> None:
    await sandbox.add_template(phone, "news", body_parameters=0)
    template = {"name": "news", "language": {"code": "en_US"}}
    body = {"messaging_product": "whatsapp", "to": PERSON, "type": "template", "template": template}
    assert (await sandbox.post(phone, body)).is_success
    await sandbox.script(phone, PERSON, {"type": "opt_out"})
    await sandbox.flush()
    [preference] = receiver.changes("user_preferences")[0]["user_preferences"]
    assert (preference["value"], preference["category"]) == ("stop", "marketing_messages")
    assert (await sandbox.post(phone, body)).json()["error"]["code"] == 131050


async def test_webhook_faults_strike_what_people_do(
    sandbox: SandboxHandle, phone: ChannelHandle, receiver: WebhookReceiver
) -> None:
    await sandbox.add_faults(
        {"kind": "webhook_duplicate", "fields": ["inbound"]}, {"kind": "webhook_disorder", "fields": ["inbound"]}
    )
    said = await sandbox.script(phone, PERSON, {"type": "text"}, {"type": "text", "after_ms": 100})
    await sandbox.flush()
    ids = [message["id"] for message in receiver.inbound()]
    assert ids == [said[1]["id"], said[1]["id"], said[0]["id"], said[0]["id"]]
    await sandbox.clear_faults()
    await sandbox.add_faults({"kind": "webhook_drop", "fields": ["inbound"]})
    await sandbox.script(phone, PERSON, {"type": "text"})
    await sandbox.flush()
    assert len(receiver.inbound()) == 4


async def seeded_replies(sandbox: SandboxHandle, phone: ChannelHandle, receiver: WebhookReceiver) -> list[Any]:
    before = len(receiver.inbound())
    habits = {"reply_rate": 0.3, "reaction_rate": 0.2, "opt_out_rate": 0.05, "edit_rate": 0.5, "media_rate": 0.3}
    await sandbox.configure(phone, messages_per_second=None, customers=habits)
    for number in range(60):
        await sandbox.send_text(phone, f"55119999{number:05}", key=f"key-{number}")
    await sandbox.flush()
    return sorted((message["from"], message["type"]) for message in receiver.inbound()[before:])


async def test_habits_are_the_seed_s_and_not_the_timing_s(
    sandbox: SandboxHandle, phone: ChannelHandle, receiver: WebhookReceiver
) -> None:
    first = await seeded_replies(sandbox, phone, receiver)
    assert {"text", "reaction"} < {kind for _, kind in first}
    assert 10 < len(first) < 60
    await sandbox.reset(keep_accounts=True)
    assert await seeded_replies(sandbox, phone, receiver) == first
    await sandbox.reset(keep_accounts=True)
    await sandbox.seed(2)
    assert await seeded_replies(sandbox, phone, receiver) != first


async def test_what_happens_needs_no_callback(sandbox: SandboxHandle, page: ChannelHandle) -> None:
    await sandbox.script(page, PSID, {"type": "text", "text": "Anyone?"})
    await sandbox.flush()
    answer = await sandbox.get(page, f"{page.id}/conversations", fields="snippet,unread_count")
    [thread] = answer.json()["data"]
    assert (thread["snippet"], thread["unread_count"]) == ("Anyone?", 1)


async def test_typing_and_read_receipts_are_noted(
    sandbox: SandboxHandle, page: ChannelHandle, phone: ChannelHandle
) -> None:
    [said] = await sandbox.script(phone, PERSON, {"type": "text"})
    await sandbox.flush()
    for action in ("mark_seen", "typing_on"):
        await sandbox.post(page, {"recipient": {"id": PSID}, "sender_action": action})
    read = {"messaging_product": "whatsapp", "status": "read", "message_id": said["id"]}
    assert (await sandbox.post(phone, {**read, "typing_indicator": {"type": "text"}})).json() == {"success": True}
    assert [a["action"] for a in await sandbox.actions(page)] == ["mark_seen", "typing_on"]
    assert [(a["action"], a["recipient"]) for a in await sandbox.actions(phone)] == [
        ("read", PERSON),
        ("typing", PERSON),
    ]


async def test_templates_are_made_reviewed_and_deleted_and_the_account_is_told(
    sandbox: SandboxHandle, phone: ChannelHandle, receiver: WebhookReceiver
) -> None:
    headers = {"authorization": f"Bearer {phone.token}"}
    body = {"name": "hi", "language": "en_US", "category": "UTILITY", "components": [{"type": "BODY", "text": "Hi"}]}
    made = (await sandbox.http.post(f"/{phone.waba_id}/message_templates", json=body, headers=headers)).json()
    assert made["status"] == "PENDING"
    await sandbox.flush()
    listed = (await sandbox.get(phone, f"{phone.waba_id}/message_templates")).json()["data"]
    assert [template["status"] for template in listed] == ["APPROVED"]
    gone = await sandbox.http.delete(f"/{phone.waba_id}/message_templates", params={"name": "hi"}, headers=headers)
    assert gone.json() == {"success": True}
    await sandbox.flush()
    told = receiver.changes("message_template_status_update")
    assert [(value["event"], value["message_template_id"]) for value in told] == [
        ("APPROVED", int(made["id"])),
        ("DELETED", int(made["id"])),
    ]
