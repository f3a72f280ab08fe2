//! Queues: whose jobs they take, what they do with them, and how busy they are.

use std::collections::BTreeMap;

use bailiwick_access::{ObjectKind, Target};
use bailiwick_api::experiments::Experiment;
use bailiwick_api::ids::as_number;
use bailiwick_api::names::{check_name, name_key};
use bailiwick_api::permission::permit;
use bailiwick_api::queues::{Queue, QueueAccess, QueueDetail, QueueLoad, QueueSettings, QueueShare, QueueState};
use bailiwick_api::{ExperimentId, Page, Permission, QueueId, WorkspaceId};
use serde_json::{Value, json};
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};

use crate::access::{Actor, Granted, Refusal, System, Work, queue_target};
use crate::assignments::{ChangeError, Changed, check_text};
use crate::audit::{self, Entry};
use crate::db::{Result, StoreError, Tx, id_list};
use crate::picture::{Picture, QueueEntry, Touched};
use crate::workspaces::unassign;

/// A queue names so many workspaces at most.
const WORKSPACES_MAX: usize = 1000;
/// No limit on jobs is larger than this.
const LIMIT_MAX: i64 = 1_000_000;
const DAY_MINUTES: i64 = 24 * 60;

/// Whether this actor may see the queue: by an assignment at it, or because its workspaces (all, of an open one) include one where the actor may read queues.
/// What is not there takes the same decisions as what may not be seen.
pub fn may_see(actor: &Actor, id: QueueId) -> bool {
    let at_queue = actor.may(Permission::QueuesRead, &queue_target(id)).is_some();
    let Some(queue) = actor.picture().queue(id) else {
        return false;
    };
    at_queue || sees_by_workspace(actor, &queue)
}

fn sees_by_workspace(actor: &Actor, queue: &QueueEntry) -> bool {
    if queue.open {
        let visible = actor.visible(Permission::QueuesRead, ObjectKind::Queue);
        return visible.all || !visible.workspaces.is_empty();
    }
    let reads = |id: &WorkspaceId| {
        let target = actor.picture().workspace_target(*id);
        actor.may(Permission::QueuesRead, &target).is_some()
    };
    queue.workspaces.iter().any(reads)
}

/// Whether this actor may put jobs of this place into the queue.
pub fn may_submit(actor: &Actor, id: QueueId, place: &Target) -> bool {
    let at_queue = actor.may(Permission::QueuesSubmit, &queue_target(id)).is_some();
    let in_place = actor.may(Permission::QueuesSubmit, place).is_some();
    let Some(queue) = actor.picture().queue(id) else {
        return false;
    };
    let takes = queue.open || place.workspace.is_some_and(|id| queue.workspaces.contains(&id));
    at_queue || (takes && in_place)
}

/// By name or id; one that this actor may not see is not there.
pub fn find(actor: &Actor, which: &str) -> std::result::Result<QueueId, Refusal> {
    let picture = actor.picture();
    let found = picture.find_queue(which).or_else(|| as_number(which).map(QueueId));
    // What is not there is decided about as well: it takes the same time as what may not be seen.
    let id = found.unwrap_or(QueueId(0));
    match may_see(actor, id) {
        true => Ok(id),
        false => Err(Refusal::NotFound {
            what: "queue",
            which: which.to_owned(),
        }),
    }
}

/// Whether the queue takes jobs of the workspace from those who may submit there.
pub fn takes_of(picture: &Picture, id: QueueId, workspace: WorkspaceId) -> bool {
    let queue = picture.queue(id);
    queue.is_some_and(|queue| queue.open || queue.workspaces.contains(&workspace))
}

/// The default queue of the workspace itself, while there is one that takes its jobs.
pub fn default_of(actor: &Actor, workspace: WorkspaceId) -> Option<QueueId> {
    let set = actor.picture().workspace(workspace)?.default_queue?;
    takes_of(actor.picture(), set, workspace).then_some(set)
}

