-- Everything the platform keeps. Versions of this schema are counted in PRAGMA user_version.

CREATE TABLE function (
    id TEXT PRIMARY KEY, -- name.namespace
    spec TEXT NOT NULL, -- FunctionDeployment as JSON
    digest TEXT NOT NULL, -- of the bundle it runs
    created_at REAL NOT NULL, -- Unix seconds
    revision INTEGER NOT NULL
);

-- AUTOINCREMENT: a group index must never be given to a second digest.
CREATE TABLE bundle (
    gid INTEGER PRIMARY KEY AUTOINCREMENT,
    digest TEXT NOT NULL UNIQUE,
    size INTEGER NOT NULL -- bytes of the upload
);

CREATE TABLE image (
    name TEXT PRIMARY KEY,
    digest TEXT NOT NULL REFERENCES bundle (digest) ON DELETE CASCADE,
    created_at REAL NOT NULL -- Unix seconds
);

CREATE INDEX image_by_digest ON image (digest);

CREATE TABLE namespace (
    name TEXT PRIMARY KEY,
    labels TEXT NOT NULL, -- JSON
    annotations TEXT NOT NULL -- JSON
);

CREATE TABLE usage (
    function TEXT NOT NULL,
    minute INTEGER NOT NULL, -- Unix minutes
    status INTEGER NOT NULL,
    cold INTEGER NOT NULL, -- 0 or 1
    calls INTEGER NOT NULL,
    queue_ms INTEGER NOT NULL,
    run_ms INTEGER NOT NULL,
    bytes_in INTEGER NOT NULL,
    bytes_out INTEGER NOT NULL,
    PRIMARY KEY (function, minute, status, cold)
) WITHOUT ROWID;

CREATE INDEX usage_by_minute ON usage (minute);

-- The sum of usage.calls, so that a start reads one row a function and not its whole history.
CREATE TABLE invocation (
    function TEXT PRIMARY KEY,
    calls INTEGER NOT NULL
) WITHOUT ROWID;
