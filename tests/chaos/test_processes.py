"""Processes that are killed, stopped, cut off: each message is accepted exactly once all the same."""

import pytest

from tests.chaos import mishaps, weather
from tests.chaos.books import exactly_once
from tests.chaos.installation import Installation
from tests.chaos.mishaps import Mishap, a_while
from tests.chaos.scale import LONG
from tests.chaos.settling import rested


async def begin(installation: Installation, count: int) -> None:
    await weather.rises(installation, weather.webhooks_come_later_than_a_takeover)
    await installation.send(count)

    async def holds() -> bool:
        return await installation.accepted() > 0

    await installation.until("something was accepted", holds)


async def end_well(installation: Installation) -> None:
    assert await installation.value("SELECT count(*) FROM outbox WHERE state = 'r'"), "the last mishap hit nothing"
    await rested(installation)
    assert await exactly_once(installation) == []


_ALL: list[Mishap] = [
    mishaps.one_worker_is_killed,
    mishaps.all_workers_are_killed,
    mishaps.a_worker_is_stopped_for_longer_than_its_lease,
    mishaps.a_worker_is_stopped_right_before_it_writes,
    mishaps.a_worker_is_cut_off_from_the_database,
    mishaps.the_database_is_killed,
]


@pytest.mark.parametrize(
    "kinds",
    [*([kind] for kind in _ALL if LONG), _ALL],
    ids=lambda kinds: kinds[0].__name__ if len(kinds) == 1 else "all_of_them",
)
async def test_whatever_befalls_processes_each_message_is_accepted_once(
    mortal: Installation, kinds: list[Mishap]
) -> None:
    await begin(mortal, mortal.scale.messages)
    befalls = kinds * mortal.scale.times
    mortal.chance.shuffle(befalls)
    for mishap in befalls:
        await mortal.keep_busy()
        await a_while(mortal)
        await mishap(mortal)
    await end_well(mortal)


@pytest.mark.skipif(not LONG, reason="takes minutes: make chaos")
async def test_fifty_kills_over_a_hundred_thousand_messages(mortal: Installation) -> None:
    await begin(mortal, 100_000)
    while sum(worker.kills for worker in mortal.workers) < 50:
        await a_while(mortal, 3.0)
        kill = mishaps.all_workers_are_killed if mortal.chance.random() < 0.2 else mishaps.one_worker_is_killed
        await kill(mortal)
    await end_well(mortal)
