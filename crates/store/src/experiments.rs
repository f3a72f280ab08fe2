//! Experiments: submitting, finding, listing, stopping, and the change of their state.

use bailiwick_access::{ObjectKind, Target, Visible};
use bailiwick_api::config::Config;
use bailiwick_api::experiments::{Experiment, ExperimentDetail, ExperimentFilter, State, StateChange, Stop};
use bailiwick_api::permission::{Permit, permit};
use bailiwick_api::{ExperimentId, JobId, Page, Permission, PrincipalId, ProjectId, QueueId, Time, WorkspaceId};
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};

use crate::access::{Actor, Granted, Picture, Refusal, Work, experiment_target};
use crate::audit::{self, Entry};
use crate::db::{Result, StoreError, Tx, id_list};

/// A row, with ids in place of names.
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
}

const COLUMNS: &str = "id, name, owner_id, workspace_id, project_id, queue_id, state, cause, slots, priority, restarts, max_restarts, exit_code, created_at, started_at, ended_at, code";

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
    })
}

impl ExperimentRow {
    pub fn target(&self) -> Target {
        experiment_target(self.id, self.workspace, self.project, self.owner)
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
        }
    }
}

const INSERT_EXPERIMENT: &str =
    "INSERT INTO experiments (name, owner_id, workspace_id, project_id, queue_id, state, cause, slots, priority, restarts, max_restarts, created_at, code, config)
     VALUES ($1, $2, $3, $4, $5, 'QUEUED', 'waiting for an agent', $6, $7, 0, $8, $9, $10, $11) RETURNING id, queue_id, priority, slots, created_at";
const INSERT_JOB: &str = "INSERT INTO jobs (kind, experiment_id, queue_id, priority, slots, state) SELECT 'trial', id, queue_id, priority, slots, 'QUEUED'";
const INSERT_EVENT: &str = "INSERT INTO experiment_events (experiment_id, number, at, state, cause) SELECT id, 1, created_at, 'QUEUED', 'submitted'";

/// Puts an experiment and its job into the queue. Permission to use the queue is the caller's question.
pub async fn create(
    by: &Granted<permit::ExperimentsCreate>,
    project: ProjectId,
    queue: QueueId,
    name: &str,
    config: &Config,
    code: Option<&str>,
) -> std::result::Result<Experiment, Refusal> {
    let workspace = by.target.workspace.expect("experiments are created in a workspace");
    let mut work = by.begin().await?;
    let now = by.actor.now();
    let command = serde_json::to_string(config).map_err(|why| StoreError::Broken(why.to_string()))?;
    let in_one = by.db().writes_in_one_statement();
    let sql = if in_one {
        format!(
            "WITH new AS ({INSERT_EXPERIMENT}), job AS ({INSERT_JOB} FROM new), event AS ({INSERT_EVENT} FROM new) SELECT id FROM new"
        )
    } else {
        INSERT_EXPERIMENT.to_owned()
    };
    let id: i64 = sqlx::query_scalar(AssertSqlSafe(sql))
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
        .fetch_one(&mut **work)
        .await?;
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
    };
    Ok(row.view(by.actor.picture()))
}

/// Finds by id, or by name: the newest of one's own, else the newest that one may see. The decision is made by a picture of rights at least as new as the row.
pub async fn find<P: Permit>(actor: &Actor, which: &str) -> std::result::Result<(Granted<P>, ExperimentRow), Refusal> {
    let (actor, row) = fetch(actor, which).await?;
    let Some(row) = row else {
        return Err(Refusal::NotFound {
            what: "experiment",
            which: which.to_owned(),
        });
    };
    let granted = actor.require::<P>(row.target(), "experiment", which, Some(Permission::ExperimentsRead));
    match granted {
        Ok(granted) => Ok((granted, row)),
        Err(refusal) => {
            let entry = Entry::denied(P::PERMISSION, "experiment", row.id).in_workspace(Some(row.workspace));
            audit::record(&actor, entry).await?;
            Err(refusal)
        }
    }
}

