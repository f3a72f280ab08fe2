//! Experiments: submitting, finding, listing, stopping, and the change of their state.

use std::collections::BTreeMap;

use bailiwick_access::{ObjectKind, Target};
use bailiwick_api::config::Config;
use bailiwick_api::experiments::{Attempt, Experiment, ExperimentDetail, State, StateChange, Stop, Trial, Usage, Used};
use bailiwick_api::permission::{Permit, permit};
use bailiwick_api::queues::QueueState;
use bailiwick_api::{AgentId, ExperimentId, JobId, Permission, PrincipalId, ProjectId, QueueId, Time, WorkspaceId};
use serde::Deserialize;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};

use crate::access::{Actor, CredentialKind, Granted, NOWHERE, Picture, Refusal, Work, experiment_target};
use crate::audit::{self, Entry};
use crate::db::{Result, StoreError, Tx, id_list};
use crate::projects::archived;
use crate::queues::Turns;
use crate::workspaces::{Changed, PlaceError, gone, unassign};

mod list;

pub use list::{Bind, Plan, Statement, list};

/// A row, with ids in place of names; in the order of [`COLUMNS`].
#[derive(Deserialize)]
pub struct ExperimentRow {
    pub id: ExperimentId,
    pub name: String,
    pub owner: PrincipalId,
    pub workspace: WorkspaceId,
    pub project: ProjectId,
    pub queue: QueueId,
    pub state: State,
    pub cause: String,
    pub slots: i64,
    pub priority: i64,
    pub restarts: i64,
    pub max_restarts: i64,
    pub exit_code: Option<i64>,
    pub created_at: i64,
    pub started_at: Option<i64>,
    pub ended_at: Option<i64>,
    pub code: Option<String>,
    /// 0 or 1.
    pub archived: i64,
    /// Thousandths.
    pub progress: Option<i64>,
}

const COLUMNS: &str = "id, name, owner_id, workspace_id, project_id, queue_id, state, cause, slots, priority, restarts, max_restarts, exit_code, created_at, started_at, ended_at, code, archived, progress";

/// What no experiment is: asked about in place of one that is not there.
pub(crate) const NO_EXPERIMENT: Target = Target {
    project: Some(ProjectId(0)),
    object: Some((ObjectKind::Experiment, 0)),
    ..NOWHERE
};

pub(crate) fn parse_state(text: &str) -> Result<State> {
    text.parse().map_err(StoreError::Broken)
}

fn read_row(row: &AnyRow) -> Result<ExperimentRow> {
    Ok(ExperimentRow {
        id: ExperimentId(row.try_get(0)?),
        name: row.try_get(1)?,
        owner: PrincipalId(row.try_get(2)?),
        workspace: WorkspaceId(row.try_get(3)?),
        project: ProjectId(row.try_get(4)?),
        queue: QueueId(row.try_get(5)?),
        state: parse_state(row.try_get::<&str, _>(6)?)?,
        cause: row.try_get(7)?,
        slots: row.try_get(8)?,
        priority: row.try_get(9)?,
        restarts: row.try_get(10)?,
        max_restarts: row.try_get(11)?,
        exit_code: row.try_get(12)?,
        created_at: row.try_get(13)?,
        started_at: row.try_get(14)?,
        ended_at: row.try_get(15)?,
        code: row.try_get(16)?,
        archived: row.try_get(17)?,
        progress: row.try_get(18)?,
    })
}

impl ExperimentRow {
    pub fn target(&self) -> Target {
        experiment_target(self.id, self.workspace, self.project, self.owner)
    }

    /// From 0 to 1.
    fn progress(&self) -> Option<f64> {
        self.progress.map(|thousandths| thousandths as f64 / 1000.0)
    }

    pub fn view(&self, picture: &Picture) -> Experiment {
        Experiment {
            id: self.id,
            name: self.name.clone(),
            state: self.state,
            cause: self.cause.clone(),
            owner: picture.principal_name(self.owner).to_string(),
            workspace: picture.workspace_name(self.workspace).to_string(),
            project: picture.project_name(self.project).to_string(),
            queue: picture.queue_name(self.queue).to_string(),
            slots: self.slots,
            priority: self.priority,
            restarts: self.restarts,
            max_restarts: self.max_restarts,
            exit_code: self.exit_code,
            created_at: Time(self.created_at),
            started_at: self.started_at.map(Time),
            ended_at: self.ended_at.map(Time),
            archived: self.archived == 1,
            progress: self.progress(),
        }
    }
}

/// Nothing comes into a queue that is deleted or being drained, from the moment at which that is acknowledged: the queue's row stays as it is until the commit.
const INSERT_EXPERIMENT: &str =
    "INSERT INTO experiments (name, owner_id, workspace_id, project_id, queue_id, state, cause, slots, priority, restarts, max_restarts, created_at, code, config)
     SELECT $1, $2, $3, $4, $5, 'QUEUED', 'waiting for an agent', $6, $7, 0, $8, $9, $10, $11 FROM projects p JOIN workspaces w ON w.id = p.workspace_id JOIN queues q ON q.id = $5 AND q.deleted_at IS NULL AND q.state <> 'draining'
     WHERE p.id = $4 AND w.id = $3 AND p.archived_at IS NULL AND w.archived_at IS NULL{lock} RETURNING id, owner_id, workspace_id, queue_id, priority, slots, created_at";
