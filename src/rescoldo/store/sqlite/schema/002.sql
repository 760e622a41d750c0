-- Past revisions: what can be rolled back to, and what failed. The current one is the function's own row, so that a
-- start reads one row a function, and a first deployment writes one.

ALTER TABLE function ADD COLUMN revised_at REAL NOT NULL DEFAULT 0; -- Unix seconds
ALTER TABLE function ADD COLUMN generation INTEGER NOT NULL DEFAULT 0;
ALTER TABLE function ADD COLUMN traffic TEXT NOT NULL DEFAULT '{}'; -- JSON: percent by revision; empty: no split

UPDATE function SET revised_at = created_at;

CREATE TABLE revision (
    function TEXT NOT NULL REFERENCES function (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    spec TEXT NOT NULL, -- FunctionDeployment as JSON
    digest TEXT NOT NULL,
    created_at REAL NOT NULL, -- Unix seconds
    failure TEXT NOT NULL, -- why it never served; empty: it did
    PRIMARY KEY (function, number)
);

CREATE INDEX revision_by_digest ON revision (digest, failure);
