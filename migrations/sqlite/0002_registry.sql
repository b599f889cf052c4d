-- Published definitions: a row never changes, and none is removed. Its plan stands in `plans`.
CREATE TABLE workflows (
    name              TEXT    NOT NULL,
    version           TEXT    NOT NULL,
    -- No pre-release.
    stable            BOOLEAN NOT NULL,
    -- The version, written so that the order of its bytes is SemVer's.
    precedence        TEXT    NOT NULL,
    -- SHA-256 of the definition's RFC 8785 form.
    definition_digest BLOB    NOT NULL,
    -- As it was sent. Not that of `plans`: definitions that differ in their labels or their `input` share a plan.
    definition        TEXT    NOT NULL,
    plan              BLOB    NOT NULL,
    published_at      INTEGER NOT NULL,
    PRIMARY KEY (name, version)
);

CREATE INDEX workflows_latest ON workflows (name, stable, precedence, version);
