"""pywa, a WhatsApp client library of others, takes the sandbox for Meta: what it sends passes, what comes it can read.

It knows Meta's shapes from its own years with them, so it judges the sandbox as no test of ours can.
"""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from pywa.types.templates import (
    BodyText,
    Buttons,
    ParamFormat,
    QuickReplyButton,
    Template,
    TemplateCategory,
    TemplateLanguage,
)
from pywa_async import WhatsApp, types
from pywa_async.errors import ReEngagementMessage, WhatsAppError

from tests.sandbox_server import ChannelHandle, SandboxHandle
from tests.webhook_receiver import WebhookReceiver

PERSON = "5511987654321"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(200)


class Client:
    """A pywa client of the sandbox, and the updates that it has read."""

    def __init__(self, sandbox: SandboxHandle, phone: ChannelHandle) -> None:
        session = httpx.AsyncClient(verify=False, trust_env=False)
        self.session = session
        self.wa = WhatsApp(
            phone_id=phone.id,
            token=phone.token,
            session=session,
            server=None,
            waba_id=phone.waba_id,
            app_secret=phone.app.secret,
            verify_token=phone.app.verify_token,
            skip_duplicate_updates=False,
        )
        # pywa has no setting for another server than Meta's.
        session.base_url = httpx.URL(f"{sandbox.base_url}/v26.0")
        self.updates: list[Any] = []
        self.raw: list[dict[str, Any]] = []

        @self.wa.on_raw_update
        async def keep_raw(_: WhatsApp, update: Any) -> None:
            self.raw.append(update)

        for listen in (
            self.wa.on_message,
            self.wa.on_callback_button,
            self.wa.on_callback_selection,
            self.wa.on_message_status,
            self.wa.on_user_marketing_preferences,
            self.wa.on_template_status_update,
        ):
            listen(self._keep)

    async def _keep(self, _: WhatsApp, update: Any) -> None:
        self.updates.append(update)

    async def hear(self, receiver: WebhookReceiver) -> list[Any]:
        """What the receiver got so far, each validated and read by pywa."""
        for delivery in receiver.accepted():
            refused = await self.wa.webhook_update_validator(delivery.body, delivery.headers.get("x-hub-signature-256"))
            assert refused is None, refused
            await self.wa.webhook_update_handler(delivery.body)
        receiver.deliveries.clear()
        heard, self.updates = self.updates, []
        return heard


@pytest.fixture
async def client(sandbox: SandboxHandle, phone: ChannelHandle) -> AsyncIterator[Client]:
    # One update a post, for pywa reads the first of each; and one post at a time, so that they come in order.
    await sandbox.configure_pump(max_updates=1, connections=1)
    made = Client(sandbox, phone)
    yield made
    await made.session.aclose()


async def test_a_text_is_sent_and_its_statuses_are_read(
    sandbox: SandboxHandle, phone: ChannelHandle, receiver: WebhookReceiver, client: Client
) -> None:
    await sandbox.configure(phone, delivered_rate=1, read_rate=1)
    sent = await client.wa.send_message(PERSON, "Hello", tracker="key-1")
    await sandbox.flush()
    heard = await client.hear(receiver)
    assert [update.status.value for update in heard] == ["sent", "delivered", "read"]
    assert {update.id for update in heard} == {sent.id}
    assert {update.tracker for update in heard} == {"key-1"}


async def test_media_are_uploaded_sent_and_those_of_a_customer_downloaded(
    sandbox: SandboxHandle, phone: ChannelHandle, receiver: WebhookReceiver, client: Client
) -> None:
    sent = await client.wa.send_image(PERSON, PNG, caption="Look", mime_type="image/png")
    assert sent.id
    media = {"content_base64": "JVBERi0x", "filename": "bill.pdf"}
    await sandbox.script(phone, PERSON, {"type": "file", "text": "The bill", "media": media})
    await sandbox.flush()
    [message] = [update for update in await client.hear(receiver) if isinstance(update, types.Message)]
    assert (message.document.filename, message.caption) == ("bill.pdf", "The bill")
    url = (await client.wa.get_media_url(message.document.id)).url
    assert await client.wa.get_media_bytes(url) == b"%PDF-1"