const INSERT_JOB: &str = "INSERT INTO jobs (kind, experiment_id, owner_id, workspace_id, queue_id, priority, slots, state) SELECT 'trial', id, owner_id, workspace_id, queue_id, priority, slots, 'QUEUED'";
const INSERT_EVENT: &str = "INSERT INTO experiment_events (experiment_id, number, at, state, cause) SELECT id, 1, created_at, 'QUEUED', 'submitted'";

/// Where experiments are put: a project, and the workspace that it is in.
fn place_of(by: &Granted<permit::ExperimentsCreate>) -> (WorkspaceId, ProjectId) {
    let workspace = by.target.workspace.expect("experiments are put into a workspace");
    let project = by.target.project.expect("experiments are put into a project of it");
    (workspace, project)
}

/// Why a project takes no experiment: by the picture, or because that changed this very moment.
fn takes_nothing(actor: &Actor, (workspace, project): (WorkspaceId, ProjectId)) -> PlaceError {
    let picture = actor.picture();
    match (picture.workspace(workspace), picture.project(project)) {
        (Some(workspace), _) if workspace.archived => archived("workspace", &workspace.name),
        (_, Some(project)) if project.archived => archived("project", &project.name),
        _ => PlaceError::Conflict(
            "the project has just been deleted or archived".into(),
            "`ml project list` shows those that there are",
        ),
    }
}

/// That a queue takes jobs in, now and until the transaction ends.
async fn takes_jobs(work: &mut Work, actor: &Actor, queue: QueueId) -> Changed<()> {
    let turns = Turns::read(work, queue, actor.db().share_rows()).await?;
    if turns.is_some_and(|turns| turns.state != QueueState::Draining) {
        return Ok(());
    }
    let name = actor.picture().queue_name(queue);
    Err(PlaceError::Conflict(
        format!("queue {name} has just been deleted, or is being drained: it takes no more jobs in"),
        "name another one; `ml queue list` shows those that there are",
    ))
}

/// Puts an experiment and its job into the queue, in the project that was granted. Permission to use the queue is the caller's question.
pub async fn create(
    by: &Granted<permit::ExperimentsCreate>,
    queue: QueueId,
    name: &str,
    config: &Config,
    code: Option<&str>,
) -> Changed<Experiment> {
    let (workspace, project) = place_of(by);
    let mut work = by.begin().await?;
    let now = by.actor.now();
    let command = serde_json::to_string(config).map_err(|why| StoreError::Broken(why.to_string()))?;
    let in_one = by.db().writes_in_one_statement();
    let lock = if in_one { " FOR SHARE OF q" } else { "" };
    let insert = INSERT_EXPERIMENT.replace("{lock}", lock);
    let sql = if in_one {
        format!(
            "WITH new AS ({insert}), job AS ({INSERT_JOB} FROM new), event AS ({INSERT_EVENT} FROM new) SELECT id FROM new"
        )
    } else {
        insert
    };
    let inserted = sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(name)
        .bind(by.actor.id.0)
        .bind(workspace.0)
        .bind(project.0)
        .bind(queue.0)
        .bind(config.slots)
        .bind(config.priority)
        .bind(config.max_restarts)
        .bind(now.0)
        .bind(code)
        .bind(command)
        .fetch_optional(&mut **work)
        .await;
    let id: Option<i64> = match inserted {
        // Nothing more can be asked in this transaction.
        Err(sqlx::Error::Database(why)) if why.is_foreign_key_violation() => {
            return Err(takes_nothing(&by.actor, (workspace, project)));
        }
        other => other?,
    };
    let Some(id) = id else {
        takes_jobs(&mut work, &by.actor, queue).await?;
        return Err(takes_nothing(&by.actor, (workspace, project)));
    };
    if !in_one {
        for insert in [INSERT_JOB, INSERT_EVENT] {
            sqlx::query(AssertSqlSafe(format!("{insert} FROM experiments WHERE id = $1")))
                .bind(id)
                .execute(&mut **work)
                .await?;
        }
    }
    let detail = serde_json::json!({"after": {"name": name, "slots": config.slots, "code": code}});
    let entry = Entry::of::<permit::ExperimentsCreate>("create", "experiment", id)
        .in_workspace(Some(workspace))
        .with(detail);
    audit::write(&mut work, &by.actor, entry).await?;
    work.commit().await?;
    let row = ExperimentRow {
        id: ExperimentId(id),
        name: name.to_owned(),
        owner: by.actor.id,
        workspace,
        project,
        queue,
        state: State::Queued,
        cause: "waiting for an agent".into(),
        slots: config.slots,
        priority: config.priority,
        restarts: 0,
        max_restarts: config.max_restarts,
        exit_code: None,
        created_at: now.0,
        started_at: None,
        ended_at: None,
        code: code.map(str::to_owned),
        archived: 0,
        progress: None,
    };
    Ok(row.view(by.actor.picture()))
}

