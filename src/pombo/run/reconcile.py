"""Compares the sandbox's ledger with Pombo's books, message by message.

The ledger is the oracle: what it accepted was sent. Each accepted message must be accepted here under the same provider
id and in the state that its webhooks have told; nothing may have been accepted twice, and nothing may be accepted here
that the ledger does not know.
"""

from dataclasses import dataclass, field
from typing import Any

from pombo.domain.outcomes import DeliveryState
from pombo.domain.sendkey import parse_key
from pombo.run.http import JsonClient
from pombo.store import audit
from pombo.store.database import Connection

# The sandbox's words for the states that its webhooks told of.
_STATES = {
    "accepted": DeliveryState.ACCEPTED.rank,
    "sent": DeliveryState.ACCEPTED.rank,
    "failed": DeliveryState.UNDELIVERED.rank,
    "delivered": DeliveryState.DELIVERED.rank,
    "read": DeliveryState.READ.rank,
}
_SHOWN = 10


@dataclass(slots=True)
class Comparison:
    ledger_messages: int = 0
    our_messages: int = 0
    sums: dict[str, int] = field(default_factory=dict)
    """Cumulative, from the delivery log: accepted, delivered, read, undelivered, failed, waiting."""
    disagreements: list[str] = field(default_factory=list)
    requests: int = 0
    connections: int = 0

    @property
    def agrees(self) -> bool:
        return not self.disagreements


async def compare(connection: Connection, workspace_id: int, sandbox: JsonClient) -> Comparison:
    """Raises HttpError or DatabaseUnavailable."""
    comparison = Comparison()
    ledger = await _ledger(sandbox, comparison)
    sums = dict.fromkeys(("accepted", "delivered", "read", "undelivered", "failed", "waiting"), 0)
    async for entry in audit.every_message(connection, workspace_id):
        comparison.our_messages += 1
        _count(sums, entry)
        _check(comparison, entry, ledger.pop(entry.message_id, None))
    comparison.sums = sums
    for message_id in ledger:
        comparison.disagreements.append(f"message {message_id} was accepted, but is not in the books")
    return comparison


async def _ledger(sandbox: JsonClient, comparison: Comparison) -> dict[int, dict[str, Any]]:
    """The ledger by our message id; messages without our key, and any accepted twice, are disagreements."""
    found: dict[int, dict[str, Any]] = {}
    after: int | None = -1
    while after is not None:
        page = await sandbox.call("GET", f"/sandbox/ledger/messages?after={after}&limit=10000")
        for record in page["messages"]:
            comparison.ledger_messages += 1
            key = parse_key(record["key"])
            if key is None:
                comparison.disagreements.append(f"{record['provider_id']} was accepted without a send key of ours")
            elif key.message_id in found:
                comparison.disagreements.append(f"message {key.message_id} was accepted twice")
            else:
                found[key.message_id] = record
        after = page["after"]
    return found


def _count(sums: dict[str, int], entry: audit.Entry) -> None:
    state = entry.state
    if state is None:
        sums["waiting"] += 1
        return
    sums["accepted"] += state >= DeliveryState.ACCEPTED.rank
    sums["delivered"] += state >= DeliveryState.DELIVERED.rank
    sums["read"] += state >= DeliveryState.READ.rank
    sums["undelivered"] += state == DeliveryState.UNDELIVERED.rank
    sums["failed"] += state == DeliveryState.FAILED.rank


def _check(comparison: Comparison, entry: audit.Entry, record: dict[str, Any] | None) -> None:
    found = comparison.disagreements
    who = f"message {entry.message_id} to {entry.recipient}"
    accepted = entry.state is not None and entry.state >= DeliveryState.ACCEPTED.rank
    if record is None:
        if accepted:
            found.append(f"{who} counts as accepted, but the ledger does not have it")
        return
    if not accepted:
        found.append(f"{who} was accepted, but counts as {'waiting' if entry.state is None else 'failed'}")
    elif entry.provider_id != record["provider_id"] or entry.second_provider_id:
        found.append(f"{who} has provider id {entry.provider_id}, the ledger {record['provider_id']}")
    elif entry.state != _STATES[record["state"]]:
        found.append(f"{who} is in state {entry.state}, the ledger says {record['state']}")
    elif entry.recipient.lstrip("+") != record["recipient"].lstrip("+") or entry.channel != record["channel"]:
        found.append(f"{who} went to {record['recipient']} on {record['channel']}")


def first(disagreements: list[str]) -> list[str]:
    more = len(disagreements) - _SHOWN
    return disagreements[:_SHOWN] + ([f"and {more} more"] if more > 0 else [])
