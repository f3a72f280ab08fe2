//! Agents: the machines that serve queues.

use std::collections::BTreeMap;
use std::sync::Arc;

use bailiwick_access::Target;
use bailiwick_api::agents::{Agent, Load, Register, Service, SlotKind};
use bailiwick_api::experiments::State;
use bailiwick_api::permission::permit;
use bailiwick_api::{AgentId, ExperimentId, Page, Permission, PrincipalId, QueueId, Time};
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};

use crate::access::{Actor, Granted, Refusal, System, Work, queue_target};
use crate::audit::{self, Entry};
use crate::db::{Result, StoreError};
use crate::experiments::change_state;
use crate::jobs::HAND_BACK;
use crate::queues::may_see;
use crate::workspaces::PlaceError;

/// An agent whose principal may still serve queues of its list.
#[derive(Clone)]
pub struct Serving {
    pub actor: Actor,
    pub id: AgentId,
    pub name: String,
    /// In the order in which they are looked at: where they take turns, it begins after the one that had the last.
    pub queues: Vec<QueueId>,
    /// The others of its list, and why it may not serve them.
    pub not_served: Arc<BTreeMap<String, String>>,
    pub fair: bool,
    pub slots: i64,
    pub instance: String,
    /// It was taken for gone, and is not.
    pub gone: bool,
    pub last_seen_at: Time,
    /// Jobs are to run as their owners, and whether the account may still let them.
    pub use_owner_token: bool,
    pub impersonates: bool,
    /// It applies what vaults give.
    pub vaults: bool,
}

/// The queue of this name, which this actor must be allowed to serve. One that may not be seen is missing like one that is not there.
fn served(actor: &Actor, name: &str) -> std::result::Result<QueueId, Refusal> {
    let missing = || Refusal::NotFound {
        what: "queue",
        which: name.to_owned(),
    };
    let id = actor.picture().find_queue(name).ok_or_else(missing)?;
    if actor.may(Permission::QueuesServe, &queue_target(id)).is_some() {
        return Ok(id);
    }
    if may_see(actor, id) {
        Err(actor.forbidden(Permission::QueuesServe, &queue_target(id)))
    } else {
        Err(missing())
    }
}

/// Whom to ask for what, where a queue may not be served. Whoever reads this looks at the agent's log, and has to ask somebody else.
pub fn what_to_ask(refusal: &Refusal, who: &str) -> Option<String> {
    match refusal {
        Refusal::Forbidden {
            permission: Permission::QueuesServe,
            who,
            on,
            ..
        } => Some(format!(
            "ask an administrator for it: `ml rbac assign-role QueueAgent -u {who} --on {on}`"
        )),
        // A queue that is gone and one that is hidden are told in the same words.
        Refusal::NotFound { what: "queue", which } => Some(format!(
            "it is gone (deleted or renamed), or {who} may not see it: take it out of the agent's --queue, or, where it is there, ask an administrator: `ml rbac assign-role QueueAgent -u {who} --on queue:{which}`"
        )),
        _ => None,
    }
}

/// Those of an agent's queues that it may (still) serve, the others with why not, in words, and the refusal of the first of those.
fn still_served(actor: &Actor, names: &[String]) -> (Vec<QueueId>, BTreeMap<String, String>, Option<Refusal>) {
    let (mut queues, mut others) = (Vec::new(), BTreeMap::new());
    let mut first = None;
    for name in names {
        let refusal = match served(actor, name) {
            Ok(queue) => {
                queues.push(queue);
                continue;
            }
            Err(refusal) => refusal,
        };
        let what = match &refusal {
            Refusal::Forbidden {
                who, permission, place, ..
            } => format!("{who} needs {permission} on {place}"),
            _ => "there is no queue of that name for it".to_owned(),
        };
        let ask = what_to_ask(&refusal, &actor.name()).unwrap_or_default();
        others.insert(name.clone(), format!("{what}; {ask}"));
        first.get_or_insert(refusal);
    }
    (queues, others, first)
}

/// What came of an attempt to make an agent known.
pub enum RegisterOutcome {
    Known(AgentId),
    /// Another agent of that name is there and holds jobs; its address.
    Taken(String),
    /// It wants to run jobs as their owners, and its account is not allowed to.
    MayNotImpersonate,
}

