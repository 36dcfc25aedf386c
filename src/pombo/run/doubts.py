"""`pombo doubts`: the held messages, and what a person decides about them."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from pombo.domain.ids import RunId, WorkspaceId
from pombo.run.errors import CommandFailed
from pombo.store import accounts, channels, held, runs
from pombo.store.database import Connection, Database
from pombo.store.held import DoubtAction, HeldMessage, Selection, SentTwice

_PAGE = 500
_Message = TypeVar("_Message", HeldMessage, SentTwice)


@dataclass(frozen=True, slots=True)
class Filter:
    """As the command line gives it."""

    workspace: str
    channel: str | None
    run: int | None
    messages: list[int]


async def list_held(database: Database, wanted: Filter) -> list[dict[str, Any]]:
    """All of them, as the API shows them. Raises StoreError, CommandFailed."""
    return [_show_held(message) for message in await _all(database, wanted, held.list_held)]


async def list_sent_twice(database: Database, wanted: Filter) -> list[dict[str, Any]]:
    """All of them, as the API shows them. Raises StoreError, CommandFailed."""
    return [_show_twice(message) for message in await _all(database, wanted, held.list_sent_twice)]


async def _all(
    database: Database, wanted: Filter, list_page: Callable[..., Awaitable[list[_Message]]]
) -> list[_Message]:
    found: list[_Message] = []
    async with database.borrow() as connection:
        workspace_id, selection = await _select(connection, wanted)
        while True:
            after = found[-1].message_id if found else 0
            page = await list_page(connection, workspace_id, selection, after, _PAGE)
            found += page
            if len(page) < _PAGE:
                return found


async def resolve(database: Database, action: DoubtAction, wanted: Filter) -> int:
    """How many. Raises StoreError, CommandFailed."""
    if wanted.channel is None and wanted.run is None and not wanted.messages:
        raise CommandFailed("Name the messages by --message, --channel or --run; `pombo doubts list` shows them.")
    async with database.borrow() as connection:
        workspace_id, selection = await _select(connection, wanted)
    resolved = 0
    after: int | None = 0
    while after is not None:
        async with database.transaction() as connection:
            count, after = await held.resolve(connection, workspace_id, action, selection, after)
        resolved += count
    return resolved


def _show_held(message: HeldMessage) -> dict[str, Any]:
    return {
        "messageId": message.message_id,
        "channelId": message.channel_id,
        "runId": message.run_id,
        "recipient": message.recipient,
        "attempt": message.attempt,
        "attemptedAt": message.intent_at.isoformat(),
        "cause": message.error_title,
        "reason": message.reason.value,
        "words": message.reason.words,
        "heldSince": message.held_since.isoformat(),
    }


def _show_twice(message: SentTwice) -> dict[str, Any]:
    return {
        "messageId": message.message_id,
        "channelId": message.channel_id,
        "runId": message.run_id,
        "recipient": message.recipient,
        "providerIds": message.provider_ids,
        "foundAt": message.found_at.isoformat(),
    }


async def _select(connection: Connection, wanted: Filter) -> tuple[WorkspaceId, Selection]:
    workspace_id = await accounts.find_workspace(connection, wanted.workspace)
    channel_id = None
    if wanted.channel is not None:
        channel_id = (await channels.find_channel(connection, workspace_id, wanted.channel)).id
    if wanted.run is not None and await runs.get_run(connection, workspace_id, RunId(wanted.run)) is None:
        raise CommandFailed(f"There is no run {wanted.run}.")
    return workspace_id, Selection(channel_id, wanted.run, wanted.messages or None)
