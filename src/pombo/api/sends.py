"""`POST /api/campaigns/send`: a run of a campaign, for a list of recipients of any length, or for all contacts.

The list streams through to the database; the run exists when the body has ended and all of it was valid, or not at all.
"""

from dataclasses import dataclass
from typing import Literal

from fastapi import APIRouter, Request
from pydantic import TypeAdapter, ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from pombo.api.body import StreamedBody
from pombo.api.campaigns import campaign_not_found
from pombo.api.contents import WithContent, check_content
from pombo.api.error_map import validation_error
from pombo.api.errors import ApiError
from pombo.api.idempotency import Claim, default_key, key_of, replay
from pombo.api.runs import show_reject
from pombo.api.send_document import SEND_DOCUMENT, SendAnswer
from pombo.api.services import Services
from pombo.api.shapes import Given, Id, Workspace
from pombo.campaigns.addressing import Addressing
from pombo.campaigns.csv_body import CsvAudienceReader
from pombo.campaigns.errors import NobodyToSendTo
from pombo.campaigns.json_body import JsonAudienceReader
from pombo.campaigns.reading import AudienceReader
from pombo.campaigns.upload import Upload
from pombo.domain.channels import ChannelKind
from pombo.domain.content import Content
from pombo.domain.ids import CampaignId, ChannelId, RunId, WorkspaceId
from pombo.store import campaigns, channels, contacts, idempotency, runs
from pombo.store.campaigns import Campaign
from pombo.store.database import Connection
from pombo.store.errors import NotFound
from pombo.store.idempotency import StoredAnswer
from pombo.store.runs import Source

router = APIRouter(prefix="/api/campaigns", tags=["campaigns"])


class SendFields(WithContent):
    """The body but for its recipients."""

    campaign_id: Id
    audience: Literal["contacts"] | None = None


@dataclass(frozen=True, slots=True)
class Destination:
    campaign: Campaign
    kinds: dict[ChannelId, ChannelKind]


@router.post("/send", status_code=202, response_model=SendAnswer, openapi_extra=SEND_DOCUMENT)
async def send_campaign(request: Request, workspace: Workspace, given: Given) -> Response:
    """Sends a campaign. Answers as soon as the recipients are stored; `GET /api/runs/{runId}` shows the progress.

    Recipients that cannot be used are reported, the others are sent to. The same body to the same campaign within 24
    hours sends nothing again, unless an `Idempotency-Key` header says that it is meant.
    """
    body = StreamedBody(request, given.settings.max_body_mb * 1024**2)
    reader = _reader_for(request)
    key = key_of(request)
    if key is None:
        return await _Sending(given, workspace, body, reader, None, None).take()
    claim = Claim(given.database, workspace, key)
    if (answered := await claim.take()) is not None:
        await body.drain()
        return replay(answered, body.digest(), is_given=True)
    try:
        return await _Sending(given, workspace, body, reader, key, claim).take()
    finally:
        await claim.release()


@router.get("/send", include_in_schema=False)
async def refuse_get() -> None:
    """Otherwise `send` would be taken for a campaign's id."""
    raise HTTPException(405, headers={"Allow": "POST"})


def _reader_for(request: Request) -> AudienceReader:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if request.headers.get("content-encoding", "identity") != "identity":
        raise ApiError("media_type_unsupported", "Send the body as it is, without Content-Encoding.")
    if media_type == "application/json":
        return JsonAudienceReader()
    if media_type == "text/csv":
        reader = CsvAudienceReader()
        reader.fields = dict(request.query_params)
        return reader
    raise ApiError("media_type_unsupported", "The Content-Type must be application/json or text/csv.")


class _Superseded(Exception):
    """Another request with the same key has finished first; what this one has done must be undone."""

    def __init__(self, answer: StoredAnswer) -> None:
        self.answer = answer
        super().__init__()


