"""Runs a file of SQL statements on a migration's connection, as it is: no placeholders are looked for in it."""

from pathlib import Path

from sqlalchemy.engine import Connection


def run_script(connection: Connection, path: Path) -> None:
    driver_connection = connection.connection.driver_connection
    assert driver_connection is not None
    driver_connection.execute(path.read_text())
