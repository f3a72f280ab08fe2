-- One text for both databases; {{ID}} and {{BYTES}} are filled in by db.rs. Times are µs since 1970 (UTC), flags 0/1.

-- Goes up with every change of who may do what; see access.rs.
CREATE TABLE access_version (one BIGINT PRIMARY KEY, version BIGINT NOT NULL);
INSERT INTO access_version (one, version) VALUES (1, 1);

CREATE TABLE principals (
  id {{ID}},
  kind TEXT NOT NULL,
  name TEXT NOT NULL,
  name_key TEXT NOT NULL,
  display_name TEXT,
  state TEXT NOT NULL,
  remote BIGINT NOT NULL DEFAULT 0,
  own_roles_only BIGINT NOT NULL DEFAULT 0,
  password_hash TEXT,
  created_at BIGINT NOT NULL,
  last_seen_at BIGINT
);
-- A name is free again once its holder was removed.
CREATE UNIQUE INDEX principals_name ON principals (name_key) WHERE state <> 'removed';

CREATE TABLE groups (
  id {{ID}},
  name TEXT NOT NULL,
  name_key TEXT NOT NULL UNIQUE,
  description TEXT NOT NULL,
  built_in BIGINT NOT NULL
);
CREATE TABLE group_members (
  group_id BIGINT NOT NULL REFERENCES groups (id),
  principal_id BIGINT NOT NULL REFERENCES principals (id),
  PRIMARY KEY (group_id, principal_id)
);

CREATE TABLE roles (
  id {{ID}},
  name TEXT NOT NULL,
  name_key TEXT NOT NULL UNIQUE,
  description TEXT NOT NULL,
  built_in BIGINT NOT NULL,
  -- JSON list of permissions as typed: "experiments:read", "models:delete:own".
  permissions TEXT NOT NULL
);

CREATE TABLE workspaces (
  id {{ID}},
  name TEXT NOT NULL,
  name_key TEXT NOT NULL UNIQUE,
  owner_id BIGINT REFERENCES principals (id),
  created_at BIGINT NOT NULL
);
CREATE TABLE projects (
  id {{ID}},
  workspace_id BIGINT NOT NULL REFERENCES workspaces (id),
  name TEXT NOT NULL,
  name_key TEXT NOT NULL,
  owner_id BIGINT REFERENCES principals (id),
  created_at BIGINT NOT NULL,
  UNIQUE (workspace_id, name_key)
);

CREATE TABLE queues (
  id {{ID}},
  name TEXT NOT NULL,
  name_key TEXT NOT NULL UNIQUE,
  -- 1: queues:submit is checked at the job's workspace; 0: at the queue.
  open BIGINT NOT NULL,
  created_at BIGINT NOT NULL
);

CREATE TABLE assignments (
  id {{ID}},
  principal_id BIGINT REFERENCES principals (id),
  group_id BIGINT REFERENCES groups (id),
  role_id BIGINT NOT NULL REFERENCES roles (id),
  -- global, workspace, project, experiment, model, queue, stack
  scope_kind TEXT NOT NULL,
  scope_id BIGINT NOT NULL,
  expires_at BIGINT,
  built_in BIGINT NOT NULL DEFAULT 0,
  created_at BIGINT NOT NULL
);
CREATE INDEX assignments_principal ON assignments (principal_id);
CREATE INDEX assignments_group ON assignments (group_id);

-- Sessions, API keys and links. hash = SHA-256 of the SHA-256 of the secret.
CREATE TABLE credentials (
  id {{ID}},
  principal_id BIGINT NOT NULL REFERENCES principals (id),
  kind TEXT NOT NULL,
  hash TEXT NOT NULL UNIQUE,
  label TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  expires_at BIGINT,
  last_used_at BIGINT,
  revoked_at BIGINT
);
CREATE INDEX credentials_principal ON credentials (principal_id, id);

-- Who has sent which code: having sent it is what lets one submit it without sending it again.
CREATE TABLE code_uploads (
  principal_id BIGINT NOT NULL REFERENCES principals (id),
  sha256 TEXT NOT NULL,
  bytes BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  PRIMARY KEY (principal_id, sha256)
);

