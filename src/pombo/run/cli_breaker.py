"""`pombo breaker …`: channels that pause because Meta fails."""

import json
from typing import Annotated, Any

import typer

from pombo.run.command import DEFAULT_WORKSPACE, ExistingWorkspaceOption, JsonOption, prepare, with_database
from pombo.run.place import Place
from pombo.store import accounts, channels, cooldowns, workers_view
from pombo.store.database import Database

breaker_app = typer.Typer(no_args_is_help=True, help="Circuit breakers of channels.")


@breaker_app.command("list")
def breaker_list(workspace: ExistingWorkspaceOption = DEFAULT_WORKSPACE, as_json: JsonOption = False) -> None:
    """List the channels whose breaker is open or half open, and why."""

    async def fetch(place: Place, database: Database) -> list[dict[str, Any]]:
        async with database.borrow() as connection:
            workspace_id = await accounts.find_workspace(connection, workspace)
            return [
                {"channelId": b.channel_id, "probeInS": max(0.0, round(b.left_s, 1)), "failures": b.step,
                 "reason": b.reason}
                for b in await cooldowns.open_breakers(connection, workspace_id)
            ]  # fmt: skip

    found = with_database(prepare("cli"), fetch)
    if as_json:
        typer.echo(json.dumps(found))
        return
    for b in found:
        typer.echo(f"{b['channelId']:>6}  probe in {b['probeInS']:>5.0f} s  {b['failures']} failures  {b['reason']}")
    if not found:
        typer.echo("All are closed.")


@breaker_app.command("reset")
def breaker_reset(
    channel: Annotated[str, typer.Argument(help="Our id, Meta's id, or its name.")],
    workspace: ExistingWorkspaceOption = DEFAULT_WORKSPACE,
) -> None:
    """Close a channel's breaker; its worker does so within a second or two."""

    async def reset(place: Place, database: Database) -> None:
        async with database.transaction() as connection:
            workspace_id = await accounts.find_workspace(connection, workspace)
            found = await channels.find_channel(connection, workspace_id, channel)
            await workers_view.ask_breaker_reset(connection, workspace_id, found.id)

    with_database(prepare("cli"), reset)
    typer.echo("Its worker closes it, now or when there is one.")
