-- What an agent has not read is told by the order in which messages come, which their ids follow: Meta's times rise neither
-- with it nor always.

-- The contact's last message that was news: of a channel's past nothing is.
ALTER TABLE conversations ADD COLUMN last_inbound_id bigint NOT NULL DEFAULT 0;
UPDATE conversations c SET last_inbound_id = m.id
FROM (SELECT workspace_id, conversation_id, max(id) AS id FROM conversation_messages WHERE author = 'contact'
      GROUP BY workspace_id, conversation_id) m
WHERE m.workspace_id = c.workspace_id AND m.conversation_id = c.id;

-- Up to which of the contact's messages an agent has read. What was unread or read by their times stays so.
ALTER TABLE conversation_reads RENAME COLUMN until TO until_time;
ALTER TABLE conversation_reads ADD COLUMN until bigint;
UPDATE conversation_reads r
SET until = CASE WHEN c.last_inbound_at > r.until_time THEN c.last_inbound_id - 1 ELSE c.last_inbound_id END
FROM conversations c WHERE c.workspace_id = r.workspace_id AND c.id = r.conversation_id;
ALTER TABLE conversation_reads DROP COLUMN until_time, ALTER COLUMN until SET NOT NULL;

-- Where an agent has no row there. It begins below all that the agent has not read; what lies above and is read gets rows.
ALTER TABLE agents RENAME COLUMN seen_until TO seen_until_time;
ALTER TABLE agents ADD COLUMN seen_until bigint NOT NULL DEFAULT 0;
UPDATE agents a SET seen_until = coalesce(
    (SELECT min(last_inbound_id) - 1 FROM conversations
     WHERE workspace_id = a.workspace_id AND last_inbound_at > a.seen_until_time AND last_inbound_id > 0),
    (SELECT max(id) FROM conversation_messages WHERE workspace_id = a.workspace_id), 0);
INSERT INTO conversation_reads (workspace_id, conversation_id, agent_id, until)
SELECT c.workspace_id, c.id, a.id, c.last_inbound_id
FROM agents a JOIN conversations c ON c.workspace_id = a.workspace_id
WHERE c.last_inbound_id > a.seen_until AND c.last_inbound_at <= a.seen_until_time
ON CONFLICT (workspace_id, conversation_id, agent_id) DO NOTHING;
ALTER TABLE agents DROP COLUMN seen_until_time;
