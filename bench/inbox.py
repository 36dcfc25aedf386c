"""`inbox`: how long the inbox's API takes to answer with millions of messages: lists by every filter, search, threads.

Requests go through the whole ASGI application in this process, under the API's role and its row-level security, one
after the other. The address of each is different every time.
"""

import argparse
import random
import time
from collections.abc import Callable
from typing import Any

import asyncpg
import httpx
import uvloop

from bench.inbox_data import WORDS, fill
from bench.place import open_place, settle_down
from bench.results import machine
from bench.seeding import seed
from bench.wire import WIRES
from pombo.api.app import create_app
from pombo.api.services import Services
from pombo.domain.channels import ChannelKind
from pombo.domain.ids import AgentId
from pombo.run.lifecycle import spare_the_collector
from pombo.settings import Settings
from pombo.store import accounts
from pombo.store.database import Database
from pombo.store.secrets import SecretBox

_CHANNELS = 5
_BOX = SecretBox("the bench's key, of at least 32 characters")


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--messages", type=int, default=10_000_000)
    parser.add_argument("--conversations", type=int, default=500_000)
    parser.add_argument("--requests", type=int, default=300, help="of each kind")


def main(options: argparse.Namespace) -> dict[str, Any]:
    with open_place() as place:
        return uvloop.run(_measure(place.pombo_database(), options))


async def _measure(url: str, options: argparse.Namespace) -> dict[str, Any]:
    began = time.perf_counter()
    async with Database.open(url, "pombo bench") as database:
        seeded = await seed(database, WIRES[ChannelKind.WHATSAPP], _CHANNELS, 0)
        connection = await asyncpg.connect(url, server_settings={"search_path": "pombo,public", "timezone": "UTC"})
        await fill(connection, seeded.workspace_id, seeded.channel_ids, options.conversations, options.messages)
        await connection.close()
        await settle_down(url)
        print(f"{options.messages:,} messages made in {time.perf_counter() - began:.0f} s", flush=True)
        async with database.transaction() as owned:
            key = await accounts.create_api_key(owned, seeded.workspace_id, "bench", AgentId(1))
        spare_the_collector()
        settings = Settings(_env_file=None)  # type: ignore[call-arg]
        app = create_app(Services(database, settings, _BOX))
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://bench", headers={"Authorization": f"Bearer {key}"}
        ) as http:
            rows = [
                await _time(http, name, address, options.requests)
                for name, address in _kinds(options, seeded.channel_ids).items()
            ]
    return {
        "machine": machine(),
        "messages": options.messages,
        "conversations": options.conversations,
        "kinds": rows,
    }


Address = Callable[[], str]


def _kinds(options: argparse.Namespace, channel_ids: list[int]) -> dict[str, Address]:
    chance = random.Random(1)
    listed = "/api/conversations?limit=50"
    counted = "/api/conversations/count?status=open"

    def word(low: int, high: int) -> str:
        return f"w{chance.randrange(low, high)}"

    return {
        "open": lambda: f"{listed}&status=open",
        "all": lambda: listed,
        "mine": lambda: f"{listed}&assignee=mine&status=open",
        "an agent's, any status": lambda: f"{listed}&assignee={chance.randint(1, 16)}",
        "nobody's": lambda: f"{listed}&assignee=unassigned&status=open",
        "unread": lambda: f"{listed}&unread=true&status=open",
        "channel": lambda: f"{listed}&channelId={chance.choice(channel_ids)}&status=open",
        "common label": lambda: f"{listed}&labelId=1",
        "rare label, closed, an agent's": lambda: f"{listed}&labelId=8&status=closed&assignee={chance.randint(1, 16)}",
        "rare combination": lambda: f"{listed}&assignee=mine&unread=true&labelId=7&channelId={channel_ids[0]}",
        "badge: nobody's": lambda: f"{counted}&assignee=unassigned",
        "badge: unread": lambda: f"{counted}&unread=true",
        "badge: unread, mine": lambda: f"{counted}&unread=true&assignee=mine",
        "search: common words": lambda: f"{listed}&search={word(0, 20)}",
        "search: words in between": lambda: f"{listed}&search={word(100, 2000)}",
        "search: rare words": lambda: f"{listed}&search={word(WORDS // 2, WORDS)}",
        "search: a common and a rare word": lambda: f"{listed}&search={word(0, 20)} {word(WORDS // 2, WORDS)}",
        "search: no such word": lambda: f"{listed}&search=x{chance.random()}",
        "search: open ones": lambda: f"{listed}&status=open&search={word(0, 500)}",
        "search: beginning of a name": lambda: f"{listed}&search=n{chance.randrange(256):x}",
        "search: beginning of a word in it": lambda: f"{listed}&search=s{chance.randrange(256):x}1",
        "search: address": lambda: f"{listed}&search=3519{10_000_000 + chance.randrange(options.conversations)}",
        "thread": lambda: f"/api/messages/{chance.randint(1, options.conversations)}",
        "long thread": lambda: "/api/messages/1",
        "one": lambda: f"/api/conversations/{chance.randint(1, options.conversations)}",
    }


async def _time(http: httpx.AsyncClient, name: str, address: Address, requests: int) -> dict[str, Any]:
    times, most = [], 0
    for _ in range(requests):
        path = address()
        began = time.perf_counter()
        answer = await http.get(path)
        times.append((time.perf_counter() - began) * 1000)
        answer.raise_for_status()
        most = max(most, len(answer.json().get("conversations") or answer.json().get("messages") or ()))
    times.sort()
    figures = {
        "name": name,
        "p50_ms": times[len(times) // 2],
        "p99_ms": times[int(len(times) * 0.99)],
        "most_ms": times[-1],
        "rows": most,
    }
    print(
        f"{name:>36}: {figures['p50_ms']:6.1f} ms, p99 {figures['p99_ms']:6.1f}, most {figures['most_ms']:6.1f}, "
        f"up to {most} rows",
        flush=True,
    )
    return figures
