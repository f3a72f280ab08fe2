-- What an administrator has said of the agent: enabled, draining (no more work) or disabled (no more work, and what runs is ended). Kept over registrations.
ALTER TABLE agents ADD COLUMN service TEXT NOT NULL DEFAULT 'enabled';
