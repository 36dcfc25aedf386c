"""The catalogue is held to the rules of architecture: every tenant's rows apart, whatever table is added."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from pombo.store.database import Connection, Database, connect
from pombo.store.secrets import SecretBox
from tests.delivery_log import House

# Belong to no workspace and hold no customer's data.
INFRASTRUCTURE = {"workspaces", "workers", "worker_stats", "intents", "event_tail", "schema_version"}
# Written by workers and by nobody else.
READ_ONLY_TO_THE_API = {"workspaces", "workers", "worker_stats", "intents", "event_tail"}

# What columns must hold where any value of their type would break a CHECK.
_VALUES = {
    ("channels", "kind"): "'messenger'",
    ("channels", "rate_per_second"): "1",
    ("runs", "state"): "'pending'",
    ("runs", "source"): "'staged'",
    ("commands", "name"): "'reset_breaker'",
    ("conversation_messages", "direction"): "'in'",
    ("conversation_messages", "author"): "'contact'",
    ("cooldowns", "cause"): "'breaker'",
    ("suppressions", "kind"): "'messenger'",
    ("channel_jobs", "kind"): "'profile'",
    ("media", "state"): "'wanted'",
    ("idempotency_keys", "leased_until"): "now()",
    ("message_changes", "change"): "'edit'",
    ("message_changes", "by"): "'contact'",
    ("run_responses", "response"): "'replied'",
    ("labels", "colour"): "'#00aa88'",
}
_BY_TYPE = {
    "bigint": "1",
    "integer": "1",
    "smallint": "1",
    "double precision": "1",
    "text": "'x'",
    "bytea": r"'\x00'",
    "jsonb": "'{}'",
    "json": "'{}'",
    "boolean": "false",
    "date": "(now() AT TIME ZONE 'UTC')::date",
    "timestamp with time zone": "now()",
    "ARRAY": "'{1}'",
    '"char"': "'r'",
}


@pytest.fixture
async def connection(url: str) -> AsyncIterator[Connection]:
    """The administrator's, in Pombo's schema."""
    made = await asyncpg.connect(url)
    await made.execute("SET search_path = pombo, public")
    yield made
    await made.close()


async def tables(connection: Connection) -> set[str]:
    """All but the partitions, which are reached through their parents."""
    rows = await connection.fetch(
        """SELECT relname FROM pg_class
           WHERE relnamespace = 'pombo'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition"""
    )
    return {row["relname"] for row in rows}


async def tenant_tables(connection: Connection) -> list[str]:
    return sorted(await tables(connection) - INFRASTRUCTURE)


async def insert_statement(connection: Connection, table: str, workspace_id: int) -> str:
    """Fills what must be filled with values of the right type."""
    columns = await connection.fetch(
        """SELECT column_name AS name, data_type AS type FROM information_schema.columns
           WHERE table_schema = 'pombo' AND table_name = $1
             AND (is_nullable = 'NO' AND column_default IS NULL AND is_identity = 'NO')""",
        table,
    )
    values = {column["name"]: _BY_TYPE[column["type"]] for column in columns}
    values |= {column: value for (of, column), value in _VALUES.items() if of == table}
    values["workspace_id"] = str(workspace_id)
    return f"INSERT INTO {table} ({', '.join(values)}) VALUES ({', '.join(values.values())})"


async def one_row_each(connection: Connection, table: str) -> None:
    """A row of workspace 1 and one of workspace 2, past foreign keys."""
    async with connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        for workspace_id in (1, 2):
            await connection.execute(await insert_statement(connection, table, workspace_id))


async def test_every_table_is_a_tenants_or_known_as_infrastructure(connection: Connection) -> None:
    rows = await connection.fetch(
        """SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
           WHERE c.relnamespace = 'pombo'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
             AND a.attname = 'workspace_id' AND a.attnotnull AND a.atttypid = 'bigint'::regtype"""
    )
    assert {row["relname"] for row in rows} == await tables(connection) - INFRASTRUCTURE


async def test_every_key_and_index_of_a_tenants_table_begins_with_its_workspace(connection: Connection) -> None:
    rows = await connection.fetch(
        """SELECT t.relname AS table, i.relname AS index, a.attname AS first
           FROM pg_index x
           JOIN pg_class t ON t.oid = x.indrelid
           JOIN pg_class i ON i.oid = x.indexrelid
           LEFT JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = x.indkey[0]
           WHERE t.relnamespace = 'pombo'::regnamespace AND NOT t.relispartition
             -- Those of words hold it within their terms.
             AND pg_get_indexdef(x.indexrelid) NOT LIKE '%USING gin (%_terms(workspace_id, %'"""
    )
    indexes = [row for row in rows if row["table"] not in INFRASTRUCTURE]
    assert {row["table"] for row in indexes} >= {"deliveries", "outbox", "webhook_log"}
    assert [row["index"] for row in indexes if row["first"] != "workspace_id"] == []


async def test_every_tenants_table_has_a_primary_key_but_the_insert_only_deltas(connection: Connection) -> None:
    rows = await connection.fetch(
        """SELECT conrelid::regclass::text AS table FROM pg_constraint
           WHERE contype = 'p' AND connamespace = 'pombo'::regnamespace"""
    )
    keyed = {row["table"] for row in rows}
    assert set(await tenant_tables(connection)) - keyed == {"run_deltas"}


async def test_no_foreign_key_crosses_workspaces(connection: Connection) -> None:
    rows = await connection.fetch(
        """SELECT c.conname AS name, c.conrelid::regclass::text AS "from", c.confrelid::regclass::text AS "to",
                  f.attname AS from_first, t.attname AS to_first
           FROM pg_constraint c
           JOIN pg_attribute f ON f.attrelid = c.conrelid AND f.attnum = c.conkey[1]
           JOIN pg_attribute t ON t.attrelid = c.confrelid AND t.attnum = c.confkey[1]
           WHERE c.contype = 'f' AND c.connamespace = 'pombo'::regnamespace"""
    )
    among_tenants = [row for row in rows if row["from"] not in INFRASTRUCTURE]
    assert len(among_tenants) >= 3
    for key in among_tenants:
        assert (key["from_first"], key["to_first"]) == ("workspace_id", "workspace_id"), key["name"]
        assert key["to"] not in INFRASTRUCTURE, key["name"]
    # Nor does infrastructure lean on a tenant's rows.
    assert all(row["to"] in INFRASTRUCTURE for row in rows if row["from"] in INFRASTRUCTURE)


async def test_every_tenants_table_is_held_by_row_level_security_on_reading_and_writing(
    connection: Connection,
) -> None:
    for table in [*await tenant_tables(connection), "workspaces"]:
        enabled = await connection.fetchval("SELECT relrowsecurity FROM pg_class WHERE oid = $1::regclass", table)
        policies = await connection.fetch(
            "SELECT roles, cmd, qual, with_check FROM pg_policies WHERE schemaname = 'pombo' AND tablename = $1",
            table,
        )
        assert enabled, table
        [policy] = policies
        column = "id" if table == "workspaces" else "workspace_id"
        assert (policy["roles"], policy["cmd"]) == (["pombo_app"], "ALL"), table
        assert re.fullmatch(rf"\({column} = (pombo\.)?current_workspace\(\)\)", policy["qual"]), table
        assert policy["with_check"] in (policy["qual"], None), table


async def test_the_api_sees_only_the_workspace_it_named_and_nothing_when_it_named_none(
    connection: Connection, database: Database, url: str
) -> None:
    app = await connect(url, "pombo_app")
    for table in await tenant_tables(connection):
        await one_row_each(connection, table)
        assert await app.fetchval(f"SELECT count(*) FROM {table}") == 0, table
        for workspace_id in (1, 2):
            async with database.tenant(workspace_id) as tenant:
                seen = await tenant.fetchval(f"SELECT array_agg(workspace_id) FROM {table}")
            assert seen == [workspace_id], table
    await app.close()


async def test_the_api_can_neither_change_nor_add_another_workspaces_rows(
    connection: Connection, database: Database
) -> None:
    for table in await tenant_tables(connection):
        await one_row_each(connection, table)
        async with database.tenant(1) as tenant:
            assert await tenant.execute(f"UPDATE {table} SET workspace_id = workspace_id") == "UPDATE 1", table
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
            async with database.tenant(1) as tenant:
                await tenant.execute(f"UPDATE {table} SET workspace_id = 2")
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
            async with database.tenant(1) as tenant:
                await tenant.execute(await insert_statement(connection, table, 2))
        async with database.tenant(1) as tenant:
            assert await tenant.execute(f"DELETE FROM {table}") == "DELETE 1", table
        assert await connection.fetchval(f"SELECT array_agg(workspace_id) FROM {table}") == [2], table


async def test_the_api_may_write_all_that_is_a_tenants_and_nothing_else(connection: Connection) -> None:
    for table in await tables(connection) - {"schema_version"}:
        may = await connection.fetchrow(
            """SELECT has_table_privilege('pombo_app', $1, 'SELECT') AS read,
                      has_table_privilege('pombo_app', $1, 'INSERT, UPDATE, DELETE') AS write,
                      has_table_privilege('pombo_app', $1, 'TRUNCATE, TRIGGER') AS more""",
            table,
        )
        assert dict(may) == {"read": True, "write": table not in READ_ONLY_TO_THE_API, "more": False}, table


async def test_the_api_cannot_pass_row_level_security_by_way_of_a_partition(connection: Connection, url: str) -> None:
    partitions = await connection.fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = 'pombo'::regnamespace AND relkind = 'r' AND relispartition"
    )
    assert partitions
    app = await connect(url, "pombo_app")
    for partition in partitions:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await app.fetch(f"SELECT * FROM {partition['relname']}")
    await app.close()


async def test_workers_see_and_change_the_rows_of_all_workspaces(connection: Connection, database: Database) -> None:
    async with database.borrow() as worker:
        for table in await tenant_tables(connection):
            await one_row_each(connection, table)
            assert await worker.fetchval(f"SELECT count(*) FROM {table}") == 2, table
            assert await worker.execute(f"UPDATE {table} SET workspace_id = workspace_id") == "UPDATE 2", table
            assert await worker.execute(f"DELETE FROM {table}") == "DELETE 2", table


async def test_workers_load_by_copy_which_row_level_security_would_refuse(database: Database) -> None:
    async with database.borrow() as worker:
        await worker.copy_records_to_table(
            "pending_receipts",
            columns=["workspace_id", "channel_id", "provider_id", "state", "at"],
            records=[(workspace_id, 1, "m_1", 4, await worker.fetchval("SELECT now()")) for workspace_id in (1, 2)],
        )
        assert await worker.fetchval("SELECT count(*) FROM pending_receipts") == 2


async def test_both_roles_draw_ids_from_every_sequence(connection: Connection) -> None:
    sequences = await connection.fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = 'pombo'::regnamespace AND relkind = 'S'"
    )
    assert {"message_ids", "webhook_ids"} <= {sequence["relname"] for sequence in sequences}
    for role in ("pombo_app", "pombo_worker"):
        for sequence in sequences:
            assert await connection.fetchval(
                "SELECT has_sequence_privilege($1, $2, 'USAGE')", role, sequence["relname"]
            ), (role, sequence["relname"])


async def test_a_tenants_transaction_leaves_its_workspace_behind_when_it_ends(
    connection: Connection, database: Database, box: SecretBox
) -> None:
    house = await House.build(connection, box)
    async with database.tenant(house.workspace_id) as tenant:
        assert await tenant.fetchval("SELECT count(*) FROM meta_apps") == 1

    async def look() -> Any:
        async with database.app.acquire() as pooled:
            return await pooled.fetchval("SELECT count(*) FROM meta_apps")

    assert set(await asyncio.gather(*(look() for _ in range(4)))) == {0}


async def test_what_search_files_is_inlined_or_each_row_prepares_a_function_anew(database: Database) -> None:
    async with database.borrow() as connection:
        plan = await connection.fetch("EXPLAIN (VERBOSE) SELECT contact_terms(workspace_id, name) FROM contacts")
    output = next(line for (line,) in plan if "Output:" in line)
    assert "to_tsvector" in output
    assert "_term" not in output.replace("array_to_tsvector", "")
