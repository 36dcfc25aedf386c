-- The same terms as before, by expressions that the planner can inline into the index's own: a function that it cannot is
-- prepared anew for each row (140 µs a message, with this 6). So all is immutable (`||` with a number is not), and what is
-- used several times is written several times.
CREATE OR REPLACE FUNCTION span_term(workspace_id bigint, level integer, span bigint) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN '@' || workspace_id::text || '/' || level::text || '/' || span::text;

CREATE OR REPLACE FUNCTION message_terms(workspace_id bigint, at timestamptz, value text) RETURNS tsvector
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN to_tsvector('simple'::regconfig, fold(left(value, 20000))) || array_to_tsvector(ARRAY[
    span_term(workspace_id, 0, floor(extract(epoch FROM at AT TIME ZONE 'UTC'))::bigint >> 12),
    span_term(workspace_id, 1, floor(extract(epoch FROM at AT TIME ZONE 'UTC'))::bigint >> 15),
    span_term(workspace_id, 2, floor(extract(epoch FROM at AT TIME ZONE 'UTC'))::bigint >> 18),
    span_term(workspace_id, 3, floor(extract(epoch FROM at AT TIME ZONE 'UTC'))::bigint >> 21),
    span_term(workspace_id, 4, floor(extract(epoch FROM at AT TIME ZONE 'UTC'))::bigint >> 24),
    span_term(workspace_id, 5, 0)]);

CREATE OR REPLACE FUNCTION contact_terms(workspace_id bigint, name text) RETURNS tsvector
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN to_tsvector('simple'::regconfig, fold(name)) || array_to_tsvector(ARRAY['@' || workspace_id::text]);
