-- Classes of messages, doubts with an end, pausing and cancelling, suppressions.

-- --- classes and order -----------------------------------------------------------------------------------------------
-- class: pombo.domain.classes.MessageClass (0 reply, 1 transactional, 2 bulk).
ALTER TABLE runs ADD COLUMN class smallint NOT NULL DEFAULT 2 CHECK (class IN (1, 2));
ALTER TABLE streams ADD COLUMN class smallint NOT NULL DEFAULT 2 CHECK (class BETWEEN 0 AND 2);
-- A channel's direct messages (of no run) are streams with a run_id of 0 (replies) or less; they are closed when nothing
-- was queued for some time, which is told by this.
ALTER TABLE streams ADD COLUMN touched_at timestamptz NOT NULL DEFAULT now();
-- A direct message brings its own content; a run's messages share the run's.
ALTER TABLE outbox ADD COLUMN content jsonb CHECK (jsonb_typeof(content) = 'object');
-- An intent updates whole pages' worth of neighbours at once: with half a page free all of them are heap-only, with the
-- former 30 % less than half, and an intent of 500 takes 3 ms instead of 6.
ALTER TABLE outbox SET (fillfactor = 45);
-- Messages that wait for another attempt: a channel's new owner finds here whom it must hold later messages for.
CREATE TABLE retries (
    workspace_id bigint NOT NULL,
    message_id bigint NOT NULL,
    channel_id bigint NOT NULL,
    class smallint NOT NULL,
    recipient text NOT NULL,
    PRIMARY KEY (workspace_id, message_id)
);
CREATE INDEX retries_by_channel ON retries (workspace_id, channel_id);

-- Owners look at what has changed, not at every channel each second.
ALTER TABLE channels ADD COLUMN changed_at timestamptz NOT NULL DEFAULT clock_timestamp();
CREATE FUNCTION note_channel_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.changed_at := clock_timestamp();
    RETURN NEW;
END
$$;
CREATE TRIGGER channel_changed BEFORE UPDATE ON channels FOR EACH ROW EXECUTE FUNCTION note_channel_change();

-- --- doubts ----------------------------------------------------------------------------------------------------------
-- pombo.domain.doubt has the rule, and what these two mean.
ALTER TABLE channels
    ADD COLUMN doubt_policy text NOT NULL DEFAULT 'safe' CHECK (doubt_policy IN ('safe', 'hold', 'resend', 'fail')),
    ADD COLUMN doubt_grace_s double precision NOT NULL DEFAULT 120 CHECK (doubt_grace_s > 0);

