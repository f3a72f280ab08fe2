-- What an administrator has said of the agent: enabled, draining (no more work) or disabled (no more work, and what runs is ended). Kept over registrations.
ALTER TABLE agents ADD COLUMN service TEXT NOT NULL DEFAULT 'enabled';
-- When the server that held its poll found it gone; NULL while it is there.
ALTER TABLE agents ADD COLUMN gone_at BIGINT;
-- As the agent measured it last: JSON, empty until then.
ALTER TABLE agents ADD COLUMN load TEXT NOT NULL DEFAULT '';
ALTER TABLE agents ADD COLUMN load_at BIGINT;
-- 1: its queues take turns. Then `last_queue` is the one that it took a job from last; else they are looked at in their order.
ALTER TABLE agents ADD COLUMN fair BIGINT NOT NULL DEFAULT 0;
ALTER TABLE agents ADD COLUMN last_queue BIGINT NOT NULL DEFAULT 0;
