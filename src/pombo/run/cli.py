"""The `pombo` command. Each subcommand's `--help` says what it does; errors are one sentence on stderr."""

# Each command imports its role when it runs: loading all takes two seconds, and a command should answer at once.

import asyncio
import json
import math
import os
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer
import uvloop
from dotenv import dotenv_values

from pombo import telemetry
from pombo.domain.channels import DEFAULT_RATE, ChannelKind
from pombo.domain.doubt import DoubtPolicy
from pombo.legacy_settings import legacy_notices
from pombo.run.errors import CommandFailed
from pombo.run.lifecycle import SUPERVISOR_VARIABLE
from pombo.run.place import Place, open_place
from pombo.settings import Settings, SettingsError, load_settings
from pombo.store import accounts, agents, channels, partitions, schema
from pombo.store.database import Database, connect
from pombo.store.errors import StoreError
from pombo.store.held import DoubtAction

if TYPE_CHECKING:
    from pombo.run.control import Action

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
channel_app = typer.Typer(no_args_is_help=True, help="Pages and WhatsApp numbers to send from.")
key_app = typer.Typer(no_args_is_help=True, help="API keys.")
agent_app = typer.Typer(no_args_is_help=True, help="Agents: the people who answer.")
run_app = typer.Typer(no_args_is_help=True, help="Runs: look at them, pause, resume and cancel them.")
doubts_app = typer.Typer(no_args_is_help=True, help="Messages held in doubt.")
partitions_app = typer.Typer(no_args_is_help=True, help="Day partitions of the delivery and webhook logs.")
app.add_typer(channel_app, name="channel")
app.add_typer(key_app, name="key")
app.add_typer(agent_app, name="agent")
app.add_typer(run_app, name="run")
app.add_typer(doubts_app, name="doubts")
app.add_typer(partitions_app, name="partitions")

