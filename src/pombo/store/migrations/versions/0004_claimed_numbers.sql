-- When a phone number last came with a user id, by Meta's clock: whose that is has the number.
ALTER TABLE identities ADD COLUMN claimed_at timestamptz NOT NULL DEFAULT '-infinity';
UPDATE identities i SET claimed_at = seen_at
WHERE identity LIKE '+%' AND EXISTS (
    SELECT FROM identities o
    WHERE o.workspace_id = i.workspace_id AND o.contact_id = i.contact_id AND o.identity NOT LIKE '+%');
