"""Campaigns that people answer: who replied is counted once a run and recipient, and what they answered to is copied
into the conversation, where it stays when the delivery log is gone.

A reply follows all campaign messages of the week before it; it answers the one that it quotes, or else the last one.
Both are found from the rows as they are, so that asking again changes nothing but what has come since: a message that
was settled only after its reply, ids that only now are known to be the same person's.
"""

from collections.abc import Collection, Sequence
from datetime import date, datetime, timedelta
from typing import NamedTuple

from pombo.store.database import Connection
from pombo.store.planning import columns

FOLLOWS_FOR = timedelta(days=7)


class Followed(NamedTuple):
    """A campaign message that a contact has answered, and its conversation does not show yet."""

    workspace_id: int
    conversation_id: int
    channel_id: int
    run_id: int
    message_id: int
    provider_id: str | None
    at: datetime
    state: int
    """DeliveryState.rank."""
    error_code: int | None
    error_title: str | None
    content: str
    """JSON text; its variables are gone, but for the contact's."""
    attributes: str
    """JSON text, the contact's."""


class CampaignCopy(NamedTuple):
    followed: Followed
    kind: str
    text: str | None
    content: str
    """JSON text."""


# WhatsApp counts whole seconds, so what came within the same one may look older than what it answers.
_SENT = """
who AS MATERIALIZED (
    SELECT w.workspace_id, w.contact_id, p.channel_id, p.attributes, c.id AS conversation_id
    FROM unnest($1::bigint[], $2::bigint[]) AS w (workspace_id, contact_id)
    CROSS JOIN LATERAL (
        SELECT channel_id, attributes FROM contacts WHERE workspace_id = w.workspace_id AND id = w.contact_id OFFSET 0
    ) p
    CROSS JOIN LATERAL (
        SELECT id FROM conversations
        WHERE workspace_id = w.workspace_id AND contact_id = w.contact_id AND channel_id + 0 = p.channel_id OFFSET 0
    ) c
), sent AS MATERIALIZED (
    SELECT w.workspace_id, w.contact_id, w.conversation_id, w.channel_id, w.attributes, d.*
    FROM who w
    CROSS JOIN LATERAL (
        SELECT workspace_id, channel_id, identity FROM identities
        WHERE workspace_id = w.workspace_id AND contact_id = w.contact_id OFFSET 0
    ) i
    CROSS JOIN LATERAL (
        SELECT id, day, run_id, recipient, intent_at, provider_id FROM deliveries d
        WHERE d.workspace_id = i.workspace_id AND d.channel_id = i.channel_id AND d.recipient = i.identity
          AND d.day BETWEEN $4 AND $5 AND d.run_id > 0 AND d.state >= 2
        OFFSET 0
    ) d
)"""

# Most who write have had no campaign, and most whom a receipt calls by another name have never written: this is done in
# a fifth of what the two below take, by a plan that is kept.
_REACHED = """
SELECT w.workspace_id, w.contact_id
FROM unnest($1::bigint[], $2::bigint[]) AS w (workspace_id, contact_id)
CROSS JOIN LATERAL (
    SELECT FROM conversations c
    JOIN identities i ON i.workspace_id = c.workspace_id AND i.contact_id = c.contact_id
    CROSS JOIN LATERAL (
        SELECT FROM deliveries d
        WHERE d.workspace_id = i.workspace_id AND d.channel_id = i.channel_id AND d.recipient = i.identity
          AND d.day BETWEEN (now() AT TIME ZONE 'UTC')::date - $3::integer AND (now() AT TIME ZONE 'UTC')::date + 1
          AND d.run_id > 0 AND d.state >= 2
        LIMIT 1
    ) d
    WHERE c.workspace_id = w.workspace_id AND c.contact_id = w.contact_id
    LIMIT 1
) reached
"""

# What is copied is locked until the copy is there: whoever changes it meanwhile waits, then finds the copy (`tell`).
_FOLLOWED = f"""
WITH {_SENT}, new AS MATERIALIZED (
    SELECT * FROM sent s
    WHERE EXISTS (
            SELECT FROM conversation_messages m
            WHERE m.workspace_id = s.workspace_id AND m.conversation_id = s.conversation_id AND m.author = 'contact'
              AND m.at > s.intent_at - interval '1 second' AND m.at < s.intent_at + $3)
      AND NOT EXISTS (SELECT FROM conversation_messages m WHERE m.workspace_id = s.workspace_id AND m.message_id = s.id)
    ORDER BY s.workspace_id, s.id
)
SELECT s.workspace_id, s.conversation_id, s.channel_id, s.run_id, s.id, d.provider_id, s.intent_at, d.state,
       d.error_code, d.error_title, r.content, s.attributes
FROM new s
CROSS JOIN LATERAL (
    SELECT provider_id, state, error_code, error_title FROM deliveries
    WHERE workspace_id = s.workspace_id AND id = s.id AND day = s.day AND day BETWEEN $4 AND $5
    OFFSET 0 FOR SHARE
) d
CROSS JOIN LATERAL (SELECT content FROM runs WHERE workspace_id = s.workspace_id AND id = s.run_id OFFSET 0) r
"""

