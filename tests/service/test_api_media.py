"""Files over HTTP: in for replies, out to browsers that believe nothing about them."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from pombo.api.media import MediaShape
from pombo.store import media
from pombo.store.database import Database
from pombo.store.media_files import DirectoryFiles
from pombo.store.secrets import SecretBox
from tests.accounts import add_account
from tests.api_client import Api, running_api
from tests.conversations import add_conversation

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "media"


@pytest.fixture
async def api(database: Database, box: SecretBox, directory: Path) -> AsyncIterator[Api]:
    async with running_api(database, box, files=DirectoryFiles(directory)) as running:
        yield running


async def add(api: Api, content: bytes, **query: str) -> MediaShape:
    answer = await api.http.post("/api/media", content=content, params=query)
    assert answer.status_code == 201, answer.text
    return MediaShape.model_validate_json(answer.text)


async def get(api: Api, media_id: int, span: str | None = None) -> httpx.Response:
    return await api.http.get(f"/api/media/{media_id}", headers={} if span is None else {"range": span})


async def test_a_picture_comes_back_whole_and_is_shown_in_place(api: Api) -> None:
    made = await add(api, PNG, fileName="férias.png")
    answer = await get(api, made.id)
    assert (answer.status_code, answer.content) == (200, PNG)
    assert answer.headers["content-type"] == made.content_type == "image/png"
    assert answer.headers["content-length"] == str(len(PNG))
    assert answer.headers["content-disposition"] == "inline; filename*=UTF-8''f%C3%A9rias.png"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"].startswith("private")


async def test_what_could_run_in_a_browser_is_a_download_whatever_it_is_called(api: Api) -> None:
    made = await add(api, b"<html><script>alert(1)</script>", fileName="picture.png")
    answer = await get(api, made.id)
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize(
    ("span", "first", "last"), [("bytes=0-9", 0, 9), ("bytes=250-", 250, 263), ("bytes=-4", 260, 263)]
)
async def test_a_part_of_a_file_is_answered_alone(api: Api, span: str, first: int, last: int) -> None:
    answer = await get(api, (await add(api, PNG)).id, span)
    assert (answer.status_code, answer.content) == (206, PNG[first : last + 1])
    assert answer.headers["content-range"] == f"bytes {first}-{last}/{len(PNG)}"


@pytest.mark.parametrize("span", ["bytes=264-", "bytes=9-3", "bytes=-", "bytes=0-1,3-4", "lines=1-2", "bytes=-0"])
async def test_a_part_that_is_not_there_is_refused(api: Api, span: str) -> None:
    answer = await get(api, (await add(api, PNG)).id, span)
    assert (answer.status_code, api.error(answer)["code"]) == (416, "range_not_satisfiable")


async def test_a_large_file_comes_in_pieces(api: Api) -> None:
    content = PNG + bytes(3 * 2**20)
    made = await add(api, content)
    assert (await get(api, made.id)).content == content


async def test_a_file_above_the_limit_and_one_of_nothing_are_refused(api: Api) -> None:
    large = await api.http.post("/api/media", content=bytes(25 * 2**20 + 1))
    assert (large.status_code, api.error(large)["code"]) == (413, "body_too_large")
    assert "MEDIA_MAX_MB" in api.error(large)["message"]
    empty = await api.http.post("/api/media")
    assert (empty.status_code, api.error(empty)["code"]) == (422, "media_empty")


async def test_another_workspaces_file_is_not_there(api: Api, database: Database, box: SecretBox) -> None:
    other = await add_account(database, box, "other")
    async with database.transaction() as connection:
        theirs = await media.add_stored(connection, other.workspace_id, b"d" * 32, 1, "image/png", None)
    answer = await get(api, theirs)
    assert (answer.status_code, api.error(answer)["code"]) == (404, "media_not_found")


async def test_a_file_on_its_way_or_lost_says_so(api: Api, database: Database) -> None:
    async with database.transaction() as connection:
        made = await connection.fetchval(
            "INSERT INTO media (workspace_id, state) VALUES ($1, 'wanted') RETURNING id", api.account.workspace_id
        )
    assert api.error(await get(api, made))["code"] == "media_pending"
    async with database.transaction() as connection:
        await media.mark_failed(connection, api.account.workspace_id, made, "Meta answered 404.")
    answer = await get(api, made)
    assert (answer.status_code, api.error(answer)["message"]) == (
        410,
        "The file could not be fetched: Meta answered 404.",
    )


async def test_a_lost_file_is_asked_for_again_once_at_a_time(api: Api, database: Database) -> None:
    workspace = api.account.workspace_id
    channel = api.account.page
    each = await add_conversation(database, workspace, channel, "10001")
    async with database.transaction() as connection:
        made = await connection.fetchval(
            """WITH message AS (
                   UPDATE conversation_messages SET content = '{"attachments": [{"type": "image", "id": "77"}]}'
                   WHERE conversation_id = $1 RETURNING workspace_id, channel_id, id
               )
               INSERT INTO media (workspace_id, channel_id, conversation_message_id, source, state)
               SELECT workspace_id, channel_id, id, '{"id": "77"}', 'wanted' FROM message RETURNING id""",
            each,
        )
        await media.mark_failed(connection, workspace, made, "Meta answered 500.")
    answer = await api.http.post(f"/api/media/{made}/retry")
    assert (answer.status_code, answer.json()) == (202, {"id": made, "state": "wanted"})
    assert (await api.http.get(f"/api/messages/{each}")).json()["messages"][0]["media"][0]["state"] == "wanted"
    async with database.borrow() as connection:
        job = await connection.fetchrow("SELECT channel_id, kind, payload FROM channel_jobs")
        told = await connection.fetchval("SELECT data FROM events ORDER BY id DESC LIMIT 1")
    assert (job["channel_id"], job["kind"], json.loads(job["payload"])) == (channel, "media", {"mediaId": made})
    assert json.loads(told)["media"][0]["state"] == "wanted"
    again = await api.http.post(f"/api/media/{made}/retry")
    assert (again.status_code, api.error(again)["code"]) == (409, "media_not_retryable")


async def test_a_file_that_has_no_source_or_is_not_there_is_not_asked_for(api: Api, database: Database) -> None:
    async with database.transaction() as connection:
        made = await connection.fetchval(
            "INSERT INTO media (workspace_id, state) VALUES ($1, 'failed') RETURNING id", api.account.workspace_id
        )
    assert api.error(await api.http.post(f"/api/media/{made}/retry"))["code"] == "media_not_retryable"
    assert api.error(await api.http.post("/api/media/999/retry"))["code"] == "media_not_found"


async def test_a_store_without_the_file_is_unavailable_and_no_half_answer(api: Api, directory: Path) -> None:
    made = await add(api, PNG)
    [kept] = [path for path in directory.rglob("*") if path.is_file()]  # noqa: ASYNC240
    kept.unlink()
    answer = await get(api, made.id)
    assert (answer.status_code, api.error(answer)["code"]) == (503, "media_unavailable")
