"""`pombo send`: a text to the recipients of a CSV file, through the same upload as the API's."""

import asyncio
import json
from dataclasses import asdict, dataclass
from typing import BinaryIO

import typer
from rich.console import Console

from pombo.campaigns.addressing import Addressing
from pombo.campaigns.csv_body import CsvAudienceReader
from pombo.campaigns.errors import AudienceError
from pombo.campaigns.upload import Upload
from pombo.domain.content import Text
from pombo.domain.content_rules import validate_content
from pombo.domain.ids import RunId, WorkspaceId
from pombo.run.errors import CommandFailed
from pombo.run.place import Place
from pombo.run.progress import Progress, RunFigures
from pombo.store import accounts, campaigns, channels, figures, runs, workers_view
from pombo.store.database import Connection, Database
from pombo.store.runs import RunState, Source

_PIECE = 256 * 1024
_SHOWN_REJECTS = 10
_POLL_S = 0.25


@dataclass(frozen=True, slots=True)
class SendRequest:
    workspace: str
    channel: str
    source: BinaryIO
    text: str
    name: str
    wait: bool
    as_json: bool


async def run(place: Place, database: Database, request: SendRequest) -> int:
    """The exit status: 0 when queued, or with `wait` when all were accepted. Raises CommandFailed, StoreError."""
    async with database.transaction() as connection:
        workspace_id = await accounts.find_workspace(connection, request.workspace)
        channel = await channels.find_channel(connection, workspace_id, request.channel)
    content = Text(request.text)
    if problems := validate_content(channel.kind, content):
        raise CommandFailed(problems[0].sentence)
    try:
        async with Upload(database, workspace_id) as upload:
            upload.address_by(Addressing({channel.id: channel.kind}))
            await _read(request.source, upload)
            async with database.transaction() as connection:
                campaign = await campaigns.create_campaign(
                    connection, workspace_id, request.name, content, [channel.id]
                )
                run_id = await runs.start_run(
                    connection,
                    workspace_id=workspace_id,
                    campaign_id=campaign.id,
                    content=content,
                    channel_ids=[channel.id],
                    source=Source.STAGED,
                    audience_size=upload.staged,
                    run_id=await upload.close(connection),
                    rejected=upload.rejected,
                )
                assert run_id is not None  # the campaign is new, so no run of it can be in the way
            upload.keep()
    except AudienceError as error:
        raise CommandFailed(error.sentence) from error
    rejects = [
        {"line": r.line, "recipient": r.recipient, "code": r.code, "message": r.reason} for r in upload.first_rejects
    ]
    for reject in rejects[:_SHOWN_REJECTS]:
        typer.echo(f"Line {reject['line']}: {reject['recipient']!r} is left out: {reject['message']}", err=True)
    if upload.rejected > _SHOWN_REJECTS:
        typer.echo(f"... and {upload.rejected - _SHOWN_REJECTS} more lines are left out.", err=True)
    async with database.borrow() as connection:
        alone = not await workers_view.live_workers(connection)
        if alone:
            typer.echo("No worker is running, so nothing is sent yet: `pombo up` starts one.", err=True)
        if request.wait and not alone:
            found = await _wait(connection, workspace_id, run_id, request.as_json)
        else:
            found = await run_figures(connection, workspace_id, run_id)
    if request.as_json:
        document = {"runId": run_id, "campaignId": campaign.id, "rejects": rejects, **asdict(found)}
        document["rejected"] = upload.rejected
        typer.echo(json.dumps(document))
    elif not request.wait or alone:
        typer.echo(f"Run {run_id}: {upload.staged:,} recipients are queued, {upload.rejected:,} were left out.")
    else:
        typer.echo(f"Run {run_id}: {found.accepted:,} of {found.total:,} accepted, {found.failed:,} failed.")
    if not request.wait:
        return 0
    return 0 if found.total and found.accepted == found.total and not upload.rejected else 1


async def _read(source: BinaryIO, upload: Upload) -> None:
    reader = CsvAudienceReader()
    while piece := await asyncio.to_thread(source.read, _PIECE):
        reader.feed(piece)
        await upload.add(reader.lines, reader.rejects)
    reader.finish()
    await upload.add(reader.lines, reader.rejects)
    await upload.finish()


async def _wait(connection: Connection, workspace_id: WorkspaceId, run_id: RunId, quiet: bool) -> RunFigures:
    """Until every message is settled, or only doubtful ones are left (those wait for evidence, perhaps for long)."""
    with Progress(Console(stderr=True, quiet=quiet)) as progress:
        while True:
            found = await run_figures(connection, workspace_id, run_id)
            progress.show(found)
            expanded = found.total > 0 or found.finished
            if found.finished or (expanded and found.waiting == 0 and found.uncertain == found.total - found.done):
                return found
            await asyncio.sleep(_POLL_S)


async def run_figures(connection: Connection, workspace_id: WorkspaceId, run_id: RunId) -> RunFigures:
    run = await runs.get_run(connection, workspace_id, run_id)
    found = await figures.run_figures(connection, workspace_id, run_id)
    return RunFigures(
        status=run.state if run else RunState.PENDING,
        total=found.total,
        duplicates=found.duplicates,
        pending=found.waiting,
        processing=found.in_flight,
        accepted=found.accepted,
        delivered=found.delivered,
        read=found.read,
        failed=found.failed,
        undelivered=found.undelivered,
        uncertain=found.uncertain,
        cancelled=found.cancelled,
    )
