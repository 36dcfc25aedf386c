"""`pombo doctor`: what would keep messages from being sent, each with what to do about it."""

import json
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import msgspec
import typer

from pombo.domain.channels import ChannelState
from pombo.meta.transport import Answer, Transport
from pombo.run.place import Place
from pombo.settings import Settings
from pombo.store import channels, halts, health, partitions, schema
from pombo.store.channels import Channel
from pombo.store.database import Connection, Database
from pombo.store.errors import DatabaseUnavailable, SchemaError
from pombo.store.secrets import SecretError

# Meta's signatures and our windows bear a few seconds; more means that NTP is not running.
_CLOCK_SKEW_S = 5.0
_DAYS_AHEAD = 2


@dataclass(frozen=True, slots=True)
class Finding:
    what: str
    ok: bool
    says: str


async def run(settings: Settings, place: Place, *, as_json: bool) -> int:
    """The exit status: 0 when all is well."""
    findings = [Finding("settings", True, f"Graph API {settings.graph_api_version} at {settings.graph_api_url}")]
    try:
        async with (
            Database.open(place.database_url, "pombo doctor", app_size=1, worker_size=1) as database,
            database.borrow() as connection,
        ):
            findings += await _database(connection, settings)
            findings += [
                Finding(f"workspace {name}", False, f"held: `pombo panic --release --workspace '{name}'` lets it go on")
                for name in await halts.halted_workspaces(connection)
            ]
            findings += await _channels(connection, settings, place)
    except (DatabaseUnavailable, SchemaError) as error:
        findings.append(Finding("database", False, str(error)))
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings]))
    else:
        for finding in findings:
            mark = typer.style("ok  ", fg="green") if finding.ok else typer.style("FAIL", fg="red")
            typer.echo(f"{mark} {finding.what:<24} {finding.says}")
    return 0 if all(finding.ok for finding in findings) else 1


async def _database(connection: Connection, settings: Settings) -> list[Finding]:
    shortest_grace_s = settings.shortest_grace_s
    found = await health.look(connection, shortest_grace_s)
    skew = abs((found.now - datetime.now(UTC)).total_seconds())
    workers = (
        f"{found.workers} running" if found.workers else "none is running: `pombo up` or `pombo worker` starts one"
    )
    ahead = [p for p in await partitions.report(connection) if p.day > found.now.date()]
    days = min(sum(p.table == parent for p in ahead) for parent in partitions.PARENTS)
    return [
        Finding("database", True, f"PostgreSQL {found.server_version}, schema {schema.KNOWN_VERSION}"),
        Finding(
            "clock",
            skew < _CLOCK_SKEW_S,
            f"{skew:.1f} s from the database's" + ("" if skew < _CLOCK_SKEW_S else ": set both by NTP"),
        ),
        Finding(
            "partitions",
            days >= _DAYS_AHEAD,
            f"{days} days ahead" + ("" if days >= _DAYS_AHEAD else ": run `pombo partitions create 30`"),
        ),
        Finding("workers", found.workers > 0, workers),
        Finding("webhooks waiting", True, f"{found.webhooks_waiting:,}"),
        Finding("messages in doubt", True, f"{found.doubts:,}"),
        Finding("messages held", found.held == 0, f"{found.held:,}" + (": `pombo doubts list`" if found.held else "")),
        Finding(
            "grace",
            found.channels_in_haste == 0,
            f"above {shortest_grace_s:g} s on every channel"
            if not found.channels_in_haste
            else f"{found.channels_in_haste} channels decide about doubts within {shortest_grace_s:g} s, while an "
            "answer may still be on its way: add them again with a longer --grace",
        ),
    ]


async def _channels(connection: Connection, settings: Settings, place: Place) -> list[Finding]:
    found = await channels.all_channels(connection)
    if not found:
        return [Finding("channels", False, "there are none: `pombo channel add --help`")]
    transport = Transport(settings.graph_api_url, max_sockets=4, answer_timeout=10.0)
    await transport.start()
    try:
        return [await _channel(channel, transport, settings, place) for channel in found]
    finally:
        await transport.close()


async def _channel(channel: Channel, transport: Transport, settings: Settings, place: Place) -> Finding:
    """Asks Meta for the Page or number itself: the cheapest call that a dead token fails."""
    name = f"channel {channel.name}"
    if channel.state is ChannelState.STOPPED:
        return Finding(name, False, f"stopped: {channel.stop_reason} Add it again with a working token to start it.")
    try:
        token = place.box.open(channel.workspace_id, channel.token)
    except SecretError as error:
        return Finding(name, False, str(error))
    began = time.perf_counter()
    target = f"/{settings.graph_api_version}/{channel.external_id}?fields=id"
    answer = await transport.request("GET", target, {"Authorization": f"Bearer {token}"})
    if not isinstance(answer, Answer):
        return Finding(name, False, f"{settings.graph_api_url} cannot be reached ({answer.reason}): check the network")
    if answer.status == 200:
        return Finding(name, True, f"the token works ({(time.perf_counter() - began) * 1000:.0f} ms)")
    return Finding(name, False, f"Meta refuses the token: {_message(answer.body)}")


def _message(body: bytes) -> str:
    try:
        return str(msgspec.json.decode(body)["error"]["message"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return "without saying why"
