-- A message is filed under spans of 2^12 s (68 min), eight times that (9 h, 3 days, 24 days), and under its words within a
-- span of 2^24 s (194 days). So the list of a word in such a span is as long as it is found there, and nobody else's
-- messages are in it: what is rare costs little, however many messages there are.
DROP INDEX messages_by_term;
DROP FUNCTION search_messages;

CREATE OR REPLACE FUNCTION span_term(workspace_id bigint, level integer, span bigint) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN '@' || workspace_id::text || '/' || level::text || ':' || span::text;

-- No term is longer than the index can hold.
CREATE FUNCTION word_term(workspace_id bigint, span bigint, word text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN '@' || workspace_id::text || '/' || span::text || '/'
    || CASE WHEN length(word) > 250 THEN left(word, 218) || md5(word) ELSE word END;

-- In PL/pgSQL, which keeps its plans: an SQL function with a loop over words would be prepared anew for each row.
CREATE OR REPLACE FUNCTION message_terms(workspace_id bigint, at timestamptz, value text) RETURNS tsvector
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
DECLARE
    second bigint := floor(extract(epoch FROM at AT TIME ZONE 'UTC'));
    terms text[] := ARRAY[
        pombo.span_term(workspace_id, 0, second >> 12), pombo.span_term(workspace_id, 1, second >> 15),
        pombo.span_term(workspace_id, 2, second >> 18), pombo.span_term(workspace_id, 3, second >> 21)];
    word text;
BEGIN
    FOREACH word IN ARRAY tsvector_to_array(to_tsvector('simple', pombo.fold(left(value, 20000)))) LOOP
        terms := terms || pombo.word_term(workspace_id, second >> 24, word);
    END LOOP;
    RETURN array_to_tsvector(terms);
END
$$;

-- Without the list of pending entries, which every search would have to read through.
CREATE INDEX messages_by_term ON conversation_messages
    USING gin (message_terms(workspace_id, at, text)) WITH (fastupdate = off) WHERE text <> '';

-- Messages with all the words, within spans of 2^24 s.
CREATE FUNCTION words_within(workspace_id bigint, words text[], first_span bigint, last_span bigint) RETURNS tsquery
LANGUAGE sql IMMUTABLE
BEGIN ATOMIC
    SELECT string_agg(every.word, ' | ')::tsquery
    FROM generate_series(first_span, last_span) AS span
    CROSS JOIN LATERAL (
        SELECT '(' || string_agg(
            '''' || replace(replace(word_term(workspace_id, span, word), '\', '\\'), '''', '''''') || '''', ' & ') || ')'
        FROM unnest(words) AS word
    ) AS every (word);
END;

-- The newest messages with all the words, before a moment. It goes back through time by spans: of three days first, and of
-- eight times that whenever the hits so far let expect only some more than are wanted, for a span is read whole. One with
-- too many is taken in parts. It runs with its owner's rights, because row-level security keeps conditions like @@ from
-- every index; so it names the workspace itself.
CREATE FUNCTION search_messages(words text, before timestamptz, before_id bigint, wanted integer)
RETURNS TABLE (conversation_id bigint, message_id bigint, at timestamptz, text text)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pombo, pg_temp SET enable_seqscan = off SET enable_bitmapscan = on SET enable_sort = on
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    workspace bigint := current_workspace();
    lexemes text[] := tsvector_to_array(to_tsvector('simple', fold(words)));
    -- Levels of spans: where it begins, that of the words' own lists, and the widest, of 34 years.
    first constant integer := 2;
    filed constant integer := 4;
    -- Several lists of one word are read as one. Of several words, common ones that never meet would be gone through
    -- entry by entry, against all that are wanted.
    widest constant integer := CASE cardinality(lexemes) WHEN 1 THEN 6 ELSE filed END;
    crowd constant integer := 500;  -- some milliseconds' worth of rows, should none be in memory
    spare constant integer := 4;  -- so many times what is still wanted may be read
    snippet constant integer := 200;
    present constant bigint := extract(epoch FROM now());
    oldest constant bigint := extract(epoch FROM timestamp '2010-01-01');
    until bigint := floor(extract(epoch FROM before)) + 1;  -- what is from then on has been read
    level integer := first;
    ceiling integer := widest;
    crowded_from bigint := oldest;  -- the beginning of what is taken in parts
    span bigint;
    begins bigint;
    passed bigint;
    found integer := 0;
    near tsquery;
    far tsquery;
    hits record;
BEGIN
    IF workspace IS NULL OR cardinality(lexemes) = 0 THEN
        RETURN;
    END IF;
    WHILE found < wanted AND until > oldest LOOP
        span := (until - 1) >> (12 + 3 * level);
        begins := greatest(span << (12 + 3 * level), oldest);
        far := words_within(workspace, lexemes, begins >> 24, (until - 1) >> 24);
        near := CASE WHEN level < filed THEN quote_literal(span_term(workspace, level, span))::tsquery ELSE far END;
        WITH hit AS MATERIALIZED (
            SELECT m.conversation_id, m.id, m.at, m.text FROM conversation_messages m
            -- Apart, so that what is before the span is passed over in the lists of all words at once.
            WHERE message_terms(m.workspace_id, m.at, m.text) @@ near
              AND message_terms(m.workspace_id, m.at, m.text) @@ far
              AND m.text <> ''
            LIMIT CASE WHEN level > 0 THEN crowd END
        ), newest AS (
            SELECT * FROM hit h WHERE h.at < to_timestamp(until) AND (h.at, h.id) < (before, before_id)
            ORDER BY h.at DESC, h.id DESC LIMIT wanted - found
        )
        SELECT (SELECT count(*) FROM hit) AS many, array_agg(n.conversation_id) AS conversations,
               array_agg(n.id) AS ids, array_agg(n.at) AS times, array_agg(left(n.text, snippet)) AS texts
        INTO hits FROM newest n;
        IF level > 0 AND hits.many >= crowd THEN
            level := level - 1;
            ceiling := level;
            crowded_from := begins;
            CONTINUE;
        END IF;
        RETURN QUERY SELECT * FROM unnest(hits.conversations, hits.ids, hits.times, hits.texts);
        found := found + coalesce(cardinality(hits.ids), 0);
        until := begins;
        IF until <= crowded_from THEN
            ceiling := widest;
        END IF;
        -- An eighth of a span is enough to know how many hits there are to a time.
        passed := least(present, (span + 1) << (12 + 3 * level)) - begins;
        IF passed >= (1::bigint << (9 + 3 * level))
            AND hits.many * (1::bigint << (15 + 3 * level)) <= passed * spare * (wanted - found) THEN
            level := level + 1;
        END IF;
        level := least(level, ceiling);
    END LOOP;
END
$$;
REVOKE EXECUTE ON FUNCTION search_messages FROM PUBLIC;
GRANT EXECUTE ON FUNCTION search_messages TO pombo_app, pombo_worker;
