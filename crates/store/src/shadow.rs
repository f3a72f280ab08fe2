//! Moving to roles without locking anybody out: what mode `shadow` records (what `rbac` would decide differently), and what a look at the installation says
//! before `rbac` is switched on.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Mutex;

use bailiwick_access::{ObjectKind, Scope, Target, Visible, World};
use bailiwick_api::access::{AccessCheck, Finding, Severity, ShadowDifference, ShadowFilter, ShadowReport};
use bailiwick_api::permission::{PermissionScope, permit};
use bailiwick_api::server::AccessMode;
use bailiwick_api::users::PrincipalKind;
use bailiwick_api::{Permission, PrincipalId, ProjectId, QueueId, Time, WorkspaceId};
use sqlx::{AssertSqlSafe, Row};

use crate::access::{Access, Actor, Granted, NOBODY, Refusal, experiment_target, queue_target};
use crate::assignments::{Entrance, on, place};
use crate::audit::{self, Entry};
use crate::db::{Result, StoreError, id_list};
use crate::experiments::ExperimentRow;
use crate::picture::{Picture, scope, scope_columns};

/// Differences that are not written down yet. What is counted: who, what, in which workspace (or on which queue).
#[derive(Default)]
pub(crate) struct Shadow {
    noted: Mutex<Noted>,
}

#[derive(Default)]
struct Noted {
    seen: HashMap<Key, Seen>,
    /// What of which request is counted already: a handler may ask several times about one act on one thing. Forgotten whenever the rest is written down.
    acts: HashSet<(String, Permission, Place)>,
}

/// A target, whoever owns it.
type Place = (Option<WorkspaceId>, Option<ProjectId>, Option<(ObjectKind, i64)>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    who: PrincipalId,
    permission: Permission,
    scope: Scope,
    gains: bool,
}

struct Seen {
    count: i64,
    first: i64,
    last: i64,
    example: String,
}

/// So many differences at once are kept in memory; more than that only an installation without a database to write them to can have.
const KEPT: usize = 100_000;
const HELD: &str = "no panic while the lock is held";

impl Shadow {
    fn note(&self, key: Key, request: &str, target: &Target, example: String, now: i64) {
        let mut noted = self.noted.lock().expect(HELD);
        let act = (
            request.to_owned(),
            key.permission,
            (target.workspace, target.project, target.object),
        );
        if noted.acts.len() >= KEPT {
            noted.acts.clear();
        }
        if !noted.acts.insert(act) {
            return;
        }
        let seen = &mut noted.seen;
        if seen.len() >= KEPT && !seen.contains_key(&key) {
            return;
        }
        let one = seen.entry(key).or_insert(Seen {
            count: 0,
            first: now,
            last: now,
            example: String::new(),
        });
        one.count += 1;
        one.last = one.last.max(now);
        one.example = example;
    }

    fn take(&self) -> HashMap<Key, Seen> {
        std::mem::take(&mut *self.noted.lock().expect(HELD)).seen
    }

    /// What could not be written down comes back, and is tried again.
    fn put_back(&self, unwritten: HashMap<Key, Seen>) {
        let mut noted = self.noted.lock().expect(HELD);
        for (key, old) in unwritten {
            let one = noted.seen.entry(key).or_insert(Seen { count: 0, ..old });
            one.count += old.count;
            one.first = one.first.min(old.first);
        }
    }
}

/// Where a difference is counted.
fn counted_at(target: &Target) -> Scope {
    match (target.workspace, target.object) {
        (Some(id), _) => Scope::Workspace(id),
        (None, Some((kind, id))) => Scope::Object(kind, id),
        (None, None) => Scope::Global,
    }
}

/// Notes that `rbac` would have decided a request of this actor differently. Does nothing in other modes than `shadow`.
pub(crate) fn note(actor: &Actor, permission: Permission, target: &Target, allowed: bool) {
    if actor.access.mode() != AccessMode::Shadow || target.owner == Some(NOBODY) {
        return;
    }
    let now = actor.now().0;
    let by_roles = {
        let (world, rbac) = (actor.picture().world(), AccessMode::Rbac);
        let there = world.decide_in(rbac, actor.id, actor.narrowing(), permission, target, now);
        // What may be held at any place and is asked about none (code is sent before it is said where to) is there if it is held anywhere.
        let nowhere = counted_at(target) == Scope::Global && permission.scope() == PermissionScope::Any;
        let anywhere = || {
            world.visible_in(
                rbac,
                actor.id,
                actor.narrowing(),
                permission,
                ObjectKind::Experiment,
                now,
            )
        };
        there.is_some() || (nowhere && allowed && !anywhere().is_nothing())
    };
    if by_roles != allowed {
        let key = Key {
            who: actor.id,
            permission,
            scope: counted_at(target),
            gains: by_roles,
        };
        let example = crate::access::place(actor.picture(), target);
        let shadow = &actor.access.shadow;
        shadow.note(key, &actor.origin.request_id, target, example, now);
    }
}

