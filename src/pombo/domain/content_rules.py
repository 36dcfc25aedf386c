"""Whether a content can be sent at all, found out when a campaign is made and not 10,000 errors later.

What depends on a recipient's values is checked again per message, by the same limits (`limit_of`). Limits and shapes
are Meta's; the rules of each channel kind stand in `messenger_rules` and `whatsapp_rules`.
"""

from collections.abc import Iterator

from pombo.domain import messenger_rules, whatsapp_rules
from pombo.domain.channels import ChannelKind
from pombo.domain.content import Content, ContentProblem, Raw, Template, Text, TextLimit
from pombo.domain.liquid import TemplateError, compile_text

# Meta's deepest payloads (a list in an interactive message, a carousel in a template) have 10 levels.
_MAX_DEPTH = 20


def validate_content(kind: ChannelKind, content: Content, *, by_person: bool = False) -> list[ContentProblem]:
    """All that is wrong, empty if nothing is. Paths are those of the JSON that Meta gets.

    `by_person`: somebody writes it to this one recipient.
    """
    match kind, content:
        case ChannelKind.MESSENGER, Text(text=text):
            return list(_string_problems(kind, text, "text"))
        case ChannelKind.MESSENGER, Template():
            sentence = "Templates are WhatsApp's; on Messenger send text or a raw payload."
            return [ContentProblem("unsupported_type", sentence, "")]
        case ChannelKind.MESSENGER, Raw(payload=payload):
            if too_deep := _depth_problem(payload):
                return [too_deep]
            problems = list(messenger_rules.check_payload(payload, by_person=by_person))
            for part in messenger_rules.split_payload(payload):
                problems.extend(_all_string_problems(kind, part, ""))
            return problems
        case ChannelKind.WHATSAPP, Text(text=text):
            return list(_string_problems(kind, text, "text.body"))
        case ChannelKind.WHATSAPP, Template(name=name, language=language, components=components):
            template = {"name": name, "language": {"code": language}, "components": components}
            return _whatsapp_problems({"type": "template", "template": template})
        case ChannelKind.WHATSAPP, Raw(payload=payload):
            return _whatsapp_problems(payload)
    raise AssertionError((kind, content))


def limit_of(kind: ChannelKind, path: str) -> TextLimit | None:
    """What the string at `path` must keep to: of Messenger's message object, or of WhatsApp's body."""
    table = messenger_rules.TEXT_LIMITS if kind is ChannelKind.MESSENGER else whatsapp_rules.TEXT_LIMITS
    return next((limit for pattern, limit in table if pattern.fullmatch(path)), None)


def _whatsapp_problems(body: dict[str, object]) -> list[ContentProblem]:
    if too_deep := _depth_problem(body):
        return [too_deep]
    return [*whatsapp_rules.check_body(body), *_all_string_problems(ChannelKind.WHATSAPP, body, "")]


def _depth_problem(value: object) -> ContentProblem | None:
    level = [value]
    for _ in range(_MAX_DEPTH):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return None
    return ContentProblem("payload_too_deep", f"The payload has more than {_MAX_DEPTH} levels.", "")


def _inside(value: object) -> list[object]:
    match value:
        case dict():
            return list(value.values())
        case list():
            return value
        case _:
            return []


def _all_string_problems(kind: ChannelKind, value: object, path: str) -> Iterator[ContentProblem]:
    match value:
        case str():
            yield from _string_problems(kind, value, path)
        case dict():
            for key, member in value.items():
                if not _is_unicode(key):
                    yield _not_unicode(path)
                    continue
                yield from _all_string_problems(kind, member, f"{path}.{key}" if path else key)
        case list():
            for index, item in enumerate(value):
                yield from _all_string_problems(kind, item, f"{path}[{index}]")


def _string_problems(kind: ChannelKind, text: str, path: str) -> Iterator[ContentProblem]:
    if not _is_unicode(text):
        yield _not_unicode(path)
        return
    try:
        compiled = compile_text(text)
    except TemplateError as error:
        yield ContentProblem("template_syntax", f"{path}: {error.sentence}", path)
        return
    limit = limit_of(kind, path)
    if limit is None:
        return
    if limit.required and not text.strip():
        yield ContentProblem("text_empty", f"{path} is empty; write what is to be sent.", path)
    if limit.longest is not None and compiled.least_characters > limit.longest:
        at_least = "" if compiled.is_constant else "at least "
        sentence = f"{path} has {at_least}{compiled.least_characters} characters; at most {limit.longest} are allowed."
        yield ContentProblem("text_too_long", sentence, path)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _not_unicode(path: str) -> ContentProblem:
    return ContentProblem("text_invalid", f"{path or 'The payload'} is not valid Unicode (half of a pair).", path)
