"""The ledger: what was accepted, how often, and how far its webhooks came."""

import pytest

from pombo.sandbox.ledger import DELIVERED, READ, SENT, Ledger, peak
from tests.sandbox_server import ChannelHandle, SandboxHandle
from tests.webhook_receiver import WebhookReceiver

PSID = "7012345678901234"
PERSON = "5511999990001"


def filled(*recipients: str) -> tuple[Ledger, list[int]]:
    """One message a second to each of these, on one Page."""
    ledger = Ledger()
    book = ledger.book("messenger", "1001")
    return ledger, [ledger.add(book, person, f"k{at}", 1000.0 + at, 0) for at, person in enumerate(recipients)]


def states(ledger: Ledger) -> list[str]:
    return [record["state"] for record in ledger.page(None, -1, 100, None)]


def test_a_state_never_falls() -> None:
    ledger, [number] = filled("ana")
    for state, name in ((SENT, "sent"), (READ, "read"), (DELIVERED, "read"), (SENT, "read")):
        ledger.raise_state(number, state)
        assert states(ledger) == [name]
    assert ledger.totals()["delivered"] == ledger.totals()["read"] == 1


def test_a_watermark_raises_all_earlier_messages_to_the_same_person_and_no_other() -> None:
    ledger, numbers = filled("ana", "bia", "ana", "ana")
    ledger.raise_up_to(numbers[2], 1002.0, DELIVERED)
    assert states(ledger) == ["delivered", "accepted", "delivered", "accepted"]
    ledger.raise_up_to(numbers[3], 1002.5, READ)
    assert states(ledger) == ["read", "accepted", "read", "accepted"]
    ledger.raise_up_to(numbers[0], 1003.0, DELIVERED)
    assert states(ledger) == ["read", "accepted", "read", "delivered"]


def test_two_ledgers_never_give_out_the_same_id() -> None:
    first, second = filled("ana")[0], filled("ana")[0]
    assert first.provider_id(0) != second.provider_id(0)


@pytest.mark.parametrize(
    ("times", "window", "most"),
    [
        ([], 1.0, 0),
        ([1.0, 1.5, 1.99], 1.0, 3),
        ([1.0, 2.0, 3.0], 1.0, 1),
        ([1.0, 2.0, 3.0], 1.5, 2),
        ([5.0, 1.0, 5.1, 5.2], 0.5, 3),
    ],
)
def test_the_peak_is_the_most_that_falls_into_a_half_open_span(times: list[float], window: float, most: int) -> None:
    assert peak(times, window) == most


async def test_the_same_key_accepted_twice_is_a_duplicate(sandbox: SandboxHandle, page: ChannelHandle) -> None:
    for key in ("a", "b", "a", "a", None):
        assert (await sandbox.send_text(page, PSID, key=key)).status_code == 200
    ledger = await sandbox.ledger()
    figures = {name: ledger[name] for name in ("accepted", "unique_keys", "duplicates", "without_key")}
    assert figures == {"accepted": 5, "unique_keys": 2, "duplicates": 2, "without_key": 1}
    assert [record["number"] for record in await sandbox.with_key("a")] == [0, 2, 3]
    assert await sandbox.with_key("c") == []


async def test_a_key_is_opaque(sandbox: SandboxHandle, page: ChannelHandle) -> None:
    await sandbox.send_text(page, PSID, key="ä / ?&#%20 key")
    path = "/sandbox/ledger/keys/%C3%A4%20%2F%20%3F%26%23%2520%20key"
    assert [record["key"] for record in (await sandbox.http.get(path)).json()["messages"]] == ["ä / ?&#%20 key"]


async def test_pages_of_records_follow_the_order_of_acceptance(
    sandbox: SandboxHandle, page: ChannelHandle, phone: ChannelHandle
) -> None:
    for number in range(6):
        await sandbox.send_text(page if number % 2 else phone, PERSON, key=str(number))
    first = await sandbox.call("GET", "ledger/messages", None, channel=page.id, limit=2)
    assert [record["key"] for record in first["messages"]] == ["1", "3"]
    second = await sandbox.call("GET", "ledger/messages", None, channel=page.id, limit=2, after=first["after"])
    assert [record["key"] for record in second["messages"]] == ["5"]
    assert second["after"] is None
    assert [record["key"] for record in await sandbox.messages()] == list("012345")
    assert (await sandbox.call("GET", "ledger/messages", None, channel="unknown"))["messages"] == []


async def test_one_recipient_s_messages_can_be_listed_in_order(sandbox: SandboxHandle, page: ChannelHandle) -> None:
    for number in range(6):
        await sandbox.send_text(page, PSID if number % 3 else "7000000000000009", key=str(number))
    assert [record["key"] for record in await sandbox.messages(page, PSID)] == ["1", "2", "4", "5"]


async def test_peaks_count_calls_and_acceptances_by_the_sandbox_s_clock(
    sandbox: SandboxHandle, page: ChannelHandle
) -> None:
    await sandbox.freeze_clock()
    await sandbox.configure(page, calls_per_second=2)
    for _ in range(3):
        await sandbox.send_text(page, PSID)
    await sandbox.advance_clock(2)
    await sandbox.send_text(page, PSID)
    peak = await sandbox.peak(page, 1000)
    assert peak == {"channel": page.id, "window_ms": 1000, "calls": 3, "conversation_calls": 0, "accepted": 2}
    assert (await sandbox.peak(page, 2001))["accepted"] == 3


async def test_states_move_only_when_their_webhook_was_answered_with_200(
    sandbox: SandboxHandle, page: ChannelHandle, receiver: WebhookReceiver
) -> None:
    await sandbox.configure(page, delivered_rate=1, read_rate=1)
    await sandbox.add_faults({"kind": "webhook_drop", "fields": ["read"], "recipient": PSID})
    await sandbox.send_text(page, PSID)
    await sandbox.send_text(page, "7000000000000009")
    assert [record["state"] for record in await sandbox.messages()] == ["accepted", "accepted"]
    await sandbox.flush()
    seen = [(record["state"], record["final"]) for record in await sandbox.messages()]
    assert seen == [("delivered", "read"), ("read", "read")]
    assert (await sandbox.ledger())["channels"][page.id]["states"] == {
        "accepted": 0,
        "sent": 0,
        "failed": 0,
        "delivered": 1,
        "read": 1,
    }


async def test_without_a_callback_messages_stay_accepted(sandbox: SandboxHandle, page: ChannelHandle) -> None:
    await sandbox.send_text(page, PSID)
    await sandbox.flush()
    assert [(record["state"], record["final"]) for record in await sandbox.messages()] == [("accepted", "accepted")]
