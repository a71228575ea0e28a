-- Money behind what its owner gave up to buy it again, and rows that are tried again found without reading all.

ALTER TABLE row ADD COLUMN sunk INTEGER NOT NULL DEFAULT 0;       -- credits of former POSTs that were given up
ALTER TABLE row ADD COLUMN former TEXT NOT NULL DEFAULT '[]';     -- JSON: their generations, or the ids of the POSTs
ALTER TABLE row ADD COLUMN fallback TEXT;                         -- JSON: where the row stood before it was bought again
ALTER TABLE tally ADD COLUMN sunk INTEGER NOT NULL DEFAULT 0;

DROP INDEX row_paid_for;
DROP INDEX row_failed;
CREATE INDEX row_begun ON row (seq) -- one in place of three: each costs at every change
    WHERE stage <> 'done' AND (stage <> 'planned' OR attempt > 0 OR trouble_kind IS NOT NULL);

DROP TRIGGER row_enters;
DROP TRIGGER row_moves;

CREATE TRIGGER row_enters AFTER INSERT ON row BEGIN
    UPDATE tally SET rows = rows + 1, credits = credits + coalesce(NEW.credits, 0), bytes = bytes + coalesce(NEW.size, 0),
        shared = shared + (NEW.shares IS NOT NULL), sunk = sunk + NEW.sunk
    WHERE stage = NEW.stage;
END;

CREATE TRIGGER row_moves AFTER UPDATE OF stage, credits, size, shares, sunk ON row BEGIN
    UPDATE tally SET rows = rows - 1, credits = credits - coalesce(OLD.credits, 0), bytes = bytes - coalesce(OLD.size, 0),
        shared = shared - (OLD.shares IS NOT NULL), sunk = sunk - OLD.sunk
    WHERE stage = OLD.stage;
    UPDATE tally SET rows = rows + 1, credits = credits + coalesce(NEW.credits, 0), bytes = bytes + coalesce(NEW.size, 0),
        shared = shared + (NEW.shares IS NOT NULL), sunk = sunk + NEW.sunk
    WHERE stage = NEW.stage;
END;
