-- What came of experiments, under a name in a workspace.
CREATE TABLE models (
  id {{ID}},
  workspace_id BIGINT NOT NULL REFERENCES workspaces (id),
  name TEXT NOT NULL,
  name_key TEXT NOT NULL,
  description TEXT NOT NULL DEFAULT '',
  owner_id BIGINT,
  -- The highest number that a version was ever given.
  last_version BIGINT NOT NULL DEFAULT 0,
  -- How many are there.
  versions BIGINT NOT NULL DEFAULT 0,
  created_at BIGINT NOT NULL,
  UNIQUE (workspace_id, name_key)
);
CREATE TABLE model_versions (
  model_id BIGINT NOT NULL REFERENCES models (id),
  version BIGINT NOT NULL,
  description TEXT NOT NULL DEFAULT '',
  experiment_id BIGINT REFERENCES experiments (id) ON DELETE SET NULL,
  uri TEXT NOT NULL DEFAULT '',
  owner_id BIGINT,
  created_at BIGINT NOT NULL,
  PRIMARY KEY (model_id, version)
);
-- For the deletion of experiments.
CREATE INDEX model_versions_experiment ON model_versions (experiment_id);