/// The row by id or name, if this actor may see it. Nothing is recorded.
pub async fn find_seen(actor: &Actor, which: &str) -> std::result::Result<Option<ExperimentRow>, Refusal> {
    let (actor, row) = fetch(actor, which).await?;
    Ok(row.filter(|row| actor.may(Permission::ExperimentsRead, &row.target()).is_some()))
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

/// The row, whether or not the actor may see it (by name: only what it may see), and the actor by a picture at least as new.
async fn fetch(actor: &Actor, which: &str) -> std::result::Result<(Actor, Option<ExperimentRow>), Refusal> {
    const VERSION: &str = "(SELECT version FROM access_version)";
    let by_id = bailiwick_api::ids::as_number(which);
    let row = if let Some(id) = by_id {
        let sql = format!("SELECT {COLUMNS}, {VERSION} FROM experiments WHERE id = $1");
        sqlx::query(AssertSqlSafe(sql))
            .bind(id)
            .fetch_optional(&actor.db().read)
            .await?
    } else {
        let sql = format!(
            "SELECT {COLUMNS}, {VERSION} FROM experiments WHERE name = $1 AND owner_id = $2 ORDER BY id DESC LIMIT 1"
        );
        let own = sqlx::query(AssertSqlSafe(sql))
            .bind(which)
            .bind(actor.id.0)
            .fetch_optional(&actor.db().read)
            .await?;
        match own {
            Some(row) => Some(row),
            None => {
                let named = ExperimentFilter {
                    name: Some(which.to_owned()),
                    ..ExperimentFilter::default()
                };
                match newest(actor, &named, &format!("{COLUMNS}, {VERSION}"), 1) {
                    None => None,
                    Some(sql) => {
                        sqlx::query(AssertSqlSafe(sql))
                            .bind(i64::MAX)
                            .bind(which)
                            .fetch_optional(&actor.db().read)
                            .await?
                    }
                }
            }
        }
    };
    let version: i64 = match &row {
        Some(row) => row.try_get(17)?,
        None => actor.access.fresh().await?.version(),
    };
    if version <= actor.version {
        return Ok((actor.clone(), row.as_ref().map(read_row).transpose()?));
    }
    let actor = actor.renewed(version).await?;
    match row {
        Some(row) if by_id.is_some() => Ok((actor, Some(read_row(&row)?))),
        // What one sees under a name depends on one's rights: looked for again, by the new ones.
        _ => Box::pin(fetch(&actor, which)).await,
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
    let rows = sqlx::query("SELECT id, workspace_id, project_id, owner_id FROM experiments WHERE name = $1 AND ended_at IS NULL ORDER BY id DESC LIMIT 50")
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
    let may_all = |actor: &Actor| actor.may(Permission::ExperimentsUpdate, &Target::default()).is_some();
    if bailiwick_api::ids::as_number(which).is_none() {
        let unfinished: Vec<i64> = sqlx::query_scalar(
            "SELECT id FROM experiments WHERE name = $1 AND owner_id = $2 AND ended_at IS NULL ORDER BY id DESC LIMIT 20",
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
    let Some(row) = row else {
        if may_all(&actor) {
            return Ok(StopTarget::Missing);
        }
        audit::record(
            &actor,
            Entry::denied(Permission::ExperimentsUpdate, "experiment", which),
        )
        .await?;
        return Ok(StopTarget::NotOwn);
    };
    let refusal = match actor.require::<permit::ExperimentsUpdate>(row.target(), "experiment", which, None) {
        Ok(granted) => return Ok(StopTarget::Found(Box::new((granted, row)))),
        Err(refusal) => refusal,
    };
    let entry = Entry::denied(Permission::ExperimentsUpdate, "experiment", row.id).in_workspace(Some(row.workspace));
    audit::record(&actor, entry).await?;
    Ok(
        if row.owner == actor.id && actor.may(Permission::ExperimentsRead, &row.target()).is_some() {
            StopTarget::Refused(refusal)
        } else {
            StopTarget::NotOwn
        },
    )
}

/// Stops it: at once while it waits, else by telling its agent. Stopping what has ended changes nothing.
pub async fn stop(
    by: &Granted<permit::ExperimentsUpdate>,
    row: ExperimentRow,
    how: Stop,
) -> std::result::Result<Experiment, Refusal> {
    let mut work = by.begin().await?;
    let (word, verb) = match how {
        Stop::Cancel => ("cancel", "cancel"),
        Stop::Kill => ("kill", "kill"),
    };
    let who = by.actor.name.to_string();
    let cause = format!("{} by {who}", if how == Stop::Kill { "killed" } else { "canceled" });
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
        let held: Option<i64> = sqlx::query_scalar(
            "UPDATE jobs SET wanted = $2, wanted_by = $3, state = 'STOPPING'
             WHERE experiment_id = $1 AND state IN ('STARTING', 'RUNNING', 'STOPPING') AND wanted <> 'kill' RETURNING id",
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
    Ok(after.view(by.actor.picture()))
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
pub async fn detail(by: &Granted<permit::ExperimentsRead>, row: ExperimentRow) -> Result<ExperimentDetail> {
    let more = sqlx::query(
        "SELECT e.config, j.log_lines, a.name FROM experiments e JOIN jobs j ON j.experiment_id = e.id LEFT JOIN agents a ON a.id = j.agent_id WHERE e.id = $1",
    )
    .bind(row.id.0)
    .fetch_one(&by.db().read)
    .await?;
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
    let mut experiment = row.view(by.actor.picture());
    if row.state == State::Queued {
        experiment.cause = format!("{}; {}", row.cause, waits_for(by, &row).await?);
    }
    Ok(ExperimentDetail {
        code: row.code.clone(),
        experiment,
        config: config.whole,
        agent: more.try_get(2)?,
        log_lines: more.try_get(1)?,
        events,
    })
}

/// Why a waiting job still waits.
async fn waits_for(by: &Granted<permit::ExperimentsRead>, row: &ExperimentRow) -> Result<String> {
    let queue = by.actor.picture().queue_name(row.queue);
    // Queue names stand in the agents' lists as JSON text.
    let agents: Vec<(String, i64)> = sqlx::query_as("SELECT queues, slots FROM agents WHERE last_seen_at > $1")
        .bind(by.actor.now().plus_ms(-180_000).0)
        .fetch_all(&by.db().read)
        .await?;
    let serves = |queues: &String| {
        serde_json::from_str::<Vec<String>>(queues).is_ok_and(|names| names.iter().any(|name| **name == *queue))
    };
    let sizes: Vec<i64> = agents
        .iter()
        .filter(|(queues, _)| serves(queues))
        .map(|(_, slots)| *slots)
        .collect();
    let Some(largest) = sizes.iter().max() else {
        return Ok(format!("no agent serves queue `{queue}` at the moment"));
    };
    if *largest < row.slots {
        return Ok(format!(
            "no agent of queue `{queue}` has {} slots; the largest has {largest}",
            row.slots
        ));
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
pub async fn job<P: Permit>(by: &Granted<P>, id: ExperimentId) -> Result<JobId> {
    let job: i64 = sqlx::query_scalar("SELECT id FROM jobs WHERE experiment_id = $1")
        .bind(id.0)
        .fetch_one(&by.db().read)
        .await?;
    Ok(JobId(job))
}

/// The newest that this actor may see, as the picture of rights says; each arm of the visible set is walked by its own index.
pub async fn list(actor: &Actor, filter: &ExperimentFilter) -> Result<Page<Experiment>> {
    let limit = filter.limit.unwrap_or(50).clamp(1, 1000);
    let before = filter
        .after
        .as_deref()
        .and_then(|after| after.parse::<i64>().ok())
        .unwrap_or(i64::MAX);
    let Some(sql) = newest(actor, filter, COLUMNS, limit + 1) else {
        return Ok(Page {
            items: Vec::new(),
            next: None,
        });
    };
    let mut query = sqlx::query(AssertSqlSafe(sql)).bind(before);
    if let Some(name) = &filter.name {
        query = query.bind(name);
    }
    let rows = query.fetch_all(&actor.db().read).await?;
    let mut items = rows
        .iter()
        .map(|row| Ok(read_row(row)?.view(actor.picture())))
        .collect::<Result<Vec<_>>>()?;
    let more = items.len() as i64 > limit;
    items.truncate(limit as usize);
    let next = more
        .then(|| items.last().map(|experiment| experiment.id.to_string()))
        .flatten();
    Ok(Page { items, next })
}

/// The statement that gives the newest rows before id $1 that the actor may see and the filter (its name as $2) lets through; none when nothing is visible.
fn newest(actor: &Actor, filter: &ExperimentFilter, columns: &str, limit: i64) -> Option<String> {
    let visible = actor.visible(Permission::ExperimentsRead, ObjectKind::Experiment);
    let mut filters = String::new();
    if filter.name.is_some() {
        filters.push_str(" AND name = $2");
    }
    if let Some(state) = filter.state {
        // `|| ''` leaves the choice of an index to the name, which says more. Written out, because PostgreSQL must know which state it is to see whether it is a rare one.
        let column = if filter.name.is_some() { "state || ''" } else { "state" };
        filters.push_str(&format!(" AND {column} = '{}'", state.name()));
    }
    let arms = arms(actor, &visible, !filters.is_empty(), filter.mine == Some(true));
    let tail = format!("ORDER BY id DESC LIMIT {limit}");
    // Past some sixty arms one walk over the newest rows is cheaper than so many small ones (reference: authorization.md §5).
    Some(match arms.as_slice() {
        [] => return None,
        [one] => format!("SELECT {columns} FROM experiments WHERE id < $1 AND {one}{filters} {tail}"),
        several if several.len() <= 60 => {
            let arms: Vec<String> = several
                .iter()
                .map(|arm| {
                    format!(
                        "SELECT id FROM (SELECT id FROM experiments WHERE id < $1 AND {arm}{filters} {tail}) AS arm"
                    )
                })
                .collect();
            format!(
                "SELECT {columns} FROM experiments WHERE id IN (SELECT id FROM ({}) AS arms {tail}) ORDER BY id DESC",
                arms.join(" UNION ")
            )
        }
        many => format!(
            "SELECT {columns} FROM experiments WHERE id < $1 AND ({}){filters} {tail}",
            any_of(many)
        ),
    })
}

/// One condition for each part of the visible set; `1=1` when everything is. Each is walked by one index: when `filtered`, by the one that holds
/// what is filtered by, too. There is one for an owner's and one for a workspace's rows; what else a condition says is kept (`+ 0`) from tempting the database to another.
fn arms(actor: &Actor, visible: &Visible, filtered: bool, mine: bool) -> Vec<String> {
    let own = format!("owner_id = {}", actor.id.0);
    let beside = |column: &str, id: i64| {
        if filtered {
            format!("{column} + 0 = {id}")
        } else {
            format!("{column} = {id}")
        }
    };
    let own_workspace = |id: &WorkspaceId| format!("{own} AND {}", beside("workspace_id", id.0));
    let own_project = |id: &ProjectId| format!("{own} AND {}", beside("project_id", id.0));
    if visible.all {
        return vec![if mine { own } else { "1=1".into() }];
    }
    let mut arms = Vec::new();
    if visible.own {
        arms.push(own.clone());
    }
    arms.extend(visible.own_workspaces.iter().map(own_workspace));
    arms.extend(visible.own_projects.iter().map(own_project));
    if mine {
        arms.extend(visible.workspaces.iter().map(own_workspace));
        arms.extend(visible.projects.iter().map(own_project));
    } else {
        arms.extend(visible.workspaces.iter().map(|id| format!("workspace_id = {id}")));
        arms.extend(visible.projects.iter().map(|id| {
            let project = actor.picture().project(*id).filter(|_| filtered);
            let within = project.map(|project| format!("workspace_id = {} AND ", project.workspace));
            format!("{}{}", within.unwrap_or_default(), beside("project_id", id.0))
        }));
    }
    let objects = id_list(visible.objects.iter().copied());
    if !visible.objects.is_empty() {
        arms.push(if mine {
            format!("{own} AND id IN ({objects})")
        } else {
            format!("id IN ({objects})")
        });
    }
    if !visible.own_objects.is_empty() {
        arms.push(format!(
            "{own} AND id IN ({})",
            id_list(visible.own_objects.iter().copied())
        ));
    }
    arms
}

fn any_of(arms: &[String]) -> String {
    if arms.is_empty() {
        "1=0".into()
    } else {
        arms.iter()
            .map(|arm| format!("({arm})"))
            .collect::<Vec<_>>()
            .join(" OR ")
    }
}
