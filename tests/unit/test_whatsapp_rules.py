from typing import Any

import pytest

from pombo.domain.channels import ChannelKind
from pombo.domain.content import Raw, Template
from pombo.domain.content_rules import validate_content

NAME = {"type": "text", "text": "{{ first_name }}"}
BODY = {"type": "body", "parameters": [NAME]}
URL = {"type": "button", "sub_type": "url", "index": "0", "parameters": [{"type": "text", "text": "{{ code }}"}]}
IMAGE = {"type": "header", "parameters": [{"type": "image", "image": {"link": "https://example.com/1.png"}}]}
CARD = {"card_index": 0, "components": [IMAGE, BODY]}


def codes(content: Raw | Template) -> list[tuple[str, str]]:
    return [(problem.code, problem.path) for problem in validate_content(ChannelKind.WHATSAPP, content)]


@pytest.mark.parametrize(
    "components",
    [
        [],
        [BODY],
        [IMAGE, BODY, URL],
        [BODY, {"type": "carousel", "cards": [CARD, CARD]}],
        [{"type": "BODY", "parameters": [{"type": "currency", "currency": {"fallback_value": "5 €", "code": "EUR"}}]}],
    ],
)
def test_a_good_template_has_no_problem(components: list[dict[str, Any]]) -> None:
    assert codes(Template("order_update", "en_US", components)) == []
    template = {"name": "order_update", "language": {"code": "pt"}, "components": components}
    assert codes(Raw({"type": "template", "template": template})) == []


@pytest.mark.parametrize(
    ("name", "language", "code", "path"),
    [
        ("Order Update", "en_US", "template_name_invalid", "template.name"),
        ("", "en_US", "template_name_invalid", "template.name"),
        ("order", "", "template_language_invalid", "template.language"),
        ("order", "English", "template_language_invalid", "template.language"),
    ],
)
def test_a_template_needs_its_name_and_language(name: str, language: str, code: str, path: str) -> None:
    assert codes(Template(name, language)) == [(code, path)]


@pytest.mark.parametrize(
    ("component", "code", "path"),
    [
        ({"type": "body"}, "template_parameter_missing", ".parameters"),
        ({"type": "body", "parameters": []}, "template_parameter_missing", ".parameters"),
        ({"type": "body", "parameters": [{"type": "text"}]}, "template_parameter_missing", ".parameters[0]"),
        ({"type": "body", "parameters": [NAME, "Ana"]}, "template_parameter_missing", ".parameters[1]"),
        (
            {"type": "header", "parameters": [{"type": "image", "image": {"caption": "x"}}]},
            "template_parameter_missing",
            ".parameters[0]",
        ),
        ({"type": "button", "parameters": [NAME]}, "template_components_invalid", ""),
        ({"parameters": [NAME]}, "template_components_invalid", ""),
        ({"type": "carousel", "cards": [{}]}, "template_components_invalid", ".cards[0]"),
        (
            {"type": "carousel", "cards": [{"components": [{"type": "body"}]}]},
            "template_parameter_missing",
            ".cards[0].components[0].parameters",
        ),
    ],
)
def test_a_template_needs_all_its_parameters(component: dict[str, Any], code: str, path: str) -> None:
    assert codes(Template("order", "en_US", [BODY, component])) == [(code, f"template.components[1]{path}")]


@pytest.mark.parametrize("text", ["", " "])
def test_a_template_parameter_cannot_be_empty(text: str) -> None:
    found = codes(Template("order", "en_US", [{"type": "body", "parameters": [{"type": "text", "text": text}]}]))
    assert ("text_empty", "template.components[0].parameters[0].text") in found


@pytest.mark.parametrize(
    "body",
    [
        {"type": "text", "text": {"body": "Hi {{ first_name }}"}},
        {"messaging_product": "whatsapp", "recipient_type": "individual", "type": "text", "text": {"body": "Hi"}},
        {"type": "image", "image": {"link": "https://example.com/1.png", "caption": "x" * 1024}},
        {"type": "document", "document": {"id": "123", "filename": "{{ order }}.pdf"}},
        {"type": "location", "location": {"latitude": 1.5, "longitude": 2.5}},
        {"type": "contacts", "contacts": [{"name": {"formatted_name": "Ana"}}]},
        {"type": "reaction", "reaction": {"message_id": "wamid.1", "emoji": "👍"}},
        {
            "type": "interactive",
            "interactive": {
                "type": "button",
                "body": {"text": "Which?"},
                "action": {"buttons": [{"type": "reply", "reply": {"id": "a", "title": "A"}}] * 3},
            },
        },
        {
            "type": "interactive",
            "interactive": {
                "type": "list",
                "body": {"text": "Which?"},
                "action": {"button": "Open", "sections": [{"rows": [{"id": "a", "title": "A"}] * 5}] * 2},
            },
        },
        {"type": "interactive", "interactive": {"type": "cta_url", "action": {"name": "cta_url", "parameters": {}}}},
    ],
)
def test_a_good_body_has_no_problem(body: dict[str, Any]) -> None:
    assert codes(Raw(body)) == []


@pytest.mark.parametrize(
    ("body", "code", "path"),
    [
        ({"type": "text", "text": {"body": "Hi"}, "to": "+1"}, "field_reserved", "to"),
        ({"type": "text", "text": {"body": "Hi"}, "recipient": "US.1"}, "field_reserved", "recipient"),
        (
            {"type": "text", "text": {"body": "Hi"}, "biz_opaque_callback_data": "x"},
            "field_reserved",
            "biz_opaque_callback_data",
        ),
        ({"type": "text", "text": {"body": "Hi"}, "messaging_product": "sms"}, "payload_invalid", "messaging_product"),
        ({"type": "text", "text": {"body": "Hi"}, "recipient_type": "group"}, "payload_invalid", "recipient_type"),
        ({"text": {"body": "Hi"}}, "unsupported_type", "type"),
        ({"type": "poll", "poll": {}}, "unsupported_type", "type"),
        ({"type": ["text"], "text": {"body": "Hi"}}, "unsupported_type", "type"),
        ({"type": "text", "text": "Hi"}, "payload_invalid", "text"),
        ({"type": "text", "text": {"body": ""}}, "text_empty", "text.body"),
        ({"type": "image", "image": {}}, "payload_invalid", "image"),
        ({"type": "image", "image": {"id": "1", "link": "https://example.com"}}, "payload_invalid", "image"),
        ({"type": "image", "image": {"id": "1", "caption": "x" * 1025}}, "text_too_long", "image.caption"),
        ({"type": "contacts", "contacts": []}, "payload_invalid", "contacts"),
        ({"type": "interactive", "interactive": {"type": "button"}}, "payload_invalid", "interactive"),
        (
            {"type": "interactive", "interactive": {"type": "button", "action": {"buttons": [{}] * 4}}},
            "count_out_of_range",
            "interactive.action.buttons",
        ),
        (
            {"type": "interactive", "interactive": {"type": "list", "action": {"sections": [{"rows": [{}] * 11}]}}},
            "count_out_of_range",
            "interactive.action.sections",
        ),
        (
            {"type": "template", "template": {"name": "a", "language": "en_US"}},
            "template_language_invalid",
            "template.language",
        ),
        (
            {"type": "template", "template": {"name": "a", "language": {"code": "en"}, "components": {}}},
            "template_components_invalid",
            "template.components",
        ),
    ],
)
def test_a_bad_body_is_named_with_its_place(body: dict[str, Any], code: str, path: str) -> None:
    assert codes(Raw(body)) == [(code, path)]