/// Where a submission goes that names no queue.
pub fn default(actor: &Actor, place: &Target) -> Option<QueueId> {
    if let Some(own) = place.workspace.and_then(|id| default_of(actor, id)) {
        return Some(own);
    }
    let queues = actor.picture().queues();
    queues.iter().find(|(_, queue)| queue.is_default).map(|(id, _)| *id)
}

const COLUMNS: &str =
    "id, name, description, is_default, state, open, share, max_running, max_running_of_user, max_running_of_workspace";
const HELD: &str = "('STARTING', 'RUNNING', 'STOPPING')";

/// How a queue's jobs take turns.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turns {
    pub state: QueueState,
    pub share: QueueShare,
    /// Of all, of a user, of a workspace; 0: no limit.
    pub most: [i64; 3],
}

impl Turns {
    /// Whether more is to be looked at than which job is next by priority and age.
    pub fn by_owner(&self) -> bool {
        self.share != QueueShare::None || self.most.iter().any(|most| *most > 0)
    }

    /// The row stays as it is until the transaction ends, and with `alone` nobody else takes a job by it meanwhile.
    pub async fn read(tx: &mut Tx, queue: QueueId, lock: &str) -> Result<Option<Turns>> {
        let sql = format!("SELECT {COLUMNS} FROM queues WHERE id = $1 AND deleted_at IS NULL{lock}");
        let row = sqlx::query(AssertSqlSafe(sql)).bind(queue.0).fetch_optional(&mut **tx);
        row.await?.as_ref().map(turns).transpose()
    }
}

fn word<T>(parsed: Option<T>, what: &str) -> Result<T> {
    parsed.ok_or_else(|| StoreError::Broken(format!("a queue has no known {what}")))
}

fn turns(row: &AnyRow) -> Result<Turns> {
    Ok(Turns {
        state: word(QueueState::parse(row.try_get(4)?), "state")?,
        share: match row.try_get::<&str, _>(6)? {
            "" => QueueShare::None,
            other => word(QueueShare::parse(other), "share")?,
        },
        most: [row.try_get(7)?, row.try_get(8)?, row.try_get(9)?],
    })
}

fn access(open: bool, bound: bool) -> QueueAccess {
    match (open, bound) {
        (true, _) => QueueAccess::Open,
        (false, true) => QueueAccess::Bound,
        (false, false) => QueueAccess::Assigned,
    }
}

/// The queue without its counts; of workspaces that it is bound to, those that this actor may see.
fn view(actor: &Actor, row: &AnyRow, bound: &[WorkspaceId]) -> Result<Queue> {
    let turns = turns(row)?;
    Ok(Queue {
        id: QueueId(row.try_get(0)?),
        name: row.try_get(1)?,
        description: row.try_get(2)?,
        is_default: row.try_get::<i64, _>(3)? == 1,
        state: turns.state,
        access: access(row.try_get::<i64, _>(5)? == 1, !bound.is_empty()),
        workspaces: seen(actor, bound),
        share: turns.share,
        max_running: turns.most[0],
        max_running_of_user: turns.most[1],
        max_running_of_workspace: turns.most[2],
        waiting: 0,
        running: 0,
    })
}

/// The queues that this actor may see, with how much waits and runs in each.
pub async fn list(actor: &Actor) -> Result<Page<Queue>> {
    let queues = actor.picture().queues();
    let seen: BTreeMap<i64, QueueEntry> = queues
        .into_iter()
        .filter(|(id, _)| may_see(actor, *id))
        .map(|(id, queue)| (id.0, queue))
        .collect();
    Ok(Page {
        items: views(actor, &seen).await?,
        next: None,
    })
}

async fn views(actor: &Actor, seen: &BTreeMap<i64, QueueEntry>) -> Result<Vec<Queue>> {
    if seen.is_empty() {
        return Ok(Vec::new());
    }
    let ids = id_list(seen.keys().copied());
    let sql = format!("SELECT {COLUMNS} FROM queues WHERE id IN ({ids}) AND deleted_at IS NULL ORDER BY id");
    let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(&actor.db().read).await?;
    let mut items = Vec::with_capacity(rows.len());
    for row in &rows {
        let bound = seen.get(&row.try_get(0)?).map_or(&[][..], |queue| &queue.workspaces);
        items.push(view(actor, row, bound)?);
    }
    count(actor, &mut items).await?;
    Ok(items)
}

