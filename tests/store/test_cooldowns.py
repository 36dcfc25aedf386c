"""Whom an error concerns: channels that stop, and channels that are to leave Meta alone."""

from dataclasses import dataclass

import pytest

from pombo.domain.channels import ChannelState
from pombo.domain.ids import ChannelId, WorkspaceId
from pombo.domain.outcomes import ErrorScope
from pombo.store import channels, cooldowns, leases
from pombo.store.channels import Stop, is_concerned
from pombo.store.cooldowns import Cause, Cooldown
from pombo.store.database import Connection, Database
from pombo.store.secrets import SecretBox
from tests.sandbox_server import AppHandle, ChannelHandle
from tests.seeding import add_channel, add_workspace

SCOPES = {
    ErrorScope.CHANNEL: ["hit"],
    ErrorScope.ACCOUNT: ["hit", "sibling"],
    ErrorScope.APP: ["cousin", "hit", "sibling"],
}


@dataclass(frozen=True, slots=True)
class Family:
    """A number, one in the same account, one in the same app, and others that are no kin."""

    workspace_id: WorkspaceId
    ids: dict[str, ChannelId]

    def named(self, ids: set[int]) -> list[str]:
        return sorted(name for name, id in self.ids.items() if id in ids)


@pytest.fixture
async def family(database: Database, box: SecretBox) -> Family:
    workspace_id, foreign = await add_workspace(database), await add_workspace(database, "another")
    app, other_app = (AppHandle(f"{n}", f"app secret number {n}", f"verify {n}") for n in (1, 2))
    made = {
        "hit": (workspace_id, ChannelHandle("whatsapp", "1", "token", app, "waba-1")),
        "sibling": (workspace_id, ChannelHandle("whatsapp", "2", "token", app, "waba-1")),
        "cousin": (workspace_id, ChannelHandle("whatsapp", "3", "token", app, "waba-2")),
        "without account": (workspace_id, ChannelHandle("whatsapp", "4", "token", other_app)),
        "without account too": (workspace_id, ChannelHandle("whatsapp", "5", "token", other_app)),
        "page of the app": (workspace_id, ChannelHandle("messenger", "6", "token", app)),
        "another workspace's": (foreign, ChannelHandle("whatsapp", "7", "token", app, "waba-1")),
    }
    return Family(workspace_id, {name: await add_channel(database, box, *one) for name, one in made.items()})


async def all_channels(connection: Connection, family: Family) -> dict[str, channels.Channel]:
    by_id = {channel.id: channel for channel in await channels.all_channels(connection)}
    return {name: by_id[id] for name, id in family.ids.items()}


async def stop(
    connection: Connection, family: Family, name: str, scope: ErrorScope, token: bytes | None = None
) -> None:
    channel = (await all_channels(connection, family))[name]
    error = Stop(family.workspace_id, channel.id, token or channel.token, scope, "131042", "Payment. Pay.")
    await channels.stop_channels(connection, [error])


async def stopped(connection: Connection, family: Family) -> list[str]:
    found = await all_channels(connection, family)
    return sorted(name for name, channel in found.items() if channel.state is ChannelState.STOPPED)


@pytest.mark.parametrize(("scope", "concerned"), SCOPES.items())
async def test_an_error_stops_whom_it_concerns_and_one_start_lets_them_all_go_on(
    database: Database, family: Family, scope: ErrorScope, concerned: list[str]
) -> None:
    async with database.borrow() as connection:
        await stop(connection, family, "hit", scope)
        assert await stopped(connection, family) == concerned
        found = await all_channels(connection, family)
        in_memory = [name for name, channel in found.items() if is_concerned(channel, found["hit"], scope)]
        assert sorted(in_memory) == concerned

        started = await channels.start_channel(connection, family.workspace_id, family.ids[concerned[0]])
        assert family.named(set(started)) == concerned
        assert await stopped(connection, family) == []
        assert await channels.start_channel(connection, family.workspace_id, family.ids["hit"]) == []


