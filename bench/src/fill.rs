//! A database with as many experiments as wanted, written past the server, which must not be running.

use sqlx::{AnyConnection, AssertSqlSafe, Connection, Executor};

use crate::Outcome;
use crate::ground::{Kind, Place};

pub const OWNERS: i64 = 1000;
/// Rows written in one transaction.
const PIECE: i64 = 100_000;

/// Who and where, by their ids in the database.
pub struct People {
    /// Owns every row that nobody special owns, with the ids after it.
    pub first_owner: i64,
    /// Where the experiment `i` lies: its workspace and project, as SQL.
    workspace: String,
    project: String,
}

async fn connect(place: &Place) -> Outcome<AnyConnection> {
    sqlx::any::install_default_drivers();
    let url = match place.kind {
        Kind::Sqlite => format!("sqlite://{}?mode=rw", place.database.trim_start_matches("sqlite:")),
        Kind::Postgres => place.database.clone(),
    };
    AnyConnection::connect(&url).await.map_err(text)
}

fn text(why: sqlx::Error) -> String {
    format!("filling the database: {why}")
}

/// A thousand owners, and a second workspace beside `default`.
pub async fn people(place: &Place) -> Outcome<People> {
    let mut db = connect(place).await?;
    let number = async |db: &mut AnyConnection, sql: &'static str| {
        sqlx::query_scalar::<_, i64>(sql).fetch_one(db).await.map_err(text)
    };
    let other = number(
        &mut db,
        "INSERT INTO workspaces (name, name_key, created_at) VALUES ('Other', 'other', 0) RETURNING id",
    )
    .await?;
    let project = sqlx::query_scalar::<_, i64>(
        "INSERT INTO projects (workspace_id, name, name_key, created_at) VALUES ($1, 'default', 'default', 0) RETURNING id",
    );
    let project = project.bind(other).fetch_one(&mut db).await.map_err(text)?;
    let workspace = number(&mut db, "SELECT id FROM workspaces WHERE name = 'default'").await?;
    let first_project = number(&mut db, "SELECT MIN(id) FROM projects").await?;
    let before = number(&mut db, "SELECT MAX(id) FROM principals").await?;
    let sql = format!(
        "WITH RECURSIVE n(i) AS (SELECT CAST(0 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < {OWNERS} - 1)
         INSERT INTO principals (kind, name, name_key, state, created_at) SELECT 'user', 'owner' || i, 'owner' || i, 'active', 0 FROM n"
    );
    db.execute(AssertSqlSafe(sql)).await.map_err(text)?;
    db.execute("UPDATE access_version SET version = version + 1")
        .await
        .map_err(text)?;
    db.close().await.map_err(text)?;
    Ok(People {
        first_owner: before + 1,
        workspace: format!("CASE WHEN i % 2 = 0 THEN {workspace} ELSE {other} END"),
        project: format!("CASE WHEN i % 2 = 0 THEN {first_project} ELSE {project} END"),
    })
}

/// Workspaces, of one project each, over which the experiments are scattered.
pub const PLACES: i64 = 5_000;

/// The same owners, and [`PLACES`] workspaces named `place-0` and so on; gives the id of the first.
pub async fn places(place: &Place) -> Outcome<(People, i64)> {
    let owners = people(place).await?;
    let mut db = connect(place).await?;
    let number = async |db: &mut AnyConnection, sql: &'static str| {
        sqlx::query_scalar::<_, i64>(sql).fetch_one(db).await.map_err(text)
    };
    let sql = format!(
        "WITH RECURSIVE n(i) AS (SELECT CAST(0 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < {PLACES} - 1)
         INSERT INTO workspaces (name, name_key, created_at) SELECT 'place-' || i, 'place-' || i, 0 FROM n ORDER BY i"
    );
    db.execute(AssertSqlSafe(sql)).await.map_err(text)?;
    let first = number(&mut db, "SELECT MIN(id) FROM workspaces WHERE name LIKE 'place-%'").await?;
    let sql = format!(
        "INSERT INTO projects (workspace_id, name, name_key, created_at) SELECT id, 'default', 'default', 0 FROM workspaces WHERE id >= {first} ORDER BY id"
    );
    db.execute(AssertSqlSafe(sql)).await.map_err(text)?;
    let project = number(
        &mut db,
        "SELECT MIN(p.id) FROM projects p JOIN workspaces w ON w.id = p.workspace_id WHERE w.name LIKE 'place-%'",
    )
    .await?;
    db.close().await.map_err(text)?;
    let people = People {
        first_owner: owners.first_owner,
        // Neighbours in time are far from each other.
        workspace: format!("{first} + (i * 48271) % {PLACES}"),
        project: format!("{project} + (i * 48271) % {PLACES}"),
    };
    Ok((people, first))
}

