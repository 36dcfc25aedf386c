-- Revision 0004 has changed what a conversation's events look like: browsers that resume over it begin with a snapshot.
-- A cursor at the very tail is behind the horizon too, for what the browser holds is of the old shape.
UPDATE event_tail SET position = position + 1 WHERE position > 0;
INSERT INTO event_horizons (workspace_id, position)
SELECT w.id, t.position FROM workspaces w, event_tail t
ON CONFLICT (workspace_id) DO UPDATE SET position = excluded.position;
DELETE FROM events;
