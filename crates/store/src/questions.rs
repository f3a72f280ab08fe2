//! Questions about rights, answered by the engine that decides (`access.md` §5): may I, why, who can, what can somebody, what would a change do.
//!
//! Nothing here changes anything. What an asker may not see of others' assignments is left out, and what he may not see at all is answered like what is not
//! there.

use std::collections::{BTreeMap, BTreeSet};

use bailiwick_access::{
    Assignment, Holder, Narrowed, ObjectKind, Principal, Reason, Scope, Target, Visible, Why, World, difference,
};
use bailiwick_api::access::{
    Ability, Able, AbleTo, CanIAnswer, DiffAnswer, Effect, Explained, Explanation, NearMiss, NearWhy, OneAnswer,
    Planned, Way, WhatCanAnswer, WhoCanAnswer,
};
use bailiwick_api::on::On;
use bailiwick_api::permission::{BUILT_IN_ROLES, PermissionScope, RolePermissions, permit};
use bailiwick_api::server::AccessMode;
use bailiwick_api::users::PrincipalKind;
use bailiwick_api::{
    AssignmentId, ExperimentId, GroupId, Permission, PermissionSet, PrincipalId, ProjectId, QueueId, Reach, RoleId,
    Time, WorkspaceId,
};
use sqlx::{AssertSqlSafe, Row};

use crate::access::{Actor, Granted, Refusal, experiment_target, place, queue_target, resolve, scope_of};
pub use crate::assignments::on as on_of;
use crate::assignments::place as place_of;
use crate::db::{Result, StoreError, id_list};
use crate::picture::Picture;

/// What was asked for, as it was typed.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    pub permissions: PermissionSet,
    /// [`Reach::Own`]: on what is one's own there.
    pub reach: Reach,
}

impl Wanted {
    /// # Errors
    /// There is no such permission, and which is close to it.
    pub fn parse(text: &str) -> std::result::Result<Wanted, String> {
        let (permissions, reach) = PermissionSet::parse(text.trim())?;
        Ok(Wanted { permissions, reach })
    }

    fn on(self, who: PrincipalId, target: Target) -> Target {
        match self.reach {
            Reach::All => target,
            Reach::Own => Target {
                owner: Some(who),
                ..target
            },
        }
    }

    /// As one would type it again.
    fn words(self, typed: &str) -> String {
        match self.permissions.iter().collect::<Vec<_>>().as_slice() {
            [one] if self.reach == Reach::Own => format!("{one}:own"),
            [one] => one.to_string(),
            _ => typed.trim().to_owned(),
        }
    }
}

/// The target that a text names, whoever asks and whether or not it may be seen: for answers that say no more of it than a decision.
pub async fn target_of(actor: &Actor, on: &On) -> std::result::Result<Option<Target>, Refusal> {
    let picture = actor.picture();
    Ok(match on {
        On::Installation => Some(Target::default()),
        On::Workspace(name) => picture.find_workspace(name).map(|id| picture.workspace_target(id)),
        On::Project(workspace, name) => find_project(picture, workspace, name).map(|id| picture.project_target(id)),
        On::Queue(name) => picture.find_queue(name).map(|(id, _)| queue_target(id)),
        On::Experiment(which) => match bailiwick_api::ids::as_number(which) {
            Some(id) => experiments(actor, &[id]).await?.remove(&id),
            None => crate::experiments::find_seen(actor, which)
                .await?
                .map(|row| row.target()),
        },
        On::Model(_) | On::Stack(_) => None,
    })
}

pub fn find_project(picture: &Picture, workspace: &str, name: &str) -> Option<ProjectId> {
    if workspace.is_empty() {
        let id = bailiwick_api::ids::as_number(name).map(ProjectId)?;
        return picture.project(id).map(|_| id);
    }
    picture.find_project(picture.find_workspace(workspace)?, name)
}

