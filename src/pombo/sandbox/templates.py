"""WhatsApp templates: what one takes, and whether a send fits it."""

import re
from typing import Any

from pombo.sandbox.accounts import Account, Template
from pombo.sandbox.errors import MetaError

CATEGORY_NUMBERS = {"MARKETING": 1, "UTILITY": 2, "AUTHENTICATION": 3}
_PLACEHOLDER = re.compile(r"\{\{\s*(\w+)\s*\}\}")
_MEDIA_HEADERS = frozenset(("IMAGE", "VIDEO", "DOCUMENT", "LOCATION"))


def shape_of(components: list[dict[str, Any]]) -> tuple[dict[str, int], frozenset[str]]:
    """How many parameters each component takes, and their names where the template is NAMED."""
    counts: dict[str, int] = {}
    names: set[str] = set()
    for component in components:
        kind = str(component.get("type", "")).upper()
        if kind == "HEADER" and str(component.get("format", "TEXT")).upper() in _MEDIA_HEADERS:
            counts["header"] = 1
        elif kind in ("HEADER", "BODY"):
            placeholders = set(_PLACEHOLDER.findall(str(component.get("text", ""))))
            counts[kind.lower()] = len(placeholders)
            names |= {name for name in placeholders if not name.isdecimal()}
        elif kind == "BUTTONS":
            for index, button in enumerate(component.get("buttons", [])):
                if str(button.get("type", "")).upper() == "URL" and _PLACEHOLDER.search(str(button.get("url", ""))):
                    counts[f"button:{index}"] = 1
    return counts, frozenset(names)


def fitting(account: Account, given: dict[str, Any]) -> Template:
    """The approved template that this part of a send names and fills. Raises MetaError 1320xx."""
    name, language = given.get("name"), given.get("language")
    code = language.get("code") if isinstance(language, dict) else None
    if not isinstance(name, str) or not name or not isinstance(code, str) or not code:
        raise MetaError("whatsapp", 131008, details="template.name and template.language.code are required")
    template = account.templates.get((name, code))
    if template is None or template.status in ("PENDING", "REJECTED", "DELETED", "PENDING_DELETION", "IN_APPEAL"):
        details = f"template name ({name}) does not exist in {code}"
        raise MetaError("whatsapp", 132001, details=details)
    if template.status == "PAUSED":
        raise MetaError("whatsapp", 132015, details=f"template name ({name}) is paused due to low quality")
    if template.status == "DISABLED":
        raise MetaError("whatsapp", 132016, details=f"template name ({name}) is disabled due to low quality")
    _check_parameters(template, given.get("components"))
    return template


def _check_parameters(template: Template, components: Any) -> None:
    if components is None:
        components = []
    if not isinstance(components, list) or not all(isinstance(component, dict) for component in components):
        raise MetaError("whatsapp", 132012, details="template.components must be an array of objects")
    counts = dict.fromkeys(template.parameters, 0)
    for component in components:
        parameters = component.get("parameters", [])
        if not isinstance(parameters, list) or not all(isinstance(parameter, dict) for parameter in parameters):
            raise MetaError("whatsapp", 132012, details="parameters must be an array of objects")
        kind = str(component.get("type", "")).lower()
        if kind == "button":
            # A quick-reply button may bring a payload whether or not the template has a placeholder.
            if str(component.get("sub_type", "")).lower() != "url":
                continue
            kind = f"button:{component.get('index', 0)}"
        counts[kind] = len(parameters)
        for parameter in parameters:
            _check_parameter(template, kind, parameter)
    for kind, expected in template.parameters.items():
        if counts[kind] != expected:
            details = f"{kind}: number of localizable_params ({counts[kind]}) does not match the expected ({expected})"
            raise MetaError("whatsapp", 132000, details=details)
    for kind, count in counts.items():
        if count and kind not in template.parameters:
            details = f"{kind}: number of localizable_params ({count}) does not match the expected number of params (0)"
            raise MetaError("whatsapp", 132000, details=details)


def _check_parameter(template: Template, kind: str, parameter: dict[str, Any]) -> None:
    kind_of_value = parameter.get("type")
    if not isinstance(kind_of_value, str):
        raise MetaError("whatsapp", 132012, details=f"{kind}: a parameter needs a type")
    if kind_of_value == "text" and not isinstance(parameter.get("text"), str):
        raise MetaError("whatsapp", 132012, details=f"{kind}: a text parameter needs its text")
    if kind_of_value == "text" and not parameter["text"]:
        raise MetaError("whatsapp", 131008, details=f"{kind}: Parameter of type text is missing text value")
    if template.names and kind in ("body", "header") and parameter.get("parameter_name") not in template.names:
        raise MetaError("whatsapp", 132012, details=f"{kind}: parameter_name is missing or unknown")