/// The same for a list: each row shown that `rbac` would hide, and each workspace that it would show besides.
pub(crate) fn note_list(actor: &Actor, shown: &[ExperimentRow]) {
    if actor.access.mode() != AccessMode::Shadow {
        return;
    }
    let permission = Permission::ExperimentsRead;
    shown
        .iter()
        .for_each(|row| note(actor, permission, &row.target(), true));
    let now = actor.now().0;
    let sees = |mode| -> Visible {
        let world = actor.picture().world();
        world.visible_in(
            mode,
            actor.id,
            actor.narrowing(),
            permission,
            ObjectKind::Experiment,
            now,
        )
    };
    let (today, then) = (sees(AccessMode::Basic), sees(AccessMode::Rbac));
    if today.all {
        return;
    }
    let gained: Vec<Scope> = match then.all {
        true => vec![Scope::Global],
        false => {
            let workspaces = then.workspaces.into_iter().filter(|id| !today.workspaces.contains(id));
            let projects = then.projects.into_iter().filter(|id| !today.projects.contains(id));
            workspaces
                .map(Scope::Workspace)
                .chain(projects.map(Scope::Project))
                .collect()
        }
    };
    for scope in gained {
        let key = Key {
            who: actor.id,
            permission,
            scope,
            gains: true,
        };
        let target = actor.picture().scope_target(scope);
        let (shadow, request) = (&actor.access.shadow, &actor.origin.request_id);
        shadow.note(key, request, &target, "the list of experiments".into(), now);
    }
}

/// Writes down what was noted since the last time.
pub async fn keep(access: &Access) -> Result<()> {
    let noted = access.shadow.take();
    if noted.is_empty() {
        return Ok(());
    }
    let outcome = write(access, &noted).await;
    if outcome.is_err() {
        access.shadow.put_back(noted);
    }
    outcome
}

async fn write(access: &Access, noted: &HashMap<Key, Seen>) -> Result<()> {
    let mut tx = access.db.begin().await?;
    for (key, seen) in noted {
        let (kind, id) = scope_columns(key.scope);
        sqlx::query(
            "INSERT INTO shadow_differences (principal_id, permission, scope_kind, scope_id, gains, count, first_at, last_at, example)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
             ON CONFLICT (principal_id, permission, scope_kind, scope_id, gains) DO UPDATE SET
             count = shadow_differences.count + excluded.count, last_at = excluded.last_at, example = excluded.example",
        )
        .bind(key.who.0)
        .bind(key.permission.name())
        .bind(kind)
        .bind(id)
        .bind(i64::from(key.gains))
        .bind(seen.count)
        .bind(seen.first)
        .bind(seen.last)
        .bind(seen.example.chars().take(300).collect::<String>())
        .execute(&mut *tx)
        .await?;
    }
    Ok(tx.commit().await?)
}

