import asyncio
from datetime import timedelta

import pytest

from pombo.campaigns.expand import Expander
from pombo.campaigns.sweep import sweep_abandoned
from pombo.domain.ids import ChannelId, RunId
from pombo.store import audience, contacts, runs
from pombo.store.audience import RejectedLine, StagedLine
from pombo.store.contacts import NewContact
from pombo.store.database import Database
from pombo.store.errors import NotFound
from pombo.store.secrets import SecretBox
from tests.accounts import HELLO, Account, add_account, stage_run


async def _expand_all(database: Database, chunk: int) -> int:
    expander, chunks = Expander(database, chunk=chunk), 0
    while await expander.run_once():
        chunks += 1
    return chunks


def _numbers(account: Account, *lasts: int) -> list[tuple[ChannelId, str]]:
    return [(account.number, f"+3519100000{last:02}") for last in lasts]


async def test_expansion_queues_each_recipient_once_whatever_chunk_its_copies_are_in(
    database: Database, box: SecretBox
) -> None:
    account = await add_account(database, box)
    run_id = await stage_run(
        database, account, _numbers(account, 1, 1, 2, 3, 2, 4, 1), variables='{"first_name": "Ana"}'
    )

    assert await _expand_all(database, chunk=3) == 3

    async with database.tenant(account.workspace_id) as connection:
        queued = await connection.fetch("SELECT * FROM outbox ORDER BY id")
        run = await runs.get_run(connection, account.workspace_id, run_id)
        deltas = await connection.fetchrow("SELECT sum(total), sum(duplicates) FROM run_deltas")
        left = await connection.fetchval("SELECT count(*) FROM audience")
        members = await connection.fetch("SELECT recipient, message_id FROM run_recipients ORDER BY message_id")
        streams = await connection.fetch("SELECT channel_id, run_id, state FROM streams")
    assert [row["recipient"] for row in queued] == [recipient for _, recipient in _numbers(account, 1, 2, 3, 4)]
    assert [(row["recipient"], row["id"]) for row in queued] == [tuple(row) for row in members]
    assert run is not None
    assert (run.expanded, run.state) == (True, runs.RunState.PROCESSING)
    assert {(row["variables"], row["channel_id"], row["run_id"]) for row in queued} == {
        ('{"first_name": "Ana"}', account.number, run_id)
    }
    # Due since each chunk was expanded, not since the run was planned: what was put back meanwhile went first.
    due = [row["due_at"] for row in queued]
    assert due == sorted(due)
    assert run.planned_at < due[0] == due[1] < due[2]
    assert deltas == (4, 3)
    assert left == 0
    assert [tuple(row) for row in streams] == [(account.number, run_id, "open")]


async def test_what_is_planned_for_later_is_due_then(database: Database, box: SecretBox) -> None:
    account = await add_account(database, box)
    run_id = await stage_run(database, account, _numbers(account, 1, 2))
    async with database.tenant(account.workspace_id) as connection:
        await connection.execute("UPDATE runs SET planned_at = planned_at + interval '1 day' WHERE id = $1", run_id)
        run = await runs.get_run(connection, account.workspace_id, run_id)
    assert run is not None

    await _expand_all(database, chunk=3)

    async with database.tenant(account.workspace_id) as connection:
        due = await connection.fetch("SELECT DISTINCT due_at FROM outbox")
    assert [row["due_at"] for row in due] == [run.planned_at]


async def test_a_recipient_gets_each_run_of_a_campaign_and_each_channel_of_a_run(
    database: Database, box: SecretBox
) -> None:
    account = await add_account(database, box)
    both = [(account.page, "42"), (account.number, "42")]
    await stage_run(database, account, both)
    await stage_run(database, account, both)

    await _expand_all(database, chunk=10)

    async with database.borrow() as connection:
        assert await connection.fetchval("SELECT count(*) FROM outbox") == 4
        assert await connection.fetchval("SELECT count(*) FROM streams") == 4


async def test_a_chunk_that_fails_leaves_the_run_as_it_was(database: Database, box: SecretBox) -> None:
    account = await add_account(database, box)
    run_id = await stage_run(database, account, _numbers(account, 1, 2, 3))

    async def die_in_the_middle() -> None:
        async with database.transaction() as connection:
            claimed = await runs.claim_unexpanded(connection)
            assert claimed is not None
            await audience.move_staged(connection, account.workspace_id, run_id, 0, 2, claimed.planned_at)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await die_in_the_middle()

    await _expand_all(database, chunk=2)

    async with database.borrow() as connection:
        assert await connection.fetchval("SELECT count(*) FROM outbox") == 3
        assert await connection.fetchrow("SELECT sum(total), sum(duplicates) FROM run_deltas") == (3, 0)


