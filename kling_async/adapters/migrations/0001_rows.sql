-- The first schema: rows, notes, and a tally that triggers keep true.

CREATE TABLE note (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE row (
    seq               INTEGER PRIMARY KEY,
    key               TEXT NOT NULL UNIQUE,
    name              TEXT NOT NULL,
    name_fold         TEXT NOT NULL UNIQUE,     -- what two names share on a file system that folds case
    request           TEXT NOT NULL,            -- JSON
    written           TEXT NOT NULL,            -- digest of the row as written
    stage             TEXT NOT NULL,
    content           TEXT,                     -- digest of what is sent
    attempt           INTEGER NOT NULL DEFAULT 0,
    client_request_id TEXT,
    sent_at           REAL,                     -- Unix seconds
    sent_with         TEXT,                     -- digest of the key that the POST carried
    generation_id     TEXT UNIQUE,
    shares            TEXT,                     -- another row's generation, for a row of equal content
    credits           INTEGER,
    trouble_kind      TEXT,
    trouble_message   TEXT,
    size              INTEGER,
    sha256            TEXT,
    seconds           REAL,
    done_order        INTEGER
);

CREATE INDEX row_paid_for ON row (seq) WHERE stage IN ('submitting', 'uncertain', 'submitted', 'rendered');
CREATE INDEX row_failed ON row (seq) WHERE stage = 'failed';
CREATE UNIQUE INDEX row_done ON row (done_order) WHERE done_order IS NOT NULL;
CREATE INDEX row_content ON row (content) WHERE content IS NOT NULL;

CREATE TABLE tally (
    stage   TEXT PRIMARY KEY,
    rows    INTEGER NOT NULL DEFAULT 0,
    credits INTEGER NOT NULL DEFAULT 0,
    bytes   INTEGER NOT NULL DEFAULT 0,
    shared  INTEGER NOT NULL DEFAULT 0          -- rows that share another's generation
) WITHOUT ROWID;

INSERT INTO tally (stage) VALUES
    ('planned'), ('submitting'), ('uncertain'), ('submitted'), ('rendered'), ('done'), ('failed');

CREATE TRIGGER row_enters AFTER INSERT ON row BEGIN
    UPDATE tally SET rows = rows + 1, credits = credits + coalesce(NEW.credits, 0), bytes = bytes + coalesce(NEW.size, 0),
        shared = shared + (NEW.shares IS NOT NULL)
    WHERE stage = NEW.stage;
END;

CREATE TRIGGER row_moves AFTER UPDATE OF stage, credits, size, shares ON row BEGIN
    UPDATE tally SET rows = rows - 1, credits = credits - coalesce(OLD.credits, 0), bytes = bytes - coalesce(OLD.size, 0),
        shared = shared - (OLD.shares IS NOT NULL)
    WHERE stage = OLD.stage;
    UPDATE tally SET rows = rows + 1, credits = credits + coalesce(NEW.credits, 0), bytes = bytes + coalesce(NEW.size, 0),
        shared = shared + (NEW.shares IS NOT NULL)
    WHERE stage = NEW.stage;
END;
