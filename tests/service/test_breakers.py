"""Breakers of whole workers: what leaves while they are half open, and what a next owner knows."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pombo.domain.classes import MessageClass
from pombo.domain.content import Text
from pombo.domain.ids import ChannelId
from pombo.domain.outcomes import ErrorScope
from pombo.sending.breaker import BreakerState
from pombo.sending.lane import Lane
from pombo.sending.worker import Worker
from pombo.store import cooldowns, direct
from pombo.store.cooldowns import Cause, Cooldown
from tests.seeding import add_channel, add_run
from tests.service.test_worker import Setting, options, setting, until, unused_port, working
from tests.service.test_worker_breakage import SilentMeta, little_grace, silent_meta

__all__ = ["little_grace", "options", "setting", "silent_meta", "unused_port"]  # fixtures


async def three_channels_whose_breakers_are_due(setting: Setting) -> list[ChannelId]:
    """Open at their last owner, and time is up: each wants to send one probe. Campaigns and replies wait on all."""
    pages = [await setting.sandbox.add_page(setting.page.app, brake_per_second=None) for _ in range(2)]
    ids = [setting.channel, *[await add_channel(setting.database, setting.box, setting.workspace, p) for p in pages]]
    await add_run(setting.database, setting.workspace, [(ids[n % 3], str(20_000 + n)) for n in range(60)])
    async with setting.database.transaction() as connection:
        for channel in ids:
            for n in range(5):
                await direct.enqueue(
                    connection,
                    workspace_id=setting.workspace,
                    channel_id=channel,
                    message_class=MessageClass.REPLY,
                    recipient=str(30_000 + n),
                    content=Text("Here I am"),
                )
        await cooldowns.note(connection, [opened(setting, channel, 0.0) for channel in ids])
    return ids


def opened(setting: Setting, channel: ChannelId, left_s: float) -> Cooldown:
    return Cooldown(setting.workspace, channel, ErrorScope.CHANNEL, Cause.BREAKER, left_s, 5, "connect")


async def all_lanes(worker: Worker, count: int, condition: Callable[[Lane], object]) -> None:
    async with asyncio.timeout(20):
        while len(worker.lanes) < count or not all(map(condition, worker.lanes.values())):
            await asyncio.sleep(0.01)


@pytest.mark.usefixtures("little_grace")
async def test_half_open_lets_one_message_of_each_lane_leave_whatever_waits(
    setting: Setting, silent_meta: SilentMeta
) -> None:
    await three_channels_whose_breakers_are_due(setting)
    silent = replace(setting.options, graph_api_url=silent_meta.url)
    async with working(setting.database, setting.box, silent) as worker:
        await silent_meta.received(3)
        await all_lanes(worker, 3, lambda lane: lane.breaker.probe is not None and lane.buffered >= 20)
        for _ in range(50):
            worker.ring()
            worker.sender.wake()
            worker.sender.wake_replies()
            await asyncio.sleep(0.01)
        assert silent_meta.requests == 3
        assert {lane.breaker.state for lane in worker.lanes.values()} == {BreakerState.HALF_OPEN}
        assert {lane.open for lane in worker.lanes.values()} == {1}


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "lost_answer"},
        {"kind": "disconnect"},
        {"kind": "error", "code": 2, "when": "before"},
        {"kind": "error", "code": 1, "subcode": 1357046, "when": "after"},
    ],
    ids=["lost", "disconnected", "doubtful", "accepted with an error"],
)
async def test_a_probe_that_fails_is_the_only_one_until_the_next_timeout(
    setting: Setting, fault: dict[str, Any]
) -> None:
    await three_channels_whose_breakers_are_due(setting)
    await setting.fault(**fault)
    async with working(setting.database, setting.box, setting.options) as worker:
        await all_lanes(worker, 3, lambda lane: lane.breaker.opens == 1 and not lane.open)
        assert {lane.breaker.state for lane in worker.lanes.values()} == {BreakerState.OPEN}
    assert await setting.value("SELECT count(*) FROM outbox WHERE state = 'u'") == 3
    assert await setting.value("SELECT count(*) FROM outbox WHERE attempt > 0") == 3
    assert await setting.value("SELECT count(*) FROM cooldowns WHERE cause = 'breaker' AND until > now()") == 3


async def test_a_probe_that_cannot_be_written_is_the_only_one_too(setting: Setting, unused_port: int) -> None:
    await three_channels_whose_breakers_are_due(setting)
    nowhere = replace(setting.options, graph_api_url=f"http://127.0.0.1:{unused_port}")
    async with working(setting.database, setting.box, nowhere) as worker:
        await all_lanes(worker, 3, lambda lane: lane.breaker.opens == 1 and not lane.open)
    assert await setting.value("SELECT count(*) FROM outbox WHERE attempt = 1 AND uncounted = 1") == 3
    assert await setting.value("SELECT count(*) FROM outbox WHERE attempt > 1") == 0


@pytest.mark.parametrize("code", [551, 80006], ids=["refused", "throttled"])
async def test_a_probe_that_meta_answers_closes_the_breaker_and_the_next_owner_knows(
    setting: Setting, code: int
) -> None:
    await three_channels_whose_breakers_are_due(setting)
    await setting.fault(kind="error", code=code, when="before")
    async with working(setting.database, setting.box, setting.options) as worker:
        await all_lanes(worker, 3, lambda lane: lane.breaker.state is BreakerState.CLOSED)
    assert await setting.value("SELECT count(*) FROM cooldowns WHERE cause = 'breaker'") == 0


async def test_a_next_owner_waits_for_the_rest_of_the_time(setting: Setting) -> None:
    run = await setting.run(3)
    async with setting.database.borrow() as connection:
        await cooldowns.note(connection, [opened(setting, setting.channel, 60.0)])
    async with working(setting.database, setting.box, setting.options) as worker:
        await all_lanes(worker, 1, lambda lane: bool(lane.streams))
        (lane,) = worker.lanes.values()
        left = lane.breaker.wait(asyncio.get_running_loop().time())
        assert left is not None
        assert 30.0 < left <= 60.0
        assert await setting.value("SELECT count(*) FROM outbox WHERE attempt = 0") == 3

        # A new token starts the channel anew, breaker and all.
        await add_channel(setting.database, setting.box, setting.workspace, replace(setting.page, token="another"))
        await add_channel(setting.database, setting.box, setting.workspace, setting.page)
        await until(worker, setting.database, run, lambda f: f.get("accepted") == 3)


async def test_a_breaker_that_was_switched_off_is_not_shown_open_for_ever(setting: Setting) -> None:
    async with setting.database.transaction() as connection:
        await cooldowns.note(connection, [opened(setting, setting.channel, 3600.0)])
    run = await setting.run(3)
    without = replace(setting.options, breaker_enabled=False)
    async with working(setting.database, setting.box, without) as worker:
        await until(worker, setting.database, run, lambda f: f.get("accepted") == 3)
    assert await setting.value("SELECT count(*) FROM cooldowns") == 0