/// Finds by id, or by name: the newest of one's own, else the newest that one may see. The decision is made by a picture of rights at least as new as the row.
pub async fn find<P: Permit>(actor: &Actor, which: &str) -> std::result::Result<(Granted<P>, ExperimentRow), Refusal> {
    let (actor, row) = fetch(actor, which).await?;
    // What is not there is decided about as well: it leaves the same trace, and takes the same time, as what may not be seen.
    let target = row.as_ref().map_or(NO_EXPERIMENT, ExperimentRow::target);
    let outcome = actor.require::<P>(target, "experiment", which, Some(Permission::ExperimentsRead));
    if outcome.is_err() {
        audit::record(&actor, refused(P::PERMISSION, row.as_ref(), which)).await?;
    }
    match row {
        Some(row) => Ok((outcome?, row)),
        None => Err(Refusal::NotFound {
            what: "experiment",
            which: which.to_owned(),
        }),
    }
}

fn refused(permission: Permission, row: Option<&ExperimentRow>, which: &str) -> Entry<'static> {
    let object = row.map_or_else(|| which.to_owned(), |row| row.id.to_string());
    Entry::denied(permission, "experiment", object).in_workspace(row.map(|row| row.workspace))
}

/// The row by id or name, if this actor may see it. Nothing is recorded.
pub async fn find_seen(actor: &Actor, which: &str) -> std::result::Result<Option<ExperimentRow>, Refusal> {
    let (actor, row) = fetch(actor, which).await?;
    let target = row.as_ref().map_or(NO_EXPERIMENT, ExperimentRow::target);
    let seen = actor.may(Permission::ExperimentsRead, &target).is_some();
    Ok(row.filter(|_| seen))
}

/// Of these, in their order, at most `limit` that this actor may see.
pub(crate) async fn seen_of(actor: &Actor, ids: &[ExperimentId], limit: usize) -> Result<Vec<Experiment>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM experiments WHERE id IN ({})",
        id_list(ids.iter().map(|id| id.0))
    );
    let mut rows = BTreeMap::new();
    if !ids.is_empty() {
        for row in sqlx::query(AssertSqlSafe(sql)).fetch_all(&actor.db().read).await? {
            let row = read_row(&row)?;
            rows.insert(row.id, row);
        }
    }
    let seen = ids.iter().filter_map(|id| rows.get(id));
    let seen = seen.filter(|row| actor.may(Permission::ExperimentsRead, &row.target()).is_some());
    Ok(seen.take(limit).map(|row| row.view(actor.picture())).collect())
}

/// Moves a waiting job to another queue or priority. That its mover may submit to the queue is the caller's question.
pub async fn move_job(
    by: &Granted<permit::ExperimentsUpdate>,
    row: &ExperimentRow,
    queue: Option<QueueId>,
    priority: Option<i64>,
) -> Changed<Experiment> {
    let (queue, priority) = (queue.unwrap_or(row.queue), priority.unwrap_or(row.priority));
    let mut work = by.begin().await?;
    let started = |state: State| {
        PlaceError::Conflict(
            format!("experiment {} does not wait in a queue: it is {}", row.id, state.name()),
            "only a job that waits can be moved",
        )
    };
    if queue != row.queue {
        takes_jobs(&mut work, &by.actor, queue).await?;
    }
    set(&mut work, row, "queue_id", queue.0, false, started).await?;
    let moved = set(&mut work, row, "priority", priority, false, started).await?;
    let waiting =
        sqlx::query("UPDATE jobs SET queue_id = $2, priority = $3 WHERE experiment_id = $1 AND state = 'QUEUED'")
            .bind(row.id.0)
            .bind(queue.0)
            .bind(priority)
            .execute(&mut **work)
            .await?;
    if waiting.rows_affected() == 0 {
        return Err(started(moved.state));
    }
    let picture = by.actor.picture();
    let words = |queue, priority: i64| serde_json::json!({"queue": &*picture.queue_name(queue), "priority": priority});
    let detail = serde_json::json!({"before": words(row.queue, row.priority), "after": words(queue, priority)});
    let entry =
        Entry::of::<permit::ExperimentsUpdate>("move-job", "experiment", row.id).in_workspace(Some(row.workspace));
    audit::write(&mut work, &by.actor, entry.with(detail)).await?;
    work.commit().await?;
    Ok(moved.view(picture))
}

/// The row, whoever asks.
#[cfg(feature = "bench")]
pub async fn find_unchecked(
    access: &crate::access::Access,
    which: &str,
) -> std::result::Result<ExperimentRow, Refusal> {
    let missing = || Refusal::NotFound {
        what: "experiment",
        which: which.to_owned(),
    };
    let id: i64 = which.parse().map_err(|_| missing())?;
    let sql = format!("SELECT {COLUMNS} FROM experiments WHERE id = $1");
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(id)
        .fetch_optional(&access.db.read)
        .await?;
    Ok(read_row(&row.ok_or_else(missing)?)?)
}

