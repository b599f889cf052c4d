-- Published definitions: a row never changes, and none is removed. Its plan stands in `plans`.
CREATE TABLE workflows (
    name              text COLLATE "C" NOT NULL,
    version           text COLLATE "C" NOT NULL,
    -- No pre-release.
    stable            boolean NOT NULL,
    -- The version, written so that the order of its bytes is SemVer's.
    precedence        text COLLATE "C" NOT NULL,
    -- SHA-256 of the definition's RFC 8785 form.
    definition_digest bytea   NOT NULL,
    -- As it was sent. Not that of `plans`: definitions that differ in their labels or their `input` share a plan.
    definition        text    NOT NULL,
    plan              bytea   NOT NULL,
    published_at      bigint  NOT NULL,
    PRIMARY KEY (name, version)
);

CREATE INDEX workflows_latest ON workflows (name, stable, precedence, version);
