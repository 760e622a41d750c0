-- Every statement of SqliteBundleIndex, by name (queries.py reads this file).

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