_COUNT = f"""
WITH {_SENT}, reply AS (
    SELECT DISTINCT ON (m.workspace_id, m.id) s.workspace_id, s.run_id, s.channel_id, s.recipient, m.at, m.kind
    FROM sent s
    CROSS JOIN LATERAL (
        SELECT workspace_id, id, at, kind, reply_to FROM conversation_messages
        WHERE workspace_id = s.workspace_id AND conversation_id = s.conversation_id AND author = 'contact'
          AND at > s.intent_at - interval '1 second' AND at < s.intent_at + $3
        OFFSET 0
    ) m
    ORDER BY m.workspace_id, m.id, (s.provider_id = m.reply_to) DESC NULLS LAST, s.intent_at DESC, s.id DESC
), responses AS (
    SELECT workspace_id, run_id, channel_id, recipient, response, min(at) AS at
    FROM reply CROSS JOIN LATERAL unnest(ARRAY['replied', 'clicked']) AS response
    WHERE response = 'replied' OR kind = ANY ($6::text[])
    GROUP BY 1, 2, 3, 4, 5
), noted AS (
    INSERT INTO run_responses AS r (workspace_id, run_id, channel_id, recipient, response, at)
    SELECT * FROM responses ORDER BY 1, 2, 3, 4, 5
    ON CONFLICT (workspace_id, run_id, channel_id, recipient, response) DO UPDATE SET at = excluded.at
    WHERE excluded.at < r.at
    -- Of a row that was only updated it is the updater's id.
    RETURNING workspace_id, run_id, response, xmax = 0 AS is_new
)
INSERT INTO run_deltas (workspace_id, run_id, replied, clicked)
SELECT workspace_id, run_id, count(*) FILTER (WHERE response = 'replied'), count(*) FILTER (WHERE response = 'clicked')
FROM noted WHERE is_new GROUP BY 1, 2
"""

# Taps on what we sent, not words.
CLICKS = ("postback", "quick_reply", "button", "interactive")

# Of copies, by what the delivery log ranks from 2 on.
_STATES = "ARRAY['accepted', 'failed', 'delivered', 'read']"

_COPY = f"""
INSERT INTO conversation_messages (workspace_id, conversation_id, channel_id, direction, author, run_id, message_id,
                                   provider_id, at, state, error_code, error_title, kind, text, content)
SELECT workspace_id, conversation_id, channel_id, 'out', 'campaign', run_id, message_id, provider_id, at,
       ({_STATES})[state - 1], error_code, error_title, kind, text, content
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::text[], $7::timestamptz[],
            $8::smallint[], $9::integer[], $10::text[], $11::text[], $12::text[], $13::jsonb[])
    AS n (workspace_id, conversation_id, channel_id, run_id, message_id, provider_id, at, state, error_code,
          error_title, kind, text, content)
ORDER BY at
ON CONFLICT (workspace_id, channel_id, provider_id) DO NOTHING
RETURNING workspace_id, id, conversation_id
"""

_TELL = """
INSERT INTO reply_changes (workspace_id, message_id)
SELECT r.workspace_id, r.message_id
FROM unnest($1::bigint[], $2::bigint[]) AS r (workspace_id, message_id)
CROSS JOIN LATERAL (
    SELECT FROM conversation_messages
    WHERE workspace_id = r.workspace_id AND message_id = r.message_id AND author = 'campaign'
    OFFSET 0 LIMIT 1
) copy
"""


def _days(today: date) -> tuple[date, date]:
    """Of messages that a reply of now may follow; a month of empty partitions lies ahead, each costs a look."""
    return today - FOLLOWS_FOR - timedelta(days=1), today + timedelta(days=1)


async def reached(connection: Connection, contacts: Collection[tuple[int, int]]) -> list[tuple[int, int]]:
    """Those of these (workspace, contact) who have a conversation, and had a campaign message that a reply of now may
    follow.

    In a transaction planned `KEPT_AND_REPEATABLE`.
    """
    if not contacts:
        return []
    rows = await connection.fetch(_REACHED, *columns(contacts), FOLLOWS_FOR.days + 1)
    return [(row[0], row[1]) for row in rows]


async def count(connection: Connection, contacts: Collection[tuple[int, int]], today: date) -> None:
    """The runs that these (workspace, contact) have answered."""
    if contacts:
        await connection.execute(_COUNT, *columns(contacts), FOLLOWS_FOR, *_days(today), list(CLICKS))


async def followed(connection: Connection, contacts: Collection[tuple[int, int]], today: date) -> list[Followed]:
    """What these (workspace, contact) have answered and their conversations do not show yet; locked."""
    if not contacts:
        return []
    rows = await connection.fetch(_FOLLOWED, *columns(contacts), FOLLOWS_FOR, *_days(today))
    return [Followed(*row) for row in rows]


async def copy(connection: Connection, copies: Sequence[CampaignCopy]) -> list[tuple[int, int, int]]:
    """In the transaction that found them `followed`. Returns (workspace, id, conversation) of the new messages."""
    if not copies:
        return []
    rows = await connection.fetch(
        _COPY,
        *columns([(*one.followed[:10], one.kind, one.text, one.content) for one in copies]),
    )
    return [tuple(row) for row in rows]


async def tell(connection: Connection, messages: Sequence[tuple[int, int]]) -> None:
    """That these (workspace, message) of runs have changed in the delivery log; leaves word in `reply_changes` of those
    that a conversation shows.

    In the transaction that has changed them, and so holds their locks. Whoever copies one had its lock before, and then
    the copy is found here: this is a statement of its own, which sees what was committed while the other waited. Or
    they get it afterwards, and copy what has changed.
    """
    if messages:
        await connection.execute(_TELL, *columns(messages))
