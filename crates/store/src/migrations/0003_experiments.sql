-- Lists leave archived experiments out, or show them alone: every index of a list holds the two kinds apart, so that neither is walked through for the other
-- (experiments/list.rs). After the scope, because whatever else looks for the rows of an owner or a place looks by that alone.
ALTER TABLE experiments ADD COLUMN archived BIGINT NOT NULL DEFAULT 0;
DROP INDEX experiments_owner;
DROP INDEX experiments_owner_workspace;
DROP INDEX experiments_workspace;
DROP INDEX experiments_project;
DROP INDEX experiments_name;
DROP INDEX experiments_state;
DROP INDEX experiments_owner_name;
DROP INDEX experiments_owner_state;
DROP INDEX experiments_workspace_name;
DROP INDEX experiments_workspace_state;
DROP INDEX experiments_project_name;
DROP INDEX experiments_project_state;
DROP INDEX experiments_ended;
DROP INDEX experiments_owner_ended;
DROP INDEX experiments_workspace_ended;
DROP INDEX experiments_project_ended;
CREATE INDEX experiments_listed ON experiments (archived, id);
CREATE INDEX experiments_owner ON experiments (owner_id, archived, id);
CREATE INDEX experiments_owner_workspace ON experiments (owner_id, workspace_id, archived, id);
CREATE INDEX experiments_workspace ON experiments (workspace_id, archived, id);
CREATE INDEX experiments_project ON experiments (project_id, archived, id);
CREATE INDEX experiments_name ON experiments (archived, name, id);
CREATE INDEX experiments_state ON experiments (archived, state, id);
CREATE INDEX experiments_owner_name ON experiments (owner_id, archived, name, id);
CREATE INDEX experiments_owner_state ON experiments (owner_id, archived, state, id);
CREATE INDEX experiments_workspace_name ON experiments (workspace_id, archived, name, id);
CREATE INDEX experiments_workspace_state ON experiments (workspace_id, archived, state, id);
CREATE INDEX experiments_project_name ON experiments (project_id, archived, name, id);
CREATE INDEX experiments_project_state ON experiments (project_id, archived, state, id);
CREATE INDEX experiments_ended ON experiments (archived, state, name, id) WHERE ended_at IS NOT NULL;
CREATE INDEX experiments_owner_ended ON experiments (owner_id, archived, state, name, id) WHERE ended_at IS NOT NULL;
CREATE INDEX experiments_workspace_ended ON experiments (workspace_id, archived, state, name, id) WHERE ended_at IS NOT NULL;
CREATE INDEX experiments_project_ended ON experiments (project_id, archived, state, name, id) WHERE ended_at IS NOT NULL;

-- One row for each lease of a job: who had it, what came of it, and what its processes used.
CREATE TABLE job_attempts (
  job_id BIGINT NOT NULL REFERENCES jobs (id),
  fence BIGINT NOT NULL,
  -- The agent's name, as it was.
  agent TEXT NOT NULL,
  taken_at BIGINT NOT NULL,
  started_at BIGINT,
  ended_at BIGINT,
  exit_code BIGINT,
  cause TEXT NOT NULL DEFAULT '',
  -- NULL: never heard of.
  measured_at BIGINT,
  cpu_ms BIGINT NOT NULL DEFAULT 0,
  memory_bytes BIGINT NOT NULL DEFAULT 0,
  memory_peak_bytes BIGINT NOT NULL DEFAULT 0,
  PRIMARY KEY (job_id, fence)
);
