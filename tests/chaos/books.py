"""Exact counts: the sandbox's ledger, the delivery log and the counters, held against each other."""

from collections import defaultdict
from datetime import UTC, datetime

from pombo.domain.outcomes import DeliveryState
from pombo.domain.sendkey import parse_key
from pombo.run.http import JsonClient
from pombo.run.reconcile import compare, first
from tests.chaos.installation import Installation

_FIGURES = ("total", "accepted", "delivered", "read", "failed", "undelivered", "uncertain", "cancelled", "sent_twice")
_SUMS = ", ".join(f"sum({name})::bigint AS {name}" for name in _FIGURES)
_COUNTED = f"""
SELECT run_id, {_SUMS}
FROM (SELECT run_id, {", ".join(_FIGURES)} FROM run_deltas
      UNION ALL SELECT run_id, {", ".join(_FIGURES)} FROM run_totals) f
GROUP BY run_id
"""
_LOGGED = f"""
SELECT run_id, count(*) AS total,
       count(*) FILTER (WHERE state >= {DeliveryState.ACCEPTED.rank}) AS accepted,
       count(*) FILTER (WHERE state >= {DeliveryState.DELIVERED.rank}) AS delivered,
       count(*) FILTER (WHERE state >= {DeliveryState.READ.rank}) AS read,
       count(*) FILTER (WHERE state = {DeliveryState.FAILED.rank}) AS failed,
       count(*) FILTER (WHERE state = {DeliveryState.UNDELIVERED.rank}) AS undelivered,
       count(*) FILTER (WHERE uncertain) AS uncertain,
       count(*) FILTER (WHERE state = {DeliveryState.CANCELLED.rank}) AS cancelled,
       count(*) FILTER (WHERE second_provider_id IS NOT NULL) AS sent_twice
FROM (SELECT run_id, state, second_provider_id, false AS uncertain FROM deliveries
      UNION ALL SELECT run_id, NULL, NULL, state = 'u' FROM outbox) m
GROUP BY run_id
"""
_MESSAGES = f"""
SELECT d.id, d.attempt, d.state >= {DeliveryState.ACCEPTED.rank} AS accepted, false AS uncertain,
       array_remove(array_agg(t.provider_id) || d.provider_id, NULL) AS provider_ids
FROM deliveries d
LEFT JOIN sent_twice t ON t.workspace_id = d.workspace_id AND t.run_id = d.run_id AND t.message_id = d.id
GROUP BY d.id, d.attempt, d.state, d.provider_id
UNION ALL
SELECT id, attempt, false, state = 'u', '{{}}' FROM outbox
"""
_LEFT_BEHIND = """
SELECT 'outbox' AS what, count(*) AS n FROM outbox
UNION ALL SELECT 'doubts', count(*) FROM doubts
UNION ALL SELECT 'failed', count(*) FROM deliveries WHERE state < 2
UNION ALL SELECT 'webhook_errors', count(*) FROM webhook_errors
"""


async def accepted_again(installation: Installation) -> dict[int, int]:
    """Messages that the ledger accepted more often than once, under whatever keys, and how often more."""
    times: dict[int, int] = defaultdict(int)
    for record in await installation.sandbox.messages():
        times[_message(record["key"])] += 1
    return {message: count - 1 for message, count in times.items() if count > 1}


async def reported_again(installation: Installation) -> dict[int, int]:
    """Messages reported as sent twice, and how many further ids of each."""
    rows = await installation.fetch("SELECT message_id, count(*) AS n FROM sent_twice GROUP BY message_id")
    return {row["message_id"]: row["n"] for row in rows}


async def exactly_once(installation: Installation) -> list[str]:
    """What is wrong, if anything is: each message accepted once, and in the books with all that was told of it."""
    found = await as_accepted(installation)
    found += first([await _story(installation, message) for message in await accepted_again(installation)])
    async with installation.database.borrow() as connection, JsonClient(installation.sandbox.base_url) as client:
        comparison = await compare(connection, installation.workspace_id, client)
    left = [f"{row['n']} left in {row['what']}" for row in await installation.fetch(_LEFT_BEHIND) if row["n"]]
    return found + first(comparison.disagreements) + left


async def as_accepted(installation: Installation) -> list[str]:
    """What is wrong, if anything is: nothing lost, and each message in the books under every id that Meta gave it.

    Only of messages in doubt may ledger and books say different things.
    """
    ledger: dict[int, dict[str, int]] = defaultdict(dict)
    for record in await installation.sandbox.messages():
        key = parse_key(record["key"])
        assert key is not None
        ledger[key.message_id][record["provider_id"]] = key.attempt
    wrong = []
    for row in await installation.fetch(_MESSAGES):
        accepted = ledger.pop(row["id"], {})
        if row["uncertain"]:
            continue
        if not row["accepted"] or sorted(row["provider_ids"]) != sorted(accepted):
            wrong.append(f"the books say {dict(row)}, the ledger {accepted}")
        elif max(accepted.values()) > row["attempt"]:
            wrong.append(f"{dict(row)} was accepted as an attempt that was never made: {accepted}")
    wrong += [f"message {message} was accepted as {ids} and is not in the books" for message, ids in ledger.items()]
    return first(wrong) + await _counters(installation)


async def _counters(installation: Installation) -> list[str]:
    """Where a run's figures are not what its messages say."""
    counted, logged = [
        {row["run_id"]: dict(row) for row in await installation.fetch(query)} for query in (_COUNTED, _LOGGED)
    ]
    return [
        f"run {run_id} counts {counted.get(run_id)}, its messages say {logged.get(run_id)}"
        for run_id in counted.keys() | logged.keys()
        if counted.get(run_id) != logged.get(run_id)
    ]


async def _story(installation: Installation, message: int) -> str:
    """Of a message that was accepted more often than once: when, and when webhooks told of it."""
    lines = [f"message {message} was accepted more than once:"]
    for record in await installation.sandbox.messages():
        if _message(record["key"]) != message:
            continue
        at = datetime.fromtimestamp(record["accepted_at"], UTC)
        told = await installation.fetch(
            "SELECT received_at FROM webhook_log WHERE position($1::bytea in body) > 0 ORDER BY 1",
            record["key"].encode(),
        )
        times = ", ".join(f"{row['received_at']:%T.%f}" for row in told)
        lines.append(f"{record['key']} accepted at {at:%T.%f}, webhooks with the key stored at {times or 'no time'}")
    return "\n  ".join(lines)


def _message(key: str) -> int:
    parsed = parse_key(key)
    assert parsed is not None, f"{key} is not one of ours"
    return parsed.message_id