WorkspaceOption = Annotated[str, typer.Option("--workspace", help="Name of the workspace; made when missing.")]
ExistingWorkspaceOption = Annotated[str, typer.Option("--workspace", help="Name of the workspace.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DEFAULT_WORKSPACE = "default"
# These tell once, at their start, of the old programs' variables that mean nothing any more.
_LONG_RUNNING = ("up", "api", "worker")
T = TypeVar("T")


def main() -> None:
    """Expected errors end with one sentence and status 1; bugs with a traceback."""
    try:
        app()
    except (SettingsError, StoreError, CommandFailed) as error:
        _fail(str(error))


def _fail(sentence: str) -> NoReturn:
    typer.secho(sentence, err=True, fg="red")
    raise SystemExit(1)


def _prepare(role: str) -> Settings:
    settings = load_settings()
    telemetry.configure(settings.log_level, role)
    if role in _LONG_RUNNING and SUPERVISOR_VARIABLE not in os.environ:
        for notice in legacy_notices({**_written_down(), **os.environ}):
            typer.secho(notice, err=True, fg="yellow")
    return settings


def _written_down() -> dict[str, str]:
    return {name: value for name, value in dotenv_values(".env").items() if value is not None}


def _run(coroutine: Coroutine[Any, Any, int | None]) -> None:
    code = uvloop.run(coroutine)
    if code:
        raise SystemExit(code)


# --- roles --------------------------------------------------------------------------------------------------------


@app.command()
def up(
    workers: Annotated[int | None, typer.Option(min=1, help="Worker processes; one per core unless given.")] = None,
    sandbox: Annotated[bool, typer.Option("--sandbox", help="Also run Meta's simulator, and send to it.")] = False,
) -> None:
    """Run everything: database (unless DATABASE_URL names one), API, workers."""
    from pombo.run import up as up_role

    settings = _prepare("up")
    up_role.run(settings, workers, sandbox)


@app.command()
def api() -> None:
    """Run the API and the webhook receiver."""
    from pombo.run.api_role import run_api
    from pombo.run.up import prepared

    settings = _prepare("api")
    with prepared(settings) as place:
        _run(run_api(settings, place))


@app.command()
def worker() -> None:
    """Run one worker: it sends for its share of the channels."""
    from pombo.run.up import prepared
    from pombo.run.worker_role import run_worker

    settings = _prepare("worker")
    with prepared(settings) as place:
        _run(run_worker(settings, place))


@app.command()
def sandbox(
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 3200,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Run the simulator of Meta's APIs."""
    from pombo.sandbox import server as sandbox_server

    _prepare("sandbox")
    try:
        sandbox_server.serve(host, port, on_ready=lambda url: typer.echo(f"Sandbox listens at {url}", err=True))
    except OSError as error:
        _fail(f"The sandbox cannot listen on {host}:{port}: {error.strerror}. `--port` takes another one.")


@app.command()
def demo(
    once: Annotated[bool, typer.Option("--once", help="End by itself; status 0 only if every figure agrees.")] = False,
    contacts: Annotated[int, typer.Option(min=10, help="How many contacts to make and send to.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Seed of the sandbox's faults.")] = 1,
) -> None:
    """See it work: sandbox, workspace, 10,000 contacts, a campaign to all of them."""
    from pombo.run import demo as demo_role

    settings = _prepare("demo")
    raise SystemExit(demo_role.run(settings, once=once, contacts=contacts, seed=seed))


@app.command()
def migrate() -> None:
    """Bring the database to this Pombo's schema, and make the next days' partitions."""
    settings = _prepare("migrate")
    with open_place(settings) as place:
        schema.migrate(place.database_url)
        made = asyncio.run(partitions.create(place.database_url, settings.partition_days_ahead))
    typer.echo(f"Schema {schema.KNOWN_VERSION}; {len(made)} partitions made.")


@app.command()
def doctor(as_json: JsonOption = False) -> None:
    """Check configuration, database, clock, channels' tokens and whether anything would be sent."""
    from pombo.run import doctor as doctor_role

    settings = _prepare("doctor")
    with open_place(settings) as place:
        _run(doctor_role.run(settings, place, as_json=as_json))


# --- accounts -----------------------------------------------------------------------------------------------------


@channel_app.command("add")
def channel_add(
    kind: ChannelKind,
    external_id: Annotated[str, typer.Option(help="Meta's id of the Page or the phone number.")],
    name: Annotated[str, typer.Option(help="What to call it.")],
    token: Annotated[str, typer.Option(help="Page access token, or WhatsApp system user token.")],
    app_secret: Annotated[str, typer.Option(help="App secret of the Meta app, which signs its webhooks.")],
    verify_token: Annotated[str | None, typer.Option(help="Webhook verify token; made up unless given.")] = None,
    waba_id: Annotated[str | None, typer.Option(help="WhatsApp Business Account id.")] = None,
    rate: Annotated[
        float | None, typer.Option(min=0.01, help="Messages per second; Meta's limit unless given.")
    ] = None,
    doubt_policy: Annotated[
        DoubtPolicy | None, typer.Option(help="What to do with what is in doubt after the grace.")
    ] = None,
    grace: Annotated[float | None, typer.Option(help="Seconds that a doubt waits for Meta's echo or status.")] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Add a channel, or replace the token and settings of the one there (which starts it again)."""
    settings = _prepare("cli")
    for what, value in (("--external-id", external_id), ("--name", name), ("--token", token)):
        if not value.strip() or not value.isprintable():
            _fail(f"{what} is empty or has characters that cannot be printed.")
    if not external_id.isascii() or not external_id.isdecimal():
        _fail("--external-id is the id that Meta shows for the Page or phone number: digits only.")
    if len(app_secret) < 8:
        _fail("--app-secret is too short to be one: Meta shows it under App settings, Basic.")
    if grace is not None and not settings.shortest_grace_s < grace < math.inf:
        _fail(f"--grace must be above {settings.shortest_grace_s:g} s, which is LEASE_S + 2 x ANSWER_TIMEOUT_S.")

    async def add(place: Place, database: Database) -> dict[str, Any]:
        async with database.transaction() as connection:
            workspace_id = await accounts.ensure_workspace(connection, workspace)
            meta_app = await accounts.ensure_app(
                connection, place.box, workspace_id, f"{kind} app", app_secret, verify_token
            )
            channel_id = await channels.save_channel(
                connection,
                place.box,
                workspace_id=workspace_id,
                kind=kind,
                external_id=external_id,
                name=name,
                app_id=meta_app.id,
                token=token,
                rate_per_second=rate or settings.rate_limit_per_page or DEFAULT_RATE[kind],
                waba_id=waba_id,
                doubt_policy=doubt_policy,
                doubt_grace_s=grace,
                default_doubt_policy=settings.doubt_policy,
                default_doubt_grace_s=settings.doubt_grace_s,
            )
            found = await channels.find_channel(connection, workspace_id, str(channel_id))
        return {
            "id": channel_id,
            "kind": kind.value,
            "externalId": external_id,
            "name": name,
            "ratePerSecond": found.rate_per_second,
            "doubtPolicy": found.doubt_policy.value,
            "doubtGraceS": found.doubt_grace_s,
            "verifyToken": meta_app.verify_token,
            "webhookPath": "/webhook" if kind is ChannelKind.MESSENGER else "/api/webhooks/whatsapp/status",
        }

    added = _with_database(settings, add)
    if as_json:
        typer.echo(json.dumps(added))
        return
    typer.echo(f"Channel {added['id']} ({name}) sends at up to {added['ratePerSecond']:g} messages/s.")
    typer.echo(f"In Meta's dashboard: webhook https://<your host>{added['webhookPath']}, token {added['verifyToken']}")


@channel_app.command("list")
def channel_list(workspace: ExistingWorkspaceOption = DEFAULT_WORKSPACE, as_json: JsonOption = False) -> None:
    """List the channels and their states."""

    async def fetch(place: Place, database: Database) -> list[dict[str, Any]]:
        async with database.borrow() as connection:
            workspace_id = await accounts.find_workspace(connection, workspace)
            return [
                {
                    "id": c.id,
                    "kind": c.kind.value,
                    "externalId": c.external_id,
                    "name": c.name,
                    "ratePerSecond": c.rate_per_second,
                    "doubtPolicy": c.doubt_policy.value,
                    "doubtGraceS": c.doubt_grace_s,
                    "state": c.state.value,
                    "reason": c.stop_reason,
                }
                for c in await channels.list_channels(connection, workspace_id)
            ]

    found = _with_database(_prepare("cli"), fetch)
    if as_json:
        typer.echo(json.dumps(found))
        return
    for c in found:
        reason = f"  {c['reason']}" if c["reason"] else ""
        typer.echo(f"{c['id']:>4}  {c['kind']:<9}  {c['externalId']:<18}  {c['state']:<7}  {c['name']}{reason}")
    if not found:
        typer.echo("No channels yet: `pombo channel add --help`.")


@key_app.command("create")
def key_create(
    name: Annotated[str, typer.Option(help="What the key is for.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Make an API key and print it, for the only time."""

    async def create(place: Place, database: Database) -> str:
        async with database.transaction() as connection:
            workspace_id = await accounts.ensure_workspace(connection, workspace)
            return await accounts.create_api_key(connection, workspace_id, name)

    key = _with_database(_prepare("cli"), create)
    typer.echo(json.dumps({"name": name, "key": key}) if as_json else key)


@agent_app.command("add")
def agent_add(
    name: Annotated[str, typer.Argument(help="As colleagues see it.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Add an agent, and print an API key that acts for the agent, for the only time."""

    async def add(place: Place, database: Database) -> tuple[int, str]:
        async with database.transaction() as connection:
            workspace_id = await accounts.ensure_workspace(connection, workspace)
            agent_id = await agents.add_agent(connection, workspace_id, name)
            return agent_id, await accounts.create_api_key(connection, workspace_id, name, agent_id)

    agent_id, key = _with_database(_prepare("cli"), add)
    typer.echo(json.dumps({"id": agent_id, "name": name, "key": key}) if as_json else key)


@app.command()
def send(
    channel: Annotated[str, typer.Option(help="Channel: our id, Meta's id, or its name.")],
    recipients: Annotated[
        typer.FileBinaryRead, typer.Option(help="CSV file with a header and a column `recipient`, or - for stdin.")
    ],
    text: Annotated[str, typer.Option(help="The message; {{ column }} takes a column's value.")],
    wait: Annotated[bool, typer.Option("--wait", help="Show progress; status 0 only if all were accepted.")] = False,
    as_json: JsonOption = False,
    name: Annotated[str, typer.Option(help="Name of the campaign.")] = "pombo send",
    workspace: ExistingWorkspaceOption = DEFAULT_WORKSPACE,
) -> None:
    """Send a text to the recipients of a CSV file."""
    from pombo.run import send as send_role

    request = send_role.SendRequest(workspace, channel, recipients, text, name, wait=wait, as_json=as_json)

    async def submit(place: Place, database: Database) -> int:
        return await send_role.run(place, database, request)

    code = _with_database(_prepare("cli"), submit)
    if code:
        raise SystemExit(code)


# --- runs ---------------------------------------------------------------------------------------------------------


RunArgument = Annotated[int, typer.Argument(metavar="RUN", min=1, help="The run's id: `pombo run list` shows it.")]
WaitOption = Annotated[bool, typer.Option("--wait", help="Until it has come about.")]


@run_app.command("list")
def run_list(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 20,
    workspace: ExistingWorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """List the latest runs and how far they are."""
    from pombo.run import control

    _with_database(_prepare("cli"), lambda _, database: control.list_runs(database, workspace, limit, as_json))


@run_app.command("pause")
def run_pause(
    run: RunArgument,
    wait: WaitOption = False,
    workspace: ExistingWorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Pause a run: once it is `paused`, no further send starts."""
    _control(run, "pause", wait, workspace, as_json)


@run_app.command("resume")
def run_resume(
    run: RunArgument,
    workspace: ExistingWorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Let a paused run go on."""
    _control(run, "resume", False, workspace, as_json)


@run_app.command("cancel")
def run_cancel(
    run: RunArgument,
    wait: WaitOption = False,
    workspace: ExistingWorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Cancel what a run has not sent yet. This cannot be undone."""
    _control(run, "cancel", wait, workspace, as_json)


def _control(run: int, action: "Action", wait: bool, workspace: str, as_json: bool) -> None:
    from pombo.run import control

    _with_database(
        _prepare("cli"), lambda _, database: control.act(database, workspace, run, action, wait=wait, as_json=as_json)
    )


@app.command()
def panic(
    release: Annotated[bool, typer.Option("--release", help="Let everything go on.")] = False,
    wait: WaitOption = False,
    workspace: ExistingWorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Stop everything of a workspace at once, also what begins later, until it is released."""
    from pombo.run import control

    _with_database(
        _prepare("cli"),
        lambda _, database: control.panic(database, workspace, release=release, wait=wait, as_json=as_json),
    )


# --- doubts -------------------------------------------------------------------------------------------------------

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

    async def fetch(place: Place, database: Database) -> list[dict[str, Any]]:
        wanted = doubts.Filter(workspace, channel, run, [])
        return [doubts.as_json(message) for message in await doubts.list_held(database, wanted)]

    found = _with_database(_prepare("cli"), fetch)
    if as_json:
        typer.echo(json.dumps(found))
        return
    for m in found:
        where = f"channel {m['channelId']}  run {m['runId']}"
        typer.echo(f"{m['messageId']:>10}  {m['recipient']:<18}  {where}  {m['attemptedAt']:.19}  {m['words']}")
    if not found:
        typer.echo("Nothing is held.")


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


def _resolve(
    action: DoubtAction, workspace: str, channel: str | None, run: int | None, messages: list[int] | None, as_json: bool
) -> None:
    from pombo.run import doubts

    wanted = doubts.Filter(workspace, channel, run, messages or [])

    async def resolve(place: Place, database: Database) -> int:
        return await doubts.resolve(database, action, wanted)

    count = _with_database(_prepare("cli"), resolve)
    words = {
        DoubtAction.RESEND: "to be sent again",
        DoubtAction.MARK_SENT: "marked as sent",
        DoubtAction.DROP: "dropped",
    }
    done = f"{count} {words[action]}."
    typer.echo(json.dumps({"action": action.value, "resolved": count}) if as_json else done)


# --- partitions ---------------------------------------------------------------------------------------------------


@partitions_app.command("create")
def partitions_create(days: Annotated[int, typer.Argument(min=0, max=3650, help="Days ahead.")] = 30) -> None:
    """Make the partitions of the next days."""
    with open_place(_prepare("cli")) as place:
        made = asyncio.run(partitions.create(place.database_url, days))
    typer.echo("\n".join(made) or "Nothing to make.")


@partitions_app.command("drop")
def partitions_drop(days: Annotated[int, typer.Argument(min=1, help="Days to keep.")] = 7) -> None:
    """Drop the partitions that are older than so many days."""
    with open_place(_prepare("cli")) as place:
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

    with open_place(_prepare("cli")) as place:
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


def _with_database(settings: Settings, work: Callable[[Place, Database], Awaitable[T]]) -> T:
    """Runs `work(place, database)` on a migrated database."""
    from pombo.run import up as up_role

    async def go(place: Place) -> T:
        async with Database.open(place.database_url, "pombo cli", app_size=2, worker_size=4) as database:
            return await work(place, database)

    with open_place(settings) as place:
        up_role.migrate_embedded(settings, place)
        return uvloop.run(go(place))
