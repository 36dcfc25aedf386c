"""Doubts in the database: whose end is proven, what is known, and that a decision and evidence never both count."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

import pytest

from pombo.domain.doubt import Decision, Fail, Hold, HoldReason, Resend, decide
from pombo.domain.ids import WorkerId
from pombo.sending.resolver import Resolver
from pombo.store import channel_evidence, doubts, held, leases, outbox, receipts, settlement
from pombo.store.channel_evidence import Heard
from pombo.store.database import Connection, Database
from pombo.store.held import Selection
from pombo.store.outbox import Undecided
from pombo.store.settlement import Evidence
from pombo.store.worker_lock import WorkerLock
from tests.locks import blocked
from tests.seeding import SeededRun, add_run, figures
from tests.store.conftest import Tenant, sent_under


@dataclass
class Stage:
    """A worker that owns the tenant's channel."""

    connection: Connection
    url: str
    tenant: Tenant
    worker_id: WorkerId
    intents: int = 0
    locks: list[WorkerLock] = field(default_factory=list)

    async def intend(self, run: SeededRun, attempts: int = 0) -> date:
        """Stores the intents of the run's messages; returns their day."""
        self.intents += 1
        (lease,) = await leases.owned(self.connection, self.worker_id)
        messages = sent_under(run.message_ids, attempts)
        at, ids = await outbox.store_intents(self.connection, self.worker_id, self.intents, messages, [lease])
        assert sorted(ids) == run.message_ids
        return at.date()

    async def report(self, run: SeededRun, attempt: int = 1) -> None:
        await outbox.doubt(
            self.connection, [Undecided(*self.tenant, id, attempt, 0, 0, "lost") for id in run.message_ids]
        )

    async def lock(self, worker_id: WorkerId) -> WorkerLock:
        taken = await WorkerLock.take(self.url, worker_id)
        self.locks.append(taken)
        return taken

    async def die(self) -> None:
        """Another worker takes over."""
        await self.connection.execute("UPDATE workers SET expires_at = clock_timestamp()")
        self.worker_id = await leases.register(self.connection, "heir", 2, 600.0)
        assert len(await leases.acquire(self.connection, self.worker_id)) == 1
        await leases.adopt_orphans(self.connection)

    async def set(self, what: str) -> None:
        await self.connection.execute(f"UPDATE channels SET {what}")

    async def grace_is_over(self) -> None:
        """Everything known so far was long ago."""
        await self.connection.execute(
            """UPDATE doubts SET since = since - interval '1 hour', ended_at = ended_at - interval '1 hour',
                   decide_at = decide_at - interval '1 hour', intent_at = intent_at - interval '1 hour'"""
        )

    async def hear(self, run: SeededRun, minutes_ago: float = 0) -> None:
        """Evidence comes for something sent so long ago."""
        at = await self.connection.fetchval("SELECT now() - $1 * interval '1 minute'", minutes_ago)
        await channel_evidence.note(self.connection, [Heard(*self.tenant, run.run_id, at)])

    async def decisions(self, *, held: bool = False, attempts: int = 3) -> list[Decision]:
        found = await doubts.facts(self.connection, self.worker_id, held=held, attempts=attempts)
        return [decide(doubt.policy, doubt.facts) for doubt in found]

    async def resolve(self) -> None:
        await Resolver(attempts=3).run_once(self.connection, self.worker_id)

    async def row(self, table: str = "doubts") -> dict[str, Any]:
        row = await self.connection.fetchrow(f"SELECT * FROM {table}")
        assert row is not None
        return dict(row)


@pytest.fixture
async def stage(database: Database, tenant: Tenant) -> AsyncIterator[Stage]:
    async with database.borrow() as connection:
        worker_id = await leases.register(connection, "test", 1, 600.0)
        await leases.acquire(connection, worker_id)
        made = Stage(connection, database.url, tenant, worker_id)
        yield made
        for lock in made.locks:
            await lock.release()


@pytest.fixture
async def run(database: Database, tenant: Tenant) -> SeededRun:
    return await add_run(database, tenant.workspace_id, [(tenant.channel_id, "4915112345678")])


