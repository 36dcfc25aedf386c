"""The data set's SQL, and names for its parts.

Twenty busy channels of 500. Each has a paused run whose messages were due first, then open runs; the first messages of
run `FLYING` are in flight, of `DOUBTFUL` in doubt, of `RETRIED` waiting for their second attempt.
"""

from itertools import count
from typing import NamedTuple

CHANNELS = 500
BUSY = 20
PAUSED_ROWS = 15_000  # of each busy channel, in its one paused run
OPEN_RUNS = 5
OPEN_ROWS = 10_000  # of each busy channel and open run
FLYING_ROWS = 250
ORPHANED = 2  # busy channels whose messages in flight are the dead worker's
DOUBTFUL_ROWS = 250
RETRIED_ROWS = 100
LOGGED_ROWS = 150_000  # of each of two days
KEPT_ROWS = 50_000  # pending receipts, watermarks
WEBHOOKS = 60_000

PAUSED, FLYING, DOUBTFUL, RETRIED, READY, ALSO_READY = range(1, 7)
LIVE, DEAD = 1, 2
"""Workers; the live one owns all channels, at epoch 2."""
EPOCH = 2

FIRST_OPEN = BUSY * PAUSED_ROWS + 1
FIRST_LOGGED = 10_000_001

SMALL = f"""
INSERT INTO workspaces (id, name) VALUES (1, 'acme'), (2, 'other');
INSERT INTO meta_apps (workspace_id, id, name, app_secret, verify_token) VALUES (1, 1, 'app', 's', 'v');
INSERT INTO channels (workspace_id, id, kind, external_id, name, app_id, token, rate_per_second)
SELECT 1, n, 'messenger', n::text, 'page ' || n, 1, 't', 40 FROM generate_series(1, {CHANNELS}) n;
INSERT INTO workers (id, name, pid, expires_at)
VALUES ({LIVE}, 'live', 1, 'infinity'), ({DEAD}, 'dead', 2, '-infinity');
INSERT INTO channel_leases (workspace_id, channel_id, worker_id, epoch)
SELECT 1, n, {LIVE}, {EPOCH} FROM generate_series(1, {CHANNELS}) n
ON CONFLICT (workspace_id, channel_id) DO UPDATE SET worker_id = {LIVE}, epoch = {EPOCH};
INSERT INTO campaigns (workspace_id, id, name, channel_ids) VALUES (1, 1, 'campaign', '{{1}}');
INSERT INTO runs (workspace_id, id, campaign_id, planned_at, state, source, content, channel_ids, expanded)
SELECT 1, n, 1, now() + n * interval '1 s', CASE WHEN n = {PAUSED} THEN 'paused' ELSE 'processing' END, 'staged',
       '{{"type": "text", "text": "Hello"}}', ARRAY(SELECT generate_series(1, {BUSY})), true
FROM generate_series(1, {OPEN_RUNS} + 1) n;
INSERT INTO streams (workspace_id, channel_id, run_id, state, acknowledged)
SELECT 1, c, r, CASE WHEN r = {PAUSED} THEN 'paused' ELSE 'open' END, r = {PAUSED}
FROM generate_series(1, {BUSY}) c, generate_series(1, {OPEN_RUNS} + 1) r;
"""

