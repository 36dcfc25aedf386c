"""Each commit of ingest may be its process's last, and each transaction may be in another's way: it ends the same."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import asyncpg
import pytest

from pombo.domain.outcomes import DeliveryState
from pombo.ingest import ingester as ingester_module
from pombo.ingest.apart import apart as in_a_transaction
from pombo.ingest.ingester import Ingester
from pombo.store.database import Connection, Database
from pombo.store.secrets import SecretBox
from tests.delivery_log import House, figures, row
from tests.inbox_story import (
    NEW_PHONE,
    PAGE,
    PHONE,
    PSID,
    USER,
    arrive,
    followed,
    from_person,
    holdings,
    messenger_story,
    mexican_story,
    milliseconds,
    number,
    page,
    page_echo,
    seconds,
    shown,
    text,
    whatsapp,
    whatsapp_story,
)
from tests.locks import Died
from tests.service.test_inbox_ingest import build, connection, follow

__all__ = ["connection"]  # fixture

Work = Callable[[Connection], Awaitable[Any]]

STORY = whatsapp_story() + messenger_story()
STORIES = {
    "in order": STORY,
    "backwards": STORY[::-1],
    # Who has answered turns out to be who was written to.
    "by a status": mexican_story()[::-1],
    "by an echo": [
        whatsapp(10, "wamid.1", "text", phone=None, **text("Hello")),
        number(
            "smb_message_echoes",
            message_echoes=[
                {"to": PHONE, "to_user_id": USER, "id": "wamid.2", "timestamp": seconds(20), "type": "text"}
                | text("Hi")
            ],
        ),
    ],
    "by a new number": [
        whatsapp(10, "wamid.1", "text", phone=NEW_PHONE, user=None, **text("Hello")),
        number(
            messages=[
                {"from": PHONE, "id": "wamid.s", "timestamp": seconds(20), "type": "system"}
                | {"system": {"body": "Ana changed", "wa_id": NEW_PHONE, "type": "user_changed_number"}}
            ]
        ),
    ],
}


def mortal(monkeypatch: pytest.MonkeyPatch, commits: int) -> None:
    """Who applies anything dies after so many commits."""
    left = commits

    async def apart(database: Database, work: Work, *settings: str) -> Any:
        nonlocal left
        done = await in_a_transaction(database, work, *settings)
        left -= 1
        if left == 0:
            raise Died
        return done

    monkeypatch.setattr(ingester_module, "apart", apart)


def hindered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first try of each transaction ends in a deadlock, with all its work done."""

    async def apart(database: Database, work: Work, *settings: str) -> Any:
        tries = 0

        async def at_first_in_vain(connection: Connection) -> Any:
            nonlocal tries
            tries += 1
            done = await work(connection)
            if tries == 1:
                raise asyncpg.DeadlockDetectedError("deadlock detected")
            return done

        return await in_a_transaction(database, at_first_in_vain, *settings)

    monkeypatch.setattr(ingester_module, "apart", apart)


async def apply_dying(
    database: Database, connection: Connection, house: House, monkeypatch: pytest.MonkeyPatch, story: Sequence[bytes]
) -> int:
    """Of each webhook, one process after the other gets one commit further. Returns how many died."""
    deaths = 0
    for body in story:
        await arrive(connection, house, body)
        commits = 1
        while await connection.fetchval("SELECT count(*) FROM webhook_queue"):
            try:
                with monkeypatch.context() as killing:
                    mortal(killing, commits)
                    await Ingester(database).run_once()
            except Died:
                deaths += 1
                commits += 1
    return deaths


async def undisturbed(database: Database, connection: Connection, box: SecretBox, story: Sequence[bytes]) -> Any:
    house = await build(connection, box)
    for body in story:
        await arrive(connection, house, body)
        assert await Ingester(database).run_once() == 1
    await follow(connection)
    return await holdings(connection, house)


@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
async def test_whichever_commit_is_a_processes_last_it_ends_the_same(
    database: Database,
    connection: Connection,
    box: SecretBox,
    monkeypatch: pytest.MonkeyPatch,
    story: Sequence[bytes],
) -> None:
    expected = await undisturbed(database, connection, box, story)
    house = await build(connection, box)
    deaths = await apply_dying(database, connection, house, monkeypatch, story)
    await follow(connection)

    assert deaths >= len(story)
    assert await holdings(connection, house) == expected
    assert await followed(connection, house) == await shown(connection, house)


@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
async def test_whichever_transaction_ends_in_a_deadlock_it_ends_the_same(
    database: Database,
    connection: Connection,
    box: SecretBox,
    monkeypatch: pytest.MonkeyPatch,
    story: Sequence[bytes],
) -> None:
    expected = await undisturbed(database, connection, box, story)
    house = await build(connection, box)
    # Three at a time, so that a batch has all kinds of transactions.
    for n in range(0, len(story), 3):
        batch = story[n : n + 3]
        await arrive(connection, house, *batch)
        with monkeypatch.context() as hindering:
            hindered(hindering)
            assert await Ingester(database).run_once() == len(batch)
    await follow(connection)

    assert await holdings(connection, house) == expected
    assert await followed(connection, house) == await shown(connection, house)


async def test_what_was_kept_for_a_doubt_is_not_lost_with_the_process_that_settles_it(
    database: Database, connection: Connection, box: SecretBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = await build(connection, box)
    doubt = await house.prepare(connection, await house.channel(connection, PAGE), PSID)
    await house.queue(connection, doubt, "u")
    delivered = from_person(3, delivery={"mids": ["m_doubt"], "watermark": milliseconds(3)})
    echo = page_echo(2, mid="m_doubt", text="Hello", metadata=doubt.key)

    assert await apply_dying(database, connection, house, monkeypatch, [page(delivered), page(echo)]) > 2

    assert (await row(connection, doubt))["state"] == DeliveryState.DELIVERED.rank
    assert await figures(connection, doubt.run_id) == {"accepted": 1, "delivered": 1, "uncertain": -1}
