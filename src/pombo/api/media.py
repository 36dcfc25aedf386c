"""`/api/media`: the files of conversations, and files for replies (row B9)."""

import hashlib
import re
from collections.abc import AsyncIterator
from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import APIRouter, Header, Query, Request
from pydantic import Field
from starlette.responses import Response, StreamingResponse

from pombo.api.body import StreamedBody
from pombo.api.errors import ApiError
from pombo.api.services import Services
from pombo.api.shapes import Given, Id, Name, Shape, Workspace
from pombo.domain.media_types import is_shown, sniff
from pombo.store import media
from pombo.store.media import Media
from pombo.store.media_files import MediaFiles

router = APIRouter(prefix="/api/media", tags=["inbox"])

_PIECE = 1024 * 1024
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)
# The same for good: a file never changes. Private, for a shared cache knows no workspaces.
_CACHING = "private, max-age=31536000, immutable"


class MediaShape(Shape):
    id: int
    content_type: str = Field(description="By the file's first bytes.")
    size: int
    file_name: str | None


class WantedMedia(Shape):
    id: int
    state: Literal["wanted"] = Field(
        default="wanted", description="A `message.updated` event tells what becomes of it."
    )


@router.get("/{media_id}", response_class=Response)
async def get_media(
    media_id: Id,
    workspace: Workspace,
    given: Given,
    wanted: Annotated[str | None, Header(alias="range", description="One range of bytes.")] = None,
) -> Response:
    """The file. Only pictures, sound and video are shown in place; all else is a download, whatever it is called."""
    async with given.database.tenant(workspace) as connection:
        found = await media.get_media(connection, workspace, media_id)
    if found is None:
        raise ApiError("media_not_found", f"There is no file {media_id}.")
    if found.state == "wanted":
        raise ApiError("media_pending", "The file is still being fetched from Meta; ask again in a moment.")
    if found.sha256 is None or found.size is None:
        raise ApiError("media_failed", f"The file could not be fetched: {found.error_title}")
    first, last = _span(wanted, found.size)
    files = _files(given)
    headers = _headers(found) | {"content-length": str(last - first + 1)}
    status = 200
    if wanted is not None:
        status, headers["content-range"] = 206, f"bytes {first}-{last}/{found.size}"
    # The first piece is read before the answer begins: a file that is gone is an error, and not half an answer.
    try:
        beginning = await files.read(workspace, found.sha256, first, min(_PIECE, last - first + 1))
    except OSError as error:
        raise _unavailable() from error
    body = _pieces(files, workspace, found.sha256, beginning, first, last)
    return StreamingResponse(body, status, headers, media_type=found.content_type)


@router.post("", status_code=201, response_model=MediaShape)
async def add_media(
    request: Request,
    workspace: Workspace,
    given: Given,
    file_name: Annotated[Name | None, Query(alias="fileName")] = None,
) -> MediaShape:
    """The body is the file; MEDIA_MAX_MB at most. What it is, its first bytes tell."""
    most = given.settings.media_max_mb * 2**20
    content = bytearray()
    async for piece in StreamedBody(request, most, "MEDIA_MAX_MB").pieces():
        content += piece
    if not content:
        raise ApiError("media_empty", "The body is the file's bytes, and there are none.")
    digest, kind = hashlib.sha256(content).digest(), sniff(bytes(content[:4096]))
    try:
        await _files(given).put(workspace, digest, bytes(content))
    except OSError as error:
        raise _unavailable() from error
    async with given.database.tenant(workspace) as connection:
        media_id = await media.add_stored(connection, workspace, digest, len(content), kind, file_name)
    return MediaShape(id=media_id, content_type=kind, size=len(content), file_name=file_name)


@router.post("/{media_id}/retry", status_code=202, response_model=WantedMedia)
async def retry_media(media_id: Id, workspace: Workspace, given: Given) -> WantedMedia:
    """Asks Meta once more for a file that could not be fetched."""
    async with given.database.tenant(workspace) as connection:
        if await media.want_again(connection, workspace, media_id):
            return WantedMedia(id=media_id)
        found = await media.get_media(connection, workspace, media_id)
    if found is None:
        raise ApiError("media_not_found", f"There is no file {media_id}.")
    if found.state != "failed":
        raise ApiError("media_not_retryable", f"The file is {found.state}: only one that has failed is fetched again.")
    raise ApiError("media_not_retryable", "Nothing says any more where the file could be fetched from.")


def _files(given: Services) -> MediaFiles:
    if given.files is None:
        raise _unavailable()
    return given.files


def _unavailable() -> ApiError:
    return ApiError("media_unavailable", "The media store does not answer; try again in a moment.")


def _headers(found: Media) -> dict[str, str]:
    shown = "inline" if is_shown(found.content_type) else "attachment"
    name = f"; filename*=UTF-8''{quote(found.file_name, safe='')}" if found.file_name else ""
    return {
        "content-disposition": f"{shown}{name}",
        "x-content-type-options": "nosniff",
        # Should a browser open it all the same, nothing in it may run.
        "content-security-policy": "default-src 'none'; sandbox",
        "cache-control": _CACHING,
        "accept-ranges": "bytes",
    }


def _span(wanted: str | None, size: int) -> tuple[int, int]:
    """First and last byte. Raises ApiError."""
    if wanted is None:
        return 0, size - 1
    match = _RANGE.fullmatch(wanted.strip())
    if match is not None and (match[1] or match[2]):
        if not match[1]:
            first, last = max(0, size - int(match[2])), size - 1
        else:
            first, last = int(match[1]), min(size - 1, int(match[2] or size))
        if first <= last:
            return first, last
    raise ApiError("range_not_satisfiable", f"The file has {size} bytes; ask for one range within them.")


async def _pieces(
    files: MediaFiles, workspace_id: int, sha256: bytes, beginning: bytes, first: int, last: int
) -> AsyncIterator[bytes]:
    yield beginning
    at = first + len(beginning)
    while at <= last:
        piece = await files.read(workspace_id, sha256, at, min(_PIECE, last - at + 1))
        if not piece:
            return
        yield piece
        at += len(piece)
