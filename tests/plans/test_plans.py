"""Every statement of the hot path, with a million messages waiting and 300,000 paused ones in their way.

It must read by its indexes and touch as many pages as its own rows need, whatever the tables' size, whatever the
statistics say, under the plans made for its very parameters and under the generic ones that the server may turn to.
"""

from dataclasses import replace

import pytest

from pombo.store import outbox
from tests.plans.dataset import BUSY, EPOCH, FIRST_OPEN, LIVE, OPEN_ROWS, READY, RETRIED, RETRIED_ROWS, Slices
from tests.plans.explain import Explained, Plan
from tests.plans.hot_path import WORK, Work

# Tables that grow with the work; the others hold a row a channel, run or worker, and are best read whole.
LARGE = (
    "outbox",
    "deliveries",
    "doubts",
    "retries",
    "pending_receipts",
    "watermarks",
    "webhook_queue",
    "webhook_log",
)
# After five executions with plans of their own the server may turn to a generic one.
EXECUTIONS = 7


def is_large(table: str) -> bool:
    return any(table == large or table.startswith(f"{large}_") for large in LARGE)


def in_vain(plan: Plan) -> int:
    return sum(scan.removed for scan in plan.scans if is_large(scan.table))


def check(plans: list[Plan], work: Work) -> None:
    for plan in plans:
        whole = [
            scan
            for scan in plan.scans
            if scan.kind == "Seq Scan" and is_large(scan.table) and scan.pages and scan.table not in work.whole
        ]
        assert not whole, f"reads {whole[0].table} whole: {plan.statement}\n{plan.text}"
    costly = max(plans, key=lambda plan: plan.pages)
    pages = sum(plan.pages for plan in plans)
    assert pages <= work.pages, f"touches {pages} pages, {costly.pages} in {costly.statement}\n{costly.text}"
    vain = max(plans, key=in_vain)
    removed = sum(map(in_vain, plans))
    assert removed <= work.removed, f"reads {removed} rows in vain: {vain.statement}\n{vain.text}"


@pytest.mark.parametrize("name", WORK)
async def test_a_statement_stays_on_its_indexes(name: str, explained: Explained, slices: Slices) -> None:
    work, connection = WORK[name], explained.connection
    for mode in ("force_generic_plan", *["auto"] * EXECUTIONS):
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(f"SET LOCAL plan_cache_mode = {mode}")
        await explained.taken()
        await work.run(connection, slices)
        plans = await explained.taken()
        await transaction.rollback()
        assert plans, "auto_explain tells nothing"
        check(plans, work)


async def test_a_statement_that_leaves_its_indexes_is_found_out(explained: Explained) -> None:
    work = replace(WORK["reads_ahead_from_the_beginning"], pages=10, removed=10)
    for statement, complaint in (
        ("SELECT count(*) FROM outbox WHERE recipient = 'nobody'", "reads outbox whole"),
        (f"SELECT id FROM outbox WHERE workspace_id = 1 AND id < {FIRST_OPEN} ORDER BY id LIMIT 500", "pages"),
        ("SELECT id FROM outbox WHERE workspace_id = 1 AND id < 300 AND state = 'u' ORDER BY id LIMIT 9", "in vain"),
    ):
        await explained.taken()
        await explained.connection.fetch(statement)
        plans = await explained.taken()
        with pytest.raises(AssertionError, match=complaint):
            check(plans, replace(work, pages=10_000) if complaint == "in vain" else work)


def first_of(run_id: int, channel_id: int) -> int:
    return FIRST_OPEN + (run_id - 2) * BUSY * OPEN_ROWS + (channel_id - 1) * OPEN_ROWS


@pytest.mark.parametrize(
    ("run_id", "offset", "number", "attempts"), [(READY, 9_000, 500, 0), (RETRIED, 0, RETRIED_ROWS, 1)]
)
async def test_every_intent_is_a_heap_only_update(
    filled: str, run_id: int, offset: int, number: int, attempts: int
) -> None:
    """The worst case: neighbours, so that whole pages are written anew at once.

    (A retry cannot be one: it changes when its message is due, which is what the one index is about.)
    """
    async with Explained.connect(filled) as explained:
        connection, channel = explained.connection, 7
        ids = range(first_of(run_id, channel) + offset, first_of(run_id, channel) + offset + number)
        transaction = connection.transaction()
        await transaction.start()
        _, stored = await outbox.store_intents(
            connection, LIVE, 5_000, [(id, 1, attempts) for id in ids], [(1, channel, EPOCH)]
        )
        updates = await connection.fetchrow(
            "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_xact_all_tables WHERE relname = 'outbox'"
        )
        await transaction.rollback()

    assert len(stored) == number
    assert updates == (number, number)
