"""The webhook pump: exact signatures, batches, retries, and webhooks that come twice, late, disordered or never."""

import asyncio
import json
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.sandbox_server import AppHandle, ChannelHandle, SandboxHandle
from tests.webhook_receiver import WebhookReceiver, running_receiver

PSID = "7012345678901234"
PERSON = "5511999990001"


@pytest.fixture(autouse=True)
async def everything_is_read(sandbox: SandboxHandle, page: ChannelHandle, phone: ChannelHandle) -> None:
    await sandbox.configure(delivered_rate=1, read_rate=1)


def names(events: list[dict[str, Any]]) -> list[str]:
    return [next(name for name in ("message", "delivery", "read") if name in event) for event in events]


async def test_messenger_is_told_by_echo_delivery_and_read(
    sandbox: SandboxHandle, page: ChannelHandle, receiver: WebhookReceiver
) -> None:
    answer = (await sandbox.send_text(page, PSID, "Hello", key="key-1")).json()
    await sandbox.flush()
    echo, delivery, read = receiver.events()
    page_to_person = {"sender": {"id": page.id}, "recipient": {"id": PSID}}
    person_to_page = {"sender": {"id": PSID}, "recipient": {"id": page.id}}
    assert echo.items() >= page_to_person.items()
    assert echo["message"] == {
        "mid": answer["message_id"],
        "is_echo": True,
        "app_id": int(page.app.id),
        "metadata": "key-1",
        "text": "Hello",
    }
    assert delivery.items() >= person_to_page.items()
    assert delivery["delivery"]["mids"] == [answer["message_id"]]
    assert delivery["delivery"]["watermark"] >= echo["timestamp"]
    assert read.items() >= person_to_page.items()
    assert set(read["read"]) == {"watermark"}


async def test_whatsapp_is_told_by_statuses(
    sandbox: SandboxHandle, phone: ChannelHandle, receiver: WebhookReceiver
) -> None:
    answer = (await sandbox.send_text(phone, PERSON, key="key-1")).json()
    await sandbox.flush()
    assert [status["status"] for status in receiver.statuses()] == ["sent", "delivered", "read"]
    for status in receiver.statuses():
        assert status["id"] == answer["messages"][0]["id"]
        assert status["recipient_id"] == PERSON
        assert status["biz_opaque_callback_data"] == "key-1"
        assert status["timestamp"].isdecimal()
    assert receiver.statuses()[0]["pricing"]["category"] == "service"
    envelope = receiver.accepted()[0].json
    assert envelope["object"] == "whatsapp_business_account"
    assert envelope["entry"][0]["id"] == phone.waba_id
    assert envelope["entry"][0]["changes"][0]["field"] == "messages"
    assert envelope["entry"][0]["changes"][0]["value"]["metadata"]["phone_number_id"] == phone.id


async def test_the_signature_is_over_the_exact_escaped_bytes(
    sandbox: SandboxHandle, app: AppHandle, page: ChannelHandle, phone: ChannelHandle, receiver: WebhookReceiver
) -> None:
    text = "äöå 👍 a/b"
    await sandbox.send_text(page, PSID, text, key="clé/1")
    await sandbox.send_text(phone, PERSON, text, key="clé/2")
    await sandbox.flush()
    assert {delivery.json["object"] for delivery in receiver.deliveries} == {"page", "whatsapp_business_account"}
    for delivery in receiver.deliveries:
        assert delivery.body.isascii()
        assert delivery.is_signed_with(app.secret)
        assert not delivery.is_signed_with("another secret")
        assert json.dumps(delivery.json).encode() != delivery.body
    written = b"".join(delivery.body for delivery in receiver.deliveries)
    assert rb'"text":"\u00e4\u00f6\u00e5 \ud83d\udc4d a\/b"' in written
    assert rb'"metadata":"cl\u00e9\/1"' in written
    assert rb'"biz_opaque_callback_data":"cl\u00e9\/2"' in written
    echoed = next(event for event in receiver.events() if "message" in event)
    assert echoed["message"]["text"] == text


async def test_an_attachment_comes_back_in_the_echo(
    sandbox: SandboxHandle, page: ChannelHandle, receiver: WebhookReceiver
) -> None:
    attachment = {"type": "image", "payload": {"url": "https://example.com/ä.png"}}
    await sandbox.post(page, {"recipient": {"id": PSID}, "message": {"attachment": attachment}})
    await sandbox.flush()
    assert receiver.events()[0]["message"]["attachments"] == [attachment]