async fn count(actor: &Actor, items: &mut [Queue]) -> Result<()> {
    let ids = id_list(items.iter().map(|queue| queue.id.0));
    let sql = format!(
        "SELECT queue_id, state, COUNT(*) FROM jobs WHERE state IN ('QUEUED', 'STARTING', 'RUNNING', 'STOPPING') AND queue_id IN ({ids}) GROUP BY queue_id, state"
    );
    for row in sqlx::query(AssertSqlSafe(sql)).fetch_all(&actor.db().read).await? {
        let id = QueueId(row.try_get(0)?);
        let count: i64 = row.try_get(2)?;
        if let Some(queue) = items.iter_mut().find(|queue| queue.id == id) {
            match row.try_get(1)? {
                "QUEUED" => queue.waiting += count,
                _ => queue.running += count,
            }
        }
    }
    Ok(())
}

/// One queue, and how busy it was in the last day.
pub async fn get(actor: &Actor, id: QueueId) -> std::result::Result<QueueDetail, Refusal> {
    let entry = actor.picture().queue(id);
    let queue = match entry {
        Some(entry) => views(actor, &BTreeMap::from([(id.0, entry)])).await?.pop(),
        None => None,
    };
    let queue = queue.ok_or_else(|| Refusal::NotFound {
        what: "queue",
        which: id.to_string(),
    })?;
    let rows: Vec<(i64, i64, i64)> = sqlx::query_as(
        "SELECT minute, waiting, running FROM queue_load WHERE queue_id = $1 AND minute > $2 ORDER BY minute",
    )
    .bind(id.0)
    .bind(actor.now().0 / 60_000_000 - DAY_MINUTES)
    .fetch_all(&actor.db().read)
    .await?;
    let load = rows.into_iter().map(|(minute, waiting, running)| QueueLoad {
        minute,
        waiting,
        running,
    });
    Ok(QueueDetail {
        queue,
        load: load.collect(),
        waits: work(actor, id, "= 'QUEUED'").await?,
        runs: work(actor, id, &format!("IN {HELD}")).await?,
    })
}

/// What is in these states in a queue, by priority and age, as far as this actor may see it: at most fifty, of the first thousand.
async fn work(actor: &Actor, queue: QueueId, states: &str) -> Result<Vec<Experiment>> {
    let sql = format!(
        "SELECT experiment_id FROM jobs WHERE queue_id = $1 AND state {states} ORDER BY priority, id LIMIT 1000"
    );
    let ids: Vec<i64> = sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(queue.0)
        .fetch_all(&actor.db().read)
        .await?;
    let ids: Vec<ExperimentId> = ids.into_iter().map(ExperimentId).collect();
    crate::experiments::seen_of(actor, &ids, 50).await
}

fn missing(which: impl ToString) -> ChangeError {
    ChangeError::Refused(Refusal::NotFound {
        what: "queue",
        which: which.to_string(),
    })
}

fn taken(name: &str) -> impl FnOnce(StoreError) -> ChangeError {
    move |why| match why {
        StoreError::Conflict(_) => ChangeError::Conflict(format!(
            "there is already a queue `{name}` (letter case does not matter)"
        )),
        other => other.into(),
    }
}

/// What is to be in the row, and the workspaces that it is to be bound to.
struct Wanted {
    queue: Queue,
    bound: Vec<WorkspaceId>,
}

fn limit(given: Option<i64>, before: i64) -> Changed<i64> {
    match given.unwrap_or(before) {
        limit if (0..=LIMIT_MAX).contains(&limit) => Ok(limit),
        limit => Err(ChangeError::Invalid(format!(
            "a limit is from 1 to {LIMIT_MAX} jobs, or 0 for none, and not {limit}"
        ))),
    }
}