/// Whether the account of an agent may run jobs as their owners, as it is in this transaction.
pub(crate) async fn may_impersonate(work: &mut Work, account: PrincipalId) -> Result<bool> {
    let may: i64 = sqlx::query_scalar("SELECT impersonates FROM principals WHERE id = $1")
        .bind(account.0)
        .fetch_one(&mut ***work)
        .await?;
    Ok(may == 1)
}

/// The queues for which this very agent is registered already.
async fn registered_for(actor: &Actor, new: &Register) -> Result<Vec<String>> {
    let queues: Option<String> =
        sqlx::query_scalar("SELECT queues FROM agents WHERE principal_id = $1 AND name = $2 AND instance = $3")
            .bind(actor.id.0)
            .bind(&new.name)
            .bind(&new.instance)
            .fetch_optional(&actor.db().read)
            .await?;
    let read = |text: String| serde_json::from_str(&text).map_err(|why| StoreError::Broken(why.to_string()));
    Ok(queues.map(read).transpose()?.unwrap_or_default())
}

/// Makes an agent known, or known again with other queues and slots. Two machines under one name would each be told that the other's jobs are lost: while the
/// one that was first holds jobs and is heard of (within `lost_after_ms`), the other is refused.
pub async fn register(
    actor: &Actor,
    new: &Register,
    lost_after_ms: i64,
) -> std::result::Result<RegisterOutcome, Refusal> {
    let before = registered_for(actor, new).await?;
    // One that was taken away from an agent at work, or is gone, must not stop it from coming back for the others.
    let unknown = new.queues.iter().filter(|name| !before.contains(name));
    for name in unknown {
        served(actor, name)?;
    }
    if let (queues, _, Some(refusal)) = still_served(actor, &new.queues)
        && queues.is_empty()
    {
        return Err(refusal);
    }
    let kind = if new.slots.iter().any(|slot| slot.kind == SlotKind::Gpu) {
        "gpu"
    } else {
        "cpu"
    };
    let hardware = serde_json::to_string(&new.hardware).map_err(|why| StoreError::Broken(why.to_string()))?;
    let queues = serde_json::to_string(&new.queues).map_err(|why| StoreError::Broken(why.to_string()))?;
    let mut work = actor.begin().await?;
    if new.use_owner_token && !may_impersonate(&mut work, actor.id).await? {
        return Ok(RegisterOutcome::MayNotImpersonate);
    }
    let now = actor.now().0;
    let other = sqlx::query(
        "SELECT address FROM agents a WHERE principal_id = $1 AND name = $2 AND instance <> $3 AND last_seen_at > $4
           AND EXISTS (SELECT 1 FROM jobs j WHERE j.agent_id = a.id AND j.state IN ('STARTING', 'RUNNING', 'STOPPING'))",
    )
    .bind(actor.id.0)
    .bind(&new.name)
    .bind(&new.instance)
    .bind(now - lost_after_ms * 1000)
    .fetch_optional(&mut **work)
    .await?;
    if let Some(other) = other {
        return Ok(RegisterOutcome::Taken(other.try_get(0)?));
    }
    let id: i64 = sqlx::query_scalar(
        "INSERT INTO agents (principal_id, name, queues, slots, slot_kind, hardware, address, instance, created_at, last_seen_at, fair, use_owner_token, vaults)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $10, $11, $12)
         ON CONFLICT (principal_id, name) DO UPDATE SET queues = $3, slots = $4, slot_kind = $5, hardware = $6, address = $7, instance = $8, last_seen_at = $9, gone_at = NULL, fair = $10, use_owner_token = $11, vaults = $12
         RETURNING id",
    )
    .bind(actor.id.0)
    .bind(&new.name)
    .bind(queues)
    .bind(new.slots.len() as i64)
    .bind(kind)
    .bind(hardware)
    .bind(&*actor.origin.address)
    .bind(&new.instance)
    .bind(now)
    .bind(i64::from(new.fair))
    .bind(i64::from(new.use_owner_token))
    .bind(i64::from(new.vaults))
    .fetch_one(&mut **work)
    .await?;
    let entry = Entry::new("queues:serve", "register", "agent", &new.name);
    audit::write(
        &mut work,
        actor,
        entry.with(
            serde_json::json!({"queues": new.queues, "slots": new.slots.len(), "use_owner_token": new.use_owner_token}),
        ),
    )
    .await?;
    work.commit().await?;
    Ok(RegisterOutcome::Known(AgentId(id)))
}

