-- Where work runs and with what, by a name of its owner's. Nobody else sees a stack that is not shared.
CREATE TABLE stacks (
  id {{ID}},
  name TEXT NOT NULL,
  name_key TEXT NOT NULL,
  -- 0: made where access control was off, by nobody.
  owner_id BIGINT NOT NULL,
  description TEXT NOT NULL DEFAULT '',
  executor TEXT NOT NULL,
  queue_id BIGINT REFERENCES queues (id),
  artifact_store TEXT NOT NULL DEFAULT '',
  -- JSON: variable to value.
  environment TEXT NOT NULL DEFAULT '{}',
  created_at BIGINT NOT NULL,
  UNIQUE (owner_id, name_key)
);
-- What a submission to the workspace names no queue for goes into it, before the default queue of all.
ALTER TABLE workspaces ADD COLUMN default_queue_id BIGINT REFERENCES queues (id);
-- Everybody may make stacks and manage those. The role is an ordinary one: where it was changed, what it lacks is added and nothing else touched.
UPDATE roles SET permissions = REPLACE(permissions, ']', ',"stacks:create"]') WHERE name_key = 'member' AND built_in = 0 AND permissions LIKE '%"me:update"%' AND permissions NOT LIKE '%"stacks:create"%';
UPDATE roles SET permissions = REPLACE(permissions, ']', ',"stacks:read:own"]') WHERE name_key = 'member' AND built_in = 0 AND permissions LIKE '%"me:update"%' AND permissions NOT LIKE '%"stacks:read:own"%';
UPDATE roles SET permissions = REPLACE(permissions, ']', ',"stacks:update:own"]') WHERE name_key = 'member' AND built_in = 0 AND permissions LIKE '%"me:update"%' AND permissions NOT LIKE '%"stacks:update:own"%';
UPDATE roles SET permissions = REPLACE(permissions, ']', ',"stacks:delete:own"]') WHERE name_key = 'member' AND built_in = 0 AND permissions LIKE '%"me:update"%' AND permissions NOT LIKE '%"stacks:delete:own"%';