async def test_updates_are_batched_up_to_the_limit(
    sandbox: SandboxHandle, page: ChannelHandle, phone: ChannelHandle, receiver: WebhookReceiver
) -> None:
    await sandbox.freeze_clock()
    await sandbox.configure_pump(max_updates=4)
    second = await sandbox.add_phone(phone.app, waba_id=phone.waba_id)
    for channel, recipient in ((page, PSID), (phone, PERSON), (second, PERSON)):
        await sandbox.configure(channel, delivered_rate=0)
        for number in range(5):
            await sandbox.send_text(channel, f"{recipient[:-1]}{number}")
    await sandbox.flush()
    assert len(receiver.events()) == 5
    assert len(receiver.statuses()) == 10
    sizes: dict[str, list[int]] = {"page": [], "whatsapp_business_account": []}
    for delivery in receiver.accepted():
        envelope = delivery.json
        sizes[envelope["object"]].append(
            sum(
                len(entry["messaging"])
                if "messaging" in entry
                else sum(len(change["value"]["statuses"]) for change in entry["changes"])
                for entry in envelope["entry"]
            )
        )
    assert {name: sorted(found) for name, found in sizes.items()} == {
        "page": [1, 4],
        "whatsapp_business_account": [2, 4, 4],
    }


async def test_a_post_stays_below_three_megabytes(
    sandbox: SandboxHandle, page: ChannelHandle, receiver: WebhookReceiver
) -> None:
    await sandbox.freeze_clock()
    await sandbox.configure(page, brake_per_second=None, calls_per_second=None, delivered_rate=0)
    # Each of these characters takes twelve bytes when escaped, so 24 kB an echo.
    form = {"recipient": json.dumps({"id": PSID}), "message": json.dumps({"text": "👍" * 2000})}
    item = {"method": "POST", "relative_url": "me/messages", "body": urlencode(form)}
    for count in (50, 50, 30):
        await sandbox.http.post("/", json={"access_token": page.token, "batch": [item] * count})
    await sandbox.flush()
    assert len(receiver.events()) == 130
    assert len(receiver.deliveries) == 2
    assert max(len(delivery.body) for delivery in receiver.deliveries) < 3_000_000


@pytest.mark.parametrize("status", [500, 301, 204, 0])
async def test_a_post_is_repeated_unchanged_until_it_is_answered_with_200(
    sandbox: SandboxHandle, page: ChannelHandle, receiver: WebhookReceiver, status: int
) -> None:
    receiver.answers.extend([status] * 3)
    await sandbox.freeze_clock()
    await sandbox.send_text(page, PSID, key="key-1")
    await sandbox.flush()
    assert [delivery.status for delivery in receiver.deliveries] == [status] * 3 + [200]
    assert len({delivery.body for delivery in receiver.deliveries}) == 1
    assert names(receiver.events()) == ["message", "delivery", "read"]
    stats = (await sandbox.stats())["webhooks"]
    assert (stats["posts_failed"], stats["posts_delivered"], stats["updates_delivered"]) == (3, 1, 3)
    assert stats["updates_pending"] == 0
    assert (await sandbox.ledger())["read"] == 1


async def test_the_pauses_between_attempts_double(
    sandbox: SandboxHandle, phone: ChannelHandle, receiver: WebhookReceiver
) -> None:
    await sandbox.configure_pump(tick_ms=1)
    await sandbox.freeze_clock()
    await sandbox.configure(phone, delivered_rate=0)
    receiver.answers.extend([500] * 5)
    await sandbox.send_text(phone, PERSON)
    await sandbox.advance_clock(1)
    # The first attempt, and the second at once; then after 1, 2 and 4 seconds, and not a moment earlier.
    await failed_posts(sandbox, 2)
    for pause, failed in ((0.9, 2), (0.1, 3), (1.9, 3), (0.1, 4), (3.9, 4), (0.1, 5)):
        await sandbox.advance_clock(pause)
        await failed_posts(sandbox, failed)
    await sandbox.flush()
    assert [delivery.status for delivery in receiver.deliveries] == [500] * 5 + [200]


async def failed_posts(sandbox: SandboxHandle, count: int) -> None:
    """Wait for this many failed attempts; more are an error."""
    await sandbox.until(lambda: has_failed(sandbox, count))
    assert (await sandbox.stats())["webhooks"]["posts_failed"] == count


async def has_failed(sandbox: SandboxHandle, count: int) -> bool:
    posts_failed: int = (await sandbox.stats())["webhooks"]["posts_failed"]
    return posts_failed >= count


