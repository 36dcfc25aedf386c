"""Every operation of the OpenAPI document: seen to succeed as documented, and never failing whatever is asked."""

import asyncio
import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.core.transport import Response
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from pombo.api.app import create_app
from pombo.api.services import Services
from pombo.domain.ids import AgentId
from pombo.settings import Settings
from pombo.store import accounts, agents, contacts, media, syncs
from pombo.store.contacts import NewContact
from pombo.store.database import Database
from pombo.store.media_files import DirectoryFiles, MediaFiles
from pombo.store.secrets import SecretBox
from tests.accounts import add_account, stage_run
from tests.conversations import add_conversation

# Of each operation, fitting the document and not; for a longer search set POMBO_API_EXAMPLES.
EXAMPLES = int(os.environ.get("POMBO_API_EXAMPLES", "6"))


@dataclass(frozen=True, slots=True)
class _Batch:
    channels: int = 0
    accepted: int = 0
    failed: int = 0
    retried: int = 0
    uncertain: int = 0


@dataclass(frozen=True, slots=True)
class World:
    """What there is to ask for, and where."""

    base_url: str
    headers: dict[str, str]
    document: Any
    ids: dict[str, int]


async def _no_batch(workspace_id: object, limit: int) -> _Batch:
    return _Batch()


async def _populate(database: Database, box: SecretBox, files: MediaFiles) -> tuple[str, dict[str, int]]:
    account = await add_account(database, box)
    workspace = account.workspace_id
    run_id = await stage_run(database, account, [(account.number, "+351912345678")])
    conversation = await add_conversation(database, workspace, account.number, "+351912345678", name="Ana")
    async with database.transaction() as connection:
        agent: AgentId = await agents.add_agent(connection, workspace, "Ana")
        key = await accounts.create_api_key(connection, workspace, "tests", agent)
        await contacts.save_contacts(connection, workspace, [NewContact(account.number, "+351912345670")])
        label = await connection.fetchval(
            "INSERT INTO labels (workspace_id, name, colour) VALUES ($1, 'VIP', '#ff0000') RETURNING id", workspace
        )
        canned = await connection.fetchval(
            "INSERT INTO canned_replies (workspace_id, shortcut, text) VALUES ($1, 'hi', 'Hello') RETURNING id",
            workspace,
        )
        failed = await connection.fetchval(
            """INSERT INTO conversation_messages (workspace_id, conversation_id, channel_id, direction, author, kind,
                                                  text, state, at)
               VALUES ($1, $2, $3, 'out', 'agent', 'text', 'Hello', 'failed', now()) RETURNING id""",
            workspace,
            conversation,
            account.number,
        )
        webhook = await connection.fetchval("SELECT nextval('webhook_ids')")
        await connection.execute(
            """INSERT INTO webhook_log (workspace_id, id, day, app_id, received_at, body)
               SELECT $1, $2, (now() AT TIME ZONE 'UTC')::date, min(id), now(), '{}' FROM meta_apps""",
            workspace,
            webhook,
        )
        file = b"%PDF-1.4"
        digest = hashlib.sha256(file).digest()
        await files.put(workspace, digest, file)
        medium = await media.add_stored(connection, workspace, digest, len(file), "application/pdf", "a.pdf")
        lost = await connection.fetchval(
            """INSERT INTO media (workspace_id, channel_id, conversation_message_id, source, state)
               VALUES ($1, $2, $3, '{"id": "77"}', 'failed') RETURNING id""",
            workspace,
            account.number,
            failed,
        )
        sync = json.loads(await syncs.start(connection, workspace, account.page, 5))["id"]
    ids = {
        "campaignId": account.campaign_id,
        "runId": run_id,
        "channelId": account.number,
        "conversationId": conversation,
        "messageId": failed,
        "labelId": label,
        "replyId": canned,
        "agentId": agent,
        "webhook_id": webhook,
        "conversation_id": conversation,
        "media_id": medium,
        "lost_media_id": lost,
        "sync_id": sync,
    }
    return key, ids


