-- Search in contacts and messages: words folded, filed by time, and the two functions that find them.

-- Letters without case and accents, as people type them into a search field.
CREATE FUNCTION fold(value text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN lower(regexp_replace(normalize(value, NFKD), '[\u0300-\u036f]', '', 'g'));

-- What an index of words cannot do is to be read from the newest down. So each message is also filed under the spans of
-- time that it lies in: of 2^12 s (68 min), eight times that (9 h, 3 days, 24 days, 194 days), and all of its workspace.
-- Words never begin with @.
CREATE FUNCTION span_term(workspace_id bigint, level integer, span bigint) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN '@' || workspace_id || '/' || level || '/' || span;

CREATE FUNCTION message_terms(workspace_id bigint, at timestamptz, value text) RETURNS tsvector
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (
    SELECT to_tsvector('simple'::regconfig, fold(left(value, 20000))) || array_to_tsvector(ARRAY[
        span_term(workspace_id, 0, second >> 12), span_term(workspace_id, 1, second >> 15),
        span_term(workspace_id, 2, second >> 18), span_term(workspace_id, 3, second >> 21),
        span_term(workspace_id, 4, second >> 24), span_term(workspace_id, 5, 0)])
    FROM (SELECT floor(extract(epoch FROM at AT TIME ZONE 'UTC'))::bigint AS second) AS moment
);
-- Without the list of pending entries, which every search would have to read through.
CREATE INDEX messages_by_term ON conversation_messages
    USING gin (message_terms(workspace_id, at, text)) WITH (fastupdate = off) WHERE text <> '';

CREATE FUNCTION contact_terms(workspace_id bigint, name text) RETURNS tsvector
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN to_tsvector('simple'::regconfig, fold(name)) || array_to_tsvector(ARRAY['@' || workspace_id]);
CREATE INDEX contacts_by_term ON contacts
    USING gin (contact_terms(workspace_id, name)) WITH (fastupdate = off) WHERE name <> '';
CREATE INDEX contacts_by_name ON contacts (workspace_id, fold(name) text_pattern_ops) WHERE name <> '';
CREATE INDEX contacts_by_address ON contacts (workspace_id, external_id text_pattern_ops);
CREATE INDEX identities_by_beginning ON identities (workspace_id, identity text_pattern_ops);

-- These run with their owner's rights, because row-level security keeps conditions like @@ from every index; so they name
-- the workspace themselves.

-- The newest messages with all the words, before a moment. It goes back through time by spans of three days, and by wider
-- ones where they end; one with too many of them is taken in parts. What is hardly in the messages of some days is rare
-- enough to be gathered whole.
CREATE FUNCTION search_messages(words text, before timestamptz, before_id bigint, wanted integer)
RETURNS TABLE (conversation_id bigint, message_id bigint, at timestamptz)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pombo, pg_temp SET enable_seqscan = off SET enable_bitmapscan = on
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    workspace bigint := current_workspace();
    query tsquery := plainto_tsquery('simple', fold(words));
    -- Levels of spans: where it begins, the widest, all.
    first constant integer := 2;
    widest constant integer := 4;
    whole constant integer := 5;
    crowd constant integer := 500;  -- some milliseconds' worth of rows, should none be in memory
    span bigint := floor(extract(epoch FROM before AT TIME ZONE 'UTC'))::bigint >> 12;
    oldest constant bigint := extract(epoch FROM timestamp '2010-01-01')::bigint >> 12;
    level integer;
    highest integer := widest;
    looked integer := 0;
    passed integer := 0;  -- messages of whatever words in what was looked at, up to a crowd
    decided boolean := false;  -- whether it is rare
    found integer := 0;
    hits record;
BEGIN
    IF workspace IS NULL OR numnode(query) = 0 THEN
        RETURN;
    END IF;
    WHILE found < wanted AND span >= oldest LOOP
        level := least(highest, first);
        IF NOT decided AND looked >= 2 AND passed >= crowd THEN
            decided := true;
            level := CASE WHEN found < 3 THEN whole ELSE level END;
        END IF;
        WHILE level < highest AND (span + 1) % (1::bigint << 3 * (level + 1)) = 0 LOOP
            level := level + 1;
        END LOOP;
        WITH hit AS MATERIALIZED (
            SELECT m.conversation_id, m.id, m.at FROM conversation_messages m
            WHERE message_terms(m.workspace_id, m.at, m.text) @@ (query && quote_literal(span_term(
                      workspace, level, CASE WHEN level = whole THEN 0 ELSE span >> 3 * level END))::tsquery)
              AND m.text <> ''
            LIMIT CASE WHEN level > 0 THEN crowd END
        ), newest AS (
            SELECT * FROM hit h
            WHERE (h.at, h.id) < (before, before_id)
              AND (level < whole OR h.at < to_timestamp((span + 1) << 12))  -- what is newer was found already
            ORDER BY h.at DESC, h.id DESC LIMIT wanted - found
        )
        SELECT (SELECT count(*) FROM hit) AS many, array_agg(n.conversation_id) AS conversations,
               array_agg(n.id) AS ids, array_agg(n.at) AS times
        INTO hits FROM newest n;
        IF level > 0 AND hits.many >= crowd THEN
            decided := true;
            -- Of a whole workspace there is no next smaller part: the way back goes on.
            highest := CASE WHEN level < whole THEN level - 1 ELSE highest END;
            CONTINUE;
        END IF;
        RETURN QUERY SELECT * FROM unnest(hits.conversations, hits.ids, hits.times);
        IF level = whole THEN
            RETURN;
        END IF;
        IF NOT decided THEN
            SELECT passed + count(*) INTO passed FROM (
                SELECT FROM conversation_messages m
                WHERE message_terms(m.workspace_id, m.at, m.text)
                      @@ quote_literal(span_term(workspace, level, span >> 3 * level))::tsquery
                  AND m.text <> ''
                LIMIT crowd - passed) m;
            looked := looked + 1;
        END IF;
        found := found + coalesce(cardinality(hits.ids), 0);
        span := ((span >> 3 * level) << 3 * level) - 1;
        -- At the end of the parts of a crowded span, wider ones may be taken again.
        WHILE highest < widest AND (span + 1) % (1::bigint << 3 * (highest + 1)) = 0 LOOP
            highest := highest + 1;
        END LOOP;
    END LOOP;
END
$$;

-- Contacts by the beginning of their name, of a word in it, or of an address.
CREATE FUNCTION search_contacts(words text, wanted integer) RETURNS TABLE (contact_id bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pombo, pg_temp SET enable_seqscan = off SET enable_bitmapscan = on SET enable_sort = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    workspace bigint := current_workspace();
    name_begins text := fold(btrim(words));
    -- The first of what is greater than all that begins with it.
    last constant text := chr(1114111);
    -- As it was typed, and a phone number without its punctuation.
    address text := regexp_replace(words, '[\s().-]', '', 'g');
    addresses text[] := ARRAY(SELECT DISTINCT unnest(ARRAY[btrim(words), address, '+' || address]));
    query tsquery;
BEGIN
    IF workspace IS NULL OR name_begins = '' THEN
        RETURN;
    END IF;
    RETURN QUERY SELECT c.id FROM contacts c
        WHERE c.workspace_id = workspace AND fold(c.name) ~>=~ name_begins AND fold(c.name) ~<~ (name_begins || last)
          AND c.name <> ''
        ORDER BY fold(c.name) USING ~<~ LIMIT wanted;
    IF address <> '' THEN
        RETURN QUERY SELECT c.id FROM unnest(addresses) AS begins
            CROSS JOIN LATERAL (
                SELECT c.id FROM contacts c WHERE c.workspace_id = workspace
                  AND c.external_id ~>=~ begins AND c.external_id ~<~ (begins || last)
                ORDER BY c.external_id USING ~<~ LIMIT wanted) c;
        RETURN QUERY SELECT i.contact_id FROM unnest(addresses) AS begins
            CROSS JOIN LATERAL (
                SELECT i.contact_id FROM identities i WHERE i.workspace_id = workspace
                  AND i.identity ~>=~ begins AND i.identity ~<~ (begins || last)
                ORDER BY i.identity USING ~<~ LIMIT wanted) i;
    END IF;
    -- Shorter beginnings would gather a tenth of all names first.
    IF (SELECT max(length(word)) FROM regexp_split_to_table(name_begins, '\W+') AS word) >= 3 THEN
        SELECT to_tsquery('simple', string_agg(quote_literal(lexeme) || ':*', ' & ')) INTO query
        FROM unnest(to_tsvector('simple', name_begins));
        IF numnode(query) > 0 THEN
            RETURN QUERY SELECT c.id FROM contacts c
                WHERE contact_terms(c.workspace_id, c.name) @@ (query && quote_literal('@' || workspace)::tsquery)
                  AND c.name <> '' AND c.workspace_id + 0 = workspace
                LIMIT wanted;
        END IF;
    END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION search_messages, search_contacts FROM PUBLIC;
GRANT EXECUTE ON FUNCTION search_messages, search_contacts TO pombo_app, pombo_worker;