/// The agent, if it belongs to this actor and the actor may (still) serve any of its queues.
pub async fn serving(actor: &Actor, id: AgentId) -> std::result::Result<Serving, Refusal> {
    let missing = || Refusal::NotFound {
        what: "agent",
        which: id.to_string(),
    };
    let sql = "SELECT a.name, a.queues, a.slots, a.principal_id, a.instance, a.gone_at, a.last_seen_at, a.fair, a.last_queue, a.use_owner_token, p.impersonates, a.vaults FROM agents a JOIN principals p ON p.id = a.principal_id WHERE a.id = $1";
    let row = sqlx::query(sql)
        .bind(id.0)
        .fetch_optional(&actor.db().read)
        .await?
        .ok_or_else(missing)?;
    if row.try_get::<i64, _>(3)? != actor.id.0 {
        return Err(missing());
    }
    let names: Vec<String> =
        serde_json::from_str(row.try_get::<&str, _>(1)?).map_err(|why| StoreError::Broken(why.to_string()))?;
    let (mut queues, not_served, refusal) = still_served(actor, &names);
    // What it runs it may bring to its end; what it has not begun it does not begin.
    if let Some(refusal) = refusal.filter(|_| queues.is_empty())
        && !runs_jobs(&actor.db().read, id).await?
    {
        return Err(refusal);
    }
    let fair = row.try_get::<i64, _>(7)? == 1;
    let last: i64 = row.try_get(8)?;
    if fair && let Some(at) = queues.iter().position(|queue| queue.0 == last) {
        queues.rotate_left(at + 1);
    }
    Ok(Serving {
        actor: actor.clone(),
        id,
        name: row.try_get(0)?,
        queues,
        not_served: Arc::new(not_served),
        fair,
        slots: row.try_get(2)?,
        instance: row.try_get(4)?,
        gone: row.try_get::<Option<i64>, _>(5)?.is_some(),
        last_seen_at: Time(row.try_get(6)?),
        use_owner_token: row.try_get::<i64, _>(9)? == 1,
        impersonates: row.try_get::<i64, _>(10)? == 1,
        vaults: row.try_get::<i64, _>(11)? == 1,
    })
}

async fn runs_jobs(read: impl sqlx::Executor<'_, Database = sqlx::Any>, id: AgentId) -> Result<bool> {
    let sql = "SELECT COUNT(*) FROM (SELECT 1 FROM jobs WHERE agent_id = $1 AND state IN ('RUNNING', 'STOPPING') LIMIT 1) AS held";
    let held: i64 = sqlx::query_scalar(sql).bind(id.0).fetch_one(read).await?;
    Ok(held > 0)
}

/// Notes that an agent was heard of, and how its machine does where it says so.
pub async fn seen(serving: &Serving, load: Option<&Load>) -> Result<()> {
    let mut work = serving.actor.begin().await?;
    note_seen(&mut work, serving, load).await?;
    work.commit().await
}

pub(crate) async fn note_seen(work: &mut Work, serving: &Serving, load: Option<&Load>) -> Result<()> {
    let now = serving.actor.now().0;
    let load = load.map(serde_json::to_string).transpose();
    let load = load.map_err(|why| StoreError::Broken(why.to_string()))?;
    sqlx::query(
        "UPDATE agents SET last_seen_at = $1, address = $2, gone_at = NULL, load = COALESCE($4, load),
           load_at = CASE WHEN $5 = 1 THEN $1 ELSE load_at END
         WHERE id = $3",
    )
    .bind(now)
    .bind(&*serving.actor.origin.address)
    .bind(serving.id.0)
    .bind(&load)
    .bind(i64::from(load.is_some()))
    .execute(&mut ***work)
    .await?;
    Ok(())
}

/// Agents that are not known to be gone, and when each was heard of last: what a server that starts expects to hear of.
pub async fn expected(system: &System) -> Result<Vec<(AgentId, Time)>> {
    let rows: Vec<(i64, i64)> = sqlx::query_as("SELECT id, last_seen_at FROM agents WHERE gone_at IS NULL")
        .fetch_all(&system.db().read)
        .await?;
    Ok(rows.into_iter().map(|(id, at)| (AgentId(id), Time(at))).collect())
}

