"""Webhook bodies as Meta writes them: many updates in one POST, everything outside ASCII escaped, slashes too.

Bodies are put together from strings, not serialised from objects: a busy sandbox writes tens of thousands of updates
a second, and the escaped form is what Meta signs.
"""

import json
import math
from collections.abc import Iterable

from pombo.sandbox.accounts import Accounts, Channel
from pombo.sandbox.ledger import DELIVERED, FAILED, READ, SENT, Ledger
from pombo.sandbox.notices import Notice
from pombo.sandbox.people import full_name, user_id_of

NOTICE = READ + 1
"""The event of an update that is no message's state."""

_STATUS = {SENT: "sent", DELIVERED: "delivered", READ: "read", FAILED: "failed"}
_ERRORS_PAGE = "https:\\/\\/developers.facebook.com\\/docs\\/whatsapp\\/cloud-api\\/support\\/error-codes\\/"


def escaped(text: str) -> str:
    """A JSON string in pure ASCII, with slashes escaped as in Meta's samples."""
    return json.dumps(text).replace("/", "\\/")


def milliseconds(seconds: float) -> int:
    """Rounded up, so that a watermark never lies before a message accepted in the same millisecond."""
    return math.ceil(seconds * 1000)


class Payloads:
    """An update is (message number, event), or (its own number, NOTICE).

    `echoes` holds content by number, `failures` (code, title) by number, `notices` what NOTICE stands for.
    """

    def __init__(self, ledger: Ledger, accounts: Accounts) -> None:
        self._ledger = ledger
        self._accounts = accounts
        self.echoes: dict[int, str] = {}
        self.failures: dict[int, tuple[int, str]] = {}
        self.notices: dict[int, Notice] = {}

    def weight(self, number: int, event: int) -> int:
        """About how many bytes an update of this message takes at most, so that a POST stays below Meta's 3 MB."""
        if event == NOTICE:
            return 200 + len(self.notices[number].item)
        return 1000 + 6 * len(self._ledger.key(number) or "") + len(self.echoes.get(number, ""))

    def messenger(self, updates: Iterable[tuple[int, int]], at: float) -> bytes:
        time = milliseconds(at)
        entries = [self._entry(number, event, time) for number, event in updates]
        return f'{{"object":"page","entry":[{",".join(entries)}]}}'.encode("ascii")

    def whatsapp(self, updates: Iterable[tuple[int, int]], at: float) -> bytes:
        """One entry a business account, in it one change a number with all its statuses."""
        time = int(at)
        statuses: dict[str, list[str]] = {}
        contacts: dict[str, dict[str, str]] = {}
        changes: dict[tuple[str, str], list[str]] = {}
        for number, event in updates:
            if event == NOTICE:
                notice = self.notices[number]
                of_entry = "" if notice.at is None else f',"time":{int(notice.at)}'
                changes.setdefault((notice.entry_id, of_entry), []).append(notice.item)
                continue
            channel_id = self._ledger.channel_id(number)
            statuses.setdefault(channel_id, []).append(self._status(number, event, time))
            if event != FAILED:
                recipient = self._ledger.recipient(number)
                told = contacts.setdefault(channel_id, {})
                if recipient not in told:
                    told[recipient] = self._contact(channel_id, recipient)
        for channel_id, of_channel in statuses.items():
            channel = self._accounts.channels[channel_id]
            changes.setdefault((channel.account_id, ""), []).append(
                _change(channel, of_channel, contacts.get(channel_id, {}).values())
            )
        entries = [
            f'{{"id":{escaped(account_id)}{of_entry},"changes":[{",".join(of_account)}]}}'
            for (account_id, of_entry), of_account in changes.items()
        ]
        return f'{{"object":"whatsapp_business_account","entry":[{",".join(entries)}]}}'.encode("ascii")

    def _entry(self, number: int, event: int, time: int) -> str:
        if event == NOTICE:
            notice = self.notices[number]
            return f'{{"id":{escaped(notice.entry_id)},"time":{time},"{notice.holder}":[{notice.item}]}}'
        ledger = self._ledger
        channel = self._accounts.channels[ledger.channel_id(number)]
        page, person = escaped(channel.id), escaped(ledger.recipient(number))
        mid = ledger.provider_id(number)
        if event == SENT:
            key = ledger.key(number)
            metadata = "" if key is None else f',"metadata":{escaped(key)}'
            app_id = channel.app.id if channel.app.id.isdecimal() else escaped(channel.app.id)
            sent_at = milliseconds(ledger.accepted_at(number))
            happening = (
                f'"sender":{{"id":{page}}},"recipient":{{"id":{person}}},"timestamp":{sent_at},'
                f'"message":{{"mid":"{mid}","is_echo":true,"app_id":{app_id}{metadata}{self.echoes.get(number, "")}}}'
            )
        elif event == DELIVERED:
            # Meta's sample of a delivery has no timestamp, and `mids` may be missing.
            mids = f'"mids":["{mid}"],' if channel.settings.delivery_mids else ""
            happening = (
                f'"sender":{{"id":{person}}},"recipient":{{"id":{page}}},"delivery":{{{mids}"watermark":{time}}}'
            )
        else:
            happening = (
                f'"sender":{{"id":{person}}},"recipient":{{"id":{page}}},"timestamp":{time},'
                f'"read":{{"watermark":{time}}}'
            )
        return f'{{"id":{page},"time":{time},"messaging":[{{{happening}}}]}}'

    def _contact(self, channel_id: str, recipient: str) -> str:
        """Of those that a message reached; Meta tells none of failures."""
        person = self._accounts.channels[channel_id].person(recipient)
        wa_id = "" if "." in recipient or person.hides_number else f'"wa_id":{escaped(recipient)},'
        user_id = escaped(user_id_of(recipient, person))
        return f'{{"profile":{{"name":{escaped(full_name(recipient, person))}}},{wa_id}"user_id":{user_id}}}'

    def _status(self, number: int, event: int, time: int) -> str:
        ledger = self._ledger
        recipient = ledger.recipient(number)
        to = f'"recipient_id":{escaped(recipient)}' if "." not in recipient else ""
        if event != FAILED or not to:
            person = self._accounts.channels[ledger.channel_id(number)].person(recipient)
            user_id = f'"recipient_user_id":{escaped(user_id_of(recipient, person))}'
            to = f"{to},{user_id}" if to else user_id
        key = ledger.key(number)
        callback_data = "" if key is None else f',"biz_opaque_callback_data":{escaped(key)}'
        more = ""
        if event == FAILED:
            code, title = self.failures[number]
            words = escaped(title)
            more = (
                f',"errors":[{{"code":{code},"title":{words},"message":{words},'
                f'"error_data":{{"details":{words}}},"href":"{_ERRORS_PAGE}"}}]'
            )
        elif event != READ:
            # Pricing comes with "sent" and with one of delivered and read.
            category = ledger.category(number)
            billable, kind = ("false", "free_customer_service") if category == "service" else ("true", "regular")
            more = f',"pricing":{{"billable":{billable},"pricing_model":"PMP","category":"{category}","type":"{kind}"}}'
        return (
            f'{{"id":"{ledger.provider_id(number)}","status":"{_STATUS[event]}","timestamp":"{time}",'
            f"{to}{callback_data}{more}}}"
        )


def _change(channel: Channel, statuses: list[str], contacts: Iterable[str]) -> str:
    people = ",".join(contacts)
    of_contacts = f'"contacts":[{people}],' if people else ""
    return (
        '{"value":{"messaging_product":"whatsapp","metadata":{"display_phone_number":'
        f'{escaped(channel.display_phone_number)},"phone_number_id":{escaped(channel.id)}}},'
        f'{of_contacts}"statuses":[{",".join(statuses)}]}},"field":"messages"}}'
    )
