"""Content as requests bring it and answers show it."""

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import Field

from pombo.api.errors import ApiError
from pombo.api.shapes import RequestShape
from pombo.campaigns.reading import holds_unstorable
from pombo.domain.channels import ChannelKind
from pombo.domain.content import Content, ContentError, ContentProblem, Raw, Template, Text
from pombo.domain.content_request import content_from_request
from pombo.domain.content_rules import validate_content


class TextShape(RequestShape):
    """Plain text; `{{ first_name }}` is replaced by each recipient's variable."""

    type: Literal["text"]
    text: str
    preview_url: bool = False


class TemplateShape(RequestShape):
    """A WhatsApp template; `components` as the Cloud API takes them, with Liquid in their strings."""

    type: Literal["template"]
    name: str
    language: str
    components: list[dict[str, Any]] = Field(default=[])


class RawShape(RequestShape):
    """Messenger's `message` object, or WhatsApp's body with its `type`, without a recipient."""

    type: Literal["raw"]
    payload: dict[str, Any]


ContentShape = Annotated[TextShape | TemplateShape | RawShape, Field(discriminator="type")]


class WithContent(RequestShape):
    """Content comes as `content`, or in the old programs' way as `messageType` and `payload`."""

    content: ContentShape | None = None
    message_type: str | None = Field(default=None, examples=["text"])
    payload: dict[str, Any] | None = Field(default=None, examples=[{"text": {"body": "Hello {{ first_name }}"}}])

    def read_content(self) -> Content | None:
        """None when there is none. Raises ContentError, ApiError."""
        content = self._given()
        if content is not None and holds_unstorable(self.model_dump()):
            sentence = "The content holds a NUL character (\\u0000) or half of a surrogate pair; remove it."
            raise ContentError([ContentProblem("text_invalid", sentence, "")])
        return content

    def _given(self) -> Content | None:
        match self.content:
            case TextShape(text=text, preview_url=preview_url):
                content: Content | None = Text(text, preview_url)
            case TemplateShape(name=name, language=language, components=components):
                content = Template(name, language, components)
            case RawShape(payload=payload):
                content = Raw(payload)
            case None:
                content = None
        if self.message_type is None and self.payload is None:
            return content
        if content is not None:
            raise ApiError("validation_failed", "Send either 'content', or 'messageType' with 'payload', not both.")
        if self.message_type is None or self.payload is None:
            raise ApiError("validation_failed", "'messageType' and 'payload' belong together: one of them is missing.")
        return content_from_request(self.message_type, self.payload)


def show_content(content: Content | None) -> ContentShape | None:
    match content:
        case Text(text=text, preview_url=preview_url):
            return TextShape.model_validate({"type": "text", "text": text, "previewUrl": preview_url})
        case Template(name=name, language=language, components=components):
            return TemplateShape(type="template", name=name, language=language, components=components)
        case Raw(payload=payload):
            return RawShape(type="raw", payload=payload)
        case None:
            return None


def check_content(content: Content, kinds: Iterable[ChannelKind]) -> None:
    """Raises ContentError when a channel of one of these kinds could not send it to anybody."""
    problems = [problem for kind in sorted(set(kinds)) for problem in validate_content(kind, content)]
    if problems:
        raise ContentError(problems)
