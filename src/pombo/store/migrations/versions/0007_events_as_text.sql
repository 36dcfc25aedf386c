-- Events are only ever read as the text they are: as jsonb each was taken apart when it was written, and put together
-- again when it was read. A message's event brings its conversation's, so that what is one change is written and numbered
-- once. The log begins anew, since to rewrite a large one would take long: browsers that resume over this begin with a
-- snapshot.
-- First, as whoever numbers does it.
LOCK TABLE events IN ACCESS EXCLUSIVE MODE;
UPDATE event_tail SET position = position + 1 WHERE position > 0;
INSERT INTO event_horizons (workspace_id, position)
SELECT w.id, t.position FROM workspaces w, event_tail t
ON CONFLICT (workspace_id) DO UPDATE SET position = excluded.position;
TRUNCATE events;
ALTER TABLE events ALTER COLUMN data TYPE json USING data::json, ADD COLUMN conversation json;