/// What was recorded: refusals to come first, then what would be gained, each the most frequent first.
pub async fn report(
    by: &Granted<permit::RolesRead>,
    filter: &ShadowFilter,
) -> std::result::Result<ShadowReport, Refusal> {
    keep(&by.actor.access).await?;
    let picture = by.actor.picture();
    let limit = filter.limit.unwrap_or(200).clamp(1, 1000);
    let skip = filter
        .after
        .as_deref()
        .and_then(|after| after.parse::<i64>().ok())
        .unwrap_or(0)
        .max(0);
    let since = filter.since.map_or(i64::MIN, |since| since.0);
    // As many rows as there are people, permissions and workspaces that differ: sorted as a whole, since counts change while one reads.
    let rows = sqlx::query(
        "SELECT principal_id, permission, scope_kind, scope_id, gains, count, first_at, last_at, example FROM shadow_differences
         WHERE last_at >= $1 ORDER BY gains, count DESC, last_at DESC, principal_id, permission, scope_kind, scope_id LIMIT $2 OFFSET $3",
    )
    .bind(since)
    .bind(limit + 1)
    .bind(skip)
    .fetch_all(&by.db().read)
    .await?;
    let mut items = Vec::with_capacity(rows.len());
    for row in rows.iter().take(limit as usize) {
        let kind: String = row.try_get(2)?;
        let scope = scope(&kind, row.try_get(3)?).ok_or_else(|| StoreError::Broken(format!("a scope is `{kind}`")))?;
        items.push(ShadowDifference {
            who: picture.principal_name(PrincipalId(row.try_get(0)?)).to_string(),
            permission: row.try_get(1)?,
            on: on(picture, scope).to_string(),
            place: place(picture, scope),
            gains: row.try_get::<i64, _>(4)? == 1,
            count: row.try_get(5)?,
            first_at: Time(row.try_get(6)?),
            last_at: Time(row.try_get(7)?),
            example: row.try_get(8)?,
        });
    }
    let counts = sqlx::query(
        "SELECT gains, COUNT(DISTINCT principal_id) FROM shadow_differences WHERE last_at >= $1 GROUP BY gains",
    );
    let counts: Vec<(i64, i64)> = counts
        .bind(since)
        .fetch_all(&by.db().read)
        .await?
        .iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect::<Result<_>>()?;
    let people = |gains: i64| counts.iter().find(|one| one.0 == gains).map_or(0, |one| one.1);
    Ok(ShadowReport {
        mode: picture.mode(),
        would_lose: people(0),
        would_gain: people(1),
        next: (rows.len() as i64 > limit).then(|| (skip + limit).to_string()),
        items,
    })
}

/// Forgets what was recorded; how much it was.
pub async fn clear(by: &Granted<permit::ClusterUpdateConfig>) -> std::result::Result<i64, Refusal> {
    by.actor.access.shadow.take();
    let mut work = by.begin().await?;
    let deleted = sqlx::query("DELETE FROM shadow_differences")
        .execute(&mut **work)
        .await?
        .rows_affected();
    let entry = Entry::of::<permit::ClusterUpdateConfig>("clear", "shadow report", "");
    audit::write(
        &mut work,
        &by.actor,
        entry.with(serde_json::json!({"deleted": deleted})),
    )
    .await?;
    work.commit().await?;
    Ok(deleted as i64)
}

/// An administrator whose assignment ends within this time is told of.
const SOON_MS: i64 = 30 * 86_400_000;
/// So many names are told in a finding.
const NAMES: usize = 20;

/// What would be wrong if mode `rbac` held from now on.
pub async fn check(by: &Granted<permit::RolesRead>) -> std::result::Result<AccessCheck, Refusal> {
    let access = &by.actor.access;
    keep(access).await?;
    let picture = access.picture();
    let now = by.actor.now();
    let mut findings = Vec::new();
    administrators(by, now, &mut findings).await?;
    experiments(by, now, &mut findings).await?;
    people(picture, now, &mut findings);
    agents(by, now, &mut findings).await?;
    recorded(by, &mut findings).await?;
    findings.sort_by_key(|finding| finding.severity);
    Ok(AccessCheck {
        mode: picture.mode(),
        lock_outs: findings.iter().filter(|one| one.severity == Severity::LockOut).count() as i64,
        findings,
    })
}

fn finding(severity: Severity, code: &str, words: String, whom: Vec<String>, remedy: &str) -> Finding {
    let count = whom.len() as i64;
    let mut whom = whom;
    whom.truncate(NAMES);
    Finding {
        severity,
        code: code.into(),
        words,
        whom,
        count,
        remedy: remedy.into(),
    }
}

/// `1 user`, `3 users`.
fn number(count: usize, of: &str) -> String {
    format!("{count} {of}{}", if count == 1 { "" } else { "s" })
}

fn names(picture: &Picture, ids: impl IntoIterator<Item = PrincipalId>) -> Vec<String> {
    ids.into_iter()
        .map(|id| picture.principal_name(id).to_string())
        .collect()
}

/// Whether everything is held globally, as ClusterAdmin holds it.
fn is_administrator(world: &World, who: PrincipalId, now: i64) -> bool {
    let may = |permission| {
        world
            .decide_in(AccessMode::Rbac, who, None, permission, &Target::default(), now)
            .is_some()
    };
    Permission::ALL.iter().all(|permission| may(*permission))
}