/// The targets that experiments are, in one statement and one row: a row for each would cost more than the decisions about them.
pub async fn experiments(actor: &Actor, ids: &[i64]) -> Result<BTreeMap<i64, Target>> {
    if ids.is_empty() {
        return Ok(BTreeMap::new());
    }
    let sql = format!(
        "SELECT string_agg(id || ' ' || workspace_id || ' ' || project_id || ' ' || owner_id, ';') FROM experiments WHERE id IN ({})",
        id_list(ids.iter().copied())
    );
    // The text differs with the ids: keeping each statement prepared would fill the connection.
    let found: Option<String> = sqlx::query(AssertSqlSafe(sql))
        .persistent(ids.len() == 1)
        .fetch_one(&actor.db().read)
        .await?
        .try_get(0)?;
    let read = |text: &str| -> Option<(i64, Target)> {
        let mut numbers = text.split(' ').map(str::parse::<i64>);
        let mut next = || numbers.next()?.ok();
        let id = next()?;
        let (workspace, project) = (WorkspaceId(next()?), ProjectId(next()?));
        let owner = PrincipalId(next()?);
        Some((id, experiment_target(ExperimentId(id), workspace, project, owner)))
    };
    let found = found.unwrap_or_default();
    let targets = found
        .split(';')
        .filter(|text| !text.is_empty())
        .map(|text| read(text).ok_or_else(|| StoreError::Broken(format!("an experiment's place reads `{text}`"))));
    targets.collect()
}

/// The ids after `after` of the experiments that a visible set holds, rising. Each part of the set is looked for by itself, so that each has its index.
pub async fn experiments_among(
    actor: &Actor,
    who: PrincipalId,
    visible: &Visible,
    after: i64,
    limit: usize,
) -> Result<Vec<i64>> {
    let own = format!("owner_id = {who}");
    let among = |column: &str, ids: Vec<i64>| (!ids.is_empty()).then(|| format!("{column} IN ({})", id_list(ids)));
    let workspaces = |ids: &[WorkspaceId]| among("workspace_id", ids.iter().map(|id| id.0).collect());
    let projects = |ids: &[ProjectId]| among("project_id", ids.iter().map(|id| id.0).collect());
    let and_own = |arm: String| format!("{own} AND {arm}");
    let arms = [
        visible.all.then(|| "1=1".to_owned()),
        visible.own.then(|| own.clone()),
        workspaces(&visible.workspaces),
        workspaces(&visible.own_workspaces).map(and_own),
        projects(&visible.projects),
        projects(&visible.own_projects).map(and_own),
        among("id", visible.objects.clone()),
        among("id", visible.own_objects.clone()).map(and_own),
    ];
    let within = visible
        .within
        .as_deref()
        .map(|ids| workspaces(ids).unwrap_or_else(|| "1=0".into()));
    let within = within.map(|within| format!(" AND {within}")).unwrap_or_default();
    let parts = arms.into_iter().flatten().map(|arm| {
        format!("SELECT id FROM (SELECT id FROM experiments WHERE id > $1 AND {arm}{within} ORDER BY id LIMIT {limit}) AS part")
    });
    let parts: Vec<String> = parts.collect();
    if parts.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT id FROM ({}) AS parts ORDER BY id LIMIT {limit}",
        parts.join(" UNION ")
    );
    let ids = sqlx::query_scalar(AssertSqlSafe(sql))
        .persistent(false)
        .bind(after)
        .fetch_all(&actor.db().read);
    Ok(ids.await?)
}

/// A queue that is open to every workspace is used through the workspace one works in. So the question about it is asked in a workspace where the answer
/// is yes, if there is one.
pub fn through_workspace(
    world: &World,
    who: (PrincipalId, Option<&bailiwick_access::Narrowing>),
    open: impl Fn(QueueId) -> bool,
    permission: Permission,
    target: Target,
    now: i64,
) -> Target {
    let Some((ObjectKind::Queue, id)) = target.object else {
        return target;
    };
    let usual = matches!(permission, Permission::QueuesRead | Permission::QueuesSubmit);
    let (who, narrowing) = who;
    if !usual || !open(QueueId(id)) || world.decide(who, narrowing, permission, &target, now).is_some() {
        return target;
    }
    let visible = world.visible(who, narrowing, permission, ObjectKind::Queue, now);
    Target {
        workspace: visible.workspaces.first().copied(),
        ..target
    }
}

fn open_queues(picture: &Picture) -> BTreeSet<QueueId> {
    let queues = picture.queues().into_iter().filter(|(.., open)| *open);
    queues.map(|(id, ..)| id).collect()
}

