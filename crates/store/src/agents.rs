//! Agents: the machines that serve queues.

use std::collections::BTreeMap;

use bailiwick_access::Target;
use bailiwick_api::agents::{Agent, Register, SlotKind};
use bailiwick_api::{AgentId, Page, Permission, PrincipalId, QueueId, Time};
use sqlx::Row;

use crate::access::{Actor, Refusal, Work, queue_target};
use crate::audit::{self, Entry};
use crate::db::{Result, StoreError};
use crate::queues::may_see;

/// An agent whose principal may still serve its queues.
pub struct Serving {
    pub actor: Actor,
    pub id: AgentId,
    pub name: String,
    pub queues: Vec<QueueId>,
    pub slots: i64,
    pub instance: String,
    /// Jobs are to run as their owners, and whether the account may still let them.
    pub use_owner_token: bool,
    pub impersonates: bool,
}

/// The queues by name, each of which this actor must be allowed to serve.
fn served(actor: &Actor, names: &[String]) -> std::result::Result<Vec<QueueId>, Refusal> {
    names
        .iter()
        .map(|name| {
            let found = actor.picture().find_queue(name);
            let missing = || Refusal::NotFound {
                what: "queue",
                which: name.clone(),
            };
            let (id, open) = found.ok_or_else(missing)?;
            if actor.may(Permission::QueuesServe, &queue_target(id)).is_some() {
                return Ok(id);
            }
            if may_see(actor, id, open) {
                Err(actor.forbidden(Permission::QueuesServe, &queue_target(id)))
            } else {
                Err(missing())
            }
        })
        .collect()
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

/// Makes an agent known, or known again with other queues and slots. Two machines under one name would each be told that the other's jobs are lost: while the
/// one that was first holds jobs and is heard of (within `lost_after_ms`), the other is refused.
pub async fn register(
    actor: &Actor,
    new: &Register,
    lost_after_ms: i64,
) -> std::result::Result<RegisterOutcome, Refusal> {
    served(actor, &new.queues)?;
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
        "INSERT INTO agents (principal_id, name, queues, slots, slot_kind, hardware, address, instance, created_at, last_seen_at, use_owner_token)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $10)
         ON CONFLICT (principal_id, name) DO UPDATE SET queues = $3, slots = $4, slot_kind = $5, hardware = $6, address = $7, instance = $8, last_seen_at = $9, use_owner_token = $10
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
    .bind(i64::from(new.use_owner_token))
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

/// The agent, if it belongs to this actor and the actor may (still) serve all its queues.
pub async fn serving(actor: &Actor, id: AgentId) -> std::result::Result<Serving, Refusal> {
    let missing = || Refusal::NotFound {
        what: "agent",
        which: id.to_string(),
    };
    let sql = "SELECT a.name, a.queues, a.slots, a.principal_id, a.instance, a.use_owner_token, p.impersonates FROM agents a JOIN principals p ON p.id = a.principal_id WHERE a.id = $1";
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
    Ok(Serving {
        actor: actor.clone(),
        id,
        name: row.try_get(0)?,
        queues: served(actor, &names)?,
        slots: row.try_get(2)?,
        instance: row.try_get(4)?,
        use_owner_token: row.try_get::<i64, _>(5)? == 1,
        impersonates: row.try_get::<i64, _>(6)? == 1,
    })
}

/// Notes that an agent was heard of.
pub async fn seen(serving: &Serving) -> Result<()> {
    let mut work = serving.actor.begin().await?;
    sqlx::query("UPDATE agents SET last_seen_at = $1, address = $2 WHERE id = $3")
        .bind(serving.actor.now().0)
        .bind(&*serving.actor.origin.address)
        .bind(serving.id.0)
        .execute(&mut **work)
        .await?;
    work.commit().await
}

/// Agents of queues that this actor may see; addresses and hardware need `agents:read`. `lost_after_ms`: not heard of for so long means lost.
pub async fn list(actor: &Actor, lost_after_ms: i64) -> Result<Page<Agent>> {
    let full = actor.may(Permission::AgentsRead, &Target::default()).is_some();
    let rows = sqlx::query(
        "SELECT a.id, a.name, a.queues, a.slots, a.slot_kind, a.hardware, a.address, a.last_seen_at, a.principal_id,
           (SELECT CAST(COALESCE(SUM(j.slots), 0) AS BIGINT) FROM jobs j WHERE j.agent_id = a.id AND j.state IN ('STARTING', 'RUNNING', 'STOPPING'))
         FROM agents a ORDER BY a.id LIMIT 10000",
    );
    let mut items = Vec::new();
    for row in rows.fetch_all(&actor.db().read).await? {
        let queues: Vec<String> =
            serde_json::from_str(row.try_get::<&str, _>(2)?).map_err(|why| StoreError::Broken(why.to_string()))?;
        let shown: Vec<String> = queues
            .into_iter()
            .filter(|name| {
                actor
                    .picture()
                    .find_queue(name)
                    .is_some_and(|(id, open)| may_see(actor, id, open))
            })
            .collect();
        if shown.is_empty() && !full {
            continue;
        }
        let seen = Time(row.try_get(7)?);
        let live = actor.picture().world().is_active(PrincipalId(row.try_get(8)?))
            && actor.now().since_ms(seen) < lost_after_ms;
        let hardware: BTreeMap<String, String> = serde_json::from_str(row.try_get::<&str, _>(5)?).unwrap_or_default();
        items.push(Agent {
            id: AgentId(row.try_get(0)?),
            name: row.try_get(1)?,
            queues: shown,
            state: if live { "up".into() } else { "lost".into() },
            slots: row.try_get(3)?,
            used_slots: row.try_get(9)?,
            slot_kind: if row.try_get::<&str, _>(4)? == "gpu" {
                SlotKind::Gpu
            } else {
                SlotKind::Cpu
            },
            last_seen_at: seen,
            address: full.then(|| row.try_get(6)).transpose()?,
            hardware: if full { hardware } else { BTreeMap::new() },
        });
    }
    Ok(Page { items, next: None })
}
