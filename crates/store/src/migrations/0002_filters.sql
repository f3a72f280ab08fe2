-- A list that is filtered finds its rows without walking everybody's, however rare they are (experiments.rs).
CREATE INDEX experiments_owner_name ON experiments (owner_id, name, id);
CREATE INDEX experiments_owner_state ON experiments (owner_id, state, id);
CREATE INDEX experiments_workspace_name ON experiments (workspace_id, name, id);
CREATE INDEX experiments_workspace_state ON experiments (workspace_id, state, id);