async def test_nothing_is_lost_while_the_receiver_is_away(
    sandbox: SandboxHandle, app: AppHandle, page: ChannelHandle, phone: ChannelHandle
) -> None:
    async with running_receiver() as first:
        port = first.port
        await sandbox.set_webhook(app, first.url)
        await sandbox.send_text(page, PSID, key="key-0")
        await sandbox.flush()
        assert len(first.events()) == 3
    for number in range(1, 6):
        await sandbox.send_text(page, PSID, key=f"key-{number}")
        await sandbox.send_text(phone, PERSON, key=f"status-{number}")
    flushing = asyncio.create_task(sandbox.flush())
    await sandbox.until(lambda: has_failed(sandbox, 1))
    async with running_receiver(port) as second:
        await flushing
        echoes = [event["message"]["metadata"] for event in second.events() if "message" in event]
        assert sorted(echoes) == [f"key-{number}" for number in range(1, 6)]
        assert len(second.events()) == len(second.statuses()) == 15
    assert (await sandbox.ledger())["read"] == 11


async def test_a_receiver_that_never_answers_is_given_up_after_the_time_out(
    sandbox: SandboxHandle, app: AppHandle, page: ChannelHandle
) -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    await sandbox.configure_pump(timeout_ms=20, tick_ms=5, time_scale=0.001)
    await sandbox.set_webhook(app, f"http://127.0.0.1:{port}/webhook")
    await sandbox.send_text(page, PSID)
    await sandbox.until(lambda: has_failed(sandbox, 3))
    await sandbox.set_webhook(app, None)
    await sandbox.flush()
    assert (await sandbox.stats())["webhooks"]["updates_abandoned"] == 3
    server.close()
    await server.wait_closed()


async def test_a_page_is_given_an_hour_and_is_then_unsubscribed(
    sandbox: SandboxHandle, page: ChannelHandle, receiver: WebhookReceiver
) -> None:
    await sandbox.freeze_clock()
    await sandbox.send_text(page, PSID)
    assert await abandoned_around(sandbox, receiver, 3600) == [0, 3]
    listed = await sandbox.http.get(f"/{page.id}/subscribed_apps", params={"access_token": page.token})
    assert listed.json() == {"data": []}


async def test_a_number_is_given_seven_days(
    sandbox: SandboxHandle, phone: ChannelHandle, receiver: WebhookReceiver
) -> None:
    await sandbox.freeze_clock()
    await sandbox.send_text(phone, PERSON)
    assert await abandoned_around(sandbox, receiver, 7 * 86400) == [0, 3]


async def abandoned_around(sandbox: SandboxHandle, receiver: WebhookReceiver, limit: float) -> list[int]:
    """How many updates are given up ten seconds before and ten seconds after this long a failure."""
    receiver.answers.extend([500] * 10)
    await sandbox.advance_clock(3)
    await failed_posts(sandbox, 2)
    abandoned = []
    for seconds, failed in ((limit - 10, 3), (20, 4)):
        await sandbox.advance_clock(seconds)
        await failed_posts(sandbox, failed)
        abandoned.append((await sandbox.stats())["webhooks"]["updates_abandoned"])
    return abandoned


async def test_few_connections_carry_many_posts(
    sandbox: SandboxHandle, page: ChannelHandle, receiver: WebhookReceiver
) -> None:
    await sandbox.configure_pump(max_updates=1, connections=2)
    for _ in range(10):
        await sandbox.send_text(page, PSID)
    await sandbox.flush()
    assert len(receiver.deliveries) == 30
    assert receiver.connections <= 2


async def test_only_subscribed_fields_are_told(
    sandbox: SandboxHandle, page: ChannelHandle, phone: ChannelHandle, receiver: WebhookReceiver
) -> None:
    query = {"access_token": page.token, "subscribed_fields": "messages,message_reads"}
    assert (await sandbox.http.post(f"/{page.id}/subscribed_apps", params=query)).json() == {"success": True}
    headers = {"authorization": f"Bearer {phone.token}"}
    await sandbox.http.delete(f"/{phone.waba_id}/subscribed_apps", headers=headers)
    await sandbox.send_text(page, PSID)
    await sandbox.send_text(phone, PERSON)
    await sandbox.flush()
    assert names(receiver.events()) == ["read"]
    assert receiver.statuses() == []


async def test_a_callback_may_be_for_one_kind_of_object_only(
    sandbox: SandboxHandle, app: AppHandle, page: ChannelHandle, phone: ChannelHandle, receiver: WebhookReceiver
) -> None:
    await sandbox.set_webhook(app, None, object="page")
    await sandbox.send_text(page, PSID)
    await sandbox.send_text(phone, PERSON)
    await sandbox.flush()
    assert (len(receiver.events()), len(receiver.statuses())) == (0, 3)