/// Only where the target is a queue; nothing is looked up otherwise.
fn open_for(picture: &Picture, target: &Target) -> BTreeSet<QueueId> {
    match target.object {
        Some((ObjectKind::Queue, _)) => open_queues(picture),
        _ => BTreeSet::new(),
    }
}

/// For oneself, through the credential used. What one may neither do nor see is answered like what is not there.
pub async fn can_i(actor: &Actor, wanted: Wanted, typed: &str, on: &On) -> std::result::Result<CanIAnswer, Refusal> {
    let target = target_of(actor, on).await?;
    let picture = actor.picture();
    let each: Vec<OneAnswer> = {
        let open = target.map(|target| open_for(picture, &target)).unwrap_or_default();
        let (world, now) = (picture.world(), actor.now().0);
        let may = |permission: Permission| {
            let target = wanted.on(actor.id, target?);
            let who = (actor.id, actor.narrowing());
            let target = through_workspace(&world, who, |id| open.contains(&id), permission, target, now);
            world.decide(actor.id, actor.narrowing(), permission, &target, now)
        };
        let answers = wanted.permissions.iter().map(|permission| OneAnswer {
            permission,
            allowed: may(permission).is_some(),
        });
        answers.collect()
    };
    let allowed = each.iter().all(|one| one.allowed);
    let any = each.iter().any(|one| one.allowed);
    let what = wanted.words(typed);
    let words = match target {
        Some(target) if allowed => format!("Yes: you have {what} on {}", place(picture, &target)),
        Some(target) if any || sees(actor, &target) => {
            let missing: Vec<&str> = each
                .iter()
                .filter(|one| !one.allowed)
                .map(|one| one.permission.name())
                .collect();
            let missing = if wanted.reach == Reach::Own || missing.len() > 8 {
                what
            } else {
                missing.join(", ")
            };
            format!("No: you do not have {missing} on {}", place(picture, &target))
        }
        _ => format!("No: there is no {on} that you may see"),
    };
    Ok(CanIAnswer {
        allowed,
        words,
        each: if each.len() == 1 { Vec::new() } else { each },
    })
}

/// Whether the target itself may be seen.
fn sees(actor: &Actor, target: &Target) -> bool {
    match (target.object, target.project, target.workspace) {
        (Some((ObjectKind::Queue, id)), ..) => {
            let id = QueueId(id);
            crate::queues::may_see(actor, id, open_queues(actor.picture()).contains(&id))
        }
        (Some(_), ..) => actor.may(Permission::ExperimentsRead, target).is_some(),
        (None, Some(_), _) => actor.may(Permission::ProjectsRead, target).is_some(),
        (None, None, Some(_)) => actor.may(Permission::WorkspacesRead, target).is_some(),
        (None, None, None) => true,
    }
}

/// Whom a question is about: oneself without a name. Names of active colleagues are known to everybody, those of others to `users:read`.
pub fn whom(actor: &Actor, who: Option<&str>) -> std::result::Result<PrincipalId, Refusal> {
    let Some(which) = who else {
        return Ok(actor.id);
    };
    let picture = actor.picture();
    let found = picture.find_principal(which).filter(|id| {
        *id == actor.id
            || picture.world().is_active(*id)
            || actor.may(Permission::UsersRead, &Target::default()).is_some()
    });
    found.ok_or_else(|| Refusal::NotFound {
        what: "user",
        which: which.to_owned(),
    })
}

/// Why `who` may or may not. About another the caller has shown `roles:read` at the target.
pub fn explain(actor: &Actor, who: PrincipalId, wanted: Wanted, target: Target) -> Explanation {
    let picture = actor.picture();
    let narrowing = if who == actor.id { actor.narrowing() } else { None };
    let now = actor.now().0;
    let on = wanted.on(who, target);
    let open = open_for(picture, &target);
    let name = picture.principal_name(who);
    let answers: Vec<Explained> = wanted
        .permissions
        .iter()
        .map(|permission| {
            let (found, target) = {
                let world = picture.world();
                let target = through_workspace(&world, (who, narrowing), |id| open.contains(&id), permission, on, now);
                (world.explain(who, narrowing, permission, &target, now), target)
            };
            let ways: Vec<Way> = found.reasons.iter().map(|reason| way(picture, reason)).collect();
            let near = if found.allowed {
                Vec::new()
            } else {
                near(actor, who, &found.near)
            };
            let words = words_of(picture, actor, who, &found, permission);
            let lacks = !found.allowed && !found.inactive && found.stopped_by.is_none();
            Explained {
                permission,
                allowed: found.allowed,
                words,
                by_mode: found.by_mode,
                reasons: ways,
                near,
                could_give: if lacks {
                    could_give(picture, who, permission, &target, now)
                } else {
                    Vec::new()
                },
                ask: (lacks && who == actor.id)
                    .then(|| ask(picture, permission, &target))
                    .flatten(),
            }
        })
        .collect();
    Explanation {
        who: name.to_string(),
        on: place(picture, &target),
        mode: picture.mode(),
        allowed: answers.iter().all(|one| one.allowed),
        answers,
    }
}

