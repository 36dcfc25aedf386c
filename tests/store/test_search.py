"""Search by spans of time finds what looking at every message finds."""

import random
from datetime import UTC, datetime, timedelta

import pytest

from pombo.store import conversation_search
from pombo.store.conversation_search import NOW, Hit, Position
from pombo.store.database import Connection, Database
from tests.seeding import add_workspace

# In how many of a thousand messages.
WORDS = {"common": 600, "frequent": 100, "some": 20, "rare": 4, "gone": 0}
PAGE = 40


def times(chance: random.Random) -> list[datetime]:
    """Years of now and then, two crowds of a few hours, the last minutes, and clocks that are ahead."""
    now = datetime.now(UTC)
    ages = [timedelta(days=chance.uniform(0, 4000)) for _ in range(1500)]
    for begin in (timedelta(days=30), timedelta(days=700)):
        ages += [begin + timedelta(hours=chance.uniform(0, 6)) for _ in range(900)]
    ages += [timedelta(minutes=chance.uniform(-5, 5)) for _ in range(300)]
    return [now - age for age in ages]


async def fill(
    connection: Connection, workspace_id: int, chance: random.Random
) -> list[tuple[datetime, int, set[str]]]:
    """(time, id, words) of each message."""
    made = [(at, {word for word, share in WORDS.items() if chance.random() * 1000 < share}) for at in times(chance)]
    rows = await connection.fetch(
        """INSERT INTO conversation_messages (workspace_id, conversation_id, channel_id, direction, author, provider_id,
                                              kind, text, at)
           SELECT $1, 1 + n % 50, 1, 'in', 'contact', 'm.' || n, 'text', text, at
           FROM unnest($2::text[], $3::timestamptz[]) WITH ORDINALITY AS t (text, at, n) ORDER BY n RETURNING id""",
        workspace_id,
        [" ".join(["filler", *words]) for _, words in made],
        [at for at, _ in made],
    )
    return [(at, row["id"], words) for (at, words), row in zip(made, rows, strict=True)]


async def add(connection: Connection, workspace_id: int, text: str, at: datetime) -> None:
    """One message."""
    await connection.execute(
        """INSERT INTO conversation_messages
               (workspace_id, conversation_id, channel_id, direction, author, kind, text, at)
           VALUES ($1, 1, 1, 'in', 'contact', 'text', $2, $3)""",
        workspace_id,
        text,
        at,
    )


@pytest.mark.parametrize("seed", range(3))
async def test_search_finds_what_reading_everything_finds_page_by_page(database: Database, seed: int) -> None:
    chance, workspace_id = random.Random(seed), await add_workspace(database)
    async with database.borrow() as connection:
        messages = await fill(connection, workspace_id, chance)
    wanted = [["common"], ["frequent"], ["some"], ["rare"], ["gone"], ["common", "rare"], ["frequent", "some"]]
    for words in wanted:
        expected = sorted(((at, id) for at, id, said in messages if said.issuperset(words)), reverse=True)
        found: list[Hit] = []
        before = NOW
        async with database.tenant(workspace_id) as connection:
            while page := await conversation_search.by_message(connection, " ".join(words), before, PAGE):
                found += page
                before = Position(page[-1].at, page[-1].message_id)
        assert [(hit.at, hit.message_id) for hit in found] == expected, words


ODD_TEXTS = (
    "it's o'clock",
    "back\\slash and 'quotes' & (brackets) | <-> !not :* @1/107/word",
    "https://example.com/a/b?c='d'&e=%20f ana@example.com +351912345678 3.14 -5 snake_case semi-detached",
    "Привет мир, こんにちは 世界, हिन्दी, שלום 👋🏽",
    "long " + "y" * 300 + " " + "ü" * 3000,
    "one two three four five six seven eight nine ten",
)


@pytest.mark.parametrize("text", ODD_TEXTS, ids=range(len(ODD_TEXTS)))
async def test_each_text_is_found_by_itself_and_in_no_other_workspace(database: Database, text: str) -> None:
    workspace_id, other = await add_workspace(database), await add_workspace(database, "other")
    now = datetime.now(UTC)
    async with database.borrow() as connection:
        for each, at in ((workspace_id, now), (workspace_id, now - timedelta(days=2000)), (other, now)):
            await add(connection, each, text, at)
    async with database.tenant(workspace_id) as connection:
        found = await conversation_search.by_message(connection, text, NOW, PAGE)
        none = await conversation_search.by_message(connection, text + " missing", NOW, PAGE)
    assert [hit.at for hit in found] == [now, now - timedelta(days=2000)]
    assert found[0].text == text[:200]
    assert none == []


async def test_long_words_that_begin_alike_are_not_the_same(database: Database) -> None:
    workspace_id = await add_workspace(database)
    async with database.borrow() as connection:
        await add(connection, workspace_id, "y" * 300, datetime.now(UTC))
    async with database.tenant(workspace_id) as connection:
        assert len(await conversation_search.by_message(connection, "y" * 300, NOW, PAGE)) == 1
        assert await conversation_search.by_message(connection, "y" * 301, NOW, PAGE) == []
