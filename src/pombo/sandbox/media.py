"""Files that people send, and that are uploaded: their bytes, what Meta tells of them, and until when."""

import base64
import binascii
import hashlib
import itertools
import struct
import zlib
from collections.abc import Callable

import msgspec

UPLOAD_LIFE = 30 * 86400.0
"""What was uploaded is kept for 30 days, what came in by a webhook can be fetched for 7."""
INBOUND_LIFE = 7 * 86400.0
URL_LIFE = 300.0
"""A WhatsApp download address works for five minutes."""

DEFAULT_TYPES = {
    "image": "image/png",
    "video": "video/mp4",
    "audio": "audio/ogg",
    "file": "application/pdf",
    "document": "application/pdf",
    "sticker": "image/webp",
}
_EXTENSIONS = {
    "image/png": "png",
    "video/mp4": "mp4",
    "audio/ogg": "ogg",
    "application/pdf": "pdf",
    "image/webp": "webp",
}


class Media(msgspec.Struct):
    id: str
    owner: str
    """The channel's id."""
    mime_type: str
    content: bytes
    filename: str
    expires_at: float

    @property
    def sha256(self) -> bytes:
        return hashlib.sha256(self.content).digest()


class MediaShelf:
    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._ids = itertools.count(1_900_000_000_000_001)
        self._media: dict[str, Media] = {}

    def add(self, owner: str, mime_type: str, content: bytes, filename: str = "", *, life: float) -> Media:
        media_id = str(next(self._ids))
        name = filename or f"{media_id}.{_EXTENSIONS.get(mime_type, 'bin')}"
        media = self._media[media_id] = Media(media_id, owner, mime_type, content, name, self._now() + life)
        return media

    def find(self, media_id: str) -> Media | None:
        media = self._media.get(media_id)
        return media if media is not None and media.expires_at > self._now() else None

    def remove(self, media_id: str) -> None:
        self._media.pop(media_id, None)


def decoded(content_base64: str) -> bytes:
    """Raises ValueError."""
    try:
        return base64.b64decode(content_base64, validate=True)
    except binascii.Error as error:
        raise ValueError(f"content_base64 is not base64: {error}") from error


def made_up(mime_type: str, size: int, about: str) -> bytes:
    """A file that begins as one of its type does, different for each `about`, and of at least `size` bytes."""
    seed = hashlib.sha256(about.encode()).digest()
    content = _png(seed) if mime_type == "image/png" else _BEGINNINGS.get(mime_type, b"") + seed
    return content + bytes(max(0, size - len(content)))


_BEGINNINGS = {
    "image/jpeg": b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00",
    "image/gif": b"GIF89a\x01\x00\x01\x00\x80\x00\x00",
    "image/webp": b"RIFF\x24\x00\x00\x00WEBPVP8 ",
    "video/mp4": b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom",
    "video/3gpp": b"\x00\x00\x00\x18ftyp3gp5\x00\x00\x00\x003gp5isom",
    "audio/mp4": b"\x00\x00\x00\x18ftypM4A \x00\x00\x00\x00M4A mp42",
    "audio/ogg": b"OggS\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00",
    "audio/mpeg": b"ID3\x04\x00\x00\x00\x00\x00\x00",
    "audio/aac": b"\xff\xf1\x50\x80\x00\x1f\xfc",
    "audio/amr": b"#!AMR\n",
    "application/pdf": b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n",
}


def _png(seed: bytes, side: int = 48) -> bytes:
    """A picture that can be shown: four squares in the seed's colours."""
    rows = []
    for y in range(side):
        left, right = (seed[0:3], seed[3:6]) if y < side // 2 else (seed[6:9], seed[9:12])
        rows.append(b"\x00" + left * (side // 2) + right * (side // 2))
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"".join(rows))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
