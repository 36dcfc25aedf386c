"""Environment variables of the old programs that Pombo does not read, each with what takes its place (row A15).

Those that still work are settings under their old names; see `pombo.settings`.
"""

import re
from collections.abc import Mapping

_MESSENGER, _WHATSAPP = "`pombo channel add messenger", "`pombo channel add whatsapp"

# By exact name. Every sentence goes on after the variable's name.
SUCCESSORS: dict[str, str] = {
    "LOG_SCHEMA": "is ignored: the delivery log is `pombo.deliveries`, in Pombo's own schema.",
    "POSTGRES_HOST": "is not read: call it DB_HOST, or give DATABASE_URL.",
    "POSTGRES_PORT": "is not read: call it DB_PORT, or give DATABASE_URL.",
    "POSTGRES_USER": "is not read: call it DB_USER, or give DATABASE_URL.",
    "POSTGRES_PASSWORD": "is not read: call it DB_PASSWORD, or give DATABASE_URL.",
    "POSTGRES_DB": "is not read: call it DB_NAME, or give DATABASE_URL.",
    "CIRCUIT_BREAKER_TIMEOUT": "is not read: give CIRCUIT_BREAKER_TIMEOUT_MS, in milliseconds.",
    "FB_APP_ID": "is not needed: an app is known by its secret, `pombo channel add --app-secret`.",
    "FB_APP_SECRET": f"is not read: give it to {_MESSENGER} --app-secret`.",
    "FB_VERIFY_TOKEN": f"is not read: give it to {_MESSENGER} --verify-token`.",
    "FB_PAGE_ACCESS_TOKEN": f"is not read: give it to {_MESSENGER} --token`.",
    "WHATSAPP_ACCESS_TOKEN": f"is not read: give it to {_WHATSAPP} --token`.",
    "WHATSAPP_APP_SECRET": f"is not read: give it to {_WHATSAPP} --app-secret`.",
    "WHATSAPP_VERIFY_TOKEN": f"is not read: give it to {_WHATSAPP} --verify-token`.",
}

# By the beginning of the name, for whatever has no line of its own above.
FAMILIES: dict[str, str] = {
    "REDIS_": "is ignored: Pombo needs no Redis.",
    "SUPABASE_": "is not read: Pombo takes nothing over from Supabase yet (its PostgreSQL does as DATABASE_URL).",
    "FB_": f"is not read: Pages and their tokens are given to {_MESSENGER}`.",
    "WHATSAPP_": f"is not read: numbers and their tokens are given to {_WHATSAPP}`.",
}

API_URL = "WHATSAPP_API_URL"
_PHONE_NUMBER_ID = re.compile(r"/v\d+\.\d+/(\d+)")


def legacy_notices(environ: Mapping[str, str]) -> list[str]:
    """One sentence for each old variable that is set, in the order of their names; never a value that may be secret.

    Upper and lower case are the same and an empty value is none, as for the settings.
    """
    given = {name.upper(): value for name, value in environ.items() if value}
    return [f"{name} {says}" for name in sorted(given) if (says := _says(name, given[name])) is not None]


def _says(name: str, value: str) -> str | None:
    if name == API_URL:
        number = _PHONE_NUMBER_ID.search(value)
        external_id = number.group(1) if number else "ID"
        return f"is not read: give the id in it to {_WHATSAPP} --external-id {external_id}`; its version is ignored."
    if name in SUCCESSORS:
        return SUCCESSORS[name]
    return next((says for beginning, says in FAMILIES.items() if name.startswith(beginning)), None)