/// The row, whether or not the actor may see it (by name: one's own, or else one that it may see), and the actor by a picture at least as new.
async fn fetch(actor: &Actor, which: &str) -> std::result::Result<(Actor, Option<ExperimentRow>), Refusal> {
    let number = bailiwick_api::ids::as_number(which);
    // In place of a number that is not there the one before it is read: not to read one takes less time.
    let last = match number {
        Some(_) => "id <= $1",
        None => "name = $1 AND owner_id = $2 AND archived = 0",
    };
    let sql = format!(
        "SELECT {COLUMNS}, (SELECT version FROM access_version) AS version FROM experiments WHERE {last} ORDER BY id DESC LIMIT 1"
    );
    let query = sqlx::query(AssertSqlSafe(sql));
    let query = match number {
        Some(id) => query.bind(id),
        None => query.bind(which).bind(actor.id.0),
    };
    let found = query.fetch_optional(&actor.db().read).await?;
    let (row, version) = match &found {
        Some(row) => (Some(read_row(row)?), row.try_get("version")?),
        None if number.is_none() => return list::newest_named(actor, which).await,
        None => (None, actor.access.fresh().await?.version()),
    };
    let row = row.filter(|row| number.is_none_or(|id| row.id.0 == id));
    match version <= actor.version {
        true => Ok((actor.clone(), row)),
        false => Ok((actor.renewed(version).await?, row)),
    }
}

/// What an attempt to stop something came to.
pub enum StopTarget {
    Found(Box<(Granted<permit::ExperimentsUpdate>, ExperimentRow)>),
    /// It is not the caller's own, or not there: the answer must be the same.
    NotOwn,
    /// It is the caller's own (or visible by name), and the permission is missing.
    Refused(Refusal),
    /// A name that fits several unfinished ones.
    Ambiguous(Vec<ExperimentId>),
    /// Not there, said to somebody who may cancel everything.
    Missing,
}

/// Others' unfinished experiments of a name that this actor may stop. (Of very many of one name the newest are looked at.)
async fn others_unfinished(actor: &Actor, name: &str) -> Result<Vec<i64>> {
    let rows = sqlx::query("SELECT id, workspace_id, project_id, owner_id FROM experiments WHERE archived = 0 AND name = $1 AND ended_at IS NULL ORDER BY id DESC LIMIT 50")
        .bind(name)
        .fetch_all(&actor.db().read)
        .await?;
    let mut may_stop = Vec::new();
    for row in &rows {
        let id: i64 = row.try_get(0)?;
        let (workspace, project) = (WorkspaceId(row.try_get(1)?), ProjectId(row.try_get(2)?));
        let target = experiment_target(ExperimentId(id), workspace, project, PrincipalId(row.try_get(3)?));
        if actor.may(Permission::ExperimentsUpdate, &target).is_some() {
            may_stop.push(id);
        }
    }
    Ok(may_stop)
}

/// Finds what is to be stopped. Seed 000: cancelling what is not one's own gives one sentence, whether it is there or not.
pub async fn find_to_stop(actor: &Actor, which: &str) -> std::result::Result<StopTarget, Refusal> {
    if bailiwick_api::ids::as_number(which).is_none() {
        let unfinished: Vec<i64> = sqlx::query_scalar(
            "SELECT id FROM experiments WHERE name = $1 AND owner_id = $2 AND archived = 0 AND ended_at IS NULL ORDER BY id DESC LIMIT 20",
        )
        .bind(which)
        .bind(actor.id.0)
        .fetch_all(&actor.db().read)
        .await?;
        let unfinished = if unfinished.is_empty() {
            others_unfinished(actor, which).await?
        } else {
            unfinished
        };
        match unfinished.as_slice() {
            [] => {}
            [one] => return Box::pin(find_to_stop(actor, &one.to_string())).await,
            several => {
                return Ok(StopTarget::Ambiguous(
                    several.iter().map(|id| ExperimentId(*id)).collect(),
                ));
            }
        }
    }
    let (actor, row) = fetch(actor, which).await?;
    let target = row.as_ref().map_or(NO_EXPERIMENT, ExperimentRow::target);
    let seen_by = Some(Permission::ExperimentsRead);
    let refusal = match (
        actor.require::<permit::ExperimentsUpdate>(target, "experiment", which, seen_by),
        row,
    ) {
        (Ok(granted), Some(row)) => return Ok(StopTarget::Found(Box::new((granted, row)))),
        (Ok(_), None) => return Ok(StopTarget::Missing),
        (Err(refusal), row) => {
            let entry = refused(Permission::ExperimentsUpdate, row.as_ref(), which);
            audit::record(&actor, entry).await?;
            refusal
        }
    };
    Ok(match refusal {
        Refusal::Forbidden { .. } if target.owner == Some(actor.id) => StopTarget::Refused(refusal),
        _ => StopTarget::NotOwn,
    })
}

