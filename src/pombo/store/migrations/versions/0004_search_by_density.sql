-- The newest messages with all the words, before a moment. It goes back through time by spans: of three days, and as wide
-- ones as the density of hits so far allows, for a wide one with many hits is read whole for a few of them. One with too
-- many is taken in parts.
CREATE OR REPLACE FUNCTION search_messages(words text, before timestamptz, before_id bigint, wanted integer)
RETURNS TABLE (conversation_id bigint, message_id bigint, at timestamptz)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pombo, pg_temp SET enable_seqscan = off SET enable_bitmapscan = on
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    workspace bigint := current_workspace();
    query tsquery := plainto_tsquery('simple', fold(words));
    -- Levels of spans: where it begins, the widest.
    first constant integer := 2;
    widest constant integer := 4;
    crowd constant integer := 500;  -- some milliseconds' worth of rows, should none be in memory
    present constant bigint := floor(extract(epoch FROM now()))::bigint >> 12;
    span bigint := floor(extract(epoch FROM before AT TIME ZONE 'UTC'))::bigint >> 12;
    oldest constant bigint := extract(epoch FROM timestamp '2010-01-01')::bigint >> 12;
    level integer;
    highest integer := widest;
    seen integer := 0;  -- hits in the last span that has passed wholly
    seen_level integer := -1;
    found integer := 0;
    hits record;
BEGIN
    IF workspace IS NULL OR numnode(query) = 0 THEN
        RETURN;
    END IF;
    WHILE found < wanted AND span >= oldest LOOP
        level := least(highest, first);
        WHILE level < highest AND (level < seen_level OR level = seen_level AND 8 * seen < crowd)
            AND (span + 1) % (1::bigint << 3 * (level + 1)) = 0 LOOP
            level := level + 1;
        END LOOP;
        WITH hit AS MATERIALIZED (
            SELECT m.conversation_id, m.id, m.at FROM conversation_messages m
            -- Apart, so that what is before the span is passed over in the lists of all words at once.
            WHERE message_terms(m.workspace_id, m.at, m.text)
                  @@ quote_literal(span_term(workspace, level, span >> 3 * level))::tsquery
              AND message_terms(m.workspace_id, m.at, m.text) @@ query
              AND m.text <> ''
            LIMIT CASE WHEN level > 0 THEN crowd END
        ), newest AS (
            SELECT * FROM hit h WHERE (h.at, h.id) < (before, before_id)
            ORDER BY h.at DESC, h.id DESC LIMIT wanted - found
        )
        SELECT (SELECT count(*) FROM hit) AS many, array_agg(n.conversation_id) AS conversations,
               array_agg(n.id) AS ids, array_agg(n.at) AS times
        INTO hits FROM newest n;
        IF level > 0 AND hits.many >= crowd THEN
            highest := level - 1;
            seen_level := -1;
            CONTINUE;
        END IF;
        RETURN QUERY SELECT * FROM unnest(hits.conversations, hits.ids, hits.times);
        found := found + coalesce(cardinality(hits.ids), 0);
        IF ((span >> 3 * level) + 1) << 3 * level <= present THEN
            seen := hits.many;
            seen_level := level;
        END IF;
        span := ((span >> 3 * level) << 3 * level) - 1;
        -- At the end of the parts of a crowded span, wider ones may be taken again.
        WHILE highest < widest AND (span + 1) % (1::bigint << 3 * (highest + 1)) = 0 LOOP
            highest := highest + 1;
        END LOOP;
    END LOOP;
END
$$;
