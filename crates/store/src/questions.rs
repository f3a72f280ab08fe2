//! Questions about rights, answered by the engine that decides (`access.md` §5): may I, why, who can, what can somebody, what would a change do.
//!
//! Nothing here changes anything. What an asker may not see of others' assignments is left out, and what he may not see at all is answered like what is not
//! there.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use bailiwick_access::{
    Assignment, Holder, Narrowed, Narrowing, ObjectKind, Principal, Reason, Scope, Target, Visible, Why, World,
    difference,
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

use crate::access::{
    Actor, Granted, NOWHERE, Refusal, experiment_target, model_target, place, queue_target, resolve, scope_of, seldom,
    stack_target,
};
pub use crate::assignments::on as on_of;
use crate::assignments::place as place_of;
use crate::db::{Result, StoreError, id_list, number_list};
use crate::experiments::NO_EXPERIMENT;
use crate::picture::{Picture, QueueEntry};

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
    fn words(self, typed: &str) -> Cow<'_, str> {
        let mut permissions = self.permissions.iter();
        match (permissions.next(), permissions.next()) {
            (Some(one), None) if self.reach == Reach::Own => format!("{one}:own").into(),
            (Some(one), None) => one.name().into(),
            _ => typed.trim().into(),
        }
    }
}

/// The target that a text names, whoever asks and whether or not it may be seen: for answers that say no more of it than a decision.
pub async fn target_of(actor: &Actor, on: &On) -> std::result::Result<Option<Target>, Refusal> {
    let picture = actor.picture();
    Ok(match on {
        On::Installation => Some(Target::default()),
        On::Workspace(name) => picture.find_workspace_target(name),
        On::Project(workspace, name) => find_project(picture, workspace, name).map(|id| picture.project_target(id)),
        On::Queue(name) => picture.find_queue(name).map(queue_target),
        On::Experiment(which) => match bailiwick_api::ids::as_number(which) {
            Some(id) => seldom(experiments(actor, &[id])).await?.remove(&id),
            None => seldom(crate::experiments::find_seen(actor, which))
                .await?
                .map(|row| row.target()),
        },
        On::Stack(which) => crate::stacks::find(actor, which)
            .ok()
            .map(|id| stack_target(picture, id)),
        On::Model(which) => picture.find_model(which).map(|(id, model)| model_target(id, &model)),
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
    // One that is not there is answered with a row as well, so that it costs the same as one that may not be seen.
    let sql = format!(
        "SELECT COALESCE(string_agg(id || ' ' || workspace_id || ' ' || project_id || ' ' || owner_id, ';'), '0 0 0 0') FROM experiments WHERE id {}",
        actor.db().kind().among("$1")
    );
    let found: String = sqlx::query(AssertSqlSafe(sql))
        .bind(number_list(ids))
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
    let targets = found
        .split(';')
        .map(|text| read(text).ok_or_else(|| StoreError::Broken(format!("an experiment's place reads `{text}`"))));
    let mut targets = targets.collect::<Result<BTreeMap<_, _>>>()?;
    targets.remove(&0);
    Ok(targets)
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
    // The indexes hold the archived ones apart.
    let parts = arms.into_iter().flatten().flat_map(|arm| {
        let kinds = if arm == "1=1" { &[""][..] } else { &[" AND archived = 0", " AND archived = 1"] };
        let within = &within;
        kinds.iter().map(move |kind| {
            format!("SELECT id FROM (SELECT id FROM experiments WHERE id > $1 AND {arm}{kind}{within} ORDER BY id LIMIT {limit}) AS part")
        })
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

/// Where a question is really asked. A queue that is open to every workspace, or bound to some, is used through the workspace one works in: so the question about it is asked
/// in a workspace where the answer is yes, if there is one. What is only held globally is used on the installation, where a key narrowed to workspaces
/// reaches nothing.
pub fn asked_at(
    world: &World,
    who: (PrincipalId, Option<&Narrowing>),
    queues: &QueuesByWorkspace,
    permission: Permission,
    target: Target,
    now: i64,
) -> Target {
    let (who, narrowing) = who;
    if permission.scope() == PermissionScope::Global && narrowing.is_some_and(|one| one.workspaces.is_some()) {
        return Target {
            owner: target.owner,
            ..Target::default()
        };
    }
    let Some((ObjectKind::Queue, id)) = target.object else {
        return target;
    };
    let usual = matches!(permission, Permission::QueuesRead | Permission::QueuesSubmit);
    let Some(queue) = queues.get(&QueueId(id)).filter(|_| usual) else {
        return target;
    };
    if world.decide(who, narrowing, permission, &target, now).is_some() {
        return target;
    }
    let visible = world.visible(who, narrowing, permission, ObjectKind::Queue, now);
    let mut reached = visible.workspaces.iter().copied();
    Target {
        workspace: reached.find(|id| queue.open || queue.workspaces.contains(id)),
        ..target
    }
}

/// The queues that are used through the workspace one works in: open to all, or bound to some.
pub type QueuesByWorkspace = BTreeMap<QueueId, QueueEntry>;

pub fn queues_by_workspace(picture: &Picture) -> QueuesByWorkspace {
    let queues = picture.queues().into_iter();
    queues
        .filter(|(_, queue)| queue.open || !queue.workspaces.is_empty())
        .collect()
}

/// Only where the target is a queue; nothing is looked up otherwise.
fn queues_for(picture: &Picture, target: &Target) -> QueuesByWorkspace {
    match target.object {
        Some((ObjectKind::Queue, _)) => queues_by_workspace(picture),
        _ => BTreeMap::new(),
    }
}

/// A thing of the kind that is not there: no role reaches it but those that reach all of the kind.
fn nowhere(on: &On) -> Target {
    match on {
        On::Installation => Target::default(),
        On::Workspace(_) => NOWHERE,
        On::Project(..) => Target {
            object: None,
            ..NO_EXPERIMENT
        },
        On::Queue(_) => queue_target(QueueId(0)),
        On::Stack(_) => Target {
            object: Some((ObjectKind::Stack, 0)),
            ..Target::default()
        },
        On::Model(_) => Target {
            object: Some((ObjectKind::Model, 0)),
            project: None,
            ..NO_EXPERIMENT
        },
        On::Experiment(_) => NO_EXPERIMENT,
    }
}

/// For oneself, through the credential used. What one may neither do nor see is answered like what is not there, after the same work.
pub async fn can_i(actor: &Actor, wanted: Wanted, typed: &str, on: &On) -> std::result::Result<CanIAnswer, Refusal> {
    let picture = actor.picture();
    // The usual question is answered with one look at the names.
    let mut named = None;
    let found = match on {
        On::Workspace(text) => picture.with_workspace(text, |target, name| {
            named = Some(["workspace \"", name, "\""].concat());
            target
        }),
        _ => seldom(target_of(actor, on)).await?,
    };
    let there = found.is_some();
    let target = found.unwrap_or_else(|| nowhere(on));
    let queue_seen = sees_queue(actor, &target);
    let (seen, each): (bool, Vec<OneAnswer>) = {
        let queues = queues_for(picture, &target);
        let (world, now) = (picture.world(), actor.at.0);
        let sees = |permission| {
            world
                .decide(actor.id, actor.narrowing(), permission, &target, now)
                .is_some()
        };
        let seen = || queue_seen.unwrap_or_else(|| seen_by(&target).is_none_or(sees)) & there;
        let is_global = |permission: Permission| permission.scope() == PermissionScope::Global;
        // Looked at once and always, or only where nothing is allowed: how often must not tell in time what is hidden from what is not there.
        let early = wanted.permissions.iter().any(is_global).then(seen);
        let may = |permission: Permission| {
            let target = wanted.on(actor.id, target);
            let who = (actor.id, actor.narrowing());
            let target = asked_at(&world, who, &queues, permission, target, now);
            let basis = world.decide(actor.id, actor.narrowing(), permission, &target, now);
            // What is held globally says nothing about a place: it must not tell whether one is there.
            basis.is_some() & there & (early.unwrap_or(false) | !is_global(permission))
        };
        let answers = wanted.permissions.iter().map(|permission| OneAnswer {
            permission,
            allowed: may(permission),
        });
        let each: Vec<OneAnswer> = answers.collect();
        let any = each.iter().any(|one| one.allowed);
        (any || early.unwrap_or_else(seen), each)
    };
    let allowed = each.iter().all(|one| one.allowed);
    let what = wanted.words(typed);
    let words = if seen {
        let place = named.unwrap_or_else(|| place(picture, &target));
        if allowed {
            ["Yes: you have ", &what, " on ", &place].concat()
        } else {
            let missing: Vec<&str> = each
                .iter()
                .filter(|one| !one.allowed)
                .map(|one| one.permission.name())
                .collect();
            let missing = if wanted.reach == Reach::Own || missing.len() > 8 {
                what.into_owned()
            } else {
                missing.join(", ")
            };
            format!("No: you do not have {missing} on {place}")
        }
    } else {
        format!("No: there is no {on} that you may see")
    };
    Ok(CanIAnswer {
        allowed,
        words,
        not_there: !seen,
        each: if each.len() == 1 { Vec::new() } else { each },
    })
}

/// Whether the target may be seen, if it is a queue: that turns on more than a permission.
fn sees_queue(actor: &Actor, target: &Target) -> Option<bool> {
    let Some((ObjectKind::Queue, id)) = target.object else {
        return None;
    };
    Some(crate::queues::may_see(actor, QueueId(id)))
}

/// With what permission the target itself, if it is no queue, may be seen; the installation needs none.
pub(crate) fn seen_by(target: &Target) -> Option<Permission> {
    match (target.object, target.project, target.workspace) {
        (Some((ObjectKind::Stack, _)), ..) => Some(Permission::StacksRead),
        (Some((ObjectKind::Model, _)), ..) => Some(Permission::ModelsRead),
        (Some(_), ..) => Some(Permission::ExperimentsRead),
        (None, Some(_), _) => Some(Permission::ProjectsRead),
        (None, None, Some(_)) => Some(Permission::WorkspacesRead),
        (None, None, None) => None,
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
    let queues = queues_for(picture, &target);
    let name = picture.principal_name(who);
    let answers: Vec<Explained> = wanted
        .permissions
        .iter()
        .map(|permission| {
            let (found, target) = {
                let world = picture.world();
                let target = asked_at(&world, (who, narrowing), &queues, permission, on, now);
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
    if let (Some(by), Some(narrowing)) = (found.stopped_by, actor.narrowing()) {
        return format!("the key used here {}", stopped(picture, narrowing, by, permission));
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

/// What a key is that stops something: `is narrowed to other permissions`.
fn stopped(picture: &Picture, narrowing: &Narrowing, by: Narrowed, permission: Permission) -> String {
    match by {
        Narrowed::Permissions => "is narrowed to other permissions".into(),
        Narrowed::Workspaces if permission.scope() == PermissionScope::Global => {
            format!("is narrowed to workspaces, and {permission} counts on the whole installation")
        }
        Narrowed::Workspaces => {
            let ids = narrowing.workspaces.iter().flatten();
            let names = ids
                .filter_map(|id| picture.workspace(*id))
                .map(|entry| format!("\"{}\"", entry.name));
            match names.collect::<Vec<_>>().join(", ") {
                none if none.is_empty() => "is narrowed to workspaces that are no longer there".into(),
                names => format!("reaches only what lies in workspace {names}"),
            }
        }
        Narrowed::Object => "is a job's: it reaches its own experiment alone".into(),
    }
}

/// Where it is the key that lacks something and not its owner: what to tell him.
pub(crate) fn narrowed(actor: &Actor, permission: Permission, target: &Target) -> Option<String> {
    let narrowing = actor.narrowing()?;
    let by = narrowing.stops(permission, target)?;
    let (picture, now) = (actor.picture(), actor.now().0);
    picture.world().decide(actor.id, None, permission, target, now)?;
    let why = stopped(picture, narrowing, by, permission);
    Some(format!(
        "this key is narrowed; its owner may do this when signed in, or with another key (this one {why})"
    ))
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
        On::Installation if role.permissions().is_global_only() => String::new(),
        // Left out, the current workspace would be meant.
        On::Installation => " --on installation".into(),
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
        On::Installation if permission.scope() == PermissionScope::Global => String::new(),
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

/// Who may do it, page by page. The target is the grant's own, with its owner. Who belongs to a group that the asker may not see is not told; but whoever
/// reads roles everywhere is told of each what he may do and through what, here as everywhere.
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
    let everywhere = actor.may(Permission::RolesRead, &Target::default()).is_some();
    let known: BTreeSet<GroupId> = match everywhere {
        true => BTreeSet::new(),
        false => {
            let groups = picture.groups().into_iter().map(|(id, _)| id);
            groups.filter(|id| crate::groups::may_see(actor, *id)).collect()
        }
    };
    let mut unseen = BTreeSet::new();
    let mut found: BTreeMap<PrincipalId, Vec<(Permission, bool, Vec<Reason>)>> = BTreeMap::new();
    {
        let world = picture.world();
        for permission in wanted.permissions.iter() {
            for mut one in world.who_can(permission, &target, now) {
                one.reasons.retain(|reason| match reason.group {
                    Some(group) if !everywhere && !known.contains(&group) => {
                        unseen.insert(group);
                        false
                    }
                    _ => true,
                });
                if one.by_mode || !one.reasons.is_empty() {
                    let can = found.entry(one.who).or_default();
                    can.push((permission, one.by_mode, one.reasons));
                }
            }
        }
    }
    let mut unseen_groups: Vec<String> = unseen
        .into_iter()
        .map(|id| picture.group_name(id).to_string())
        .collect();
    unseen_groups.sort();
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
        unseen_groups,
    }
}

/// All that somebody may do. About another the caller has shown `roles:read` globally.
pub fn what_can(actor: &Actor, who: PrincipalId, after: usize, limit: usize) -> WhatCanAnswer {
    let picture = actor.picture();
    let narrowing = if who == actor.id { actor.narrowing() } else { None };
    let mut held = picture.world().what_can(who, narrowing, actor.now().0);
    if let Some(workspaces) = narrowing.and_then(|narrowing| narrowing.workspaces.as_ref()) {
        // Such a key does nothing that counts on the whole installation, and nothing in what is gone or lies elsewhere.
        held.retain_mut(|(scope, held)| {
            *held = held.below_global();
            let reached = match scope {
                Scope::Workspace(id) => picture.workspace(*id).is_some(),
                Scope::Project(id) => picture
                    .project(*id)
                    .is_some_and(|one| workspaces.contains(&one.workspace)),
                _ => true,
            };
            reached && *held != RolePermissions::default()
        });
    }
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
    Unassign(Holder, RoleId, Scope),
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
    /// The places that the asker has named, and sees.
    pub named: BTreeSet<Scope>,
    /// The places that follow from who holds what where: the asker need not know of them.
    pub implied: BTreeSet<Scope>,
}

impl Plan {
    /// What is to be taken away must be there. Said only to those who have shown `roles:read` at every place that the plan touches.
    ///
    /// # Errors
    /// The first that is not there.
    pub fn is_there(&self, actor: &Actor) -> std::result::Result<(), Refusal> {
        let picture = actor.picture();
        let missing = |what: &'static str, which: String| Refusal::NotFound { what, which };
        for change in &self.changes {
            match change {
                Change::Unassign(holder, role, scope) if held(&picture.world(), *holder, *role, *scope).is_none() => {
                    let which = format!("{} {}", picture.role_name(*role), place_of(picture, *scope));
                    return Err(missing("assignment", which));
                }
                Change::RemoveMember(group, who) if !picture.world().members_of(*group).contains(who) => {
                    return Err(missing("member of the group", picture.principal_name(*who).to_string()));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn held(world: &World, holder: Holder, role: RoleId, scope: Scope) -> Option<AssignmentId> {
    let mut held = world.assignments_held_by(holder);
    held.find(|one| one.role == role && one.scope == scope)
        .map(|one| one.id)
}

/// Looks the names of a plan up. What the plan itself would make or take away is not looked at here.
pub async fn plan(actor: &Actor, planned: &[Planned]) -> std::result::Result<Plan, PlanError> {
    let mut changes = Vec::with_capacity(planned.len());
    let (mut named, mut implied) = (BTreeSet::new(), BTreeSet::new());
    for (at, one) in planned.iter().enumerate() {
        let nth = match planned.len() {
            1 => "the change".to_owned(),
            _ => format!("change {}", at + 1),
        };
        let change = look_up(actor, one, &nth).await?;
        match change {
            Change::Assign(_, _, scope) | Change::Unassign(_, _, scope) => {
                named.insert(scope);
            }
            _ => implied.extend(touched(actor.picture(), &change)),
        }
        changes.push(change);
    }
    Ok(Plan {
        changes,
        named,
        implied,
    })
}

async fn look_up(actor: &Actor, planned: &Planned, nth: &str) -> std::result::Result<Change, PlanError> {
    let picture = actor.picture();
    let missing = |what: &'static str, which: &str| Refusal::NotFound {
        what,
        which: which.to_owned(),
    };
    let role = |name: &str| picture.find_role(name).ok_or_else(|| missing("role", name));
    let group = |name: &str| {
        let found = picture.find_group(name);
        let seen = found.filter(|id| crate::groups::may_see(actor, *id));
        seen.ok_or_else(|| missing("group", name))
    };
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
            let (scope, id) = (place(on).await?, role(name)?);
            Change::Unassign(holder(user, group)?, id, scope)
        }
        Planned::AddMember { group: name, user: who } => {
            Change::AddMember(own_group(picture, group(name)?, nth)?, user(who)?)
        }
        Planned::RemoveMember { group: name, user: who } => {
            Change::RemoveMember(own_group(picture, group(name)?, nth)?, user(who)?)
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

/// Where a change that names no place would change something.
fn touched(picture: &Picture, change: &Change) -> Vec<Scope> {
    let world = picture.world();
    match change {
        Change::Assign(_, _, scope) | Change::Unassign(_, _, scope) => vec![*scope],
        Change::AddMember(group, _) | Change::RemoveMember(group, _) | Change::DeleteGroup(group) => {
            let held = world.assignments_held_by(Holder::Group(*group));
            held.map(|one| one.scope).collect()
        }
        Change::EditRole(role, ..) | Change::DeleteRole(role) => {
            world.assignments_of_role(*role).map(|one| one.scope).collect()
        }
        Change::Deactivate(who) => world.assignments_of(*who).map(|(_, _, scope, ..)| scope).collect(),
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
            let twin = held(world, holder, role, scope);
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
        Change::Unassign(holder, role, scope) => {
            if let Some(id) = held(world, holder, role, scope) {
                who.extend(holders(world, holder));
                world.remove_assignment(id);
            }
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
                role.permissions.all = role.permissions.all.without(remove.all).union(add.all);
                let own = role.permissions.own.without(remove.own).union(add.own);
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
