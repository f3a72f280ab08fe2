-- What each change of rights touched, so that every server brings its picture up to date by it; see picture.rs.
CREATE TABLE access_changes (
  version BIGINT NOT NULL,
  kind TEXT NOT NULL,
  object_id BIGINT NOT NULL,
  PRIMARY KEY (version, kind, object_id)
);

ALTER TABLE workspaces ADD COLUMN description TEXT NOT NULL DEFAULT '';
ALTER TABLE workspaces ADD COLUMN archived_at BIGINT;
ALTER TABLE projects ADD COLUMN description TEXT NOT NULL DEFAULT '';
ALTER TABLE projects ADD COLUMN archived_at BIGINT;

-- What a key leaves of its owner's rights. NULL: all. permissions: JSON list of words; workspaces: JSON list of ids.
ALTER TABLE credentials ADD COLUMN permissions TEXT;
ALTER TABLE credentials ADD COLUMN workspaces TEXT;

ALTER TABLE assignments ADD COLUMN created_by BIGINT REFERENCES principals (id);
ALTER TABLE assignments ADD COLUMN reason TEXT NOT NULL DEFAULT '';
CREATE UNIQUE INDEX assignments_principal_once ON assignments (principal_id, role_id, scope_kind, scope_id) WHERE principal_id IS NOT NULL;
CREATE UNIQUE INDEX assignments_group_once ON assignments (group_id, role_id, scope_kind, scope_id) WHERE group_id IS NOT NULL;
CREATE INDEX assignments_role ON assignments (role_id);
CREATE INDEX assignments_scope ON assignments (scope_kind, scope_id);
CREATE INDEX assignments_end ON assignments (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX group_members_principal ON group_members (principal_id);

-- Access on request. role and scope as they were typed: whoever decides looks them up.
CREATE TABLE access_requests (
  id {{ID}},
  -- request, break-glass
  kind TEXT NOT NULL,
  principal_id BIGINT NOT NULL REFERENCES principals (id),
  role TEXT NOT NULL,
  scope TEXT NOT NULL,
  lifetime_ms BIGINT NOT NULL,
  why TEXT NOT NULL,
  -- waiting, approved, declined, withdrawn, expired
  state TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  decided_at BIGINT,
  decided_by BIGINT REFERENCES principals (id),
  answer TEXT NOT NULL DEFAULT '',
  -- What an approval made, and when that ends.
  assignment_id BIGINT,
  ends_at BIGINT
);
CREATE INDEX access_requests_principal ON access_requests (principal_id, id);
CREATE INDEX access_requests_waiting ON access_requests (id) WHERE state = 'waiting';
CREATE INDEX access_requests_assignment ON access_requests (assignment_id) WHERE assignment_id IS NOT NULL;

-- Mode `shadow`: what `rbac` would have decided differently, counted by who, what and where.
CREATE TABLE shadow_differences (
  principal_id BIGINT NOT NULL REFERENCES principals (id),
  permission TEXT NOT NULL,
  scope_kind TEXT NOT NULL,
  scope_id BIGINT NOT NULL,
  -- 1: rbac would allow what was refused; 0: rbac would refuse what was allowed
  gains BIGINT NOT NULL,
  count BIGINT NOT NULL,
  first_at BIGINT NOT NULL,
  last_at BIGINT NOT NULL,
  example TEXT NOT NULL,
  PRIMARY KEY (principal_id, permission, scope_kind, scope_id, gains)
);

CREATE INDEX experiments_project_name ON experiments (project_id, name, id);
CREATE INDEX experiments_project_state ON experiments (project_id, state, id);
-- By name among those of one state. Only ended ones: they do not change any more, and of the others there are never very many (experiments/list.rs).
CREATE INDEX experiments_ended ON experiments (state, name, id) WHERE ended_at IS NOT NULL;
CREATE INDEX experiments_owner_ended ON experiments (owner_id, state, name, id) WHERE ended_at IS NOT NULL;
CREATE INDEX experiments_workspace_ended ON experiments (workspace_id, state, name, id) WHERE ended_at IS NOT NULL;
CREATE INDEX experiments_project_ended ON experiments (project_id, state, name, id) WHERE ended_at IS NOT NULL;
