"""Conversations: the list with its filters and search, one with its reply window, changes, notes."""

import json
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Header, Path, Query
from pydantic import Field, TypeAdapter
from starlette.responses import Response

from pombo.api.cursors import read_cursor, write_cursor
from pombo.api.errors import ApiError
from pombo.api.inbox_shapes import ConversationMessageShape, ConversationShape, WindowShape, raw, raw_list
from pombo.api.shapes import ActingAgent, Given, Id, LongText, Moment, RequestShape, Shape, Workspace
from pombo.domain.ids import AgentId, WorkspaceId
from pombo.domain.reply_window import reply_window
from pombo.inbox import changing, replying
from pombo.inbox.changing import Change
from pombo.inbox.errors import conversation_not_found
from pombo.store import conversation_list, conversation_search, conversations
from pombo.store.conversation_list import STATUSES, Filters
from pombo.store.database import Connection
from pombo.store.planning import IN_ORDER

ConversationId = Annotated[Id, Path(alias="conversationId")]
router = APIRouter(prefix="/api/conversations", tags=["inbox"])

Status = Literal["open", "snoozed", "closed"]
# A search with filters looks at so many times the page's messages, for some will not fit.
_HITS = 2
# Beyond it a badge says "100+"; to count further would cost the more the more there are.
_MOST_COUNTED = 100


class MatchShape(Shape):
    conversation_id: int
    message_id: int
    at: datetime
    text: str = Field(description="The message's beginning.")


_MATCHES = TypeAdapter(list[MatchShape])


class ConversationList(Shape):
    conversations: list[ConversationShape]
    next: str | None = Field(
        description="Pass it as `cursor` for more; null when there is no more. A page may be short, even empty, and "
        "have more after it. A search's later pages may bring a conversation again."
    )
    matches: list[MatchShape] = Field(description="Of a search: the messages for which conversations were found.")


class ConversationCount(Shape):
    count: int = Field(description=f"{_MOST_COUNTED} at most.")
    more: bool = Field(description="There may be more than were counted.")


class ConversationDetail(Shape):
    conversation: ConversationShape
    window: WindowShape


class ConversationChange(RequestShape):
    """What is left out stays as it is."""

    status: Status | None = None
    snoozed_until: Moment | None = Field(None, description="Snoozes until then.")
    assignee_id: Id | None = Field(None, description="Null takes it from whoever has it.")
    label_ids: Annotated[list[Id], Field(max_length=50)] | None = Field(None, description="All labels it shall have.")
    read: bool | None = Field(
        None, description="Up to the contact's last message; false: that one is unread. By a program's key: for all."
    )
    read_until: Annotated[int, Field(ge=0, le=2**63 - 1)] | None = Field(
        None,
        description="With `read`: up to this message, the highest `id` that was seen. What came after it stays unread.",
    )
    expected_version: Annotated[int, Field(ge=0, le=2**63 - 1)] | None = Field(
        None, description="Refused with 409 and the present state if it has another; so does `If-Match`."
    )


class NewNote(RequestShape):
    text: LongText


async def _filters(
    agent: ActingAgent,
    status: Annotated[list[Status] | None, Query(description="Several may be given; all unless given.")] = None,
    assignee: Annotated[str | None, Query(description="`mine`, `unassigned`, or an agent's id.")] = None,
    channel_id: Annotated[Id | None, Query(alias="channelId")] = None,
    label_id: Annotated[Id | None, Query(alias="labelId")] = None,
    unread: Annotated[
        bool, Query(description="Unread by the agent who asks; with a program's key: read by nobody.")
    ] = False,
) -> Filters:
    assignee_id, unassigned = _assignee(assignee, agent)
    return Filters(
        tuple(dict.fromkeys(status)) if status else STATUSES,
        assignee_id=assignee_id,
        unassigned=unassigned,
        channel_id=channel_id,
        label_id=label_id,
        unread=unread and agent is None,
        unread_by=agent if unread else None,
    )


ChosenFilters = Annotated[Filters, Depends(_filters)]


@router.get("", response_model=ConversationList)
async def list_conversations(
    workspace: Workspace,
    filters: ChosenFilters,
    given: Given,
    search: Annotated[
        str | None,
        Query(max_length=200, description="The beginning of a contact's name or address, or words of a message."),
    ] = None,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
) -> Response:
    """The last active first; a search brings contacts first, then messages, the newest first."""
    words = (search or "").replace("\0", "").strip()
    async with given.database.tenant(workspace, IN_ORDER) as connection:
        if words:
            return await _search(connection, workspace, filters, words, cursor, limit)
        after = conversation_list.BEGINNING
        if cursor is not None:
            after = conversation_list.Position(*read_cursor("conversations", cursor))
        page = await conversation_list.list_page(connection, workspace, filters, after, limit)
        rows = await conversations.show(connection, workspace, page.ids)
    following = None if page.next is None else write_cursor("conversations", *page.next)
    return raw_list("conversations", rows, next=json.dumps(following), matches="[]")


