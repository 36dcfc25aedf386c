-- Threads show direct messages of all classes, and so when one is in doubt.
DROP TRIGGER reply_in_doubt ON doubts;
CREATE TRIGGER reply_in_doubt AFTER INSERT ON doubts
    FOR EACH ROW WHEN (NEW.run_id <= 0) EXECUTE FUNCTION note_reply_in_doubt();