CREATE TABLE experiments (
  id {{ID}},
  name TEXT NOT NULL,
  owner_id BIGINT NOT NULL REFERENCES principals (id),
  workspace_id BIGINT NOT NULL REFERENCES workspaces (id),
  project_id BIGINT NOT NULL REFERENCES projects (id),
  queue_id BIGINT NOT NULL REFERENCES queues (id),
  state TEXT NOT NULL,
  cause TEXT NOT NULL,
  slots BIGINT NOT NULL,
  priority BIGINT NOT NULL,
  restarts BIGINT NOT NULL,
  max_restarts BIGINT NOT NULL,
  exit_code BIGINT,
  created_at BIGINT NOT NULL,
  started_at BIGINT,
  ended_at BIGINT,
  code TEXT,
  config TEXT NOT NULL
);
-- Lists take the newest of each scope that is visible (experiments.rs).
CREATE INDEX experiments_owner ON experiments (owner_id, id);
CREATE INDEX experiments_owner_workspace ON experiments (owner_id, workspace_id, id);
CREATE INDEX experiments_workspace ON experiments (workspace_id, id);
CREATE INDEX experiments_project ON experiments (project_id, id);
CREATE INDEX experiments_name ON experiments (name, id);
CREATE INDEX experiments_state ON experiments (state, id);
-- A list that is filtered finds its rows without walking everybody's, however rare they are (experiments.rs).
CREATE INDEX experiments_owner_name ON experiments (owner_id, name, id);
CREATE INDEX experiments_owner_state ON experiments (owner_id, state, id);
CREATE INDEX experiments_workspace_name ON experiments (workspace_id, name, id);
CREATE INDEX experiments_workspace_state ON experiments (workspace_id, state, id);

CREATE TABLE experiment_events (
  experiment_id BIGINT NOT NULL REFERENCES experiments (id),
  number BIGINT NOT NULL,
  at BIGINT NOT NULL,
  state TEXT NOT NULL,
  cause TEXT NOT NULL,
  PRIMARY KEY (experiment_id, number)
);

CREATE TABLE agents (
  id {{ID}},
  principal_id BIGINT NOT NULL REFERENCES principals (id),
  name TEXT NOT NULL,
  queues TEXT NOT NULL,
  slots BIGINT NOT NULL,
  slot_kind TEXT NOT NULL,
  hardware TEXT NOT NULL,
  address TEXT NOT NULL,
  -- Which of several agents of that name it is.
  instance TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  last_seen_at BIGINT NOT NULL,
  UNIQUE (principal_id, name)
);

-- Whatever stands in a queue. kind: trial.
CREATE TABLE jobs (
  id {{ID}},
  kind TEXT NOT NULL,
  experiment_id BIGINT NOT NULL REFERENCES experiments (id),
  queue_id BIGINT NOT NULL REFERENCES queues (id),
  priority BIGINT NOT NULL,
  slots BIGINT NOT NULL,
  state TEXT NOT NULL,
  -- '', cancel or kill
  wanted TEXT NOT NULL DEFAULT '',
  wanted_by TEXT NOT NULL DEFAULT '',
  -- Goes up with every lease; reports under an older number are refused.
  fence BIGINT NOT NULL DEFAULT 0,
  agent_id BIGINT REFERENCES agents (id),
  -- Goes up with every poll of the agent that holds it.
  renewals BIGINT NOT NULL DEFAULT 0,
  token_hash TEXT,
  log_lines BIGINT NOT NULL DEFAULT 0,
  log_bytes BIGINT NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX jobs_experiment ON jobs (experiment_id);
CREATE INDEX jobs_waiting ON jobs (queue_id, priority, id) WHERE state = 'QUEUED';
CREATE INDEX jobs_held ON jobs (agent_id, id) WHERE state IN ('STARTING', 'RUNNING', 'STOPPING');
CREATE UNIQUE INDEX jobs_token ON jobs (token_hash) WHERE token_hash IS NOT NULL;

CREATE TABLE log_chunks (
  job_id BIGINT NOT NULL REFERENCES jobs (id),
  first_line BIGINT NOT NULL,
  last_line BIGINT NOT NULL,
  bytes BIGINT NOT NULL,
  data {{BYTES}} NOT NULL,
  PRIMARY KEY (job_id, last_line)
);

CREATE TABLE audit_events (
  id {{ID}},
  at BIGINT NOT NULL,
  principal_id BIGINT,
  principal TEXT NOT NULL,
  on_behalf_of TEXT,
  credential_id BIGINT,
  address TEXT,
  action TEXT NOT NULL,
  verb TEXT NOT NULL,
  object_kind TEXT NOT NULL,
  object TEXT NOT NULL,
  workspace_id BIGINT,
  outcome TEXT NOT NULL,
  detail TEXT NOT NULL,
  request_id TEXT NOT NULL
);
CREATE INDEX audit_events_principal ON audit_events (principal, id);
CREATE INDEX audit_events_principal_id ON audit_events (principal_id, id);
CREATE INDEX audit_events_action ON audit_events (action, id);
CREATE INDEX audit_events_verb ON audit_events (verb, id);
CREATE INDEX audit_events_object ON audit_events (object_kind, object, id);
CREATE INDEX audit_events_at ON audit_events (at);
CREATE INDEX audit_events_outcome ON audit_events (outcome, id);

-- The chain over the events, in the order in which they were sealed; see audit.rs.
CREATE TABLE audit_chain (
  link BIGINT PRIMARY KEY,
  event_id BIGINT NOT NULL UNIQUE,
  hash TEXT NOT NULL
);
