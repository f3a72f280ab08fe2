-- What an administrator has said of the agent: enabled, draining (no more work) or disabled (no more work, and what runs is ended). Kept over registrations.
ALTER TABLE agents ADD COLUMN service TEXT NOT NULL DEFAULT 'enabled';
-- When the server that held its poll found it gone; NULL while it is there.
ALTER TABLE agents ADD COLUMN gone_at BIGINT;
-- As the agent measured it last: JSON, empty until then.
ALTER TABLE agents ADD COLUMN load TEXT NOT NULL DEFAULT '';
ALTER TABLE agents ADD COLUMN load_at BIGINT;