async def test_a_number_that_names_no_account_stops_alone(database: Database, family: Family) -> None:
    async with database.borrow() as connection:
        await stop(connection, family, "without account", ErrorScope.ACCOUNT)
        assert await stopped(connection, family) == ["without account"]


async def test_starting_a_channel_leaves_those_alone_that_another_error_has_stopped(
    database: Database, family: Family
) -> None:
    async with database.borrow() as connection:
        await stop(connection, family, "sibling", ErrorScope.CHANNEL)
        await stop(connection, family, "hit", ErrorScope.ACCOUNT)
        await channels.start_channel(connection, family.workspace_id, family.ids["hit"])
        assert await stopped(connection, family) == ["sibling"]


async def test_an_error_about_a_token_that_was_replaced_meanwhile_stops_nothing(
    database: Database, family: Family
) -> None:
    async with database.borrow() as connection:
        await stop(connection, family, "hit", ErrorScope.APP, b"the former one")
        assert await stopped(connection, family) == []


def throttle(family: Family, scope: ErrorScope, left_s: float, name: str = "hit") -> Cooldown:
    return Cooldown(family.workspace_id, family.ids[name], scope, Cause.THROTTLE, left_s, 3, "Too fast.")


@pytest.mark.parametrize(("scope", "concerned"), SCOPES.items())
async def test_a_throttle_is_noted_for_whom_it_concerns_and_heard_by_their_owner(
    database: Database, family: Family, scope: ErrorScope, concerned: list[str]
) -> None:
    async with database.borrow() as connection:
        worker = await leases.register(connection, "one", 1, 60.0)
        await leases.acquire(connection, worker)
        await cooldowns.note(connection, [throttle(family, scope, 30.0)])
        heard = await cooldowns.of_worker(connection, worker)
    assert family.named({standing.channel_id for standing in heard}) == concerned
    assert {(standing.cause, standing.step) for standing in heard} == {(Cause.THROTTLE, 3)}
    assert all(0.0 < standing.left_s <= 30.0 for standing in heard)


async def test_the_longest_throttle_counts_and_one_that_is_over_is_not_heard(
    database: Database, family: Family
) -> None:
    async with database.borrow() as connection:
        worker = await leases.register(connection, "one", 1, 60.0)
        await leases.acquire(connection, worker)
        short, long = throttle(family, ErrorScope.APP, 30.0), throttle(family, ErrorScope.APP, 300.0, "sibling")
        await cooldowns.note(connection, [short, long])
        await cooldowns.note(connection, [short])
        assert all(standing.left_s > 200.0 for standing in await cooldowns.of_worker(connection, worker))

        over = throttle(family, ErrorScope.CHANNEL, -1.0, "without account")
        await cooldowns.note(connection, [over])
        heard = await cooldowns.of_worker(connection, worker)
        assert family.named({standing.channel_id for standing in heard}) == SCOPES[ErrorScope.APP]


async def test_an_open_breaker_is_heard_of_also_when_its_time_is_up_and_until_it_closes(
    database: Database, family: Family
) -> None:
    opened = throttle(family, ErrorScope.CHANNEL, -5.0)._replace(cause=Cause.BREAKER)
    async with database.borrow() as connection:
        worker = await leases.register(connection, "one", 1, 60.0)
        await leases.acquire(connection, worker)
        await cooldowns.note(connection, [opened, throttle(family, ErrorScope.CHANNEL, 60.0)])
        assert {s.cause for s in await cooldowns.of_worker(connection, worker)} == {Cause.BREAKER, Cause.THROTTLE}
        (shown,) = await cooldowns.open_breakers(connection, family.workspace_id)
        assert (shown.channel_id, shown.reason) == (family.ids["hit"], "Too fast.")

        await cooldowns.forget_breakers(connection, [(family.workspace_id, family.ids["hit"])])
        assert [s.cause for s in await cooldowns.of_worker(connection, worker)] == [Cause.THROTTLE]
