"""A workspace with channels and accepted messages, for tests of what comes back: made by rows, nothing is sent."""

import itertools
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from pombo.domain.channels import ChannelKind
from pombo.domain.ids import WorkspaceId
from pombo.domain.sendkey import format_day, format_key
from pombo.store import accounts, channels
from pombo.store.database import Connection
from pombo.store.secrets import SecretBox

SECRET = "app secret of tests"
_runs = itertools.count(1)


@dataclass
class Message:
    workspace_id: int
    channel_id: int
    run_id: int
    id: int
    recipient: str
    intent_at: datetime

    @property
    def day(self) -> date:
        return self.intent_at.date()

    @property
    def provider_id(self) -> str:
        return f"m_{self.id}"

    @property
    def key(self) -> str:
        return format_key(self.id, 1, format_day(self.day))


class House:
    """One workspace, one Meta app, and channels that exist once they are named."""

    def __init__(self, workspace_id: int, app_id: int, box: SecretBox) -> None:
        self.workspace_id = workspace_id
        self.app_id = app_id
        self._box = box

    @classmethod
    async def build(cls, connection: Connection, box: SecretBox, name: str = "acme", secret: str = SECRET) -> "House":
        workspace_id = await accounts.ensure_workspace(connection, name)
        app = await accounts.ensure_app(connection, box, workspace_id, name, secret, f"verify {name}")
        return cls(workspace_id, app.id, box)

    async def channel(
        self, connection: Connection, external_id: str = "100", kind: ChannelKind = ChannelKind.MESSENGER
    ) -> int:
        return await channels.save_channel(
            connection,
            self._box,
            workspace_id=WorkspaceId(self.workspace_id),
            kind=kind,
            external_id=external_id,
            name=f"{kind} {external_id}",
            app_id=self.app_id,
            token="token",
            rate_per_second=40.0,
        )

    async def prepare(
        self,
        connection: Connection,
        channel_id: int,
        recipient: str = "psid",
        run_id: int | None = None,
        days_ago: int = 0,
    ) -> Message:
        """A message whose intent is stored now, its row nowhere yet."""
        row = await connection.fetchrow(
            "SELECT nextval('message_ids') AS id, clock_timestamp() - $1 * interval '1 day' AS at", days_ago
        )
        return Message(self.workspace_id, channel_id, run_id or next(_runs), row["id"], recipient, row["at"])

    async def queue(self, connection: Connection, message: Message, state: str = "s") -> None:
        """Into the outbox: on its way to Meta."""
        await connection.execute(
            """INSERT INTO outbox (workspace_id, id, channel_id, run_id, due_at, intent_at, attempt, state, recipient)
               VALUES ($1, $2, $3, $4, CASE WHEN $7 = 'u' THEN timestamptz 'infinity' ELSE $5 END, $5, 1,
                       $7::text::"char", $6)""",
            message.workspace_id,
            message.id,
            message.channel_id,
            message.run_id,
            message.intent_at,
            message.recipient,
            state,
        )

    async def accept(self, connection: Connection, message: Message) -> None:
        """Into the delivery log, as the outcome writer does, but without counting it."""
        await connection.execute(
            """INSERT INTO deliveries (workspace_id, id, day, run_id, channel_id, intent_at, accepted_at, state,
                                       attempt, recipient, provider_id)
               VALUES ($1, $2, $3, $4, $5, $6, $6, 2, 1, $7, $8)""",
            message.workspace_id,
            message.id,
            message.day,
            message.run_id,
            message.channel_id,
            message.intent_at,
            message.recipient,
            message.provider_id,
        )

    async def accepted(self, connection: Connection, channel_id: int, recipient: str = "psid", **more: Any) -> Message:
        message = await self.prepare(connection, channel_id, recipient, **more)
        await self.accept(connection, message)
        return message


async def row(connection: Connection, message: Message) -> dict[str, Any]:
    """What the delivery log says of it."""
    found = await connection.fetchrow(
        "SELECT * FROM deliveries WHERE workspace_id = $1 AND id = $2", message.workspace_id, message.id
    )
    return dict(found) if found else {}


async def figures(connection: Connection, run_id: int) -> dict[str, int]:
    """The run's figures that are not zero."""
    found = await connection.fetchrow(
        """SELECT sum(accepted) AS accepted, sum(delivered) AS delivered, sum(read) AS read, sum(failed) AS failed,
                  sum(undelivered) AS undelivered, sum(uncertain) AS uncertain, sum(sent_twice) AS sent_twice
           FROM run_deltas WHERE run_id = $1""",
        run_id,
    )
    return {name: int(value) for name, value in dict(found).items() if value}