async def test_a_doubt_carries_what_a_new_owner_needs(stage: Stage, run: SeededRun) -> None:
    await stage.set("doubt_grace_s = 60")
    await stage.intend(run)
    await stage.report(run)

    row = await stage.row()
    assert (row["message_id"], row["run_id"], row["recipient"]) == (run.message_ids[0], run.run_id, "4915112345678")
    assert (row["class"], row["kind"], row["attempt"]) == (2, "session", 1)
    assert row["intent_at"] < row["since"]
    assert row["decide_at"] > row["since"]
    assert 59 < (row["decide_at"] - row["ended_at"]).total_seconds() < 61
    assert (row["worker_id"], row["held"]) == (None, None)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ({"type": "text", "text": "Hello"}, "session"),
        ({"type": "template", "name": "spring", "language": "en_US", "components": []}, "template spring en_US"),
        (
            {"type": "raw", "payload": {"type": "template", "template": {"name": "a", "language": {"code": "pt"}}}},
            "template a pt",
        ),
        ({"type": "raw", "payload": {"attachment": {"type": "template"}}}, "session"),
    ],
)
async def test_a_templates_kind_is_its_name_and_language(
    database: Database, stage: Stage, content: dict[str, Any], kind: str
) -> None:
    run = await add_run(
        database, stage.tenant.workspace_id, [(stage.tenant.channel_id, "1")], json.loads(json.dumps(content))
    )
    await stage.intend(run)
    await stage.report(run)
    await stage.hear(run)
    assert (await stage.row())["kind"] == kind
    assert (await stage.row("channel_evidence"))["kind"] == kind


# --- whose end is proven ----------------------------------------------------------------------------------------------


async def test_a_dead_workers_doubt_waits_its_grace_from_when_its_lock_was_found_free(
    stage: Stage, run: SeededRun
) -> None:
    dead = stage.worker_id
    await stage.intend(run)
    await stage.die()
    row = await stage.row()
    assert row["worker_id"] == dead
    assert row["ended_at"] is not None
    assert (row["decide_at"] - row["ended_at"]).total_seconds() == pytest.approx(120, abs=1)


async def test_a_doubt_is_held_while_its_workers_lock_is_and_its_grace_begins_when_that_ends(
    stage: Stage, run: SeededRun
) -> None:
    lock = await stage.lock(stage.worker_id)
    await stage.intend(run)
    await stage.die()
    await stage.grace_is_over()
    await stage.hear(run)
    await stage.resolve()
    assert (await stage.row())["held"] == HoldReason.WORKER_MAY_LIVE

    await lock.release()
    await stage.resolve()
    row = await stage.row()
    assert (row["held"], row["held_since"]) == (None, None)
    assert (row["decide_at"] - row["ended_at"]).total_seconds() == pytest.approx(120, abs=1)
    await stage.grace_is_over()
    await stage.hear(run)
    await stage.resolve()
    assert (await stage.row("outbox"))["state"] == b"r"


async def test_a_lock_that_was_lost_for_a_moment_proves_nothing(stage: Stage, run: SeededRun) -> None:
    await stage.intend(run)
    dead = stage.worker_id
    await stage.die()
    assert (await stage.row())["ended_at"] is not None
    await stage.lock(dead)
    await stage.grace_is_over()
    await stage.hear(run)
    await stage.resolve()
    assert (await stage.row())["ended_at"] is None
    await stage.grace_is_over()
    await stage.resolve()
    assert (await stage.row())["held"] == HoldReason.WORKER_MAY_LIVE


async def test_a_workers_own_report_ends_the_wait_for_its_end_and_starts_the_grace_again(
    stage: Stage, run: SeededRun
) -> None:
    """Stopped between deadline and write, taken for dead, and awake again: the connection was closed unanswered."""
    await stage.lock(stage.worker_id)
    await stage.intend(run)
    await stage.die()
    await stage.grace_is_over()
    await stage.hear(run)
    await stage.resolve()
    await stage.report(run)

    row = await stage.row()
    assert (row["worker_id"], row["held"]) == (None, None)
    assert (row["decide_at"] - row["ended_at"]).total_seconds() == pytest.approx(120, abs=1)
    assert await figures(stage.connection, run) == {"total": 1, "uncertain": 1}
    assert (await stage.row("outbox"))["error_title"] == "lost"


async def test_a_report_made_twice_counts_once(stage: Stage, run: SeededRun) -> None:
    await stage.intend(run)
    await stage.report(run)
    await stage.report(run)
    assert await figures(stage.connection, run) == {"total": 1, "uncertain": 1}


