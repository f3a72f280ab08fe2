//! What a fresh installation begins with (`access.md` §3), and the built-in roles brought up to date at every start.

use bailiwick_api::AssignmentId;
use bailiwick_api::names::name_key;
use bailiwick_api::permission::BUILT_IN_ROLES;
use sqlx::Row;

use crate::db::{Db, Result, Tx};

/// What `ml serve` has to tell the operator.
#[derive(Debug, PartialEq, Eq)]
pub struct Prepared {
    pub first_start: bool,
    /// The id of the user `admin` while nobody has set a password for it.
    pub admin_without_password: Option<i64>,
}

/// Ordinary roles, removable as any custom role is, that a fresh server starts with.
const FIRST_ROLES: &[(&str, &str, &[&str])] = &[
    (
        "Member",
        "changes its own data, manages its own API keys and vault, and makes stacks of its own",
        &[
            "me:update",
            "tokens:create:own",
            "tokens:read:own",
            "tokens:revoke:own",
            "vaults:read:own",
            "vaults:update:own",
            "stacks:create",
            "stacks:read:own",
            "stacks:update:own",
            "stacks:delete:own",
        ],
    ),
    (
        "QueueAgent",
        "takes jobs out of a queue, as an agent",
        &["queues:read", "queues:serve"],
    ),
];

/// Brings the built-in roles up to date and, in an empty database, makes groups, the workspace and queue `default`, and the user `admin`.
pub async fn prepare(db: &Db, admin_password_hash: Option<&str>) -> Result<Prepared> {
    let now = db.now().0;
    let mut tx = db.begin().await?;
    let before = roles(&mut tx).await?;
    for role in BUILT_IN_ROLES {
        put_role(&mut tx, role.name, role.description, &role.permissions().words(), 1).await?;
    }
    if roles(&mut tx).await? != before {
        // Servers that run beside this newer one load everything anew.
        for sql in [
            "UPDATE access_version SET version = version + 1",
            "INSERT INTO access_changes (version, kind, object_id) SELECT version, 'everything', 0 FROM access_version",
        ] {
            sqlx::query(sql).execute(&mut *tx).await?;
        }
    }
    let users: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM principals")
        .fetch_one(&mut *tx)
        .await?;
    let first_start = users == 0;
    if first_start {
        fill(&mut tx, now).await?;
    }
    if let Some(hash) = admin_password_hash {
        // Only while there is none: a configuration file must not undo a change of the password.
        sqlx::query("UPDATE principals SET password_hash = $1 WHERE name_key = 'admin' AND password_hash IS NULL AND state <> 'removed'")
            .bind(hash)
            .execute(&mut *tx)
            .await?;
    }
    let admin = sqlx::query(
        "SELECT id FROM principals WHERE name_key = 'admin' AND state = 'active' AND password_hash IS NULL AND kind = 'user'",
    );
    let admin = admin.fetch_optional(&mut *tx).await?;
    let admin_without_password = admin.map(|row| row.try_get(0)).transpose()?;
    tx.commit().await?;
    Ok(Prepared {
        first_start,
        admin_without_password,
    })
}

async fn roles(tx: &mut Tx) -> Result<Vec<(String, String)>> {
    let roles = sqlx::query_as("SELECT name, permissions FROM roles ORDER BY id");
    Ok(roles.fetch_all(&mut **tx).await?)
}

async fn put_role(tx: &mut Tx, name: &str, description: &str, words: &[String], built_in: i64) -> Result<i64> {
    let words = serde_json::to_string(words).expect("a list of words is JSON");
    let row = sqlx::query(
        "INSERT INTO roles (name, name_key, description, built_in, permissions) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (name_key) DO UPDATE SET description = $3, permissions = $5 RETURNING id",
    )
    .bind(name)
    .bind(name_key(name))
    .bind(description)
    .bind(built_in)
    .bind(words)
    .fetch_one(&mut **tx)
    .await?;
    Ok(row.try_get(0)?)
}

async fn fill(tx: &mut Tx, now: i64) -> Result<()> {
    let admin: i64 = sqlx::query_scalar(
        "INSERT INTO principals (kind, name, name_key, state, created_at) VALUES ('user', 'admin', 'admin', 'active', $1) RETURNING id",
    )
    .bind(now)
    .fetch_one(&mut **tx)
    .await?;
    let workspace: i64 = sqlx::query_scalar(
        "INSERT INTO workspaces (name, name_key, created_at) VALUES ('default', 'default', $1) RETURNING id",
    )
    .bind(now)
    .fetch_one(&mut **tx)
    .await?;
    sqlx::query(
        "INSERT INTO projects (workspace_id, name, name_key, created_at) VALUES ($1, 'default', 'default', $2)",
    )
    .bind(workspace)
    .bind(now)
    .execute(&mut **tx)
    .await?;
    sqlx::query(
        "INSERT INTO queues (name, name_key, open, is_default, created_at) VALUES ('default', 'default', 1, 1, $1)",
    )
    .bind(now)
    .execute(&mut **tx)
    .await?;
    for (name, description, words) in FIRST_ROLES {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        put_role(tx, name, description, &words, 0).await?;
    }
    let groups = [
        ("Users", "every user and service account", None),
        (
            "Admins",
            "administrators of everything but queues",
            Some("Administrator"),
        ),
        ("Queue admins", "administrators of the queues", Some("QueueAdmin")),
    ];
    for (name, description, role) in groups {
        let id: i64 = sqlx::query_scalar(
            "INSERT INTO groups (name, name_key, description, built_in) VALUES ($1, $2, $3, 1) RETURNING id",
        )
        .bind(name)
        .bind(name_key(name))
        .bind(description)
        .fetch_one(&mut **tx)
        .await?;
        if let Some(role) = role {
            assign(tx, None, Some(id), role, ("global", 0), 1, now).await?;
        }
        if name == "Users" {
            assign(tx, None, Some(id), "DataScientist", ("workspace", workspace), 0, now).await?;
            assign(tx, None, Some(id), "Member", ("global", 0), 0, now).await?;
        }
    }
    assign(tx, Some(admin), None, "ClusterAdmin", ("global", 0), 0, now).await?;
    Ok(())
}

/// Writes an assignment; whether it may be made is the caller's question, and telling that it was ([`crate::access::Work::touches`]).
pub(crate) async fn assign(
    tx: &mut Tx,
    principal: Option<i64>,
    group: Option<i64>,
    role: &str,
    (scope_kind, scope_id): (&str, i64),
    built_in: i64,
    now: i64,
) -> Result<AssignmentId> {
    let id: i64 = sqlx::query_scalar(
        "INSERT INTO assignments (principal_id, group_id, role_id, scope_kind, scope_id, built_in, created_at)
         SELECT $1, $2, id, $4, $5, $6, $7 FROM roles WHERE name_key = $3 RETURNING id",
    )
    .bind(principal)
    .bind(group)
    .bind(name_key(role))
    .bind(scope_kind)
    .bind(scope_id)
    .bind(built_in)
    .bind(now)
    .fetch_one(&mut **tx)
    .await?;
    Ok(AssignmentId(id))
}
