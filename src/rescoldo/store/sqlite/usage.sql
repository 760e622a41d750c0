-- Every statement of SqliteUsage, by name (queries.py reads this file).

-- name: add_usage
INSERT INTO usage (function, minute, status, cold, calls, queue_ms, run_ms, bytes_in, bytes_out)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (function, minute, status, cold) DO UPDATE SET
    calls = calls + excluded.calls,
    queue_ms = queue_ms + excluded.queue_ms,
    run_ms = run_ms + excluded.run_ms,
    bytes_in = bytes_in + excluded.bytes_in,
    bytes_out = bytes_out + excluded.bytes_out

-- name: prune_usage
DELETE FROM usage WHERE minute < ?

-- name: next_minute
SELECT min(minute) FROM usage WHERE minute > ? AND minute < ? AND minute % 60 <> 0

-- name: add_to_hour
INSERT INTO usage (function, minute, status, cold, calls, queue_ms, run_ms, bytes_in, bytes_out)
SELECT function, minute - minute % 60, status, cold, calls, queue_ms, run_ms, bytes_in, bytes_out
FROM usage WHERE minute = ?
ON CONFLICT (function, minute, status, cold) DO UPDATE SET
    calls = calls + excluded.calls,
    queue_ms = queue_ms + excluded.queue_ms,
    run_ms = run_ms + excluded.run_ms,
    bytes_in = bytes_in + excluded.bytes_in,
    bytes_out = bytes_out + excluded.bytes_out

-- name: delete_minute
DELETE FROM usage WHERE minute = ?

-- name: batch
SELECT number FROM batch WHERE sender = ?

-- name: save_batch
INSERT INTO batch (sender, number, minute) VALUES (?, ?, ?)
ON CONFLICT (sender) DO UPDATE SET number = excluded.number, minute = excluded.minute

-- name: delete_batches
DELETE FROM batch WHERE minute < ?

-- name: without_usage
SELECT function FROM invocation
    WHERE NOT EXISTS (SELECT 1 FROM usage WHERE usage.function = invocation.function)

-- name: forgotten
SELECT function FROM invocation WHERE function NOT IN (SELECT id FROM function)
    AND NOT EXISTS (SELECT 1 FROM usage WHERE usage.function = invocation.function)

-- name: delete_invocations
DELETE FROM invocation WHERE function = ?

-- name: add_invocations
INSERT INTO invocation (function, calls) VALUES (?, ?)
ON CONFLICT (function) DO UPDATE SET calls = calls + excluded.calls

-- name: usage
SELECT function, minute, status, cold, calls, queue_ms, run_ms, bytes_in, bytes_out
FROM usage WHERE minute >= ?
ORDER BY function, minute, status, cold

-- name: usage_of_function
SELECT function, minute, status, cold, calls, queue_ms, run_ms, bytes_in, bytes_out
FROM usage WHERE minute >= ? AND function = ?
ORDER BY minute, status, cold

-- name: invocations
SELECT function, calls FROM invocation
