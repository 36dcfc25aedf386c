from pathlib import Path

import asyncpg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from pombo.store import schema
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


async def test_a_role_refuses_an_empty_database(url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute("DROP SCHEMA pombo CASCADE")
    await connection.close()
    with pytest.raises(SchemaError, match="missing"):
        async with Database.open(url):
            pass
