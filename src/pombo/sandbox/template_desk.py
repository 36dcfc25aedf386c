"""Templates made and deleted through the Graph API, and the webhooks that tell what became of them."""

import itertools
import re
from typing import Any

import msgspec

from pombo.sandbox.accounts import Account, Template
from pombo.sandbox.clock import Clock
from pombo.sandbox.errors import MetaError
from pombo.sandbox.notices import of_account
from pombo.sandbox.pump import Planned, Pump
from pombo.sandbox.reply import Reply, json_reply
from pombo.sandbox.templates import CATEGORY_NUMBERS, shape_of

_NAME = re.compile(r"[a-z0-9_]{1,512}")
# Meta takes minutes to a day.
_REVIEW_S = 1.0
_ids = itertools.count(2_000_000_000_000_001)


class TemplateDesk:
    def __init__(self, clock: Clock, pump: Pump) -> None:
        self._clock = clock
        self._pump = pump

    def create(self, account: Account, given: dict[str, Any]) -> Reply:
        """`POST /{waba}/message_templates`: pending, and approved a second later."""
        name, language = given.get("name"), given.get("language")
        category, components = str(given.get("category", "")).upper(), given.get("components")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise _invalid("Param name must be of lower-case letters, digits and underscores.")
        if not isinstance(language, str) or not language or category not in CATEGORY_NUMBERS:
            raise _invalid("Params language and category (MARKETING, UTILITY, AUTHENTICATION) are required.")
        if not isinstance(components, list) or not all(isinstance(component, dict) for component in components):
            raise _invalid("Param components must be an array of objects.")
        if (name, language) in account.templates:
            raise _invalid(f"There is already a template {name} in {language}.")
        parameters, names = shape_of(components)
        template = Template(
            str(next(_ids)), name, language, category, "PENDING", parameters, names, components, pacing="none"
        )
        account.templates[name, language] = template
        self.changed(account, template, "APPROVED", after=_REVIEW_S)
        return json_reply({"id": template.id, "status": "PENDING", "category": category})

    def delete(self, account: Account, name: str) -> Reply:
        """In all its languages."""
        mine = [template for template in account.templates.values() if template.name == name]
        if not mine:
            raise MetaError("whatsapp", 100, message=f"(#100) There is no template {name}.", status=404)
        for template in mine:
            del account.templates[template.name, template.language]
            self.changed(account, template, "DELETED")
        return json_reply({"success": True})

    def changed(self, account: Account, template: Template, status: str, after: float = 0.0) -> None:
        """The template takes the new status after so many seconds, and the account is told."""
        at = self._clock.now() + after
        value = {
            "event": status,
            "message_template_id": int(template.id),
            "message_template_name": template.name,
            "message_template_language": template.language,
            "message_template_category": template.category,
            "reason": "NONE",
        }

        def happen() -> None:
            template.status = status

        notice = of_account(account, "message_template_status_update", value, at)
        self._pump.plan([Planned(at, happen, [(at, notice)])])


def _invalid(message: str) -> MetaError:
    return MetaError("whatsapp", 100, message=f"(#100) {message}")


def template_from(parameters: dict[str, Any]) -> dict[str, Any]:
    """A form's components come as JSON text. Raises MetaError."""
    components = parameters.get("components")
    if not isinstance(components, str):
        return parameters
    try:
        return {**parameters, "components": msgspec.json.decode(components)}
    except msgspec.DecodeError as error:
        raise _invalid(f"Param components is not JSON: {error}") from error
