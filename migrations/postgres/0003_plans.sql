-- When a plan was last stored by a begin or a publication: what nothing refers to any more is removed some time later.
ALTER TABLE plans ADD COLUMN used_at bigint NOT NULL DEFAULT 0;
UPDATE plans SET used_at = (extract(epoch FROM clock_timestamp()) * 1000)::bigint;
ALTER TABLE plans ALTER COLUMN used_at DROP DEFAULT;