/// What becomes of a queue by these settings.
fn changed(actor: &Actor, before: Queue, bound: &[WorkspaceId], new: &QueueSettings) -> Changed<Wanted> {
    if let Some(name) = &new.name {
        check_name("a queue", name).map_err(ChangeError::Invalid)?;
        if name.contains(['#', ',']) || as_number(name).is_some() {
            return Err(ChangeError::Invalid(
                "the name of a queue is no number, and holds neither `#` nor a comma".into(),
            ));
        }
    }
    if let Some(description) = &new.description {
        check_text("the description", description)?;
    }
    if new.is_default == Some(false) && before.is_default {
        return Err(ChangeError::Conflict(format!(
            "{} is the default queue until another one is made the default",
            before.name
        )));
    }
    let names_some = new.workspaces.as_ref().is_some_and(|names| !names.is_empty());
    if names_some && !matches!(new.access, None | Some(QueueAccess::Bound)) {
        return Err(ChangeError::Invalid(
            "workspaces are named for a queue that is bound to them, and for no other".into(),
        ));
    }
    // What cannot be seen cannot be left out by not naming it.
    let unseen = bound.iter().copied().filter(|id| !sees(actor, *id));
    let named = match &new.workspaces {
        Some(names) => Some(workspaces(actor, names, unseen)?),
        None => None,
    };
    let (bound, access) = match (named, new.access) {
        (Some(named), None | Some(QueueAccess::Bound)) if !named.is_empty() => (named, QueueAccess::Bound),
        (None, Some(QueueAccess::Bound)) if before.access == QueueAccess::Bound => (bound.to_vec(), QueueAccess::Bound),
        (_, Some(QueueAccess::Bound)) => {
            return Err(ChangeError::Invalid(
                "a queue is bound to at least one workspace: name it in `workspaces`".into(),
            ));
        }
        (Some(_), None) => (Vec::new(), QueueAccess::Assigned),
        (_, Some(access)) => (Vec::new(), access),
        (None, None) => (bound.to_vec(), before.access),
    };
    let queue = Queue {
        name: new.name.clone().unwrap_or(before.name),
        description: new.description.clone().unwrap_or(before.description),
        is_default: new.is_default.unwrap_or(before.is_default),
        state: new.state.unwrap_or(before.state),
        access,
        workspaces: seen(actor, &bound),
        share: new.share.unwrap_or(before.share),
        max_running: limit(new.max_running, before.max_running)?,
        max_running_of_user: limit(new.max_running_of_user, before.max_running_of_user)?,
        max_running_of_workspace: limit(new.max_running_of_workspace, before.max_running_of_workspace)?,
        ..before
    };
    Ok(Wanted { queue, bound })
}

fn sees(actor: &Actor, id: WorkspaceId) -> bool {
    let target = actor.picture().workspace_target(id);
    actor.may(Permission::WorkspacesRead, &target).is_some()
}

/// The names of those that this actor may see.
fn seen(actor: &Actor, bound: &[WorkspaceId]) -> Vec<String> {
    let seen = bound.iter().filter(|id| sees(actor, **id));
    seen.map(|id| actor.picture().workspace_name(*id).to_string()).collect()
}

