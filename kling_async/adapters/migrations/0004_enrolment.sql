-- Rows that come in cost less.

-- A tally that costs them nothing. Rows up to the horizon are counted, and moved from stage to stage by a
-- trigger; those beyond it are counted when the tally is read. Whoever writes rows may let them be counted, by moving the
-- horizon, or not: the tally is right in either case.

DROP TRIGGER row_enters;
DROP TRIGGER row_moves;
ALTER TABLE tally RENAME TO counted;

CREATE TABLE horizon (seq INTEGER NOT NULL);    -- one line: the last row that is counted
INSERT INTO horizon SELECT coalesce(max(seq), 0) FROM row;

CREATE VIEW tally AS
SELECT stage, sum(rows) AS rows, sum(credits) AS credits, sum(bytes) AS bytes, sum(shared) AS shared, sum(sunk) AS sunk
FROM (
    SELECT stage, rows, credits, bytes, shared, sunk FROM counted
    UNION ALL
    SELECT stage, count(*), coalesce(sum(credits), 0), coalesce(sum(size), 0), count(shares), sum(sunk)
    FROM row WHERE seq > (SELECT seq FROM horizon) GROUP BY stage
)
GROUP BY stage;

CREATE TRIGGER horizon_stays BEFORE UPDATE ON horizon
WHEN NEW.seq < OLD.seq OR NEW.seq > (SELECT coalesce(max(seq), 0) FROM row) BEGIN
    SELECT RAISE(ABORT, 'the horizon moves on alone, and never beyond the last row');
END;

CREATE TRIGGER horizon_moves AFTER UPDATE ON horizon BEGIN
    INSERT INTO counted (stage, rows, credits, bytes, shared, sunk)
    SELECT stage, count(*), coalesce(sum(credits), 0), coalesce(sum(size), 0), count(shares), sum(sunk)
    FROM row WHERE seq > OLD.seq AND seq <= NEW.seq GROUP BY stage
    ON CONFLICT (stage) DO UPDATE SET rows = rows + excluded.rows, credits = credits + excluded.credits,
        bytes = bytes + excluded.bytes, shared = shared + excluded.shared, sunk = sunk + excluded.sunk;
END;

CREATE TRIGGER row_moves AFTER UPDATE OF stage, credits, size, shares, sunk ON row
WHEN OLD.seq <= (SELECT seq FROM horizon) BEGIN
    UPDATE counted SET rows = rows - 1, credits = credits - coalesce(OLD.credits, 0), bytes = bytes - coalesce(OLD.size, 0),
        shared = shared - (OLD.shares IS NOT NULL), sunk = sunk - OLD.sunk
    WHERE stage = OLD.stage;
    UPDATE counted SET rows = rows + 1, credits = credits + coalesce(NEW.credits, 0), bytes = bytes + coalesce(NEW.size, 0),
        shared = shared + (NEW.shares IS NOT NULL), sunk = sunk + NEW.sunk
    WHERE stage = NEW.stage;
END;

-- What the names of two videos share has the folder last, as the keys mostly come in their order: the index of it grows at
-- its end. Two slashes stood nowhere before, so that no two rows meet on the way.
UPDATE row SET name_fold =
    substr(name_fold, instr(name_fold, '/') + 1) || '//' || substr(name_fold, 1, instr(name_fold, '/') - 1)
WHERE instr(name_fold, '/') > 0;
