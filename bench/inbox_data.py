"""An inbox of any size, made by the database: conversations of three years, whose words are as uneven as in life.

The tables are filled before their indexes are made, which is many times faster.
"""

import asyncpg

AGENTS = 20
LABELS = 10
WORDS = 50_000
"""In the dictionary: word `w<n>` is in about 22 % of all messages for n = 0, one in 300,000 at the end."""
LONG = 50_000
"""Messages of the longest conversation, the first one."""

# Foreign keys and triggers would look at every row; what they guard is right by construction.
_PREPARE = """
SET session_replication_role = replica;
CREATE TEMPORARY TABLE made AS
SELECT indexrelid::regclass::text AS name, pg_get_indexdef(indexrelid) AS definition FROM pg_index
WHERE indrelid IN ('conversations'::regclass, 'conversation_messages'::regclass, 'contacts'::regclass)
  AND NOT indisprimary AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid);
DO $$
DECLARE
    name text;
BEGIN
    FOR name IN SELECT m.name FROM made m LOOP
        EXECUTE 'DROP INDEX ' || name;
    END LOOP;
END
$$;
"""

_FINISH = """
SET maintenance_work_mem = '1GB';
DO $$
DECLARE
    definition text;
BEGIN
    FOR definition IN SELECT m.definition FROM made m LOOP
        EXECUTE definition;
    END LOOP;
END
$$;
"""

_PEOPLE = f"""
INSERT INTO agents (workspace_id, id, name, created_at)
SELECT $1, n, 'Agent ' || n, now() - interval '1 year' FROM generate_series(1, {AGENTS}) n;
"""
_LABELS = f"""
INSERT INTO labels (workspace_id, id, name, colour)
SELECT $1, n, 'label ' || n, '#00aa00' FROM generate_series(1, {LABELS}) n;
"""

_CONTACTS = """
INSERT INTO contacts (workspace_id, id, channel_id, external_id, name)
SELECT $1, n, ($2::bigint[])[1 + n % cardinality($2)], '+3519' || (10000000 + n),
       initcap('n' || to_hex(hashint4(n::integer) & 4095)) || ' s' || to_hex(hashint4((n + 7)::integer) & 65535)
FROM generate_series(1, $3::bigint) n
"""

# One in twenty is open; of the open ones a third is nobody's. The first label is on 40 % of all, each further one on a
# third as many as the one before. `last_inbound_id` is only compared with what agents have read: any number serves.
_CONVERSATIONS = f"""
INSERT INTO conversations (workspace_id, id, channel_id, contact_id, status, snoozed_until, assignee_id, label_ids,
                           unread, last_message_at, last_inbound_at, last_inbound_id, preview)
SELECT $1, n, ($2::bigint[])[1 + n % cardinality($2)], n, s.status,
       CASE WHEN s.status = 'snoozed' THEN now() + interval '1 day' END,
       CASE WHEN s.status <> 'open' OR n % 3 > 0 THEN 1 + hashint8(n) & 15 END,
       ARRAY(SELECT l FROM generate_series(1, {LABELS}) l
             WHERE (hashint8(n * 31 + l) & 65535) < 26000 / power(3, l - 1)),
       CASE WHEN s.status = 'open' AND n % 2 = 0 THEN 1 ELSE 0 END,
       s.at, s.at, n, 'What I wrote last'
FROM generate_series(1, $3::bigint) n
CROSS JOIN LATERAL (
    SELECT now() - interval '3 years' * power(random(), 2) AS at,
           CASE WHEN n % 20 = 0 THEN 'open' WHEN n % 100 = 1 THEN 'snoozed' ELSE 'closed' END AS status
) s
"""

# As the trigger would have.
_LABELLED = """
INSERT INTO conversation_labels (workspace_id, conversation_id, label_id, status, last_message_at)
SELECT c.workspace_id, c.id, l, c.status, c.last_message_at FROM conversations c, unnest(c.label_ids) l
"""

# Agent 1 has read a lot.
_READS = """
INSERT INTO conversation_reads (workspace_id, conversation_id, agent_id, until)
SELECT workspace_id, id, 1, last_inbound_id FROM conversations WHERE id % 7 = 0
"""

_MESSAGES = f"""
INSERT INTO conversation_messages (workspace_id, id, conversation_id, channel_id, direction, author, provider_id, kind,
                                   text, state, at)
SELECT $1, n, c.id, ($2::bigint[])[1 + c.id % cardinality($2)], CASE WHEN n % 2 = 0 THEN 'in' ELSE 'out' END,
       CASE WHEN n % 2 = 0 THEN 'contact' ELSE 'agent' END, 'm.' || n, 'text',
       (SELECT string_agg('w' || floor({WORDS} * power(random(), 8))::integer, ' ') FROM generate_series(1, 8 + 0 * n)),
       CASE WHEN n % 2 = 1 THEN 'read' END, now() - interval '3 years' * ($5 - n)::float8 / $5
FROM generate_series($3::bigint, $4::bigint) n
CROSS JOIN LATERAL (
    SELECT CASE WHEN n % ($5 / {LONG} + 1) = 0 THEN 1 ELSE 1 + (hashint8(n) & 2147483647) % $6 END AS id
) c
"""
_PIECE = 500_000


async def fill(
    connection: "asyncpg.Connection", workspace_id: int, channel_ids: list[int], conversations: int, messages: int
) -> None:
    """By a superuser, with Pombo's schema in the search path."""
    await connection.execute(_PREPARE)
    await connection.execute(_PEOPLE, workspace_id)
    await connection.execute(_LABELS, workspace_id)
    for statement in (_CONTACTS, _CONVERSATIONS):
        await connection.execute(statement, workspace_id, channel_ids, conversations, timeout=600)
    await connection.execute(_LABELLED, timeout=600)
    await connection.execute(_READS)
    for first in range(1, messages + 1, _PIECE):
        last = min(messages, first + _PIECE - 1)
        await connection.execute(
            _MESSAGES, workspace_id, channel_ids, first, last, messages, conversations, timeout=600
        )
    await connection.execute(_FINISH, timeout=3600)
    for table in ("agents", "labels", "contacts", "conversations", "conversation_messages"):
        await connection.execute(f"SELECT setval('{table}_id_seq', (SELECT max(id) FROM {table}))")
