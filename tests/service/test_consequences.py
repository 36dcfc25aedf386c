"""What errors mean beyond their message: for other workers' lanes, campaigns and contacts."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from pombo.campaigns.expand import Expander
from pombo.domain.channels import ChannelKind
from pombo.domain.content import Text
from pombo.domain.ids import ChannelId, RunId
from pombo.domain.outcomes import ErrorScope
from pombo.sending.worker import Worker
from pombo.store import audience, campaigns, cooldowns, run_control, runs
from pombo.store.audience import StagedLine
from pombo.store.cooldowns import Cause, Cooldown
from tests.sandbox_server import ChannelHandle
from tests.seeding import SeededRun, add_channel, add_run, figures
from tests.service.test_worker import Setting, options, setting, until, working

__all__ = ["options", "setting"]  # fixtures

OFFER = {"type": "template", "name": "spring_offer", "language": "en_US"}


async def saved(worker: Worker, condition: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(20):
        while not await condition():
            worker.saved.clear()
            worker.ring()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    await worker.saved.wait()


async def add_phone(setting: Setting, waba_id: str = "") -> tuple[ChannelHandle, ChannelId]:
    phone = await setting.sandbox.add_phone(setting.page.app, waba_id=waba_id, messages_per_second=None)
    return phone, await add_channel(setting.database, setting.box, setting.workspace, phone)


async def run_of(setting: Setting, channel: ChannelId, count: int, content: dict[str, Any] = OFFER) -> SeededRun:
    numbers = [(channel, f"+1415{5550000 + n}") for n in range(count)]
    return await add_run(setting.database, setting.workspace, numbers, content)


async def state_of(setting: Setting, run: SeededRun) -> tuple[str, str | None]:
    async with setting.database.borrow() as connection:
        found = await runs.get_run(connection, run.workspace_id, run.run_id)
    assert found is not None
    return found.state.value, found.pause_reason


# --- templates and contents -------------------------------------------------------------------------------------------


async def test_a_paused_template_pauses_its_campaigns_and_what_waited_is_sent_when_they_are_resumed(
    setting: Setting,
) -> None:
    phone, number = await add_phone(setting)
    _, same_account = await add_phone(setting, phone.waba_id)
    other_phone, other_account = await add_phone(setting)
    for of in (phone, other_phone):
        await setting.sandbox.add_template(of, "spring_offer")
    struck, sibling = await run_of(setting, number, 40), await run_of(setting, same_account, 1)
    raw = {"type": "raw", "payload": {"type": "template", "template": {"name": "spring_offer",
                                                                       "language": {"code": "en_US"}}}}  # fmt: skip
    as_raw = await run_of(setting, same_account, 1, raw)
    unconcerned = await run_of(setting, other_account, 1)
    for run in (sibling, as_raw):  # to be found waiting
        await setting.value(f"UPDATE outbox SET due_at = now() + interval '1 hour' WHERE run_id = {run.run_id}")
    await setting.fault(kind="error", code=132015, channel=phone.id)

    async with working(setting.database, setting.box, setting.options) as worker:

        async def paused() -> bool:
            return (await state_of(setting, struck))[0] == "pausing" and not any(
                lane.open for lane in worker.lanes.values()
            )

        await saved(worker, paused)
        for run in (struck, sibling, as_raw):
            state, reason = await state_of(setting, run)
            assert state == "pausing"
            assert reason is not None
            assert "resume the campaign" in reason
        assert (await state_of(setting, unconcerned))[0] == "processing"
        # Kept, every one, and none used up an attempt.
        waiting = f"SELECT count(*) FROM outbox WHERE run_id = {struck.run_id} AND state = 'r' AND attempt = uncounted"
        assert await setting.value(waiting) == 40

        await setting.sandbox.clear_faults()
        async with setting.database.transaction() as connection:
            await run_control.resume_runs(connection, setting.workspace, [struck.run_id])
        found = await until(worker, setting.database, struck, lambda f: f.get("accepted") == 40)
    assert found == {"total": 40, "accepted": 40}


async def test_a_content_that_fails_message_after_message_pauses_its_run(setting: Setting) -> None:
    run, other = await setting.run(60), await setting.run(1)
    await setting.fault(kind="error", code=100, rate=1.0)
    few = replace(setting.options, content_failures=10, concurrency=2, max_sockets=2)
    async with working(setting.database, setting.box, few) as worker:

        async def paused() -> bool:
            return (await state_of(setting, run))[0] == "pausing" and not any(
                lane.open for lane in worker.lanes.values()
            )

        await saved(worker, paused)
    async with setting.database.borrow() as connection:
        found = await figures(connection, run)
    # What was collected by then fails as well.
    assert 10 <= found["failed"] <= 20
    _, reason = await state_of(setting, run)
    assert reason is not None
    assert reason.startswith("10 messages in a row failed: Meta refused a value in the message.")
    assert (await state_of(setting, other))[0] == "processing"


async def test_people_who_cannot_be_reached_pause_nothing(setting: Setting) -> None:
    run = await setting.run(40)
    await setting.fault(kind="error", code=551)
    async with working(setting.database, setting.box, replace(setting.options, content_failures=3)) as worker:
        found = await until(worker, setting.database, run, lambda f: f.get("failed") == 40)
    assert found == {"total": 40, "failed": 40}
    assert (await state_of(setting, run))[0] == "processing"


async def test_an_accepted_message_begins_the_count_of_failures_anew(setting: Setting) -> None:
    run = await setting.run(6)
    for n in (0, 1, 3, 4, 5):
        await setting.fault(kind="error", code=100, recipient=str(10_000 + n))
    await setting.value("UPDATE outbox SET due_at = now() + interval '1 hour'")
    async with working(setting.database, setting.box, replace(setting.options, content_failures=3)) as worker:

        async def let_go(count: int) -> dict[str, int]:
            """So many more of the run's messages; the figures when they are settled."""
            settled = len(run.message_ids) - await setting.value("SELECT count(*) FROM outbox") + count
            await setting.value(
                f"""UPDATE outbox SET due_at = now()
                    WHERE id IN (SELECT id FROM outbox ORDER BY id LIMIT {count})"""
            )
            worker.ring()
            return await until(
                worker, setting.database, run, lambda f: f.get("failed", 0) + f.get("accepted", 0) == settled
            )

        assert (await let_go(2))["failed"] == 2
        assert (await let_go(1))["accepted"] == 1
        assert (await let_go(2))["failed"] == 4
        assert (await state_of(setting, run))[0] == "processing"
        assert (await let_go(1))["failed"] == 5

        async def paused() -> bool:
            return (await state_of(setting, run))[0] == "pausing"

        await saved(worker, paused)