/// Stops it: at once while it waits, else by telling its agent, which is given. Stopping what has ended changes nothing.
pub async fn stop(
    by: &Granted<permit::ExperimentsUpdate>,
    row: ExperimentRow,
    how: Stop,
) -> std::result::Result<(Experiment, Option<AgentId>), Refusal> {
    let mut work = by.begin().await?;
    let (word, verb) = match how {
        Stop::Cancel => ("cancel", "cancel"),
        Stop::Kill => ("kill", "kill"),
    };
    let who = by.actor.name().to_string();
    let cause = format!("{} by {who}", if how == Stop::Kill { "killed" } else { "canceled" });
    let mut held: Option<i64> = None;
    // In two statements, since a waiting job may be taken between them; the second look then finds it held.
    for _ in 0..2 {
        let waiting: Option<i64> = sqlx::query_scalar(
            "UPDATE jobs SET state = 'CANCELED', wanted = $2, wanted_by = $3 WHERE experiment_id = $1 AND state = 'QUEUED' RETURNING id",
        )
        .bind(row.id.0)
        .bind(word)
        .bind(&who)
        .fetch_optional(&mut **work)
        .await?;
        if waiting.is_some() {
            change_state(&mut work, row.id, State::Canceled, &cause, by.actor.now()).await?;
            break;
        }
        held = sqlx::query_scalar(
            "UPDATE jobs SET wanted = $2, wanted_by = $3, state = 'STOPPING'
             WHERE experiment_id = $1 AND state IN ('STARTING', 'RUNNING', 'STOPPING') AND wanted <> 'kill' RETURNING agent_id",
        )
        .bind(row.id.0)
        .bind(word)
        .bind(&who)
        .fetch_optional(&mut **work)
        .await?;
        if held.is_some() {
            change_state(&mut work, row.id, State::Stopping, &cause, by.actor.now()).await?;
            break;
        }
    }
    let detail = serde_json::json!({"before": {"state": row.state}, "administrative": by.is_administrative_use()});
    let entry = Entry::of::<permit::ExperimentsUpdate>(verb, "experiment", row.id)
        .in_workspace(Some(row.workspace))
        .with(detail);
    audit::write(&mut work, &by.actor, entry).await?;
    let sql = format!("SELECT {COLUMNS} FROM experiments WHERE id = $1");
    let after = read_row(
        &sqlx::query(AssertSqlSafe(sql))
            .bind(row.id.0)
            .fetch_one(&mut **work)
            .await?,
    )?;
    work.commit().await?;
    Ok((after.view(by.actor.picture()), held.map(AgentId)))
}

/// Puts an experiment into another project. Its owner stays; who may see it there may see it from now on.
pub async fn move_to(
    from: &Granted<permit::ExperimentsDelete>,
    to: &Granted<permit::ExperimentsCreate>,
    row: &ExperimentRow,
) -> Changed<Experiment> {
    let (workspace, project) = place_of(to);
    if (workspace, project) == (row.workspace, row.project) {
        let name = from.actor.picture().project_name(project);
        return Err(PlaceError::Conflict(
            format!("experiment {} is in project `{name}` already", row.id),
            "nothing is to be done",
        ));
    }
    let mut work = from.begin().await?;
    // The other half of the decision, by the picture with which the transaction began.
    if to.actor.may(Permission::ExperimentsCreate, &to.target).is_none() {
        return Err(to.actor.forbidden(Permission::ExperimentsCreate, &to.target).into());
    }
    let sql = format!(
        "UPDATE experiments SET workspace_id = $2, project_id = $3 WHERE id = $1 AND workspace_id = $4 AND project_id = $5 AND EXISTS (
           SELECT 1 FROM projects p JOIN workspaces w ON w.id = p.workspace_id
           WHERE p.id = $3 AND w.id = $2 AND p.archived_at IS NULL AND w.archived_at IS NULL) RETURNING {COLUMNS}"
    );
    let moved = sqlx::query(AssertSqlSafe(sql))
        .bind(row.id.0)
        .bind(workspace.0)
        .bind(project.0)
        .bind(row.workspace.0)
        .bind(row.project.0)
        .fetch_optional(&mut **work)
        .await;
    let moved = match moved {
        Err(sqlx::Error::Database(why)) if why.is_foreign_key_violation() => None,
        other => other?,
    };
    let Some(moved) = moved else {
        return Err(match find_row(&mut work, row.id).await? {
            Some(now) if (now.workspace, now.project) == (row.workspace, row.project) => {
                takes_nothing(&from.actor, (workspace, project))
            }
            Some(_) => PlaceError::Conflict(
                format!("experiment {} has just been moved by somebody else", row.id),
                "look at it again",
            ),
            None => gone("experiment", row.id),
        });
    };
    let moved = read_row(&moved)?;
    sqlx::query("UPDATE jobs SET workspace_id = $2 WHERE experiment_id = $1")
        .bind(row.id.0)
        .bind(workspace.0)
        .execute(&mut **work)
        .await?;
    // By number, and in this order, by which audit.rs finds it: who may read the audit of one of the two places need not know the other.
    let detail = serde_json::json!({
        "before": {"workspace": row.workspace, "project": row.project},
        "after": {"workspace": workspace, "project": project},
    });
    let entry = Entry::of::<permit::ExperimentsDelete>("move", "experiment", row.id).in_workspace(Some(row.workspace));
    audit::write(&mut work, &from.actor, entry.with(detail)).await?;
    work.commit().await?;
    Ok(moved.view(from.actor.picture()))
}

