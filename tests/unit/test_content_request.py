from typing import Any

import pytest

from pombo.domain.content import Content, ContentError, Raw, Template, Text
from pombo.domain.content_request import content_from_request

IMAGE = {"link": "https://example.com/1.png"}


@pytest.mark.parametrize(
    ("message_type", "payload", "content"),
    [
        ("text", {"text": {"body": "Hi"}}, Text("Hi")),
        ("text", {"text": "Hi"}, Text("Hi")),
        ("text", {"text": {"body": "Hi", "preview_url": True}}, Text("Hi", preview_url=True)),
        ("text", {"text": {"body": "Hi", "preview_url": False}}, Text("Hi")),
        ("template", {"template": {"name": "a", "language": "en"}}, Template("a", "en")),
        (
            "template",
            {"template": {"name": "a", "language": {"code": "en"}, "components": [{"type": "body"}]}},
            Template("a", "en", [{"type": "body"}]),
        ),
        ("image", {"image": IMAGE}, Raw({"type": "image", "image": IMAGE})),
        (
            "interactive",
            {"interactive": {}, "context": {}},
            Raw({"type": "interactive", "interactive": {}, "context": {}}),
        ),
        ("raw", {"anything": 1}, Raw({"anything": 1})),
    ],
)
def test_a_request_becomes_content(message_type: str, payload: dict[str, Any], content: Content) -> None:
    assert content_from_request(message_type, payload) == content


@pytest.mark.parametrize(
    ("message_type", "payload", "code"),
    [
        ("text", {}, "payload_invalid"),
        ("text", {"text": None}, "payload_invalid"),
        ("text", {"text": {"body": 5}}, "payload_invalid"),
        ("text", {"text": {"body": "Hi", "preview_url": "yes"}}, "payload_invalid"),
        ("template", {"template": {"name": "a"}}, "payload_invalid"),
        ("template", {"template": {"name": "a", "language": "en", "components": ["x"]}}, "payload_invalid"),
        ("image", {"video": IMAGE}, "payload_invalid"),
        ("hologram", {"hologram": {}}, "unsupported_type"),
        ("", {}, "unsupported_type"),
    ],
)
def test_a_request_of_another_shape_is_refused(message_type: str, payload: dict[str, Any], code: str) -> None:
    with pytest.raises(ContentError) as caught:
        content_from_request(message_type, payload)
    assert caught.value.code == code
    assert caught.value.sentence.endswith(".")
