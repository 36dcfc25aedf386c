"""Webhooks that are about no message of ours: what people do, and what Meta has to say of templates and accounts."""

import json
from typing import Any, Literal, NamedTuple

from pombo.sandbox.accounts import OBJECT_OF, Account, App, Channel, WebhookObject


class Notice(NamedTuple):
    """`item` is one element of the entry's `holder`, in Meta's escaped ASCII. `at` is the entry's time, if any."""

    app: App
    webhook_object: WebhookObject
    entry_id: str
    field: str
    holder: Literal["messaging", "standby", "changes"]
    item: str
    channel: Channel | None = None
    """Whose subscription decides; None where the account's does."""
    account: Account | None = None
    at: float | None = None

    @property
    def is_wanted(self) -> bool:
        if self.webhook_object not in self.app.callbacks:
            return False
        if self.account is not None:
            return self.account.subscribed
        return self.channel is not None and self.channel.wants(self.field)


def of_channel(
    channel: Channel, field: str, item: Any, *, holder: Literal["messaging", "standby", "changes"] | None = None
) -> Notice:
    """Of a Page an event (a `messaging` item unless `holder` says otherwise), of a number a change's value."""
    if channel.kind == "messenger":
        return Notice(channel.app, "page", channel.id, field, holder or "messaging", escaped_json(item), channel)
    change = {"value": item, "field": field}
    webhook_object = OBJECT_OF[channel.kind]
    return Notice(channel.app, webhook_object, channel.account_id, field, "changes", escaped_json(change), channel)


def of_account(account: Account, field: str, value: Any, at: float) -> Notice:
    """A management field, such as message_template_status_update: its entry has a time."""
    change = escaped_json({"value": value, "field": field})
    return Notice(
        account.app, "whatsapp_business_account", account.id, field, "changes", change, account=account, at=at
    )


def escaped_json(value: Any) -> str:
    """Everything outside ASCII escaped, slashes too: the form that Meta signs."""
    return json.dumps(value, separators=(",", ":")).replace("/", "\\/")