async def test_a_template_is_made_approved_sent_and_tapped(
    sandbox: SandboxHandle, phone: ChannelHandle, receiver: WebhookReceiver, client: Client
) -> None:
    template = Template(
        name="parcel",
        language=TemplateLanguage.ENGLISH_US,
        category=TemplateCategory.UTILITY,
        parameter_format=ParamFormat.NAMED,
        components=[
            BodyText("Hello {{name}}, it is on its way.", name="Ana"),
            Buttons(buttons=[QuickReplyButton(text="Track it")]),
        ],
    )
    made = await client.wa.create_template(template)
    assert made.status == "PENDING"
    await sandbox.flush()
    [told] = await client.hear(receiver)
    assert (told.template_name, told.new_status) == ("parcel", "APPROVED")
    listed = await client.wa.get_templates()
    assert [each.name for each in listed] == ["parcel"]

    await sandbox.script(phone, PERSON, {"type": "text", "text": "Where is it?"})
    await sandbox.flush()
    await client.wa.send_template(
        PERSON,
        "parcel",
        TemplateLanguage.ENGLISH_US,
        [BodyText.params(name="Ana"), QuickReplyButton.params(index=0, callback_data="track")],
    )
    await sandbox.script(phone, PERSON, {"type": "tap"})
    await sandbox.flush()
    heard = await client.hear(receiver)
    [tap] = [update for update in heard if isinstance(update, types.CallbackButton)]
    assert (tap.data, tap.title) == ("track", "Track it")


async def test_what_customers_do_is_read_as_what_it_is(
    sandbox: SandboxHandle, phone: ChannelHandle, receiver: WebhookReceiver, client: Client
) -> None:
    sent = await client.wa.send_message(PERSON, "Well?", buttons=[types.Button(title="Yes", callback_data="yes")])
    await sandbox.script(
        phone,
        PERSON,
        {"type": "text", "text": "Oi", "reply_to": "last"},
        {"type": "image", "text": "Photo"},
        {"type": "location"},
        {"type": "reaction", "emoji": "❤"},
        {"type": "contacts", "title": "Bia"},
        {"type": "sticker"},
        {"type": "audio", "media": {"voice": True}},
        {"type": "tap", "tap": "button_reply", "title": "Yes", "payload": "yes"},
        {"type": "opt_out"},
        {"type": "unsupported"},
        {"type": "referral"},
    )
    await sandbox.flush()
    heard = [update for update in await client.hear(receiver) if not isinstance(update, types.MessageStatus)]
    by_type = {update.type.value: update for update in heard if isinstance(update, types.Message)}
    assert by_type.keys() >= {"text", "image", "location", "reaction", "contacts", "sticker", "audio", "unsupported"}
    [said] = [update for update in heard if getattr(update, "text", None) == "Oi"]
    assert said.from_user.wa_id == PERSON
    assert said.reply_to_message.id == sent.id
    assert by_type["image"].caption == "Photo"
    assert (by_type["reaction"].reaction.emoji, by_type["reaction"].reaction.message_id) == ("❤", sent.id)
    assert by_type["contacts"].contacts[0].name.formatted_name == "Bia"
    assert by_type["audio"].audio.voice
    assert [update.data for update in heard if isinstance(update, types.CallbackButton)] == ["yes"]
    [preference] = [update for update in heard if isinstance(update, types.UserMarketingPreferences)]
    assert not preference


async def test_reading_and_typing_are_taken(
    sandbox: SandboxHandle, phone: ChannelHandle, receiver: WebhookReceiver, client: Client
) -> None:
    await sandbox.script(phone, PERSON, {"type": "text"})
    await sandbox.flush()
    [message] = await client.hear(receiver)
    assert await message.mark_as_read()
    assert await message.indicate_typing()
    assert [each["action"] for each in await sandbox.actions(phone)] == ["read", "read", "typing"]


async def test_errors_are_raised_as_what_they_are(sandbox: SandboxHandle, phone: ChannelHandle, client: Client) -> None:
    await sandbox.configure(phone, window="closed")
    with pytest.raises(ReEngagementMessage):
        await client.wa.send_message(PERSON, "Hello")
    with pytest.raises(WhatsAppError) as refused:
        await client.wa.send_template(PERSON, "none", TemplateLanguage.ENGLISH_US, [])
    assert refused.value.code == 132001


async def test_a_forged_webhook_is_refused(client: Client) -> None:
    body = json.dumps({"object": "whatsapp_business_account", "entry": []}).encode()
    assert await client.wa.webhook_update_validator(body, "sha256=" + "0" * 64) is not None