/// Statements of the caller's own, while no server runs.
pub async fn run(place: &Place, statements: &[String]) -> Outcome<()> {
    let mut db = connect(place).await?;
    for sql in statements {
        db.execute(AssertSqlSafe(sql.clone())).await.map_err(text)?;
    }
    db.close().await.map_err(text)
}

/// Gives a user a role, through a new group of its own, at the scopes whose ids `scopes` (a select of `id`) gives.
pub async fn assign(place: &Place, user: &str, role: &str, kind: &str, scopes: &str) -> Outcome<()> {
    let group = format!("{user} at {kind} by {role} {}", crate::ground::now_us());
    let sql = [
        format!("INSERT INTO groups (name, name_key, description, built_in) VALUES ('{group}', '{}', '', 0)", group.to_lowercase()),
        format!("INSERT INTO group_members (group_id, principal_id) SELECT g.id, p.id FROM groups g, principals p WHERE g.name = '{group}' AND p.name = '{user}'"),
        format!(
            "INSERT INTO assignments (group_id, role_id, scope_kind, scope_id, created_at)
             SELECT (SELECT id FROM groups WHERE name = '{group}'), (SELECT id FROM roles WHERE name = '{role}'), '{kind}', id, 0 FROM ({scopes}) AS scopes"
        ),
    ];
    run(place, &sql).await
}

/// Lets a user see half of the [`PLACES`], through 25 groups of a hundred each.
pub async fn assign_half(place: &Place, user: &str, first_place: i64) -> Outcome<()> {
    for group in 0..25 {
        let (from, to) = (first_place + group * 200, first_place + group * 200 + 99);
        let scopes = format!("SELECT id FROM workspaces WHERE id BETWEEN {from} AND {to}");
        assign(place, user, "Viewer", "workspace", &scopes).await?;
    }
    Ok(())
}

/// Gives a user a role at `count` experiments, spread over the whole age of the installation, one by one; what was shared so before is not any more.
pub async fn share(place: &Place, user: &str, role: &str, count: i64) -> Outcome<()> {
    let who = format!("(SELECT id FROM principals WHERE name = '{user}')");
    let sql = [
        format!("DELETE FROM assignments WHERE principal_id = {who} AND scope_kind = 'experiment'"),
        format!(
            "INSERT INTO assignments (principal_id, role_id, scope_kind, scope_id, created_at)
             SELECT {who}, (SELECT id FROM roles WHERE name = '{role}'), 'experiment', id, 0 FROM experiments
             WHERE id % ((SELECT MAX(id) FROM experiments) / {count}) = 0 ORDER BY experiments.id DESC LIMIT {count}"
        ),
    ];
    run(place, &sql).await
}

