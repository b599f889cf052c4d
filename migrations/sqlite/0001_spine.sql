-- Times are milliseconds since 1970 UTC; booleans are 0 and 1; node ids are the 16 bytes of a UUID.

CREATE TABLE nodes (
    node_id    BLOB    NOT NULL PRIMARY KEY,
    address    TEXT    NOT NULL,
    format     INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    -- Counts this node's commits.
    batch      INTEGER NOT NULL,
    dead       BOOLEAN NOT NULL,
    draining   BOOLEAN NOT NULL
) WITHOUT ROWID;

CREATE TABLE shards (
    shard INTEGER NOT NULL PRIMARY KEY,
    owner BLOB,
    epoch INTEGER NOT NULL
);

INSERT INTO shards (shard, owner, epoch)
WITH RECURSIVE numbers (shard) AS (SELECT 0 UNION ALL SELECT shard + 1 FROM numbers WHERE shard < 63)
SELECT shard, NULL, 0 FROM numbers;

-- The projection: what a journal amounts to, lagging only to the safe side. What retention leaves is its tombstone.
CREATE TABLE transactions (
    gid            TEXT    NOT NULL PRIMARY KEY,
    shard          INTEGER NOT NULL,
    status         TEXT    NOT NULL CHECK (status IN
        ('running', 'confirming', 'compensating', 'suspended', 'succeeded', 'compensated', 'failed')),
    workflow       TEXT,
    version        TEXT,
    request_digest BLOB    NOT NULL,
    plan           BLOB    NOT NULL,
    created_at     INTEGER NOT NULL,
    next_wake_at   INTEGER,
    parked_node    BLOB,
    parked_epoch   INTEGER,
    settled_at     INTEGER,
    -- The newest append by a node that did not hold the transaction, until a projection has seen it.
    foreign_seq    INTEGER,
    expired        BOOLEAN NOT NULL,
    -- Why it was set aside.
    quarantined    TEXT
);

CREATE INDEX transactions_due ON transactions (shard, next_wake_at) WHERE settled_at IS NULL;
CREATE INDEX transactions_foreign ON transactions (shard) WHERE foreign_seq IS NOT NULL;
CREATE INDEX transactions_newest ON transactions (created_at, gid) WHERE NOT expired;
CREATE INDEX transactions_tombstones ON transactions (settled_at) WHERE expired;

CREATE TABLE labels (
    gid        TEXT    NOT NULL,
    key        TEXT    NOT NULL,
    value      TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (gid, key)
) WITHOUT ROWID;

CREATE INDEX labels_newest ON labels (key, value, created_at, gid);

-- Append-only; one row is one append.
CREATE TABLE journal (
    gid    TEXT    NOT NULL,
    seq    INTEGER NOT NULL,
    format INTEGER NOT NULL,
    key_id TEXT,
    events BLOB    NOT NULL,
    PRIMARY KEY (gid, seq)
) WITHOUT ROWID;

CREATE TABLE plans (
    digest     BLOB    NOT NULL PRIMARY KEY,
    format     INTEGER NOT NULL,
    definition TEXT,
    plan       BLOB    NOT NULL
);

-- Operators' words.
CREATE TABLE audit (
    gid    TEXT    NOT NULL,
    id     BLOB    NOT NULL,
    at     INTEGER NOT NULL,
    word   TEXT    NOT NULL,
    branch TEXT,
    reason TEXT,
    PRIMARY KEY (gid, id)
) WITHOUT ROWID;

CREATE TABLE settings (
    name  TEXT NOT NULL PRIMARY KEY,
    value BLOB NOT NULL
);