class _Sending:
    """One request, from its first byte to the run."""

    def __init__(
        self,
        given: Services,
        workspace_id: WorkspaceId,
        body: StreamedBody,
        reader: AudienceReader,
        key: str | None,
        claim: Claim | None,
    ) -> None:
        self._database = given.database
        self._workspace_id = workspace_id
        self._body = body
        self._reader = reader
        self._key = key
        self._claim = claim
        self._destination: Destination | None = None

    async def take(self) -> Response:
        try:
            async with Upload(self._database, self._workspace_id) as upload:
                await self._receive(upload)
                answer = await self._start(upload)
        except _Superseded as superseded:
            return replay(superseded.answer, self._body.digest(), is_given=self._key is not None)
        except NotFound as error:
            raise ApiError("upload_interrupted", "The upload took too long and was given up; send it again.") from error
        return Response(answer, 202, media_type="application/json")

    async def _receive(self, upload: Upload) -> None:
        reader = self._reader
        async for piece in self._body.pieces():
            reader.feed(piece)
            await self._address(upload)
            await upload.add(reader.lines, reader.rejects)
            if self._claim is not None:
                await self._claim.keep()
        reader.finish()
        await self._address(upload)
        await upload.add(reader.lines, reader.rejects)

    async def _address(self, upload: Upload) -> None:
        """Looks the campaign up as soon as the body has named it."""
        if self._destination is None and "campaignId" in self._reader.fields:
            try:
                campaign_id = CampaignId(TypeAdapter(Id).validate_python(self._reader.fields["campaignId"]))
            except ValidationError as error:
                raise validation_error([{**e, "loc": ("campaignId",)} for e in error.errors()]) from error
            self._destination = await self._find(campaign_id)
            upload.address_by(Addressing(self._destination.kinds))

    async def _find(self, campaign_id: CampaignId) -> Destination:
        async with self._database.tenant(self._workspace_id) as connection:
            campaign = await campaigns.get_campaign(connection, self._workspace_id, campaign_id)
            if campaign is None:
                raise campaign_not_found(campaign_id)
            present = await channels.list_channels(connection, self._workspace_id)
        return Destination(campaign, {c.id: c.kind for c in present if c.id in campaign.channel_ids})

    async def _start(self, upload: Upload) -> bytes:
        try:
            fields = SendFields.model_validate(self._reader.fields)
        except ValidationError as error:
            raise validation_error(error.errors()) from error
        assert self._destination is not None  # its id is a required field
        brought = fields.read_content()
        content = brought or self._destination.campaign.content
        if content is None:
            raise ApiError("content_missing", "The campaign has no content yet: send 'messageType' and 'payload'.")
        check_content(content, self._destination.kinds.values())
        if fields.audience is not None and self._reader.has_recipients:
            raise ApiError("validation_failed", "Send either 'recipients' or 'audience', not both.")
        if fields.audience is None and not self._reader.has_recipients:
            raise NobodyToSendTo("recipients_missing", "There is nobody to send to: the body has no 'recipients'.")
        if fields.audience is None:
            await upload.finish()
        async with self._database.tenant(self._workspace_id) as connection:
            if fields.audience is None:
                answer = await self._start_run(
                    connection, content, Source.STAGED, upload.staged, await upload.close(connection), upload.rejected
                )
                answer.rejects = [show_reject(reject) for reject in upload.first_rejects]
            else:
                count = await contacts.count_contacts(connection, self._workspace_id, list(self._destination.kinds))
                if not count:
                    raise ApiError("audience_empty", "The campaign's channels have no contacts yet.")
                answer = await self._start_run(connection, content, Source.CONTACTS, count)
            if brought is not None:
                await campaigns.adopt_content(connection, self._workspace_id, self._destination.campaign.id, brought)
            encoded = answer.model_dump_json(by_alias=True, exclude_none=True)
            await self._remember(connection, encoded)
        upload.keep()
        return encoded.encode()

    async def _start_run(
        self,
        connection: Connection,
        content: Content,
        source: Source,
        audience_size: int,
        run_id: RunId | None = None,
        rejected: int = 0,
    ) -> SendAnswer:
        assert self._destination is not None
        campaign, made = self._destination.campaign, None
        # Two sends of one campaign within the same microsecond: the second is planned for the next.
        while made is None:
            made = await runs.start_run(
                connection,
                workspace_id=self._workspace_id,
                campaign_id=campaign.id,
                content=content,
                channel_ids=list(self._destination.kinds),
                source=source,
                audience_size=audience_size,
                run_id=run_id,
                rejected=rejected,
            )
        return SendAnswer(
            run_id=made,
            campaign_id=campaign.id,
            status="pending",
            accepted=audience_size,
            rejected=rejected,
            rejects=[],
        )

    async def _remember(self, connection: Connection, answer: str) -> None:
        assert self._destination is not None
        digest = self._body.digest()
        key = self._key or default_key(self._destination.campaign.id, digest)
        standing = await idempotency.remember(connection, self._workspace_id, key, StoredAnswer(digest, 202, answer))
        if standing is not None:
            raise _Superseded(standing)
