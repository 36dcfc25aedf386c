"""As much of JSON Schema as Pombo's own documents use; an unknown keyword is an error, not passed over."""

import re
from typing import Any

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "boolean": (bool,),
    "null": (type(None),),
}
_NOTES = {"$schema", "$defs", "title", "description", "default", "discriminator"}


def problem(value: Any, schema: dict[str, Any], document: dict[str, Any], at: str = "$") -> str | None:
    """What is wrong with the value, or None."""
    for keyword, given in schema.items():
        if keyword not in _NOTES and (found := _violation(keyword, given, value, schema, document, at)):
            return found
    return None


def _violation(keyword: str, given: Any, value: Any, schema: dict[str, Any], document: Any, at: str) -> str | None:
    wrong = f"{at}: {value!r} breaks {keyword} {given!r}"
    match keyword:
        case "$ref":
            return problem(value, document["$defs"][given.removeprefix("#/$defs/")], document, at)
        case "anyOf":
            found = [problem(value, each, document, at) for each in given]
            return None if None in found else f"{at}: fits none of {found}"
        case "type":
            fits = isinstance(value, _TYPES[given]) and not (given == "integer" and isinstance(value, bool))
        case "enum":
            fits = value in given
        case "const":
            fits = value == given
        case "pattern":
            fits = re.search(given, value) is not None
        case "minimum":
            fits = value >= given
        case "maximum":
            fits = value <= given
        case "maxLength" | "maxItems":
            fits = len(value) <= given
        case "minItems":
            fits = len(value) >= given
        case "required":
            fits = set(given) <= value.keys()
        case "additionalProperties":
            assert given is False
            fits = value.keys() <= schema["properties"].keys()
        case "properties":
            parts = [(value[name], part, f"{at}.{name}") for name, part in given.items() if name in value]
            return next((found for v, part, place in parts if (found := problem(v, part, document, place))), None)
        case "items":
            parts = [(each, given, f"{at}[{index}]") for index, each in enumerate(value)]
            return next((found for v, part, place in parts if (found := problem(v, part, document, place))), None)
        case _:
            raise NotImplementedError(keyword)
    return None if fits else wrong