fn words_of(
    picture: &Picture,
    actor: &Actor,
    who: PrincipalId,
    found: &bailiwick_access::Explanation,
    permission: Permission,
) -> String {
    let mode = mode_word(picture.mode());
    if found.inactive {
        return "the account is not active, so nothing that it holds counts".into();
    }
    match found.stopped_by {
        Some(Narrowed::Permissions) => return "the key used here is narrowed to other permissions".into(),
        Some(Narrowed::Workspaces) => {
            let names = actor
                .narrowing()
                .and_then(|narrowing| narrowing.workspaces.clone())
                .unwrap_or_default();
            let names: Vec<String> = names
                .iter()
                .map(|id| format!("\"{}\"", picture.workspace_name(*id)))
                .collect();
            return format!(
                "the key used here reaches only what lies in workspace {}",
                names.join(", ")
            );
        }
        Some(Narrowed::Object) => return "the key used here is a job's: it reaches its own experiment alone".into(),
        None => {}
    }
    match (found.by_mode, found.reasons.len()) {
        (true, _) if picture.mode() == AccessMode::Off => {
            format!("mode `{mode}`: access control is off, and everybody may do everything")
        }
        (true, _) => format!("mode `{mode}` allows it by itself: everybody may run experiments and manage their own"),
        (false, 0) if picture.mode() == AccessMode::Rbac => {
            let anywhere = if found.near.is_empty() {
                "no role"
            } else {
                "no role that counts here"
            };
            let name = if who == actor.id {
                "you".into()
            } else {
                picture.principal_name(who).to_string()
            };
            format!("{anywhere} gives {name} {permission}")
        }
        (false, 0) => format!("mode `{mode}` leaves it to administrators"),
        (false, 1) => "one role assignment allows it".into(),
        (false, several) => format!("{several} role assignments allow it, each by itself"),
    }
}

pub fn mode_word(mode: AccessMode) -> &'static str {
    match mode {
        AccessMode::Off => "off",
        AccessMode::Basic => "basic",
        AccessMode::Shadow => "shadow",
        AccessMode::Rbac => "rbac",
    }
}

fn way(picture: &Picture, reason: &Reason) -> Way {
    let role = picture.role_name(reason.role);
    let group = reason.group.map(|id| picture.group_name(id));
    let mut words = format!("{role} {}", place_of(picture, reason.scope));
    if let Some(group) = &group {
        words.push_str(&format!(", through group \"{group}\""));
    }
    if reason.reach == Reach::Own {
        words.push_str(", on what is one's own");
    }
    if let Some(end) = reason.expires {
        words.push_str(&format!(", until {}", Time(end)));
    }
    Way {
        assignment: reason.assignment,
        role: role.to_string(),
        group: group.map(|name| name.to_string()),
        on: on_of(picture, reason.scope).to_string(),
        reach: reason.reach,
        until: reason.expires.map(Time),
        administrative: reason.administrative,
        words,
    }
}

/// What nearly allows it. Where somebody else holds something elsewhere is told only where the asker may read roles.
fn near(actor: &Actor, who: PrincipalId, misses: &[bailiwick_access::NearMiss]) -> Vec<NearMiss> {
    let picture = actor.picture();
    let told = misses.iter().filter(|miss| match miss.why {
        Why::Elsewhere(scope) if who != actor.id => {
            actor.may(Permission::RolesRead, &picture.scope_target(scope)).is_some()
        }
        _ => true,
    });
    let shown = told.map(|miss| NearMiss {
        way: way(picture, &miss.reason),
        why: match miss.why {
            Why::NotOwned => NearWhy::NotOwned,
            Why::Expired => NearWhy::Expired,
            Why::Elsewhere(_) => NearWhy::Elsewhere,
            Why::GlobalOnly => NearWhy::GlobalOnly,
            Why::ModeIgnoresIt => NearWhy::ModeIgnoresIt,
            Why::LeftOutByOwnRolesOnly => NearWhy::LeftOutByOwnRolesOnly,
        },
    });
    shown.collect()
}

