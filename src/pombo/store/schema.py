"""Migrations and the check that every role makes at its start.

A process refuses a schema it does not know: an older one wants `pombo migrate`, a newer one a newer Pombo. One
migration runs at a time (advisory lock) and never waits long for a table that is in use (lock time-out).
"""

from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg

from pombo.store.errors import DatabaseUnavailable, SchemaError

if TYPE_CHECKING:
    from pombo.store.database import Connection

_HERE = Path(__file__).parent / "migrations"
# Any number would do; it only has to be the same in every Pombo. ("pombo" in ASCII.)
_MIGRATION_LOCK = 0x706F6D626F
_LOCK_TIMEOUT = "5s"


# Alembic's newest revision; a test holds this to the files. Written here so that a role need not load Alembic to start.
KNOWN_VERSION = "0007"


def migrate(database_url: str) -> None:
    """Brings the database to `KNOWN_VERSION`. Runs in the calling thread; safe to call from many processes.

    Raises DatabaseUnavailable.
    """
    # Loaded here: half a second that only a migration should pay.
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import create_engine, text
    from sqlalchemy.exc import OperationalError

    from pombo.store.migrations.script import run_script

    config = Config()
    config.set_main_option("script_location", str(_HERE))
    config.set_main_option("path_separator", "os")
    engine = create_engine(database_url.replace("postgresql://", "postgresql+psycopg://", 1))
    try:
        with engine.connect() as connection, connection.begin():
            connection.execute(text(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
            run_script(connection, _HERE / "versions" / "0000_roles.sql")
            connection.execute(text("SET LOCAL search_path = pombo"))
            connection.execute(text("SET LOCAL ROLE pombo_owner"))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except OperationalError as error:
        raise DatabaseUnavailable(f"The database does not answer: {error.orig}") from error
    finally:
        engine.dispose()


def missing() -> SchemaError:
    return SchemaError(f"The database's schema is missing, this Pombo needs {KNOWN_VERSION}: run `pombo migrate`.")


async def check(connection: "Connection") -> None:
    """Raises SchemaError unless the database holds exactly the schema this Pombo knows."""
    try:
        found = await connection.fetchval("SELECT version_num FROM pombo.schema_version")
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
        found = None
    known = KNOWN_VERSION
    if found == known:
        return
    if found is None:
        raise missing()
    if found < known:
        raise SchemaError(f"The database's schema is {found}, this Pombo needs {known}: run `pombo migrate`.")
    raise SchemaError(f"The database's schema {found} is newer than this Pombo knows ({known}): install a newer Pombo.")
