"""`pombo partitions …`: day partitions of the delivery and webhook logs."""

import asyncio
import json
from typing import Annotated

import typer

from pombo.run.command import JsonOption, prepare
from pombo.run.place import open_place
from pombo.store import partitions
from pombo.store.database import connect

partitions_app = typer.Typer(no_args_is_help=True, help="Day partitions of the delivery and webhook logs.")


@partitions_app.command("create")
def partitions_create(days: Annotated[int, typer.Argument(min=0, max=3650, help="Days ahead.")] = 30) -> None:
    """Make the partitions of the next days."""
    with open_place(prepare("cli")) as place:
        made = asyncio.run(partitions.create(place.database_url, days))
    typer.echo("\n".join(made) or "Nothing to make.")


@partitions_app.command("drop")
def partitions_drop(days: Annotated[int, typer.Argument(min=1, help="Days to keep.")] = 7) -> None:
    """Drop the partitions that are older than so many days."""
    with open_place(prepare("cli")) as place:
        gone = asyncio.run(partitions.drop(place.database_url, days))
    typer.echo("\n".join(gone) or "Nothing to drop.")


@partitions_app.command("report")
def partitions_report(as_json: JsonOption = False) -> None:
    """Show the partitions, their rows (estimated) and sizes."""

    async def fetch(url: str) -> list[partitions.Partition]:
        connection = await connect(url, "pombo_owner")
        try:
            return await partitions.report(connection)
        finally:
            await connection.close()

    with open_place(prepare("cli")) as place:
        found = asyncio.run(fetch(place.database_url))
    if as_json:
        rows = [
            {"table": p.table, "name": p.name, "day": p.day.isoformat(), "rows": p.row_estimate, "bytes": p.total_bytes}
            for p in found
        ]
        typer.echo(json.dumps(rows))
        return
    for p in found:
        typer.echo(f"{p.name:<22} {p.day}  {p.row_estimate:>12,} rows  {p.total_bytes / 1e6:>10,.1f} MB")
