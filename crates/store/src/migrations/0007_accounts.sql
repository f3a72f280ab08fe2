-- 1: agents of this service account may run each job as its owner.
ALTER TABLE principals ADD COLUMN impersonates BIGINT NOT NULL DEFAULT 0;
-- 1: registered with `--use-owner-token`.
ALTER TABLE agents ADD COLUMN use_owner_token BIGINT NOT NULL DEFAULT 0;
-- 1: the token of its lease is for what the owner may read; 0: for what the agent's account may.
ALTER TABLE jobs ADD COLUMN as_owner BIGINT NOT NULL DEFAULT 0;
-- Whose name stands in on_behalf_of, to find the event by.
ALTER TABLE audit_events ADD COLUMN on_behalf_of_id BIGINT;
CREATE INDEX audit_events_on_behalf_of ON audit_events (on_behalf_of_id, id) WHERE on_behalf_of_id IS NOT NULL;
