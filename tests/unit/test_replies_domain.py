"""Replies: what is sent, and that what the thread keeps makes the same reply again."""

from datetime import UTC, datetime, timedelta

import pytest

from pombo.domain.channels import ChannelKind
from pombo.domain.content import ContentError, Raw, Template
from pombo.domain.content_rules import validate_content
from pombo.domain.replies import Attachment, AttachmentType, Reply, compose, is_allowed, reply_of
from pombo.domain.reply_window import reply_window

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
KINDS = tuple(ChannelKind)
REPLIES = {
    "text": Reply("Hello {{ you"),
    "image by address": Reply(None, Attachment(AttachmentType.IMAGE, "https://a.b/{{c}}.png")),
    "file of ours": Reply(None, Attachment(AttachmentType.FILE, None, 7, "a{b}.pdf")),
    "raw": Reply(content=Raw({"text": "Hi"})),
    "late": Reply("Hello", human_agent=True),
    "quoting": Reply("Hello", quoted="m_1"),
}


@pytest.mark.parametrize("name", REPLIES)
def test_what_the_thread_keeps_makes_the_same_reply_again(name: str) -> None:
    reply = REPLIES[name]
    assert reply_of(reply.shown_text, reply.kept(), reply.quoted) == reply
    template = Reply(content=Template("hello", "pt_PT"))
    assert reply_of(template.shown_text, template.kept()) == template


@pytest.mark.parametrize("name", [name for name in REPLIES if name != "raw"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_composed_can_be_sent(kind: ChannelKind, name: str) -> None:
    content, _ = compose(kind, REPLIES[name], reply_window(kind, NOW, NOW), "1857")
    assert validate_content(kind, content, by_person=True) == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("text", "code"), [(" ", "text_empty"), ("x" * 5000, "text_too_long")])
def test_text_keeps_to_the_limits_of_its_platform(kind: ChannelKind, text: str, code: str) -> None:
    with pytest.raises(ContentError) as caught:
        compose(kind, Reply(text), reply_window(kind, NOW, NOW))
    assert caught.value.code == code


def test_utility_templates_pass_a_closed_window_and_nothing_else_does() -> None:
    closed = reply_window(ChannelKind.MESSENGER, None, NOW)
    utility = Raw({"messaging_type": "UTILITY", "message": {"template": {}}})
    assert is_allowed(ChannelKind.MESSENGER, Reply(content=utility), closed)
    assert not is_allowed(ChannelKind.MESSENGER, Reply("Hello", human_agent=True), closed)
    assert not is_allowed(ChannelKind.MESSENGER, Reply(content=Raw({"text": "Hi"})), closed)


def test_what_a_payload_says_of_itself_is_held_to_the_window_too() -> None:
    days, weeks = (reply_window(ChannelKind.MESSENGER, NOW - timedelta(days=n), NOW) for n in (3, 8))
    tagged = Reply(content=Raw({"messaging_type": "MESSAGE_TAG", "tag": "HUMAN_AGENT", "message": {"text": "Hi"}}))
    assert is_allowed(ChannelKind.MESSENGER, tagged, days)
    assert not is_allowed(ChannelKind.MESSENGER, tagged, weeks)
    answer = Raw({"messaging_type": "RESPONSE", "message": {"text": "Hi"}})
    assert not is_allowed(ChannelKind.MESSENGER, Reply(content=answer, human_agent=True), days)


@pytest.mark.parametrize(
    ("content_type", "type_"),
    [("image/png", "image"), ("video/mp4", "video"), ("audio/ogg", "audio"), ("text/plain", "file"), (None, "file")],
)
def test_a_file_is_attached_as_what_its_bytes_tell(content_type: str | None, type_: str) -> None:
    assert AttachmentType.of(content_type) == AttachmentType(type_)
