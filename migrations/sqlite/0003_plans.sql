-- When a plan was last stored by a begin or a publication: what nothing refers to any more is removed some time later.
ALTER TABLE plans ADD COLUMN used_at INTEGER NOT NULL DEFAULT 0;
UPDATE plans SET used_at = CAST(unixepoch('subsec') * 1000 AS INTEGER);
