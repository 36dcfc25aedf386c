"""Workspaces, API keys and Meta apps."""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from pombo.domain.ids import AgentId, AppId, WorkspaceId
from pombo.store.database import Connection
from pombo.store.errors import NotFound
from pombo.store.secrets import SecretBox

_KEY_PREFIX = "pombo_"


@dataclass(frozen=True, slots=True)
class MetaApp:
    workspace_id: WorkspaceId
    id: AppId
    name: str
    app_secrets: tuple[str, ...]
    """The current secret, then the one being rotated out, if any."""
    verify_token: str


async def find_workspace(connection: Connection, name: str) -> WorkspaceId:
    """Raises NotFound."""
    found = await connection.fetchval("SELECT id FROM workspaces WHERE name = $1", name)
    if found is None:
        raise NotFound(f"There is no workspace {name!r} yet: `pombo channel add` makes it.")
    return WorkspaceId(found)


async def ensure_workspace(connection: Connection, name: str) -> WorkspaceId:
    """The workspace of that name, made when missing."""
    found = await connection.fetchval("SELECT id FROM workspaces WHERE name = $1", name)
    if found is None:
        found = await connection.fetchval(
            "INSERT INTO workspaces (name) VALUES ($1) ON CONFLICT (name) DO UPDATE SET name = $1 RETURNING id", name
        )
    return WorkspaceId(found)


async def create_api_key(
    connection: Connection, workspace_id: WorkspaceId, name: str, agent_id: AgentId | None = None
) -> str:
    """The new key in clear, for the only time: `pombo_<workspace>_<secret>`. Only its hash is stored.

    With an agent, whoever has the key acts as that agent.
    """
    key = f"{_KEY_PREFIX}{workspace_id}_{secrets.token_urlsafe(32)}"
    await connection.execute(
        "INSERT INTO api_keys (workspace_id, name, key_hash, agent_id) VALUES ($1, $2, $3, $4)",
        workspace_id,
        name,
        _hash(key),
        agent_id,
    )
    return key


def workspace_of_key(key: str) -> WorkspaceId | None:
    """The workspace a key names, unverified; None for what is not shaped like a key."""
    head, _, secret = key.removeprefix(_KEY_PREFIX).partition("_")
    if not key.startswith(_KEY_PREFIX) or not secret or not (head.isascii() and head.isdecimal()) or len(head) > 18:
        return None
    return WorkspaceId(int(head))


async def find_api_key(
    connection: Connection, workspace_id: WorkspaceId, key: str
) -> tuple[int, AgentId | None] | None:
    """The id of the valid key and the agent it acts for, or None when it is unknown or revoked."""
    row = await connection.fetchrow(
        "SELECT id, agent_id FROM api_keys WHERE workspace_id = $1 AND key_hash = $2 AND revoked_at IS NULL",
        workspace_id,
        _hash(key),
    )
    return None if row is None else (row["id"], row["agent_id"])


async def valid_keys(connection: Connection, keys: Sequence[tuple[WorkspaceId, int]]) -> set[tuple[WorkspaceId, int]]:
    """Those of these (workspace, key id) that are not revoked."""
    rows = await connection.fetch(
        """SELECT workspace_id, id FROM api_keys
           WHERE (workspace_id, id) IN (SELECT * FROM unnest($1::bigint[], $2::bigint[])) AND revoked_at IS NULL""",
        *map(list, zip(*keys, strict=True)),
    )
    return {(row["workspace_id"], row["id"]) for row in rows}


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


async def list_apps(connection: Connection, box: SecretBox, workspace_id: WorkspaceId | None = None) -> list[MetaApp]:
    """All Meta apps of a workspace, or of all workspaces (the webhook receiver's view)."""
    rows = await connection.fetch(
        """SELECT workspace_id, id, name, app_secret, previous_app_secret, verify_token FROM meta_apps
           WHERE workspace_id = $1 OR $1 IS NULL ORDER BY workspace_id, id""",
        workspace_id,
    )
    return [
        MetaApp(
            row["workspace_id"],
            row["id"],
            row["name"],
            tuple(
                box.open(row["workspace_id"], sealed)
                for sealed in (row["app_secret"], row["previous_app_secret"])
                if sealed is not None
            ),
            box.open(row["workspace_id"], row["verify_token"]),
        )
        for row in rows
    ]


async def ensure_app(
    connection: Connection,
    box: SecretBox,
    workspace_id: WorkspaceId,
    name: str,
    app_secret: str,
    verify_token: str | None,
) -> MetaApp:
    """The workspace's app with this secret (its verify token changed if another is given), made when missing.

    Without a verify token a random one is made: the caller shows it, since Meta's dashboard asks for it.
    """
    for app in await list_apps(connection, box, workspace_id):
        if app_secret in app.app_secrets:
            if verify_token is None or verify_token == app.verify_token:
                return app
            await connection.execute(
                "UPDATE meta_apps SET verify_token = $3 WHERE workspace_id = $1 AND id = $2",
                workspace_id,
                app.id,
                box.seal(workspace_id, verify_token),
            )
            return MetaApp(workspace_id, app.id, app.name, app.app_secrets, verify_token)
    token = verify_token or secrets.token_urlsafe(24)
    app_id = await connection.fetchval(
        "INSERT INTO meta_apps (workspace_id, name, app_secret, verify_token) VALUES ($1, $2, $3, $4) RETURNING id",
        workspace_id,
        name,
        box.seal(workspace_id, app_secret),
        box.seal(workspace_id, token),
    )
    return MetaApp(workspace_id, app_id, name, (app_secret,), token)