# --- contacts ---------------------------------------------------------------------------------------------------------


async def test_a_person_who_opted_out_is_left_out_of_the_next_campaign(setting: Setting) -> None:
    _, number = await add_phone(setting)
    run = await run_of(setting, number, 3, {"type": "text", "text": "Hello"})
    await setting.fault(kind="error", code=131050, recipient="14155550001")
    async with working(setting.database, setting.box, setting.options) as worker:
        await until(worker, setting.database, run, lambda f: f.get("accepted") == 2 and f.get("failed") == 1)
    assert await setting.value("SELECT kind || ' ' || recipient || ' ' || code FROM suppressions") == (
        "whatsapp +14155550001 131050"
    )

    next_run = await stage(setting, number, [f"+1415555000{n}" for n in range(3)])
    while await Expander(setting.database).run_once():
        pass

    async with setting.database.borrow() as connection:
        queued = await connection.fetch("SELECT recipient FROM outbox WHERE run_id = $1 ORDER BY id", next_run)
        (reject,) = await audience.list_rejects(connection, setting.workspace, next_run, 0, 10)
        counted = await connection.fetchrow(
            "SELECT sum(total), sum(duplicates), sum(rejected) FROM run_deltas WHERE run_id = $1", next_run
        )
    assert [row["recipient"] for row in queued] == ["+14155550000", "+14155550002"]
    assert (reject.line, reject.recipient, reject.code) == (2, "+14155550001", "suppressed")
    assert "stopped marketing" in reject.reason
    assert counted == (2, 0, 1)


async def stage(setting: Setting, channel: ChannelId, recipients: list[str]) -> RunId:
    lines = [StagedLine(n, channel, recipient, None) for n, recipient in enumerate(recipients, 1)]
    async with setting.database.transaction() as connection:
        campaign = await campaigns.create_campaign(connection, setting.workspace, "Next", Text("Hello"), [channel])
        run_id = await audience.open_upload(connection, setting.workspace)
        await audience.stage(connection, setting.workspace, run_id, lines)
        await audience.close_upload(connection, setting.workspace, run_id)
        made = await runs.start_run(
            connection,
            workspace_id=setting.workspace,
            campaign_id=campaign.id,
            content=Text("Hello"),
            channel_ids=[channel],
            source=runs.Source.STAGED,
            audience_size=len(lines),
            run_id=run_id,
        )
    assert made == run_id
    return run_id


