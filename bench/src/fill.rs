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
    pub workspaces: [i64; 2],
    pub projects: [i64; 2],
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
        workspaces: [workspace, other],
        projects: [first_project, project],
    })
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
            workspaces: [here, other],
            projects: [project, other_project],
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
             SELECT 'digits-' || (i / 100), {first_owner} + (i * 7919) % {OWNERS}, CASE WHEN i % 2 = 0 THEN {here} ELSE {other} END, CASE WHEN i % 2 = 0 THEN {project} ELSE {other_project} END, 1,
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
        "UPDATE experiments SET owner_id = {to} WHERE id IN (SELECT id FROM experiments WHERE id % {step} = 0 ORDER BY id DESC LIMIT {count})"
    );
    tx.execute(AssertSqlSafe(back)).await.map_err(text)?;
    tx.execute(AssertSqlSafe(sql)).await.map_err(text)?;
    tx.commit().await.map_err(text)?;
    db.close().await.map_err(text)
}
