"""What can be read and subscribed at Pages, phone numbers and WhatsApp accounts."""

from typing import Any

from pombo.sandbox.accounts import PAGE_FIELDS, Account, Channel, Template
from pombo.sandbox.errors import MetaError
from pombo.sandbox.reply import Reply, json_reply

_PHONE_DEFAULTS = (
    "verified_name",
    "code_verification_status",
    "display_phone_number",
    "quality_rating",
    "platform_type",
    "throughput",
    "id",
)
# Meta gives 25 entries a page unless asked for more.
_PAGE_SIZE = 25
_MAX_PAGE_SIZE = 1000


def read_channel(channel: Channel, query: dict[str, str]) -> Reply:
    if channel.kind == "messenger":
        return _fields({"id": channel.id, "name": channel.name, "category": "Sandbox"}, query, ("name", "id"))
    return _fields(_phone(channel), query, _PHONE_DEFAULTS)


def read_account(account: Account, query: dict[str, str]) -> Reply:
    node = {
        "id": account.id,
        "name": f"WhatsApp account {account.id}",
        "timezone_id": "1",
        "message_template_namespace": f"sandbox_{account.id}",
    }
    return _fields(node, query, tuple(node))


def list_phone_numbers(channels: list[Channel], query: dict[str, str]) -> Reply:
    wanted = _wanted(query, _PHONE_DEFAULTS)
    return _listing([_pick(_phone(channel), wanted) for channel in channels], query)


def list_templates(account: Account, query: dict[str, str]) -> Reply:
    found = [
        _template(template)
        for template in account.templates.values()
        if query.get("name", template.name) == template.name
        and query.get("status", template.status) == template.status
        and query.get("language", template.language) == template.language
    ]
    wanted = _wanted(query, ("name", "parameter_format", "components", "language", "status", "category", "id"))
    summary = {
        "total_count": len(found),
        "message_template_count": len(account.templates),
        "message_template_limit": 6000,
        "are_translations_complete": True,
    }
    asked = query.get("summary", "").split(",")
    return _listing(
        [_pick(node, wanted) for node in found], query, {name: summary[name] for name in asked if name in summary}
    )


def page_subscriptions(method: bytes, channel: Channel, parameters: dict[str, Any]) -> Reply:
    app = channel.app
    if method == b"POST":
        given = parameters.get("subscribed_fields", "")
        fields = given if isinstance(given, list) else str(given).split(",")
        fields = [str(name).strip() for name in fields if str(name).strip()]
        if not fields:
            raise MetaError("messenger", 100, message="(#100) The parameter subscribed_fields is required.")
        channel.subscribed_fields = frozenset(fields)
        return json_reply({"success": True})
    if method == b"DELETE":
        channel.subscribed_fields = frozenset()
        return json_reply({"success": True})
    if not channel.subscribed_fields:
        return json_reply({"data": []})
    known = [name for name in PAGE_FIELDS if name in channel.subscribed_fields]
    fields = known + sorted(channel.subscribed_fields - set(known))
    entry = {"category": "Business", "link": "", "name": app.name, "id": app.id, "subscribed_fields": fields}
    return json_reply({"data": [entry]})


def account_subscriptions(method: bytes, account: Account) -> Reply:
    if method in (b"POST", b"DELETE"):
        account.subscribed = method == b"POST"
        return json_reply({"success": True})
    app = account.app
    data = {"whatsapp_business_api_data": {"link": "", "name": app.name, "id": app.id}}
    return json_reply({"data": [data] if account.subscribed else []})


def _phone(channel: Channel) -> dict[str, Any]:
    return {
        "id": channel.id,
        "display_phone_number": channel.display_phone_number,
        "verified_name": channel.name,
        "code_verification_status": "VERIFIED",
        "quality_rating": "GREEN",
        "platform_type": "CLOUD_API",
        "throughput": {"level": "STANDARD"},
        "whatsapp_business_manager_messaging_limit": "TIER_UNLIMITED",
        "name_status": "APPROVED",
        "status": "CONNECTED",
    }


def _template(template: Template) -> dict[str, Any]:
    return {
        "id": template.id,
        "name": template.name,
        "language": template.language,
        "status": template.status,
        "category": template.category,
        "parameter_format": "NAMED" if template.names else "POSITIONAL",
        "components": template.components,
        "quality_score": {"score": "GREEN", "date": 1767225600},
    }


def _wanted(query: dict[str, str], defaults: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name.strip() for name in query["fields"].split(",")) if query.get("fields") else defaults


def _pick(node: dict[str, Any], wanted: tuple[str, ...]) -> dict[str, Any]:
    """The wanted fields that exist; Meta always adds the id."""
    return {name: node[name] for name in dict.fromkeys((*wanted, "id")) if name in node}


def _fields(node: dict[str, Any], query: dict[str, str], defaults: tuple[str, ...]) -> Reply:
    return json_reply(_pick(node, _wanted(query, defaults)))


def _listing(nodes: list[dict[str, Any]], query: dict[str, str], summary: dict[str, Any] | None = None) -> Reply:
    """One page; a cursor is the position of an entry. `next` is missing on the last page."""
    try:
        start = int(query.get("after", "-1")) + 1
        size = min(_MAX_PAGE_SIZE, max(1, int(query.get("limit", _PAGE_SIZE))))
    except ValueError:
        raise MetaError("messenger", 100, message="(#100) Invalid cursor or limit.") from None
    page = nodes[start : start + size]
    answer: dict[str, Any] = {"data": page}
    if summary:
        answer["summary"] = summary
    if page:
        answer["paging"] = {"cursors": {"before": str(start), "after": str(start + len(page) - 1)}}
        if start + len(page) < len(nodes):
            answer["paging"]["next"] = f"?after={start + len(page) - 1}"
    return json_reply(answer)
