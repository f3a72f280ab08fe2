-- What a queue is for, and how its jobs take turns.
ALTER TABLE queues ADD COLUMN description TEXT NOT NULL DEFAULT '';
-- 1: what a submission names no queue for goes into this one.
ALTER TABLE queues ADD COLUMN is_default BIGINT NOT NULL DEFAULT 0;
-- active, paused (nothing starts) or draining (nothing is taken in)
ALTER TABLE queues ADD COLUMN state TEXT NOT NULL DEFAULT 'active';
-- '', users or workspaces: who has the fewest slots in use goes first.
ALTER TABLE queues ADD COLUMN share TEXT NOT NULL DEFAULT '';
-- Jobs that run at once: of all, of one user, of one workspace. 0: as many as there is room for.
ALTER TABLE queues ADD COLUMN max_running BIGINT NOT NULL DEFAULT 0;
ALTER TABLE queues ADD COLUMN max_running_of_user BIGINT NOT NULL DEFAULT 0;
ALTER TABLE queues ADD COLUMN max_running_of_workspace BIGINT NOT NULL DEFAULT 0;
-- What ended in it still names it.
ALTER TABLE queues ADD COLUMN deleted_at BIGINT;
UPDATE queues SET is_default = 1 WHERE name_key = 'default';
-- A queue that is not open to all is open to these.
CREATE TABLE queue_workspaces (
  queue_id BIGINT NOT NULL REFERENCES queues (id),
  workspace_id BIGINT NOT NULL REFERENCES workspaces (id),
  PRIMARY KEY (queue_id, workspace_id)
);
CREATE INDEX queue_workspaces_workspace ON queue_workspaces (workspace_id);
-- Whose a job is, for limits and shares.
ALTER TABLE jobs ADD COLUMN owner_id BIGINT NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN workspace_id BIGINT NOT NULL DEFAULT 0;
UPDATE jobs SET
  owner_id = (SELECT e.owner_id FROM experiments e WHERE e.id = jobs.experiment_id),
  workspace_id = (SELECT e.workspace_id FROM experiments e WHERE e.id = jobs.experiment_id);
CREATE INDEX jobs_turns ON jobs (queue_id, owner_id, workspace_id, priority, id) WHERE state = 'QUEUED';
-- How busy a queue was, once a minute for a week.
CREATE TABLE queue_load (
  queue_id BIGINT NOT NULL REFERENCES queues (id),
  minute BIGINT NOT NULL,
  waiting BIGINT NOT NULL,
  running BIGINT NOT NULL,
  PRIMARY KEY (queue_id, minute)
);