/// Who may assign roles at the place and holds what is missing, without the one who lacks it: people only, at most 10.
fn could_give(picture: &Picture, who: PrincipalId, permission: Permission, target: &Target, now: i64) -> Vec<String> {
    let unowned = Target { owner: None, ..*target };
    let givers: Vec<PrincipalId> = {
        let world = picture.world();
        let able = world.who_can(Permission::RolesAssign, &unowned, now).into_iter();
        let able = able.filter(|one| one.who != who && !one.by_mode);
        let people = able.filter(|one| world.principal(one.who).is_some_and(|state| !state.is_service));
        let holding = people.filter(|one| world.decide(one.who, None, permission, &unowned, now).is_some());
        holding.map(|one| one.who).take(10).collect()
    };
    givers
        .iter()
        .map(|id| picture.principal_name(*id).to_string())
        .collect()
}

/// The command that asks for the smallest built-in role that would do, where there is one below administration.
pub(crate) fn ask(picture: &Picture, permission: Permission, target: &Target) -> Option<String> {
    let scope = match scope_of(target) {
        _ if permission.scope() == PermissionScope::Global => Scope::Global,
        scope => scope,
    };
    let roles = BUILT_IN_ROLES.iter().filter(|role| !role.administrative);
    let fitting = roles.filter(|role| {
        let held = role.permissions();
        held.all.contains(permission) && (scope == Scope::Global || !held.is_global_only())
    });
    let role = fitting.min_by_key(|role| {
        let held = role.permissions();
        held.all.0.count_ones() + held.own.0.count_ones()
    })?;
    let place = match on_of(picture, scope) {
        On::Installation => String::new(),
        On::Workspace(name) => format!(" -w {}", quoted(&name)),
        on => format!(" --on {}", quoted(&on.to_string())),
    };
    Some(format!("ml access request {}{place} --for 8h --why \"…\"", role.name))
}

/// The target that a scope is, with everything that contains it.
pub async fn target_at(actor: &Actor, scope: Scope) -> std::result::Result<Target, Refusal> {
    let picture = actor.picture();
    Ok(match scope {
        Scope::Object(ObjectKind::Experiment, id) => {
            let found = experiments(actor, &[id]).await?.remove(&id);
            found.unwrap_or_else(|| picture.scope_target(scope))
        }
        scope => picture.scope_target(scope),
    })
}

/// What one who is refused can type: the question why, and the command that asks for it.
pub(crate) fn ways_on(actor: &Actor, permission: Permission, target: &Target) -> (String, Option<String>) {
    let picture = actor.picture();
    let scope = scope_of(target);
    let own = if scope == Scope::Global && target.owner == Some(actor.id) {
        ":own"
    } else {
        ""
    };
    let place = match on_of(picture, scope) {
        On::Installation => String::new(),
        on => format!(" {}", quoted(&on.to_string())),
    };
    let is_person = !picture
        .world()
        .principal(actor.id)
        .is_some_and(|state| state.is_service);
    let ask = if is_person && picture.mode() == AccessMode::Rbac {
        ask(picture, permission, target)
    } else {
        None
    };
    (format!("{permission}{own}{place}"), ask)
}