async fn administrators(by: &Granted<permit::RolesRead>, now: Time, findings: &mut Vec<Finding>) -> Result<()> {
    let picture = by.actor.picture();
    let soon = now.plus_ms(SOON_MS).0;
    let (administrators, alike) = {
        let world = picture.world();
        let people: Vec<PrincipalId> = world
            .principals()
            .filter(|who| {
                world
                    .principal(*who)
                    .is_some_and(|state| state.active && !state.is_service)
            })
            .collect();
        let administrators: Vec<PrincipalId> = people
            .iter()
            .copied()
            .filter(|who| is_administrator(&world, *who, now.0))
            .collect();
        let alike = people.len() - administrators.len();
        (administrators, alike)
    };
    if administrators.is_empty() {
        findings.push(finding(
            Severity::LockOut,
            "no_administrator",
            "nobody who is active holds ClusterAdmin: nobody could administer the installation".into(),
            Vec::new(),
            "ml rbac assign-role ClusterAdmin -u NAME",
        ));
        return Ok(());
    }
    let ids = id_list(administrators.iter().map(|who| who.0));
    let sql = format!(
        "SELECT id, remote, CASE WHEN password_hash IS NULL THEN 0 ELSE 1 END FROM principals WHERE id IN ({ids})"
    );
    let mut able = Vec::new();
    for row in sqlx::query(AssertSqlSafe(sql)).fetch_all(&by.db().read).await? {
        let entrance = Entrance::of(row.try_get::<i64, _>(1)? == 1, row.try_get::<i64, _>(2)? == 1);
        if entrance == Entrance::Password {
            able.push(PrincipalId(row.try_get(0)?));
        }
    }
    let counting = if able.is_empty() { &administrators } else { &able };
    let lasts = |who: &PrincipalId| is_administrator(&picture.world(), *who, soon);
    if !counting.iter().any(lasts) {
        findings.push(finding(
            Severity::Warning,
            "administrators_end",
            "the role of every administrator who can sign in ends within 30 days".into(),
            names(picture, counting.iter().copied()),
            "give one of them ClusterAdmin without an end: ml rbac assign-role ClusterAdmin -u NAME",
        ));
    }
    if able.is_empty() {
        // A link is a way in for a week at most; a session or a key that is left opens no other once it ends.
        let link: Option<i64> = sqlx::query_scalar(AssertSqlSafe(format!(
            "SELECT c.id FROM credentials c JOIN principals p ON p.id = c.principal_id WHERE p.id IN ({ids}) AND p.remote = 0
               AND c.kind = 'link' AND c.revoked_at IS NULL AND (c.expires_at IS NULL OR c.expires_at > $1) LIMIT 1"
        )))
        .bind(now.0)
        .fetch_optional(&by.db().read)
        .await?;
        let (severity, words) = match link {
            Some(_) => (
                Severity::Warning,
                "no administrator has a password here yet; one has a link, which ends after a week",
            ),
            None => (
                Severity::LockOut,
                "no administrator has a password here, or a link to set one: nobody could sign in to administer",
            ),
        };
        findings.push(finding(
            severity,
            "no_administrator_can_sign_in",
            words.into(),
            names(picture, administrators.iter().copied()),
            "ml user link NAME makes a link with which the administrator sets a password (a remote one first: ml user edit NAME --remote false)",
        ));
    }
    if picture.mode() == AccessMode::Off && alike > 0 {
        findings.push(finding(
            Severity::Note,
            "everybody_is_an_administrator",
            format!(
                "{} may do everything now and will hold only what roles give",
                number(alike, "user")
            ),
            Vec::new(),
            "ml access what-can NAME shows what each holds; ml rbac assign-role gives more",
        ));
    }
    Ok(())
}