async def test_many_workers_expand_many_runs_without_losing_or_doubling_a_line(
    database: Database, box: SecretBox
) -> None:
    account = await add_account(database, box)
    for _ in range(4):
        await stage_run(database, account, [(account.number, f"+35191{n:07}") for n in range(500)])

    await asyncio.gather(*(_expand_all(database, chunk=70) for _ in range(4)))
    # A worker that finds every unfinished run locked is done early; whoever holds them goes on.
    async with database.borrow() as connection:
        per_run = await connection.fetch("SELECT count(*), count(DISTINCT recipient) FROM outbox GROUP BY run_id")
        assert [tuple(row) for row in per_run] == [(500, 500)] * 4
        assert await connection.fetchval("SELECT bool_and(expanded) FROM runs")


async def test_contacts_of_the_chosen_channels_are_expanded_with_their_attributes(
    database: Database, box: SecretBox
) -> None:
    account = await add_account(database, box)
    people = [NewContact(account.page, str(n), {"first_name": "Ana"}) for n in range(1, 6)]
    people += [NewContact(account.number, f"+35191000000{n}") for n in range(1, 5)]
    async with database.tenant(account.workspace_id) as connection:
        await contacts.save_contacts(connection, account.workspace_id, people)
        for channel_ids in ([account.page, account.number], [account.number]):
            await runs.start_run(
                connection,
                workspace_id=account.workspace_id,
                campaign_id=account.campaign_id,
                content=HELLO,
                channel_ids=channel_ids,
                source=runs.Source.CONTACTS,
            )

    await _expand_all(database, chunk=2)

    async with database.borrow() as connection:
        rows = await connection.fetch(
            "SELECT run_id, channel_id, count(*), min(variables::text) FROM outbox GROUP BY 1, 2 ORDER BY 1, 2"
        )
        total = await connection.fetchval("SELECT sum(total) FROM run_deltas")
    assert [tuple(row)[1:] for row in rows] == [
        (account.page, 5, '{"first_name": "Ana"}'),
        (account.number, 4, None),
        (account.number, 4, None),
    ]
    assert total == 13


async def test_a_contact_added_again_while_the_run_expands_gets_one_message(database: Database, box: SecretBox) -> None:
    account = await add_account(database, box)

    async def add(*names: str) -> None:
        async with database.tenant(account.workspace_id) as connection:
            await contacts.save_contacts(
                connection, account.workspace_id, [NewContact(account.page, name) for name in names]
            )

    await add("1", "2", "3")
    async with database.tenant(account.workspace_id) as connection:
        await runs.start_run(
            connection,
            workspace_id=account.workspace_id,
            campaign_id=account.campaign_id,
            content=HELLO,
            channel_ids=[account.page],
            source=runs.Source.CONTACTS,
        )
    assert await Expander(database, chunk=2).run_once()
    async with database.borrow() as connection:
        await connection.execute("DELETE FROM contacts WHERE external_id = '1'")
    await add("1", "4")

    await _expand_all(database, chunk=2)

    async with database.borrow() as connection:
        rows = await connection.fetch("SELECT recipient FROM outbox ORDER BY recipient")
        assert [row["recipient"] for row in rows] == ["1", "2", "3", "4"]
        assert await connection.fetchrow("SELECT sum(total), sum(duplicates) FROM run_deltas") == (4, 1)


async def test_an_audience_of_no_contacts_is_expanded_to_nothing(database: Database, box: SecretBox) -> None:
    account = await add_account(database, box)
    async with database.tenant(account.workspace_id) as connection:
        run_id = await runs.start_run(
            connection,
            workspace_id=account.workspace_id,
            campaign_id=account.campaign_id,
            content=HELLO,
            channel_ids=[account.page, account.number],
            source=runs.Source.CONTACTS,
        )
    assert await _expand_all(database, chunk=10) == 2
    async with database.tenant(account.workspace_id) as connection:
        assert run_id is not None
        run = await runs.get_run(connection, account.workspace_id, run_id)
    assert run is not None
    assert run.expanded