# Recipients and ids as they come; a run's rows of one channel lie together, as the expander writes them.
FILL = f"""
INSERT INTO outbox (workspace_id, id, channel_id, run_id, due_at, recipient)
SELECT 1, (c - 1) * {PAUSED_ROWS} + n, c, {PAUSED}, now() - interval '2 hours' + n * interval '1 us', '2000000' || n
FROM generate_series(1, {BUSY}) c, generate_series(1, {PAUSED_ROWS}) n;

INSERT INTO outbox (workspace_id, id, channel_id, run_id, due_at, intent_at, epoch, attempt, state, recipient,
                    error_code, error_title)
SELECT 1, {FIRST_OPEN} + (r - 2) * {BUSY * OPEN_ROWS} + (c - 1) * {OPEN_ROWS} + n - 1, c, r,
       CASE WHEN r = {DOUBTFUL} AND n <= {DOUBTFUL_ROWS} THEN 'infinity'
            ELSE now() - interval '1 hour' + n * interval '1 us' END,
       CASE WHEN tried THEN now() - interval '1 minute' END, CASE WHEN tried THEN 1 ELSE 0 END,
       CASE WHEN tried THEN 1 ELSE 0 END,
       CASE WHEN tried AND r = {FLYING} THEN 's' WHEN tried AND r = {DOUBTFUL} THEN 'u' ELSE 'r' END::"char",
       '2000000' || n, CASE WHEN tried AND r <> {FLYING} THEN 0 END, CASE WHEN tried AND r <> {FLYING} THEN 'lost' END
FROM generate_series(1, {BUSY}) c, generate_series(2, {OPEN_RUNS} + 1) r, generate_series(1, {OPEN_ROWS}) n
CROSS JOIN LATERAL (
    SELECT r = {FLYING} AND n <= {FLYING_ROWS} OR r = {DOUBTFUL} AND n <= {DOUBTFUL_ROWS}
        OR r = {RETRIED} AND n <= {RETRIED_ROWS} AS tried
) t;

INSERT INTO intents (worker_id, id, workspace_ids, message_ids)
SELECT CASE WHEN channel_id > {BUSY - ORPHANED} THEN {DEAD} ELSE {LIVE} END, channel_id, array_agg(workspace_id),
       array_agg(id)
FROM outbox WHERE state = 's' GROUP BY channel_id;

INSERT INTO doubts (workspace_id, message_id, channel_id, run_id, class, recipient, kind, attempt, intent_at, since,
                    worker_id, ended_at, decide_at, held, held_since)
SELECT 1, id, channel_id, run_id, 2, recipient, '', attempt, intent_at, now(), CASE WHEN id % 2 = 0 THEN {DEAD} END,
       CASE WHEN id % 2 = 1 THEN now() END, now() - interval '1 second', CASE WHEN id % 4 = 3 THEN 'no_evidence' END,
       CASE WHEN id % 4 = 3 THEN now() END
FROM outbox WHERE state = 'u';

INSERT INTO retries (workspace_id, message_id, channel_id, class, recipient)
SELECT 1, id, channel_id, 2, recipient FROM outbox WHERE attempt > 0 AND state = 'r';

INSERT INTO deliveries (workspace_id, id, day, run_id, channel_id, intent_at, accepted_at, state, attempt, recipient,
                        provider_id)
SELECT 1, {FIRST_LOGGED} + d * {LOGGED_ROWS} + n - 1, today - 1 + d, n % {OPEN_RUNS + 1} + 1, n % {BUSY} + 1,
       (today - 1 + d) AT TIME ZONE 'UTC' + n * interval '1 ms', (today - 1 + d) AT TIME ZONE 'UTC', 2, 1,
       '2000000' || n / {BUSY}, 'm_' || d * {LOGGED_ROWS} + n - 1
FROM (SELECT (now() AT TIME ZONE 'UTC')::date AS today) t, generate_series(0, 1) d,
     generate_series(1, {LOGGED_ROWS}) n;

INSERT INTO pending_receipts (workspace_id, channel_id, provider_id, state, at)
SELECT 1, n % {BUSY} + 1, 'foreign_' || n, 4, now() FROM generate_series(1, {KEPT_ROWS}) n;

INSERT INTO watermarks (workspace_id, channel_id, recipient, state, until)
SELECT 1, n % {BUSY} + 1, '3000000' || n, 4, now() FROM generate_series(1, {KEPT_ROWS}) n;

INSERT INTO webhook_log (workspace_id, id, day, app_id, received_at, body)
SELECT n % 2 + 1, n, (now() AT TIME ZONE 'UTC')::date, 1, now(), repeat('x', 100)::bytea
FROM generate_series(1, {WEBHOOKS}) n;
INSERT INTO webhook_queue (workspace_id, id, day) SELECT workspace_id, id, day FROM webhook_log;
"""


class Message(NamedTuple):
    id: int
    channel_id: int
    run_id: int


class Slices:
    """Messages of the data set; each call gives others, so that no test meets what another has touched."""

    def __init__(self) -> None:
        self._turns = count()

    def ready(self, number: int) -> list[Message]:
        """Waiting, evenly of all busy channels."""
        return self._of(READY, number, 0, OPEN_ROWS)

    def flying(self, number: int) -> list[Message]:
        """In flight, of the live worker's intents."""
        return self._of(FLYING, number, 0, FLYING_ROWS)

    def doubtful(self, number: int) -> list[Message]:
        return self._of(DOUBTFUL, number, 0, DOUBTFUL_ROWS)

    def _of(self, run_id: int, number: int, first: int, size: int) -> list[Message]:
        each = -(-number // BUSY)
        begin = next(self._turns) * each
        return [
            Message(
                FIRST_OPEN + (run_id - 2) * BUSY * OPEN_ROWS + (channel - 1) * OPEN_ROWS + (begin + n) % size,
                channel,
                run_id,
            )
            for channel in range(1, BUSY + 1)
            for n in range(each)
        ][:number]

    def logged(self, number: int, day: int = 1) -> list[tuple[int, int, str]]:
        """(id, channel, provider id) of accepted messages of yesterday (0) or today (1)."""
        begin = next(self._turns) * number
        found = []
        for n in range(begin, begin + number):
            line = n % LOGGED_ROWS
            offset = day * LOGGED_ROWS + line
            found.append((FIRST_LOGGED + offset, (line + 1) % BUSY + 1, f"m_{offset}"))
        return found