/// Experiments whose owners could no longer read them, and owners who could start none any more. Goes through all experiments once, by an index; asked
/// rarely, by an administrator.
async fn experiments(by: &Granted<permit::RolesRead>, now: Time, findings: &mut Vec<Finding>) -> Result<()> {
    let picture = by.actor.picture();
    let rows = sqlx::query(
        "SELECT owner_id, workspace_id, project_id, COUNT(*) FROM experiments GROUP BY owner_id, workspace_id, project_id",
    )
    .fetch_all(&by.db().read)
    .await?;
    // Owner, workspace: how many it could not read.
    let mut unreadable: BTreeMap<(PrincipalId, WorkspaceId), i64> = BTreeMap::new();
    let mut owners: BTreeMap<PrincipalId, bool> = BTreeMap::new();
    // Owners to whom single experiments are assigned, and which.
    let mut singly: BTreeMap<PrincipalId, Vec<i64>> = BTreeMap::new();
    {
        let world = picture.world();
        for row in &rows {
            let who = PrincipalId(row.try_get(0)?);
            let Some(state) = world.principal(who).filter(|state| state.active) else {
                continue;
            };
            let target = Target {
                workspace: Some(WorkspaceId(row.try_get(1)?)),
                project: Some(bailiwick_api::ProjectId(row.try_get(2)?)),
                object: None,
                owner: Some(who),
            };
            let may = |permission| {
                world
                    .decide_in(AccessMode::Rbac, who, None, permission, &target, now.0)
                    .is_some()
            };
            if !state.is_service {
                let starts = owners.entry(who).or_insert(false);
                *starts = *starts || may(Permission::ExperimentsCreate);
            }
            if !may(Permission::ExperimentsRead) {
                let workspace = target.workspace.expect("it was just set");
                *unreadable.entry((who, workspace)).or_default() += row.try_get::<i64, _>(3)?;
                singly.entry(who).or_insert_with(|| {
                    let scopes = world.assignments_of(who).map(|(_, _, scope, ..)| scope);
                    let single = scopes.filter_map(|scope| match scope {
                        Scope::Object(ObjectKind::Experiment, id) => Some(id),
                        _ => None,
                    });
                    single.collect()
                });
            }
        }
        // Who starts experiments in another workspace than those he has some in is not stopped.
        for (who, starts) in &mut owners {
            let visible = world.visible_in(
                AccessMode::Rbac,
                *who,
                None,
                Permission::ExperimentsCreate,
                ObjectKind::Experiment,
                now.0,
            );
            *starts = *starts || !visible.is_nothing();
        }
    }
    readable_singly(by, now, &singly, &mut unreadable).await?;
    unreadable.retain(|_, count| *count > 0);
    let whom = unreadable.iter().map(|((who, workspace), count)| {
        format!(
            "{}: {} in workspace \"{}\"",
            picture.principal_name(*who),
            number(*count as usize, "experiment"),
            picture.workspace_name(*workspace)
        )
    });
    let whom: Vec<String> = whom.collect();
    if !whom.is_empty() {
        let total: i64 = unreadable.values().sum();
        findings.push(finding(
            Severity::LockOut,
            "own_experiments_unreadable",
            format!("{} could no longer be seen by whoever owns them", number(total as usize, "experiment")),
            whom,
            "give each owner a role where the experiments are: ml rbac assign-role DataScientist -u NAME -w WORKSPACE (or -g GROUP)",
        ));
    }
    let stopped = owners.into_iter().filter(|(_, starts)| !starts).map(|(who, _)| who);
    let stopped = names(picture, stopped);
    if !stopped.is_empty() {
        findings.push(finding(
            Severity::Warning,
            "can_start_nothing",
            format!(
                "{} who ran experiments could start none any more",
                number(stopped.len(), "user")
            ),
            stopped,
            "if they should: ml rbac assign-role DataScientist -u NAME -w WORKSPACE",
        ));
    }
    Ok(())
}

/// Takes out what is readable by an assignment at the experiment itself.
async fn readable_singly(
    by: &Granted<permit::RolesRead>,
    now: Time,
    singly: &BTreeMap<PrincipalId, Vec<i64>>,
    unreadable: &mut BTreeMap<(PrincipalId, WorkspaceId), i64>,
) -> Result<()> {
    let world = || by.actor.picture().world();
    for (who, ids) in singly.iter().filter(|(_, ids)| !ids.is_empty()) {
        let sql = format!(
            "SELECT id, workspace_id, project_id FROM experiments WHERE owner_id = $1 AND id IN ({})",
            id_list(ids.iter().copied())
        );
        let rows = sqlx::query(AssertSqlSafe(sql))
            .persistent(false)
            .bind(who.0)
            .fetch_all(&by.db().read)
            .await?;
        for row in rows {
            let workspace = WorkspaceId(row.try_get(1)?);
            let (id, project) = (bailiwick_api::ExperimentId(row.try_get(0)?), row.try_get(2)?);
            let whole = experiment_target(id, workspace, bailiwick_api::ProjectId(project), *who);
            let around = Target { object: None, ..whole };
            let may = |target: &Target| {
                let permission = Permission::ExperimentsRead;
                world()
                    .decide_in(AccessMode::Rbac, *who, None, permission, target, now.0)
                    .is_some()
            };
            if may(&whole)
                && !may(&around)
                && let Some(count) = unreadable.get_mut(&(*who, workspace))
            {
                *count -= 1;
            }
        }
    }
    Ok(())
}

