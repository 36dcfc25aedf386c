"""`pombo doubts …`: messages held in doubt, and what to do with them."""

import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pombo.run.command import DEFAULT_WORKSPACE, ExistingWorkspaceOption, JsonOption, prepare, with_database
from pombo.run.place import Place
from pombo.store.database import Database
from pombo.store.held import DoubtAction

if TYPE_CHECKING:
    from pombo.run.doubts import Filter

doubts_app = typer.Typer(no_args_is_help=True, help="Messages held in doubt.")

ChannelChoice = Annotated[str | None, typer.Option("--channel", help="Those of a channel: id, Meta's id, or name.")]
RunChoice = Annotated[int | None, typer.Option("--run", min=1, help="Those of a run.")]
MessageChoice = Annotated[list[int] | None, typer.Option("--message", min=1, help="This one; may be given again.")]


@doubts_app.command("list")
def doubts_list(
    channel: ChannelChoice = None,
    run: RunChoice = None,
    workspace: ExistingWorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """List the messages that may or may not have been sent, and why they are held."""
    from pombo.run import doubts

    wanted = doubts.Filter(workspace, channel, run, [])
    _list(doubts.list_held, wanted, as_json, lambda m: f"{m['attemptedAt']:.19}  {m['words']}", "Nothing is held.")


@doubts_app.command("sent-twice")
def doubts_sent_twice(
    channel: ChannelChoice = None,
    run: RunChoice = None,
    workspace: ExistingWorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """List the messages that Meta accepted more than once."""
    from pombo.run import doubts

    wanted = doubts.Filter(workspace, channel, run, [])
    _list(
        doubts.list_sent_twice,
        wanted,
        as_json,
        lambda m: f"{m['foundAt']:.19}  {len(m['providerIds'])} times",
        "Nothing was sent twice.",
    )


@doubts_app.command("resend")
def doubts_resend(
    channel: ChannelChoice = None,
    run: RunChoice = None,
    message: MessageChoice = None,
    workspace: ExistingWorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Send held messages again, at the risk that somebody gets one twice."""
    _resolve(DoubtAction.RESEND, workspace, channel, run, message, as_json)


@doubts_app.command("mark-sent")
def doubts_mark_sent(
    channel: ChannelChoice = None,
    run: RunChoice = None,
    message: MessageChoice = None,
    workspace: ExistingWorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Count held messages as sent."""
    _resolve(DoubtAction.MARK_SENT, workspace, channel, run, message, as_json)


@doubts_app.command("drop")
def doubts_drop(
    channel: ChannelChoice = None,
    run: RunChoice = None,
    message: MessageChoice = None,
    workspace: ExistingWorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Give held messages up: they count as cancelled."""
    _resolve(DoubtAction.DROP, workspace, channel, run, message, as_json)


def _list(
    fetch: Callable[[Database, "Filter"], Awaitable[list[dict[str, Any]]]],
    wanted: "Filter",
    as_json: bool,
    ending: Callable[[dict[str, Any]], str],
    nothing: str,
) -> None:
    found = with_database(prepare("cli"), lambda place, database: fetch(database, wanted))
    if as_json:
        typer.echo(json.dumps(found))
        return
    for m in found:
        where = f"channel {m['channelId']}  run {m['runId']}"
        typer.echo(f"{m['messageId']:>10}  {m['recipient']:<18}  {where}  {ending(m)}")
    if not found:
        typer.echo(nothing)


def _resolve(
    action: DoubtAction, workspace: str, channel: str | None, run: int | None, messages: list[int] | None, as_json: bool
) -> None:
    from pombo.run import doubts

    wanted = doubts.Filter(workspace, channel, run, messages or [])

    async def resolve(place: Place, database: Database) -> int:
        return await doubts.resolve(database, action, wanted)

    count = with_database(prepare("cli"), resolve)
    words = {
        DoubtAction.RESEND: "to be sent again",
        DoubtAction.MARK_SENT: "marked as sent",
        DoubtAction.DROP: "dropped",
    }
    done = f"{count} {words[action]}."
    typer.echo(json.dumps({"action": action.value, "resolved": count}) if as_json else done)