# --- other workers ----------------------------------------------------------------------------------------------------


async def test_an_accounts_error_stops_the_channels_of_other_workers_too(setting: Setting) -> None:
    phone, number = await add_phone(setting)
    family = [number, *[(await add_phone(setting, phone.waba_id))[1] for _ in range(3)]]
    _, foreign = await add_phone(setting)
    await setting.fault(kind="error", code=131042, channel=phone.id)
    async with (
        working(setting.database, setting.box, setting.options) as one,
        working(setting.database, setting.box, setting.options) as two,
    ):
        async with asyncio.timeout(20):
            while not (one.lanes and two.lanes and len(one.lanes) + len(two.lanes) == 6):
                await asyncio.sleep(0.01)
        lanes = {lane.channel.id: lane for worker in (one, two) for lane in worker.lanes.values()}
        owners = {id(worker) for worker in (one, two) for lane in worker.lanes.values() if lane.channel.id in family}
        assert len(owners) == 2
        await run_of(setting, number, 1, {"type": "text", "text": "Hello"})
        async with asyncio.timeout(20):
            while not all(lanes[channel].stopped for channel in family):
                await asyncio.sleep(0.01)
    assert not lanes[foreign].stopped
    assert not lanes[setting.channel].stopped
    assert await setting.value("SELECT array_agg(id ORDER BY id) FROM channels WHERE state = 'stopped'") == family
    assert await setting.value("SELECT count(DISTINCT stop_reason) FROM channels WHERE state = 'stopped'") == 1


async def test_a_lane_hears_that_meta_throttles_its_app(setting: Setting) -> None:
    run = await setting.run(5)
    async with setting.database.borrow() as connection:
        sister = await setting.sandbox.add_page(setting.page.app)
        hit = await add_channel(setting.database, setting.box, setting.workspace, sister)
        throttle = Cooldown(setting.workspace, hit, ErrorScope.APP, Cause.THROTTLE, 60.0, 4, "Too many calls.")
        await cooldowns.note(connection, [throttle])
    async with working(setting.database, setting.box, setting.options) as worker:
        async with asyncio.timeout(20):
            while len(worker.lanes) < 2 or not all(lane.throttled == 4 for lane in worker.lanes.values()):
                await asyncio.sleep(0.01)
        now = asyncio.get_running_loop().time()
        assert all(30.0 < lane.resume_at - now <= 60.0 for lane in worker.lanes.values())
    assert await setting.value("SELECT count(*) FROM outbox WHERE attempt = 0") == 5
    async with setting.database.borrow() as connection:
        assert await figures(connection, run) == {"total": 5}


async def test_a_long_throttle_is_noted_for_the_app(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pombo.sending.consequences.WORTH_NOTING_S", 0.0)
    sister = await setting.sandbox.add_page(setting.page.app)
    await add_channel(setting.database, setting.box, setting.workspace, sister)
    await add_phone(setting)  # of the same app, but another kind: another limit
    await setting.run(1)
    await setting.fault(kind="error", code=4)
    async with working(setting.database, setting.box, setting.options) as worker:

        async def noted() -> bool:
            return bool(await setting.value("SELECT count(*) FROM cooldowns"))

        await saved(worker, noted)
    kinds = (
        "SELECT array_agg(c.kind) FROM cooldowns k JOIN channels c ON c.id = k.channel_id WHERE k.cause = 'throttle'"
    )
    assert await setting.value(kinds) == [ChannelKind.MESSENGER] * 2


async def test_a_run_whose_content_cannot_be_sent_at_all_waits_with_the_reason(setting: Setting) -> None:
    """Written past the API, which refuses it."""
    content = {"type": "template", "name": "spring_offer", "language": "en_US"}  # a Page has none
    run, other = await run_of(setting, setting.channel, 2, content), await setting.run(1)
    async with working(setting.database, setting.box, setting.options) as worker:
        await until(worker, setting.database, other, lambda f: f.get("accepted") == 1)

        async def paused() -> bool:
            return (await state_of(setting, run))[0] == "pausing"

        async with asyncio.timeout(20):
            while not await paused():
                await asyncio.sleep(0.01)
    _, reason = await state_of(setting, run)
    assert reason is not None
    assert reason.startswith(f"Its content cannot be sent by channel {setting.channel}: ")
