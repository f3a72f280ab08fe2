//! The audit: who did what to which object, allowed or denied (`access.md` §6).
//!
//! An event is written in the transaction of the change it tells of. The chain over the events is made right after by one sealer (`seal`), in the order in
//! which they became visible: hash = SHA-256(previous hash, event). Chaining inside each transaction would make all changes of the installation wait for each
//! other; so an event is chained within a second of its commit, at the latest by the next `seal` or `verify`, also after a crash. Both tables refuse UPDATE and DELETE.

use std::sync::Arc;

use bailiwick_api::audit::{AuditEvent, AuditFilter, AuditVerdict, Outcome};
use bailiwick_api::permission::{Permit, permit};
use bailiwick_api::{AuditId, Page, Permission, PrincipalId, ProjectId, Time, WorkspaceId, key};
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};

use crate::access::{Access, Actor, Granted, Origin, System, Work};
use crate::db::{Db, Kind, Result, StoreError, Tx, id_list};

/// What an event says besides who and when.
pub struct Entry<'a> {
    pub action: &'a str,
    pub verb: &'a str,
    pub object_kind: &'a str,
    /// Its id or name, never a secret.
    pub object: String,
    pub workspace: Option<WorkspaceId>,
    pub outcome: Outcome,
    pub detail: serde_json::Value,
}

impl<'a> Entry<'a> {
    pub fn new(action: &'a str, verb: &'a str, object_kind: &'a str, object: impl ToString) -> Entry<'a> {
        let object = object.to_string();
        Entry {
            action,
            verb,
            object_kind,
            object,
            workspace: None,
            outcome: Outcome::Allowed,
            detail: serde_json::Value::Null,
        }
    }

    pub fn of<P: Permit>(verb: &'a str, object_kind: &'a str, object: impl ToString) -> Entry<'a> {
        Entry::new(P::PERMISSION.name(), verb, object_kind, object)
    }

