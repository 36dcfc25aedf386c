"""Files from Meta's own addresses, and from nobody else's."""

from collections.abc import AsyncIterator

import pytest

from pombo.meta.downloads import DownloadFailed, Downloads
from tests.sandbox_server import ChannelHandle, SandboxHandle


@pytest.fixture
async def downloads(sandbox: SandboxHandle) -> AsyncIterator[Downloads]:
    made = Downloads(sandbox.base_url, 5000)
    yield made
    await made.close()


async def test_a_picture_is_fetched_from_the_server_that_the_settings_name(
    sandbox: SandboxHandle, downloads: Downloads
) -> None:
    content = await downloads.fetch(f"{sandbox.base_url}/pictures/1.png")
    assert isinstance(content, bytes)
    assert content.startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "url",
    [
        "http://scontent.fbcdn.net/a.png",
        "https://fbcdn.net.example.com/a.png",
        "https://user@scontent.fbcdn.net/a.png",
        "https://127.0.0.1/a.png",
        "https://notfbcdn.net/a.png",
        "file:///etc/passwd",
        "nonsense",
    ],
)
async def test_nothing_is_fetched_from_elsewhere(downloads: Downloads, url: str) -> None:
    assert await downloads.fetch(url) == DownloadFailed("It is not on a server of Meta's.", gone=True)


async def test_what_is_gone_or_too_large_is_not_asked_for_again(
    sandbox: SandboxHandle, page: ChannelHandle, downloads: Downloads
) -> None:
    missing = await downloads.fetch(f"{sandbox.base_url}/attachments/1/a.png")
    assert missing == DownloadFailed("Meta answered 404.", gone=True)
    await sandbox.script(page, "24012345678901", {"type": "file", "media": {"size": 6000}})
    await sandbox.flush()
    answer = await sandbox.get(page, f"{page.id}/conversations", fields="messages{attachments}")
    url = answer.json()["data"][0]["messages"]["data"][0]["attachments"]["data"][0]["file_url"]
    large = await downloads.fetch(url)
    assert isinstance(large, DownloadFailed)
    assert large.gone


async def test_a_server_that_is_away_is_asked_again(unused_tcp_port: int) -> None:
    downloads = Downloads(f"http://127.0.0.1:{unused_tcp_port}", 100)
    failed = await downloads.fetch(f"http://127.0.0.1:{unused_tcp_port}/a")
    assert isinstance(failed, DownloadFailed)
    assert not failed.gone
    await downloads.close()