@pytest.mark.parametrize("told", ["not accepted", "accepted"])
async def test_a_takeover_and_a_proof_at_the_same_time_leave_no_doubt(
    database: Database, stage: Stage, run: SeededRun, told: str
) -> None:
    day = await stage.intend(run)
    key = (*stage.tenant, run.message_ids[0], 1)
    await stage.connection.execute("UPDATE workers SET expires_at = clock_timestamp()")
    heir = await leases.register(stage.connection, "heir", 2, 600.0)
    await leases.acquire(stage.connection, heir)
    async with database.borrow() as adopting:
        transaction = adopting.transaction()
        await transaction.start()
        assert await leases.adopt_orphans(adopting) == 1
        proof = asyncio.create_task(
            settlement.settle_evidence(stage.connection, [Evidence(*key, day, "m_1", datetime.now(UTC))])
            if told == "accepted"
            else outbox.put_back(stage.connection, [Undecided(*key, 4, 0, "too fast")])
        )
        await blocked(adopting)
        await transaction.commit()
        await proof
    assert await figures(stage.connection, run) == {"total": 1} | ({"accepted": 1} if told == "accepted" else {})
    assert await stage.connection.fetch("SELECT message_id FROM doubts") == []
    assert await stage.connection.fetch("SELECT state FROM outbox") == ([] if told == "accepted" else [(b"r",)])


# --- what is known ----------------------------------------------------------------------------------------------------


async def reported_long_ago(stage: Stage, run: SeededRun) -> None:
    await stage.intend(run)
    await stage.report(run)
    await stage.grace_is_over()


async def test_nothing_is_decided_within_the_grace(stage: Stage, run: SeededRun) -> None:
    await stage.intend(run)
    await stage.report(run)
    await stage.hear(run)
    assert await stage.decisions() == []


async def test_it_is_sent_again_when_something_later_was_heard_of(stage: Stage, run: SeededRun) -> None:
    await reported_long_ago(stage, run)
    assert await stage.decisions() == [Hold(HoldReason.NO_EVIDENCE)]
    await stage.hear(run, minutes_ago=61)
    assert await stage.decisions() == [Hold(HoldReason.NO_EVIDENCE)]
    await stage.hear(run, minutes_ago=1)
    assert await stage.decisions() == [Resend()]
    await stage.hear(run, minutes_ago=61)  # what is heard late of something older takes nothing back
    assert await stage.decisions() == [Resend()]


async def test_evidence_of_another_kind_or_channel_says_nothing(
    database: Database, stage: Stage, run: SeededRun
) -> None:
    await reported_long_ago(stage, run)
    template = {"type": "template", "name": "spring", "language": "en_US", "components": []}
    other = await add_run(database, stage.tenant.workspace_id, [(stage.tenant.channel_id, "1")], template)
    await stage.hear(other)
    now = datetime.now(UTC)
    await channel_evidence.note(stage.connection, [Heard(stage.tenant.workspace_id, 999, run.run_id, now)])
    assert await stage.decisions() == [Hold(HoldReason.NO_EVIDENCE)]


async def test_a_webhook_that_came_before_the_grace_ended_must_be_read_first(stage: Stage, run: SeededRun) -> None:
    await reported_long_ago(stage, run)
    await stage.hear(run)
    await stage.connection.execute(
        """INSERT INTO webhook_queue (workspace_id, id, day, received_at)
           VALUES ($1, 1, current_date, now() - interval '59 minutes')""",
        stage.tenant.workspace_id,
    )
    assert await stage.decisions() == [Hold(HoldReason.WEBHOOKS_WAITING)]
    await stage.connection.execute("UPDATE webhook_queue SET received_at = now() - interval '57 minutes'")
    assert await stage.decisions() == [Resend()]
    await stage.connection.execute(
        "UPDATE webhook_queue SET received_at = now() - interval '2 hours', workspace_id = workspace_id + 1"
    )
    assert await stage.decisions() == [Resend()]


async def test_a_webhook_given_up_since_the_intent_makes_it_a_persons_decision(stage: Stage, run: SeededRun) -> None:
    await reported_long_ago(stage, run)
    await stage.hear(run)
    await stage.connection.execute(
        """INSERT INTO webhook_errors (workspace_id, id, day, attempts, error, at)
           VALUES ($1, 1, current_date, 5, 'unreadable', now() - interval '61 minutes')""",
        stage.tenant.workspace_id,
    )
    assert await stage.decisions() == [Resend()]
    await stage.connection.execute("UPDATE webhook_errors SET at = now()")
    assert await stage.decisions() == [Hold(HoldReason.WEBHOOKS_GIVEN_UP)]