/// A word of a command line, for a shell.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '/' | '@' | '+');
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// Who may do it, page by page. The target is the grant's own, with its owner.
pub fn who_can(
    by: &Granted<permit::RolesRead>,
    target: Target,
    wanted: Wanted,
    after: i64,
    limit: usize,
) -> WhoCanAnswer {
    let actor = &by.actor;
    debug_assert_eq!(Target { owner: None, ..target }, by.target);
    let picture = actor.picture();
    let now = actor.now().0;
    let mut found: BTreeMap<PrincipalId, Vec<(Permission, bool, Vec<Reason>)>> = BTreeMap::new();
    {
        let world = picture.world();
        for permission in wanted.permissions.iter() {
            for one in world.who_can(permission, &target, now) {
                let can = found.entry(one.who).or_default();
                can.push((permission, one.by_mode, one.reasons));
            }
        }
    }
    let total = found.len() as i64;
    let mut page = found.into_iter().filter(|(id, _)| id.0 > after);
    let items: Vec<Able> = page
        .by_ref()
        .take(limit)
        .map(|(id, can)| Able {
            id,
            name: picture.principal_name(id).to_string(),
            kind: picture.principal(id).map_or(PrincipalKind::User, |entry| entry.kind),
            can: can
                .into_iter()
                .map(|(permission, by_mode, reasons)| AbleTo {
                    permission,
                    by_mode,
                    ways: reasons.iter().map(|reason| way(picture, reason)).collect(),
                })
                .collect(),
        })
        .collect();
    let more = page.next().is_some();
    WhoCanAnswer {
        on: place(picture, &target),
        mode: picture.mode(),
        next: more.then(|| items.last().map(|one| one.id.to_string())).flatten(),
        items,
        total,
    }
}

/// All that somebody may do. About another the caller has shown `roles:read` globally.
pub fn what_can(actor: &Actor, who: PrincipalId, after: usize, limit: usize) -> WhatCanAnswer {
    let picture = actor.picture();
    let narrowing = if who == actor.id { actor.narrowing() } else { None };
    let held = picture.world().what_can(who, narrowing, actor.now().0);
    let total = held.len();
    let items = held.into_iter().skip(after).take(limit).map(|(scope, held)| Ability {
        on: on_of(picture, scope).to_string(),
        place: place_of(picture, scope),
        permissions: held.words(),
    });
    let items: Vec<Ability> = items.collect();
    let end = after + items.len();
    WhatCanAnswer {
        who: picture.principal_name(who).to_string(),
        mode: picture.mode(),
        total: total as i64,
        next: (end < total).then(|| end.to_string()),
        items,
    }
}

/// Why a plan cannot be worked out.
#[derive(Debug)]
pub enum PlanError {
    Refusal(Refusal),
    /// It does not fit, and which change it is.
    Invalid(String),
}

impl From<Refusal> for PlanError {
    fn from(refusal: Refusal) -> Self {
        PlanError::Refusal(refusal)
    }
}

/// A change with its names looked up.
enum Change {
    Assign(Holder, RoleId, Scope),
    Unassign(AssignmentId, Scope),
    AddMember(GroupId, PrincipalId),
    RemoveMember(GroupId, PrincipalId),
    EditRole(RoleId, RolePermissions, RolePermissions),
    DeleteRole(RoleId),
    DeleteGroup(GroupId),
    Deactivate(PrincipalId),
}

/// A plan, and where it would change something.
pub struct Plan {
    changes: Vec<Change>,
    pub touches: BTreeSet<Scope>,
}

/// Looks the names of a plan up. What the plan itself would make or take away is not looked at here.
pub async fn plan(actor: &Actor, planned: &[Planned]) -> std::result::Result<Plan, PlanError> {
    let mut changes = Vec::with_capacity(planned.len());
    let mut touches = BTreeSet::new();
    for (at, one) in planned.iter().enumerate() {
        let nth = match planned.len() {
            1 => "the change".to_owned(),
            _ => format!("change {}", at + 1),
        };
        let change = look_up(actor, one, &nth).await?;
        touched(actor.picture(), &change, &mut touches);
        changes.push(change);
    }
    Ok(Plan { changes, touches })
}

