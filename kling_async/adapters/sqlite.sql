-- The journal's statements, by name. Every value is a parameter. What is looked for among the rows that were begun and are
-- not done repeats the condition of their index word for word: without it, SQLite reads all rows.

-- `sqlite_enrolment` repeats these VALUES for many rows.
-- name: insert
INSERT INTO row (key, name, name_fold, request, written, stage) VALUES (?, ?, ?, ?, ?, 'planned')
ON CONFLICT (key) DO NOTHING

-- name: count
UPDATE horizon SET seq = (SELECT seq FROM row WHERE seq > 0 ORDER BY seq DESC LIMIT 1)

-- name: last
SELECT coalesce((SELECT seq FROM row WHERE seq > 0 ORDER BY seq DESC LIMIT 1), 0)

-- name: keys_since
SELECT key FROM row WHERE seq > ?

-- name: renew
UPDATE row SET request = ? WHERE key = ?

-- name: replace
UPDATE row SET request = ?, written = ?, stage = 'planned', content = NULL, credits = NULL,
    generation_id = NULL, shares = NULL, trouble_kind = NULL, trouble_message = NULL, size = NULL, sha256 = NULL, seconds = NULL
WHERE key = ? AND stage IN ('planned', 'failed')

-- name: original
SELECT key FROM row
WHERE content = :content AND key <> :key AND generation_id IS NOT NULL
    AND stage IN ('submitted', 'rendered', 'done')
UNION ALL
SELECT key FROM row WHERE content = :content AND key <> :key AND stage IN ('submitting', 'uncertain')
LIMIT 1

-- name: intend
UPDATE row SET stage = 'submitting', content = :content, attempt = :attempt, client_request_id = :client_request_id,
    sent_at = :sent_at, sent_with = :sent_with, generation_id = NULL, shares = NULL, credits = :credits, trouble_kind = NULL,
    trouble_message = NULL, size = NULL, sha256 = NULL, seconds = NULL, sunk = :sunk, former = :former, fallback = :fallback
WHERE key = :key AND stage = :before AND attempt = :attempt - 1 AND written = :written
    AND (:before = 'planned' OR generation_id IS :given_up)

-- name: raise_held
UPDATE row SET credits = :credits
WHERE stage <> 'done' AND (stage <> 'planned' OR attempt > 0 OR trouble_kind IS NOT NULL)
    AND stage IN ('submitting', 'uncertain') AND credits < :credits
    AND json_extract(request, '$.model') = :model AND json_extract(request, '$.duration') = :duration

-- name: fill_untold
UPDATE row SET credits = :credits
WHERE credits IS NULL AND shares IS NULL AND stage NOT IN ('planned', 'failed')
    AND json_extract(request, '$.model') = :model AND json_extract(request, '$.duration') = :duration

-- name: save
UPDATE row SET stage = :stage, content = :content, attempt = :attempt, client_request_id = :client_request_id,
    sent_at = :sent_at, sent_with = :sent_with, generation_id = :generation_id, shares = :shares,
    credits = CASE WHEN stage IN ('submitting', 'uncertain') AND :stage IN ('submitting', 'uncertain')
        AND credits > coalesce(:credits, 0) THEN credits
        WHEN :credits IS NULL AND stage IN ('submitting', 'uncertain', 'submitted', 'rendered', 'done')
        AND :stage IN ('submitting', 'uncertain', 'submitted', 'rendered', 'done') THEN credits ELSE :credits END,
    trouble_kind = :trouble_kind, trouble_message = :trouble_message, size = :size, sha256 = :sha256,
    seconds = :seconds, sunk = :sunk, former = :former, fallback = :fallback, done_order = CASE WHEN :stage = 'done'
        THEN coalesce(done_order, (SELECT coalesce(max(done_order), 0) + 1 FROM row WHERE done_order IS NOT NULL)) ELSE done_order END
WHERE key = :key AND (stage <> 'done' OR :stage = 'done')

-- name: get
SELECT * FROM row WHERE key = ?

-- name: unfinished
SELECT * FROM row
WHERE stage <> 'done' AND (stage <> 'planned' OR attempt > 0 OR trouble_kind IS NOT NULL)
    AND stage IN ('submitting', 'uncertain', 'submitted', 'rendered') AND seq > ? ORDER BY seq LIMIT ?

-- name: failed
SELECT * FROM row
WHERE stage <> 'done' AND (stage <> 'planned' OR attempt > 0 OR trouble_kind IS NOT NULL)
    AND stage = 'failed' AND seq > ? ORDER BY seq LIMIT ?

-- name: again
SELECT * FROM row
WHERE stage <> 'done' AND (stage <> 'planned' OR attempt > 0 OR trouble_kind IS NOT NULL)
    AND stage IN ('failed', 'planned') AND seq > ? ORDER BY seq LIMIT ?

-- name: rows
SELECT * FROM row WHERE seq > ? ORDER BY seq LIMIT ?

-- name: planned
SELECT * FROM row WHERE stage = 'planned' AND seq > ? ORDER BY seq LIMIT ?

-- name: census
SELECT json_extract(request, '$.model') AS model, json_extract(request, '$.duration') AS duration, count(*) AS rows
FROM row WHERE stage = 'planned' AND seq > ? AND seq <= ? GROUP BY 1, 2

-- name: done_since
SELECT * FROM row WHERE done_order > ? ORDER BY done_order LIMIT ?

-- name: named
SELECT name_fold FROM row WHERE name_fold IN (SELECT value FROM json_each(?))

-- name: tally
SELECT stage, rows, credits, bytes, shared, sunk FROM tally

-- name: committed
SELECT coalesce(sum(sunk), 0) + coalesce(sum(credits) FILTER (WHERE stage <> 'failed'), 0) FROM tally

-- name: read_note
SELECT value FROM note WHERE name = ?

-- name: forget_note
DELETE FROM note WHERE name = ?

-- name: write_note
INSERT INTO note (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value