/// Notes that an agent is gone, unless another server has heard of it since.
pub async fn note_gone(system: &System, id: AgentId, last_seen_at: Time) -> Result<()> {
    let mut work = system.begin().await?;
    sqlx::query("UPDATE agents SET gone_at = $2 WHERE id = $1 AND gone_at IS NULL AND last_seen_at <= $3")
        .bind(id.0)
        .bind(system.now().0)
        .bind(last_seen_at.0)
        .execute(&mut **work)
        .await?;
    work.commit().await
}

/// Whether the agent is to be given work. Holds until the transaction ends: whoever changes it waits for that, and then finds what was given meanwhile.
pub(crate) async fn takes_work(work: &mut Work, serving: &Serving) -> Result<bool> {
    let sql = format!(
        "SELECT service FROM agents WHERE id = $1{}",
        serving.actor.db().lock_rows()
    );
    let service: Option<String> = sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(serving.id.0)
        .fetch_optional(&mut ***work)
        .await?;
    Ok(service.as_deref() == Some(Service::Enabled.name()))
}

const COLUMNS: &str = "a.id, a.name, a.queues, a.slots, a.slot_kind, a.hardware, a.address, a.last_seen_at, a.principal_id,
   (SELECT CAST(COALESCE(SUM(j.slots), 0) AS BIGINT) FROM jobs j WHERE j.agent_id = a.id AND j.state IN ('STARTING', 'RUNNING', 'STOPPING')), a.service, a.gone_at, a.load, a.load_at, a.fair, a.use_owner_token,
   (SELECT p.impersonates FROM principals p WHERE p.id = a.principal_id)";

/// The queues that an agent of this account is given jobs of: none where it is to run them as their owners and may not.
pub(crate) fn takes_from(actor: &Actor, names: &[String], account: PrincipalId, may_run: bool) -> Vec<QueueId> {
    let picture = actor.picture();
    let known = names
        .iter()
        .filter(|_| may_run)
        .filter_map(|name| picture.find_queue(name));
    let serves = |id: &QueueId| {
        let (world, target) = (picture.world(), queue_target(*id));
        world
            .decide(account, None, Permission::QueuesServe, &target, actor.now().0)
            .is_some()
    };
    known.filter(serves).collect()
}

/// The agent as this actor may see it: with those of its queues that the actor may see, or with all that is known of it by `agents:read`.
fn view(actor: &Actor, row: &AnyRow, lost_after_ms: i64) -> Result<Option<Agent>> {
    let full = actor.may(Permission::AgentsRead, &Target::default()).is_some();
    let queues: Vec<String> =
        serde_json::from_str(row.try_get::<&str, _>(2)?).map_err(|why| StoreError::Broken(why.to_string()))?;
    let may_see = |name: &String| {
        let found = actor.picture().find_queue(name);
        found.is_some_and(|id| may_see(actor, id))
    };
    let account = PrincipalId(row.try_get(8)?);
    let as_owner = row.try_get::<i64, _>(15)? == 1;
    let takes = takes_from(actor, &queues, account, !as_owner || row.try_get::<i64, _>(16)? == 1);
    let shown: Vec<String> = queues.into_iter().filter(may_see).collect();
    if shown.is_empty() && !full {
        return Ok(None);
    }
    let seen = Time(row.try_get(7)?);
    let gone: Option<i64> = row.try_get(11)?;
    let live =
        gone.is_none() && actor.picture().world().is_active(account) && actor.now().since_ms(seen) < lost_after_ms;
    let service = Service::parse(row.try_get(10)?).ok_or_else(|| StoreError::Broken("service of an agent".into()))?;
    let state = match (live, service) {
        (false, _) => "lost",
        (true, Service::Enabled) if takes.is_empty() => "refused",
        (true, Service::Enabled) => "up",
        (true, service) => service.name(),
    };
    let hardware: BTreeMap<String, String> = serde_json::from_str(row.try_get::<&str, _>(5)?).unwrap_or_default();
    Ok(Some(Agent {
        id: AgentId(row.try_get(0)?),
        name: row.try_get(1)?,
        queues: shown,
        state: state.into(),
        service,
        fair: row.try_get::<i64, _>(14)? == 1,
        use_owner_token: as_owner,
        slots: row.try_get(3)?,
        used_slots: row.try_get(9)?,
        slot_kind: if row.try_get::<&str, _>(4)? == "gpu" {
            SlotKind::Gpu
        } else {
            SlotKind::Cpu
        },
        last_seen_at: seen,
        load: serde_json::from_str(row.try_get::<&str, _>(12)?).ok(),
        load_at: row.try_get::<Option<i64>, _>(13)?.map(Time),
        account: full.then(|| actor.picture().principal_name(account).to_string()),
        address: full.then(|| row.try_get(6)).transpose()?,
        hardware: if full { hardware } else { BTreeMap::new() },
    }))
}

