-- Every statement of SqliteFunctions, by name (queries.py reads this file).

-- name: functions
SELECT spec, digest, created_at, revision, revised_at, generation, traffic FROM function ORDER BY id

-- name: function
SELECT spec, digest, created_at, revision, revised_at, generation, traffic FROM function WHERE id = ?

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
SELECT function, replicas FROM asked WHERE :of IS NULL OR function = :of

-- name: save_requested_replicas
INSERT INTO asked (function, replicas) SELECT id, ?2 FROM function WHERE id = ?1
ON CONFLICT (function) DO UPDATE SET replicas = excluded.replicas

-- name: delete_requested_replicas
DELETE FROM asked WHERE function = ?

-- name: standings
SELECT function, paused, untried, failure FROM standing WHERE :of IS NULL OR function = :of

-- name: save_standing
INSERT INTO standing (function, paused, untried, failure) SELECT id, ?2, ?3, ?4 FROM function WHERE id = ?1
ON CONFLICT (function) DO UPDATE SET
    paused = excluded.paused, untried = excluded.untried, failure = excluded.failure

-- name: delete_standing
DELETE FROM standing WHERE function = ?

-- name: delete_function
DELETE FROM function WHERE id = ?
