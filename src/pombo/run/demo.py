"""`pombo demo`: everything on this machine, with Meta simulated, from nothing to 10,000 delivered messages.

A workspace with 3 Pages and 2 WhatsApp numbers at Meta's own rates; the sandbox errs on 1 % of the sends, doubles and
disorders webhooks. People answer; their replies become conversations. At the end every message is compared with the
sandbox's ledger.
"""

import asyncio
import contextlib
import random
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console

from pombo.domain.channels import DEFAULT_RATE, ChannelKind
from pombo.domain.ids import ChannelId, WorkspaceId
from pombo.run.demo_faults import faults
from pombo.run.demo_table import print_table
from pombo.run.http import HttpError, JsonClient
from pombo.run.lifecycle import stop_on_signals
from pombo.run.place import Place
from pombo.run.progress import Progress, RunFigures
from pombo.run.reconcile import Comparison, compare
from pombo.run.supervisor import Role, Supervisor
from pombo.settings import Settings
from pombo.store import accounts, audit, channels, contacts, embedded, partitions, schema
from pombo.store.contacts import NewContact
from pombo.store.database import Database
from pombo.store.secrets import load_or_make_key

_APP_ID, _APP_SECRET, _VERIFY_TOKEN = "7000001", "demo-app-secret", "demo-verify-token"
_WABA_ID = "7000002"
_READY_S = 60.0
_SETTLE_S = 60.0
_TEXT = "Hello {{ first_name | default: 'there' }}, your parcel {{ parcel }} is on its way."
# Of those who get the message, so many answer within some seconds.
_CUSTOMERS = {
    "reply_rate": 0.1,
    "reaction_rate": 0.05,
    "media_rate": 0.1,
    "edit_rate": 0.1,
    "opt_out_rate": 0.005,
    "delay_ms": 500,
    "jitter_ms": 3000,
}
_FIRST_NAMES = ("Ana", "Bruno", "Carla", "Davi", "Elena", "Fábio", "Giulia", "Hugo", "Inês", "João", "Karin", "Luís")


@dataclass(frozen=True, slots=True)
class DemoChannel:
    kind: ChannelKind
    external_id: str
    name: str

    @property
    def token(self) -> str:
        return f"demo-token-{self.external_id}"


CHANNELS = (
    DemoChannel(ChannelKind.MESSENGER, "7000011", "Pombo Coffee"),
    DemoChannel(ChannelKind.MESSENGER, "7000012", "Pombo Books"),
    DemoChannel(ChannelKind.MESSENGER, "7000013", "Pombo Flowers"),
    DemoChannel(ChannelKind.WHATSAPP, "7000021", "Orders"),
    DemoChannel(ChannelKind.WHATSAPP, "7000022", "Deliveries"),
)


def run(settings: Settings, *, once: bool, contacts: int, seed: int) -> int:
    """The exit status: 0 if every figure agrees (with `once`), or when stopped by hand."""
    directory = settings.pombo_data_dir / "demo"
    directory.mkdir(parents=True, exist_ok=True)
    console = Console()
    console.print("[bold]Pombo demo[/]: Meta is simulated, everything else is real.")
    with embedded.start(directory / "postgres") as server:
        url = server.fresh_database("demo")
        schema.migrate(url)
        asyncio.run(partitions.create(url, 1))
        place = Place(url, load_or_make_key(directory / "secret.key"))
        return uvloop.run(_demo(settings, place, directory, console, once, contacts, seed))


