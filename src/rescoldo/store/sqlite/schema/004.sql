-- What outlives a controller of how a function stands: paused, not started yet, failing. Few have a row.

CREATE TABLE standing (
    function TEXT PRIMARY KEY REFERENCES function (id) ON DELETE CASCADE,
    paused INTEGER NOT NULL,
    untried INTEGER NOT NULL, -- the current revision has not started yet
    failure TEXT NOT NULL -- why the last start failed; empty: it did not
) WITHOUT ROWID;