/// Those that are named, and others that stay.
fn workspaces(actor: &Actor, names: &[String], others: impl Iterator<Item = WorkspaceId>) -> Changed<Vec<WorkspaceId>> {
    if names.len() > WORKSPACES_MAX {
        return Err(ChangeError::Invalid(format!(
            "a queue is bound to at most {WORKSPACES_MAX} workspaces"
        )));
    }
    let mut found: Vec<WorkspaceId> = others.collect();
    for name in names {
        let id = actor.picture().find_workspace(name).filter(|id| sees(actor, *id));
        let id = id.ok_or_else(|| {
            ChangeError::Refused(Refusal::NotFound {
                what: "workspace",
                which: name.clone(),
            })
        })?;
        if !found.contains(&id) {
            found.push(id);
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// For the audit: with all workspaces, by number.
fn words(queue: &Queue, bound: &[WorkspaceId]) -> Value {
    let bound: Vec<i64> = bound.iter().map(|id| id.0).collect();
    json!({
        "name": queue.name, "description": queue.description, "default": queue.is_default, "state": queue.state, "access": queue.access,
        "workspaces": bound, "share": queue.share, "max_running": queue.max_running,
        "max_running_of_user": queue.max_running_of_user, "max_running_of_workspace": queue.max_running_of_workspace,
    })
}

fn stored(share: QueueShare) -> &'static str {
    match share {
        QueueShare::None => "",
        other => other.word(),
    }
}

/// Makes a queue. Nothing is ever made by the way: a submission or an agent that names one that is not there is refused.
pub async fn create(by: &Granted<permit::QueuesCreate>, new: &QueueSettings) -> Changed<Queue> {
    let Some(name) = new.name.clone() else {
        return Err(ChangeError::Invalid("a queue needs a name".into()));
    };
    let fresh = Queue {
        id: QueueId(0),
        name,
        description: String::new(),
        is_default: false,
        state: QueueState::Active,
        access: QueueAccess::Open,
        workspaces: Vec::new(),
        share: QueueShare::None,
        max_running: 0,
        max_running_of_user: 0,
        max_running_of_workspace: 0,
        waiting: 0,
        running: 0,
    };
    let mut wanted = changed(&by.actor, fresh, &[], new)?;
    let mut work = by.begin().await?;
    let inserted = sqlx::query_scalar::<_, i64>(
        "INSERT INTO queues (name, name_key, open, created_at) VALUES ($1, $2, 1, $3) RETURNING id",
    )
    .bind(&wanted.queue.name)
    .bind(name_key(&wanted.queue.name))
    .bind(by.actor.now().0)
    .fetch_one(&mut **work)
    .await;
    wanted.queue.id = QueueId(inserted.map_err(StoreError::from).map_err(taken(&wanted.queue.name))?);
    write(&mut work, &wanted).await?;
    let entry = Entry::of::<permit::QueuesCreate>("create", "queue", &wanted.queue.name);
    audit::write(
        &mut work,
        &by.actor,
        entry.with(json!({"after": words(&wanted.queue, &wanted.bound)})),
    )
    .await?;
    work.commit().await?;
    Ok(wanted.queue)
}

/// Everything that is not in the row yet, with the bindings; and that other servers hear of it.
async fn write(work: &mut Work, wanted: &Wanted) -> Changed<()> {
    let queue = &wanted.queue;
    if queue.is_default {
        let before: Vec<i64> =
            sqlx::query_scalar("UPDATE queues SET is_default = 0 WHERE is_default = 1 AND id <> $1 RETURNING id")
                .bind(queue.id.0)
                .fetch_all(&mut ***work)
                .await?;
        let touched: Vec<Touched> = before.into_iter().map(|id| Touched::Queue(QueueId(id))).collect();
        work.touches(&touched).await?;
    }
    let updated = sqlx::query(
        "UPDATE queues SET name = $2, name_key = $3, description = $4, is_default = $5, state = $6, open = $7, share = $8,
           max_running = $9, max_running_of_user = $10, max_running_of_workspace = $11 WHERE id = $1",
    )
    .bind(queue.id.0)
    .bind(&queue.name)
    .bind(name_key(&queue.name))
    .bind(&queue.description)
    .bind(i64::from(queue.is_default))
    .bind(queue.state.word())
    .bind(i64::from(queue.access == QueueAccess::Open))
    .bind(stored(queue.share))
    .bind(queue.max_running)
    .bind(queue.max_running_of_user)
    .bind(queue.max_running_of_workspace)
    .execute(&mut ***work)
    .await;
    updated.map_err(StoreError::from).map_err(taken(&queue.name))?;
    sqlx::query("DELETE FROM queue_workspaces WHERE queue_id = $1")
        .bind(queue.id.0)
        .execute(&mut ***work)
        .await?;
    for workspace in &wanted.bound {
        sqlx::query("INSERT INTO queue_workspaces (queue_id, workspace_id) VALUES ($1, $2)")
            .bind(queue.id.0)
            .bind(workspace.0)
            .execute(&mut ***work)
            .await?;
    }
    work.touches(&[Touched::Queue(queue.id)]).await?;
    Ok(())
}

/// The queue as its row has it now, held until the transaction ends, and what it is bound to.
async fn hold(work: &mut Work, actor: &Actor, id: QueueId) -> Changed<(Queue, Vec<WorkspaceId>)> {
    let lock = actor.db().lock_rows();
    let sql = format!("SELECT {COLUMNS} FROM queues WHERE id = $1 AND deleted_at IS NULL{lock}");
    let row = sqlx::query(AssertSqlSafe(sql)).bind(id.0).fetch_optional(&mut ***work);
    let row = row.await?.ok_or_else(|| missing(id))?;
    let bound: Vec<i64> =
        sqlx::query_scalar("SELECT workspace_id FROM queue_workspaces WHERE queue_id = $1 ORDER BY 1")
            .bind(id.0)
            .fetch_all(&mut ***work)
            .await?;
    let bound: Vec<WorkspaceId> = bound.into_iter().map(WorkspaceId).collect();
    Ok((view(actor, &row, &bound)?, bound))
}

/// Renames a queue, binds it, pauses it, limits it.
pub async fn update(by: &Granted<permit::QueuesUpdate>, id: QueueId, new: &QueueSettings) -> Changed<Queue> {
    let mut work = by.begin().await?;
    work.touches(&[Touched::Queue(id)]).await?;
    let (before, bound) = hold(&mut work, &by.actor, id).await?;
    let wanted = changed(&by.actor, before.clone(), &bound, new)?;
    write(&mut work, &wanted).await?;
    if before.name != wanted.queue.name {
        rename_at_agents(&mut work, &before.name, &wanted.queue.name).await?;
    }
    let entry = Entry::of::<permit::QueuesUpdate>("update", "queue", &before.name);
    let detail = json!({"before": words(&before, &bound), "after": words(&wanted.queue, &wanted.bound)});
    audit::write(&mut work, &by.actor, entry.with(detail)).await?;
    work.commit().await?;
    let mut queues = [wanted.queue];
    count(&by.actor, &mut queues).await?;
    let [queue] = queues;
    Ok(queue)
}

/// Agents are known with the names of their queues: those at work go on.
async fn rename_at_agents(work: &mut Work, before: &str, after: &str) -> Result<()> {
    let rows: Vec<(i64, String)> = sqlx::query_as("SELECT id, queues FROM agents")
        .fetch_all(&mut ***work)
        .await?;
    for (id, queues) in rows {
        let names: Vec<String> = serde_json::from_str(&queues).map_err(|why| StoreError::Broken(why.to_string()))?;
        let is_it = |name: &String| name_key(name) == name_key(before);
        if !names.iter().any(is_it) {
            continue;
        }
        let names: Vec<&str> = names
            .iter()
            .map(|name| if is_it(name) { after } else { name })
            .collect();
        sqlx::query("UPDATE agents SET queues = $2 WHERE id = $1")
            .bind(id)
            .bind(json!(names).to_string())
            .execute(&mut ***work)
            .await?;
    }
    Ok(())
}

/// Deletes a queue in which nothing waits or runs. What ended in it still names it; what was assigned at it ends.
pub async fn delete(by: &Granted<permit::QueuesDelete>, id: QueueId) -> Changed<Queue> {
    let mut work = by.begin().await?;
    work.touches(&[Touched::Queue(id)]).await?;
    let (queue, bound) = hold(&mut work, &by.actor, id).await?;
    if queue.is_default {
        return Err(ChangeError::Conflict(format!(
            "{} is the default queue: make another one the default first",
            queue.name
        )));
    }
    let open: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM jobs WHERE queue_id = $1 AND state IN ('QUEUED', 'STARTING', 'RUNNING', 'STOPPING')",
    )
    .bind(id.0)
    .fetch_one(&mut **work)
    .await?;
    if open > 0 {
        let jobs = if open == 1 {
            "1 job waits or runs".to_owned()
        } else {
            format!("{open} jobs wait or run")
        };
        return Err(ChangeError::Conflict(format!(
            "{jobs} in queue {}: drain it, move or cancel what is in it, and delete it then",
            queue.name
        )));
    }
    sqlx::query("UPDATE queues SET deleted_at = $2, name_key = $3 WHERE id = $1")
        .bind(id.0)
        .bind(by.actor.now().0)
        // No name holds this sign: the name is free for another queue.
        .bind(format!("#{id}"))
        .execute(&mut **work)
        .await?;
    sqlx::query("DELETE FROM queue_workspaces WHERE queue_id = $1")
        .bind(id.0)
        .execute(&mut **work)
        .await?;
    let touched = unassign(&mut work, "queue", &[id.0]).await?;
    work.touches(&touched).await?;
    let entry = Entry::of::<permit::QueuesDelete>("delete", "queue", &queue.name);
    let detail = json!({"before": words(&queue, &bound), "assignments": touched.len()});
    audit::write(&mut work, &by.actor, entry.with(detail)).await?;
    work.commit().await?;
    Ok(queue)
}

/// Takes a workspace that is being deleted out of the queues that are bound to it.
pub(crate) async fn unbind(work: &mut Work, workspace: WorkspaceId) -> Result<()> {
    let queues: Vec<i64> =
        sqlx::query_scalar("DELETE FROM queue_workspaces WHERE workspace_id = $1 RETURNING queue_id")
            .bind(workspace.0)
            .fetch_all(&mut ***work)
            .await?;
    let touched: Vec<Touched> = queues.into_iter().map(|id| Touched::Queue(QueueId(id))).collect();
    work.touches(&touched).await
}

/// A waiting job, and what of its owner and workspace runs.
struct Candidate {
    job: i64,
    priority: i64,
    slots: i64,
    owner: i64,
    workspace: i64,
}

/// The job that is next in a queue where that turns on whose it is, with its slots: of each user and workspace the first by priority and age, without those
/// at a limit; among these by priority, then by fewest slots in use, then by age. `size` is the slots of the agent. The cost grows with the number of users
/// and workspaces that have jobs waiting, and not with how many wait.
pub(crate) async fn next_by_owner(tx: &mut Tx, queue: QueueId, turns: Turns, size: i64) -> Result<Option<(i64, i64)>> {
    let sql = format!(
        "SELECT owner_id, workspace_id, COUNT(*), CAST(SUM(slots) AS BIGINT) FROM jobs WHERE queue_id = $1 AND state IN {HELD} GROUP BY owner_id, workspace_id"
    );
    let running: Vec<(i64, i64, i64, i64)> = sqlx::query_as(AssertSqlSafe(sql))
        .bind(queue.0)
        .fetch_all(&mut **tx)
        .await?;
    let [most, most_of_user, most_of_workspace] = turns.most;
    let full = |most: i64, count: i64| most > 0 && count >= most;
    if full(most, running.iter().map(|one| one.2).sum()) {
        return Ok(None);
    }
    let rows: Vec<(i64, i64, i64, i64, i64)> = sqlx::query_as(
        "WITH RECURSIVE owners(o) AS (
           SELECT MIN(owner_id) FROM jobs WHERE state = 'QUEUED' AND queue_id = $1
           UNION ALL
           SELECT (SELECT MIN(owner_id) FROM jobs WHERE state = 'QUEUED' AND queue_id = $1 AND owner_id > o) FROM owners WHERE o IS NOT NULL
         ), pairs(o, w) AS (
           SELECT o, (SELECT MIN(workspace_id) FROM jobs WHERE state = 'QUEUED' AND queue_id = $1 AND owner_id = o) FROM owners WHERE o IS NOT NULL
           UNION ALL
           SELECT o, (SELECT MIN(workspace_id) FROM jobs WHERE state = 'QUEUED' AND queue_id = $1 AND owner_id = o AND workspace_id > w) FROM pairs WHERE w IS NOT NULL
         )
         SELECT j.id, j.priority, j.slots, j.owner_id, j.workspace_id FROM pairs p JOIN jobs j ON j.id = (
           SELECT id FROM jobs WHERE state = 'QUEUED' AND queue_id = $1 AND owner_id = p.o AND workspace_id = p.w AND slots <= $2
           ORDER BY priority, id LIMIT 1)
         WHERE p.w IS NOT NULL",
    )
    .bind(queue.0)
    .bind(size)
    .fetch_all(&mut **tx)
    .await?;
    let candidates = rows
        .into_iter()
        .map(|(job, priority, slots, owner, workspace)| Candidate {
            job,
            priority,
            slots,
            owner,
            workspace,
        });
    let of_user = |one: &Candidate| running.iter().filter(move |run| run.0 == one.owner).fold((0, 0), add);
    let of_workspace = |one: &Candidate| {
        running
            .iter()
            .filter(move |run| run.1 == one.workspace)
            .fold((0, 0), add)
    };
    let open =
        candidates.filter(|one| !full(most_of_user, of_user(one).0) && !full(most_of_workspace, of_workspace(one).0));
    let used = |one: &Candidate| match turns.share {
        QueueShare::None => 0,
        QueueShare::Users => of_user(one).1,
        QueueShare::Workspaces => of_workspace(one).1,
    };
    let next = open.min_by_key(|one| (one.priority, used(one), one.job));
    Ok(next.map(|one| (one.job, one.slots)))
}