async def test_a_discarded_upload_leaves_nothing_and_a_run_cannot_be_discarded(
    database: Database, box: SecretBox
) -> None:
    account = await add_account(database, box)
    run_id = await stage_run(database, account, _numbers(account, 1), rejects=[RejectedLine(9, "x", "code", "why")])
    async with database.borrow() as connection:
        upload = await audience.open_upload(connection, account.workspace_id)
        lines = [StagedLine(n, account.number, str(n), None) for n in range(1, 5)]
        await audience.stage(connection, account.workspace_id, upload, lines, [RejectedLine(5, "x", "code", "why")])
        for discarded in (upload, run_id):
            await audience.discard_upload(connection, account.workspace_id, discarded)

        assert await connection.fetch("SELECT run_id FROM audience") == [(run_id,)]
        assert await connection.fetch("SELECT run_id FROM run_rejects") == [(run_id,)]
        assert await connection.fetchval("SELECT count(*) FROM uploads") == 0


async def test_only_an_upload_that_fell_silent_is_swept_away(database: Database, box: SecretBox) -> None:
    account = await add_account(database, box)
    async with database.borrow() as connection:
        silent, alive = [await audience.open_upload(connection, account.workspace_id) for _ in range(2)]
        for upload in (silent, alive):
            await audience.stage(connection, account.workspace_id, upload, [StagedLine(1, account.number, "1", None)])
        await connection.execute(
            "UPDATE uploads SET touched_at = touched_at - $2::interval WHERE run_id = $1", silent, timedelta(minutes=61)
        )
    assert await sweep_abandoned(database) == 1

    async with database.borrow() as connection:
        assert await connection.fetch("SELECT run_id FROM audience") == [(alive,)]
        with pytest.raises(NotFound):
            await audience.stage(connection, account.workspace_id, silent, [])
        with pytest.raises(NotFound):
            await audience.close_upload(connection, account.workspace_id, silent)


async def test_staged_lines_can_be_staged_anew_in_another_form(database: Database, box: SecretBox) -> None:
    account = await add_account(database, box)
    lines = [StagedLine(n, 0, f"raw {n}", None) for n in (1, 3, 4, 8)]
    async with database.transaction() as connection:
        upload = await audience.open_upload(connection, account.workspace_id)
        await audience.stage(connection, account.workspace_id, upload, lines)
        first = await audience.read_staged(connection, account.workspace_id, upload, 0, 3)
        assert first == lines[:3]
        good, bad = (
            [StagedLine(1, 7, "fine", None), StagedLine(4, 7, "too", None)],
            [RejectedLine(3, "raw 3", "c", "w")],
        )
        await audience.replace_staged(connection, account.workspace_id, upload, first, good, bad)

        assert await audience.read_staged(connection, account.workspace_id, upload, 0, 9) == [*good, lines[3]]
        assert await audience.list_rejects(connection, account.workspace_id, upload, 0, 9) == bad


async def test_rejects_are_listed_in_order_page_by_page(database: Database, box: SecretBox) -> None:
    account = await add_account(database, box)
    rejects = [RejectedLine(n, f"bad {n}", "phone_invalid", "Too short.") for n in (2, 3, 5)]
    run_id: RunId = await stage_run(database, account, _numbers(account, 1), rejects=rejects)
    async with database.tenant(account.workspace_id) as connection:
        first = await audience.list_rejects(connection, account.workspace_id, run_id, 0, 2)
        rest = await audience.list_rejects(connection, account.workspace_id, run_id, first[-1].line, 2)

    assert first + rest == rejects


async def test_the_running_expander_takes_up_a_run_when_its_bell_rings_and_stops_when_told(
    database: Database, box: SecretBox
) -> None:
    account = await add_account(database, box)
    expander, stop, due = Expander(database), asyncio.Event(), asyncio.Event()
    async with database.listen(
        {runs.NEW_RUN_BELL: lambda _: expander.bell.set(), audience.DUE_BELL: lambda _: due.set()}
    ):
        task = asyncio.create_task(expander.run(stop))
        await stage_run(database, account, _numbers(account, 1, 2))
        async with asyncio.timeout(10):
            await due.wait()
            stop.set()
            await task
    async with database.borrow() as connection:
        assert await connection.fetchval("SELECT count(*) FROM outbox") == 2