async def test_a_message_whose_attempts_are_used_up_is_held_and_not_failed(stage: Stage, run: SeededRun) -> None:
    await reported_long_ago(stage, run)
    await stage.hear(run)
    assert await stage.decisions(attempts=1) == [Hold(HoldReason.ATTEMPTS_USED)]
    await stage.connection.execute("UPDATE outbox SET uncounted = 1")
    assert await stage.decisions(attempts=1) == [Resend()]


async def test_doubts_of_other_workers_channels_are_theirs(stage: Stage, run: SeededRun) -> None:
    await reported_long_ago(stage, run)
    other = await leases.register(stage.connection, "other", 3, 600.0)
    assert await doubts.facts(stage.connection, other, held=False, attempts=3) == []


async def test_what_is_heard_is_the_time_of_the_very_attempt(database: Database, stage: Stage, run: SeededRun) -> None:
    """Evidence of a first attempt that comes after the second's intent tells nothing of the second's time."""
    day = await stage.intend(run)
    await outbox.put_back(stage.connection, [Undecided(*stage.tenant, run.message_ids[0], 1, 4, 0, "too fast")])
    await stage.intend(run, attempts=1)
    first = Evidence(*stage.tenant, run.message_ids[0], 1, day, "m_1", datetime.now(UTC))
    async with database.transaction() as connection:
        assert await receipts.sift(connection, [first]) == ([first], [])
        await settlement.settle_evidence(connection, [first])
        assert await receipts.sift(connection, [first]) == ([], [])
        second = first._replace(attempt=2)
        fresh, heard = await receipts.sift(connection, [second])
    assert (fresh, [h.run_id for h in heard]) == ([], [run.run_id])


# --- what is decided --------------------------------------------------------------------------------------------------


async def test_sent_again_it_is_ready_and_no_longer_in_doubt(stage: Stage, run: SeededRun) -> None:
    await reported_long_ago(stage, run)
    await stage.hear(run)
    await stage.resolve()
    row = await stage.row("outbox")
    assert (row["state"], row["attempt"], row["uncounted"]) == (b"r", 1, 0)
    assert row["due_at"] <= datetime.now(UTC)
    assert await figures(stage.connection, run) == {"total": 1}
    assert await stage.connection.fetchval("SELECT count(*) FROM doubts") == 0


async def test_a_direct_messages_stream_is_opened_again(stage: Stage, run: SeededRun) -> None:
    await stage.connection.execute("UPDATE outbox SET run_id = -1")
    await stage.connection.execute("DELETE FROM streams")
    await reported_long_ago(stage, run)
    assert (await stage.row())["class"] == 1
    await stage.hear(run)
    await stage.resolve()
    stream = await stage.row("streams")
    assert (stream["run_id"], stream["class"], stream["state"]) == (-1, 1, "open")


async def test_with_the_policy_fail_it_fails_with_a_clear_title_and_late_evidence_corrects_it(
    stage: Stage, run: SeededRun
) -> None:
    await stage.set("doubt_policy = 'fail'")
    day = await stage.intend(run)
    await stage.report(run)
    await stage.grace_is_over()
    assert await stage.decisions() == [Fail()]
    await stage.resolve()
    delivery = await stage.row("deliveries")
    assert (delivery["state"], delivery["error_code"]) == (1, 0)
    assert "no echo or status" in delivery["error_title"]
    assert await figures(stage.connection, run) == {"total": 1, "failed": 1}

    late = Evidence(*stage.tenant, run.message_ids[0], 1, day, "m_1", datetime.now(UTC))
    await settlement.settle_evidence(stage.connection, [late])
    assert (await stage.row("deliveries"))["state"] == 2
    assert await figures(stage.connection, run) == {"total": 1, "accepted": 1}


async def test_held_it_is_shown_with_its_reason_and_sent_when_what_was_missing_comes(
    stage: Stage, run: SeededRun
) -> None:
    await reported_long_ago(stage, run)
    await stage.resolve()
    (shown,) = await held.list_held(stage.connection, stage.tenant.workspace_id, Selection(), 0, 10)
    assert (shown.reason, shown.error_title, shown.run_id) == (HoldReason.NO_EVIDENCE, "lost", run.run_id)
    assert await figures(stage.connection, run) == {"total": 1, "uncertain": 1}

    await stage.hear(run)
    await stage.resolve()
    assert (await stage.row("outbox"))["state"] == b"r"


async def test_another_reason_keeps_the_time_since_when_it_is_held(stage: Stage, run: SeededRun) -> None:
    await reported_long_ago(stage, run)
    await stage.resolve()
    since = (await stage.row())["held_since"]
    await stage.set("doubt_policy = 'hold'")
    await stage.resolve()
    row = await stage.row()
    assert (row["held"], row["held_since"]) == (HoldReason.POLICY, since)