fn add((jobs, slots): (i64, i64), more: &(i64, i64, i64, i64)) -> (i64, i64) {
    (jobs + more.2, slots + more.3)
}

/// Why a queue lets a waiting job wait, if it does so by itself and not for want of slots.
pub(crate) async fn holds_back(actor: &Actor, queue: QueueId, owner: i64, workspace: i64) -> Result<Option<String>> {
    let sql = format!("SELECT {COLUMNS} FROM queues WHERE id = $1");
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(queue.0)
        .fetch_optional(&actor.db().read)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let (turns, name) = (turns(&row)?, row.try_get::<String, _>(1)?);
    if turns.state == QueueState::Paused {
        return Ok(Some(format!("queue `{name}` is paused")));
    }
    let sql = format!(
        "SELECT COUNT(*), CAST(COALESCE(SUM(CASE WHEN owner_id = $2 THEN 1 ELSE 0 END), 0) AS BIGINT),
           CAST(COALESCE(SUM(CASE WHEN workspace_id = $3 THEN 1 ELSE 0 END), 0) AS BIGINT)
         FROM jobs WHERE queue_id = $1 AND state IN {HELD}"
    );
    let counts: (i64, i64, i64) = sqlx::query_as(AssertSqlSafe(sql))
        .bind(queue.0)
        .bind(owner)
        .bind(workspace)
        .fetch_one(&actor.db().read)
        .await?;
    let whose = ["", " of one user", " of one workspace"];
    let counts = [counts.0, counts.1, counts.2];
    let full = (0..3).find(|at| turns.most[*at] > 0 && counts[*at] >= turns.most[*at]);
    Ok(full.map(|at| {
        let (most, whose) = (turns.most[at], whose[at]);
        let jobs = if most == 1 { "job" } else { "jobs" };
        format!("queue `{name}` runs at most {most} {jobs}{whose} at once, and so many run")
    }))
}

/// Notes how busy each queue is, once a minute whichever server does it, and forgets what is older than a week.
pub async fn note_load(system: &System) -> Result<()> {
    let minute = system.now().0 / 60_000_000;
    let mut work = system.begin().await?;
    sqlx::query(
        "INSERT INTO queue_load (queue_id, minute, waiting, running)
         SELECT q.id, $1,
           (SELECT COUNT(*) FROM jobs j WHERE j.queue_id = q.id AND j.state = 'QUEUED'),
           (SELECT COUNT(*) FROM jobs j WHERE j.queue_id = q.id AND j.state IN ('STARTING', 'RUNNING', 'STOPPING'))
         FROM queues q WHERE q.deleted_at IS NULL ON CONFLICT DO NOTHING",
    )
    .bind(minute)
    .execute(&mut **work)
    .await?;
    sqlx::query("DELETE FROM queue_load WHERE minute < $1")
        .bind(minute - 7 * DAY_MINUTES)
        .execute(&mut **work)
        .await?;
    work.commit().await
}