async def _demo(
    settings: Settings, place: Place, directory: Path, console: Console, once: bool, contacts: int, seed: int
) -> int:
    stop = stop_on_signals()
    port, sandbox_port = _free_port(settings.port, console), _free_port(0, console)
    log = directory / "demo.log"
    supervisor = Supervisor(
        [Role("worker", count=2), Role("api"), Role("sandbox", ("--port", str(sandbox_port)))],
        {
            **place.environment(),
            "PORT": str(port),
            "GRAPH_API_URL": f"http://127.0.0.1:{sandbox_port}",
            "LOG_LEVEL": "warning",
        },
        log=log,
    )
    end = asyncio.Event()
    supervising = asyncio.create_task(supervisor.run(end))
    showing = asyncio.create_task(
        _show(place, console, f"http://127.0.0.1:{port}", f"http://127.0.0.1:{sandbox_port}", contacts, seed)
    )
    stopped = asyncio.create_task(stop.wait())
    code = 0
    try:
        await asyncio.wait([showing, stopped], return_when=asyncio.FIRST_COMPLETED)
        if showing.done():
            code = showing.result()
            if not once:
                console.print("It goes on running; Ctrl-C ends it.")
                await stopped
        else:
            showing.cancel()
    except (HttpError, TimeoutError) as error:
        console.print(f"[red]The demo failed:[/] {error or 'it took too long'}. The log is {log}.")
        code = 1
    finally:
        stopped.cancel()
        end.set()
        await supervising
    return code


async def _show(place: Place, console: Console, api_url: str, sandbox_url: str, contacts: int, seed: int) -> int:
    async with (
        Database.open(place.database_url, "pombo demo", app_size=1, worker_size=3) as database,
        JsonClient(sandbox_url) as sandbox,
    ):
        await _answering(sandbox, "/sandbox/stats")
        await _answering(JsonClient(api_url), "/health")
        workspace_id, channel_ids, key = await _make_workspace(place, database, contacts)
        await _set_up_sandbox(sandbox, api_url, seed)
        console.print(f"{contacts:,} contacts on {len(channel_ids)} channels; sending to all of them.")
        async with JsonClient(api_url, key) as api:
            run_id, figures = await _send(api, console, channel_ids)
            await _settle(sandbox, database)
            figures = await _figures(api, run_id)
            async with database.borrow() as connection:
                comparison = await compare(connection, workspace_id, sandbox)
                inbox = await audit.inbox_figures(connection, workspace_id)
            http = await api.call("GET", "/stats/http-client")
        _check_sums(comparison, figures, contacts)
        await _check_sockets(sandbox, comparison)
        print_table(console, figures, comparison, inbox, http, api_url)
    return 0 if comparison.agrees else 1


def _free_port(wanted: int, console: Console) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            console.print(f"Port {wanted} is in use; taking another one.")
            probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def _answering(client: JsonClient, target: str) -> None:
    """Waits for a role to be up. Raises TimeoutError."""
    async with client if not client.started else contextlib.nullcontext(), asyncio.timeout(_READY_S):
        while True:
            with contextlib.suppress(HttpError):
                await client.call("GET", target)
                return
            await asyncio.sleep(0.1)


async def _make_workspace(place: Place, database: Database, count: int) -> tuple[WorkspaceId, list[ChannelId], str]:
    async with database.transaction() as connection:
        workspace_id = await accounts.ensure_workspace(connection, "demo")
        app = await accounts.ensure_app(connection, place.box, workspace_id, "Demo app", _APP_SECRET, _VERIFY_TOKEN)
        channel_ids = [
            await channels.save_channel(
                connection,
                place.box,
                workspace_id=workspace_id,
                kind=channel.kind,
                external_id=channel.external_id,
                name=channel.name,
                app_id=app.id,
                token=channel.token,
                rate_per_second=DEFAULT_RATE[channel.kind],
                waba_id=_WABA_ID if channel.kind is ChannelKind.WHATSAPP else None,
            )
            for channel in CHANNELS
        ]
        key = await accounts.create_api_key(connection, workspace_id, "demo")
        await contacts.save_contacts(connection, workspace_id, list(_people(channel_ids, count)))
    return workspace_id, channel_ids, key


def _people(channel_ids: list[ChannelId], count: int) -> list[NewContact]:
    """As many on each channel as its rate allows in the same time, so that all channels end together."""
    total = sum(DEFAULT_RATE[channel.kind] for channel in CHANNELS)
    names = random.Random(1)  # noqa: S311
    people: list[NewContact] = []
    done, share = 0, 0.0
    for channel_id, channel in zip(channel_ids, CHANNELS, strict=True):
        share += DEFAULT_RATE[channel.kind] / total * count
        for number in range(done, round(share)):
            messenger = channel.kind is ChannelKind.MESSENGER
            recipient = f"24{number:014}" if messenger else f"+1415{5_000_000 + number}"
            attributes = {"first_name": names.choice(_FIRST_NAMES), "parcel": f"P-{number:05}"}
            people.append(NewContact(channel_id, recipient, attributes))
        done = round(share)
    return people


