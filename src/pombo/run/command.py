"""What the commands share: settings and log at their start, the database, options that several have."""

import os
from collections.abc import Awaitable, Callable, Coroutine
from typing import Annotated, Any, TypeVar

import typer
import uvloop
from dotenv import dotenv_values

from pombo import telemetry
from pombo.legacy_settings import legacy_notices
from pombo.run.lifecycle import SUPERVISOR_VARIABLE
from pombo.run.place import Place, open_place
from pombo.settings import Settings, load_settings
from pombo.store.database import Database

WorkspaceOption = Annotated[str, typer.Option("--workspace", help="Name of the workspace; made when missing.")]
ExistingWorkspaceOption = Annotated[str, typer.Option("--workspace", help="Name of the workspace.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
WaitOption = Annotated[bool, typer.Option("--wait", help="Until it has come about.")]
DEFAULT_WORKSPACE = "default"
# These tell once, at their start, of the old programs' variables that mean nothing any more.
_LONG_RUNNING = ("up", "api", "worker")
T = TypeVar("T")


def prepare(role: str) -> Settings:
    settings = load_settings()
    telemetry.configure(settings.log_level, role)
    if role in _LONG_RUNNING and SUPERVISOR_VARIABLE not in os.environ:
        for notice in legacy_notices({**_written_down(), **os.environ}):
            typer.secho(notice, err=True, fg="yellow")
    return settings


def _written_down() -> dict[str, str]:
    return {name: value for name, value in dotenv_values(".env").items() if value is not None}


def run(coroutine: Coroutine[Any, Any, int | None]) -> None:
    code = uvloop.run(coroutine)
    if code:
        raise SystemExit(code)


def with_database(settings: Settings, work: Callable[[Place, Database], Awaitable[T]]) -> T:
    """Runs `work(place, database)` on a migrated database."""
    from pombo.run import up as up_role

    async def go(place: Place) -> T:
        async with Database.open(place.database_url, "pombo cli", app_size=2, worker_size=4) as database:
            return await work(place, database)

    with open_place(settings) as place:
        up_role.migrate_embedded(settings, place)
        return uvloop.run(go(place))
