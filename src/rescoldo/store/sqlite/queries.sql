-- Every statement of SqliteStore, by name (queries.py reads this file).

-- name: functions
SELECT spec, digest, created_at, revision, revised_at, generation, traffic FROM function ORDER BY id

-- name: save_function
INSERT INTO function (id, spec, digest, created_at, revision, revised_at, generation, traffic)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET
    spec = excluded.spec,
    digest = excluded.digest,
    created_at = excluded.created_at,
    revision = excluded.revision,
    revised_at = excluded.revised_at,
    generation = excluded.generation,
    traffic = excluded.traffic

-- name: keep_current
INSERT INTO revision (function, number, spec, digest, created_at, failure)
SELECT id, revision, spec, digest, revised_at, '' FROM function WHERE id = ? AND revision <> ?

-- name: save_revision
INSERT OR REPLACE INTO revision (function, number, spec, digest, created_at, failure) VALUES (?, ?, ?, ?, ?, ?)

-- name: prune_revisions
DELETE FROM revision WHERE function = ?1 AND (failure <> '') = ?2 AND number NOT IN (
    SELECT number FROM revision WHERE function = ?1 AND (failure <> '') = ?2 ORDER BY number DESC LIMIT ?3
)

-- name: revisions
SELECT number, spec, digest, created_at, failure FROM revision WHERE function = ? ORDER BY number DESC

-- name: revision_digests
SELECT DISTINCT digest FROM revision WHERE failure = ''

-- name: requested_replicas
SELECT function, replicas FROM asked

-- name: save_requested_replicas
INSERT INTO asked (function, replicas) SELECT id, ?2 FROM function WHERE id = ?1
ON CONFLICT (function) DO UPDATE SET replicas = excluded.replicas

-- name: delete_requested_replicas
DELETE FROM asked WHERE function = ?

-- name: standings
SELECT function, paused, untried, failure FROM standing

-- name: save_standing
INSERT INTO standing (function, paused, untried, failure) SELECT id, ?2, ?3, ?4 FROM function WHERE id = ?1
ON CONFLICT (function) DO UPDATE SET
    paused = excluded.paused, untried = excluded.untried, failure = excluded.failure

-- name: delete_standing
DELETE FROM standing WHERE function = ?

-- name: delete_function
DELETE FROM function WHERE id = ?

-- name: bundles
SELECT image.name, image.digest, bundle.size, image.created_at, bundle.gid
FROM image JOIN bundle USING (digest)
ORDER BY image.name

-- name: bundle_of_image
SELECT image.name, image.digest, bundle.size, image.created_at, bundle.gid
FROM image JOIN bundle USING (digest)
WHERE image.name = ?

-- name: save_bundle
INSERT INTO bundle (digest, size) VALUES (?, ?)
ON CONFLICT (digest) DO UPDATE SET size = excluded.size

-- name: save_image
INSERT INTO image (name, digest, created_at) VALUES (?, ?, ?)
ON CONFLICT (name) DO UPDATE SET digest = excluded.digest, created_at = excluded.created_at

-- name: delete_bundle
DELETE FROM bundle WHERE digest = ?

-- name: namespaces
SELECT name, labels, annotations FROM namespace ORDER BY name

-- name: save_namespace
INSERT INTO namespace (name, labels, annotations) VALUES (?, ?, ?)
ON CONFLICT (name) DO UPDATE SET labels = excluded.labels, annotations = excluded.annotations

-- name: delete_namespace
DELETE FROM namespace WHERE name = ?

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
