"""What the hot path asks of the store, each with what it may cost: see `test_plans`."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from pombo.domain.doubt import HoldReason
from pombo.domain.ids import RunId, WorkerId, WorkspaceId
from pombo.store import (
    cancelling,
    channel_evidence,
    doubts,
    early_receipts,
    held,
    leases,
    order,
    outbox,
    own_messages,
    receipts,
    settlement,
    sweep,
    webhooks,
)
from pombo.store.cancelling import Cancelling
from pombo.store.channel_evidence import Heard
from pombo.store.database import Connection
from pombo.store.doubts import DoubtKey
from pombo.store.early_receipts import AcceptedMessage
from pombo.store.held import DoubtAction, Selection
from pombo.store.outbox import BEGINNING, Reading, Undecided
from pombo.store.receipts import Receipt, Watermark
from pombo.store.settlement import ACCEPTED, FAILED, Evidence, Settled
from tests.plans.dataset import (
    ALSO_READY,
    BUSY,
    DOUBTFUL_ROWS,
    EPOCH,
    FLYING,
    FLYING_ROWS,
    LIVE,
    ORPHANED,
    READY,
    Message,
    Slices,
)

TODAY = datetime.now(UTC).date()
YESTERDAY = TODAY - timedelta(days=1)


@dataclass(frozen=True)
class Work:
    run: Callable[[Connection, Slices], Awaitable[Any]]
    pages: int
    """What it may touch. A row found by an index costs its depth (four) and the row's page; one deleted or written as
    many again for each index."""
    removed: int = 0
    """Rows it may read in vain."""
    whole: tuple[str, ...] = ()
    """Tables that it is all about: their rows are wanted all, or nearly so."""


WORK: dict[str, Work] = {}


def work(
    pages: int, removed: int = 0, whole: tuple[str, ...] = ()
) -> Callable[[Callable[..., Awaitable[Any]]], Callable[..., Awaitable[Any]]]:
    def note(run: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        WORK[run.__name__] = Work(run, pages, removed, whole)
        return run

    return note


# --- reading ahead ---------------------------------------------------------------------------------------------------


@work(pages=4_000)
async def reads_ahead_from_the_beginning(connection: Connection, slices: Slices) -> None:
    readings = [Reading(1, c + 1, run, *BEGINNING, 50) for c in range(BUSY) for run in (READY, ALSO_READY)]
    assert len(await outbox.read_ahead(connection, readings)) == len(readings) * 50


@work(pages=4_000)
async def reads_on_from_a_cursor(connection: Connection, slices: Slices) -> None:
    cursor = await connection.fetchrow(
        "SELECT due_at, id FROM outbox WHERE workspace_id = 1 AND id = $1", slices.ready(1)[0].id
    )
    assert cursor is not None
    readings = [Reading(1, c + 1, READY, cursor["due_at"], cursor["id"], 100) for c in range(BUSY)]
    assert len(await outbox.read_ahead(connection, readings)) == BUSY * 100


@work(pages=9_000, removed=BUSY * FLYING_ROWS)
async def reads_past_what_is_in_flight(connection: Connection, slices: Slices) -> None:
    readings = [Reading(1, c + 1, FLYING, *BEGINNING, 50) for c in range(BUSY)]
    assert len(await outbox.read_ahead(connection, readings)) == BUSY * 50


@work(pages=400)
async def finds_the_open_streams(connection: Connection, slices: Slices) -> None:
    assert len((await outbox.open_streams(connection, LIVE)).streams) == BUSY * 5


@work(pages=120_000, whole=("doubts", "retries"))
async def finds_what_was_attempted_before_a_takeover(connection: Connection, slices: Slices) -> None:
    found = await order.attempted(connection, 99, [(1, c + 1) for c in range(BUSY)])
    assert len(found) == BUSY * (FLYING_ROWS + DOUBTFUL_ROWS + 100)


@work(pages=700)
async def looks_up_the_states_of_some(connection: Connection, slices: Slices) -> None:
    assert len(await order.states(connection, [(1, m.id) for m in slices.ready(100)])) == 100


# --- intents and outcomes --------------------------------------------------------------------------------------------


async def store(connection: Connection, messages: list[Message]) -> None:
    channels = list({m.channel_id for m in messages})
    _, ids = await outbox.store_intents(
        connection,
        LIVE,
        1_000,
        [(m.id, channels.index(m.channel_id) + 1, 0) for m in messages],
        [(1, c, EPOCH) for c in channels],
    )
    assert len(ids) == len(messages)


@work(pages=5_000)
async def stores_intents(connection: Connection, slices: Slices) -> None:
    await store(connection, slices.ready(500))


@work(pages=120)
async def stores_an_intent(connection: Connection, slices: Slices) -> None:
    await store(connection, slices.ready(1))


def settled(message: Message, state: int) -> Settled:
    if state == ACCEPTED:
        return Settled(1, message.channel_id, message.id, 1, TODAY, state, f"new_{message.id}")
    return Settled(1, message.channel_id, message.id, 1, TODAY, state, None, 100, 0, "refused")


@work(pages=5_000)
async def settles_what_was_accepted(connection: Connection, slices: Slices) -> None:
    await settlement.settle(connection, [settled(m, ACCEPTED) for m in slices.flying(500)], LIVE, [1, 2])


@work(pages=120)
async def settles_one(connection: Connection, slices: Slices) -> None:
    await settlement.settle(connection, [settled(m, ACCEPTED) for m in slices.flying(1)])


@work(pages=1_500)
async def settles_what_failed(connection: Connection, slices: Slices) -> None:
    await settlement.settle(connection, [settled(m, FAILED) for m in slices.flying(100)])


@work(pages=1_500)
async def settles_what_was_in_doubt(connection: Connection, slices: Slices) -> None:
    evidence = [
        Evidence(1, m.channel_id, m.id, 1, TODAY, f"new_{m.id}", datetime.now(UTC)) for m in slices.doubtful(99)
    ]
    await settlement.settle_evidence(connection, evidence)


@work(pages=3_000)
async def confirms_what_is_in_the_log(connection: Connection, slices: Slices) -> None:
    """And reports it as sent twice."""
    outcomes = [Settled(1, c, id, 1, YESTERDAY, ACCEPTED, f"second_{id}") for id, c, _ in slices.logged(100)]
    await settlement.settle(connection, outcomes)


def undecided(message: Message) -> Undecided:
    return Undecided(1, message.channel_id, message.id, 1, 0, 0, "no answer", 1.0)


@work(pages=5_000)
async def puts_back(connection: Connection, slices: Slices) -> None:
    await outbox.put_back(connection, [undecided(m) for m in slices.flying(100)])


@work(pages=5_000)
async def puts_back_what_was_in_doubt(connection: Connection, slices: Slices) -> None:
    await outbox.put_back(connection, [undecided(m) for m in slices.doubtful(100)])


@work(pages=4_000)
async def doubts_some(connection: Connection, slices: Slices) -> None:
    await outbox.doubt(connection, [undecided(m) for m in slices.flying(100)])


@work(pages=7_000)
async def revokes_an_intent(connection: Connection, slices: Slices) -> None:
    await outbox.revoke_intent(connection, LIVE, 3)


@work(pages=20_000)
async def adopts_orphans(connection: Connection, slices: Slices) -> None:
    await connection.execute("UPDATE channel_leases SET epoch = epoch + 1")
    assert await leases.adopt_orphans(connection) == ORPHANED * FLYING_ROWS


@work(pages=3_000)
async def cancels_what_waits(connection: Connection, slices: Slices) -> None:
    run = Cancelling(WorkspaceId(1), RunId(READY), [1], 0)
    assert await cancelling.cancel_ready(connection, run, 1, BEGINNING, 200)


# --- doubts ----------------------------------------------------------------------------------------------------------


def keys(messages: list[Message]) -> list[DoubtKey]:
    return [DoubtKey(1, m.id, 1) for m in messages]


@work(pages=60_000, removed=BUSY * DOUBTFUL_ROWS, whole=("doubts",))
async def finds_the_ends_of_workers(connection: Connection, slices: Slices) -> None:
    await doubts.find_ends(connection, WorkerId(LIVE))


@work(pages=40_000, removed=2 * BUSY * DOUBTFUL_ROWS)
async def gathers_the_facts_of_doubts(connection: Connection, slices: Slices) -> None:
    for is_held in (False, True):
        found = await doubts.facts(connection, WorkerId(LIVE), held=is_held, attempts=3, limit=200)
        assert len(found) == 200


@work(pages=4_000)
async def sends_doubtful_ones_again(connection: Connection, slices: Slices) -> None:
    assert await doubts.send_again(connection, keys(slices.doubtful(100))) == 100


@work(pages=3_000)
async def holds_and_forgets_doubts(connection: Connection, slices: Slices) -> None:
    await doubts.hold(connection, [(key, HoldReason.NO_EVIDENCE) for key in keys(slices.doubtful(100))])
    await doubts.forget(connection, keys(slices.doubtful(100)))


@work(pages=12_000, removed=3 * BUSY * DOUBTFUL_ROWS, whole=("doubts",))
async def lists_held_ones(connection: Connection, slices: Slices) -> None:
    assert len(await held.list_held(connection, WorkspaceId(1), Selection(), 0, 100)) == 100
    assert len(await held.list_held(connection, WorkspaceId(1), Selection(channel_id=3), 0, 50)) == 50
    chosen = [m.id for m in slices.doubtful(20)]
    await held.list_held(connection, WorkspaceId(1), Selection(message_ids=chosen), 0, 100)


@work(pages=30_000, removed=BUSY * DOUBTFUL_ROWS, whole=("doubts",))
async def drops_held_ones(connection: Connection, slices: Slices) -> None:
    await held.resolve(connection, WorkspaceId(1), DoubtAction.DROP, Selection())


@work(pages=40_000, removed=2 * BUSY * DOUBTFUL_ROWS, whole=("doubts", "retries"))
async def forgets_doubts_that_are_settled(connection: Connection, slices: Slices) -> None:
    await sweep.forget_settled_doubts(connection)


# --- receipts --------------------------------------------------------------------------------------------------------


def receipt(found: tuple[int, int, str], day: date | None = None) -> Receipt:
    id, channel_id, provider_id = found
    named = (None, None) if day is None else (id, day)
    return Receipt(1, channel_id, provider_id, 4, datetime.now(UTC), None, None, *named)


@work(pages=1_500)
async def sifts_evidence(connection: Connection, slices: Slices) -> None:
    evidence = [Evidence(1, c, id, 1, TODAY, name, datetime.now(UTC)) for id, c, name in slices.logged(100)]
    new, _ = await receipts.sift(connection, evidence)
    assert not new


@work(pages=3_000)
async def tells_whose_echoes_are_somebody_else_s(connection: Connection, slices: Slices) -> None:
    ours = [Evidence(1, c, id, 1, TODAY, name, datetime.now(UTC)) for id, c, name in slices.logged(50)]
    theirs = [Evidence(1, 1, 10**15 + n, 1, TODAY, f"m_{n}", datetime.now(UTC)) for n in range(50)]
    assert await own_messages.unknown(connection, ours + theirs) == theirs


@work(pages=3_500)
async def applies_receipts_with_our_key(connection: Connection, slices: Slices) -> None:
    assert not (await receipts.apply(connection, [receipt(found, TODAY) for found in slices.logged(100)])).unmatched


@work(pages=4_500)
async def applies_receipts_with_metas_id(connection: Connection, slices: Slices) -> None:
    assert not (await receipts.apply(connection, [receipt(found) for found in slices.logged(100)])).unmatched
    assert not (await receipts.apply(connection, [receipt(found) for found in slices.logged(10, day=0)])).unmatched


@work(pages=4_000)
async def keeps_receipts_that_match_nothing(connection: Connection, slices: Slices) -> None:
    foreign = [Receipt(1, 1, f"nobody_{n}", 4, datetime.now(UTC)) for n in range(100)]
    assert (await receipts.apply(connection, foreign)).unmatched == foreign
    await early_receipts.keep(connection, foreign, [])
    await early_receipts.catch_up(connection, foreign)


@work(pages=6_000)
async def applies_watermarks(connection: Connection, slices: Slices) -> None:
    recipients = await connection.fetch(
        "SELECT channel_id, recipient FROM deliveries WHERE workspace_id = 1 AND id = ANY ($1::bigint[]) AND day = $2",
        [id for id, _, _ in slices.logged(50)],
        TODAY,
    )
    marks = [Watermark(1, channel_id, name, 4, datetime.now(UTC)) for channel_id, name in recipients]
    await early_receipts.keep(connection, [], marks)
    await early_receipts.catch_up(connection, watermarks=marks)


@work(pages=3_500)
async def looks_for_what_was_kept(connection: Connection, slices: Slices) -> None:
    today = datetime.now(UTC).date()
    found = [Settled(1, c, id, 1, today, ACCEPTED, name) for id, c, name in slices.logged(100)]
    await early_receipts.apply_pending(connection, found)


@work(pages=1_000)
async def looks_for_what_was_kept_of_older_ones(connection: Connection, slices: Slices) -> None:
    older = [AcceptedMessage(1, c, id, name, YESTERDAY) for id, c, name in slices.logged(20, day=0)]
    await early_receipts.catch_up(connection, settled=older)


@work(pages=2_000)
async def pages_through_what_was_kept(connection: Connection, slices: Slices) -> None:
    since = datetime.now(UTC) - timedelta(days=1)
    page = await early_receipts.kept_receipts(connection, since, None, 500)
    assert len(await early_receipts.kept_receipts(connection, since, page[-1], 500)) == 500
    marks = await early_receipts.kept_watermarks(connection, since, None, 500)
    assert len(await early_receipts.kept_watermarks(connection, since, marks[-1], 500)) == 500


# --- webhooks --------------------------------------------------------------------------------------------------------


# Of so few the planner may read all, and rightly.
@work(pages=8_000, whole=("webhook_queue", f"webhook_log_{TODAY:%Y%m%d}"))
async def takes_webhooks(connection: Connection, slices: Slices) -> None:
    taken = (await webhooks.take(connection, 500, 10_000_000)).webhooks
    assert len(taken) == 500
    await webhooks.finish(connection, taken)


@work(pages=300)
async def notes_what_was_heard(connection: Connection, slices: Slices) -> None:
    await channel_evidence.note(connection, [Heard(1, c + 1, READY, datetime.now(UTC)) for c in range(BUSY)])
