"""The bytes of media, in a directory and in a store that speaks S3."""

import hashlib
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pombo.store.media_files import DirectoryFiles, MediaFiles, S3Files, key_of
from pombo.store.s3 import S3Bucket

CONTENT = bytes(range(256)) * 10
DIGEST = hashlib.sha256(CONTENT).digest()


class Bucket(BaseHTTPRequestHandler):
    """Holds what is put, and refuses whatever is not signed or not what it says it is."""

    kept: dict[str, bytes]

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self._is_signed() and self.headers["x-amz-content-sha256"] == hashlib.sha256(body).hexdigest():
            self.kept[self.path] = body
            self._answer(200)
        else:
            self._answer(403)

    def do_GET(self) -> None:
        found = self.kept.get(self.path)
        if not self._is_signed() or found is None:
            self._answer(404 if found is None else 403)
            return
        span = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["range"])
        assert span is not None
        self._answer(206, found[int(span[1]) : int(span[2]) + 1])

    def _is_signed(self) -> bool:
        return "Credential=key/" in self.headers["authorization"]

    def _answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def bucket_url() -> Iterator[str]:
    handler = type("OneBucket", (Bucket,), {"kept": {}})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/pombo/media"
        server.shutdown()
        thread.join()


@pytest.fixture(params=["directory", "s3"])
def files(request: pytest.FixtureRequest, tmp_path: Path, bucket_url: str) -> MediaFiles:
    if request.param == "directory":
        return DirectoryFiles(tmp_path / "media")
    return S3Files(S3Bucket(bucket_url, "eu-central-1", "key", "secret"))


async def test_what_was_put_is_read_in_whole_and_in_parts(files: MediaFiles) -> None:
    await files.put(1, DIGEST, CONTENT)
    await files.put(1, DIGEST, CONTENT)
    assert await files.read(1, DIGEST, 0, len(CONTENT)) == CONTENT
    assert await files.read(1, DIGEST, 300, 10) == CONTENT[300:310]


async def test_another_workspace_has_its_own_files(files: MediaFiles) -> None:
    await files.put(1, DIGEST, CONTENT)
    with pytest.raises(OSError):  # noqa: PT011  (each store has its own words)
        await files.read(2, DIGEST, 0, 10)


async def test_a_store_that_does_not_answer_is_an_error_of_the_system() -> None:
    files = S3Files(S3Bucket("http://127.0.0.1:9/pombo", "us-east-1", "key", "secret"))
    with pytest.raises(OSError):  # noqa: PT011
        await files.put(1, DIGEST, CONTENT)


async def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    files = DirectoryFiles(tmp_path)
    await files.put(7, DIGEST, CONTENT)
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]  # noqa: ASYNC240
    assert [path.relative_to(tmp_path).as_posix() for path in kept] == [key_of(7, DIGEST)]
