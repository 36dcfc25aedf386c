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

-- --- pausing and cancelling ------------------------------------------------------------------------------------------

-- --- consequences of errors ------------------------------------------------------------------------------------------

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