async fn look_up(actor: &Actor, planned: &Planned, nth: &str) -> std::result::Result<Change, PlanError> {
    let picture = actor.picture();
    let missing = |what: &'static str, which: &str| Refusal::NotFound {
        what,
        which: which.to_owned(),
    };
    let role = |name: &str| picture.find_role(name).ok_or_else(|| missing("role", name));
    let group = |name: &str| picture.find_group(name).ok_or_else(|| missing("group", name));
    let user = |name: &str| whom(actor, Some(name));
    let holder = |who: &Option<String>, of: &Option<String>| match (who, of) {
        (Some(name), None) => Ok(Holder::Principal(user(name)?)),
        (None, Some(name)) => Ok(Holder::Group(group(name)?)),
        _ => Err(PlanError::Invalid(format!("{nth} names exactly one of user and group"))),
    };
    let editable = |name: &str| -> std::result::Result<RoleId, PlanError> {
        let id = role(name)?;
        let built_in = BUILT_IN_ROLES.iter().any(|role| *role.name == *picture.role_name(id));
        if built_in {
            return Err(PlanError::Invalid(format!(
                "{nth}: {name} is built in and cannot be changed"
            )));
        }
        Ok(id)
    };
    let place = async |on: &str| -> std::result::Result<Scope, PlanError> {
        let on = On::parse(on).map_err(|why| PlanError::Invalid(format!("{nth}: {why}")))?;
        Ok(scope_of(&resolve(actor, &on).await?))
    };
    Ok(match planned {
        Planned::Assign {
            role: name,
            user,
            group,
            on,
        } => {
            let (id, scope) = (role(name)?, place(on).await?);
            let global_only = picture
                .world()
                .role(id)
                .is_some_and(|role| role.permissions.is_global_only());
            if global_only && scope != Scope::Global {
                let words =
                    format!("{nth}: {name} can only be assigned globally, because it holds a permission that can");
                return Err(PlanError::Invalid(words));
            }
            Change::Assign(holder(user, group)?, id, scope)
        }
        Planned::Unassign {
            role: name,
            user,
            group,
            on,
        } => {
            let (id, scope, holder) = (role(name)?, place(on).await?, holder(user, group)?);
            let world = picture.world();
            let found = world
                .assignments_held_by(holder)
                .find(|one| one.role == id && one.scope == scope)
                .map(|one| one.id);
            drop(world);
            let at = place_of(picture, scope);
            let found = found.ok_or_else(|| missing("assignment", &format!("{name} {at}")))?;
            Change::Unassign(found, scope)
        }
        Planned::AddMember { group: name, user: who } => {
            Change::AddMember(own_group(picture, group(name)?, nth)?, user(who)?)
        }
        Planned::RemoveMember { group: name, user: who } => {
            let (id, who_id) = (own_group(picture, group(name)?, nth)?, user(who)?);
            if !picture.world().members_of(id).contains(&who_id) {
                return Err(missing("member of the group", who).into());
            }
            Change::RemoveMember(id, who_id)
        }
        Planned::EditRole {
            role: name,
            add,
            remove,
        } => {
            let read = |words: &[String]| {
                let read = RolePermissions::parse(words.iter().map(String::as_str));
                read.map_err(|why| PlanError::Invalid(format!("{nth}: {why}")))
            };
            let mut taken = read(remove)?;
            // Without a reach both are meant.
            taken.own = taken.own.union(taken.all);
            Change::EditRole(editable(name)?, read(add)?, taken)
        }
        Planned::DeleteRole { role: name } => Change::DeleteRole(editable(name)?),
        Planned::DeleteGroup { group: name } => {
            let id = group(name)?;
            if picture.group(id).is_some_and(|group| group.built_in) {
                return Err(PlanError::Invalid(format!(
                    "{nth}: group {name} is built in and cannot be deleted"
                )));
            }
            Change::DeleteGroup(id)
        }
        Planned::Deactivate { user: name } => Change::Deactivate(user(name)?),
    })
}

/// A group whose members can be changed.
fn own_group(picture: &Picture, id: GroupId, nth: &str) -> std::result::Result<GroupId, PlanError> {
    if id == picture.users_group() {
        return Err(PlanError::Invalid(format!(
            "{nth}: everybody belongs to the group Users, always"
        )));
    }
    Ok(id)
}

fn touched(picture: &Picture, change: &Change, touches: &mut BTreeSet<Scope>) {
    let world = picture.world();
    match change {
        Change::Assign(_, _, scope) | Change::Unassign(_, scope) => {
            touches.insert(*scope);
        }
        Change::AddMember(group, _) | Change::RemoveMember(group, _) | Change::DeleteGroup(group) => {
            touches.extend(world.assignments_held_by(Holder::Group(*group)).map(|one| one.scope));
        }
        Change::EditRole(role, ..) | Change::DeleteRole(role) => {
            touches.extend(world.assignments_of_role(*role).map(|one| one.scope));
        }
        Change::Deactivate(who) => touches.extend(world.assignments_of(*who).map(|(_, _, scope, ..)| scope)),
    }
}

