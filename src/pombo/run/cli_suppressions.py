"""`pombo suppressions …`: who gets no more campaigns."""

import json
from typing import Annotated, Any, BinaryIO

import typer

from pombo.domain.channels import ChannelKind
from pombo.domain.phones import normalise_recipient
from pombo.run.command import DEFAULT_WORKSPACE, ExistingWorkspaceOption, JsonOption, prepare, with_database
from pombo.run.errors import CommandFailed
from pombo.run.place import Place
from pombo.store import accounts, suppressions
from pombo.store.database import Database
from pombo.store.suppressions import Suppression

suppressions_app = typer.Typer(no_args_is_help=True, help="Who gets no more campaigns.")

KindOption = Annotated[ChannelKind, typer.Option("--kind", help="What the recipients are addresses of.")]
_PAGE = 1000
_PIECE = 256 * 1024


@suppressions_app.command("list")
def suppressions_list(workspace: ExistingWorkspaceOption = DEFAULT_WORKSPACE, as_json: JsonOption = False) -> None:
    """List them, with the reasons."""

    async def fetch(place: Place, database: Database) -> int:
        shown, after = 0, ("", "")
        while True:
            async with database.borrow() as connection:
                workspace_id = await accounts.find_workspace(connection, workspace)
                page = await suppressions.list_suppressions(connection, workspace_id, after, _PAGE)
            for s in page:
                row = {"kind": s.kind.value, "recipient": s.recipient, "reason": s.reason, "code": s.code}
                line = f"{s.kind:<9}  {s.recipient:<24}  {s.at:%Y-%m-%d}  {s.reason}"
                typer.echo(json.dumps(row | {"at": s.at.isoformat()}) if as_json else line)
            shown += len(page)
            if len(page) < _PAGE:
                return shown
            after = (page[-1].kind, page[-1].recipient)

    if not with_database(prepare("cli"), fetch) and not as_json:
        typer.echo("Nobody is on the list.")


@suppressions_app.command("add")
def suppressions_add(
    kind: KindOption,
    recipient: Annotated[list[str] | None, typer.Argument(help="Phone numbers, or page-scoped ids.")] = None,
    recipients: Annotated[
        typer.FileBinaryRead | None,
        typer.Option("--recipients", help="CSV file with a header and a column `recipient`, or - for stdin."),
    ] = None,
    reason: Annotated[str, typer.Option(help="Why; shown beside each.")] = "Asked for it.",
    workspace: ExistingWorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Add people; what campaigns have queued for them is cancelled. Broken rows are reported, the others are added."""
    from pombo.campaigns.suppressing import suppress

    settings = prepare("cli")
    if not reason.strip():
        raise CommandFailed("--reason is empty.")
    found = list(enumerate(recipient or [], 1))
    rejects: list[dict[str, Any]] = []
    if recipients is not None:
        lines, rejects = _read_csv(recipients)
        found += lines
    good: list[str] = []
    for line, text in found:
        address = normalise_recipient(kind, text)
        if isinstance(address, str):
            good.append(address)
        else:
            rejects.append({"line": line, "recipient": text, "code": address.code, "message": address.sentence})
    if not good:
        why = rejects[0]["message"] if rejects else "Name them, or give a file by --recipients."
        raise CommandFailed(f"Nobody to add: {why}")

    async def add(place: Place, database: Database) -> dict[str, Any]:
        async with database.borrow() as connection:
            workspace_id = await accounts.find_workspace(connection, workspace)
        done = await suppress(database, [Suppression(workspace_id, kind, one, reason.strip()) for one in good])
        return {"added": done.added, "withdrawn": done.withdrawn, "rejected": len(rejects), "rejects": rejects}

    answer = with_database(settings, add)
    if as_json:
        typer.echo(json.dumps(answer))
        return
    for reject in rejects:
        typer.echo(f"Line {reject['line']}: {reject['recipient']}: {reject['message']}", err=True)
    typer.echo(f"{answer['added']} added, {len(good) - answer['added']} were on the list or given twice.")
    if answer["withdrawn"]:
        typer.echo(f"{answer['withdrawn']} messages that waited for them are cancelled.")


@suppressions_app.command("remove")
def suppressions_remove(
    kind: KindOption,
    recipient: Annotated[str, typer.Argument(help="A phone number, or a page-scoped id.")],
    workspace: ExistingWorkspaceOption = DEFAULT_WORKSPACE,
) -> None:
    """Take somebody off the list."""
    address = normalise_recipient(kind, recipient)

    async def remove(place: Place, database: Database) -> bool:
        async with database.transaction() as connection:
            workspace_id = await accounts.find_workspace(connection, workspace)
            return isinstance(address, str) and await suppressions.lift(connection, workspace_id, kind, address)

    if not with_database(prepare("cli"), remove):
        raise CommandFailed(f"{recipient} is not on the list: `pombo suppressions list` shows it.")
    typer.echo(f"{address} gets campaigns again.")


def _read_csv(source: BinaryIO) -> tuple[list[tuple[int, str]], list[dict[str, Any]]]:
    """Recipients with their lines, and rows that could not be read."""
    from pombo.campaigns.csv_body import CsvAudienceReader
    from pombo.campaigns.errors import BodyInvalid

    reader = CsvAudienceReader()
    try:
        while piece := source.read(_PIECE):
            reader.feed(piece)
        reader.finish()
    except BodyInvalid as error:
        raise CommandFailed(str(error)) from error
    rejects = [{"line": r.line, "recipient": r.recipient, "code": r.code, "message": r.reason} for r in reader.rejects]
    return [(line.line, line.recipient) for line in reader.lines], rejects