/// Agents of queues that this actor may see; addresses and hardware need `agents:read`. `lost_after_ms`: not heard of for so long means lost.
pub async fn list(actor: &Actor, lost_after_ms: i64) -> Result<Page<Agent>> {
    let sql = format!("SELECT {COLUMNS} FROM agents a ORDER BY a.id LIMIT 10000");
    let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(&actor.db().read).await?;
    let items = rows
        .iter()
        .filter_map(|row| view(actor, row, lost_after_ms).transpose());
    Ok(Page {
        items: items.collect::<Result<_>>()?,
        next: None,
    })
}

/// One agent by its number or name. Two accounts may each have one of the same name.
pub async fn get(actor: &Actor, which: &str, lost_after_ms: i64) -> std::result::Result<Agent, PlaceError> {
    let sql = format!("SELECT {COLUMNS} FROM agents a WHERE a.id = $1 OR a.name = $2 ORDER BY a.id LIMIT 100");
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(which.parse().unwrap_or(0_i64))
        .bind(which)
        .fetch_all(&actor.db().read)
        .await
        .map_err(StoreError::from)?;
    let mut found = Vec::new();
    for row in &rows {
        found.extend(view(actor, row, lost_after_ms)?);
    }
    if let Some(at) = found.iter().position(|agent| agent.id.to_string() == which) {
        return Ok(found.swap_remove(at));
    }
    if found.len() > 1 {
        let ids: Vec<String> = found.iter().map(|agent| agent.id.to_string()).collect();
        let why = format!("{} agents are named `{which}`: {}", ids.len(), ids.join(", "));
        return Err(PlaceError::Conflict(why, "name it by its number"));
    }
    let missing = || Refusal::NotFound {
        what: "agent",
        which: which.to_owned(),
    };
    Ok(found.pop().ok_or_else(missing)?)
}

/// Says whether an agent is to be given work. Where it is disabled, what it holds is told to stop and then handed back.
pub async fn set_service(
    by: &Granted<permit::AgentsManage>,
    agent: &Agent,
    service: Service,
) -> std::result::Result<Vec<ExperimentId>, Refusal> {
    let mut work = by.begin().await?;
    let sql = format!("SELECT service FROM agents WHERE id = $1{}", by.db().lock_rows());
    let before: String = sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(agent.id.0)
        .fetch_one(&mut **work)
        .await?;
    sqlx::query("UPDATE agents SET service = $2 WHERE id = $1")
        .bind(agent.id.0)
        .bind(service.name())
        .execute(&mut **work)
        .await?;
    let mut stopped = Vec::new();
    if service == Service::Disabled {
        let why = format!("agent {} was disabled by {}", agent.name, by.actor.name());
        let held: Vec<i64> = sqlx::query_scalar(
            "UPDATE jobs SET wanted = $2, wanted_by = $3, state = 'STOPPING'
             WHERE agent_id = $1 AND state IN ('STARTING', 'RUNNING', 'STOPPING') AND wanted = '' RETURNING experiment_id",
        )
        .bind(agent.id.0)
        .bind(HAND_BACK)
        .bind(&why)
        .fetch_all(&mut **work)
        .await?;
        for experiment in held {
            change_state(
                &mut work,
                ExperimentId(experiment),
                State::Stopping,
                &why,
                by.actor.now(),
            )
            .await?;
            stopped.push(ExperimentId(experiment));
        }
    }
    let verb = match service {
        Service::Enabled => "enable",
        Service::Draining => "drain",
        Service::Disabled => "disable",
    };
    let detail = serde_json::json!({"before": {"service": before}, "after": {"service": service}, "stopped": stopped});
    let entry = Entry::of::<permit::AgentsManage>(verb, "agent", &agent.name).with(detail);
    audit::write(&mut work, &by.actor, entry).await?;
    work.commit().await?;
    Ok(stopped)
}