async fn find_row(tx: &mut Tx, id: ExperimentId) -> Result<Option<ExperimentRow>> {
    let sql = format!("SELECT {COLUMNS} FROM experiments WHERE id = $1");
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(id.0)
        .fetch_optional(&mut **tx)
        .await?;
    row.as_ref().map(read_row).transpose()
}

/// Sets one thing of an experiment, where the right to do so was found, if it has ended or has not, as is asked; else says what is in the way.
async fn set(
    work: &mut Work,
    row: &ExperimentRow,
    column: &str,
    value: i64,
    ended: bool,
    in_the_way: impl FnOnce(State) -> PlaceError,
) -> Changed<ExperimentRow> {
    let not = if ended { "NOT " } else { "" };
    let sql = format!(
        "UPDATE experiments SET {column} = $2 WHERE id = $1 AND workspace_id = $3 AND project_id = $4 AND ended_at IS {not}NULL RETURNING {COLUMNS}"
    );
    let changed = sqlx::query(AssertSqlSafe(sql))
        .bind(row.id.0)
        .bind(value)
        .bind(row.workspace.0)
        .bind(row.project.0)
        .fetch_optional(&mut ***work)
        .await?;
    if let Some(changed) = changed {
        return Ok(read_row(&changed)?);
    }
    Err(match find_row(work, row.id).await? {
        Some(now) if now.state.is_ended() != ended => in_the_way(now.state),
        _ => gone("experiment", row.id),
    })
}

/// Puts an ended experiment away, or takes it back. Doing so twice changes nothing.
pub async fn archive(by: &Granted<permit::ExperimentsEdit>, row: &ExperimentRow, archive: bool) -> Changed<Experiment> {
    let mut work = by.begin().await?;
    let unfinished = |state| {
        PlaceError::Conflict(
            format!(
                "experiment {} is {state}; only one that has ended can be archived",
                row.id
            ),
            "end it first with `ml cancel` or `ml kill`",
        )
    };
    // Only what has ended: lists of the unfinished need not look among the archived.
    let changed = set(&mut work, row, "archived", i64::from(archive), true, unfinished).await?;
    let verb = if archive { "archive" } else { "unarchive" };
    let detail = serde_json::json!({
        "before": {"archived": row.archived == 1},
        "after": {"archived": archive},
        "administrative": by.is_administrative_use(),
    });
    let entry = Entry::of::<permit::ExperimentsEdit>(verb, "experiment", row.id).in_workspace(Some(row.workspace));
    audit::write(&mut work, &by.actor, entry.with(detail)).await?;
    work.commit().await?;
    Ok(changed.view(by.actor.picture()))
}

/// Notes how far it is, from 0 to 1, to the thousandth. What a job says of itself is no event of the audit.
pub async fn report_progress(
    by: &Granted<permit::ExperimentsUpdate>,
    row: &ExperimentRow,
    progress: f64,
) -> Changed<Experiment> {
    if !(0.0..=1.0).contains(&progress) {
        return Err(PlaceError::Invalid(format!(
            "progress is from 0 to 1, and not {progress}"
        )));
    }
    let mut work = by.begin().await?;
    // Down, so that nothing is whole before it is; what a thousandth loses in binary is given back.
    let thousandths = (progress * 1000.0 + 1e-9).floor() as i64;
    let ended = |state| {
        PlaceError::Conflict(
            format!("experiment {} is {state}: it gets no further", row.id),
            "progress is told while it waits or runs",
        )
    };
    let changed = set(&mut work, row, "progress", thousandths, false, ended).await?;
    if by.actor.credential_kind != CredentialKind::Job {
        let entry = Entry::of::<permit::ExperimentsUpdate>("report", "experiment", row.id);
        let entry = entry.in_workspace(Some(row.workspace)).with(serde_json::json!({
            "before": {"progress": row.progress()},
            "after": {"progress": changed.progress()},
            "administrative": by.is_administrative_use(),
        }));
        audit::write(&mut work, &by.actor, entry).await?;
    }
    work.commit().await?;
    Ok(changed.view(by.actor.picture()))
}