async def test_what_could_be_sent_again_is_dropped_when_its_run_was_cancelled(stage: Stage, run: SeededRun) -> None:
    await reported_long_ago(stage, run)
    await stage.hear(run)
    await stage.connection.execute("UPDATE runs SET state = 'cancelled'")
    await stage.resolve()
    assert (await stage.row("deliveries"))["state"] == 0
    assert await figures(stage.connection, run) == {"total": 1, "cancelled": 1}


@pytest.mark.parametrize("policy", ["safe", "fail"])
async def test_evidence_that_comes_while_it_is_decided_wins(
    database: Database, stage: Stage, run: SeededRun, policy: str
) -> None:
    await stage.set(f"doubt_policy = '{policy}'")
    day = await stage.intend(run)
    await stage.report(run)
    await stage.grace_is_over()
    await stage.hear(run)
    evidence = Evidence(*stage.tenant, run.message_ids[0], 1, day, "m_1", datetime.now(UTC))
    async with database.borrow() as ingest:
        transaction = ingest.transaction()
        await transaction.start()
        await settlement.settle_evidence(ingest, [evidence])
        deciding = asyncio.create_task(stage.resolve())
        await blocked(ingest)
        await transaction.commit()
        await deciding
    assert (await stage.row("deliveries"))["state"] == 2
    assert await figures(stage.connection, run) == {"total": 1, "accepted": 1}
    assert await stage.connection.fetchval("SELECT count(*) FROM outbox") == 0


async def test_evidence_that_comes_after_the_decision_settles_what_waits_to_be_sent_again(
    stage: Stage, run: SeededRun
) -> None:
    day = await stage.intend(run)
    await stage.report(run)
    await stage.grace_is_over()
    await stage.hear(run)
    await stage.resolve()
    await settlement.settle_evidence(
        stage.connection, [Evidence(*stage.tenant, run.message_ids[0], 1, day, "m_1", datetime.now(UTC))]
    )
    assert await figures(stage.connection, run) == {"total": 1, "accepted": 1}
    assert await stage.connection.fetchval("SELECT count(*) FROM outbox") == 0


async def test_evidence_later_than_the_grace_shows_each_further_acceptance(stage: Stage, run: SeededRun) -> None:
    day = await stage.intend(run)
    await stage.report(run)
    await stage.grace_is_over()
    await stage.hear(run)
    await stage.resolve()
    await stage.intend(run, attempts=1)

    def witness(attempt: int, provider_id: str) -> list[Evidence]:
        return [Evidence(*stage.tenant, run.message_ids[0], attempt, day, provider_id, datetime.now(UTC))]

    for attempt, provider_id in ((2, "m_2"), (1, "m_1"), (1, "m_1"), (1, "m_3"), (2, "m_2")):
        await settlement.settle_evidence(stage.connection, witness(attempt, provider_id))
    delivery = await stage.row("deliveries")
    assert (delivery["provider_id"], delivery["second_provider_id"]) == ("m_2", "m_1")
    rows = await stage.connection.fetch("SELECT provider_id, first_provider_id FROM sent_twice ORDER BY 1")
    assert [tuple(row) for row in rows] == [("m_1", "m_2"), ("m_3", "m_2")]
    assert await figures(stage.connection, run) == {"total": 1, "accepted": 1, "sent_twice": 1}


async def test_a_doubt_whose_message_is_settled_is_forgotten(stage: Stage, run: SeededRun) -> None:
    await reported_long_ago(stage, run)
    await stage.connection.execute("DELETE FROM outbox")
    await stage.resolve()
    assert await stage.connection.fetchval("SELECT count(*) FROM doubts") == 0


async def test_held_messages_are_looked_at_in_turns(
    database: Database, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pombo.sending.resolver.LIMIT", 2)
    recipients = [(stage.tenant.channel_id, str(n)) for n in range(5)]
    run = await add_run(database, stage.tenant.workspace_id, recipients)
    await reported_long_ago(stage, run)
    resolver = Resolver(attempts=3)
    for _ in range(3):
        await resolver.run_once(stage.connection, stage.worker_id)
    assert await stage.connection.fetchval("SELECT count(held) FROM doubts") == 5
    await stage.hear(run)
    for _ in range(4):
        await resolver.run_once(stage.connection, stage.worker_id)
    assert await stage.connection.fetchval("SELECT count(*) FROM doubts") == 0