/// What the changes, made one after the other, would give and take where roles count (mode `rbac`). The caller has shown `roles:read` at every place that
/// the plan touches.
pub async fn effect(actor: &Actor, plan: Plan) -> Result<DiffAnswer> {
    const SHOWN: usize = 1000;
    let (access, now) = (actor.access.clone(), actor.now().0);
    // Copying the picture and going through everybody may take a while at large: beside the other requests, not among them.
    let worked_out = tokio::task::spawn_blocking(move || {
        let picture = access.picture();
        let before = picture.world().clone().in_mode(AccessMode::Rbac);
        let mut after = before.clone();
        let mut who = BTreeSet::new();
        for change in plan.changes {
            make(&mut after, picture, change, &mut who);
        }
        let found = difference(&before, &after, who.into_iter(), now);
        let principals = found.iter().map(|one| one.who).collect::<BTreeSet<_>>().len() as i64;
        let total = found.len() as i64;
        let mut items: Vec<Effect> = found
            .into_iter()
            .map(|one| Effect {
                who: picture.principal_name(one.who).to_string(),
                on: on_of(picture, one.scope).to_string(),
                place: place_of(picture, one.scope),
                gained: one.gained.words(),
                lost: one.lost.words(),
            })
            .collect();
        items.sort_by(|one, other| (&one.who, &one.on).cmp(&(&other.who, &other.on)));
        items.truncate(SHOWN);
        DiffAnswer {
            mode: picture.mode(),
            items,
            total,
            principals,
        }
    });
    worked_out.await.map_err(|why| StoreError::Broken(why.to_string()))
}

fn make(world: &mut World, picture: &Picture, change: Change, who: &mut BTreeSet<PrincipalId>) {
    let holders = |world: &World, holder: Holder| -> Vec<PrincipalId> {
        match holder {
            Holder::Principal(id) => vec![id],
            Holder::Group(id) => world.members_of(id).to_vec(),
        }
    };
    match change {
        Change::Assign(holder, role, scope) => {
            who.extend(holders(world, holder));
            // Twice the same: the one that is planned has no end.
            let twin = world
                .assignments_held_by(holder)
                .find(|one| one.role == role && one.scope == scope)
                .map(|one| one.id);
            let next = || AssignmentId(world.assignments().last().map_or(1, |last| last.id.0 + 1));
            let id = twin.unwrap_or_else(next);
            world.set_assignment(Assignment {
                id,
                holder,
                role,
                scope,
                expires: None,
            });
        }
        Change::Unassign(id, _) => {
            if let Some(holder) = world.assignment(id).map(|one| one.holder) {
                who.extend(holders(world, holder));
            }
            world.remove_assignment(id);
        }
        Change::AddMember(group, member) => {
            who.insert(member);
            world.add_members(group, &[member]);
        }
        Change::RemoveMember(group, member) => {
            who.insert(member);
            world.remove_members(group, &[member]);
        }
        Change::EditRole(id, add, remove) => {
            let held_by: Vec<Holder> = world.assignments_of_role(id).map(|one| one.holder).collect();
            held_by
                .into_iter()
                .for_each(|holder| who.extend(holders(world, holder)));
            if let Some(mut role) = world.role(id).cloned() {
                role.permissions.all = role.permissions.all.union(add.all).without(remove.all);
                let own = role.permissions.own.union(add.own).without(remove.own);
                role.permissions.own = own.without(role.permissions.all);
                world.set_role(role);
            }
        }
        Change::DeleteRole(id) => {
            let held_by: Vec<Holder> = world.assignments_of_role(id).map(|one| one.holder).collect();
            held_by
                .into_iter()
                .for_each(|holder| who.extend(holders(world, holder)));
            world.remove_role(id);
        }
        Change::DeleteGroup(id) => {
            who.extend(holders(world, Holder::Group(id)));
            world.remove_group(id);
        }
        Change::Deactivate(id) => {
            who.insert(id);
            if let Some(state) = world.principal(id) {
                world.set_principal(Principal {
                    id,
                    name: picture.principal_name(id).to_string(),
                    active: false,
                    groups: world.groups_of(id).to_vec(),
                    own_roles_only: state.own_roles_only,
                    is_service: state.is_service,
                });
            }
        }
    }
}
