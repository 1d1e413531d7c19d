CREATE INDEX eventstore_entry_correlation ON eventstore_entry (correlation_id) WHERE correlation_id IS NOT NULL;
CREATE INDEX eventstore_entry_causation ON eventstore_entry (causation_id) WHERE causation_id IS NOT NULL;
CREATE INDEX eventstore_entry_subject ON eventstore_entry (subject) WHERE subject IS NOT NULL;

-- While a row is here, the log may be changed. It is inserted and deleted within one transaction; nobody else can write then.
CREATE TABLE eventstore_door (session INTEGER NOT NULL PRIMARY KEY);

-- SQLite gets its checks by trigger: a table that Django rebuilds keeps no CHECK that is not in its models.
CREATE TRIGGER eventstore_entry_check BEFORE INSERT ON eventstore_entry
BEGIN
    SELECT RAISE(ABORT, 'eventstore_entry: payload is not JSON') WHERE NOT json_valid(NEW.payload);
    SELECT RAISE(ABORT, 'eventstore_entry: metadata is not a JSON object')
        WHERE NOT json_valid(NEW.metadata) OR json_type(NEW.metadata) <> 'object';
    -- INSERT OR REPLACE removes the old row without asking the triggers below.
    SELECT RAISE(ABORT, 'eventstore_entry is append-only: REPLACE refused')
        WHERE EXISTS (SELECT 1 FROM eventstore_entry WHERE id = NEW.id);
END;

CREATE TRIGGER eventstore_position_check BEFORE INSERT ON eventstore_position
BEGIN
    SELECT RAISE(ABORT, 'eventstore_position is append-only: REPLACE refused')
        WHERE EXISTS (SELECT 1 FROM eventstore_position WHERE position = NEW.position OR entry_id = NEW.entry_id);
END;

-- One writer at a time, so commit order is position order: the position is drawn in the writer's own transaction.
-- The slot is computed from the last characters of the stream, where streams differ; multiplied, so that neighbouring ones
-- do not have neighbouring slots and so the same partition (Knuth's multiplicative hashing).
CREATE TRIGGER eventstore_entry_sequence AFTER INSERT ON eventstore_entry
BEGIN
    -- -1 is what the check above sees for an id that is still to be drawn.
    SELECT RAISE(ABORT, 'eventstore_entry: ids begin at 1') WHERE NEW.id < 1;
    INSERT INTO eventstore_type (name)
        SELECT NEW.type WHERE NOT EXISTS (SELECT 1 FROM eventstore_type WHERE name = NEW.type);
    INSERT INTO eventstore_position (entry_id, type_id, slot)
        SELECT NEW.id, id,
               ((coalesce(unicode(substr(NEW.stream, -1, 1)), 0) + 10 * coalesce(unicode(substr(NEW.stream, -2, 1)), 0)
                + 37 * coalesce(unicode(substr(NEW.stream, -3, 1)), 0) + 17 * coalesce(unicode(substr(NEW.stream, -4, 1)), 0)
                + 29 * coalesce(unicode(substr(NEW.stream, -5, 1)), 0) + length(NEW.stream)) * 40503 >> 8) & 63
        FROM eventstore_type WHERE name = NEW.type;
END;

CREATE TRIGGER eventstore_entry_refuse_update BEFORE UPDATE ON eventstore_entry
WHEN NOT EXISTS (SELECT 1 FROM eventstore_door)
BEGIN
    SELECT RAISE(ABORT, 'eventstore_entry is append-only: UPDATE refused. Record a new event that corrects the old one.');
END;
CREATE TRIGGER eventstore_entry_refuse_delete BEFORE DELETE ON eventstore_entry
WHEN NOT EXISTS (SELECT 1 FROM eventstore_door)
BEGIN
    SELECT RAISE(ABORT, 'eventstore_entry is append-only: DELETE refused. Retention and erasure have commands of their own.');
END;
CREATE TRIGGER eventstore_position_refuse_update BEFORE UPDATE ON eventstore_position
WHEN NOT EXISTS (SELECT 1 FROM eventstore_door)
BEGIN
    SELECT RAISE(ABORT, 'eventstore_position is append-only: UPDATE refused.');
END;
CREATE TRIGGER eventstore_position_refuse_delete BEFORE DELETE ON eventstore_position
WHEN NOT EXISTS (SELECT 1 FROM eventstore_door)
BEGIN
    SELECT RAISE(ABORT, 'eventstore_position is append-only: DELETE refused.');
END;
