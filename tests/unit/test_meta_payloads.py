import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pombo.domain.channels import ChannelKind
from pombo.domain.content import Content, ContentError, Raw, RenderError, Template, Text
from pombo.meta.payloads import compile_payload, messages_target

MESSENGER, WHATSAPP = ChannelKind.MESSENGER, ChannelKind.WHATSAPP
KEY = "pombo1.7.1.20260801"


def body(kind: ChannelKind, content: Content, recipient: str = "4711", **variables: Any) -> Any:
    return json.loads(compile_payload(kind, content).render(recipient, KEY, variables))


def whatsapp_body(**content: Any) -> Any:
    return {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": "+15550001234",
        "biz_opaque_callback_data": KEY,
        **content,
    }


def test_messenger_text_is_an_update_that_carries_the_send_key() -> None:
    assert body(MESSENGER, Text("Hi {{ first_name }}"), first_name="Ana") == {
        "recipient": {"id": "4711"},
        "messaging_type": "UPDATE",
        "message": {"text": "Hi Ana", "metadata": KEY},
    }


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ({"text": "Hi {{ n }}"}, {"messaging_type": "UPDATE", "message": {"text": "Hi 5"}}),
        (
            {"message": {"text": "Hi"}, "messaging_type": "RESPONSE", "persona_id": "{{ n }}"},
            {"messaging_type": "RESPONSE", "persona_id": "5", "message": {"text": "Hi"}},
        ),
        (
            {"template": {"name": "order", "language": {"code": "en"}}},
            {"messaging_type": "UTILITY", "message": {"template": {"name": "order", "language": {"code": "en"}}}},
        ),
        (
            {"attachment": {"type": "image", "payload": {"url": "https://x/{{ n }}", "is_reusable": True}}},
            {
                "messaging_type": "UPDATE",
                "message": {"attachment": {"type": "image", "payload": {"url": "https://x/5", "is_reusable": True}}},
            },
        ),
    ],
)
def test_a_raw_messenger_payload_is_the_message_or_goes_around_it(payload: dict[str, Any], expected: Any) -> None:
    expected = expected | {"recipient": {"id": "4711"}, "message": expected["message"] | {"metadata": KEY}}
    assert body(MESSENGER, Raw(payload), n="5") == expected


def test_whatsapp_text_carries_the_send_key() -> None:
    assert body(WHATSAPP, Text("Hi {{ first_name }}", preview_url=True), "+15550001234", first_name="Ana") == (
        whatsapp_body(type="text", text={"preview_url": True, "body": "Hi Ana"})
    )


def test_a_whatsapp_template_has_its_strings_rendered() -> None:
    components = [{"type": "body", "parameters": [{"type": "text", "text": "{{ first_name }}"}]}]
    rendered = [{"type": "body", "parameters": [{"type": "text", "text": "Ana"}]}]
    template = {"name": "order", "language": {"code": "en_US"}, "components": rendered}
    assert body(WHATSAPP, Template("order", "en_US", components), "+15550001234", first_name="Ana") == (
        whatsapp_body(type="template", template=template)
    )
    assert body(WHATSAPP, Template("order", "en_US"), "+15550001234") == (
        whatsapp_body(type="template", template={"name": "order", "language": {"code": "en_US"}})
    )


def test_a_raw_whatsapp_payload_is_the_body() -> None:
    image = {"link": "https://x/{{ n }}.png", "caption": "No {{ n }}"}
    assert body(WHATSAPP, Raw({"type": "image", "image": image}), "+15550001234", n="5") == (
        whatsapp_body(type="image", image={"link": "https://x/5.png", "caption": "No 5"})
    )


def test_a_business_scoped_user_id_goes_into_its_own_field() -> None:
    rendered = body(WHATSAPP, Text("Hi"), "US.13491208655302741918")
    assert rendered["recipient"] == "US.13491208655302741918"
    assert "to" not in rendered


@pytest.mark.parametrize(
    ("content", "is_constant"),
    [(Text("Hi"), True), (Text("Hi {{ a }}"), False), (Raw({"type": "image", "image": {"id": "{{ a }}"}}), False)],
)
def test_content_without_variables_is_constant(content: Content, is_constant: bool) -> None:
    assert compile_payload(WHATSAPP, content).is_constant is is_constant


def test_content_that_meta_would_refuse_is_not_compiled() -> None:
    with pytest.raises(ContentError) as caught:
        compile_payload(MESSENGER, Text("x" * 2001))
    assert caught.value.code == "text_too_long"


TEMPLATE = Template("order", "en_US", [{"type": "body", "parameters": [{"type": "text", "text": "{{ a }}"}]}])


@pytest.mark.parametrize(
    ("kind", "content", "value", "code", "path"),
    [
        (MESSENGER, Text("{{ a }}"), "", "text_empty", "message.text"),
        (MESSENGER, Text("{{ a }}"), "x" * 2001, "text_too_long", "message.text"),
        (MESSENGER, Raw({"text": "{{ a }}"}), "", "text_empty", "message.text"),
        (MESSENGER, Text("{{ a }}"), "\ud83d", "text_invalid", ""),
        (MESSENGER, Text("{{ 1 | divided_by: a }}"), 0, "template_failed", ""),
        (WHATSAPP, Text("{{ a }}"), " ", "text_empty", "text.body"),
        (WHATSAPP, Text("{{ a }}"), "x" * 4097, "text_too_long", "text.body"),
        (WHATSAPP, TEMPLATE, None, "text_empty", "template.components[0].parameters[0].text"),
        (
            WHATSAPP,
            Raw({"type": "image", "image": {"id": "1", "caption": "{{ a }}"}}),
            "x" * 1025,
            "text_too_long",
            "image.caption",
        ),
    ],
)
def test_a_recipient_whose_values_give_no_message_fails_alone(
    kind: ChannelKind, content: Content, value: object, code: str, path: str
) -> None:
    compiled = compile_payload(kind, content)
    with pytest.raises(RenderError) as caught:
        compiled.render("4711", KEY, {"a": value})
    assert (caught.value.code, caught.value.path) == (code, path)
    assert json.loads(compiled.render("4711", KEY, {"a": 1}))


def test_without_variables_everything_renders_empty() -> None:
    assert (
        json.loads(compile_payload(MESSENGER, Text("Hi {{ a }}!")).render("1", KEY, None))["message"]["text"] == "Hi !"
    )


def test_the_target_of_sends() -> None:
    assert messages_target("v26.0", "4711") == "/v26.0/4711/messages"


anything = st.text(st.sampled_from('aZ0 "\\/\b\n\x00\x1f\x7fé\u2028😀<'), min_size=1, max_size=12)


@given(kind=st.sampled_from(ChannelKind), recipient=anything, key=anything, constant=anything, value=anything)
def test_whatever_the_strings_hold_arrives_as_it_is(
    kind: ChannelKind, recipient: str, key: str, constant: str, value: str
) -> None:
    rendered = json.loads(compile_payload(kind, Text(f"-{constant}{{{{ a }}}}")).render(recipient, key, {"a": value}))
    if kind is MESSENGER:
        assert rendered["recipient"]["id"] == recipient
        assert rendered["message"] == {"text": f"-{constant}{value}", "metadata": key}
    else:
        assert rendered["to"] == recipient
        assert rendered["biz_opaque_callback_data"] == key
        assert rendered["text"]["body"] == f"-{constant}{value}"