async def test_a_delivery_may_come_without_mids(
    sandbox: SandboxHandle, page: ChannelHandle, receiver: WebhookReceiver
) -> None:
    await sandbox.configure(page, delivery_mids=False, read_rate=0)
    await sandbox.send_text(page, PSID)
    await sandbox.flush()
    assert set(receiver.events()[1]["delivery"]) == {"watermark"}
    assert (await sandbox.ledger())["delivered"] == 1


async def test_a_doubled_webhook_comes_twice_with_its_content(
    sandbox: SandboxHandle, page: ChannelHandle, phone: ChannelHandle, receiver: WebhookReceiver
) -> None:
    await sandbox.add_faults({"kind": "webhook_duplicate", "fields": ["echo", "read"], "delay_ms": 500})
    await sandbox.send_text(page, PSID, "Hello", key="key-1")
    await sandbox.send_text(phone, PERSON)
    await sandbox.flush()
    assert sorted(names(receiver.events())) == ["delivery", "message", "message", "read", "read"]
    assert [event["message"]["text"] for event in receiver.events() if "message" in event] == ["Hello"] * 2
    statuses = sorted(status["status"] for status in receiver.statuses())
    assert statuses == ["delivered", "read", "read", "sent", "sent"]


async def test_disorder_turns_the_steps_of_a_message_around(
    sandbox: SandboxHandle, page: ChannelHandle, phone: ChannelHandle, receiver: WebhookReceiver
) -> None:
    await sandbox.add_faults({"kind": "webhook_disorder"})
    await sandbox.send_text(page, PSID)
    await sandbox.send_text(phone, PERSON)
    await sandbox.flush()
    assert names(receiver.events()) == ["read", "delivery", "message"]
    assert [status["status"] for status in receiver.statuses()] == ["read", "delivered", "sent"]
    assert (await sandbox.ledger())["read"] == 2


async def test_a_late_webhook_waits_by_the_sandbox_s_clock(
    sandbox: SandboxHandle, phone: ChannelHandle, receiver: WebhookReceiver
) -> None:
    await sandbox.freeze_clock()
    await sandbox.configure_pump(tick_ms=1)
    await sandbox.add_faults({"kind": "webhook_late", "fields": ["delivered"], "delay_ms": 60_000})
    await sandbox.send_text(phone, PERSON)
    await sandbox.advance_clock(30)
    await receiver.wait_for(1)
    assert [status["status"] for status in receiver.statuses()] == ["sent", "read"]
    await sandbox.advance_clock(31)
    await receiver.wait_for(2)
    assert [status["status"] for status in receiver.statuses()] == ["sent", "read", "delivered"]


async def test_a_dropped_webhook_never_comes(
    sandbox: SandboxHandle, phone: ChannelHandle, receiver: WebhookReceiver
) -> None:
    await sandbox.add_faults({"kind": "webhook_drop", "fields": ["delivered"]})
    await sandbox.send_text(phone, PERSON)
    await sandbox.flush()
    assert [status["status"] for status in receiver.statuses()] == ["sent", "read"]


async def test_an_asynchronous_failure_is_told_after_sent(
    sandbox: SandboxHandle, page: ChannelHandle, phone: ChannelHandle, receiver: WebhookReceiver
) -> None:
    await sandbox.add_faults({"kind": "async_failure", "code": 131049}, {"kind": "async_failure", "code": 131042})
    assert (await sandbox.send_text(phone, PERSON)).status_code == 200
    await sandbox.send_text(page, PSID)
    await sandbox.flush()
    assert [status["status"] for status in receiver.statuses()] == ["sent", "failed"]
    [error] = receiver.statuses()[1]["errors"]
    assert error["code"] == 131042
    assert error["title"] == error["message"] == "Business eligibility payment issue"
    assert names(receiver.events()) == ["message", "delivery", "read"]
    states = {record["channel"]: record["final"] for record in await sandbox.messages()}
    assert states == {phone.id: "failed", page.id: "read"}


async def test_rates_decide_how_many_are_delivered_and_read(
    sandbox: SandboxHandle, phone: ChannelHandle, receiver: WebhookReceiver
) -> None:
    await sandbox.configure(phone, messages_per_second=None, delivered_rate=0.5, read_rate=0.5)
    for number in range(100):
        await sandbox.send_text(phone, f"55119999{number:05}", key=f"key-{number}")
    await sandbox.flush()
    ledger = await sandbox.ledger()
    assert 30 < ledger["delivered"] < 70
    assert 10 < ledger["read"] < 40
    assert ledger["delivered"] == sum(status["status"] == "delivered" for status in receiver.statuses())
    assert ledger["read"] == sum(status["status"] == "read" for status in receiver.statuses())
