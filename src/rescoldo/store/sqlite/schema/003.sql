-- How many instances of a function were asked for (`rescoldo scale`, alerts), until it sleeps: few have a row.

CREATE TABLE asked (
    function TEXT PRIMARY KEY REFERENCES function (id) ON DELETE CASCADE,
    replicas INTEGER NOT NULL
) WITHOUT ROWID;
