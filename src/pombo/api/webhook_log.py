"""The webhook log (row D5): what Meta posted, what became of it, and once more through ingest."""

import json
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import Field, StringConstraints

from pombo.api.errors import ApiError
from pombo.api.shapes import Given, Id, Moment, RequestShape, Shape, Workspace
from pombo.domain.channels import ChannelKind
from pombo.meta.webhooks import WebhookFormatError, parse_webhook
from pombo.store import webhook_log
from pombo.store.webhook_log import LogFilter, LoggedWebhook, WebhookStatus

router = APIRouter(prefix="/api/webhooks", tags=["webhooks"])

_MANY = 10_000
Text = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class WebhookShape(Shape):
    id: int
    app_id: int
    received_at: datetime
    size: int = Field(description="Bytes.")
    status: WebhookStatus
    attempts: int = Field(description="How often it could not be applied.")
    error: str | None


class WebhookPage(Shape):
    webhooks: list[WebhookShape]
    next_before: int | None = Field(
        description="Pass it as `before` for the next page; null on the last. A page looks through so many bodies at "
        "most, so it may hold less than `limit`, or nothing, and yet not be the last."
    )


class WebhookEventShape(Shape):
    type: str
    channel: str = Field(description="What Meta calls the Page, the number or the account.")
    name: str | None = None


class WebhookDetail(WebhookShape):
    body: Any = Field(description="As JSON, or as text where it is none.")
    events: list[WebhookEventShape] = Field(description="What Pombo reads in it.")


class ReplayRequest(RequestShape):
    """Either `ids`, or `status`: `failed` for all that were given up (10,000 at a time)."""

    ids: Annotated[list[Id], Field(min_length=1, max_length=_MANY)] | None = None
    status: Annotated[WebhookStatus | None, Field(description="Only `failed`.")] = None


class ReplayAnswer(Shape):
    replayed: int
    skipped: int = Field(description="Of `ids`, those that the log does not hold (any more).")


@router.get("")
async def list_webhooks(
    workspace: Workspace,
    given: Given,
    since: Moment | None = None,
    until: Moment | None = None,
    channel: Annotated[Text | None, Query(description="Meta's id of the Page or the number.")] = None,
    kind: ChannelKind | None = None,
    status: WebhookStatus | None = None,
    q: Annotated[Text | None, Query(description="A piece of the body, in its case.")] = None,
    before: Annotated[Id | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> WebhookPage:
    """Newest first."""
    wanted = LogFilter(since, until, kind, channel, status, q)
    async with given.database.tenant(workspace) as connection:
        page = await webhook_log.list_webhooks(connection, workspace, wanted, before or 2**63 - 1, limit)
    return WebhookPage(webhooks=[WebhookShape(**_show(one)) for one in page.webhooks], next_before=page.next_before)


@router.post("/replay", status_code=202)
async def replay_many(wanted: ReplayRequest, workspace: Workspace, given: Given) -> ReplayAnswer:
    """Applies them once more. What was applied already changes nothing, however often it is."""
    if (wanted.ids is None) == (wanted.status is None) or wanted.status not in (None, WebhookStatus.FAILED):
        raise ApiError("validation_failed", "Say which are meant: either 'ids', or 'status' with 'failed'.")
    async with given.database.tenant(workspace) as connection:
        ids = wanted.ids or await webhook_log.failed_ids(connection, workspace, _MANY)
        replayed = await webhook_log.replay(connection, workspace, ids)
    return ReplayAnswer(replayed=len(replayed), skipped=len(set(wanted.ids or ())) - len(replayed) if wanted.ids else 0)


@router.get("/{webhook_id}")
async def get_webhook(webhook_id: Annotated[Id, Path()], workspace: Workspace, given: Given) -> WebhookDetail:
    async with given.database.tenant(workspace) as connection:
        found = await webhook_log.get_webhook(connection, workspace, webhook_id)
    if found is None:
        raise _not_found(webhook_id)
    webhook, body = found
    return WebhookDetail(**_show(webhook), body=_readable(body), events=_events(body))


@router.post("/{webhook_id}/replay", status_code=202)
async def replay(webhook_id: Annotated[Id, Path()], workspace: Workspace, given: Given) -> ReplayAnswer:
    """Applies it once more. What was applied already changes nothing."""
    async with given.database.tenant(workspace) as connection:
        replayed = await webhook_log.replay(connection, workspace, [webhook_id])
    if not replayed:
        raise _not_found(webhook_id)
    return ReplayAnswer(replayed=1, skipped=0)


def _not_found(webhook_id: int) -> ApiError:
    return ApiError(
        "webhook_not_found",
        f"The log holds no webhook {webhook_id} (any more); GET /api/webhooks lists what it holds.",
    )


def _show(webhook: LoggedWebhook) -> dict[str, Any]:
    return webhook._asdict()


def _readable(body: bytes) -> Any:
    try:
        # Halves of surrogate pairs could not be written to the answer.
        return json.loads(json.dumps(json.loads(body), ensure_ascii=False).encode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return body.decode("utf-8", "replace")


def _events(body: bytes) -> list[WebhookEventShape]:
    try:
        events = parse_webhook(body).events
    except WebhookFormatError:
        return []
    return [
        WebhookEventShape(type=type(event).__name__, channel=event.channel, name=getattr(event, "name", None))
        for event in events
    ]