/// Users whom no role reaches at all.
fn people(picture: &Picture, now: Time, findings: &mut Vec<Finding>) {
    let without: Vec<PrincipalId> = {
        let world = picture.world();
        let holds_something = |who: PrincipalId| {
            let mut held = world.assignments_of(who);
            held.any(|(.., until)| until.is_none_or(|until| until > now.0))
        };
        let active = world.principals().filter(|who| world.is_active(*who));
        active.filter(|who| !holds_something(*who)).collect()
    };
    let (services, users): (Vec<_>, Vec<_>) = without.into_iter().partition(|who| {
        picture
            .principal(*who)
            .is_some_and(|entry| entry.kind == PrincipalKind::Service)
    });
    if !users.is_empty() {
        findings.push(finding(
            Severity::LockOut,
            "no_role",
            format!("{} would hold no role at all and could do nothing", number(users.len(), "user")),
            names(picture, users),
            "give them a role (ml rbac assign-role ROLE -u NAME -w WORKSPACE), or deactivate them (ml user deactivate NAME)",
        ));
    }
    if !services.is_empty() {
        findings.push(finding(
            Severity::Warning,
            "service_account_without_role",
            format!("{} would hold no role at all", number(services.len(), "service account")),
            names(picture, services),
            "give each what it needs: ml rbac assign-role ROLE -u NAME; an agent's account: ml rbac assign-role QueueAgent -u NAME --on queue:QUEUE",
        ));
    }
}

/// Agents that could no longer take jobs from a queue that they serve.
async fn agents(by: &Granted<permit::RolesRead>, now: Time, findings: &mut Vec<Finding>) -> Result<()> {
    let picture = by.actor.picture();
    let rows: Vec<(i64, String, String)> =
        sqlx::query_as("SELECT principal_id, name, queues FROM agents ORDER BY name")
            .fetch_all(&by.db().read)
            .await?;
    let mut stopped = Vec::new();
    for (account, name, queues) in rows {
        let queues: Vec<String> = serde_json::from_str(&queues).map_err(|why| StoreError::Broken(why.to_string()))?;
        for queue in queues {
            let Some(id) = picture.find_queue(&queue) else {
                continue;
            };
            if !may_serve(picture, PrincipalId(account), id, now) {
                let account = picture.principal_name(PrincipalId(account));
                stopped.push(format!("agent {name} ({account}) on queue \"{queue}\""));
            }
        }
    }
    if !stopped.is_empty() {
        findings.push(finding(
            Severity::LockOut,
            "agents_could_not_serve",
            format!("{} could take no jobs any more", number(stopped.len(), "agent")),
            stopped,
            "ml rbac assign-role QueueAgent -u ACCOUNT --on queue:QUEUE",
        ));
    }
    Ok(())
}

fn may_serve(picture: &Picture, account: PrincipalId, queue: QueueId, now: Time) -> bool {
    let world = picture.world();
    let (permission, target) = (Permission::QueuesServe, queue_target(queue));
    // An account that is gone serves nothing in any mode.
    !world.is_active(account)
        || world
            .decide_in(AccessMode::Rbac, account, None, permission, &target, now.0)
            .is_some()
}

/// What mode `shadow` has seen.
async fn recorded(by: &Granted<permit::RolesRead>, findings: &mut Vec<Finding>) -> Result<()> {
    let picture = by.actor.picture();
    let rows = sqlx::query(
        "SELECT principal_id FROM shadow_differences WHERE gains = 0 GROUP BY principal_id ORDER BY SUM(count) DESC, principal_id",
    )
    .fetch_all(&by.db().read)
    .await?;
    let mut whom = Vec::new();
    for row in &rows {
        let who = PrincipalId(row.try_get(0)?);
        if picture.world().is_active(who) {
            whom.push(picture.principal_name(who).to_string());
        }
    }
    if !whom.is_empty() {
        findings.push(finding(
            Severity::Warning,
            "refusals_recorded",
            format!("mode shadow saw {} do what rbac would refuse", number(whom.len(), "account")),
            whom,
            "ml access shadow-report says what and where; once it is mended, ml access shadow-report --clear begins anew",
        ));
    }
    Ok(())
}
