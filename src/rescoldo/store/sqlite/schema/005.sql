-- Which of a cluster's workers' batches of counts are in `usage`, so that one that arrives twice counts once.

CREATE TABLE batch (
    sender TEXT PRIMARY KEY,
    number INTEGER NOT NULL, -- of its last batch; earlier ones are counted, too
    minute INTEGER NOT NULL -- of its arrival, in Unix minutes
) WITHOUT ROWID;
