-- json_valid alone lets "[-]", "[1.]" and "[1e]" pass, which no reader takes, and \u0000, which PostgreSQL refuses: numbers are
-- looked at again with the strings taken out.
ALTER TABLE eventstore_entry
    ADD CONSTRAINT eventstore_entry_payload_json CHECK (json_valid(payload)
        AND REGEXP_REPLACE(payload, '"[^"\\\\]*+(?:\\\\.[^"\\\\]*+)*+"', '') NOT RLIKE
            '-(?![0-9])|[0-9]\\.(?![0-9])|[0-9][eE][+-]?+(?![0-9])|(?<![0-9.])(?<![eE])(?<![eE][+-])0[0-9]'
        AND payload NOT RLIKE '(?<!\\\\)(?:\\\\\\\\)*+\\\\u0000'),
    ADD CONSTRAINT eventstore_entry_metadata_json CHECK (json_type(metadata) = 'OBJECT' AND json_valid(metadata)
        AND REGEXP_REPLACE(metadata, '"[^"\\\\]*+(?:\\\\.[^"\\\\]*+)*+"', '') NOT RLIKE
            '-(?![0-9])|[0-9]\\.(?![0-9])|[0-9][eE][+-]?+(?![0-9])|(?<![0-9.])(?<![eE])(?<![eE][+-])0[0-9]'
        AND metadata NOT RLIKE '(?<!\\\\)(?:\\\\\\\\)*+\\\\u0000'),
    ADD INDEX eventstore_entry_correlation (correlation_id),
    ADD INDEX eventstore_entry_causation (causation_id),
    ADD INDEX eventstore_entry_subject (subject);

INSERT INTO eventstore_head (id, head, barrier) VALUES (1, 0, 0);
INSERT INTO eventstore_shown (id, position) VALUES (1, 0);

-- Who may change the log: the sessions whose row is here. The row is inserted and deleted within one transaction, so that
-- the door closes with it, however it ends.
CREATE TABLE eventstore_door (session BIGINT UNSIGNED NOT NULL PRIMARY KEY) ENGINE=InnoDB;

-- Also for raw SQL and bulk inserts: what is committed here has no position yet.
CREATE TRIGGER eventstore_entry_pending AFTER INSERT ON eventstore_entry FOR EACH ROW
    INSERT INTO eventstore_pending (entry_id) VALUES (NEW.id);

-- An entry that retention or erasure removes before its first pass takes its row along.
CREATE TRIGGER eventstore_entry_not_pending AFTER DELETE ON eventstore_entry FOR EACH ROW
    DELETE FROM eventstore_pending WHERE entry_id = OLD.id;

CREATE TRIGGER eventstore_entry_refuse_update BEFORE UPDATE ON eventstore_entry FOR EACH ROW
BEGIN
    IF NOT EXISTS (SELECT 1 FROM eventstore_door WHERE session = CONNECTION_ID()) THEN
        SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT =
            'eventstore_entry is append-only: UPDATE refused. Record a new event that corrects the old one.';
    END IF;
END;
CREATE TRIGGER eventstore_entry_refuse_delete BEFORE DELETE ON eventstore_entry FOR EACH ROW
BEGIN
    IF NOT EXISTS (SELECT 1 FROM eventstore_door WHERE session = CONNECTION_ID()) THEN
        SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT =
            'eventstore_entry is append-only: DELETE refused. Retention and erasure have commands of their own.';
    END IF;
END;
-- The sequencer fills in the type of a row that it has just inserted when the type is new; nothing else changes.
CREATE TRIGGER eventstore_position_refuse_update BEFORE UPDATE ON eventstore_position FOR EACH ROW
BEGIN
    IF NOT (OLD.type_id = 0 AND NEW.position = OLD.position AND NEW.entry_id = OLD.entry_id AND NEW.slot = OLD.slot)
       AND NOT EXISTS (SELECT 1 FROM eventstore_door WHERE session = CONNECTION_ID()) THEN
        SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'eventstore_position is append-only: UPDATE refused.';
    END IF;
END;
CREATE TRIGGER eventstore_position_refuse_delete BEFORE DELETE ON eventstore_position FOR EACH ROW
BEGIN
    IF NOT EXISTS (SELECT 1 FROM eventstore_door WHERE session = CONNECTION_ID()) THEN
        SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'eventstore_position is append-only: DELETE refused.';
    END IF;
END;
