"""The bytes of media: in a directory of ours, or in an S3-compatible store. A file is known by its SHA-256.

The same file twice is kept once a workspace. A file is whole or not there: written beside, then renamed.
"""

import asyncio
import os
import tempfile
from pathlib import Path
from typing import Protocol

from pombo.store.s3 import S3Bucket


class MediaFiles(Protocol):
    """Both raise OSError when the store does not answer, or has no such file."""

    async def put(self, workspace_id: int, sha256: bytes, content: bytes) -> None: ...

    async def read(self, workspace_id: int, sha256: bytes, start: int, length: int) -> bytes:
        """Up to `length` bytes from `start` on."""
        ...


def key_of(workspace_id: int, sha256: bytes) -> str:
    name = sha256.hex()
    return f"{workspace_id}/{name[:2]}/{name}"


class DirectoryFiles:
    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def put(self, workspace_id: int, sha256: bytes, content: bytes) -> None:
        await asyncio.to_thread(self._put, self._directory / key_of(workspace_id, sha256), content)

    async def read(self, workspace_id: int, sha256: bytes, start: int, length: int) -> bytes:
        return await asyncio.to_thread(self._read, self._directory / key_of(workspace_id, sha256), start, length)

    @staticmethod
    def _put(path: Path, content: bytes) -> None:
        if path.exists():
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    @staticmethod
    def _read(path: Path, start: int, length: int) -> bytes:
        with path.open("rb") as file:
            file.seek(start)
            return file.read(length)


class S3Files:
    def __init__(self, bucket: S3Bucket) -> None:
        self._bucket = bucket

    async def put(self, workspace_id: int, sha256: bytes, content: bytes) -> None:
        await asyncio.to_thread(self._bucket.put, key_of(workspace_id, sha256), content)

    async def read(self, workspace_id: int, sha256: bytes, start: int, length: int) -> bytes:
        return await asyncio.to_thread(self._bucket.get, key_of(workspace_id, sha256), start, length)
