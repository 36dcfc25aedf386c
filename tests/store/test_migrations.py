from pathlib import Path

import asyncpg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from pombo.domain.ids import WorkspaceId
from pombo.store import event_log, schema
from pombo.store.database import Database
from pombo.store.errors import SchemaError


def test_the_known_version_is_the_newest_revision() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(schema.__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_current_head() == schema.KNOWN_VERSION


def test_migrating_again_changes_nothing(url: str) -> None:
    schema.migrate(url)


@pytest.mark.parametrize(("version", "advice"), [("0000", "pombo migrate"), ("9999", "newer Pombo")])
async def test_a_role_refuses_a_schema_it_does_not_know_and_says_what_to_do(
    url: str, version: str, advice: str
) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute("UPDATE pombo.schema_version SET version_num = $1", version)
    await connection.close()
    with pytest.raises(SchemaError, match=advice):
        async with Database.open(url):
            pass


@pytest.mark.parametrize("script", ["0005_fresh_event_log.sql", "0007_events_as_text.sql"])
async def test_browsers_that_resume_over_the_migration_begin_with_a_snapshot(url: str, script: str) -> None:
    connection = await asyncpg.connect(url, server_settings={"search_path": "pombo"})
    await connection.execute(
        """UPDATE event_tail SET position = 7; INSERT INTO workspaces (id, name) VALUES (1, 'acme');
           INSERT INTO events (workspace_id, position, topic, name, data) VALUES (1, 7, 't', 'n', '{}');"""
    )
    if script == "0007_events_as_text.sql":
        await connection.execute("ALTER TABLE events DROP COLUMN conversation, ALTER COLUMN data TYPE jsonb")
    await connection.execute(_script(script))
    await connection.close()
    async with Database.open(url) as database, database.transaction() as borrowed:
        now = await event_log.tail(borrowed)
        assert not await event_log.can_replay(borrowed, WorkspaceId(1), 7, now, 100)
        assert await event_log.can_replay(borrowed, WorkspaceId(1), now, now, 100)


async def test_a_role_refuses_an_empty_database(url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute("DROP SCHEMA pombo CASCADE")
    await connection.close()
    with pytest.raises(SchemaError, match="missing"):
        async with Database.open(url):
            pass


# As 0003 had it. Ana came on the third of May, Rui on the first. By their times 1 and 2 are older than Ana, though what
# 2 holds came in last. Ana has read 3, and not all of 4.
_BEFORE = """
ALTER TABLE conversations DROP COLUMN last_inbound_id;
ALTER TABLE conversation_reads DROP COLUMN until, ADD COLUMN until timestamptz NOT NULL;
ALTER TABLE agents DROP COLUMN seen_until, ADD COLUMN seen_until timestamptz NOT NULL DEFAULT now();
INSERT INTO workspaces (id, name) VALUES (1, 'acme');
INSERT INTO meta_apps (workspace_id, id, name, app_secret, verify_token) VALUES (1, 1, 'app', 's', 'v');
INSERT INTO channels (workspace_id, id, kind, external_id, name, app_id, token, rate_per_second)
VALUES (1, 1, 'whatsapp', '1', 'number', 1, 't', 40);
INSERT INTO contacts (workspace_id, id, channel_id, external_id) SELECT 1, n, 1, n::text FROM generate_series(1, 6) n;
INSERT INTO conversations (workspace_id, id, channel_id, contact_id, last_inbound_at)
SELECT 1, n, 1, n, at FROM unnest(ARRAY['2026-05-02', '2026-05-02', '2026-05-05', '2026-05-06', '2026-05-07', NULL]
                                  ::timestamptz[]) WITH ORDINALITY c (at, n);
INSERT INTO conversation_messages (workspace_id, id, conversation_id, channel_id, direction, author, kind, at)
SELECT 1, m.id, m.n, 1, 'in', 'contact', 'text', c.last_inbound_at
FROM (VALUES (10, 1), (20, 3), (30, 4), (40, 5), (50, 2)) m (id, n)
JOIN conversations c ON c.workspace_id = 1 AND c.id = m.n;
INSERT INTO agents (workspace_id, id, name, seen_until) VALUES (1, 1, 'Ana', '2026-05-03'), (1, 2, 'Rui', '2026-05-01');
INSERT INTO conversation_reads (workspace_id, conversation_id, agent_id, until)
VALUES (1, 3, 1, '2026-05-05'), (1, 4, 1, '2026-05-05');
"""
_UNREAD = """
SELECT c.id FROM agents a JOIN conversations c ON c.workspace_id = a.workspace_id
LEFT JOIN conversation_reads r ON r.workspace_id = 1 AND r.conversation_id = c.id AND r.agent_id = a.id
WHERE a.workspace_id = 1 AND a.id = $1 AND {} > coalesce(r.until, a.seen_until) ORDER BY c.id
"""


async def test_what_agents_had_not_read_by_time_they_have_not_read_by_arrival(url: str) -> None:
    connection = await asyncpg.connect(url, server_settings={"search_path": "pombo", "timezone": "UTC"})

    async def unread(last: str) -> list[list[int]]:
        return [[row["id"] for row in await connection.fetch(_UNREAD.format(last), agent)] for agent in (1, 2)]

    await connection.execute(_BEFORE)
    before = await unread("c.last_inbound_at")
    assert before == [[4, 5], [1, 2, 3, 4, 5]]
    await connection.execute(_script("0004_unread_by_arrival.sql"))
    assert await unread("c.last_inbound_id") == before
    await connection.close()


def _script(name: str) -> str:
    return (Path(schema.__file__).parent / "migrations" / "versions" / name).read_text()