@contextmanager
def serving(url: str, box: SecretBox, files: MediaFiles) -> Iterator[World]:
    """The API over real HTTP, in a thread with a loop of its own: schemathesis asks as any other program would."""
    ready, stopped, told = threading.Event(), threading.Event(), {}

    async def serve() -> None:
        async with Database.open(url) as database:
            key, ids = await _populate(database, box, files)
            given_settings = Settings(_env_file=None)  # type: ignore[call-arg]
            app = create_app(Services(database, given_settings, box, process_batch=_no_batch, files=files))
            server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan="off", log_level="error"))
            serving = asyncio.create_task(server.serve())
            while not server.started:
                await asyncio.sleep(0.01)
            told.update(port=server.servers[0].sockets[0].getsockname()[1], key=key, ids=ids)
            ready.set()
            await asyncio.to_thread(stopped.wait)
            server.should_exit = True
            await serving

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(60)
        base_url, headers = f"http://127.0.0.1:{told['port']}", {"Authorization": f"Bearer {told['key']}"}
        document = schemathesis.openapi.from_url(f"{base_url}/openapi.json", wait_for_schema=10)
        yield World(base_url, headers, document, told["ids"])
    finally:
        stopped.set()
        thread.join(30)


@pytest.fixture
def world(url: str, box: SecretBox, tmp_path: Path) -> Iterator[World]:
    with serving(url, box, DirectoryFiles(tmp_path)) as running:
        yield running


TEXT = {"type": "text", "text": "Hello"}
Ask = dict[str, Any] | Callable[[dict[str, int]], dict[str, Any]]

# What succeeds, by operation; path parameters come from the world.
GOOD: dict[str, Ask] = {
    "GET /health": {},
    "POST /api/campaigns/send": lambda ids: {
        "body": {"campaignId": ids["campaignId"], "recipients": ["+351912345678"]}
    },
    "POST /api/campaigns": lambda ids: {"body": {"name": "A", "channelIds": [ids["channelId"]], "content": TEXT}},
    "GET /api/campaigns": {},
    "GET /api/campaigns/{campaignId}": {},
    "GET /api/runs/{runId}": {},
    "GET /api/runs/{runId}/rejects": {},
    "GET /api/runs/{runId}/deliveries": {},
    "GET /api/doubts/sent-twice": {},
    "POST /api/runs/{runId}/pause": {},
    "POST /api/runs/{runId}/resume": {},
    "POST /api/runs/{runId}/cancel": {},
    "GET /api/panic": {},
    "POST /api/panic": {},
    "POST /api/panic/release": {},
    "GET /api/doubts": {},
    "POST /api/doubts/resolve": {"body": {"action": "drop", "messageIds": [1]}},
    "POST /api/send-message": lambda ids: {"body": {"conversationId": ids["conversationId"], "content": TEXT}},
    "GET /api/messages/{conversationId}": {},
    "POST /api/messages/{messageId}/retry": {},
    "GET /api/conversations": {"query": {"assignee": "mine", "search": "ana", "status": "open"}},
    "GET /api/conversations/count": {"query": {"unread": "true", "status": "open"}},
    "GET /api/conversations/{conversationId}": {},
    "PATCH /api/conversations/{conversationId}": {"body": {"read": True}},
    "POST /api/conversations/{conversation_id}/actions": {"body": {"action": "mark_seen"}},
    "POST /api/conversations/{conversationId}/notes": {"body": {"text": "Likes blue"}},
    "GET /api/labels": {},
    "POST /api/labels": {"body": {"name": "New", "colour": "#00ff00"}},
    "PATCH /api/labels/{labelId}": {"body": {"name": "Newer"}},
    "DELETE /api/labels/{labelId}": {},
    "GET /api/canned-replies": {},
    "POST /api/canned-replies": {"body": {"shortcut": "bye", "text": "Bye {{ contact.name }}"}},
    "PATCH /api/canned-replies/{replyId}": {"body": {"text": "Hello again"}},
    "GET /api/canned-replies/{replyId}/text": lambda ids: {"query": {"conversationId": ids["conversationId"]}},
    "DELETE /api/canned-replies/{replyId}": {},
    "GET /api/agents": {},
    "GET /api/channels": {},
    "POST /api/channels/{channelId}/start": {},
    "GET /api/queue/status": {},
    "GET /api/queue/worker": {},
    "POST /api/queue/worker": {},
    "GET /stats/queue": {},
    "GET /stats/workers": {},
    "GET /stats/http-client": {},
    "GET /stats/log-writer": {},
    "GET /stats/performance": {},
    "GET /stats/circuit-breaker": {},
    "POST /stats/circuit-breaker/{channelId}/reset": {},
    "GET /metrics": {},
    "POST /api/suppressions": {"body": {"kind": "whatsapp", "recipients": ["+351912345671"]}},
    "GET /api/suppressions": {},
    "DELETE /api/suppressions/{kind}/{recipient}": {"path": {"kind": "whatsapp", "recipient": "+351912345671"}},
    "GET /ws/schema.json": {},
    "POST /api/media": {"data": b"%PDF-1.7"},
    "GET /api/media/{media_id}": {},
    "POST /api/media/{media_id}/retry": lambda ids: {"path": {"media_id": ids["lost_media_id"]}},
    "POST /api/sync-conversations": {"body": {"threads": 5}},
    "POST /api/sync-full-history": {"body": {"threads": None}},
    "GET /api/sync": {},
    "GET /api/sync/{sync_id}": {},
    "POST /api/sync/{sync_id}/cancel": {},
    "GET /api/webhooks": {},
    "GET /api/webhooks/{webhook_id}": {},
    "POST /api/webhooks/{webhook_id}/replay": {},
    "POST /api/webhooks/replay": lambda ids: {"body": {"ids": [ids["webhook_id"]]}},
}


