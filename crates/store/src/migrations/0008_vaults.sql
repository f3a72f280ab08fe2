-- Configuration merged into what agents and jobs see. Of one principal, of a group, or (neither) of everybody.
CREATE TABLE vaults (
    id {{ID}},
    principal_id BIGINT REFERENCES principals (id),
    group_id BIGINT REFERENCES groups (id),
    name TEXT NOT NULL,
    name_key TEXT NOT NULL,
    place BIGINT NOT NULL,
    enforced BIGINT NOT NULL,
    enabled BIGINT NOT NULL,
    format TEXT NOT NULL,
    -- The text and what it was read as, sealed with the key of this name, which is not in the database.
    key_name TEXT NOT NULL,
    sealed {{BYTES}} NOT NULL,
    -- JSON list: the paths of its values.
    keys TEXT NOT NULL,
    version BIGINT NOT NULL,
    changed_at BIGINT NOT NULL,
    changed_by_id BIGINT NOT NULL
);
CREATE UNIQUE INDEX vaults_principal ON vaults (principal_id) WHERE principal_id IS NOT NULL;
CREATE UNIQUE INDEX vaults_name ON vaults (name_key) WHERE principal_id IS NULL;
CREATE INDEX vaults_key ON vaults (key_name, id);

-- Who did what, without values. Goes with its vault; the audit keeps its own.
CREATE TABLE vault_changes (
    id {{ID}},
    vault_id BIGINT NOT NULL REFERENCES vaults (id) ON DELETE CASCADE,
    at BIGINT NOT NULL,
    principal_id BIGINT NOT NULL,
    verb TEXT NOT NULL,
    keys TEXT NOT NULL,
    address TEXT NOT NULL
);
CREATE INDEX vault_changes_vault ON vault_changes (vault_id, id);

-- Names (never the keys themselves) of the keys that seal; one is current.
CREATE TABLE vault_keys (
    name TEXT PRIMARY KEY,
    made_at BIGINT NOT NULL,
    is_current BIGINT NOT NULL
);
CREATE UNIQUE INDEX vault_keys_current ON vault_keys (is_current) WHERE is_current = 1;

-- 1: it applies vaults.
ALTER TABLE agents ADD COLUMN vaults BIGINT NOT NULL DEFAULT 0;

-- Everybody's own vault, where the role of the first start is still as it was in this.
UPDATE roles SET permissions = replace(permissions, ']', ',"vaults:read:own","vaults:update:own"]')
WHERE name_key = 'member' AND built_in = 0 AND permissions LIKE '%"me:update"%' AND permissions NOT LIKE '%vaults:%';
