"""What a file is, by its first bytes. What its sender calls it is not believed: a browser would."""

UNKNOWN = "application/octet-stream"
SHOWN = frozenset(
    (
        "image/png",
        "image/jpeg",
        "image/gif",
        "image/webp",
        "video/mp4",
        "video/3gpp",
        "video/webm",
        "audio/mpeg",
        "audio/ogg",
        "audio/aac",
        "audio/amr",
        "audio/mp4",
        "audio/wav",
    )
)
"""Types that a browser shows in place and that can run nothing; all others are downloads."""

_BEGINNINGS = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"OggS", "audio/ogg"),
    (b"ID3", "audio/mpeg"),
    (b"\xff\xfb", "audio/mpeg"),
    (b"\xff\xf3", "audio/mpeg"),
    (b"\xff\xf1", "audio/aac"),
    (b"\xff\xf9", "audio/aac"),
    (b"#!AMR", "audio/amr"),
    (b"%PDF-", "application/pdf"),
    (b"\x1a\x45\xdf\xa3", "video/webm"),
    (b"PK\x03\x04", "application/zip"),
)


def sniff(content: bytes) -> str:
    """The type of a file that begins so; 16 bytes tell, more help to know text."""
    for beginning, kind in _BEGINNINGS:
        if content.startswith(beginning):
            return kind
    if content[:4] == b"RIFF":
        return {b"WEBP": "image/webp", b"WAVE": "audio/wav"}.get(content[8:12], UNKNOWN)
    if content[4:8] == b"ftyp":
        brand = content[8:11]
        return "audio/mp4" if brand == b"M4A" else "video/3gpp" if brand == b"3gp" else "video/mp4"
    head = content[:4096]
    if head and not head.translate(None, _TEXT):
        return "text/plain"
    return UNKNOWN


# Printable ASCII, white space, and whatever UTF-8 may hold; without control characters.
_TEXT = bytes((9, 10, 13, *range(32, 127), *range(128, 256)))


def is_shown(content_type: str | None) -> bool:
    return content_type in SHOWN