# Before `/{conversationId}`, which would take the word for an id.
@router.get("/count", response_model=ConversationCount)
async def count_conversations(workspace: Workspace, filters: ChosenFilters, given: Given) -> ConversationCount:
    """How many a list with these filters has, for the badge beside its name."""
    async with given.database.tenant(workspace, IN_ORDER) as connection:
        page = await conversation_list.list_page(
            connection, workspace, filters, conversation_list.BEGINNING, _MOST_COUNTED + 1
        )
    return ConversationCount(count=min(len(page.ids), _MOST_COUNTED), more=page.next is not None)


@router.get("/{conversationId}", response_model=ConversationDetail)
async def get_conversation(conversation_id: ConversationId, workspace: Workspace, given: Given) -> Response:
    async with given.database.tenant(workspace, IN_ORDER) as connection:
        facts = await conversations.window_facts(connection, workspace, conversation_id)
        rows = await conversations.show(connection, workspace, [conversation_id])
    # A merge may take it away between the two.
    if facts is None or not rows:
        raise conversation_not_found(conversation_id)
    found = reply_window(*facts)
    window = WindowShape(open=found.open, closes_at=found.closes_at, allowed=list(found.allowed))
    return raw(f'{{"conversation":{rows[0]},"window":{window.model_dump_json(by_alias=True)}}}')


@router.patch("/{conversationId}", response_model=ConversationShape)
async def change_conversation(
    conversation_id: ConversationId,
    wanted: ConversationChange,
    workspace: Workspace,
    agent: ActingAgent,
    given: Given,
    if_match: Annotated[str | None, Header(description="The version that is expected, as a number.")] = None,
) -> Response:
    """Answers with the conversation as it is then."""
    expected = wanted.expected_version
    if expected is None and if_match is not None:
        expected = _version(if_match)
    change = Change(
        status=wanted.status,
        snoozed_until=wanted.snoozed_until,
        label_ids=None if wanted.label_ids is None else tuple(wanted.label_ids),
        read=wanted.read,
        read_until=wanted.read_until,
        **({"assignee_id": wanted.assignee_id} if "assignee_id" in wanted.model_fields_set else {}),
    )
    async with given.database.tenant(workspace, IN_ORDER) as connection:
        return raw(
            await changing.change(
                connection, workspace, conversation_id, change, agent_id=agent, expected_version=expected
            )
        )


@router.post("/{conversationId}/notes", status_code=201, response_model=ConversationMessageShape)
async def add_note(
    conversation_id: ConversationId, note: NewNote, workspace: Workspace, agent: ActingAgent, given: Given
) -> Response:
    """A note in the thread, which the contact never sees."""
    async with given.database.tenant(workspace) as connection:
        return raw(await replying.add_note(connection, workspace, conversation_id, note.text, agent), 201)


async def _search(
    connection: Connection, workspace_id: WorkspaceId, filters: Filters, words: str, cursor: str | None, limit: int
) -> Response:
    before = conversation_search.NOW
    ids: list[int] = []
    if cursor is None:
        ids = await conversation_search.by_contact(connection, workspace_id, words)
    else:
        before = conversation_search.Position(*read_cursor("search", cursor))
    wanted = limit if filters == Filters() else _HITS * limit
    hits = await conversation_search.by_message(connection, words, before, wanted)
    first = {hit.conversation_id: hit for hit in reversed(hits)}
    fitting = await conversation_list.among(connection, workspace_id, filters, list(dict.fromkeys([*ids, *first])))
    by_message = [hit for hit in hits if hit.conversation_id in fitting and first[hit.conversation_id] is hit][:limit]
    shown = [each for each in fitting if each in ids]
    shown += [hit.conversation_id for hit in by_message if hit.conversation_id not in shown]
    more = None
    if len(by_message) == limit:
        more = write_cursor("search", by_message[-1].at, by_message[-1].message_id)
    elif len(hits) == wanted:
        more = write_cursor("search", hits[-1].at, hits[-1].message_id)
    rows = await conversations.show(connection, workspace_id, shown)
    matches = _MATCHES.dump_json([MatchShape(**hit._asdict()) for hit in by_message], by_alias=True)
    return raw_list("conversations", rows, next=json.dumps(more), matches=matches.decode())


def _assignee(given: str | None, agent: AgentId | None) -> tuple[int | None, bool]:
    """The agent's id, and whether those of nobody are meant."""
    if given is None or given == "unassigned":
        return None, given is not None
    if given == "mine":
        if agent is None:
            raise ApiError("agent_required", "Only an agent has conversations; `pombo agent add` makes an agent's key.")
        return agent, False
    if given.isascii() and given.isdecimal() and 0 < int(given[:20]) < 2**63:
        return int(given), False
    raise ApiError("validation_failed", "'assignee' is mine, unassigned, or an agent's id.")


def _version(if_match: str) -> int:
    digits = if_match.strip().removeprefix("W/").strip('"')
    if digits.isascii() and digits.isdecimal() and len(digits) < 19:
        return int(digits)
    raise ApiError("validation_failed", "'If-Match' holds the version that is expected, as a number.")