-- Evidence of one kind of message says nothing of another: Meta paces and holds templates one by one.
CREATE FUNCTION message_kind(content jsonb) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN content ->> 'type' = 'template'
        THEN concat('template ', content ->> 'name', ' ', content ->> 'language')
    WHEN content ->> 'type' = 'raw' AND content -> 'payload' ? 'template'
        THEN concat('template ', content #>> '{payload,template,name}', ' ',
                    content #>> '{payload,template,language,code}')
    ELSE 'session'
END;
-- That of a direct message, whose content is gone when it is settled; a run's content tells that of its messages.
ALTER TABLE deliveries ADD COLUMN kind text;

-- Whom and what a doubt is about, so that nobody need look into the outbox; and when and how it is decided.
ALTER TABLE doubts
    ADD COLUMN run_id bigint,
    ADD COLUMN class smallint,
    ADD COLUMN recipient text,
    ADD COLUMN kind text,
    ADD COLUMN attempt smallint,
    ADD COLUMN intent_at timestamptz,
    -- Whose attempt it was, if that worker did not report the doubt itself: then its end must be proven.
    ADD COLUMN worker_id bigint,
    -- Since when nothing of the attempt can leave any more.
    ADD COLUMN ended_at timestamptz,
    -- The end of the grace as far as is known; later messages to the recipient wait until then at most.
    ADD COLUMN decide_at timestamptz,
    -- pombo.domain.doubt.HoldReason; null until the grace is over.
    ADD COLUMN held text,
    ADD COLUMN held_since timestamptz,
    ADD CHECK ((held IS NULL) = (held_since IS NULL));
DELETE FROM doubts d WHERE NOT EXISTS (
    SELECT FROM outbox o WHERE o.workspace_id = d.workspace_id AND o.id = d.message_id);
UPDATE doubts d SET
    run_id = o.run_id, class = 2, recipient = o.recipient, attempt = o.attempt, intent_at = o.intent_at,
    kind = message_kind((SELECT content FROM runs r WHERE r.workspace_id = o.workspace_id AND r.id = o.run_id)),
    ended_at = now(), decide_at = now() + interval '2 minutes'
FROM outbox o WHERE o.workspace_id = d.workspace_id AND o.id = d.message_id;
ALTER TABLE doubts
    ALTER COLUMN run_id SET NOT NULL, ALTER COLUMN class SET NOT NULL, ALTER COLUMN recipient SET NOT NULL,
    ALTER COLUMN kind SET NOT NULL, ALTER COLUMN attempt SET NOT NULL, ALTER COLUMN intent_at SET NOT NULL,
    ALTER COLUMN decide_at SET NOT NULL;
CREATE INDEX doubts_by_channel ON doubts (workspace_id, channel_id, message_id);
CREATE INDEX doubts_by_run ON doubts (workspace_id, run_id, message_id);

-- How far webhooks have told of what was sent: the latest intent for which evidence with our key has come back.
CREATE TABLE channel_evidence (
    workspace_id bigint NOT NULL,
    channel_id bigint NOT NULL,
    kind text NOT NULL,
    intent_at timestamptz NOT NULL,
    PRIMARY KEY (workspace_id, channel_id, kind)
) WITH (fillfactor = 50);

-- Messages that Meta accepted more than once, with each further id: kept when the delivery log is long gone.
CREATE TABLE sent_twice (
    workspace_id bigint NOT NULL,
    run_id bigint NOT NULL,
    message_id bigint NOT NULL,
    provider_id text NOT NULL,
    first_provider_id text NOT NULL,
    channel_id bigint NOT NULL,
    recipient text NOT NULL,
    found_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (workspace_id, run_id, message_id, provider_id)
);

-- What was received before a grace ended must be read before its doubt is decided. (Rows of now count as received now.)
ALTER TABLE webhook_queue ADD COLUMN received_at timestamptz NOT NULL DEFAULT now();

-- --- pausing and cancelling ------------------------------------------------------------------------------------------
-- pombo.store.runs has the diagram; pombo.store.run_control says who moves a run from one state to the next.
ALTER TABLE runs DROP CONSTRAINT runs_state_check;
ALTER TABLE runs ADD CONSTRAINT runs_state_check CHECK (state IN
    ('pending', 'processing', 'pausing', 'paused', 'cancelling', 'completed', 'failed', 'cancelled'));
-- Why Pombo itself paused the run; null when a person did.
ALTER TABLE runs ADD COLUMN pause_reason text CHECK (pause_reason <> '');
ALTER TABLE runs ADD CHECK (pause_reason IS NULL OR state IN ('pausing', 'paused'));
-- Errors of before then, of which Meta may tell late, do not pause it again.
ALTER TABLE runs ADD COLUMN resumed_at timestamptz;
DROP INDEX runs_unfinished;
CREATE INDEX runs_unfinished ON runs (workspace_id, id)
    WHERE state IN ('pending', 'processing', 'pausing', 'paused', 'cancelling');
-- `pauses` counts a stream's pauses, so that a late acknowledgement of an earlier one says nothing of this one.
ALTER TABLE streams ADD COLUMN pauses integer NOT NULL DEFAULT 0;
-- Whether the channel's owner has said that no further send of the paused stream will start.
ALTER TABLE streams ADD COLUMN acknowledged boolean NOT NULL DEFAULT false;
ALTER TABLE streams ADD CHECK (state = 'paused' OR NOT acknowledged);
-- Nothing of the workspace is sent while it has a row here: the panic button. `number` tells one halt from the next.
CREATE TABLE halts (
    workspace_id bigint PRIMARY KEY,
    number bigint NOT NULL GENERATED BY DEFAULT AS IDENTITY,
    since timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Null until every owner of a channel has acknowledged, or its lease has ended.
    halted_at timestamptz
);
GRANT USAGE, SELECT ON SEQUENCE halts_number_seq TO pombo_worker, pombo_app;
-- The last halt that the channel's owner has acknowledged.
ALTER TABLE channel_leases ADD COLUMN acknowledged_halt bigint NOT NULL DEFAULT 0;

-- --- consequences of errors ------------------------------------------------------------------------------------------
-- Who wants no more campaigns, by Meta's word (then with its code) or the workspace's own.
CREATE TABLE suppressions (
    workspace_id bigint NOT NULL,
    kind text NOT NULL CHECK (kind IN ('messenger', 'whatsapp')),
    -- In the form of outbox.recipient.
    recipient text NOT NULL CHECK (recipient <> ''),
    reason text NOT NULL CHECK (reason <> ''),
    code text,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (workspace_id, kind, recipient)
);
-- How long a channel leaves Meta alone, for lanes that did not hear it themselves: a new owner's, and those of other
-- workers when the whole Meta app or WhatsApp account is concerned. A breaker's row goes when it closes; a throttle's
-- means nothing once it is over.
CREATE TABLE cooldowns (
    workspace_id bigint NOT NULL,
    channel_id bigint NOT NULL,
    cause text NOT NULL CHECK (cause IN ('breaker', 'throttle')),
    until timestamptz NOT NULL,
    -- Failures, or pauses, in a row.
    step integer NOT NULL CHECK (step >= 0),
    reason text NOT NULL,
    PRIMARY KEY (workspace_id, channel_id, cause),
    FOREIGN KEY (workspace_id, channel_id) REFERENCES channels (workspace_id, id) ON DELETE CASCADE
) WITH (fillfactor = 50);

-- --- rates -----------------------------------------------------------------------------------------------------------
-- A worker's part of the global rate, leased with its heartbeat: the parts of live workers never add up to more.
ALTER TABLE workers ADD COLUMN rate_slice double precision;
-- What was learnt of a channel's rate, so that a new owner does not begin too fast.
ALTER TABLE channel_leases ADD COLUMN learned_rate double precision CHECK (learned_rate > 0);

-- --- rights ----------------------------------------------------------------------------------------------------------
DO $$
DECLARE
    tenant text;
BEGIN
    FOR tenant IN
        SELECT c.relname FROM pg_class c
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'workspace_id' AND NOT a.attisdropped
        WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
          AND NOT c.relrowsecurity
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', tenant);
        EXECUTE format(
            'CREATE POLICY workspace ON %I TO pombo_app
             USING (workspace_id = current_workspace()) WITH CHECK (workspace_id = current_workspace())', tenant);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO pombo_worker, pombo_app', tenant);
    END LOOP;
END
$$;
