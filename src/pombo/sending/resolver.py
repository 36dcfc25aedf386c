"""Ends doubts that no evidence has ended: decides about those whose grace is over, on the worker's own channels.

The rule is `pombo.domain.doubt`; here it is given its facts, and done what it says. Held messages are looked at again
and again, some hundreds a round, so that one is sent as soon as what was missing has come true.
"""

from collections import Counter
from typing import assert_never

from pombo.domain.doubt import Drop, Fail, Hold, HoldReason, Resend, Wait, decide
from pombo.domain.ids import WorkerId
from pombo.store import doubts, settlement
from pombo.store.database import Connection
from pombo.store.doubts import BEGINNING, Doubt, DoubtKey
from pombo.store.settlement import CANCELLED, FAILED, Settled
from pombo.telemetry import log

# Doubts a round of each sort: some 10 ms of database time.
LIMIT = 500
FAILED_TITLE = "In doubt: no echo or status came within the channel's grace."
_DROPPED_TITLE = "In doubt when its run was cancelled."


class Resolver:
    """One per worker; call `run_once` every second."""

    def __init__(self, attempts: int) -> None:
        self._attempts = attempts
        self._held_after = BEGINNING

    async def run_once(self, connection: Connection, worker_id: WorkerId) -> None:
        """Raises DatabaseUnavailable."""
        await doubts.find_ends(connection, worker_id)
        await self._resolve(
            connection, await doubts.facts(connection, worker_id, held=False, attempts=self._attempts, limit=LIMIT)
        )
        held = await doubts.facts(
            connection, worker_id, held=True, attempts=self._attempts, after=self._held_after, limit=LIMIT
        )
        # Round and round: from the beginning again once the end was reached.
        self._held_after = held[-1].key[:2] if len(held) == LIMIT else BEGINNING
        await self._resolve(connection, held)

    async def _resolve(self, connection: Connection, found: list[Doubt]) -> None:
        over: list[DoubtKey] = []
        again: list[DoubtKey] = []
        held: list[tuple[DoubtKey, HoldReason]] = []
        settled: list[Settled] = []
        for doubt in found:
            if doubt.is_over:
                over.append(doubt.key)
                continue
            match decide(doubt.policy, doubt.facts):
                case Wait():
                    pass
                case Resend():
                    again.append(doubt.key)
                case Hold(reason):
                    if reason is not doubt.held:
                        held.append((doubt.key, reason))
                case Fail():
                    settled.append(_settled(doubt, FAILED, FAILED_TITLE))
                case Drop():
                    settled.append(_settled(doubt, CANCELLED, _DROPPED_TITLE))
                case other:
                    assert_never(other)
        await doubts.forget(connection, over)
        sent_again = await doubts.send_again(connection, again)
        await doubts.hold(connection, held)
        if settled:
            await settlement.settle(connection, settled)
        if sent_again or settled or held:
            reasons = Counter(reason.value for _, reason in held)
            log.info("doubts_decided", sent_again=sent_again, settled=len(settled), held=dict(reasons))


def _settled(doubt: Doubt, state: int, title: str) -> Settled:
    key = doubt.key
    return Settled(key.workspace_id, doubt.channel_id, key.message_id, key.attempt, doubt.day, state, None, 0, 0, title)
