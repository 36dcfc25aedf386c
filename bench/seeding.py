"""A database of Pombo's with channels, a run and its waiting messages, as the API and the expander would leave it."""

from dataclasses import dataclass

from bench.wire import FIRST_CHANNEL, TEXT, TOKEN, Wire
from pombo.store import accounts, channels
from pombo.store.database import Connection, Database
from pombo.store.secrets import SecretBox

SECRET_KEY = "a key of the bench, of 32 or more characters"
APP_SECRET = "bench-app-secret"
# Above any rate that this machine reaches, so that the pacer counts but never waits.
UNLIMITED = 1_000_000.0


@dataclass(frozen=True, slots=True)
class Seeded:
    workspace_id: int
    channel_ids: list[int]
    run_id: int
    api_key: str


async def seed(
    database: Database, wire: Wire, count: int, messages: int, *, rate: float = UNLIMITED, variables: bool = False
) -> Seeded:
    """`messages` of one run over `count` channels, due, in a closed stream: `open_stream` is the start signal."""
    box = SecretBox(SECRET_KEY)
    async with database.transaction() as connection:
        workspace_id = await accounts.ensure_workspace(connection, "bench")
        api_key = await accounts.create_api_key(connection, workspace_id, "bench")
        app = await accounts.ensure_app(connection, box, workspace_id, "bench", APP_SECRET, None)
        channel_ids: list[int] = [
            await channels.save_channel(
                connection,
                box,
                workspace_id=workspace_id,
                kind=wire.kind,
                external_id=str(FIRST_CHANNEL + number),
                name=f"Channel {number}",
                app_id=app.id,
                token=TOKEN,
                rate_per_second=rate,
            )
            for number in range(count)
        ]
    run_id = await add_run(database, workspace_id, channel_ids, messages, variables=variables)
    seeded = Seeded(workspace_id, channel_ids, run_id, api_key)
    await enqueue(database, wire, seeded, 0, messages, variables=variables)
    return seeded


async def add_run(
    database: Database, workspace_id: int, channel_ids: list[int], total: int, *, variables: bool = False
) -> int:
    """A run of so many messages, none of them there yet."""
    text = "Hello {{ first_name }}, your order is on its way." if variables else TEXT
    async with database.transaction() as connection:
        campaign_id = await connection.fetchval(
            "INSERT INTO campaigns (workspace_id, name, channel_ids) VALUES ($1, 'bench', $2) RETURNING id",
            workspace_id,
            channel_ids,
        )
        run_id: int = await connection.fetchval(
            """INSERT INTO runs (workspace_id, campaign_id, state, source, content, channel_ids, expanded)
               VALUES ($1, $2, 'processing', 'staged', jsonb_build_object('type', 'text', 'text', $3::text), $4, true)
               RETURNING id""",
            workspace_id,
            campaign_id,
            text,
            channel_ids,
        )
        await connection.execute("INSERT INTO run_totals (workspace_id, run_id) VALUES ($1, $2)", workspace_id, run_id)
        await connection.execute(
            "INSERT INTO run_deltas (workspace_id, run_id, total) VALUES ($1, $2, $3)", workspace_id, run_id, total
        )
    return run_id


async def enqueue(
    database: Database, wire: Wire, seeded: Seeded, first: int, count: int, *, variables: bool = False
) -> None:
    """Messages number `first` and on, round the channels in turn, due now; rings the bell."""
    # What one statement may take is bounded.
    at_once = 500_000
    for start in range(first, first + count, at_once):
        async with database.transaction() as connection:
            await connection.execute(
                """INSERT INTO outbox (workspace_id, id, channel_id, run_id, due_at, recipient, variables)
                   SELECT $1, nextval('message_ids'), ($3::bigint[])[1 + n % cardinality($3::bigint[])], $2, now(),
                          $6 || ($7::bigint + n)::text,
                          CASE WHEN $8 THEN jsonb_build_object('first_name', 'Name ' || n) END
                   FROM generate_series($4::bigint, $5::bigint - 1) n""",
                seeded.workspace_id,
                seeded.run_id,
                seeded.channel_ids,
                start,
                min(start + at_once, first + count),
                wire.prefix,
                wire.first_recipient,
                variables,
            )
            await connection.execute("SELECT pg_notify('pombo_due', '')")


async def open_stream(connection: Connection, seeded: Seeded, state: str = "open") -> None:
    await connection.execute(
        """INSERT INTO streams (workspace_id, channel_id, run_id, state)
           SELECT $1, unnest($2::bigint[]), $3, $4""",
        seeded.workspace_id,
        seeded.channel_ids,
        seeded.run_id,
        state,
    )
    await connection.execute("SELECT pg_notify('pombo_due', '')")