/// Deletes an ended experiment with its log, its history and whatever roles were assigned at it. The code that was sent stays its sender's.
pub async fn delete(by: &Granted<permit::ExperimentsDelete>, row: &ExperimentRow) -> Changed<()> {
    let mut work = by.begin().await?;
    let now = find_row(&mut work, row.id).await?;
    let now = now.ok_or_else(|| gone("experiment", row.id))?;
    if !now.state.is_ended() {
        return Err(PlaceError::Conflict(
            format!(
                "experiment {} is {}; only one that has ended can be deleted",
                row.id, now.state
            ),
            "end it first with `ml cancel` or `ml kill`",
        ));
    }
    let ended = unassign(&mut work, "experiment", &[row.id.0]).await?;
    if !ended.is_empty() {
        work.touches(&ended).await?;
    }
    for sql in [
        "DELETE FROM log_chunks WHERE job_id IN (SELECT id FROM jobs WHERE experiment_id = $1)",
        "DELETE FROM job_attempts WHERE job_id IN (SELECT id FROM jobs WHERE experiment_id = $1)",
        "DELETE FROM jobs WHERE experiment_id = $1",
        "DELETE FROM experiment_events WHERE experiment_id = $1",
    ] {
        sqlx::query(sql).bind(row.id.0).execute(&mut **work).await?;
    }
    // Where the right to delete it was found; somebody else may have moved or deleted it meanwhile.
    let deleted = sqlx::query("DELETE FROM experiments WHERE id = $1 AND workspace_id = $2 AND project_id = $3")
        .bind(row.id.0)
        .bind(row.workspace.0)
        .bind(row.project.0)
        .execute(&mut **work)
        .await?;
    if deleted.rows_affected() == 0 {
        return Err(gone("experiment", row.id));
    }
    let owner = by.actor.picture().principal_name(row.owner);
    let detail = serde_json::json!({
        "before": {"name": row.name, "owner": &*owner, "state": now.state, "assignments": ended.len()},
        "administrative": by.is_administrative_use(),
    });
    let entry =
        Entry::of::<permit::ExperimentsDelete>("delete", "experiment", row.id).in_workspace(Some(row.workspace));
    audit::write(&mut work, &by.actor, entry.with(detail)).await?;
    work.commit().await?;
    Ok(())
}

/// Sets the state with its cause and writes it into the history. Ended states get their time.
pub(crate) async fn change_state(work: &mut Work, id: ExperimentId, state: State, cause: &str, at: Time) -> Result<()> {
    let cause: String = cause.chars().take(500).collect();
    sqlx::query("UPDATE experiments SET state = $2, cause = $3, ended_at = CASE WHEN $4 = 1 THEN $5 ELSE NULL END WHERE id = $1")
        .bind(id.0)
        .bind(state.name())
        .bind(&cause)
        .bind(i64::from(state.is_ended()))
        .bind(at.0)
        .execute(&mut ***work)
        .await?;
    add_event(work, id, state, &cause, at).await
}