def operations(world: World) -> dict[str, Any]:
    found = [result.ok() for result in world.document.get_all_operations()]
    return {f"{operation.method.upper()} {operation.path}": operation for operation in found}


def test_every_operation_is_seen_to_succeed_as_documented(world: World) -> None:
    known = operations(world)
    assert set(GOOD) == set(known), "a new address wants its good request above"
    for name, ask in GOOD.items():
        operation, asked = known[name], ask(world.ids) if callable(ask) else ask
        parameters = {key: str(value) for key, value in world.ids.items() if f"{{{key}}}" in operation.path}
        parameters |= asked.get("path", {})
        more = {"body": asked["body"], "media_type": "application/json"} if "body" in asked else {}
        sent = {"data": asked["data"]} if "data" in asked else {}
        case = operation.Case(path_parameters=parameters, query=asked.get("query", {}), **more)
        answer: Response = case.call(base_url=world.base_url, headers=world.headers, **sent)
        assert 200 <= answer.status_code < 300, f"{name}: {answer.status_code} {answer.text}"
        case.validate_response(answer, checks=[status_code_conformance, response_schema_conformance])


def test_nothing_that_is_asked_makes_the_api_fail(world: World) -> None:
    """Half of it fits the document, with ids that exist where there are some; half is what nobody should send."""
    for name, operation in operations(world).items():
        for mode in GenerationMode.POSITIVE, GenerationMode.NEGATIVE:
            _ask_at_random(world, name, operation, mode)


def _ask_at_random(world: World, name: str, operation: Any, mode: GenerationMode) -> None:
    @settings(
        max_examples=EXAMPLES,
        database=None,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        for key in case.path_parameters or {}:
            if mode is GenerationMode.POSITIVE and key in world.ids:
                case.path_parameters[key] = world.ids[key]
        answer = case.call(base_url=world.base_url, headers=world.headers, timeout=30)
        case.validate_response(answer, checks=[not_a_server_error])

    try:
        ask()
    except Unsatisfiable:
        # Of an address without parameters nothing can be asked wrongly.
        assert mode is GenerationMode.NEGATIVE
    except Exception as error:
        error.add_note(f"in {name}")
        raise
