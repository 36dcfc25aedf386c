"""WhatsApp templates: states, languages, and the number and form of their parameters."""

from typing import Any

import pytest

from tests.sandbox_server import ChannelHandle, SandboxHandle
from tests.webhook_receiver import WebhookReceiver

PERSON = "5511999990001"
COMPONENTS = [
    {"type": "HEADER", "format": "IMAGE"},
    {"type": "BODY", "text": "Hello {{1}}, order {{2}} is on its way, {{1}}."},
    {"type": "FOOTER", "text": "Bye"},
    {"type": "BUTTONS", "buttons": [{"type": "QUICK_REPLY"}, {"type": "URL", "url": "https://example.com/{{1}}"}]},
]
HEADER = {"type": "header", "parameters": [{"type": "image", "image": {"id": "1"}}]}
URL_BUTTON = {"type": "button", "sub_type": "url", "index": "1", "parameters": [{"type": "text", "text": "x"}]}
QUICK_BUTTON = {"type": "button", "sub_type": "quick_reply", "index": "0", "parameters": [{"type": "payload"}]}


def body_part(*texts: str) -> dict[str, Any]:
    return {"type": "body", "parameters": [{"type": "text", "text": text} for text in texts]}


async def send(
    sandbox: SandboxHandle, phone: ChannelHandle, components: Any = None, *, name: str = "order", language: str = "en"
) -> Any:
    template = {"name": name, "language": {"code": language}}
    template |= {} if components is None else {"components": components}
    answer = await sandbox.post(
        phone, {"messaging_product": "whatsapp", "to": PERSON, "type": "template", "template": template}
    )
    return answer.status_code if answer.is_success else (answer.status_code, answer.json()["error"]["code"])


@pytest.mark.parametrize(
    ("components", "outcome"),
    [
        pytest.param([HEADER, body_part("Ana", "12"), URL_BUTTON], 200, id="all"),
        pytest.param([HEADER, body_part("Ana", "12"), URL_BUTTON, QUICK_BUTTON], 200, id="all and a payload"),
        pytest.param([HEADER, body_part("Ana"), URL_BUTTON], (400, 132000), id="one short"),
        pytest.param([HEADER, body_part("Ana", "12", "x"), URL_BUTTON], (400, 132000), id="one too many"),
        pytest.param([HEADER, body_part("Ana", "12")], (400, 132000), id="no button"),
        pytest.param([body_part("Ana", "12"), URL_BUTTON], (400, 132000), id="no header"),
        pytest.param(None, (400, 132000), id="nothing"),
        pytest.param([HEADER, body_part("Ana", ""), URL_BUTTON], (400, 131008), id="an empty text"),
        pytest.param([HEADER, {"type": "body", "parameters": [{"text": "a"}, {}]}], (400, 132012), id="no type"),
        pytest.param([HEADER, {"type": "body", "parameters": "Ana"}], (400, 132012), id="no array"),
        pytest.param("Ana", (400, 132012), id="no components"),
    ],
)
async def test_parameters_must_match_what_the_template_takes(
    sandbox: SandboxHandle, phone: ChannelHandle, components: Any, outcome: Any
) -> None:
    await sandbox.add_template(phone, "order", language="en", components=COMPONENTS)
    assert await send(sandbox, phone, components) == outcome


async def test_parameters_beyond_a_template_without_any_are_132000(
    sandbox: SandboxHandle, phone: ChannelHandle
) -> None:
    await sandbox.add_template(phone, "order", language="en")
    assert await send(sandbox, phone) == 200
    assert await send(sandbox, phone, [body_part("Ana")]) == (400, 132000)


async def test_named_parameters_must_bear_their_names(sandbox: SandboxHandle, phone: ChannelHandle) -> None:
    components = [{"type": "BODY", "text": "Hello {{first_name}}"}]
    await sandbox.add_template(phone, "order", language="en", components=components)
    named = {"type": "text", "text": "Ana", "parameter_name": "first_name"}
    assert await send(sandbox, phone, [{"type": "body", "parameters": [named]}]) == 200
    assert await send(sandbox, phone, [body_part("Ana")]) == (400, 132012)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        ("APPROVED", 200),
        ("PENDING", (404, 132001)),
        ("REJECTED", (404, 132001)),
        ("PAUSED", (400, 132015)),
        ("DISABLED", (400, 132016)),
    ],
)
async def test_only_an_approved_template_is_sent(
    sandbox: SandboxHandle, phone: ChannelHandle, status: str, outcome: Any
) -> None:
    await sandbox.add_template(phone, "order", language="en", status=status)
    assert await send(sandbox, phone) == outcome


async def test_an_unknown_name_and_an_unknown_language_are_132001(sandbox: SandboxHandle, phone: ChannelHandle) -> None:
    await sandbox.add_template(phone, "order", language="en")
    assert await send(sandbox, phone, name="ordem") == (404, 132001)
    assert await send(sandbox, phone, language="pt_BR") == (404, 132001)


async def test_a_template_of_another_account_is_unknown(sandbox: SandboxHandle, phone: ChannelHandle) -> None:
    other = await sandbox.add_phone(phone.app)
    await sandbox.add_template(other, "order", language="en")
    assert await send(sandbox, phone) == (404, 132001)


async def test_a_paced_template_is_held_and_may_be_dropped(
    sandbox: SandboxHandle, phone: ChannelHandle, receiver: WebhookReceiver
) -> None:
    await sandbox.configure(phone, delivered_rate=1, read_rate=0)
    told = []
    for pacing in ("none", "hold", "drop"):
        await sandbox.add_template(phone, pacing, language="en", pacing=pacing)
        template = {"name": pacing, "language": {"code": "en"}}
        answer = await sandbox.post(
            phone, {"messaging_product": "whatsapp", "to": PERSON, "type": "template", "template": template}
        )
        told.append(answer.json()["messages"][0]["message_status"])
    assert told == ["accepted", "held_for_quality_assessment", "held_for_quality_assessment"]
    await sandbox.flush()
    assert [message["state"] for message in await sandbox.messages()] == ["delivered", "delivered", "failed"]
    assert [status["errors"][0]["code"] for status in receiver.statuses() if "errors" in status] == [132015]


@pytest.mark.parametrize(
    ("category", "pricing"),
    [
        ("MARKETING", {"billable": True, "pricing_model": "PMP", "category": "marketing", "type": "regular"}),
        ("UTILITY", {"billable": True, "pricing_model": "PMP", "category": "utility", "type": "regular"}),
        ("AUTHENTICATION", {"billable": True, "pricing_model": "PMP", "category": "authentication", "type": "regular"}),
    ],
)
async def test_statuses_of_a_template_carry_the_price_of_its_category(
    sandbox: SandboxHandle, phone: ChannelHandle, receiver: WebhookReceiver, category: str, pricing: dict[str, Any]
) -> None:
    await sandbox.configure(phone, delivered_rate=1, read_rate=1)
    await sandbox.add_template(phone, "order", language="en", category=category)
    assert await send(sandbox, phone) == 200
    await sandbox.flush()
    assert [status.get("pricing") for status in receiver.statuses()] == [pricing, pricing, None]