pub(crate) async fn add_event(tx: &mut Tx, id: ExperimentId, state: State, cause: &str, at: Time) -> Result<()> {
    sqlx::query(
        "INSERT INTO experiment_events (experiment_id, number, at, state, cause)
         SELECT $1, COALESCE(MAX(number), 0) + 1, $2, $3, $4 FROM experiment_events WHERE experiment_id = $1",
    )
    .bind(id.0)
    .bind(at.0)
    .bind(state.name())
    .bind(cause)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Everything about one experiment that `experiments:read` shows.
pub async fn detail(
    by: &Granted<permit::ExperimentsRead>,
    row: ExperimentRow,
) -> std::result::Result<ExperimentDetail, Refusal> {
    let more = sqlx::query(
        "SELECT e.config, j.log_lines, a.name, j.id, j.state FROM experiments e JOIN jobs j ON j.experiment_id = e.id LEFT JOIN agents a ON a.id = j.agent_id WHERE e.id = $1",
    )
    .bind(row.id.0)
    .fetch_optional(&by.db().read)
    .await?;
    let more = more.ok_or_else(|| just_deleted(row.id))?;
    let config: Config =
        serde_json::from_str(more.try_get::<&str, _>(0)?).map_err(|why| StoreError::Broken(why.to_string()))?;
    let events = sqlx::query(
        "SELECT at, state, cause FROM experiment_events WHERE experiment_id = $1 ORDER BY number LIMIT 10000",
    )
    .bind(row.id.0)
    .fetch_all(&by.db().read)
    .await?;
    let events = events
        .iter()
        .map(|event| {
            Ok(StateChange {
                time: Time(event.try_get(0)?),
                state: parse_state(event.try_get::<&str, _>(1)?)?,
                cause: event.try_get(2)?,
            })
        })
        .collect::<Result<_>>()?;
    let attempts = attempts(by, JobId(more.try_get(3)?)).await?;
    let used = used(&attempts, row.slots, by.actor.now());
    let trial = Trial {
        number: 1,
        state: parse_state(more.try_get::<&str, _>(4)?)?,
        attempts: attempts.into_iter().map(|(attempt, _)| attempt).collect(),
    };
    let mut experiment = row.view(by.actor.picture());
    if row.state == State::Queued {
        experiment.cause = format!("{}; {}", row.cause, waits_for(by, &row).await?);
    }
    Ok(ExperimentDetail {
        code: row.code.clone(),
        experiment,
        command: config.command,
        config: config.whole,
        stack: config.stack,
        agent: more.try_get(2)?,
        log_lines: more.try_get(1)?,
        events,
        trials: vec![trial],
        used,
    })
}

/// The attempts at a job, oldest first, each with when its use was last told.
async fn attempts(by: &Granted<permit::ExperimentsRead>, job: JobId) -> Result<Vec<(Attempt, Option<Time>)>> {
    let rows = sqlx::query(
        "SELECT agent, taken_at, started_at, ended_at, exit_code, cause, measured_at, cpu_ms, memory_bytes, memory_peak_bytes
         FROM job_attempts WHERE job_id = $1 ORDER BY fence LIMIT 1000",
    )
    .bind(job.0)
    .fetch_all(&by.db().read)
    .await?;
    let time = |row: &AnyRow, at: usize| Ok::<_, sqlx::Error>(row.try_get::<Option<i64>, _>(at)?.map(Time));
    let attempt = |(number, row): (i64, &AnyRow)| {
        let measured = time(row, 6)?;
        let usage = Usage {
            cpu_ms: row.try_get(7)?,
            memory_bytes: row.try_get(8)?,
            memory_peak_bytes: row.try_get(9)?,
        };
        let attempt = Attempt {
            number,
            agent: row.try_get(0)?,
            taken_at: Time(row.try_get(1)?),
            started_at: time(row, 2)?,
            ended_at: time(row, 3)?,
            exit_code: row.try_get(4)?,
            cause: row.try_get(5)?,
            usage: measured.map(|_| usage),
        };
        Ok((attempt, measured))
    };
    (1..).zip(&rows).map(attempt).collect()
}

/// What all attempts have used together.
fn used(attempts: &[(Attempt, Option<Time>)], slots: i64, now: Time) -> Option<Used> {
    let measured_at = attempts.iter().filter_map(|(_, at)| *at).max()?;
    let mut usage = Usage::default();
    let (mut ran_ms, mut measured_ms) = (0, 0);
    for (attempt, measured) in attempts {
        let Some(started) = attempt.started_at else { continue };
        let since = |end: Time| end.since_ms(started).max(0);
        ran_ms += since(attempt.ended_at.unwrap_or(now));
        let (Some(one), Some(measured)) = (attempt.usage, measured) else {
            continue;
        };
        // As long as what is known of it reaches.
        measured_ms += since(attempt.ended_at.unwrap_or(*measured));
        usage.cpu_ms += one.cpu_ms;
        usage.memory_bytes += one.memory_bytes;
        usage.memory_peak_bytes = usage.memory_peak_bytes.max(one.memory_peak_bytes);
    }
    Some(Used {
        usage,
        cpus: if measured_ms > 0 {
            (usage.cpu_ms as f64 / measured_ms as f64 * 100.0).round() / 100.0
        } else {
            0.0
        },
        ran_ms,
        slot_ms: ran_ms.saturating_mul(slots),
        measured_at,
    })
}

/// Why a waiting job still waits.
async fn waits_for(by: &Granted<permit::ExperimentsRead>, row: &ExperimentRow) -> Result<String> {
    let queue = by.actor.picture().queue_name(row.queue);
    // Queue names stand in the agents' lists as JSON text.
    let agents: Vec<(String, i64, i64, i64, i64)> = sqlx::query_as(
        "SELECT a.queues, a.slots, a.principal_id, a.use_owner_token, p.impersonates FROM agents a JOIN principals p ON p.id = a.principal_id
         WHERE a.last_seen_at > $1 AND a.service = 'enabled' AND a.gone_at IS NULL",
    )
    .bind(by.actor.now().plus_ms(-180_000).0)
    .fetch_all(&by.db().read)
    .await?;
    let serves = |queues: &String| {
        serde_json::from_str::<Vec<String>>(queues).is_ok_and(|names| names.iter().any(|name| **name == *queue))
    };
    let may = |account: i64, may_run: bool| {
        let only = [queue.to_string()];
        !crate::agents::takes_from(&by.actor, &only, PrincipalId(account), may_run).is_empty()
    };
    let sizes: Vec<i64> = agents
        .iter()
        .filter(|(queues, ..)| serves(queues))
        .filter(|(_, _, account, as_owner, impersonates)| may(*account, *as_owner == 0 || *impersonates == 1))
        .map(|(_, slots, ..)| *slots)
        .collect();
    let Some(largest) = sizes.iter().max() else {
        return Ok(format!("no agent that is up and takes work serves queue `{queue}`"));
    };
    if *largest < row.slots {
        return Ok(format!(
            "no agent of queue `{queue}` has {} slots; the largest has {largest}",
            row.slots
        ));
    }
    if let Some(why) = crate::queues::holds_back(&by.actor, row.queue, row.owner.0, row.workspace.0).await? {
        return Ok(why);
    }
    let ahead: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM jobs WHERE state = 'QUEUED' AND queue_id = $1 AND (priority < $2 OR (priority = $2 AND experiment_id < $3))",
    )
    .bind(row.queue.0)
    .bind(row.priority)
    .bind(row.id.0)
    .fetch_one(&by.db().read)
    .await?;
    Ok(format!("{ahead} ahead of it in queue `{queue}`"))
}

/// The job of an experiment, and where it stands.
pub async fn job<P: Permit>(by: &Granted<P>, id: ExperimentId) -> std::result::Result<JobId, Refusal> {
    let job: Option<i64> = sqlx::query_scalar("SELECT id FROM jobs WHERE experiment_id = $1")
        .bind(id.0)
        .fetch_optional(&by.db().read)
        .await?;
    job.map(JobId).ok_or_else(|| just_deleted(id))
}

/// It was there when its rights were looked at.
fn just_deleted(id: ExperimentId) -> Refusal {
    Refusal::NotFound {
        what: "experiment",
        which: id.to_string(),
    }
}
