"""What a file is, by its first bytes."""

import pytest

from pombo.domain.media_types import UNKNOWN, is_shown, sniff


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"\x89PNG\r\n\x1a\n...", "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "image/webp"),
        (b"RIFF\x00\x00\x00\x00AVI ", UNKNOWN),
        (b"\x00\x00\x00\x18ftypmp42", "video/mp4"),
        (b"\x00\x00\x00\x18ftypM4A ", "audio/mp4"),
        (b"\x00\x00\x00\x18ftyp3gp5", "video/3gpp"),
        (b"OggS\x00", "audio/ogg"),
        (b"%PDF-1.7", "application/pdf"),
        ("Olá\n".encode(), "text/plain"),
        (b"\x00\x01", UNKNOWN),
        (b"", UNKNOWN),
    ],
)
def test_the_beginning_tells_the_type(content: bytes, kind: str) -> None:
    assert sniff(content) == kind


@pytest.mark.parametrize("content", [b"<html><script>", b"<svg xmlns=", b"\x00", b"MZ\x90"])
def test_nothing_that_could_run_in_a_browser_is_shown_in_place(content: bytes) -> None:
    assert not is_shown(sniff(content))
