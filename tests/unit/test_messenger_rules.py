from typing import Any

import pytest

from pombo.domain.channels import ChannelKind
from pombo.domain.content import Raw
from pombo.domain.content_rules import validate_content

BUTTON = {"type": "web_url", "title": "Open", "url": "https://example.com"}
ELEMENT = {"title": "Shoes", "subtitle": "Red", "buttons": [BUTTON]}


def codes(payload: dict[str, Any]) -> list[tuple[str, str]]:
    return [(problem.code, problem.path) for problem in validate_content(ChannelKind.MESSENGER, Raw(payload))]


def attached(payload: dict[str, Any]) -> dict[str, Any]:
    return {"attachment": {"type": "template", "payload": payload}}


@pytest.mark.parametrize(
    "payload",
    [
        {"text": "Hi {{ first_name }}"},
        {"message": {"text": "Hi"}},
        {"message": {"text": "Hi"}, "messaging_type": "RESPONSE", "notification_type": "NO_PUSH", "persona_id": "1"},
        {"message": {"text": "Hi"}, "messaging_type": "MESSAGE_TAG", "tag": "CUSTOMER_FEEDBACK"},
        {"message": {"template": {"name": "order", "language": {"code": "en_US"}}}, "messaging_type": "UTILITY"},
        {"attachment": {"type": "image", "payload": {"url": "https://example.com/{{ sku }}.png"}}},
        {"attachments": [{"type": "image", "payload": {"url": "https://example.com/1.png"}}]},
        {"sticker_id": 369239263222822},
        {"text": "Which?", "quick_replies": [{"content_type": "text", "title": "A", "payload": "a"}] * 13},
        attached({"template_type": "generic", "elements": [ELEMENT] * 10}),
        attached({"template_type": "button", "text": "Which?", "buttons": [BUTTON] * 3}),
        attached({"template_type": "media", "elements": [{"media_type": "image", "attachment_id": "1"}]}),
        attached({"template_type": "receipt", "order_number": "{{ order }}"}),
    ],
)
def test_a_good_payload_has_no_problem(payload: dict[str, Any]) -> None:
    assert codes(payload) == []


@pytest.mark.parametrize(
    ("payload", "code", "path"),
    [
        ({"recipient": {"id": "1"}, "message": {"text": "Hi"}}, "field_reserved", "recipient"),
        ({"sender_action": "typing_on"}, "field_reserved", "sender_action"),
        ({"text": "Hi", "metadata": "mine"}, "field_reserved", "metadata"),
        ({"message": {"text": "Hi", "metadata": "mine"}}, "field_reserved", "metadata"),
        ({"message": "Hi"}, "payload_invalid", "message"),
        ({"message": {"text": "Hi"}, "text": "Hi"}, "field_unknown", "text"),
        ({}, "payload_invalid", ""),
        ({"quick_replies": [{"content_type": "text"}]}, "payload_invalid", ""),
        ({"text": "Hi", "attachment": {"type": "image", "payload": {}}}, "payload_invalid", ""),
        ({"text": 5}, "payload_invalid", "text"),
        ({"text": ""}, "text_empty", "text"),
        ({"message": {"text": "x" * 2001}}, "text_too_long", "text"),
        ({"message": {"text": "Hi"}, "persona_id": "{{ a"}, "template_syntax", "persona_id"),
        ({"message": {"text": "Hi"}, "messaging_type": "SHOUT"}, "messaging_type_invalid", "messaging_type"),
        ({"message": {"text": "Hi"}, "messaging_type": ["UPDATE"]}, "payload_invalid", "messaging_type"),
        ({"message": {"text": "Hi"}, "messaging_type": "MESSAGE_TAG"}, "tag_mismatch", "tag"),
        ({"message": {"text": "Hi"}, "tag": "CUSTOMER_FEEDBACK"}, "tag_mismatch", "tag"),
        ({"message": {"text": "Hi"}, "notification_type": "LOUD"}, "notification_type_invalid", "notification_type"),
        ({"attachment": "https://example.com/1.png"}, "payload_invalid", "attachment"),
        ({"attachment": {"type": "hologram", "payload": {}}}, "payload_invalid", "attachment"),
        (attached({}), "payload_invalid", "attachment.payload"),
        ({"text": "Which?", "quick_replies": [{}] * 14}, "count_out_of_range", "quick_replies"),
        ({"text": "Which?", "quick_replies": "A"}, "payload_invalid", "quick_replies"),
        (
            attached({"template_type": "generic", "elements": [ELEMENT] * 11}),
            "count_out_of_range",
            "attachment.payload.elements",
        ),
        (
            attached({"template_type": "generic", "elements": [ELEMENT | {"buttons": [BUTTON] * 4}]}),
            "count_out_of_range",
            "attachment.payload.elements[0].buttons",
        ),
        (
            attached({"template_type": "generic", "elements": [{"title": "alone"}]}),
            "payload_invalid",
            "attachment.payload.elements[0]",
        ),
        (
            attached({"template_type": "generic", "elements": [ELEMENT | {"title": "x" * 81}]}),
            "text_too_long",
            "attachment.payload.elements[0].title",
        ),
        (
            attached({"template_type": "button", "text": "Which?", "buttons": [BUTTON] * 4}),
            "count_out_of_range",
            "attachment.payload.buttons",
        ),
        (
            attached({"template_type": "button", "buttons": [BUTTON]}),
            "payload_invalid",
            "attachment.payload.text",
        ),
        (
            attached({"template_type": "media", "elements": [ELEMENT, ELEMENT]}),
            "count_out_of_range",
            "attachment.payload.elements",
        ),
    ],
)
def test_a_bad_payload_is_named_with_its_place(payload: dict[str, Any], code: str, path: str) -> None:
    assert codes(payload) == [(code, path)]


@pytest.mark.parametrize(
    ("tag", "code", "word"),
    [
        ("CONFIRMED_EVENT_UPDATE", "tag_dead", "2026-04-27"),
        ("ACCOUNT_UPDATE", "tag_dead", "2026-04-27"),
        ("POST_PURCHASE_UPDATE", "tag_dead", "2026-04-27"),
        ("HUMAN_AGENT", "tag_not_for_campaigns", "a person writes"),
        ("BIRTHDAY", "tag_unknown", "CUSTOMER_FEEDBACK"),
    ],
)
def test_a_tag_that_cannot_be_used_is_refused_with_the_reason(tag: str, code: str, word: str) -> None:
    payload = {"message": {"text": "Hi"}, "messaging_type": "MESSAGE_TAG", "tag": tag}
    [problem] = validate_content(ChannelKind.MESSENGER, Raw(payload))
    assert (problem.code, problem.path) == (code, "tag")
    assert word in problem.sentence