async def _set_up_sandbox(sandbox: JsonClient, api_url: str, seed: int) -> None:
    pages = [
        {"page_id": c.external_id, "app_id": _APP_ID, "access_token": c.token, "name": c.name}
        for c in CHANNELS
        if c.kind is ChannelKind.MESSENGER
    ]
    numbers = [
        {"phone_number_id": c.external_id, "waba_id": _WABA_ID, "app_id": _APP_ID, "access_token": c.token}
        for c in CHANNELS
        if c.kind is ChannelKind.WHATSAPP
    ]
    await sandbox.call(
        "POST",
        "/sandbox/setup",
        {
            "apps": [{"app_id": _APP_ID, "app_secret": _APP_SECRET, "verify_token": _VERIFY_TOKEN}],
            "pages": pages,
            "phone_numbers": numbers,
        },
    )
    for kind, path in (("page", "/webhook"), ("whatsapp_business_account", "/api/webhooks/whatsapp/status")):
        spec = {"app_id": _APP_ID, "callback_url": api_url + path, "object": kind, "verify": True}
        await sandbox.call("PUT", "/sandbox/webhooks", spec)
    await sandbox.call("PATCH", "/sandbox/channels", {"latency_ms": 80.0, "customers": _CUSTOMERS})
    await sandbox.call("PUT", "/sandbox/seed", {"seed": seed})
    await sandbox.call("POST", "/sandbox/faults", faults((c.kind, c.external_id) for c in CHANNELS))


async def _send(api: JsonClient, console: Console, channel_ids: list[ChannelId]) -> tuple[int, RunFigures]:
    campaign: dict[str, Any] = await api.call(
        "POST",
        "/api/campaigns",
        {"name": "First flight", "channelIds": channel_ids, "content": {"type": "text", "text": _TEXT}},
    )
    sent = await api.call("POST", "/api/campaigns/send", {"campaignId": campaign["id"], "audience": "contacts"})
    run_id = int(sent["runId"])
    with Progress(console) as progress:
        while True:
            figures = await _figures(api, run_id)
            progress.show(figures)
            if figures.finished:
                return run_id, figures
            await asyncio.sleep(0.25)


async def _figures(api: JsonClient, run_id: int) -> RunFigures:
    return RunFigures.from_json(await api.call("GET", f"/api/runs/{run_id}"))


async def _settle(sandbox: JsonClient, database: Database) -> None:
    """Until every webhook has been posted and applied, and the figures are folded."""
    await sandbox.call("POST", "/sandbox/webhooks/flush", {"hurry": True, "timeout_ms": _SETTLE_S * 1000})
    async with asyncio.timeout(_SETTLE_S), database.borrow() as connection:
        while await audit.webhooks_waiting(connection):
            await asyncio.sleep(0.1)


def _check_sums(comparison: Comparison, figures: RunFigures, contacts: int) -> None:
    """The run's counters must say what the delivery log adds up to."""
    for name, counted in (
        ("accepted", figures.accepted),
        ("delivered", figures.delivered),
        ("read", figures.read),
        ("failed", figures.failed),
        ("undelivered", figures.undelivered),
        ("waiting", figures.waiting + figures.uncertain),
    ):
        if comparison.sums[name] != counted:
            comparison.disagreements.append(f"the counter {name} says {counted}, the log {comparison.sums[name]}")
    if comparison.our_messages != contacts:
        comparison.disagreements.append(f"{contacts} contacts, but {comparison.our_messages} messages")


async def _check_sockets(sandbox: JsonClient, comparison: Comparison) -> None:
    stats = await sandbox.call("GET", "/sandbox/stats")
    comparison.requests, comparison.connections = stats["requests"], stats["connections_opened"]