    pub fn denied(permission: Permission, object_kind: &'a str, object: impl ToString) -> Entry<'a> {
        Entry {
            outcome: Outcome::Denied,
            ..Entry::new(permission.name(), permission.action(), object_kind, object)
        }
    }

    pub fn in_workspace(self, workspace: Option<WorkspaceId>) -> Self {
        // Nothing is in `access::NOWHERE`.
        let workspace = workspace.filter(|id| id.0 != 0);
        Entry { workspace, ..self }
    }

    pub fn with(self, detail: serde_json::Value) -> Self {
        Entry { detail, ..self }
    }
}

async fn insert(
    tx: &mut Tx,
    at: Time,
    who: Who<'_>,
    credential: Option<i64>,
    origin: &Origin,
    entry: Entry<'_>,
) -> Result<()> {
    // Names come from outside: an object's text is bounded here, whoever wrote it.
    let object: String = entry.object.chars().take(300).collect();
    sqlx::query(
        "INSERT INTO audit_events (at, principal_id, principal, on_behalf_of, credential_id, address, action, verb, object_kind, object, workspace_id, outcome, detail, request_id, on_behalf_of_id)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
    )
    .bind(at.0)
    .bind(who.id)
    .bind(who.name)
    .bind(who.on_behalf_of.map(|(_, name)| name))
    .bind(credential)
    .bind(&*origin.address)
    .bind(entry.action)
    .bind(entry.verb)
    .bind(entry.object_kind)
    .bind(object)
    .bind(entry.workspace.map(|id| id.0))
    .bind(entry.outcome.name())
    .bind(if entry.detail.is_null() { String::new() } else { entry.detail.to_string() })
    .bind(&*origin.request_id)
    // Only to find it by; the name is what the chain covers.
    .bind(who.on_behalf_of.map(|(id, _)| id))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Who did it, and on whose behalf.
struct Who<'a> {
    id: Option<i64>,
    name: &'a str,
    on_behalf_of: Option<(i64, &'a str)>,
}

impl<'a> Who<'a> {
    fn alone(id: Option<i64>, name: &'a str) -> Who<'a> {
        Who {
            id,
            name,
            on_behalf_of: None,
        }
    }
}

/// Writes an event into the transaction of the change. What a job does with its token is done by the account whose agent runs it, on behalf of its owner.
pub async fn write(work: &mut Work, actor: &Actor, entry: Entry<'_>) -> Result<()> {
    let credential = actor.credential.map(|id| id.0).filter(|id| *id != 0);
    let name = actor.name();
    let Some(job) = actor.job else {
        let who = Who::alone(Some(actor.id.0), &name);
        return insert(work, actor.now(), who, credential, &actor.origin, entry).await;
    };
    let picture = actor.picture();
    let (account, owner) = (picture.principal_name(job.account), picture.principal_name(job.owner));
    let who = Who {
        id: Some(job.account.0),
        name: &format!("{account} (job of experiment {})", job.experiment),
        on_behalf_of: Some((job.owner.0, &owner)),
    };
    insert(work, actor.now(), who, credential, &actor.origin, entry).await
}

/// The same of an agent that acts for the owner of a job.
pub async fn write_for(work: &mut Work, actor: &Actor, owner: PrincipalId, entry: Entry<'_>) -> Result<()> {
    let (name, on_behalf_of) = (actor.name(), actor.picture().principal_name(owner));
    let who = Who {
        id: Some(actor.id.0),
        name: &name,
        on_behalf_of: Some((owner.0, &on_behalf_of)),
    };
    let credential = actor.credential.map(|id| id.0).filter(|id| *id != 0);
    insert(work, actor.now(), who, credential, &actor.origin, entry).await
}

/// Writes an event of the product's own doing.
pub async fn write_system(work: &mut Work, system: &System, entry: Entry<'_>) -> Result<()> {
    let name = format!("system: {}", system.purpose);
    insert(
        work,
        system.now(),
        Who::alone(None, &name),
        None,
        &Origin::default(),
        entry,
    )
    .await
}

/// Records something that changed nothing: a refusal, a use of administrative rights for reading.
pub async fn record(actor: &Actor, entry: Entry<'_>) -> Result<()> {
    let mut work = actor.begin().await?;
    write(&mut work, actor, entry).await?;
    work.commit().await
}

/// Writes an event of somebody who is just signing in; the id is known once the password or link was right.
pub async fn write_stranger(
    work: &mut Work,
    who: Option<PrincipalId>,
    name: &str,
    origin: &Origin,
    entry: Entry<'_>,
) -> Result<()> {
    let name: String = name.chars().take(64).collect();
    let now = work.now();
    insert(work, now, Who::alone(who.map(|id| id.0), &name), None, origin, entry).await
}

/// Records what somebody did who is not signed in.
pub async fn record_stranger(access: &Arc<Access>, name: &str, origin: &Origin, entry: Entry<'_>) -> Result<()> {
    let mut work = access.system("sign-in").begin().await?;
    write_stranger(&mut work, None, name, origin, entry).await?;
    work.commit().await
}

const COLUMNS: &str = "id, at, principal_id, principal, on_behalf_of, credential_id, address, action, verb, object_kind, object, workspace_id, outcome, detail, request_id";

/// The text of an event that its link in the chain covers: all columns, in the order of the table.
fn canonical(row: &AnyRow) -> Result<String> {
    let text = serde_json::json!([
        row.try_get::<i64, _>(0)?,
        row.try_get::<i64, _>(1)?,
        row.try_get::<Option<i64>, _>(2)?,
        row.try_get::<String, _>(3)?,
        row.try_get::<Option<String>, _>(4)?,
        row.try_get::<Option<i64>, _>(5)?,
        row.try_get::<Option<String>, _>(6)?,
        row.try_get::<String, _>(7)?,
        row.try_get::<String, _>(8)?,
        row.try_get::<String, _>(9)?,
        row.try_get::<String, _>(10)?,
        row.try_get::<Option<i64>, _>(11)?,
        row.try_get::<String, _>(12)?,
        row.try_get::<String, _>(13)?,
        row.try_get::<String, _>(14)?,
    ]);
    Ok(text.to_string())
}

fn link(previous: &str, event: &str) -> String {
    key::sha256_hex(format!("{previous}\n{event}").as_bytes())
}

const GENESIS: &str = "bailiwick";
/// How far behind the newest link an event may still be unsealed on PostgreSQL, where ids are given out before commits: far more events than
/// can be under way at once. `seal(…, true)` looks at all.
const STRAGGLERS: i64 = 4000;

/// Chains what is not chained yet; true if there may be more.
pub async fn seal(system: &System, everything: bool) -> Result<bool> {
    const BATCH: usize = 1000;
    let db = system.db();
    let mut tx = db.begin().await?;
    if !db.try_lock(&mut tx, 8318).await? {
        return Ok(false);
    }
    let newest = sqlx::query("SELECT link, hash, event_id FROM audit_chain ORDER BY link DESC LIMIT 1")
        .fetch_optional(&mut *tx)
        .await?;
    let (mut number, mut hash, last_event) = match &newest {
        Some(row) => (
            row.try_get::<i64, _>(0)?,
            row.try_get::<String, _>(1)?,
            row.try_get::<i64, _>(2)?,
        ),
        None => (0, GENESIS.to_owned(), 0),
    };
    let after = match db.kind() {
        _ if everything => 0,
        Kind::Sqlite => last_event,
        Kind::Postgres => last_event - STRAGGLERS,
    };
    let sql = format!(
        "SELECT {COLUMNS} FROM audit_events e WHERE e.id > $1 AND NOT EXISTS (SELECT 1 FROM audit_chain c WHERE c.event_id = e.id) ORDER BY e.id LIMIT {BATCH}"
    );
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(after).fetch_all(&mut *tx).await?;
    for row in &rows {
        number += 1;
        hash = link(&hash, &canonical(row)?);
        sqlx::query("INSERT INTO audit_chain (link, event_id, hash) VALUES ($1, $2, $3)")
            .bind(number)
            .bind(row.try_get::<i64, _>(0)?)
            .bind(&hash)
            .execute(&mut *tx)
            .await?;
    }
    if !rows.is_empty() {
        tx.commit().await?;
    }
    Ok(rows.len() == BATCH)
}

/// Walks the whole chain and checks every event against its link.
pub async fn verify(by: &Granted<permit::AuditRead>) -> Result<AuditVerdict> {
    let system = by.actor.access.system("audit");
    // A fault in the newest links would only be sealed over if it were sealed first; so the chain is walked before.
    let verdict = walk(by.db()).await?;
    if verdict.fault.is_some() {
        return Ok(verdict);
    }
    while seal(&system, true).await? {}
    walk(by.db()).await
}

async fn walk(db: &Db) -> Result<AuditVerdict> {
    let (mut hash, mut number) = (GENESIS.to_owned(), 0i64);
    let columns: String = COLUMNS
        .split(", ")
        .map(|column| format!("e.{column}"))
        .collect::<Vec<_>>()
        .join(", ");
    let sql = format!(
        "SELECT {columns}, c.link, c.hash, c.event_id FROM audit_chain c LEFT JOIN audit_events e ON e.id = c.event_id WHERE c.link > $1 ORDER BY c.link LIMIT 2000"
    );
    loop {
        let rows = sqlx::query(AssertSqlSafe(sql.clone()))
            .bind(number)
            .fetch_all(&db.read)
            .await?;
        let at_end = rows.is_empty();
        for row in &rows {
            let (link_number, kept, event): (i64, String, i64) = (row.try_get(15)?, row.try_get(16)?, row.try_get(17)?);
            let fault = if link_number != number + 1 {
                Some(format!(
                    "links {} to {} of the chain are missing",
                    number + 1,
                    link_number - 1
                ))
            } else if row.try_get::<Option<i64>, _>(0)?.is_none() {
                Some(format!("event {event} is missing"))
            } else if link(&hash, &canonical(row)?) != kept {
                Some(format!("event {event} is not as it was written"))
            } else {
                None
            };
            if fault.is_some() {
                return Ok(AuditVerdict {
                    intact: false,
                    events: number,
                    head: hash,
                    fault,
                });
            }
            (number, hash) = (link_number, kept);
        }
        if at_end {
            return Ok(AuditVerdict {
                intact: true,
                events: number,
                head: hash,
                fault: None,
            });
        }
    }
}

/// Newest first; `oldest_first` for exports.
pub async fn list(
    actor: &Actor,
    filter: &AuditFilter,
    oldest_first: bool,
) -> std::result::Result<Page<AuditEvent>, crate::access::Refusal> {
    let workspaces = readable(actor)?;
    let limit = filter.limit.unwrap_or(100).clamp(1, 1000);
    let after = filter.after.as_deref().and_then(|after| after.parse::<i64>().ok());
    // Each condition stands only when asked for, so that its index can be used.
    let mut sql = format!(
        "SELECT {COLUMNS} FROM audit_events WHERE id {} $1",
        if oldest_first { ">" } else { "<" }
    );
    let mut texts: Vec<String> = Vec::new();
    if let Some(user) = &filter.user {
        match actor.picture().find_principal(user) {
            // By id, since a name may have been somebody else's before; attempts to sign in under the name carry no id.
            Some(id) => {
                texts.push(user.clone());
                let name = texts.len() + 1;
                sql.push_str(&format!(
                    " AND (principal_id = {id} OR on_behalf_of_id = {id} OR (principal_id IS NULL AND principal = ${name}))"
                ));
            }
            None => {
                texts.push(user.clone());
                sql.push_str(&format!(" AND principal = ${}", texts.len() + 1));
            }
        }
    }
    let mut condition = |text: String, column: &str, sql: &mut String| {
        texts.push(text);
        sql.push_str(&format!(" AND {column} = ${}", texts.len() + 1));
    };
    if let Some(action) = &filter.action {
        let permission = action.contains(':') || action.starts_with("sign-");
        condition(action.clone(), if permission { "action" } else { "verb" }, &mut sql);
    }
    if let Some(text) = filter.object.as_deref().map(str::trim) {
        // A kind is of one word or two: `experiment 12`, `service account builder`, or all of a kind.
        let of = |(at, _)| (text[..at].to_owned(), Some(text[at + 1..].to_owned()));
        let mut meant: Vec<(String, Option<String>)> = text.match_indices(' ').take(2).map(of).collect();
        meant.push((text.to_owned(), None));
        let mut either = Vec::new();
        for (kind, object) in meant {
            let mut both = String::new();
            condition(kind, "object_kind", &mut both);
            if let Some(object) = object {
                condition(object, "object", &mut both);
            }
            either.push(format!("({})", both.trim_start_matches(" AND ")));
        }
        sql.push_str(&format!(" AND ({})", either.join(" OR ")));
    }
    let outcome = match filter.denied {
        Some(true) => Some(Outcome::Denied),
        _ => filter.outcome,
    };
    if let Some(outcome) = outcome {
        condition(outcome.name().into(), "outcome", &mut sql);
    }
    sql.push_str(&between(actor.db(), filter.since, filter.until).await?);
    if let Some(workspaces) = &workspaces {
        sql.push_str(&of_workspaces(workspaces));
    }
    if let Some(which) = &filter.workspace {
        let meant = workspace_meant(actor, workspaces.as_deref(), which)?;
        sql.push_str(&of_workspaces(&[meant]));
    }
    sql.push_str(&format!(
        " ORDER BY id {} LIMIT {}",
        if oldest_first { "ASC" } else { "DESC" },
        limit + 1
    ));
    let mut query = sqlx::query(AssertSqlSafe(sql)).bind(after.unwrap_or(if oldest_first { 0 } else { i64::MAX }));
    for text in texts {
        query = query.bind(text);
    }
    let rows = query.fetch_all(&actor.db().read).await?;
    let mut items = rows
        .iter()
        .map(|row| event(actor, workspaces.as_deref(), row))
        .collect::<Result<Vec<_>>>()?;
    let more = items.len() as i64 > limit;
    items.truncate(limit as usize);
    let next = more.then(|| items.last().map(|event| event.id.to_string())).flatten();
    Ok(Page { items, next })
}

/// The events of some workspaces. What was moved there is told there, too: the event itself belongs to where it came from. Moves alone are looked at
/// closely, and there are few.
fn of_workspaces(workspaces: &[WorkspaceId]) -> String {
    let arrivals = workspaces
        .iter()
        .map(|id| format!(" OR detail LIKE '%\"after\":{{\"workspace\":{id},%'"));
    format!(
        " AND (workspace_id IN ({}) OR (verb = 'move' AND object_kind IN ('experiment', 'model') AND (1 = 0{})))",
        id_list(workspaces.iter().map(|id| id.0)),
        arrivals.collect::<String>()
    )
}

/// Whoever reads all events may also name a workspace by the number that it had.
fn workspace_meant(
    actor: &Actor,
    readable: Option<&[WorkspaceId]>,
    which: &str,
) -> std::result::Result<WorkspaceId, crate::access::Refusal> {
    let there = actor.picture().find_workspace(which);
    let gone = || bailiwick_api::ids::as_number(which).map(WorkspaceId);
    let meant = match readable {
        None => there.or_else(gone),
        Some(readable) => there.filter(|id| readable.contains(id)),
    };
    meant.ok_or_else(|| crate::access::Refusal::NotFound {
        what: "workspace",
        which: which.to_owned(),
    })
}

/// Events are numbered as they come, but for those under way at once: so a time is looked for by number, and nothing far from it is read. (`at + 0` keeps
/// the databases from sorting all that lies between by the index of times.)
async fn between(db: &Db, since: Option<Time>, until: Option<Time>) -> Result<String> {
    let mut sql = String::new();
    if let Some(since) = since {
        let first = "SELECT id FROM audit_events WHERE at >= $1 ORDER BY at, id LIMIT 1";
        let first: Option<i64> = sqlx::query_scalar(first).bind(since.0).fetch_optional(&db.read).await?;
        let near = first.map_or(i64::MAX, |id| id - STRAGGLERS);
        sql.push_str(&format!(" AND at + 0 >= {} AND id >= {near}", since.0));
    }
    if let Some(until) = until {
        let last = "SELECT id FROM audit_events WHERE at < $1 ORDER BY at DESC, id DESC LIMIT 1";
        let last: Option<i64> = sqlx::query_scalar(last).bind(until.0).fetch_optional(&db.read).await?;
        let near = last.map_or(0, |id| id + STRAGGLERS);
        sql.push_str(&format!(" AND at + 0 < {} AND id <= {near}", until.0));
    }
    Ok(sql)
}

/// `None`: all events. Else the workspaces whose events this actor may read; refused when there is none.
fn readable(actor: &Actor) -> std::result::Result<Option<Vec<WorkspaceId>>, crate::access::Refusal> {
    if actor.may(Permission::AuditRead, &Default::default()).is_some() {
        return Ok(None);
    }
    let visible = actor.visible(Permission::AuditRead, bailiwick_access::ObjectKind::Experiment);
    if visible.workspaces.is_empty() {
        return Err(actor.forbidden(Permission::AuditRead, &Default::default()));
    }
    Ok(Some(visible.workspaces))
}

/// One event as this actor may read it, who reads all of them or those of some workspaces.
fn event(actor: &Actor, readable: Option<&[WorkspaceId]>, row: &AnyRow) -> Result<AuditEvent> {
    let (kind, object, detail): (String, String, String) = (row.try_get(9)?, row.try_get(10)?, row.try_get(13)?);
    let (outcome, verb): (String, String) = (row.try_get(12)?, row.try_get(8)?);
    let mut detail = if detail.is_empty() {
        serde_json::Value::Null
    } else {
        serde_json::from_str(&detail).map_err(|why| StoreError::Broken(format!("audit event: {why}")))?
    };
    let is_read = |id: &WorkspaceId| readable.is_none_or(|readable| readable.contains(id));
    let mut workspace = row.try_get::<Option<i64>, _>(11)?.map(WorkspaceId);
    if verb == "move" && matches!(kind.as_str(), "experiment" | "model") {
        let to = detail["after"]["workspace"].as_i64().map(WorkspaceId);
        workspace = workspace.filter(is_read).or(to.filter(is_read));
        for side in ["before", "after"] {
            name_place(actor, &is_read, &mut detail[side]);
        }
    }
    let workspace = workspace.map(|id| actor.picture().workspace_name(id).to_string());
    Ok(AuditEvent {
        id: AuditId(row.try_get(0)?),
        time: Time(row.try_get(1)?),
        principal: row.try_get(3)?,
        on_behalf_of: row.try_get(4)?,
        credential_id: row.try_get(5)?,
        address: row
            .try_get::<Option<String>, _>(6)?
            .filter(|address| !address.is_empty()),
        action: row.try_get(7)?,
        verb,
        object: format!("{kind} {object}"),
        workspace,
        outcome: match outcome.as_str() {
            "allowed" => Outcome::Allowed,
            "denied" => Outcome::Denied,
            _ => Outcome::Failed,
        },
        detail,
        request_id: row.try_get(14)?,
    })
}

/// Where something was moved from or to is kept by number, and told by name: null to whoever may not see it, the number where it has gone.
fn name_place(actor: &Actor, is_read: &dyn Fn(&WorkspaceId) -> bool, place: &mut serde_json::Value) {
    let picture = actor.picture();
    let Some(workspace) = place["workspace"].as_i64().map(WorkspaceId) else {
        return;
    };
    // A model lies in none.
    let project = place["project"].as_i64().map(ProjectId);
    let sees = |permission, target| actor.may(permission, &target).is_some();
    let sees_all = is_read(&workspace) || sees(Permission::WorkspacesRead, picture.workspace_target(workspace));
    let there = project.filter(|id| picture.project(*id).is_some());
    let target = there.map(|id| picture.project_target(id));
    let sees_project = is_read(&workspace) || target.is_some_and(|target| sees(Permission::ProjectsRead, target));
    place["workspace"] = match picture.workspace(workspace) {
        Some(found) if sees_all || sees_project => found.name.to_string().into(),
        None if sees_all => workspace.0.into(),
        _ => serde_json::Value::Null,
    };
    let Some(project) = project else {
        return;
    };
    place["project"] = match picture.project(project) {
        Some(found) if sees_project => found.name.to_string().into(),
        None if sees_all => project.0.into(),
        _ => serde_json::Value::Null,
    };
}
