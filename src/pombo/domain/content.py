"""What a campaign says: text, a WhatsApp template, or a raw payload. Strings may hold Liquid variables.

Stored as JSON with a `type` tag, so a campaign's content is one column and one place to look.
"""

from dataclasses import dataclass
from typing import Any

import msgspec


class Text(msgspec.Struct, frozen=True, tag="text", forbid_unknown_fields=True):
    text: str
    preview_url: bool = False


class Template(msgspec.Struct, frozen=True, tag="template", forbid_unknown_fields=True):
    """A WhatsApp template as the Cloud API takes it: `components` is passed on, its strings rendered."""

    name: str
    language: str
    components: list[dict[str, Any]] = []


class Raw(msgspec.Struct, frozen=True, tag="raw", forbid_unknown_fields=True):
    """Sent as it is, but for rendered strings: Messenger's `message` object, or WhatsApp's body with its `type`.

    The recipient and the send key are ours to set, so a payload that brings its own is refused.
    """

    payload: dict[str, Any]


Content = Text | Template | Raw


@dataclass(frozen=True, slots=True)
class ContentProblem:
    """What is wrong with a content. `code` is stable, `path` names the place (`template.components[0].parameters`)."""

    code: str
    sentence: str
    path: str


class ContentError(Exception):
    """The content cannot be sent to anybody. `problems` is never empty; code and sentence are the first one's."""

    def __init__(self, problems: list[ContentProblem]) -> None:
        self.problems = problems
        self.code = problems[0].code
        self.sentence = problems[0].sentence
        super().__init__(self.sentence)


class RenderError(Exception):
    """One recipient's values do not give a sendable message. It concerns this message only; nothing was sent."""

    def __init__(self, code: str, sentence: str, path: str = "") -> None:
        self.code = code
        self.sentence = sentence
        self.path = path
        super().__init__(sentence)


@dataclass(frozen=True, slots=True)
class TextLimit:
    """What a string must keep to, in characters (Unicode code points)."""

    longest: int | None = None
    required: bool = False

    def check(self, text: str, path: str) -> None:
        """Raises RenderError."""
        if self.required and not text.strip():
            raise RenderError("text_empty", f"{path} is empty for this recipient.", path)
        if self.longest is not None and len(text) > self.longest:
            sentence = f"{path} has {len(text)} characters for this recipient; at most {self.longest} are allowed."
            raise RenderError("text_too_long", sentence, path)