/// Adds experiments until there are `total`: half of them in each workspace, most of them completed, names shared by a hundred each.
pub async fn experiments(place: &Place, people: &People, total: i64) -> Outcome<()> {
    let mut db = connect(place).await?;
    let mut there: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM experiments")
        .fetch_one(&mut db)
        .await
        .map_err(text)?;
    while there < total {
        let until = (there + PIECE).min(total);
        let (first, last) = (there + 1, until);
        let People {
            first_owner,
            workspace,
            project,
        } = people;
        let config = r#"{"name":"digits","workspace":null,"project":null,"command":["python3","train.py"],"queue":null,"slots":1,"priority":42,"env":{},"max_restarts":0,"limits":{},"grace_ms":15000,"whole":{"name":"digits","entrypoint":"python3 train.py","hyperparameters":{"lr":0.1,"layers":3,"optimizer":"adam"}}}"#;
        let state = |number: &str| {
            format!(
                "CASE WHEN {number} % 1000 IN (0, 501) THEN 'RUNNING' WHEN {number} % 10 = 1 THEN 'ERROR' WHEN {number} % 10 = 2 THEN 'CANCELED' ELSE 'COMPLETED' END"
            )
        };
        let (of_experiment, of_job) = (state("i"), state("id"));
        let sql = format!(
            "WITH RECURSIVE n(i) AS (SELECT CAST({first} AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < {last})
             INSERT INTO experiments (name, owner_id, workspace_id, project_id, queue_id, state, cause, slots, priority, restarts, max_restarts, exit_code, created_at, started_at, ended_at, code, config)
             SELECT 'digits-' || (i / 100), {first_owner} + (i * 7919) % {OWNERS}, {workspace}, {project}, 1,
                    {of_experiment}, 'finished', 1, 42, 0, 0, 0, 1750000000000000 + i * 1000000, 1750000000000000 + i * 1000000, CASE WHEN i % 1000 IN (0, 501) THEN NULL ELSE 1750000100000000 + i * 1000000 END, NULL, '{config}' FROM n"
        );
        let jobs = format!(
            "INSERT INTO jobs (kind, experiment_id, queue_id, priority, slots, state, fence) SELECT 'trial', id, 1, 42, 1, {of_job}, 1 FROM experiments WHERE id BETWEEN {first} AND {last}"
        );
        let mut tx = db.begin().await.map_err(text)?;
        tx.execute(AssertSqlSafe(sql)).await.map_err(text)?;
        tx.execute(AssertSqlSafe(jobs)).await.map_err(text)?;
        tx.commit().await.map_err(text)?;
        there = until;
    }
    if place.kind == Kind::Postgres {
        // As autovacuum does within a minute of such a load.
        db.execute("VACUUM ANALYZE experiments").await.map_err(text)?;
        db.execute("ANALYZE jobs").await.map_err(text)?;
    }
    db.close().await.map_err(text)
}

/// Hands `count` rows, spread over the whole age of the installation, to one owner, who has no others.
pub async fn give(place: &Place, to: i64, from: i64, count: i64) -> Outcome<()> {
    let mut db = connect(place).await?;
    let mut tx = db.begin().await.map_err(text)?;
    let total: i64 = sqlx::query_scalar("SELECT MAX(id) FROM experiments")
        .fetch_one(&mut *tx)
        .await
        .map_err(text)?;
    let back = format!("UPDATE experiments SET owner_id = {from} WHERE owner_id = {to}");
    // Odd steps would leave the workspace that the new owner is a member of.
    let step = (total / count / 2 * 2).max(1);
    let sql = format!(
        "UPDATE experiments SET owner_id = {to} WHERE id IN (SELECT id FROM experiments WHERE id % {step} = 0 ORDER BY experiments.id DESC LIMIT {count})"
    );
    tx.execute(AssertSqlSafe(back)).await.map_err(text)?;
    tx.execute(AssertSqlSafe(sql)).await.map_err(text)?;
    tx.commit().await.map_err(text)?;
    db.close().await.map_err(text)
}

/// Makes a user the owner of whatever the first of the owners owns.
pub async fn own(place: &Place, user: &str, first_owner: i64) -> Outcome<()> {
    let mut db = connect(place).await?;
    let sql = format!(
        "UPDATE experiments SET owner_id = (SELECT id FROM principals WHERE name = '{user}') WHERE owner_id = {first_owner}"
    );
    db.execute(AssertSqlSafe(sql)).await.map_err(text)?;
    if place.kind == Kind::Postgres {
        db.execute("VACUUM ANALYZE experiments").await.map_err(text)?;
    }
    db.close().await.map_err(text)
}
