-- Text keys are compared by bytes, as the coordinator and SQLite compare them. Times are milliseconds since 1970 UTC.

CREATE TABLE nodes (
    node_id    uuid    PRIMARY KEY,
    address    text    NOT NULL,
    format     integer NOT NULL,
    expires_at bigint  NOT NULL,
    -- Counts this node's commits; every one of them updates it, so there is room for it to move within its page.
    batch      bigint  NOT NULL,
    dead       boolean NOT NULL,
    draining   boolean NOT NULL
) WITH (fillfactor = 30);

CREATE TABLE shards (
    shard integer PRIMARY KEY,
    owner uuid,
    epoch bigint NOT NULL
) WITH (fillfactor = 50);

INSERT INTO shards (shard, owner, epoch) SELECT shard, NULL, 0 FROM generate_series(0, 63) AS shard;

-- The projection: what a journal amounts to, lagging only to the safe side. What retention leaves is its tombstone.
CREATE TABLE transactions (
    gid            text COLLATE "C" PRIMARY KEY,
    shard          integer NOT NULL,
    status         text    NOT NULL CHECK (status IN
        ('running', 'confirming', 'compensating', 'suspended', 'succeeded', 'compensated', 'failed')),
    workflow       text COLLATE "C",
    version        text COLLATE "C",
    request_digest bytea   NOT NULL,
    plan           bytea   NOT NULL,
    created_at     bigint  NOT NULL,
    next_wake_at   bigint,
    parked_node    uuid,
    parked_epoch   bigint,
    settled_at     bigint,
    -- The newest append by a node that did not hold the transaction, until a projection has seen it.
    foreign_seq    bigint,
    expired        boolean NOT NULL,
    -- Why it was set aside.
    quarantined    text
);

CREATE INDEX transactions_due ON transactions (shard, next_wake_at) WHERE settled_at IS NULL;
CREATE INDEX transactions_foreign ON transactions (shard) WHERE foreign_seq IS NOT NULL;
CREATE INDEX transactions_newest ON transactions (created_at, gid) WHERE NOT expired;
CREATE INDEX transactions_tombstones ON transactions (settled_at) WHERE expired;

CREATE TABLE labels (
    gid        text COLLATE "C" NOT NULL,
    key        text COLLATE "C" NOT NULL,
    value      text COLLATE "C" NOT NULL,
    created_at bigint NOT NULL,
    PRIMARY KEY (gid, key)
);

CREATE INDEX labels_newest ON labels (key, value, created_at, gid);

-- Append-only; one row is one append.
CREATE TABLE journal (
    gid    text COLLATE "C" NOT NULL,
    seq    bigint  NOT NULL,
    format integer NOT NULL,
    key_id text,
    events bytea   NOT NULL,
    PRIMARY KEY (gid, seq)
);

CREATE TABLE plans (
    digest     bytea   PRIMARY KEY,
    format     integer NOT NULL,
    definition text,
    plan       bytea   NOT NULL
);

-- Operators' words.
CREATE TABLE audit (
    gid    text COLLATE "C" NOT NULL,
    id     uuid   NOT NULL,
    at     bigint NOT NULL,
    word   text   NOT NULL,
    branch text,
    reason text,
    PRIMARY KEY (gid, id)
);

CREATE TABLE settings (
    name  text COLLATE "C" PRIMARY KEY,
    value bytea NOT NULL
);
