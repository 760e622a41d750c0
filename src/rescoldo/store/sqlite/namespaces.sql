-- Every statement of SqliteNamespaces, by name (queries.py reads this file).

-- name: namespaces
SELECT name, labels, annotations FROM namespace ORDER BY name

-- name: save_namespace
INSERT INTO namespace (name, labels, annotations) VALUES (?, ?, ?)
ON CONFLICT (name) DO UPDATE SET labels = excluded.labels, annotations = excluded.annotations

-- name: delete_namespace
DELETE FROM namespace WHERE name = ?
