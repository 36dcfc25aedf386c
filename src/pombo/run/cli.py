"""The `pombo` command. Each subcommand's `--help` says what it does; errors are one sentence on stderr."""

# Each command imports its role when it runs: loading all takes two seconds, and a command should answer at once.

import asyncio
import json
import math
from typing import Annotated, Any, NoReturn

import typer

from pombo.domain.channels import DEFAULT_RATE, ChannelKind
from pombo.domain.doubt import DoubtPolicy
from pombo.run.cli_breaker import breaker_app
from pombo.run.cli_doubts import doubts_app
from pombo.run.cli_partitions import partitions_app
from pombo.run.cli_runs import panic, run_app
from pombo.run.cli_suppressions import suppressions_app
from pombo.run.command import (
    DEFAULT_WORKSPACE,
    ExistingWorkspaceOption,
    JsonOption,
    WorkspaceOption,
    prepare,
    run,
    with_database,
)
from pombo.run.errors import CommandFailed
from pombo.run.place import Place, open_place
from pombo.settings import SettingsError
from pombo.store import accounts, agents, channels, partitions, schema
from pombo.store.database import Database
from pombo.store.errors import StoreError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
channel_app = typer.Typer(no_args_is_help=True, help="Pages and WhatsApp numbers to send from.")
key_app = typer.Typer(no_args_is_help=True, help="API keys.")
agent_app = typer.Typer(no_args_is_help=True, help="Agents: the people who answer.")
app.add_typer(channel_app, name="channel")
app.add_typer(key_app, name="key")
app.add_typer(agent_app, name="agent")
app.add_typer(run_app, name="run")
app.add_typer(doubts_app, name="doubts")
app.add_typer(suppressions_app, name="suppressions")
app.add_typer(breaker_app, name="breaker")
app.add_typer(partitions_app, name="partitions")
app.command()(panic)


def main() -> None:
    """Expected errors end with one sentence and status 1; bugs with a traceback."""
    try:
        app()
    except (SettingsError, StoreError, CommandFailed) as error:
        _fail(str(error))


def _fail(sentence: str) -> NoReturn:
    typer.secho(sentence, err=True, fg="red")
    raise SystemExit(1)


# --- roles --------------------------------------------------------------------------------------------------------


@app.command()
def up(
    workers: Annotated[int | None, typer.Option(min=1, help="Worker processes; one per core unless given.")] = None,
    sandbox: Annotated[bool, typer.Option("--sandbox", help="Also run Meta's simulator, and send to it.")] = False,
) -> None:
    """Run everything: database (unless DATABASE_URL names one), API, workers."""
    from pombo.run import up as up_role

    settings = prepare("up")
    up_role.run(settings, workers, sandbox)


@app.command()
def api() -> None:
    """Run the API and the webhook receiver."""
    from pombo.run.api_role import run_api
    from pombo.run.up import prepared

    settings = prepare("api")
    with prepared(settings) as place:
        run(run_api(settings, place))


@app.command()
def worker() -> None:
    """Run one worker: it sends for its share of the channels."""
    from pombo.run.up import prepared
    from pombo.run.worker_role import run_worker

    settings = prepare("worker")
    with prepared(settings) as place:
        run(run_worker(settings, place))


@app.command()
def sandbox(
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 3200,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Run the simulator of Meta's APIs."""
    from pombo.sandbox import server as sandbox_server

    prepare("sandbox")
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

    settings = prepare("demo")
    raise SystemExit(demo_role.run(settings, once=once, contacts=contacts, seed=seed))


@app.command()
def migrate() -> None:
    """Bring the database to this Pombo's schema, and make the next days' partitions."""
    settings = prepare("migrate")
    with open_place(settings) as place:
        schema.migrate(place.database_url)
        made = asyncio.run(partitions.create(place.database_url, settings.partition_days_ahead))
    typer.echo(f"Schema {schema.KNOWN_VERSION}; {len(made)} partitions made.")


@app.command()
def doctor(as_json: JsonOption = False) -> None:
    """Check configuration, database, clock, channels' tokens and whether anything would be sent."""
    from pombo.run import doctor as doctor_role

    settings = prepare("doctor")
    with open_place(settings) as place:
        run(doctor_role.run(settings, place, as_json=as_json))


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
    settings = prepare("cli")
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

    added = with_database(settings, add)
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

    found = with_database(prepare("cli"), fetch)
    if as_json:
        typer.echo(json.dumps(found))
        return
    for c in found:
        reason = f"  {c['reason']}" if c["reason"] else ""
        typer.echo(f"{c['id']:>4}  {c['kind']:<9}  {c['externalId']:<18}  {c['state']:<7}  {c['name']}{reason}")
    if not found:
        typer.echo("No channels yet: `pombo channel add --help`.")


@channel_app.command("start")
def channel_start(
    channel: Annotated[str, typer.Argument(help="Our id, Meta's id, or its name.")],
    workspace: ExistingWorkspaceOption = DEFAULT_WORKSPACE,
) -> None:
    """Let a stopped channel send again, and the others that the same error has stopped."""

    async def start(place: Place, database: Database) -> list[str]:
        async with database.transaction() as connection:
            workspace_id = await accounts.find_workspace(connection, workspace)
            found = await channels.find_channel(connection, workspace_id, channel)
            started = set(await channels.start_channel(connection, workspace_id, found.id))
            return [c.name for c in await channels.list_channels(connection, workspace_id) if c.id in started]

    names = with_database(prepare("cli"), start)
    typer.echo("\n".join(f"{name} sends again." for name in names) or f"{channel} is not stopped.")


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

    key = with_database(prepare("cli"), create)
    typer.echo(json.dumps({"name": name, "key": key}) if as_json else key)


@agent_app.command("add")
def agent_add(
    name: Annotated[str, typer.Argument(help="As colleagues see it.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Add an agent, and print an API key that acts for the agent, for the only time."""
    name = name.strip()
    if not name:
        raise typer.BadParameter("An agent needs a name.", param_hint="NAME")

    async def add(place: Place, database: Database) -> tuple[int, str]:
        async with database.transaction() as connection:
            workspace_id = await accounts.ensure_workspace(connection, workspace)
            agent_id = await agents.add_agent(connection, workspace_id, name)
            return agent_id, await accounts.create_api_key(connection, workspace_id, name, agent_id)

    agent_id, key = with_database(prepare("cli"), add)
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

    code = with_database(prepare("cli"), submit)
    if code:
        raise SystemExit(code)
