from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pombo.domain.channels import ChannelKind
from pombo.domain.content import Content, Raw, Template, Text
from pombo.domain.content_rules import validate_content
from pombo.meta.payloads import compile_payload

MESSENGER, WHATSAPP = ChannelKind.MESSENGER, ChannelKind.WHATSAPP


def codes(kind: ChannelKind, content: Content) -> list[tuple[str, str]]:
    return [(problem.code, problem.path) for problem in validate_content(kind, content)]


@pytest.mark.parametrize("kind", ChannelKind)
@pytest.mark.parametrize("text", ["Hello", "Hi {{ first_name }}", "x" * 2000, "{{ a }}" * 1000])
def test_good_text_has_no_problem(kind: ChannelKind, text: str) -> None:
    assert validate_content(kind, Text(text)) == []


@pytest.mark.parametrize(
    ("kind", "text", "code"),
    [
        (MESSENGER, "", "text_empty"),
        (MESSENGER, " \n", "text_empty"),
        (MESSENGER, "x" * 2001, "text_too_long"),
        (MESSENGER, "x" * 2001 + "{{ first_name }}", "text_too_long"),
        (MESSENGER, "Hi {{ first_name", "template_syntax"),
        (MESSENGER, "\ud83d", "text_invalid"),
        (WHATSAPP, "", "text_empty"),
        (WHATSAPP, "x" * 4097, "text_too_long"),
        (WHATSAPP, "{{ a | shout }}", "template_syntax"),
    ],
)
def test_bad_text_is_named(kind: ChannelKind, text: str, code: str) -> None:
    assert codes(kind, Text(text)) == [(code, "text" if kind is MESSENGER else "text.body")]


def test_the_sentence_says_how_long_the_text_is() -> None:
    [problem] = validate_content(MESSENGER, Text("x" * 2001))
    assert problem.sentence == "text has 2001 characters; at most 2000 are allowed."
    [problem] = validate_content(MESSENGER, Text("x" * 2001 + "{{ a }}"))
    assert problem.sentence == "text has at least 2001 characters; at most 2000 are allowed."


def test_whatsapp_templates_are_not_for_messenger() -> None:
    assert codes(MESSENGER, Template("order", "en_US")) == [("unsupported_type", "")]


def test_a_payload_nested_too_deeply_is_refused_without_walking_it() -> None:
    payload: Any = "x"
    for _ in range(100_000):
        payload = {"a": payload}
    assert codes(MESSENGER, Raw(payload)) == [("payload_too_deep", "")]
    assert codes(WHATSAPP, Raw(payload)) == [("payload_too_deep", "")]


BUTTON = {"type": "web_url", "title": "Open", "url": "https://example.com"}
REPLY = {"type": "reply", "reply": {"id": "a", "title": "A"}}
COMPONENT = {"type": "body", "parameters": [{"type": "text", "text": "{{ a }}"}]}
HEADER = {"type": "header", "parameters": [{"type": "image", "image": {"id": "1"}}]}
CARDS = {"type": "carousel", "cards": [{"components": [HEADER, COMPONENT]}]}
GOOD: list[tuple[ChannelKind, dict[str, Any]]] = [
    (MESSENGER, {"message": {"text": "Hi", "quick_replies": [{"title": "A"}]}, "messaging_type": "UPDATE"}),
    (MESSENGER, {"message": {"text": "Hi"}, "messaging_type": "MESSAGE_TAG", "tag": "CUSTOMER_FEEDBACK"}),
    (
        MESSENGER,
        {
            "attachment": {
                "type": "template",
                "payload": {"template_type": "generic", "elements": [{"title": "A", "buttons": [BUTTON]}]},
            }
        },
    ),
    (WHATSAPP, {"type": "text", "text": {"body": "Hi"}}),
    (WHATSAPP, {"type": "image", "image": {"link": "https://example.com"}}),
    (WHATSAPP, {"type": "interactive", "interactive": {"type": "button", "action": {"buttons": [REPLY]}}}),
    (WHATSAPP, {"type": "interactive", "interactive": {"type": "list", "action": {"sections": [{"rows": [REPLY]}]}}}),
    (
        WHATSAPP,
        {"type": "template", "template": {"name": "a", "language": {"code": "en"}, "components": [COMPONENT, CARDS]}},
    ),
]

junk = st.recursive(
    st.sampled_from([None, True, 5, 1.5, "", "x", "{{ a }}", "{{", "\ud800", "x" * 5000]),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2), st.dictionaries(st.sampled_from(["a", "type", "id", "\ud800"]), inner, max_size=2)
    ),
    max_leaves=3,
)


@st.composite
def spoilt(draw: st.DrawFn, value: Any) -> Any:
    """`value` with one place in it, at any depth, put in the place of something else, or something added."""
    if isinstance(value, dict) and draw(st.integers(0, 5)):
        key = draw(st.sampled_from([*value, "extra"]))
        return value | {key: draw(spoilt(value.get(key)))}
    if isinstance(value, list) and value and draw(st.integers(0, 5)):
        return [draw(spoilt(value[0])), *value[1:]]
    return draw(junk)


@pytest.mark.parametrize(("kind", "payload"), GOOD)
def test_the_payloads_to_be_spoilt_are_good(kind: ChannelKind, payload: dict[str, Any]) -> None:
    assert codes(kind, Raw(payload)) == []


@given(st.data())
def test_any_payload_is_either_refused_or_can_be_compiled(data: st.DataObject) -> None:
    kind, payload = data.draw(st.sampled_from(GOOD))
    content = Raw(data.draw(spoilt(payload).filter(lambda value: isinstance(value, dict))))
    if not validate_content(kind, content):
        compile_payload(kind, content)
